// The record of a device, as far as it is changed by hand.

import { useRef, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { Conflict } from '../../components/conflict'
import { CurlButton } from '../../components/copy'
import { Confirm } from '../../components/dialog'
import { ErrorNote } from '../../components/error'
import { del } from '../../state/api'
import { note } from '../../state/announce'
import type { DeviceLive } from '../../state/device'
import { useEdit } from '../../lib/edit'
import type { Device } from '../../lib/types'
import { formatLabels, parseLabels } from '../../lib/labels'

const UNDECLARED = [{ value: 'accept', label: 'Accept' }, { value: 'quarantine', label: 'Keep, do not chart' }, { value: 'reject', label: 'Reject' }]

/** fields are those of a record that the form shows. */
const fields = (d: Device) => ({
  name: d.name, area: d.area ?? '', labels: d.labels ?? {}, notes: d.notes ?? '', enabled: d.enabled !== false, sleepy: !!d.sleepy,
  undeclared: d.undeclared ?? 'quarantine', expected_interval_s: d.expected_interval_s || null,
})

/** wanted is what the form says of them. */
function wanted(form: FormData) {
  const interval = String(form.get('interval')).trim()
  return {
    name: String(form.get('name')).trim(), area: String(form.get('area')).trim(), labels: parseLabels(String(form.get('labels'))) ?? {}, notes: String(form.get('notes')),
    enabled: form.get('enabled') === 'on', sleepy: form.get('sleepy') === 'on', undeclared: String(form.get('undeclared')),
    expected_interval_s: interval ? Number(interval) || null : null,
  }
}

export function SettingsTab({ device }: { device: DeviceLive }) {
  const { route } = useLocation()
  const form = useRef<HTMLFormElement>(null)
  const [problem, setProblem] = useState('')
  const [deleting, setDeleting] = useState(false)
  const edit = useEdit<Device>(`/devices/${device.id}`, device.record.value!, fields, (d) => device.setRecord(d))
  const d = edit.base
  const save = (over = false) => {
    const data = new FormData(form.current!)
    const good = parseLabels(String(data.get('labels'))) !== null
    setProblem(good ? '' : 'Labels are lines of the form key=value.')
    if (good) void edit.save(wanted(data), over)
  }
  return (
    <form class="form-grid" ref={form} onSubmit={(e) => { e.preventDefault(); save() }} onInput={edit.touched} key={d.ver}>
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
        {edit.theirs && <Conflict base={fields(d)} theirs={fields(edit.theirs)} onDiscard={edit.discard} onOverwrite={() => save(true)} />}
        <ErrorNote error={edit.error} />
        <div class="actions"><button type="button" class="button danger" onClick={() => setDeleting(true)}>Delete the device</button><span class="spring" /><CurlButton call={(form) => ({ method: 'PATCH', path: `/devices/${d.id}`, body: edit.change(wanted(form)) })} /><button type="submit" class="button primary" disabled={edit.busy}>Save</button></div>
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
