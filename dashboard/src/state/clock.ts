// The hub's time, ticking once a second for everything that shows an age.

import { signal } from '@preact/signals'

let offset = 0

/** serverNow is the hub's clock as far as it is known here, in ms. */
export const serverNow = (): number => Math.round(Date.now() + offset)

/** now is serverNow, once a second. */
export const now = signal(Date.now())

/** setServerTime is told by every reply that carries the hub's time. */
export function setServerTime(t: number | undefined): void {
  if (!t) return
  const seen = t - Date.now()
  // A reply is late by its way here, never early: believe jumps, smooth the rest.
  offset = Math.abs(seen - offset) > 2000 ? seen : offset + (seen - offset) * 0.1
}

setInterval(() => { now.value = serverNow() }, 1000)
