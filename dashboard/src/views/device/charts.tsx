// The charts of a device, sharing one span of time and one crosshair.

import { useComputed } from '@preact/signals'
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { Chart, type Hover, type Mark } from '../../components/chart'
import { Dialog } from '../../components/dialog'
import { ErrorNote } from '../../components/error'
import { DownloadIcon, PauseIcon, PlayIcon, TableIcon } from '../../components/icons'
import { Segments } from '../../components/tabs'
import { csv, download } from '../../lib/csv'
import { digitsOf, metricOrder, metricTitle, valueWords } from '../../lib/format'
import { useKeys, useLoad, useQuery } from '../../lib/hooks'
import { opText } from '../../lib/light'
import { lookOf, statusWord } from '../../lib/outcome'
import { columns, gapAfter, inside, numeric, summary, turnOf, usualRange, within, type Point } from '../../lib/points'
import { STATE_WORD, reasonText } from '../../lib/status'
import { clock, dateTime, shortTime, toLocalInput } from '../../lib/time'
import type { Command, Latest, MetricDecl, Transition } from '../../lib/types'
import { get } from '../../state/api'
import { now, serverNow } from '../../state/clock'
import type { DeviceLive } from '../../state/device'
import { History } from '../../state/history'
import { zoneName } from '../../state/prefs'
import { neighbour, PRESETS, spanOf, usual, type Preset } from './ranges'

const OPEN_AT_FIRST = 4
const MIN_SPAN_MS = 5000

/** isChartable leaves out text, and what nothing declares (devices/README.md#metrics). */
const isChartable = (l: Latest) => numeric(l.v) !== undefined && !l.undeclared

export function Charts({ device }: { device: DeviceLive }) {
  const [query, setQuery] = useQuery()
  const fallback = usual(device.record.value?.expected_interval_s)
  const key = `${query.range ?? fallback}|${query.from ?? ''}|${query.to ?? ''}`
  const span = useMemo(() => spanOf(query, fallback), [key])
  const [pausedAt, setPausedAt] = useState<number>()
  const [table, setTable] = useState(false)
  const [custom, setCustom] = useState(false)
  const [all, setAll] = useState(false)
  const histories = useRef(new Map<string, History>())
  const names = useComputed(() => metricOrder(device.latest.value).filter((m) => isChartable(device.latest.value[m]!)).join(' ')).value
  const metrics = names ? names.split(' ') : []
  const shown = all ? metrics : metrics.slice(0, OPEN_AT_FIRST)
  const marks = useMarks(device, span.live ? serverNow() - span.ms : span.from, key)

  const choose = (p: Preset) => { setPausedAt(undefined); setQuery({ range: p, from: undefined, to: undefined }) }
  const zoom = (from: number, to: number) => {
    if (to - from < MIN_SPAN_MS) return
    setPausedAt(undefined)
    setQuery({ from: String(Math.round(from)), to: String(Math.round(to)) }, true)
  }
  const reset = () => { setPausedAt(undefined); setQuery({ from: undefined, to: undefined }) }
  const pause = () => setPausedAt(pausedAt ? undefined : serverNow())
  useKeys({
    '[': () => choose(neighbour(span.preset ?? fallback, -1)),
    ']': () => choose(neighbour(span.preset ?? fallback, 1)),
    p: pause,
  })

  const end = pausedAt ?? now.value
  const window = span.live ? { from: end - span.ms, to: end } : span
  const save = () => {
    const rows = shown.flatMap((m) => {
      const unit = device.latest.peek()[m]?.u ?? ''
      return inside(histories.current.get(m)?.points ?? [], window.from, window.to)
        .map((p) => [device.id, m, p.t, new Date(p.t).toISOString(), p.mean, p.min, p.max, p.count, unit])
    })
    download(`${device.id}-${dateTime(window.to).replace(/[ :]/g, '-')}.csv`, 'text/csv', csv(['device', 'metric', 't', 'time', 'mean', 'min', 'max', 'count', 'unit'], rows))
  }
  if (metrics.length === 0) return null
  return (
    <section class="charts" aria-label="Charts">
      <div class="chart-bar">
        <Segments label="Time range" options={PRESETS} value={span.preset} onChange={choose} />
        <button type="button" class="button small" aria-pressed={!span.live} onClick={() => setCustom(true)}>
          {span.live ? 'Custom' : `${shortTime(span.from, now.peek(), zoneName(device.record.value?.labels))} – ${shortTime(span.to, now.peek(), zoneName(device.record.value?.labels))}`}
        </button>
        {!span.live && <button type="button" class="button small" onClick={reset}>Back to live</button>}
        <span class="spring" />
        {span.live && <button type="button" class="icon-button" aria-pressed={!!pausedAt} aria-label={pausedAt ? 'Resume the charts' : 'Pause the charts'} title="Pause (p)" onClick={pause}>{pausedAt ? <PlayIcon /> : <PauseIcon />}</button>}
        <button type="button" class="icon-button" aria-pressed={table} aria-label="Show the charts as tables" title="Table" onClick={() => setTable(!table)}><TableIcon /></button>
        <button type="button" class="icon-button" aria-label="Download what is shown as CSV" title="CSV of what is shown" onClick={save}><DownloadIcon /></button>
      </div>
      {pausedAt && <p class="hint">Paused at {clock(pausedAt, zoneName(device.record.value?.labels))}; readings are still kept.</p>}
      {shown.map((m) => (
        <MetricChart key={m} device={device} metric={m} spanKey={key} from={window.from} to={window.to} marks={marks} table={table} onZoom={zoom} onReset={reset}
          register={(h) => { if (h) histories.current.set(m, h); else histories.current.delete(m) }} small={metrics.length > 1} />
      ))}
      {metrics.length > shown.length && <button type="button" class="button block" onClick={() => setAll(true)}>Show {metrics.length - shown.length} more: {metrics.slice(shown.length).map(metricTitle).join(', ')}</button>}
      {custom && <CustomRange from={window.from} to={window.to} onPick={(from, to) => { setCustom(false); zoom(from, to) }} onClose={() => setCustom(false)} />}
    </section>
  )
}

