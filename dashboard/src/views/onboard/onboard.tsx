// A new device: make it, hand over its token, watch it arrive.

import { useState } from 'preact/hooks'
import { CurlButton } from '../../components/copy'
import { Empty } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { useTitle } from '../../lib/hooks'
import type { Device, Kind, LightMode } from '../../lib/types'
import { asError, post, type ApiError } from '../../state/api'
import { isAdmin } from '../../state/session'
import { Arrival } from './arrival'
import { Credential } from './credential'
import { Discovered } from './discovered'

interface Created { device: Device; token: string; expires_at?: number }

const LIGHTS: { value: string; label: string; modes: LightMode[] }[] = [
  { value: 'colour', label: 'Colour and white', modes: ['rgb', 'color_temp'] },
  { value: 'rgb', label: 'Colour', modes: ['rgb'] },
  { value: 'white', label: 'White temperature', modes: ['color_temp'] },
  { value: 'brightness', label: 'Dimmable', modes: ['brightness'] },
  { value: 'onoff', label: 'On and off', modes: ['onoff'] },
]

/** idFrom makes an id out of a name: "Kitchen lamp" is kitchen-lamp. */
export function idFrom(name: string): string {
  return name.normalize('NFKD').toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 63).replace(/-+$/, '')
}

export function OnboardPage() {
  useTitle('Onboard')
  const [created, setCreated] = useState<Created>()
  if (!isAdmin.value) {
    return <div class="page"><h1>Onboard</h1><Empty title="Only administrators add devices."><p class="muted">Ask one, or sign in as one.</p></Empty></div>
  }
  return (
    <div class="page">
      <header class="page-head">
        <h1>{created ? created.device.name || created.device.id : 'Add a device'}</h1>
        {created && <><a class="button" href={`/devices/${created.device.id}`}>Open its page</a><button type="button" class="button primary" onClick={() => setCreated(undefined)}>Add another</button></>}
      </header>
      {created
        ? <><Arrival id={created.device.id} kinds={created.device.kinds} /><Credential id={created.device.id} kinds={created.device.kinds} issued={created} /></>
        : <><NewDevice onCreated={setCreated} /><Discovered onCreated={setCreated} /></>}
    </div>
  )
}

function NewDevice({ onCreated }: { onCreated: (c: Created) => void }) {
  const [name, setName] = useState('')
  const [id, setId] = useState<string>()
  const [kinds, setKinds] = useState<Kind[]>(['sensor'])
  const [error, setError] = useState<ApiError>()
  const [busy, setBusy] = useState(false)
  const theId = id ?? idFrom(name)
  const valid = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(theId)
  const toggle = (k: Kind) => setKinds(kinds.includes(k) ? kinds.filter((x) => x !== k) : [...kinds, k])
  /** record is the device that the form describes. */
  const record = (form: FormData) => {
    const interval = Number(form.get('interval'))
    const light = LIGHTS.find((l) => l.value === form.get('light'))
    const effects = String(form.get('effects') ?? '').split(',').map((s) => s.trim()).filter(Boolean)
    return {
      id: theId, kinds: [...kinds].sort().reverse(), ...(name.trim() ? { name: name.trim() } : {}), ...(form.get('area') ? { area: String(form.get('area')).trim() } : {}),
      ...(interval > 0 ? { expected_interval_s: interval } : {}),
      ...(kinds.includes('light') && light ? { light: { modes: light.modes, ...(effects.length ? { effects } : {}) } } : {}),
    }
  }
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    setBusy(true)
    setError(undefined)
    try {
      onCreated(await post<Created>('/devices', record(new FormData(e.currentTarget as HTMLFormElement))))
    } catch (err) {
      setError(asError(err))
      setBusy(false)
    }
  }
  return (
    <form class="card form-grid" onSubmit={submit}>
      <div class="field"><label for="new-name">Name</label><input id="new-name" name="name" maxLength={80} value={name} onInput={(e) => setName(e.currentTarget.value)} placeholder="Kitchen lamp" autoComplete="off" /></div>
      <div class="field">
        <label for="new-id">Id</label>
        <input id="new-id" name="id" required value={theId} maxLength={63} onInput={(e) => setId(e.currentTarget.value)} placeholder="kitchen-lamp" autoComplete="off" autoCapitalize="none" spellcheck={false} aria-describedby="new-id-hint" aria-invalid={theId !== '' && !valid} />
        <span id="new-id-hint" class="hint">Small letters, digits and hyphens. It never changes.</span>
      </div>
      <fieldset class="field"><legend>It is a</legend>
        <div class="checks">
          <label class="check"><input type="checkbox" checked={kinds.includes('sensor')} onChange={() => toggle('sensor')} />Sensor</label>
          <label class="check"><input type="checkbox" checked={kinds.includes('light')} onChange={() => toggle('light')} />Light</label>
        </div>
      </fieldset>
      <div class="field"><label for="new-area">Area</label><input id="new-area" name="area" placeholder="kitchen" autoComplete="off" /></div>
      {kinds.includes('sensor') && <div class="field"><label for="new-interval">Expected interval</label><input id="new-interval" name="interval" type="number" min="0" step="any" inputMode="decimal" placeholder="60" /><span class="hint">Seconds between readings; empty: learned.</span></div>}
      {kinds.includes('light') && <div class="field"><label for="new-light">The light can</label><select id="new-light" name="light">{LIGHTS.map((l) => <option key={l.value} value={l.value}>{l.label}</option>)}</select></div>}
      {kinds.includes('light') && <div class="field"><label for="new-effects">Effects</label><input id="new-effects" name="effects" placeholder="candle, rainbow" autoComplete="off" /><span class="hint">Separated by commas.</span></div>}
      <div class="wide">
        <ErrorNote error={error} />
        <div class="actions"><CurlButton call={(form) => ({ method: 'POST', path: '/devices', body: record(form) })} /><button type="submit" class="button primary" disabled={busy || !valid || kinds.length === 0}>Create the device</button></div>
      </div>
    </form>
  )
}
