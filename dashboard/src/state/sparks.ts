// Small histories for the list: the last minutes of each visible device's key
// value. Fetched a few at a time, the rows asked for last first, so that a fast
// scroll through a large fleet costs little; then continued by what streams in.

import { signal, type Signal } from '@preact/signals'
import type { Series } from '../lib/types'
import { get } from './api'
import { serverNow } from './clock'

const SPAN_MS = 15 * 60_000
const STEP_MS = 10_000
const WAIT_MS = 250
const AT_ONCE = 3
const WAITING = 40 // rows asked for longer ago have left the screen
const REMEMBERED = 2000

interface Spark { points: Signal<SparkPoint[]>; fetched: boolean }
interface SparkPoint { t: number; v: number }

const known = new Map<string, Spark>()
let queue: { id: string; metric: string; key: string }[] = []
let running = 0

/** sparkOf is the recent values of a device's metric; empty until fetched. */
export function sparkOf(id: string, metric: string): Signal<SparkPoint[]> {
  const key = `${id} ${metric}`
  let s = known.get(key)
  if (!s) {
    if (known.size >= REMEMBERED) known.clear()
    s = { points: signal([]), fetched: false }
    known.set(key, s)
    queue.push({ id, metric, key })
    for (const dropped of queue.splice(0, Math.max(0, queue.length - WAITING))) known.delete(dropped.key)
    if (queue.length === 1) setTimeout(() => { for (let i = running; i < AT_ONCE; i++) void work() }, WAIT_MS)
  }
  return s.points
}

/** sparkOn adds the newest value, one point for every ten seconds. */
export function sparkOn(id: string, metric: string, t: number, v: number): void {
  const s = known.get(`${id} ${metric}`)
  if (!s?.fetched) return
  const points = s.points.peek()
  const last = points[points.length - 1]
  if (last && t <= last.t) return
  const kept = last && Math.floor(t / STEP_MS) === Math.floor(last.t / STEP_MS) ? points.slice(0, -1) : points.filter((p) => p.t > t - SPAN_MS)
  s.points.value = [...kept, { t, v }]
}

/** forgetSparks has them fetched anew when they are next shown. */
export function forgetSparks(): void {
  known.clear()
  queue = []
}

async function work(): Promise<void> {
  running++
  for (let next = queue.pop(); next; next = queue.pop()) {
    const { id, metric, key } = next
    try {
      const to = serverNow()
      const series = await get<Series>(`/devices/${id}/series`, { metric, from: to - SPAN_MS, to, points: SPAN_MS / STEP_MS, agg: 'mean' })
      const s = known.get(key)
      if (!s) continue
      s.fetched = true
      s.points.value = series.buckets.flatMap((b) => (typeof b.mean === 'number' ? [{ t: b.t, v: b.mean }] : []))
    } catch { /* the row does without its small picture */ }
  }
  running--
}
