// Words for values: what a metric is called and how a number of it is written.

import type { LatestMap, MetricDecl, Scalar } from './types'

const TITLES: Record<string, string> = {
  co2: 'CO₂', co: 'CO', pm1: 'PM1', pm25: 'PM2.5', pm10: 'PM10', voc: 'VOC', voc_ppb: 'VOC', aqi: 'Air quality index',
  rssi: 'Signal', ph: 'pH', uptime: 'Uptime', air_pressure: 'Air pressure', power_factor: 'Power factor',
  wind_speed: 'Wind speed', wind_direction: 'Wind direction',
}

/** metricTitle is a metric's name for people: "temperature" is "Temperature". */
export function metricTitle(name: string): string {
  const title = TITLES[name]
  if (title) return title
  const words = name.replace(/_/g, ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}

// Digits after the point, as the catalogue's precisions (devices/README.md#metrics).
const DIGITS: Record<string, number> = {
  temperature: 1, humidity: 1, pressure: 1, air_pressure: 1, illuminance: 0, irradiance: 0, co2: 0, co: 0, pm1: 0, pm25: 0, pm10: 0,
  voc: 0, voc_ppb: 0, aqi: 0, battery: 0, voltage: 2, current: 3, power: 1, power_factor: 2, energy: 3, rssi: 0, sound: 0, ph: 2, uptime: 0,
}

/** digitsOf is how many digits after the point a metric's values are worth. */
export function digitsOf(metric: string, decl?: MetricDecl): number {
  if (decl?.precision) return Math.max(0, Math.min(6, Math.round(-Math.log10(decl.precision))))
  return DIGITS[metric] ?? 2
}

/** valueText writes a value without its unit. */
export function valueText(v: Scalar | null | undefined, digits = 2): string {
  if (v === null || v === undefined) return '–'
  if (typeof v === 'boolean') return v ? 'yes' : 'no'
  if (typeof v === 'string') return v
  if (!Number.isFinite(v)) return '–'
  const fixed = v.toFixed(digits)
  const text = digits > 1 ? fixed.replace(/\.?0+$/, '') : fixed
  const grouped = Math.abs(v) >= 10_000 ? text.replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, '\u202f') : text
  return grouped.replace('-', '−')
}

// What the two values of a bool are called, by metric: [true, false].
const BOOLS: Record<string, [string, string]> = {
  motion: ['Motion', 'No motion'], door: ['Open', 'Closed'], leak: ['Leak', 'Dry'], smoke: ['Smoke', 'Clear'], occupancy: ['Occupied', 'Empty'],
}

/** valueWords writes a value of a metric with its unit: "21.4 °C", "No motion". */
export function valueWords(metric: string, v: Scalar | null | undefined, unit?: string, digits = digitsOf(metric)): string {
  if (typeof v === 'boolean' && BOOLS[metric]) return BOOLS[metric][v ? 0 : 1]
  return withUnit(valueText(v, digits), unit)
}

/** withUnit joins value and unit as SI writes them: "21.4 °C", "48 %"; a degree of angle stands close. */
export function withUnit(text: string, unit: string | undefined): string {
  if (!unit || text === '–') return text
  return unit === '°' ? `${text}°` : `${text} ${unit}`
}

// What a device is looked at for, most telling first.
const KEY_METRICS = [
  'temperature', 'co2', 'humidity', 'power', 'pm25', 'moisture', 'illuminance', 'pressure', 'air_pressure', 'energy', 'flow', 'motion', 'door', 'leak', 'smoke', 'occupancy',
]
const HOUSEKEEPING = new Set(['battery', 'rssi', 'uptime', 'voltage'])

/** keyMetric picks the one value that stands for a device in a list. */
export function keyMetric(latest: Record<string, unknown> | undefined): string | undefined {
  if (!latest) return undefined
  for (const m of KEY_METRICS) if (m in latest) return m
  const names = Object.keys(latest).sort()
  return names.find((m) => !HOUSEKEEPING.has(m)) ?? names[0]
}

/** metricOrder sorts a device's metrics for its page: the telling ones first, housekeeping last. */
export function metricOrder(latest: LatestMap): string[] {
  const rank = (m: string) => {
    const i = KEY_METRICS.indexOf(m)
    return i >= 0 ? i : HOUSEKEEPING.has(m) ? 1000 : 500
  }
  return Object.keys(latest).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

/** bytes words an amount of data: "18 kB". */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let i = 0
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i++ }
  return `${i ? n.toFixed(n < 10 ? 1 : 0) : n} ${units[i]}`
}

/** capital begins a sentence. */
export const capital = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1)
