import { useState } from 'preact/hooks'
import { Moment } from '../../components/age'
import { CurlButton } from '../../components/copy'
import { Confirm, Dialog } from '../../components/dialog'
import { Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { capital } from '../../lib/format'
import { usePages } from '../../lib/hooks'
import type { Role, User } from '../../lib/types'
import { note } from '../../state/announce'
import { asError, del, get, request, type ApiError } from '../../state/api'
import { user as me } from '../../state/session'

type Person = User & { disabled?: boolean }

const ROLES: { value: Role; label: string; may: string }[] = [
  { value: 'viewer', label: 'Viewer', may: 'sees devices and their history' },
  { value: 'operator', label: 'Operator', may: 'also sends commands' },
  { value: 'admin', label: 'Admin', may: 'everything, on every device' },
]

export function Users() {
  const list = usePages<Person>('users', async (cursor, signal) => {
    const r = await get<{ users: Person[]; next_cursor?: string }>('/users', { cursor }, signal)
    return { items: r.users ?? [], next: r.next_cursor }
  })
  const [adding, setAdding] = useState(false)
  const [editing, setEditing] = useState<Person>()
  const [removing, setRemoving] = useState<Person>()
  if (!list.items) return list.error ? <ErrorNote error={list.error} retry={list.reload} /> : <Loading what="users" />
  return (
    <div class="stack">
      <div class="actions start"><button type="button" class="button primary" onClick={() => setAdding(true)}>Add a user</button></div>
      <TableScroll label="Users" card>
        <table class="table">
          <thead><tr><th scope="col">Name</th><th scope="col">Role</th><th scope="col">Scope</th><th scope="col">Since</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {list.items.map((u) => (
              <tr key={u.name}>
                <th scope="row">{u.name}{u.name === me.value?.name && <span class="tag">you</span>}{u.disabled && <span class="tag bad">disabled</span>}</th>
                <td>{u.role}</td>
                <td>{u.scope ? <code>{u.scope}</code> : <span class="muted">every device</span>}</td>
                <td><Moment t={u.created_at} /></td>
                <td class="row-actions"><button type="button" class="button small" onClick={() => setEditing(u)}>Change</button>{u.name !== me.value?.name && <button type="button" class="button small" onClick={() => setRemoving(u)}>Remove</button>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </TableScroll>
      {list.more && <button type="button" class="button block" onClick={() => void list.more!()}>More</button>}
      {adding && <UserForm onClose={() => setAdding(false)} onSaved={list.reload} />}
      {editing && <UserForm person={editing} onClose={() => setEditing(undefined)} onSaved={list.reload} />}
      {removing && <Confirm title={`Remove ${removing.name}`} action="Remove" call={{ method: 'DELETE', path: `/users/${encodeURIComponent(removing.name)}` }} text="Their sessions end at once." onClose={() => setRemoving(undefined)} run={async () => { await del(`/users/${encodeURIComponent(removing.name)}`); note(`${removing.name} is removed`, 'good'); list.reload() }} />}
    </div>
  )
}

function UserForm({ person, onClose, onSaved }: { person?: Person; onClose: () => void; onSaved: () => void }) {
  const [error, setError] = useState<ApiError>()
  const [role, setRole] = useState<Role>(person?.role ?? 'viewer')
  const self = person?.name === me.value?.name
  const asked = (form: FormData): { method: 'POST' | 'PATCH'; path: string; body: Record<string, unknown> } => {
    const password = String(form.get('password'))
    const scope = String(form.get('scope') ?? '').trim()
    if (!person) return { method: 'POST', path: '/users', body: { username: String(form.get('username')).trim(), password, role, ...(scope ? { scope } : {}) } }
    const body: Record<string, unknown> = {}
    if (role !== person.role) body.role = role
    if (scope !== (person.scope ?? '')) body.scope = scope
    if (password) body.password = password
    if (!self && (form.get('enabled') === 'on') === !!person.disabled) body.enabled = form.get('enabled') === 'on'
    return { method: 'PATCH', path: `/users/${encodeURIComponent(person.name)}`, body }
  }
  /** shown is asked without the password, which belongs in no clipboard. */
  const shown = (form: FormData) => {
    const call = asked(form)
    return call.body.password ? { ...call, body: { ...call.body, password: '…' } } : call
  }
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    const call = asked(form)
    setError(undefined)
    try {
      if (call.method === 'POST' || Object.keys(call.body).length) await request(call.method, call.path, { body: call.body })
      note('Saved', 'good')
      onSaved()
      onClose()
    } catch (err) {
      setError(asError(err))
    }
  }
  return (
    <Dialog title={person ? person.name : 'Add a user'} onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        {!person && <div class="field"><label for="u-name">User name</label><input id="u-name" name="username" required autoComplete="off" autoCapitalize="none" spellcheck={false} /></div>}
        <div class="field"><label for="u-role">Role</label><select id="u-role" value={role} disabled={self} onChange={(e) => setRole(e.currentTarget.value as Role)}>{ROLES.map((r) => <option key={r.value} value={r.value}>{r.label}</option>)}</select><span class="hint">{capital(ROLES.find((r) => r.value === role)!.may)}.</span></div>
        {role !== 'admin' && <div class="field"><label for="u-scope">Scope</label><input id="u-scope" name="scope" defaultValue={person?.scope ?? ''} placeholder="area=kitchen" autoComplete="off" autoCapitalize="none" spellcheck={false} /><span class="hint">Which devices; empty: all.</span></div>}
        <div class="field"><label for="u-pass">{person ? 'New password' : 'Password'}</label><input id="u-pass" name="password" type="password" required={!person} autoComplete="new-password" />{person && <span class="hint">Empty: unchanged. A new one ends the person’s sessions.</span>}</div>
        {person && !self && <label class="check"><input type="checkbox" name="enabled" defaultChecked={!person.disabled} />May sign in</label>}
        <ErrorNote error={error} />
        <div class="actions"><CurlButton call={shown} /><span class="spring" /><button type="button" class="button" onClick={onClose}>Cancel</button><button type="submit" class="button primary">Save</button></div>
      </form>
    </Dialog>
  )
}
