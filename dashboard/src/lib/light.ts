// A light's scales, colours and words (devices/README.md#lights).

import { capital } from './format'
import type { LightCaps, LightMode, LightParams, LightState } from './types'

/** toPercent is brightness 1..255 for people, 1..100; fromPercent brings every percent back to itself. */
export const toPercent = (b: number): number => Math.round(1 + ((b - 1) * 99) / 254)
export const fromPercent = (pct: number): number => Math.round(1 + ((pct - 1) * 254) / 99)

const clamp = (v: number, lo: number, hi: number) => Math.min(hi, Math.max(lo, v))

export type RGB = [number, number, number]

/** hsToRgb takes hue 0..360 and saturation 0..100, at full value. */
export function hsToRgb(h: number, s: number): RGB {
  const f = (n: number) => {
    const k = (n + h / 60) % 6
    return Math.round(255 * (1 - (s / 100) * Math.max(0, Math.min(k, 4 - k, 1))))
  }
  return [f(5), f(3), f(1)]
}

/** rgbToHs forgets how bright the colour is. */
export function rgbToHs([r, g, b]: RGB): [number, number] {
  const max = Math.max(r, g, b)
  const c = max - Math.min(r, g, b)
  if (c === 0) return [0, 0]
  const h = max === r ? ((g - b) / c + 6) % 6 : max === g ? (b - r) / c + 2 : (r - g) / c + 4
  return [Math.round(h * 60) % 360, Math.round((c / max) * 100)]
}

export const hex = (rgb: RGB): string => `#${rgb.map((c) => clamp(Math.round(c), 0, 255).toString(16).padStart(2, '0')).join('')}`

/** parseHex reads "#ff7800", "ff7800" and "#f70"; null when it is none of them. */
export function parseHex(text: string): RGB | null {
  const m = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text.trim())
  if (!m) return null
  const digits = m[1]!.length === 3 ? [...m[1]!].map((d) => d + d).join('') : m[1]!
  return [0, 2, 4].map((i) => parseInt(digits.slice(i, i + 2), 16)) as RGB
}

/** kelvinToRgb approximates the look of a black body, for display only (fit by T. Helland). */
export function kelvinToRgb(kelvin: number): RGB {
  const t = clamp(kelvin, 1000, 12000) / 100
  const r = t <= 66 ? 255 : 329.7 * (t - 60) ** -0.1332
  const g = t <= 66 ? 99.47 * Math.log(t) - 161.12 : 288.12 * (t - 60) ** -0.0755
  const b = t >= 66 ? 255 : t <= 19 ? 0 : 138.52 * Math.log(t - 10) - 305.04
  return [r, g, b].map((c) => clamp(Math.round(c), 0, 255)) as RGB
}

/** xyToRgb converts a CIE 1931 colour at full brightness to sRGB, for display only. */
export function xyToRgb(x: number, y: number): RGB {
  if (y <= 0) return [255, 255, 255]
  const X = x / y
  const Z = (1 - x - y) / y
  const linear = [3.2406 * X - 1.5372 - 0.4986 * Z, -0.9689 * X + 1.8758 + 0.0415 * Z, 0.0557 * X - 0.204 + 1.057 * Z]
  const max = Math.max(...linear, 1e-6)
  return linear.map((c) => {
    const v = Math.max(0, c / max)
    return Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055))
  }) as RGB
}

/** rgbToXy is the way back, for lights that only take xy. */
export function rgbToXy(rgb: RGB): [number, number] {
  const [r, g, b] = rgb.map((c) => {
    const v = c / 255
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  }) as RGB
  const X = 0.4124 * r + 0.3576 * g + 0.1805 * b
  const Y = 0.2126 * r + 0.7152 * g + 0.0722 * b
  const Z = 0.0193 * r + 0.1192 * g + 0.9505 * b
  const sum = X + Y + Z
  if (sum === 0) return [0.3127, 0.329]
  return [round4(X / sum), round4(Y / sum)]
}

const round4 = (v: number) => Math.round(v * 1e4) / 1e4

