// Any object of the API as names and values, its times, durations and sizes in words.

import type { ComponentChildren } from 'preact'
import { bytes, capital } from '../lib/format'
import { duration } from '../lib/time'
import { Moment } from './age'

function word(key: string, v: unknown): ComponentChildren {
  if (v === null || v === undefined || v === '') return <span class="muted">–</span>
  if (typeof v === 'boolean') return v ? 'yes' : 'no'
  if (typeof v === 'number') {
    if (key.endsWith('_ms')) return duration(v)
    if (key.endsWith('_bytes') || key === 'bytes') return bytes(v)
    if (key.endsWith('_s')) return duration(v * 1000)
    if (v > 1e12 && v < 1e13) return <Moment t={v} /> // milliseconds of these decades; nothing else counts so far
    return v < 10_000 ? String(v) : v.toLocaleString('en').replace(/,/g, '\u202f')
  }
  if (Array.isArray(v)) return v.length === 0 ? <span class="muted">none</span> : v.every((x) => typeof x !== 'object') ? v.join(', ') : <ul class="nested">{v.map((x, i) => <li key={i}><Properties of={x as object} /></li>)}</ul>
  if (typeof v === 'object') return <Properties of={v} />
  return String(v)
}

const TITLES: Record<string, string> = { websockets: 'WebSockets', longpolls: 'Long-polls', url: 'URL', mqtt: 'MQTT', looped: 'Own messages that came back', unsent: 'Not sent, as the broker was away', foreign: 'Of devices that are not this bridge’s', redelivered: 'Known, when it came again after a connection broke', slowed: 'Waited for the bridge’s rate', dropped: 'Dropped at QoS 0, for want of room' }

const title = (key: string) => {
  if (TITLES[key]) return TITLES[key]
  const words = key.replace(/_(at|ms|s|bytes)$/, '').replace(/_/g, ' ')
  return capital(words)
}

export function Properties({ of, except = [] }: { of: object; except?: string[] }) {
  const entries = Object.entries(of).filter(([k]) => !except.includes(k))
  return <dl class="properties">{entries.map(([k, v]) => <div key={k}><dt>{title(k)}</dt><dd>{word(k, v)}</dd></div>)}</dl>
}
