// Service accounts: programs that use the API, sockets or the hub's own broker.

import { useRef, useState } from 'preact/hooks'
import { Moment } from '../../components/age'
import { Conflict } from '../../components/conflict'
import { Code, CurlButton } from '../../components/copy'
import { Confirm, Dialog } from '../../components/dialog'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { useEdit, type Edit } from '../../lib/edit'
import { usePages, usePost } from '../../lib/hooks'
import { note } from '../../state/announce'
import { asError, del, get, type ApiError } from '../../state/api'

interface Account { name: string; ver?: number; rights: string[]; scope?: string; topics?: string[]; created_at: number; expires_at?: number; last4?: string }

const RIGHTS = [{ value: 'read', label: 'Read devices and history' }, { value: 'command', label: 'Send commands' }, { value: 'ingest', label: 'Send readings for devices' }, { value: 'admin', label: 'Administer' }]

export function Accounts() {
  const list = usePages<Account>('apitokens', async (cursor, signal) => {
    const r = await get<{ apitokens: Account[]; next_cursor?: string }>('/apitokens', { cursor }, signal)
    return { items: r.apitokens ?? [], next: r.next_cursor }
  })
  const [adding, setAdding] = useState(false)
  const [editing, setEditing] = useState<Account>()
  const [removing, setRemoving] = useState<Account>()
  const [token, setToken] = useState<{ name: string; token: string }>()
  if (!list.items) return list.error ? <ErrorNote error={list.error} retry={list.reload} /> : <Loading what="API tokens" />
  return (
    <div class="stack">
      <div class="actions start"><button type="button" class="button primary" onClick={() => setAdding(true)}>Add an API token</button></div>
      {token && <section class="card stack"><h3>Token of {token.name}</h3><p class="muted small">Shown only now. Over MQTT it is the password of the user <code>service:{token.name}</code>.</p><Code text={token.token} label="Token" /></section>}
      {list.items.length === 0 && <Empty title="No API tokens."><p class="muted">Programs such as Home Assistant or a script sign in with one, with no more rights than they need.</p></Empty>}
      {list.items.length > 0 && (
        <TableScroll label="API tokens" card>
          <table class="table">
            <thead><tr><th scope="col">Name</th><th scope="col">May</th><th scope="col">Scope</th><th scope="col">MQTT topics</th><th scope="col">Since</th><th scope="col">Expires</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
            <tbody>
              {list.items.map((a) => (
                <tr key={a.name}>
                  <th scope="row">{a.name}{a.last4 && <span class="muted small"> …{a.last4}</span>}</th>
                  <td>{a.rights?.join(', ')}</td>
                  <td>{a.scope ? <code>{a.scope}</code> : <span class="muted">every device</span>}</td>
                  <td>{a.topics?.length ? a.topics.map((t) => <code key={t}>{t} </code>) : <span class="muted">none</span>}</td>
                  <td><Moment t={a.created_at} /></td>
                  <td>{a.expires_at ? <Moment t={a.expires_at} /> : <span class="muted">never</span>}</td>
                  <td class="row-actions"><button type="button" class="button small" onClick={() => setEditing(a)}>Change</button><button type="button" class="button small" onClick={() => setRemoving(a)}>Remove</button></td>
                </tr>
              ))}
            </tbody>
          </table>
        </TableScroll>
      )}
      {list.more && <button type="button" class="button block" onClick={() => void list.more!()}>More</button>}
      {editing && <EditAccount account={editing} onClose={() => setEditing(undefined)} onSaved={list.reload} />}
      {adding && <AccountForm onClose={() => setAdding(false)} onSaved={(t) => { setToken(t); list.reload() }} />}
      {removing && <Confirm title={`Remove ${removing.name}`} action="Remove" call={{ method: 'DELETE', path: `/apitokens/${encodeURIComponent(removing.name)}` }} text="Its token is worth nothing from then on, and its connections end." onClose={() => setRemoving(undefined)} run={async () => { await del(`/apitokens/${encodeURIComponent(removing.name)}`); note(`${removing.name} is removed`, 'good'); list.reload() }} />}
    </div>
  )
}

/** fields are those of an account that a form shows. */
const fields = (a: Account) => ({ rights: RIGHTS.map((r) => r.value).filter((r) => a.rights.includes(r)), scope: a.scope ?? '', topics: a.topics ?? [] })

