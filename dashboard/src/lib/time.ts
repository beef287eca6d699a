// Words for moments and durations. Times are ms since the epoch.

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** age words how long ago something was: "now", "12 s", "4 min", "3 h", "5 d". */
export function age(ms: number): string {
  if (!Number.isFinite(ms)) return ''
  if (ms < 2 * SECOND) return 'now'
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)} h`
  return `${Math.floor(ms / DAY)} d`
}

/** ago is age in a sentence: "now", "12 s ago". */
export function ago(ms: number): string {
  const words = age(ms)
  return words === 'now' || words === '' ? words : `${words} ago`
}

/** duration words a length: "142 ms", "4.2 s", "3 min 10 s". */
export function duration(ms: number): string {
  if (ms < SECOND) return `${Math.round(ms)} ms`
  if (ms < MINUTE) return `${(ms / SECOND).toFixed(ms < 10 * SECOND ? 1 : 0)} s`
  if (ms < HOUR) return two(ms, MINUTE, 'min', SECOND, 's')
  if (ms < DAY) return two(ms, HOUR, 'h', MINUTE, 'min')
  return two(ms, DAY, 'd', HOUR, 'h')
}

function two(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  const rest = Math.floor((ms % big) / small)
  return `${Math.floor(ms / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ''}`
}

interface Parts { year: string; month: string; day: string; hour: string; minute: string; second: string }

const formats = new Map<string, Intl.DateTimeFormat>()

function parts(t: number, zone: string | undefined): Parts {
  const key = zone ?? ''
  let f = formats.get(key)
  if (!f) {
    const options: Intl.DateTimeFormatOptions = {
      year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
    }
    try {
      f = new Intl.DateTimeFormat('en-GB', zone ? { ...options, timeZone: zone } : options)
    } catch {
      f = new Intl.DateTimeFormat('en-GB', options) // a zone that this browser does not know
    }
    formats.set(key, f)
  }
  const out: Record<string, string> = {}
  for (const p of f.formatToParts(t)) out[p.type] = p.value
  return out as unknown as Parts
}

/** dateTime is ISO 8601 for people: "2026-11-21 14:03:12". zone is an IANA name; undefined is the browser's. */
export function dateTime(t: number, zone?: string): string {
  const p = parts(t, zone)
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}`
}

/** clock is the time of day, "14:03:12". */
export function clock(t: number, zone?: string): string {
  const p = parts(t, zone)
  return `${p.hour}:${p.minute}:${p.second}`
}

/** shortTime is the time of day today, and day and time before: "14:03", "11-20 14:03". */
export function shortTime(t: number, now: number, zone?: string): string {
  const p = parts(t, zone)
  const n = parts(now, zone)
  const sameDay = p.year === n.year && p.month === n.month && p.day === n.day
  return `${sameDay ? '' : `${p.month}-${p.day} `}${p.hour}:${p.minute}`
}

/** toLocalInput is the value of an input of type datetime-local, in the browser's zone. */
export function toLocalInput(t: number): string {
  return dateTime(t).replace(' ', 'T').slice(0, 16)
}