const PAGES = 5 // of a hundred; more marks than that are no longer marks

/** backTo reads a list, newest first, until it is older than from. */
async function backTo<T>(path: string, list: string, from: number, at: (item: T) => number, signal: AbortSignal): Promise<T[]> {
  const all: T[] = []
  let cursor: string | undefined
  for (let n = 0; n < PAGES; n++) {
    const page = await get<Record<string, T[] | undefined> & { next_cursor?: string }>(path, { limit: 100, cursor }, signal)
    all.push(...(page[list] ?? []))
    cursor = page.next_cursor
    const oldest = all[all.length - 1]
    if (!cursor || !oldest || at(oldest) < from) break
  }
  return all
}

/** useMarks are the commands and transitions since the span began. */
function useMarks(device: DeviceLive, from: number, key: string): readonly Mark[] {
  const turn = `${key}|${device.commandsChanged.value}|${device.transitions.value}`
  const { data } = useLoad(`${device.id}|${turn}`, async (signal) => {
    const [commands, events] = await Promise.all([
      backTo<Command>(`/devices/${device.id}/commands`, 'commands', from, (c) => c.issued_at ?? 0, signal),
      backTo<Transition>(`/devices/${device.id}/events`, 'events', from, (e) => e.at, signal),
    ])
    const marks: Mark[] = []
    for (const c of commands) {
      if (c.issued_at) marks.push({ t: c.issued_at, kind: lookOf(c.status) === 'failed' ? 'problem' : 'command', label: `${opText(c.op, c.params)}: ${statusWord(c.status)}${c.by ? `, by ${c.by.replace('user:', '')}` : ''}` })
    }
    for (const e of events) marks.push({ t: e.at, kind: e.to === 'offline' ? 'problem' : 'presence', label: STATE_WORD[e.to] + (e.reason ? `: ${reasonText(e.reason)}` : '') })
    return marks
  })
  const last = useRef<readonly Mark[]>([])
  if (data) last.current = data
  return useMemo(() => last.current.filter((m) => m.t >= from), [last.current, key])
}

