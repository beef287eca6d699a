// The record of a device, as far as it is changed by hand.

import { useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { CurlButton } from '../../components/copy'
import { Confirm } from '../../components/dialog'
import { ErrorNote } from '../../components/error'
import { asError, del, patch, type ApiError } from '../../state/api'
import { note } from '../../state/announce'
import type { DeviceLive } from '../../state/device'
import type { Device } from '../../lib/types'
import { formatLabels, parseLabels } from '../../lib/labels'

const UNDECLARED = [{ value: 'accept', label: 'Accept' }, { value: 'quarantine', label: 'Keep, do not chart' }, { value: 'reject', label: 'Reject' }]

/** change is what the form asks for. */
function change(form: FormData) {
  const interval = String(form.get('interval')).trim()
  return {
    name: String(form.get('name')).trim(), area: String(form.get('area')).trim(), labels: parseLabels(String(form.get('labels'))) ?? {}, notes: String(form.get('notes')),
    enabled: form.get('enabled') === 'on', sleepy: form.get('sleepy') === 'on', undeclared: String(form.get('undeclared')),
    expected_interval_s: interval ? Number(interval) : null,
  }
}

export function SettingsTab({ device }: { device: DeviceLive }) {
  const d = device.record.value!
  const { route } = useLocation()
  const [error, setError] = useState<ApiError>()
  const [problem, setProblem] = useState('')
  const [busy, setBusy] = useState(false)
  const [deleting, setDeleting] = useState(false)
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    if (!parseLabels(String(form.get('labels')))) return setProblem('Labels are lines of the form key=value.')
    setProblem('')
    setError(undefined)
    setBusy(true)
    try {
      const changed = await patch<Device>(`/devices/${device.id}`, change(form))
      if (changed?.id === device.id) device.record.value = { ...device.record.peek(), ...changed }
      note('Saved', 'good')
    } catch (err) {
      setError(asError(err))
    }
    setBusy(false)
  }
  return (
    <form class="form-grid" onSubmit={submit} key={JSON.stringify([d.name, d.area, d.labels, d.enabled])}>
      <div class="field"><label for="set-name">Name</label><input id="set-name" name="name" maxLength={80} defaultValue={d.name} /></div>
      <div class="field"><label for="set-area">Area</label><input id="set-area" name="area" defaultValue={d.area ?? ''} /></div>
      <div class="field"><label for="set-interval">Expected interval</label><input id="set-interval" name="interval" type="number" min="0" step="any" inputMode="decimal" defaultValue={d.expected_interval_s ? String(d.expected_interval_s) : ''} /><span class="hint">Seconds between readings. Values older than three of them are stale.</span></div>
      <div class="field"><label for="set-undeclared">Undeclared metrics</label><select id="set-undeclared" name="undeclared">{UNDECLARED.map((u) => <option key={u.value} value={u.value} selected={u.value === (d.undeclared ?? 'quarantine')}>{u.label}</option>)}</select></div>
      <div class="field"><label for="set-labels">Labels</label><textarea id="set-labels" name="labels" rows={3} spellcheck={false} defaultValue={formatLabels(d.labels)} /><span class="hint">One a line: floor=1</span></div>
      <div class="field"><label for="set-notes">Notes</label><textarea id="set-notes" name="notes" rows={3} maxLength={4096} defaultValue={d.notes ?? ''} /></div>
      <label class="check"><input type="checkbox" name="enabled" defaultChecked={d.enabled !== false} />Enabled: it may connect</label>
      <label class="check"><input type="checkbox" name="sleepy" defaultChecked={!!d.sleepy} />Sleepy: commands wait for it</label>
      <div class="wide">
        {problem && <p class="bad-text" role="alert">{problem}</p>}
        <ErrorNote error={error} />
        <div class="actions"><button type="button" class="button danger" onClick={() => setDeleting(true)}>Delete the device</button><span class="spring" /><CurlButton call={(form) => ({ method: 'PATCH', path: `/devices/${d.id}`, body: change(form) })} /><button type="submit" class="button primary" disabled={busy}>Save</button></div>
      </div>
      {deleting && (
        <Confirm title="Delete the device" action="Delete" typed={d.id} call={{ method: 'DELETE', path: `/devices/${d.id}` }} onClose={() => setDeleting(false)}
          text={<>It is disconnected, its readings are erased, and its id stays taken for 30 days.</>}
          run={async () => {
            await del(`/devices/${d.id}`)
            note(`${d.id} is deleted`, 'good')
            route('/')
          }} />
      )}
    </form>
  )
}
