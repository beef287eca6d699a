// Who did what: filtered by device, person and time.

import { useState } from 'preact/hooks'
import { Moment } from '../../components/age'
import { CopyButton } from '../../components/copy'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { usePages, useQuery } from '../../lib/hooks'
import type { AuditEntry } from '../../lib/types'
import { get } from '../../state/api'

export function Audit() {
  const [query, setQuery] = useQuery()
  const filter = { device: query.device, actor: query.actor, from: query.from, to: query.to }
  const list = usePages<AuditEntry>(`audit ${JSON.stringify(filter)}`, async (cursor, signal) => {
    const r = await get<{ entries: AuditEntry[]; next_cursor?: string }>('/audit', { ...filter, cursor, limit: 50 }, signal)
    return { items: r.entries ?? [], next: r.next_cursor }
  })
  const submit = (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    const day = (name: string, end: boolean) => {
      const v = String(form.get(name))
      return v ? String(Date.parse(`${v}T00:00`) + (end ? 86_400_000 - 1 : 0)) : undefined
    }
    setQuery({ device: String(form.get('device')).trim() || undefined, actor: String(form.get('actor')).trim() || undefined, from: day('from', false), to: day('to', true) })
  }
  return (
    <div class="stack">
      <form class="filter" onSubmit={submit}>
        <div class="field"><label for="au-device">Device</label><input id="au-device" name="device" defaultValue={query.device ?? ''} placeholder="kitchen-lamp" autoCapitalize="none" spellcheck={false} /></div>
        <div class="field"><label for="au-actor">By</label><input id="au-actor" name="actor" defaultValue={query.actor ?? ''} placeholder="user:ana" autoCapitalize="none" spellcheck={false} /></div>
        <div class="field"><label for="au-from">From</label><input id="au-from" name="from" type="date" /></div>
        <div class="field"><label for="au-to">To</label><input id="au-to" name="to" type="date" /></div>
        <button type="submit" class="button">Filter</button>
      </form>
      <ErrorNote error={list.error} retry={list.reload} />
      {!list.items && !list.error && <Loading what="the audit" />}
      {list.items?.length === 0 && <Empty title="Nothing here."><p class="muted">{Object.values(filter).some(Boolean) ? 'Nothing matches the filter.' : 'Every change will stand here: who, from where, what, and how it ended.'}</p></Empty>}
      {list.items && list.items.length > 0 && (
        <TableScroll label="Audit" card>
          <table class="table">
            <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Did</th><th scope="col">To</th><th scope="col">Outcome</th><th scope="col">Via</th><th scope="col"><span class="visually-hidden">More</span></th></tr></thead>
            <tbody>{list.items.map((e, i) => <Entry key={`${e.at}-${i}`} entry={e} />)}</tbody>
          </table>
        </TableScroll>
      )}
      {list.more && <button type="button" class="button block" disabled={list.busy} onClick={() => void list.more!()}>Older entries</button>}
    </div>
  )
}

function Entry({ entry: e }: { entry: AuditEntry }) {
  const [open, setOpen] = useState(false)
  const device = e.target?.startsWith('device:') ? e.target.slice(7) : undefined
  return (
    <>
      <tr>
        <td><Moment t={e.at} /></td>
        <td>{e.actor}</td>
        <td>{e.action}</td>
        <td>{device ? <a href={`/devices/${device}${e.cmd_id ? `?tab=commands&cmd=${e.cmd_id}` : ''}`}>{device}</a> : e.target}</td>
        <td><span class={e.outcome === 'ok' ? 'tag good' : 'tag bad'}>{e.outcome}{e.code ? `: ${e.code}` : ''}</span>{e.count && e.count > 1 && <div class="muted small">{e.count.toLocaleString('en')} times, last <Moment t={e.last_at} /></div>}</td>
        <td class="muted">{e.via}</td>
        <td><button type="button" class="button small quiet-button" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? 'Less' : 'More'}</button></td>
      </tr>
      {open && <tr class="detail-row"><td colSpan={7}><pre tabIndex={0}><code>{JSON.stringify(e, null, 2)}</code></pre><CopyButton label="Copy JSON" text={JSON.stringify(e, null, 2)} /></td></tr>}
    </>
  )
}
