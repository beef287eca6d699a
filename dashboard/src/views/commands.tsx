// Commands of every device, newest first: the audit says which there were, each
// one's record how it went.

import { useEffect, useRef, useState } from 'preact/hooks'
import { CommandRow } from '../components/command-row'
import { Empty, Loading } from '../components/empty'
import { ErrorNote } from '../components/error'
import { usePages, useQuery, useTitle } from '../lib/hooks'
import { isOver } from '../lib/outcome'
import type { AuditEntry, Command } from '../lib/types'
import { get } from '../state/api'

const REFRESH_MS = 10_000
const PAGES_AT_ONCE = 5 // of the audit, to find commands among other actions
const WANTED = 20

export function CommandsPage() {
  useTitle('Commands')
  const [query, setQuery] = useQuery()
  const device = query.device ?? ''
  const ended = useRef(new Map<string, Command>()) // records that will not change any more
  const [text, setText] = useState(device)
  const log = usePages<Command>(`all commands ${device}`, async (first, signal) => {
    const items: Command[] = []
    let cursor = first
    for (let page = 0; page < PAGES_AT_ONCE && items.length < WANTED; page++) {
      const r = await get<{ entries: AuditEntry[]; next_cursor?: string }>('/audit', { cursor, device: device || undefined, limit: 100 }, signal)
      const issued = (r.entries ?? []).filter((e) => e.cmd_id && e.action.startsWith('command') && !e.action.includes('cancel'))
      items.push(...await Promise.all(issued.map((e) => record(e, ended.current, signal))))
      cursor = r.next_cursor
      if (!cursor) break
    }
    return { items, next: cursor }
  })
  useEffect(() => {
    const t = setInterval(() => { if (document.visibilityState === 'visible') log.reload() }, REFRESH_MS)
    return () => clearInterval(t)
  }, [])
  return (
    <div class="page">
      <header class="page-head"><h1>Commands</h1></header>
      <form class="toolbar" onSubmit={(e) => { e.preventDefault(); setQuery({ device: text.trim() || undefined }) }}>
        <div class="search" role="search"><input type="search" aria-label="Commands of one device" placeholder="Only of the device with this id" value={text} onInput={(e) => setText(e.currentTarget.value)} autoCapitalize="none" spellcheck={false} /></div>
      </form>
      {!log.items && !log.error && <Loading what="commands" />}
      <ErrorNote error={log.error} retry={log.reload} />
      {log.items?.length === 0 && !log.more && <Empty title="No commands yet."><p class="muted">Switch a light on its page, and it stands here with who did it and how long it took.</p></Empty>}
      {log.items && log.items.length > 0 && (
        <ul class="commands card flush">
          {log.items.map((c) => <CommandRow key={c.cmd_id} command={c} showDevice open={query.cmd === c.cmd_id} onToggle={() => setQuery({ cmd: query.cmd === c.cmd_id ? undefined : c.cmd_id })} onChanged={log.reload} />)}
        </ul>
      )}
      {log.more && <button type="button" class="button block" disabled={log.busy} onClick={() => void log.more!()}>Older commands</button>}
    </div>
  )
}

async function record(e: AuditEntry, ended: Map<string, Command>, signal: AbortSignal): Promise<Command> {
  const id = e.cmd_id!
  const known = ended.get(id)
  if (known) return known
  const device = e.target.replace(/^device:/, '')
  try {
    const c = await get<Command>(`/devices/${device}/commands/${id}`, undefined, signal)
    if (isOver(c)) ended.set(id, c)
    return c
  } catch {
    // The log has let go of it; the audit still knows that it was.
    return { cmd_id: id, device, op: (e.after as { op?: string } | undefined)?.op ?? 'command', status: e.outcome === 'ok' ? 'done' : 'refused', by: e.actor, issued_at: e.at, ...(e.code ? { code: e.code } : {}) }
  }
}
