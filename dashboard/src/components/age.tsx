// How old something is, once a second, with the moment itself on hover.

import { age, ago, dateTime } from '../lib/time'
import { now } from '../state/clock'
import { zoneName } from '../state/prefs'

export function Age({ t, short, labels }: { t: number | undefined; short?: boolean; labels?: Record<string, string> | undefined }) {
  if (!t) return <span class="age muted">–</span>
  const ms = Math.max(0, now.value - t)
  return <time class="age" dateTime={new Date(t).toISOString()} title={dateTime(t, zoneName(labels))}>{short ? age(ms) : ago(ms)}</time>
}

/** Moment shows a moment in full. */
export function Moment({ t, labels }: { t: number | undefined; labels?: Record<string, string> | undefined }) {
  if (!t) return <span class="muted">–</span>
  return <time class="nowrap num" dateTime={new Date(t).toISOString()} title={ago(now.peek() - t)}>{dateTime(t, zoneName(labels))}</time>
}
