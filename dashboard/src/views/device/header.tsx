// Who the device is and how it is connected.

import { Age } from '../../components/age'
import { BackIcon, EyeIcon } from '../../components/icons'
import { StatusBadge } from '../../components/status'
import { Hint } from '../../components/hint'
import { Triad } from '../../components/triad'
import { duration } from '../../lib/time'
import { STATE_MEANING, reasonText, transportText } from '../../lib/status'
import { now } from '../../state/clock'
import type { DeviceLive } from '../../state/device'
import { user } from '../../state/session'

export function DeviceHeader({ device }: { device: DeviceLive }) {
  const d = device.record.value!
  const s = device.status.value
  const c = device.connection.value
  const others = device.watchers.value.filter((w) => w.name !== user.value?.name)
  const facts: [string, preact.ComponentChildren][] = []
  const transport = transportText(c?.transport ?? s?.transport)
  if (transport && s?.link === 'up') facts.push(['Connection', `${transport}${c?.node ? ` on ${c.node}` : ''}`])
  if (s?.rtt_ms !== undefined && s.rtt_ms !== null) facts.push(['Round trip', `${s.rtt_ms} ms`])
  if (d.clock_offset_ms !== undefined && Math.abs(d.clock_offset_ms) >= 1000) facts.push(d.clock_offset_ms > 0 ? ['Clock', `${duration(d.clock_offset_ms)} ahead`] : ['Clock', `up to ${duration(-d.clock_offset_ms)} behind, or its readings come that late`])
  if (d.area) facts.push(['Area', d.area])
  if (d.fw || c?.fw) facts.push(['Firmware', d.fw ?? c?.fw])
  if (d.model) facts.push(['Model', [d.manufacturer, d.model].filter(Boolean).join(' ')])
  if (d.via && d.via !== 'direct') facts.push(['Via', d.via])
  return (
    <header class="device-head">
      <a class="back" href="/"><BackIcon />Fleet</a>
      <div class="device-title">
        <h1>{d.name || d.id}</h1>
        {d.name && d.name !== d.id && <code class="device-id">{d.id}</code>}
        {d.enabled === false && <span class="tag bad">disabled</span>}
      </div>
      <p class="device-status" title={s ? STATE_MEANING[s.state] : ''}>
        <StatusBadge status={s} compact />
        {s?.since && now.value - s.since >= 2000 ? <span class="muted">for <Age t={s.since} short labels={d.labels} /></span> : null}
        {s?.reason && <span class="muted">· {reasonText(s.reason)}</span>}
        {others.length > 0 && <span class="watchers" title={`Also watching: ${others.map((w) => w.name).join(', ')}`}><EyeIcon />{others.map((w) => w.name).join(', ')}</span>}
      </p>
      {s && <div class="triad-line"><Triad status={s} kinds={d.kinds} /><Hint term="status" /></div>}
      {facts.length > 0 && <dl class="facts">{facts.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>}
    </header>
  )
}
