import { useRef, useState } from 'preact/hooks'
import { Moment } from '../../components/age'
import { Conflict } from '../../components/conflict'
import { CurlButton } from '../../components/copy'
import { Confirm, Dialog } from '../../components/dialog'
import { Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { useEdit, type Edit } from '../../lib/edit'
import { capital } from '../../lib/format'
import { usePages, usePost } from '../../lib/hooks'
import type { Role, User } from '../../lib/types'
import { note } from '../../state/announce'
import { asError, del, get, type ApiError } from '../../state/api'
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
      {adding && <AddUser onClose={() => setAdding(false)} onSaved={list.reload} />}
      {editing && <EditUser person={editing} onClose={() => setEditing(undefined)} onSaved={list.reload} />}
      {removing && <Confirm title={`Remove ${removing.name}`} action="Remove" call={{ method: 'DELETE', path: `/users/${encodeURIComponent(removing.name)}` }} text="Their sessions end at once." onClose={() => setRemoving(undefined)} run={async () => { await del(`/users/${encodeURIComponent(removing.name)}`); note(`${removing.name} is removed`, 'good'); list.reload() }} />}
    </div>
  )
}

function RoleField({ role, disabled, onChange }: { role: Role; disabled?: boolean; onChange: (r: Role) => void }) {
  return <div class="field"><label for="u-role">Role</label><select id="u-role" name="role" value={role} disabled={disabled} onChange={(e) => onChange(e.currentTarget.value as Role)}>{ROLES.map((r) => <option key={r.value} value={r.value}>{r.label}</option>)}</select><span class="hint">{capital(ROLES.find((r) => r.value === role)!.may)}.</span></div>
}

function ScopeField({ role, scope }: { role: Role; scope?: string | undefined }) {
  if (role === 'admin') return null
  return <div class="field"><label for="u-scope">Scope</label><input id="u-scope" name="scope" defaultValue={scope ?? ''} placeholder="area=kitchen" autoComplete="off" autoCapitalize="none" spellcheck={false} /><span class="hint">Which devices; empty: all.</span></div>
}

/** hidden is a call without its password, which belongs in no clipboard. */
const hidden = (body: Record<string, unknown>) => (body.password ? { ...body, password: '…' } : body)

function AddUser({ onClose, onSaved }: { onClose: () => void; onSaved: () => void }) {
  const [error, setError] = useState<ApiError>()
  const [role, setRole] = useState<Role>('viewer')
  const add = usePost<Person>('/users')
  const asked = (form: FormData) => {
    const scope = String(form.get('scope') ?? '').trim()
    return { username: String(form.get('username')).trim(), password: String(form.get('password')), role, ...(scope ? { scope } : {}) }
  }
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    setError(undefined)
    try {
      await add(asked(new FormData(e.currentTarget as HTMLFormElement)))
      note('Saved', 'good')
      onSaved()
      onClose()
    } catch (err) {
      setError(asError(err))
    }
  }
  return (
    <Dialog title="Add a user" onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <div class="field"><label for="u-name">User name</label><input id="u-name" name="username" required autoComplete="off" autoCapitalize="none" spellcheck={false} /></div>
        <RoleField role={role} onChange={setRole} />
        <ScopeField role={role} />
        <div class="field"><label for="u-pass">Password</label><input id="u-pass" name="password" type="password" required autoComplete="new-password" /><span class="hint">At least 8 characters, and nothing common.</span></div>
        <ErrorNote error={error} />
        <div class="actions"><CurlButton call={(form) => ({ method: 'POST', path: '/users', body: hidden(asked(form)) })} /><span class="spring" /><button type="button" class="button" onClick={onClose}>Cancel</button><button type="submit" class="button primary">Save</button></div>
      </form>
    </Dialog>
  )
}

/** fields are those of a person that the form shows. */
const fields = (u: Person) => ({ role: u.role, scope: u.scope ?? '', enabled: !u.disabled })

function EditUser({ person, onClose, onSaved }: { person: Person; onClose: () => void; onSaved: () => void }) {
  const path = `/users/${encodeURIComponent(person.name)}`
  const edit = useEdit<Person>(path, person, fields, () => { onSaved(); onClose() })
  return (
    <Dialog title={person.name} onClose={onClose}>
      <EditForm key={edit.base.ver} path={path} edit={edit} onClose={onClose} />
    </Dialog>
  )
}

function EditForm({ path, edit, onClose }: { path: string; edit: Edit<Person>; onClose: () => void }) {
  const u = edit.base
  const form = useRef<HTMLFormElement>(null)
  const [role, setRole] = useState<Role>(u.role)
  const self = u.name === me.value?.name
  const wanted = (data: FormData) => {
    const password = String(data.get('password'))
    return { role, scope: String(data.get('scope') ?? '').trim(), enabled: self ? !u.disabled : data.get('enabled') === 'on', ...(password ? { password } : {}) }
  }
  const save = (over = false) => void edit.save(wanted(new FormData(form.current!)), over)
  return (
    <form class="stack" ref={form} onInput={edit.touched} onSubmit={(e) => { e.preventDefault(); save() }}>
      <RoleField role={role} disabled={self} onChange={setRole} />
      <ScopeField role={role} scope={u.scope} />
      <div class="field"><label for="u-pass">New password</label><input id="u-pass" name="password" type="password" autoComplete="new-password" /><span class="hint">Empty: unchanged. A new one ends the person’s sessions.</span></div>
      {!self && <label class="check"><input type="checkbox" name="enabled" defaultChecked={!u.disabled} />May sign in</label>}
      {edit.theirs && <Conflict base={fields(u)} theirs={fields(edit.theirs)} onDiscard={edit.discard} onOverwrite={() => save(true)} />}
      <ErrorNote error={edit.error} />
      <div class="actions"><CurlButton call={(data) => ({ method: 'PATCH', path, body: hidden(edit.change(wanted(data))) })} /><span class="spring" /><button type="button" class="button" onClick={onClose}>Cancel</button><button type="submit" class="button primary" disabled={edit.busy}>Save</button></div>
    </form>
  )
}
