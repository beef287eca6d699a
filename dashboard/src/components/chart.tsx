// One line over time, drawn by uPlot: a band from least to greatest where points
// stand for many readings, gaps as gaps, late readings as diamonds (many of them
// as a bar along the foot), readings out of range as ticks at the top, marks as
// vertical lines. Drag or pinch to zoom, drag with one finger to move.

import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { dark } from '../state/prefs'
import { clock, dateTime, shortTime } from '../lib/time'
import type { LatePoint } from '../lib/points'
import { touchZoom, type TouchZoom } from './chart-touch'

export interface Mark { t: number; kind: 'command' | 'presence' | 'problem'; label: string }

export interface Hover { t: number; mean: number; min: number; max: number; mark?: string | undefined }

interface Props {
  data: [number[], (number | null)[], (number | null)[], (number | null)[]]
  from: number
  to: number
  late: readonly LatePoint[]
  /** out are the times at which readings were out of range. */
  out: readonly number[]
  marks: readonly Mark[]
  /** range is what the y axis covers; undefined: nothing to show. */
  range: [number, number] | undefined
  stepped?: boolean
  /** words names a value of a stepped chart's axis. */
  words: (v: number) => string
  zone: string | undefined
  height: number
  onZoom: (from: number, to: number) => void
  onReset: () => void
  onHover: (hover: Hover | undefined) => void
}

const DAY = 86_400_000
const SYNC = 'device'
const CROWD = 24 // so many marks would hide the line

export function Chart(props: Props) {
  const place = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const touch = useRef<TouchZoom>(undefined)
  const latest = useRef(props)
  latest.current = props

  useLayoutEffect(() => {
    const el = place.current!
    const p = () => latest.current
    const u = new uPlot(options(el.clientWidth, p().height, p), p().data as uPlot.AlignedData, el)
    plot.current = u
    const sized = new ResizeObserver(() => {
      if (el.clientWidth > 0 && el.clientWidth !== u.width) u.setSize({ width: el.clientWidth, height: p().height })
    })
    sized.observe(el)
    touch.current = touchZoom(u, (from, to) => p().onZoom(from, to))
    return () => {
      sized.disconnect()
      touch.current?.stop()
      u.destroy()
    }
  }, [props.stepped, props.zone])

  const { data, from, to, late, out, marks } = props
  useEffect(() => {
    const u = plot.current
    if (!u) return
    u.batch(() => {
      u.setData(data as uPlot.AlignedData, false)
      if (!touch.current?.busy()) u.setScale('x', { min: from, max: to })
      const [min, max] = yRange(props.range, !!props.stepped)
      u.setScale('y', { min, max })
    })
  }, [data, from, to, late, out, marks, props.stepped, props.zone])

  const isDark = dark.value
  useEffect(() => plot.current?.redraw(false), [isDark])
  return <div ref={place} class="chart" aria-hidden="true" />
}

