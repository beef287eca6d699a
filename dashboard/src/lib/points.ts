// The points of one chart: history from the series route, continued by live
// readings, with gaps left as gaps.

import type { Scalar, Series } from './types'

/** A point stands for everything between t and t + step of its series. */
export interface Point { t: number; min: number; max: number; mean: number; count: number }

/** A reading that came late: drawn by itself, since it may lie where the line already is. */
export interface LatePoint { t: number; v: number }

export const numeric = (v: Scalar | null | undefined): number | undefined =>
  typeof v === 'number' && Number.isFinite(v) ? v : typeof v === 'boolean' ? (v ? 1 : 0) : undefined

/** fromSeries keeps the buckets that hold numbers. */
export function fromSeries(s: Series): Point[] {
  const out: Point[] = []
  for (const b of s.buckets) {
    const mean = b.mean ?? numeric(b.last)
    if (mean === undefined || mean === null) continue
    out.push({ t: b.t, mean, min: b.min ?? mean, max: b.max ?? mean, count: b.count - (b.out_of_range ?? 0) || 1 })
  }
  return out.sort((a, b) => a.t - b.t)
}

/** lateOf are the buckets that late readings lie in. Only readings know of them: of roll-ups there are none. */
export function lateOf(s: Series): LatePoint[] {
  const out: LatePoint[] = []
  for (const b of s.buckets) {
    const v = b.mean ?? numeric(b.last)
    if (b.late && v !== undefined && v !== null) out.push({ t: b.t, v })
  }
  return out
}

/** outOf are the times at which readings were out of range: marked, and in no line nor scale. */
export const outOf = (s: Series): number[] => s.buckets.filter((b) => b.out_of_range).map((b) => b.t)

/** turnOf is a full turn in a unit of angles; undefined for any other unit. */
export const turnOf = (unit: string | undefined): number | undefined => (unit === '°' ? 360 : unit === 'rad' ? 2 * Math.PI : undefined)

/** turned is the direction between a, which stands for n readings, and b. */
function turned(a: number, n: number, b: number, turn: number): number {
  const k = (2 * Math.PI) / turn
  const mean = Math.atan2(n * Math.sin(a * k) + Math.sin(b * k), n * Math.cos(a * k) + Math.cos(b * k)) / k
  return mean < 0 && a >= 0 && b >= 0 ? mean + turn : mean
}

/**
 * add puts a live reading at the end of points, in place. A reading inside the
 * last bucket widens it, that of a direction turns it; the same (t, v) again
 * changes nothing but its count. It returns false for what lies before the last
 * point: that is history and is fetched, not guessed.
 */
export function add(points: Point[], t: number, v: number, stepMs: number, turn?: number): boolean {
  const last = points[points.length - 1]
  if (!last || t >= last.t + Math.max(stepMs, 1)) {
    const start = last && stepMs > 0 ? last.t + Math.floor((t - last.t) / stepMs) * stepMs : t
    // Below two seconds a step is finer than most devices: keep the true time.
    points.push({ t: stepMs <= 2000 ? t : start, mean: v, min: v, max: v, count: 1 })
    return true
  }
  if (t < last.t) return false
  if (turn) {
    last.mean = last.min = last.max = turned(last.mean, last.count, v, turn)
    last.count++
    return true
  }
  if (v < last.min || v > last.max || last.count === 1) {
    last.min = Math.min(last.min, v)
    last.max = Math.max(last.max, v)
  }
  last.mean = (last.mean * last.count + v) / (last.count + 1)
  last.count++
  return true
}

/** join continues older points with newer ones; where both have a moment, the newer fetch is right. */
export function join(older: readonly Point[], newer: readonly Point[]): Point[] {
  const first = newer[0]
  if (!first) return older.slice()
  return [...older.filter((p) => p.t < first.t), ...newer]
}

