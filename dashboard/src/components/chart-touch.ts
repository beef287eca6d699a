// Fingers on a chart: one moves through time, two stretch it. Vertical swipes
// stay the page's own scrolling (touch-action: pan-y).

import type uPlot from 'uplot'

const MIN_SPAN_MS = 5000

export interface TouchZoom {
  /** busy reports whether fingers hold the chart: its span is theirs until they leave. */
  busy: () => boolean
  stop: () => void
}

/** touchZoom calls done with the new span when the last finger leaves. */
export function touchZoom(u: uPlot, done: (from: number, to: number) => void): TouchZoom {
  const over = u.over
  const fingers = new Map<number, number>() // pointer -> x
  let moved: { from: number; to: number } | undefined // by this gesture, from its first finger to its last
  let start: { min: number; max: number; xs: number[] } | undefined // since the number of fingers changed

  const begin = () => {
    const { min, max } = u.scales.x!
    start = { min: min!, max: max!, xs: [...fingers.values()] }
  }
  const down = (e: PointerEvent) => {
    if (e.pointerType !== 'touch' || fingers.size === 2) return
    fingers.set(e.pointerId, e.clientX)
    begin()
  }
  const move = (e: PointerEvent) => {
    if (!fingers.has(e.pointerId) || !start) return
    fingers.set(e.pointerId, e.clientX)
    const xs = [...fingers.values()]
    const left = over.getBoundingClientRect().left
    const width = over.clientWidth
    const at = (x: number) => start!.min + ((x - left) / width) * (start!.max - start!.min)
    let { min, max } = start
    if (xs.length === 1) {
      if (Math.abs(xs[0]! - start.xs[0]!) < 8) return
      const by = at(start.xs[0]!) - at(xs[0]!)
      min += by
      max += by
    } else {
      // The moments under both fingers stay under them.
      const [a, b] = [at(start.xs[0]!), at(start.xs[1]!)]
      const perPx = (b - a) / (xs[1]! - xs[0]! || 1)
      min = a - perPx * (xs[0]! - left)
      max = min + perPx * width
      if (!(max - min > MIN_SPAN_MS)) return
    }
    moved = { from: min, to: max }
    u.setScale('x', { min, max })
  }
  const up = (e: PointerEvent) => {
    if (!fingers.delete(e.pointerId)) return
    if (fingers.size > 0) return begin()
    const span = moved
    start = moved = undefined
    if (e.type === 'pointerup' && span) done(span.from, span.to)
  }

  over.addEventListener('pointerdown', down)
  over.addEventListener('pointermove', move)
  over.addEventListener('pointerup', up)
  over.addEventListener('pointercancel', up)
  return {
    busy: () => moved !== undefined,
    stop: () => {
      over.removeEventListener('pointerdown', down)
      over.removeEventListener('pointermove', move)
      over.removeEventListener('pointerup', up)
      over.removeEventListener('pointercancel', up)
    },
  }
}
