// The points of one metric of one device: fetched for a span of time, continued
// by what streams in, and filled again after the connection was lost.

import { effect, signal } from '@preact/signals'
import { add, fromSeries, join, lateOf, numeric, outOf, turnOf, type LatePoint, type Point } from '../lib/points'
import type { ReadingPush, Series } from '../lib/types'
import { asError, get, type ApiError } from './api'
import { serverNow } from './clock'
import type { DeviceLive } from './device'
import { opened } from './socket'

/** A span of time; live ones end now and move with it. */
export interface Span { from: number; to: number; live: boolean; ms: number }

export const BUCKETS = 600
const KEEP = 4 * BUCKETS
const AGAIN_MS = 1500

export class History {
  points: Point[] = []
  late: LatePoint[] = []
  /** out are the times at which readings were out of range. */
  out: number[] = []
  stepMs = 0
  /** changed rises whenever points did. */
  readonly changed = signal(0)
  readonly loading = signal(true)
  readonly error = signal<ApiError | undefined>(undefined)

  private span: Span | undefined
  private abort: AbortController | undefined
  private again: ReturnType<typeof setTimeout> | undefined
  private stops: (() => void)[]
  private waiting: { t: number; v: number }[] = [] // heard while history was on its way

  constructor(private readonly device: DeviceLive, readonly metric: string) {
    let connections = opened.peek()
    this.stops = [
      device.onReading((p, late) => this.heard(p, late)),
      effect(() => {
        const n = opened.value
        if (n !== connections) {
          connections = n
          void this.refill()
        }
      }),
    ]
  }

  close(): void {
    for (const stop of this.stops) stop()
    clearTimeout(this.again)
    this.abort?.abort()
  }

  /** show fetches a span anew. */
  show(span: Span): void {
    this.span = span
    this.late = []
    this.out = []
    void this.load()
  }

  private async fetch(from: number, to: number, points: number): Promise<Series | undefined> {
    this.abort?.abort()
    const abort = new AbortController()
    this.abort = abort
    this.loading.value = true
    try {
      const s = await get<Series>(`/devices/${this.device.id}/series`, { metric: this.metric, from: Math.floor(from), to: Math.ceil(to), points, agg: 'minmax' }, abort.signal)
      this.error.value = undefined
      return s
    } catch (e) {
      if (!abort.signal.aborted) this.error.value = asError(e)
      return undefined
    } finally {
      if (!abort.signal.aborted) this.loading.value = false
    }
  }

  private async load(): Promise<void> {
    const span = this.span
    if (!span) return
    this.waiting = []
    const to = span.live ? serverNow() : span.to
    const s = await this.fetch(span.live ? to - span.ms : span.from, to, BUCKETS)
    if (!s || this.span !== span) return
    this.points = fromSeries(s)
    this.out = outOf(s)
    if (s.tier === 'raw') this.late = lateOf(s) // else what was heard is all that is known
    this.stepMs = s.step_ms
    this.addWaiting(s.unit)
    this.changed.value++
  }

  private addWaiting(unit: string | undefined): void {
    for (const r of this.waiting) add(this.points, r.t, r.v, this.stepMs, turnOf(unit))
    this.waiting = []
  }

  /** refill closes the gap that a lost connection left: from the last point on. */
  private async refill(): Promise<void> {
    const span = this.span
    const last = this.points[this.points.length - 1]
    if (!span?.live) return
    if (!last || this.stepMs <= 0) return this.load()
    this.waiting = []
    const to = serverNow()
    const points = Math.ceil((to - last.t) / this.stepMs) + 1
    if (points > BUCKETS) return this.load()
    const s = await this.fetch(last.t, to, Math.max(points, 2))
    if (!s || this.span !== span) return
    this.points = join(this.points, fromSeries(s))
    this.late = [...this.late.filter((l) => l.t < s.from), ...lateOf(s)]
    this.out = [...this.out.filter((t) => t < s.from), ...outOf(s)]
    this.addWaiting(s.unit)
    this.changed.value++
  }

  private heard(p: ReadingPush, late: boolean): void {
    const span = this.span
    if (!span) return
    let changed = false
    for (const r of p.r) {
      if (r.m !== this.metric) continue
      const v = numeric(r.v)
      if (v === undefined) continue
      if (r.q?.includes('out_of_range')) { // stored and marked, and no part of the line
        if (span.live && !late) this.out = [...this.out, r.t].slice(-BUCKETS)
        else this.loadAgain()
        changed = true
        continue
      }
      if (late || !span.live) {
        const from = span.live ? serverNow() - span.ms : span.from
        const to = span.live ? Infinity : span.to
        if (r.t < from || r.t > to) continue
        if (late) this.late = [...this.late.filter((l) => l.t !== r.t), { t: r.t, v }].slice(-BUCKETS)
        this.loadAgain()
        changed = true
        continue
      }
      if (this.loading.peek()) this.waiting.push({ t: r.t, v })
      add(this.points, r.t, v, this.stepMs, turnOf(r.u))
      changed = true
    }
    if (p.skipped) this.loadAgain() // some were left out on the way here, but not in the store
    if (this.points.length > KEEP) void this.loadAgain()
    if (changed) this.changed.value++
  }

  private loadAgain(): void {
    this.again ??= setTimeout(() => {
      this.again = undefined
      void this.load()
    }, AGAIN_MS)
  }
}
