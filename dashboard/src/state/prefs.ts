// What this browser remembers: looks and the time zone. Nothing of the hub's.

import { computed, effect, signal } from '@preact/signals'

export type Theme = 'auto' | 'light' | 'dark'
export type Zone = 'browser' | 'device' | 'utc'

function stored<T extends string>(key: string, values: readonly T[], fallback: T) {
  const name = `devicehub.${key}`
  let initial = fallback
  try {
    const v = localStorage.getItem(name) as T
    if (values.includes(v)) initial = v
  } catch { /* storage is switched off: the choice lasts as long as the page */ }
  const s = signal<T>(initial)
  effect(() => {
    const v = s.value
    try { localStorage.setItem(name, v) } catch { /* as above */ }
  })
  return s
}

export const theme = stored<Theme>('theme', ['auto', 'light', 'dark'], 'auto')
export const zone = stored<Zone>('zone', ['browser', 'device', 'utc'], 'browser')

const systemDark = matchMedia('(prefers-color-scheme: dark)')
const systemIsDark = signal(systemDark.matches)
systemDark.addEventListener('change', (e) => { systemIsDark.value = e.matches })

/** dark is how the page looks now; charts draw with it. */
export const dark = computed(() => theme.value === 'dark' || (theme.value === 'auto' && systemIsDark.value))
effect(() => { document.documentElement.dataset.theme = dark.value ? 'dark' : 'light' })

/** zoneName is the IANA zone to show times in; a device has one when its label "tz" names it. */
export function zoneName(labels?: Record<string, string>): string | undefined {
  if (zone.value === 'utc') return 'UTC'
  if (zone.value === 'device') return labels?.tz
  return undefined
}

export const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)')

const RECENT = 'devicehub.colours'

/** recentColours are the last colours set here, newest first, as #rrggbb. */
export const recentColours = signal<string[]>(readRecent())

function readRecent(): string[] {
  try {
    const v: unknown = JSON.parse(localStorage.getItem(RECENT) ?? '[]')
    return Array.isArray(v) ? v.filter((c): c is string => /^#[0-9a-f]{6}$/.test(c)).slice(0, 6) : []
  } catch {
    return []
  }
}

export function rememberColour(hex: string): void {
  recentColours.value = [hex, ...recentColours.value.filter((c) => c !== hex)].slice(0, 6)
  try { localStorage.setItem(RECENT, JSON.stringify(recentColours.value)) } catch { /* as above */ }
}
