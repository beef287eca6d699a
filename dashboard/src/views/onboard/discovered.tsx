// Devices that adapters have met and nobody has taken in yet.

import { useEffect, useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { ErrorNote } from '../../components/error'
import { Hint } from '../../components/hint'
import { useLoad } from '../../lib/hooks'
import { get } from '../../state/api'
import { AdoptDialog, type Discovery } from './adopt'
import type { Created } from './fields'

/** EVERY is how often the list is asked for while the page is open, in ms. */
const EVERY = 5000

export function Discovered({ onCreated }: { onCreated: (c: Created) => void }) {
  const { data, error, reload } = useLoad('discovered', (signal) => get<{ discovered: Discovery[] }>('/discovered', undefined, signal))
  const [chosen, setChosen] = useState<Discovery>()
  useEffect(() => {
    const timer = setInterval(reload, EVERY)
    return () => clearInterval(timer)
  }, [])
  const list = data?.discovered ?? []
  if (list.length === 0) return <ErrorNote error={error} retry={reload} />
  return (
    <section class="stack">
      <h2>Found on your brokers <Hint term="adopt" /></h2>
      <p class="muted">Devices of Zigbee2MQTT, Tasmota and the like that an adapter has met. Adopt one to keep what it says and to control it.</p>
      <ul class="list card">
        {list.map((d) => {
          const name = d.device?.name || d.adopt
          return (
            <li key={d.adopt}>
              <span><strong>{name}</strong> <span class="muted">{[d.device?.manufacturer, d.device?.model].filter(Boolean).join(' ')} via {d.bridge}, seen <Age t={d.seen_at} /></span></span>
              <button type="button" class="button small" aria-label={`Adopt ${name}`} onClick={() => setChosen(d)}>Adopt</button>
            </li>
          )
        })}
      </ul>
      {chosen && <AdoptDialog met={chosen} onCreated={onCreated} onClose={() => setChosen(undefined)} />}
    </section>
  )
}
