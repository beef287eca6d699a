// Commands of every device that one may see, newest first.

import { useEffect, useState } from 'preact/hooks'
import { CommandRow } from '../components/command-row'
import { Empty, Loading } from '../components/empty'
import { ErrorNote } from '../components/error'
import { usePages, useQuery, useTitle } from '../lib/hooks'
import type { Command } from '../lib/types'
import { get } from '../state/api'

const REFRESH_MS = 10_000
const PAGE = 50

export function CommandsPage() {
  useTitle('Commands')
  const [query, setQuery] = useQuery()
  const device = query.device ?? ''
  const [text, setText] = useState(device)
  const log = usePages<Command>(`all commands ${device}`, async (cursor, signal) => {
    const path = device ? `/devices/${encodeURIComponent(device)}/commands` : '/commands'
    const r = await get<{ commands: Command[]; next_cursor?: string }>(path, { limit: PAGE, cursor }, signal)
    return { items: r.commands ?? [], next: r.next_cursor }
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
          {log.items.map((c) => <CommandRow key={`${c.device} ${c.cmd_id}`} command={c} showDevice open={query.cmd === c.cmd_id} onToggle={() => setQuery({ cmd: query.cmd === c.cmd_id ? undefined : c.cmd_id })} onChanged={log.reload} />)}
        </ul>
      )}
      {log.more && <button type="button" class="button block" disabled={log.busy} onClick={() => void log.more!()}>Older commands</button>}
    </div>
  )
}
