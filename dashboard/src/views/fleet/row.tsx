// One device in the list. Each cell reads the row's signal, so a new value
// repaints that cell and nothing around it.

import type { Signal } from '@preact/signals'
import { useEffect, useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { CommandBadge, Outcome } from '../../components/outcome'
import { Sparkline } from '../../components/sparkline'
import { StatusBadge } from '../../components/status'
import { LightSwitch } from '../../components/switch'
import { keyMetric, metricTitle, valueWords } from '../../lib/format'
import { toPercent } from '../../lib/light'
import { outcomeText } from '../../lib/outcome'
import { numeric } from '../../lib/points'
import { commandBlock } from '../../lib/status'
import type { Command, FleetRow } from '../../lib/types'
import { ulid } from '../../lib/ulid'
import { asError, request } from '../../state/api'
import { note } from '../../state/announce'
import { serverNow } from '../../state/clock'
import { isOperator } from '../../state/session'
import { link } from '../../state/socket'
import { sparkOf, sparkOn } from '../../state/sparks'

type Row = Signal<FleetRow>

export function DeviceRow({ row, index, selected, onFocus }: { row: Row; index: number; selected: boolean; onFocus: () => void }) {
  const { id, area } = row.value
  return (
    <div role="row" aria-rowindex={index + 2} class={selected ? 'row selected' : 'row'} data-id={id} onFocusCapture={onFocus}>
      <div role="cell" class="cell-name">
        <a href={`/devices/${id}`}>{row.value.name || id}</a>
        <span class="sub">{row.value.name && row.value.name !== id ? id : ''}{area ? `${row.value.name && row.value.name !== id ? ' · ' : ''}${area}` : ''}</span>
      </div>
      <div role="cell" class="cell-status"><StatusCell row={row} /></div>
      <div role="cell" class="cell-value"><ValueCell row={row} /></div>
      <div role="cell" class="cell-age"><AgeCell row={row} /></div>
      <div role="cell" class="cell-small num"><Battery row={row} /></div>
      <div role="cell" class="cell-small num">{row.value.rssi !== undefined ? `${row.value.rssi} dBm`.replace('-', '−') : ''}</div>
      <div role="cell" class="cell-fw">{row.value.fw ?? ''}</div>
      <div role="cell" class="cell-command"><CommandCell row={row} /></div>
    </div>
  )
}

function StatusCell({ row }: { row: Row }) {
  return <StatusBadge status={row.value.status} compact />
}

function ValueCell({ row }: { row: Row }) {
  const r = row.value
  const metric = keyMetric(r.latest)
  const l = metric ? r.latest[metric] : undefined
  const v = numeric(l?.v)
  useEffect(() => { if (metric && l && v !== undefined) sparkOn(r.id, metric, l.t, v) }, [metric, l?.t])
  if (r.light) return <LightCell row={row} />
  if (!metric || !l) return null
  return (
    <span class={l.stale ? 'value stale' : 'value'} title={metricTitle(metric)}>
      <Sparkline points={sparkOf(r.id, metric).value} />
      <span class="num"><span class="visually-hidden">{metricTitle(metric)} </span>{valueWords(metric, l.v, l.u)}</span>
    </span>
  )
}

// A command that nobody gave a time lives so long over the slowest transport, and a little more.
const LONGEST_MS = 40_000

/** follow sends one command over HTTP and waits until it has an end. */
async function follow(id: string, on: boolean): Promise<Command> {
  const body = { op: 'set', params: { on }, cmd_id: ulid(serverNow()) }
  return request<Command>('POST', `/devices/${id}/commands`, { query: { wait: 'confirmed', timeout_ms: LONGEST_MS }, body })
}

function LightCell({ row }: { row: Row }) {
  const [command, setCommand] = useState<{ c: Pick<Command, 'status' | 'code' | 'msg'>; wanted: boolean; ms?: number; before?: FleetRow['light'] }>()
  const r = row.value
  const blocked = !isOperator.value ? 'Viewers may look, not switch.' : link.value === 'lost' ? 'The connection to the hub is lost.' : commandBlock(r.status)
  const toggle = async (on: boolean) => {
    const started = performance.now()
    setCommand({ c: { status: 'pending' }, wanted: on })
    try {
      const c = await follow(r.id, on)
      setCommand({ c, wanted: on, ms: performance.now() - started, before: row.peek().light })
      if (c.status !== 'confirmed') note(`${r.name}: ${outcomeText(c, undefined)}`, 'bad')
    } catch (e) {
      const err = asError(e)
      setCommand({ c: { status: 'refused', code: err.code, msg: err.reason }, wanted: on })
      note(`${r.name}: ${err.reason} (${err.code})`, 'bad')
    }
    setTimeout(() => setCommand(undefined), 5000)
  }
  // Confirmed is known a moment before the list's own patch says so.
  const isOn = command?.c.status === 'confirmed' && command.before === r.light ? command.wanted : r.light?.on
  const text = r.light?.on === undefined ? 'Unknown' : r.light.on ? (r.light.brightness ? `${toPercent(r.light.brightness)} %` : 'On') : 'Off'
  return (
    <span class="value light-value">
      {command ? <Outcome command={command.c} ms={command.ms} /> : <span class={r.status.link === 'up' ? 'num' : 'num stale'}>{text}</span>}
      <LightSwitch name={r.name || r.id} on={isOn} wanted={command?.c.status === 'pending' ? command.wanted : undefined} blocked={blocked} onToggle={(on) => void toggle(on)} />
    </span>
  )
}

function AgeCell({ row }: { row: Row }) {
  const r = row.value
  // A light's state stands in the row; else the newest of what it measures.
  const times = r.light?.t ? [r.light.t] : Object.values(r.latest ?? {}).map((l) => l.t)
  return times.length ? <Age t={Math.max(...times)} short /> : null
}

function Battery({ row }: { row: Row }) {
  const b = row.value.battery
  if (b === undefined) return null
  return <span class={b < 20 ? 'bad-text' : ''}>{Math.round(b)} %</span>
}

function CommandCell({ row }: { row: Row }) {
  const c = row.value.last_command
  return c ? <a class="quiet-link" href={`/devices/${row.value.id}?tab=commands&cmd=${c.cmd_id}`}><CommandBadge command={{ status: c.status }} /></a> : null
}