function options(width: number, height: number, props: () => Props): uPlot.Options {
  const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  const line = () => css('--chart-line')
  const axis = { stroke: () => css('--muted'), font: '12px system-ui, sans-serif', grid: { stroke: () => css('--chart-grid'), width: 1 }, ticks: { show: false } }
  const paths = props().stepped ? uPlot.paths.stepped!({ align: 1 }) : null
  const hidden: uPlot.Series = { stroke: 'transparent', width: 0, points: { show: false }, ...(paths ? { paths } : {}) }
  return {
    width, height, ms: 1, legend: { show: false }, padding: [14, 12, 0, 0],
    cursor: {
      sync: { key: SYNC, scales: ['x', null], filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' } },
      drag: { x: true, y: false, setScale: false, dist: 6 },
      points: { size: 8, width: 2, stroke: line, fill: () => css('--surface') },
      bind: { dblclick: () => () => { props().onReset(); return null } },
    },
    scales: {
      x: { time: true, auto: false },
      y: { range: () => yRange(props().range, !!props().stepped) },
    },
    axes: [
      { ...axis, space: 90, size: 30, values: (_u, splits, _i, _space, incr) => splits.map((t) => tick(t, incr, props().zone)) },
      { ...axis, size: 66, space: 36, values: (_u, splits, _i, _space, incr) => splits.map((v) => (props().stepped ? (v === 0 || v === 1 ? props().words(v) : '') : number(v, incr))) },
    ],
    series: [
      {},
      { stroke: line, width: 2, spanGaps: false, points: { show: (u) => sparse(u), size: 5, stroke: line, fill: line }, ...(paths ? { paths } : {}) },
      hidden,
      hidden,
    ],
    bands: [{ series: [3, 2], fill: () => css('--chart-band') }],
    hooks: {
      setSelect: [(u) => {
        if (u.select.width < 6) return
        const from = u.posToVal(u.select.left, 'x')
        const to = u.posToVal(u.select.left + u.select.width, 'x')
        u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
        props().onZoom(from, to)
      }],
      setCursor: [(u) => {
        const { idx, left } = u.cursor
        const mean = idx === null || idx === undefined ? null : u.data[1]![idx]
        if (idx === null || idx === undefined || mean === null || mean === undefined || left === undefined || left < 0) return props().onHover(undefined)
        const at = u.posToVal(left, 'x')
        const near = (u.scales.x!.max! - u.scales.x!.min!) * (7 / Math.max(1, u.over.clientWidth))
        const mark = props().marks.find((m) => Math.abs(m.t - at) <= near)?.label
        props().onHover({ t: u.data[0]![idx]!, mean, min: u.data[2]![idx] ?? mean, max: u.data[3]![idx] ?? mean, mark })
      }],
      drawClear: [(u) => drawMarks(u, props().marks, css)],
      draw: [(u) => drawLate(u, props().late, css), (u) => drawOut(u, props().out, css)],
    },
  }
}

const sparse = (u: uPlot) => u.data[0]!.length > 0 && u.data[0]!.length < u.over.clientWidth / 14

function yRange(range: [number, number] | undefined, stepped: boolean): [number, number] {
  if (stepped) return [-0.15, 1.15]
  if (!range) return [0, 1]
  const [min, max] = range
  if (min === max) return [min - Math.max(0.5, Math.abs(min) * 0.02), max + Math.max(0.5, Math.abs(max) * 0.02)]
  const pad = (max - min) * 0.12
  return [min >= 0 && min - pad < 0 ? 0 : min - pad, max + pad]
}

function number(v: number, incr: number): string {
  if (v === 0) return '0'
  const [scale, unit] = Math.abs(incr) >= 1e6 ? [1e6, 'M'] : Math.abs(incr) >= 1e4 ? [1e3, 'k'] : [1, '']
  let digits = 0
  for (let i = incr / scale; digits < 6 && Math.abs(i - Math.round(i)) > 1e-6; i *= 10) digits++
  return ((v / scale).toFixed(digits) + unit).replace('-', '−')
}

function tick(t: number, incr: number, zone: string | undefined): string {
  if (incr >= DAY) return dateTime(t, zone).slice(5, 10)
  if (incr < 60_000) return clock(t, zone)
  const hm = shortTime(t, t, zone)
  return hm === '00:00' ? dateTime(t, zone).slice(5, 10) : hm
}

function drawMarks(u: uPlot, marks: readonly Mark[], css: (name: string) => string): void {
  const { ctx, bbox } = u
  const px = devicePixelRatio
  ctx.save()
  ctx.lineWidth = px
  const visible = marks.filter((m) => m.t >= u.scales.x!.min! && m.t <= u.scales.x!.max!)
  for (const m of visible) {
    const x = Math.round(u.valToPos(m.t, 'x', true)) + 0.5
    ctx.strokeStyle = ctx.fillStyle = css(m.kind === 'command' ? '--mark-command' : m.kind === 'problem' ? '--mark-problem' : '--mark-presence')
    ctx.setLineDash(m.kind === 'command' ? [] : [3 * px, 3 * px])
    ctx.globalAlpha = visible.length > CROWD ? 0.12 : 0.45
    ctx.beginPath()
    ctx.moveTo(x, bbox.top)
    ctx.lineTo(x, bbox.top + bbox.height)
    ctx.stroke()
    ctx.globalAlpha = 1
    ctx.beginPath() // a flag on top, by shape: triangle for commands, square for presence
    if (m.kind === 'command') {
      ctx.moveTo(x - 4 * px, bbox.top - 8 * px)
      ctx.lineTo(x + 4 * px, bbox.top - 8 * px)
      ctx.lineTo(x, bbox.top - 1 * px)
    } else {
      ctx.rect(x - 3 * px, bbox.top - 8 * px, 6 * px, 6 * px)
    }
    ctx.fill()
  }
  ctx.restore()
}

// drawOut marks readings out of range at the top of the chart: where they lie is
// outside it, and says nothing.
function drawOut(u: uPlot, out: readonly number[], css: (name: string) => string): void {
  const { ctx, bbox } = u
  const px = devicePixelRatio
  ctx.save()
  ctx.fillStyle = css('--mark-problem')
  for (const t of out) {
    if (t >= u.scales.x!.min! && t <= u.scales.x!.max!) ctx.fillRect(u.valToPos(t, 'x', true) - 1.5 * px, bbox.top, 3 * px, 5 * px)
  }
  ctx.restore()
}

// drawLate marks late readings: few of them one by one, a backlog as a bar along
// the foot of the chart, which leaves the line to be read.
function drawLate(u: uPlot, late: readonly LatePoint[], css: (name: string) => string): void {
  const { ctx, bbox } = u
  const px = devicePixelRatio
  const visible = late.filter((p) => p.t >= u.scales.x!.min! && p.t <= u.scales.x!.max!)
  ctx.save()
  ctx.strokeStyle = ctx.fillStyle = css('--mark-late')
  if (visible.length > CROWD) {
    for (const p of visible) ctx.fillRect(u.valToPos(p.t, 'x', true) - 1.5 * px, bbox.top + bbox.height - 2 * px, 3 * px, 2 * px)
    ctx.restore()
    return
  }
  ctx.fillStyle = css('--surface')
  ctx.lineWidth = 1.5 * px
  for (const p of visible) {
    const x = u.valToPos(p.t, 'x', true)
    const y = u.valToPos(p.v, 'y', true)
    const r = 4 * px
    ctx.beginPath()
    ctx.moveTo(x, y - r)
    ctx.lineTo(x + r, y)
    ctx.lineTo(x, y + r)
    ctx.lineTo(x - r, y)
    ctx.closePath()
    ctx.fill()
    ctx.stroke()
  }
  ctx.restore()
}
