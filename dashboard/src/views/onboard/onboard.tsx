// A new device: make it, hand over its token, watch it arrive.

import { useState } from 'preact/hooks'
import { CurlButton } from '../../components/copy'
import { Empty } from '../../components/empty'
import { useTitle } from '../../lib/hooks'
import { idFrom, validID } from '../../lib/ids'
import type { Kind } from '../../lib/types'
import { isAdmin } from '../../state/session'
import { Arrival } from './arrival'
import { Credential } from './credential'
import { Discovered } from './discovered'
import { IDField, KindsField, LIGHTS, lightOf, toKinds, useCreate, type Created } from './fields'

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
  const { submit, note, busy } = useCreate(onCreated)
  const theId = id ?? idFrom(name)
  /** record is the device that the form describes. */
  const record = (form: FormData) => {
    const interval = Number(form.get('interval'))
    const effects = String(form.get('effects') ?? '').split(',').map((s) => s.trim()).filter(Boolean)
    return {
      id: theId, kinds: toKinds(kinds), ...(name.trim() ? { name: name.trim() } : {}), ...(form.get('area') ? { area: String(form.get('area')).trim() } : {}),
      ...(interval > 0 ? { expected_interval_s: interval } : {}),
      ...(kinds.includes('light') ? { light: { ...lightOf(String(form.get('light'))), ...(effects.length ? { effects } : {}) } } : {}),
    }
  }
  return (
    <form class="card form-grid" onSubmit={submit(record)}>
      <div class="field"><label for="new-name">Name</label><input id="new-name" name="name" maxLength={80} value={name} onInput={(e) => setName(e.currentTarget.value)} placeholder="Kitchen lamp" autoComplete="off" /></div>
      <IDField value={theId} onInput={setId} />
      <KindsField kinds={kinds} onChange={setKinds} />
      <div class="field"><label for="new-area">Area</label><input id="new-area" name="area" placeholder="kitchen" autoComplete="off" /></div>
      {kinds.includes('sensor') && <div class="field"><label for="new-interval">Expected interval</label><input id="new-interval" name="interval" type="number" min="0" step="any" inputMode="decimal" placeholder="60" /><span class="hint">Seconds between readings; empty: learned.</span></div>}
      {kinds.includes('light') && <div class="field"><label for="new-light">The light can</label><select id="new-light" name="light">{LIGHTS.map((l) => <option key={l.value} value={l.value}>{l.label}</option>)}</select></div>}
      {kinds.includes('light') && <div class="field"><label for="new-effects">Effects</label><input id="new-effects" name="effects" placeholder="candle, rainbow" autoComplete="off" /><span class="hint">Separated by commas.</span></div>}
      <div class="wide">
        {note}
        <div class="actions"><CurlButton call={(form) => ({ method: 'POST', path: '/devices', body: record(form) })} /><button type="submit" class="button primary" disabled={busy || !validID(theId) || kinds.length === 0}>Create the device</button></div>
      </div>
    </form>
  )
}
