import { useEffect } from 'preact/hooks'
import { Moment } from '../../components/age'
import { CopyButton } from '../../components/copy'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { StatusShape } from '../../components/status'
import { TableScroll } from '../../components/table'
import { usePages } from '../../lib/hooks'
import { STATE_WORD, reasonText, transportText } from '../../lib/status'
import { duration } from '../../lib/time'
import type { Transition } from '../../lib/types'
import { get } from '../../state/api'
import type { DeviceLive } from '../../state/device'

export function EventsTab({ device }: { device: DeviceLive }) {
  const log = usePages<Transition>(`events ${device.id}`, async (cursor, signal) => {
    const r = await get<{ events: Transition[]; next_cursor?: string }>(`/devices/${device.id}/events`, { limit: 30, cursor }, signal)
    return { items: r.events ?? [], next: r.next_cursor }
  })
  const changes = device.transitions.value
  useEffect(() => {
    if (changes <= 1) return // the first is the page learning what it is
    const t = setTimeout(log.reload, 600) // transitions are written in batches
    return () => clearTimeout(t)
  }, [changes])
  if (!log.items) return log.error ? <ErrorNote error={log.error} retry={log.reload} /> : <Loading what="events" />
  if (log.items.length === 0) return <Empty title="Nothing has happened yet."><p class="muted">Each time the device connects, falls silent or leaves, it will stand here with the reason.</p></Empty>
  const labels = device.record.value?.labels
  return (
    <>
      <TableScroll label="Events">
        <table class="table">
          <thead><tr><th scope="col">When</th><th scope="col">Became</th><th scope="col">Reason</th><th scope="col">Stayed</th><th scope="col">Over</th><th scope="col">Node</th><th scope="col"><span class="visually-hidden">Copy</span></th></tr></thead>
          <tbody>
            {log.items.map((e, i) => (
              <tr key={`${e.at}-${e.epoch}-${e.to}-${i}`}>
                <td><Moment t={e.at} labels={labels} /></td>
                <td><span class={`status state-${e.to}`}><StatusShape state={e.to} />{STATE_WORD[e.to] ?? e.to}</span></td>
                <td>{reasonText(e.reason)}</td>
                <td class="num muted">{i > 0 ? duration(log.items![i - 1]!.at - e.at) : 'until now'}</td>
                <td>{transportText(e.transport)}</td>
                <td class="muted">{e.node}</td>
                <td><CopyButton label="JSON" text={() => JSON.stringify(e, null, 2)} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </TableScroll>
      <ErrorNote error={log.error} />
      {log.more && <button type="button" class="button block" disabled={log.busy} onClick={() => void log.more!()}>Older events</button>}
    </>
  )
}
