// Small histories for the list: the last hour of each visible device's key
// value. Fetched a few at a time, the rows asked for last first, so that a fast
// scroll through a large fleet costs little.

import { signal, type Signal } from '@preact/signals'
import type { Series } from '../lib/types'
import { get } from './api'
import { serverNow } from './clock'

const HOUR = 3_600_000
const POINTS = 30
const WAIT_MS = 250
const AT_ONCE = 3
const WAITING = 40 // rows asked for longer ago have left the screen
const REMEMBERED = 2000

const known = new Map<string, Signal<number[] | undefined>>()
let queue: { id: string; metric: string; key: string }[] = []
let running = 0

/** sparkOf is the hour's values of a device's metric, undefined until fetched. */
export function sparkOf(id: string, metric: string): Signal<number[] | undefined> {
  const key = `${id} ${metric}`
  let s = known.get(key)
  if (!s) {
    if (known.size >= REMEMBERED) known.clear()
    known.set(key, (s = signal(undefined)))
    queue.push({ id, metric, key })
    for (const dropped of queue.splice(0, Math.max(0, queue.length - WAITING))) known.delete(dropped.key)
    if (queue.length === 1) setTimeout(() => { for (let i = running; i < AT_ONCE; i++) void work() }, WAIT_MS)
  }
  return s
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
      const to = Math.floor(serverNow())
      const s = await get<Series>(`/devices/${id}/series`, { metric, from: to - HOUR, to, points: POINTS, agg: 'mean' })
      const target = known.get(key)
      if (target) target.value = s.buckets.map((b) => b.mean).filter((v): v is number => typeof v === 'number')
    } catch { /* the row does without its small picture */ }
  }
  running--
}