/** wanted is what a form says of them. */
const wanted = (form: FormData) => ({
  rights: form.getAll('rights').map(String), scope: String(form.get('scope')).trim(), topics: String(form.get('topics')).split(/[\s,]+/).filter(Boolean),
})

/** account is what the form for a new one asks for. */
function account(form: FormData) {
  const days = Number(form.get('days'))
  const { rights, scope, topics } = wanted(form)
  return { name: String(form.get('name')).trim(), rights, ...(scope ? { scope } : {}), ...(topics.length ? { topics } : {}), ...(days > 0 ? { ttl_s: days * 86_400 } : {}) }
}

function Fields({ of }: { of: Pick<Account, 'rights' | 'scope' | 'topics'> }) {
  return (
    <>
      <fieldset class="field"><legend>It may</legend>{RIGHTS.map((r) => <label key={r.value} class="check"><input type="checkbox" name="rights" value={r.value} defaultChecked={of.rights.includes(r.value)} />{r.label}</label>)}</fieldset>
      <div class="field"><label for="a-scope">Scope</label><input id="a-scope" name="scope" defaultValue={of.scope ?? ''} placeholder="area=kitchen" autoComplete="off" spellcheck={false} /><span class="hint">Which devices; empty: all.</span></div>
      <div class="field"><label for="a-topics">MQTT topics</label><input id="a-topics" name="topics" defaultValue={(of.topics ?? []).join(' ')} placeholder="homeassistant/#" autoComplete="off" spellcheck={false} /></div>
    </>
  )
}

function AccountForm({ onClose, onSaved }: { onClose: () => void; onSaved: (t: { name: string; token: string }) => void }) {
  const [error, setError] = useState<ApiError>()
  const add = usePost<{ token: string; starts_adapters?: string[] }>('/apitokens')
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    const asked = account(new FormData(e.currentTarget as HTMLFormElement))
    setError(undefined)
    try {
      const r = await add(asked)
      onSaved({ name: asked.name, token: r.token })
      if (r.starts_adapters?.length) note(`Its topics start the hub's adapters for ${r.starts_adapters.join(', ')}`, 'good')
      onClose()
    } catch (err) {
      setError(asError(err))
    }
  }
  return (
    <Dialog title="Add an API token" onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <div class="field"><label for="a-name">Name</label><input id="a-name" name="name" required autoComplete="off" autoCapitalize="none" spellcheck={false} placeholder="homeassistant" /></div>
        <Fields of={{ rights: ['read'] }} />
        <div class="field"><label for="a-days">Good for, in days</label><input id="a-days" name="days" type="number" min="0" inputMode="numeric" placeholder="365" /><span class="hint">Empty: without an end.</span></div>
        <ErrorNote error={error} />
        <div class="actions"><CurlButton call={(form) => ({ method: 'POST', path: '/apitokens', body: account(form) })} /><span class="spring" /><button type="button" class="button" onClick={onClose}>Cancel</button><button type="submit" class="button primary">Create</button></div>
      </form>
    </Dialog>
  )
}

function EditAccount({ account, onClose, onSaved }: { account: Account; onClose: () => void; onSaved: () => void }) {
  const path = `/apitokens/${encodeURIComponent(account.name)}`
  const edit = useEdit<Account>(path, account, fields, () => { onSaved(); onClose() })
  return (
    <Dialog title={account.name} onClose={onClose}>
      <EditForm key={edit.base.ver} path={path} edit={edit} onClose={onClose} />
    </Dialog>
  )
}

function EditForm({ path, edit, onClose }: { path: string; edit: Edit<Account>; onClose: () => void }) {
  const form = useRef<HTMLFormElement>(null)
  const save = (over = false) => void edit.save(wanted(new FormData(form.current!)), over)
  return (
    <form class="stack" ref={form} onInput={edit.touched} onSubmit={(e) => { e.preventDefault(); save() }}>
      <Fields of={edit.base} />
      {edit.theirs && <Conflict base={fields(edit.base)} theirs={fields(edit.theirs)} onDiscard={edit.discard} onOverwrite={() => save(true)} />}
      <ErrorNote error={edit.error} />
      <div class="actions"><CurlButton call={(data) => ({ method: 'PATCH', path, body: edit.change(wanted(data)) })} /><span class="spring" /><button type="button" class="button" onClick={onClose}>Cancel</button><button type="submit" class="button primary" disabled={edit.busy}>Save</button></div>
    </form>
  )
}
