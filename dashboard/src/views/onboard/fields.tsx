// What the forms for a new and for a met device share.

import { useId } from 'preact/hooks'
import { validID } from '../../lib/ids'
import type { Device, Kind, LightCaps } from '../../lib/types'

/** Created is a device that was just made, with the only sight of its token. */
export interface Created { device: Device; token: string; expires_at?: number }

/** LIGHTS are the lights that people tell apart. */
export const LIGHTS: { value: string; label: string; caps: LightCaps }[] = [
  { value: 'colour', label: 'Colour and white', caps: { modes: ['rgb', 'color_temp'] } },
  { value: 'rgb', label: 'Colour', caps: { modes: ['rgb'] } },
  { value: 'white', label: 'White temperature', caps: { modes: ['color_temp'] } },
  { value: 'brightness', label: 'Dimmable', caps: { modes: ['brightness'] } },
  { value: 'onoff', label: 'On and off', caps: { modes: ['onoff'] } },
]

export const lightOf = (value: string): LightCaps => (LIGHTS.find((l) => l.value === value) ?? LIGHTS[0]!).caps

/** toKinds is the kinds in the hub's order, each once. */
export const toKinds = (kinds: Kind[]): Kind[] => (['sensor', 'light'] as const).filter((k) => kinds.includes(k))

export function IDField({ value, onInput }: { value: string; onInput: (id: string) => void }) {
  const id = useId()
  return (
    <div class="field">
      <label for={id}>Id</label>
      <input id={id} name="id" required value={value} maxLength={63} onInput={(e) => onInput(e.currentTarget.value)} placeholder="kitchen-lamp" autoComplete="off" autoCapitalize="none"
        spellcheck={false} aria-describedby={`${id}-hint`} aria-invalid={value !== '' && !validID(value)} />
      <span id={`${id}-hint`} class="hint">Small letters, digits and hyphens. It never changes.</span>
    </div>
  )
}

export function KindsField({ kinds, onChange }: { kinds: Kind[]; onChange: (kinds: Kind[]) => void }) {
  const toggle = (k: Kind) => onChange(kinds.includes(k) ? kinds.filter((x) => x !== k) : [...kinds, k])
  return (
    <fieldset class="field"><legend>It is a</legend>
      <div class="checks">
        <label class="check"><input type="checkbox" checked={kinds.includes('sensor')} onChange={() => toggle('sensor')} />Sensor</label>
        <label class="check"><input type="checkbox" checked={kinds.includes('light')} onChange={() => toggle('light')} />Light</label>
      </div>
    </fieldset>
  )
}
