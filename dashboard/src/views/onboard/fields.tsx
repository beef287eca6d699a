// What the forms for a new and for a met device share.

import { useId, useRef, useState } from 'preact/hooks'
import { ErrorNote } from '../../components/error'
import { usePost } from '../../lib/hooks'
import { validID } from '../../lib/ids'
import type { Device, Kind, LightCaps } from '../../lib/types'
import { asError, type ApiError } from '../../state/api'

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

/** useCreate makes devices for a form. note tells why none was made, and offers the id of one that was deleted. */
export function useCreate(onCreated: (c: Created) => void) {
  const reuse = useRef(false)
  const [error, setError] = useState<ApiError>()
  const [busy, setBusy] = useState(false)
  const add = usePost<Created>('/devices')
  const submit = (record: (form: FormData) => unknown) => async (e: SubmitEvent) => {
    e.preventDefault()
    const query: Record<string, string> = reuse.current ? { reuse: 'true' } : {}
    reuse.current = false
    setBusy(true)
    setError(undefined)
    try {
      onCreated(await add(record(new FormData(e.currentTarget as HTMLFormElement)), query))
    } catch (err) {
      setError(asError(err))
      setBusy(false)
    }
  }
  const again = (e: MouseEvent) => {
    reuse.current = true
    ;(e.currentTarget as HTMLButtonElement).form!.requestSubmit()
  }
  const deleted = error?.code === 'conflict' && error.details?.until !== undefined
  const note = <ErrorNote error={error}>{deleted && <button type="button" class="button small" onClick={again}>Use the id again</button>}</ErrorNote>
  return { submit, note, busy }
}