interface MetricProps {
  device: DeviceLive; metric: string; spanKey: string; from: number; to: number; marks: readonly Mark[]; table: boolean; small: boolean
  onZoom: (from: number, to: number) => void; onReset: () => void; register: (h: History | undefined) => void
}

function MetricChart({ device, metric, spanKey, from, to, marks, table, small, onZoom, onReset, register }: MetricProps) {
  const [query] = useQuery()
  const [history] = useState(() => new History(device, metric))
  const [hover, setHover] = useState<Hover>()
  useEffect(() => {
    register(history)
    return () => { register(undefined); history.close() }
  }, [])
  const show = () => history.show(spanOf(query, usual(device.record.peek()?.expected_interval_s)))
  useEffect(show, [spanKey])

  const record = device.record.value
  const decl: MetricDecl | undefined = record?.metrics?.find((m) => m.name === metric)
  const digits = digitsOf(metric, decl)
  const zone = zoneName(record?.labels)
  const interval = (decl?.expected_interval_s ?? record?.expected_interval_s ?? 0) * 1000 || undefined
  const latest = device.latest.value[metric]
  const version = history.changed.value
  const stale = isStale(latest, interval, now.value)
  const visible = useMemo(() => within(history.points, from, to), [version, from, to])
  const stepped = typeof latest?.v === 'boolean'
  const data = useMemo(() => {
    if (!stepped) return columns(visible, gapAfter(visible, history.stepMs, interval))
    // A bool comes when it changes: it holds until the next, and until now.
    const last = visible[visible.length - 1]
    const held = last && last.t < to && !stale ? [...visible, { ...last, t: Math.min(to, now.peek()) }] : visible
    return columns(held, interval ? gapAfter(visible, history.stepMs, interval) : Infinity)
  }, [visible, interval, stepped, stepped && to, stale])
  const sum = useMemo(() => summary(inside(history.points, from, to)), [version, from, to])
  const range = useMemo(() => usualRange(inside(history.points, from, to)), [version, from, to])
  const lateCount = history.late.filter((l) => l.t >= from && l.t <= to).length
  const outCount = history.out.filter((t) => t >= from && t <= to).length
  const unit = latest?.u ?? decl?.unit
  const text = (v: number) => valueWords(metric, typeof latest?.v === 'boolean' ? v >= 0.5 : v, unit, digits)
  const id = useId()
  return (
    <figure class="metric card" aria-labelledby={id}>
      <figcaption class="metric-head">
        <div>
          <h3 id={id}>{metricTitle(metric)}</h3>
          <p class={stale ? 'big-value stale' : 'big-value'} data-metric={metric}>
            <span class="num">{latest ? valueWords(metric, latest.v, latest.u, digits) : '–'}</span>
          </p>
        </div>
        <div class="metric-side num">
          {hover
            ? <p class="hover"><span>{dateTime(hover.t, zone)}</span><strong>{text(hover.mean)}</strong>{hover.max > hover.min && <span>{text(hover.min)} – {text(hover.max)}</span>}{hover.mark && <span class="mark-label">{hover.mark}</span>}</p>
            : <p class="muted"><Age t={latest?.t} labels={record?.labels} />{stale ? ', stale' : ''}{sum && !turnOf(unit) ? <><br />{text(sum.min)} – {text(sum.max)}</> : null}{outCount > 0 && <span class="late-count" title="Times at which readings were out of range: in no line, and marked at the top"> · {outCount} out of range</span>}{lateCount > 0 && <span class="late-count" title="Points whose readings came after newer ones"> · {lateCount} late</span>}</p>}
          <Quality names={latest?.quality} />
        </div>
      </figcaption>
      <p class="visually-hidden">{sum ? `${metricTitle(metric)}: ${latest ? valueWords(metric, latest.v, latest.u, digits) : ''}, ${sum.trend}${turnOf(unit) ? '' : `, min ${text(sum.min)}, max ${text(sum.max)}`}${outCount ? `, ${outCount} out of range` : ''}${lateCount ? `, ${lateCount} late` : ''}` : 'No readings in this time.'}</p>
      <ErrorNote error={history.error.value} retry={show} />
      <div class={history.loading.value && history.points.length === 0 ? 'chart-place loading' : 'chart-place'}>
        {!table && <Chart data={data} from={from} to={to} late={history.late} out={history.out} marks={marks} range={range} stepped={stepped} words={text} zone={zone} height={small ? 190 : 280} onZoom={onZoom} onReset={onReset} onHover={setHover} />}
        {!table && !history.loading.value && !sum && <p class="chart-empty muted">No readings in this time</p>}
        {table && <PointTable points={inside(history.points, from, to)} text={text} zone={zone} name={metricTitle(metric)} />}
      </div>
    </figure>
  )
}

