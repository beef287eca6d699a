// Watching a new device arrive: waiting, connected, first word.

import { useEffect, useState } from 'preact/hooks'
import { CheckIcon } from '../../components/icons'
import { metricOrder, metricTitle, valueWords } from '../../lib/format'
import { stateText } from '../../lib/light'
import { transportText } from '../../lib/status'
import type { Kind } from '../../lib/types'
import { say } from '../../state/announce'
import { DeviceLive } from '../../state/device'

export function Arrival({ id, kinds }: { id: string; kinds: Kind[] }) {
  const [device, setDevice] = useState<DeviceLive>()
  useEffect(() => {
    const d = new DeviceLive(id)
    setDevice(d)
    return () => d.close()
  }, [id])
  if (!device) return null
  return <Steps device={device} kinds={kinds} />
}

function Steps({ device, kinds }: { device: DeviceLive; kinds: Kind[] }) {
  const status = device.status.value
  const latest = device.latest.value
  const metric = metricOrder(latest)[0]
  const light = device.light.value
  const first = metric ? `${metricTitle(metric)} ${valueWords(metric, latest[metric]!.v, latest[metric]!.u)}` : kinds.includes('light') && light?.on !== undefined && light.on !== null ? stateText(light) : ''
  const connected = status !== undefined && status.state !== 'never_seen'
  useEffect(() => { if (connected) say(`${device.id} connected`) }, [connected])
  useEffect(() => { if (first) say(`First word of ${device.id}: ${first}`) }, [!!first])
  const way = transportText(device.connection.value?.transport ?? status?.transport)
  const steps = [
    { done: true, text: 'Registered' },
    { done: connected, text: connected ? `Connected${way ? ` over ${way}` : ''}` : 'Waiting for it to connect…' },
    { done: !!first, text: first ? `${kinds.includes('sensor') ? 'First reading' : 'First report'}: ${first}` : kinds.includes('sensor') ? 'First reading' : 'First report' },
  ]
  const current = steps.findIndex((s) => !s.done)
  return (
    <ol class="arrival card" aria-label="Arrival">
      {steps.map((s, i) => (
        <li key={i} class={s.done ? 'done' : i === current ? 'current' : ''}>
          <span class="step-mark" aria-hidden="true">{s.done ? <CheckIcon /> : i === current ? <span class="spinner" /> : null}</span>
          {s.text}
        </li>
      ))}
    </ol>
  )
}
