import { useEffect, useState } from 'preact/hooks'
import { CommandRow } from '../../components/command-row'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { usePages, useQuery } from '../../lib/hooks'
import { curlFor } from '../../lib/snippets'
import type { Command } from '../../lib/types'
import { get } from '../../state/api'
import type { DeviceLive } from '../../state/device'

export function CommandsTab({ device, open }: { device: DeviceLive; open: string | undefined }) {
  const [, setQuery] = useQuery()
  const [linked, setLinked] = useState<Command>()
  const log = usePages<Command>(`commands ${device.id}`, async (cursor, signal) => {
    const r = await get<{ commands: Command[]; next_cursor?: string }>(`/devices/${device.id}/commands`, { limit: 25, cursor }, signal)
    return { items: r.commands ?? [], next: r.next_cursor }
  })
  const changes = device.commandsChanged.value
  useEffect(() => {
    if (changes === 0) return
    const t = setTimeout(log.reload, 150) // a command passes several stations at once
    return () => clearTimeout(t)
  }, [changes])
  // A link may name a command that is further down than the first page.
  const missing = open && log.items && !log.items.some((c) => c.cmd_id === open)
  useEffect(() => {
    if (missing) get<Command>(`/devices/${device.id}/commands/${open}`).then(setLinked, () => setLinked(undefined))
  }, [missing, open])
  const loaded = !!log.items
  useEffect(() => {
    if (open && loaded) document.getElementById(`cmd-${open}`)?.scrollIntoView({ block: 'center' })
  }, [loaded, linked])

  if (!log.items) return log.error ? <ErrorNote error={log.error} retry={log.reload} /> : <Loading what="commands" />
  const items = missing && linked?.cmd_id === open ? [linked!, ...log.items] : log.items
  if (items.length === 0) {
    return (
      <Empty title="No commands yet.">
        <p class="muted">Each one will stand here with who sent it, every station it passed and how long that took. From a shell:</p>
        <pre class="inline-code" tabIndex={0}><code>{curlFor(location.origin, 'POST', `/devices/${device.id}/commands?wait=confirmed`, { op: 'toggle', params: {} })}</code></pre>
      </Empty>
    )
  }
  return (
    <>
      <ul class="commands">
        {items.map((c) => <CommandRow key={c.cmd_id} command={c} open={c.cmd_id === open} onToggle={() => setQuery({ cmd: c.cmd_id === open ? undefined : c.cmd_id, tab: 'commands' })} onChanged={log.reload} />)}
      </ul>
      <ErrorNote error={log.error} />
      {log.more && <button type="button" class="button block" disabled={log.busy} onClick={() => void log.more!()}>Older commands</button>}
    </>
  )
}
