// Devices that adapters have met and nobody has taken in yet.

import { useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { ErrorNote } from '../../components/error'
import { useLoad } from '../../lib/hooks'
import type { Device } from '../../lib/types'
import { asError, get, post, type ApiError } from '../../state/api'
import { idFrom } from './onboard'

interface Discovery { adopt: string; bridge: string; seen_at: number; device?: Partial<Device> }

export function Discovered({ onCreated }: { onCreated: (c: { device: Device; token: string; expires_at?: number }) => void }) {
  const { data } = useLoad('discovered', (signal) => get<{ discovered: Discovery[] }>('/discovered', undefined, signal))
  const [error, setError] = useState<ApiError>()
  const list = data?.discovered ?? []
  if (list.length === 0) return null
  const adopt = async (d: Discovery) => {
    setError(undefined)
    try {
      onCreated(await post('/devices', { id: d.device?.id ?? idFrom(d.device?.name ?? d.adopt), kinds: d.device?.kinds ?? ['sensor'], adopt: d.adopt }))
    } catch (e) {
      setError(asError(e))
    }
  }
  return (
    <section class="stack">
      <h2>Met by adapters</h2>
      <ErrorNote error={error} />
      <ul class="list card">
        {list.map((d) => (
          <li key={d.adopt}>
            <span><strong>{d.device?.name || d.adopt}</strong> <span class="muted">{[d.device?.manufacturer, d.device?.model].filter(Boolean).join(' ')} via {d.bridge}, seen <Age t={d.seen_at} /></span></span>
            <button type="button" class="button small" onClick={() => void adopt(d)}>Adopt</button>
          </li>
        ))}
      </ul>
    </section>
  )
}