/** within are the points of a window, and one on either side so that lines reach its edges. */
export function within(points: readonly Point[], from: number, to: number): Point[] {
  let lo = lowerBound(points, from)
  let hi = lowerBound(points, to + 1)
  if (lo > 0) lo--
  if (hi < points.length) hi++
  return points.slice(lo, hi)
}

/** inside are the points of a window alone. */
export const inside = (points: readonly Point[], from: number, to: number): Point[] =>
  points.slice(lowerBound(points, from), lowerBound(points, to + 1))

function lowerBound(points: readonly Point[], t: number): number {
  let lo = 0
  let hi = points.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (points[mid]!.t < t) lo = mid + 1
    else hi = mid
  }
  return lo
}

/**
 * gapAfter is how long a silence must be to be drawn as one: three times the
 * interval the device is expected to keep, else three times its usual gap.
 */
export function gapAfter(points: readonly Point[], stepMs: number, intervalMs?: number): number {
  let usual = intervalMs ?? 0
  if (!usual && points.length > 2) {
    const gaps = points.slice(1).map((p, i) => p.t - points[i]!.t).sort((a, b) => a - b)
    usual = gaps[gaps.length >> 1]!
  }
  return Math.max(3 * usual, 2.5 * stepMs, usual ? 0 : 20_000)
}

type Column = (number | null)[]

/** columns lays points out as uPlot wants them, [t, mean, min, max], with a null in every gap. */
export function columns(points: readonly Point[], gapMs: number): [number[], Column, Column, Column] {
  const t: number[] = []
  const mean: Column = []
  const min: Column = []
  const max: Column = []
  let before: Point | undefined
  for (const p of points) {
    if (before && p.t - before.t > gapMs) {
      t.push((before.t + p.t) / 2)
      mean.push(null)
      min.push(null)
      max.push(null)
    }
    t.push(p.t)
    mean.push(p.mean)
    min.push(p.min)
    max.push(p.max)
    before = p
  }
  return [t, mean, min, max]
}

const OUTLIER = 8

/**
 * usualRange is the interval that a chart's axis covers: all values, but for a
 * few that lie so far out that they would flatten everything else. Those leave
 * the picture at its edge.
 */
export function usualRange(points: readonly Point[]): [number, number] | undefined {
  if (points.length === 0) return undefined
  const lows = points.map((p) => p.min).sort((a, b) => a - b)
  const highs = points.map((p) => p.max).sort((a, b) => a - b)
  const few = Math.floor(points.length * 0.12)
  const [lo, hi] = [lows[few]!, highs[highs.length - 1 - few]!]
  const reach = (hi - lo) * OUTLIER
  const [min, max] = [lows[0]!, highs[highs.length - 1]!]
  if (few === 0 || reach === 0) return [min, max]
  return [min < lo - reach ? lo : min, max > hi + reach ? hi : max]
}

export interface Summary { last: number; min: number; max: number; mean: number; trend: 'rising' | 'falling' | 'steady' }

/** summary says in few numbers what a chart shows; undefined when it shows nothing. */
export function summary(points: readonly Point[]): Summary | undefined {
  if (points.length === 0) return undefined
  let min = Infinity
  let max = -Infinity
  let sum = 0
  let n = 0
  for (const p of points) {
    min = Math.min(min, p.min)
    max = Math.max(max, p.max)
    sum += p.mean * p.count
    n += p.count
  }
  const tail = Math.max(1, Math.floor(points.length / 8))
  const avg = (ps: readonly Point[]) => ps.reduce((a, p) => a + p.mean, 0) / ps.length
  const change = points.length < 4 ? 0 : avg(points.slice(-tail)) - avg(points.slice(-3 * tail, -tail))
  const noise = (max - min) * 0.05
  return {
    last: points[points.length - 1]!.mean, min, max, mean: sum / n,
    trend: change > noise ? 'rising' : change < -noise ? 'falling' : 'steady',
  }
}