/** colourOf is the colour a light shows, at full brightness; a soft white where it has none. */
export function colourOf(s: LightState | undefined | null): RGB {
  if (s?.rgb) return [s.rgb[0]!, s.rgb[1]!, s.rgb[2]!]
  if (s?.rgbw) return [s.rgbw[0]!, s.rgbw[1]!, s.rgbw[2]!]
  if (s?.rgbww) return [s.rgbww[0]!, s.rgbww[1]!, s.rgbww[2]!]
  if (s?.hs) return hsToRgb(s.hs[0]!, s.hs[1]!)
  if (s?.xy) return xyToRgb(s.xy[0]!, s.xy[1]!)
  if (s?.kelvin) return kelvinToRgb(s.kelvin)
  return [255, 214, 150]
}

const COLOUR_MODES: LightMode[] = ['rgb', 'hs', 'xy', 'rgbw', 'rgbww']

/** What a light offers to the person in front of it. */
export interface Offers { dim: boolean; colour: boolean; white: boolean; kelvin: [number, number]; effects: string[] }

export function offers(caps: LightCaps | undefined): Offers {
  const modes = caps?.modes ?? []
  return {
    dim: modes.some((m) => m !== 'onoff'),
    colour: modes.some((m) => COLOUR_MODES.includes(m)),
    white: modes.includes('color_temp'),
    kelvin: [caps?.min_kelvin || 2000, caps?.max_kelvin || 6535],
    effects: (caps?.effects ?? []).filter((e) => e !== 'none'),
  }
}

/** colourParams says a colour in the form that the light takes. */
export function colourParams(caps: LightCaps | undefined, rgb: RGB): LightParams {
  const modes = caps?.modes ?? []
  if (modes.includes('rgb') || modes.includes('rgbw') || modes.includes('rgbww')) return { rgb }
  if (modes.includes('hs')) return { hs: rgbToHs(rgb) }
  if (modes.includes('xy')) return { xy: rgbToXy(rgb) }
  return { rgb }
}

export type Group = 'power' | 'colour' | 'effect'

/** groupsOf lists the groups of fields that a set touches; one set is under way per group (devices/README.md#commands). */
export function groupsOf(op: string, p: LightParams = {}): Group[] {
  if (op === 'toggle' || op === 'step') return ['power']
  if (op !== 'set') return []
  const groups: Group[] = []
  if ('on' in p || 'brightness' in p) groups.push('power')
  if ('rgb' in p || 'hs' in p || 'xy' in p || 'kelvin' in p || 'white' in p) groups.push('colour')
  if ('effect' in p) groups.push('effect')
  return groups
}

/** opText says what a command does: "Turn on · brightness 78 %", "White 2700 K". */
export function opText(op: string, p: LightParams = {}): string {
  switch (op) {
    case 'toggle': return 'Toggle'
    case 'identify': return 'Identify'
    case 'restart': return 'Restart'
    case 'refresh': return 'Ask for its state'
    case 'step': return `Step ${signed(p.pct_delta ?? p.brightness_delta ?? 0)}${p.pct_delta !== undefined ? ' %' : ''}`
    case 'set': {
      const words: string[] = []
      if (p.on === false) words.push('Turn off')
      else if (p.on === true) words.push('Turn on')
      if (p.brightness !== undefined) words.push(`brightness ${toPercent(p.brightness)} %`)
      if (p.kelvin !== undefined) words.push(`white ${p.kelvin} K`)
      if (p.rgb) words.push(`colour ${hex([p.rgb[0]!, p.rgb[1]!, p.rgb[2]!])}`)
      if (p.hs) words.push(`hue ${p.hs[0]}°, ${p.hs[1]} %`)
      if (p.xy) words.push(`xy ${p.xy[0]}, ${p.xy[1]}`)
      if (p.white !== undefined) words.push(`white ${p.white}`)
      if (p.effect) words.push(p.effect === 'none' ? 'no effect' : `effect ${p.effect}`)
      return capital(words.join(' · ') || 'set')
    }
    default: return op
  }
}

const signed = (n: number) => (n > 0 ? `+${n}` : `−${Math.abs(n)}`)

/** stateText says what a light does: "On · 78 % · 2700 K", "Off". */
export function stateText(s: LightState | undefined | null): string {
  if (!s || s.on === undefined || s.on === null) return 'Unknown'
  if (!s.on) return 'Off'
  const words = ['On']
  if (s.brightness) words.push(`${toPercent(s.brightness)} %`)
  if (s.kelvin) words.push(`${s.kelvin} K`)
  if (s.effect && s.effect !== 'none') words.push(s.effect)
  return words.join(' · ')
}
