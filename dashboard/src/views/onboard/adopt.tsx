// Taking in a device that an adapter has met: its name, id, area and kinds, and what it will measure.

import { useState } from 'preact/hooks'
import { CurlButton } from '../../components/copy'
import { Dialog } from '../../components/dialog'
import { metricTitle } from '../../lib/format'
import { idFrom, validID } from '../../lib/ids'
import type { Device, Kind, LightCaps } from '../../lib/types'
import { IDField, KindsField, LIGHTS, lightOf, toKinds, useCreate, type Created } from './fields'

/** Discovery is a device that an adapter has met. */
export interface Discovery { adopt: string; bridge: string; seen_at: number; device?: Partial<Device> }

const MODES: Record<string, string> = { onoff: 'on and off', brightness: 'brightness', color_temp: 'white temperature', white: 'white', hs: 'colour', xy: 'colour', rgb: 'colour', rgbw: 'colour', rgbww: 'colour' }

/** can says in words what a light can do. */
const can = (caps: LightCaps): string => [...new Set(caps.modes.map((m) => MODES[m] ?? m))].join(', ') + (caps.effects?.length ? `, ${caps.effects.length} effects` : '')

export function AdoptDialog({ met, onCreated, onClose }: { met: Discovery; onCreated: (c: Created) => void; onClose: () => void }) {
  const known = met.device ?? {}
  const [name, setName] = useState(known.name ?? '')
  const [id, setID] = useState<string>()
  const [area, setArea] = useState(known.area ?? '')
  const [kinds, setKinds] = useState<Kind[]>(toKinds(known.kinds ?? ['sensor']))
  const [light, setLight] = useState('onoff')
  const { submit, note, busy } = useCreate(onCreated)
  const theID = id ?? (known.id || idFrom(name) || idFrom(met.adopt))
  const asksLight = kinds.includes('light') && !known.light
  const record = () => ({
    id: theID, adopt: met.adopt, kinds: toKinds(kinds), ...(name.trim() ? { name: name.trim() } : {}), ...(area.trim() ? { area: area.trim() } : {}),
    ...(asksLight ? { light: lightOf(light) } : {}),
  })
  return (
    <Dialog title={`Adopt ${known.name || met.adopt}`} onClose={onClose}>
      <form class="stack" onSubmit={submit(record)}>
        <div class="field"><label for="adopt-name">Name</label><input id="adopt-name" maxLength={80} value={name} onInput={(e) => setName(e.currentTarget.value)} autoComplete="off" /></div>
        <IDField value={theID} onInput={setID} />
        <div class="field"><label for="adopt-area">Area</label><input id="adopt-area" value={area} onInput={(e) => setArea(e.currentTarget.value)} placeholder="kitchen" autoComplete="off" /></div>
        <KindsField kinds={kinds} onChange={setKinds} />
        {asksLight && <div class="field"><label for="adopt-light">The light can</label><select id="adopt-light" value={light} onChange={(e) => setLight(e.currentTarget.value)}>{LIGHTS.map((l) => <option key={l.value} value={l.value}>{l.label}</option>)}</select></div>}
        <dl class="facts">
          <div><dt>Measures</dt><dd>{known.metrics?.length ? known.metrics.map((m) => `${metricTitle(m.name)}${m.unit ? ` (${m.unit})` : ''}`).join(', ') : 'Whatever it sends: its metrics are listed as they come.'}</dd></div>
          {known.light && <div><dt>Light</dt><dd>{can(known.light)}</dd></div>}
          <div><dt>Arrives</dt><dd>via {met.bridge}, as <code>{met.adopt}</code></dd></div>
        </dl>
        {note}
        <div class="actions">
          <CurlButton call={() => ({ method: 'POST', path: '/devices', body: record() })} />
          <span class="spring" />
          <button type="button" class="button" onClick={onClose}>Cancel</button>
          <button type="submit" class="button primary" disabled={busy || !validID(theID) || kinds.length === 0}>Adopt</button>
        </div>
      </form>
    </Dialog>
  )
}