// Usual ways of a reading, not worth a word beside each value.
const USUAL = new Set(['server_time', 'converted', 'undeclared'])

function Quality({ names }: { names: string[] | undefined }) {
  const worth = names?.filter((q) => !USUAL.has(q)) ?? []
  return worth.length ? <p class="tags">{worth.map((q) => <span key={q} class="tag">{q.replace(/_/g, ' ')}</span>)}</p> : null
}

/** isStale follows the hub's word, and its rule (age > 3 × interval) between two words. */
export function isStale(l: Latest | undefined, intervalMs: number | undefined, t: number): boolean {
  if (!l) return false
  return !!l.stale || (intervalMs !== undefined && t - l.t > 3 * intervalMs)
}

const TABLE_ROWS = 200

function PointTable({ points, text, zone, name }: { points: Point[]; text: (v: number) => string; zone: string | undefined; name: string }) {
  const rows = points.slice(-TABLE_ROWS).reverse()
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={`${name}, table`}>
      <table class="table num">
        <caption class="visually-hidden">{name}{points.length > rows.length ? `, the last ${rows.length} of ${points.length}; the CSV has all` : ''}</caption>
        <thead><tr><th scope="col">Time</th><th scope="col">Mean</th><th scope="col">Min</th><th scope="col">Max</th><th scope="col">Readings</th></tr></thead>
        <tbody>{rows.map((p) => <tr key={p.t}><td>{dateTime(p.t, zone)}</td><td>{text(p.mean)}</td><td>{text(p.min)}</td><td>{text(p.max)}</td><td>{p.count}</td></tr>)}</tbody>
      </table>
    </div>
  )
}

function CustomRange({ from, to, onPick, onClose }: { from: number; to: number; onPick: (from: number, to: number) => void; onClose: () => void }) {
  const [error, setError] = useState('')
  const submit = (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    const a = Date.parse(String(form.get('from')))
    const b = Date.parse(String(form.get('to')))
    if (!(b - a >= MIN_SPAN_MS)) setError('The end must be after the beginning.')
    else onPick(a, b)
  }
  return (
    <Dialog title="Time range" onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <div class="field"><label for="range-from">From</label><input id="range-from" name="from" type="datetime-local" required defaultValue={toLocalInput(from)} /></div>
        <div class="field"><label for="range-to">To</label><input id="range-to" name="to" type="datetime-local" required defaultValue={toLocalInput(to)} /></div>
        <p class="hint">In the browser’s time zone.</p>
        {error && <p class="bad-text" role="alert">{error}</p>}
        <div class="actions"><button type="submit" class="button primary">Show</button></div>
      </form>
    </Dialog>
  )
}
