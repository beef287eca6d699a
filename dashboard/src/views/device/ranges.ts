// The spans of time that charts offer, and how they stand in the address.

import { serverNow } from '../../state/clock'
import type { Span } from '../../state/history'

const MIN = 60_000
const HOUR = 60 * MIN

export const PRESETS = [
  { value: '15m', label: '15 m', ms: 15 * MIN },
  { value: '1h', label: '1 h', ms: HOUR },
  { value: '6h', label: '6 h', ms: 6 * HOUR },
  { value: '24h', label: '24 h', ms: 24 * HOUR },
  { value: '7d', label: '7 d', ms: 7 * 24 * HOUR },
  { value: '30d', label: '30 d', ms: 30 * 24 * HOUR },
] as const

export type Preset = (typeof PRESETS)[number]['value']

/** usual is the span to begin with: enough for some dozens of readings at the device's pace. */
export function usual(intervalS: number | undefined): Preset {
  if (!intervalS || intervalS <= 20) return '15m'
  return intervalS <= 120 ? '1h' : '24h'
}

/** spanOf reads ?range= or ?from=&to=; what cannot be read is the default. */
export function spanOf(query: Record<string, string>, fallback: Preset): Span & { preset?: Preset } {
  const from = Number(query.from)
  const to = Number(query.to)
  if (from > 0 && to > from) return { from, to, live: false, ms: to - from }
  const preset = PRESETS.find((p) => p.value === query.range) ?? PRESETS.find((p) => p.value === fallback)!
  const now = serverNow()
  return { from: now - preset.ms, to: now, live: true, ms: preset.ms, preset: preset.value }
}

/** neighbour is the next shorter or longer preset. */
export function neighbour(preset: Preset, by: -1 | 1): Preset {
  const i = PRESETS.findIndex((p) => p.value === preset)
  return PRESETS[Math.min(PRESETS.length - 1, Math.max(0, i + by))]!.value
}
