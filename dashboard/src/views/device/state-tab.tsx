// The shadow: what is wanted beside what is reported, and where they differ.

import { useEffect, useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { CopyButton } from '../../components/copy'
import { Empty } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { asError, patch, type ApiError } from '../../state/api'
import { now } from '../../state/clock'
import type { DeviceLive } from '../../state/device'
import { isOperator } from '../../state/session'
import { duration } from '../../lib/time'
import type { Shadow } from '../../lib/types'

const META = new Set(['ver', 't', 'by', 'cmd', 'cause', 'transitioning', 'target'])
const text = (v: unknown) => (v === undefined || v === null ? '' : typeof v === 'object' ? JSON.stringify(v) : String(v))

export function StateTab({ device }: { device: DeviceLive }) {
  const [error, setError] = useState<ApiError>()
  const ver = device.light.value?.ver
  const load = () => device.refreshShadow().then(() => setError(undefined), (e) => setError(asError(e)))
  useEffect(() => { void load() }, [ver, device.commandsChanged.value])
  const s = device.shadow.value
  if (!s) return <><ErrorNote error={error} retry={() => void load()} />{!error && <Empty title="No state yet."><p class="muted">The light reports it when it first connects.</p></Empty>}</>
  const reported: Record<string, unknown> = { ...s.reported }
  const fields = [...new Set([...Object.keys(s.desired ?? {}), ...Object.keys(reported)])].filter((f) => !META.has(f) && (text(reported[f]) !== '' || s.desired?.[f] !== undefined))
  const forget = async (field: string) => {
    try {
      device.setShadow(await patch<Shadow>(`/devices/${device.id}/shadow`, { desired: { [field]: null } }))
    } catch (e) {
      setError(asError(e))
    }
  }
  return (
    <>
      <ErrorNote error={error} />
      <TableScroll label="State">
        <table class="table">
          <thead><tr><th scope="col">Field</th><th scope="col">Reported</th><th scope="col">Desired</th><th scope="col">By</th><th scope="col">Until</th><th scope="col"><span class="visually-hidden">Action</span></th></tr></thead>
          <tbody>
            {fields.map((f) => {
              const meta = s.desired_meta?.[f]
              const differs = s.delta !== undefined && f in s.delta
              return (
                <tr key={f} class={differs ? 'differs' : ''}>
                  <th scope="row">{f}{differs && <span class="tag">differs</span>}</th>
                  <td><code>{text(reported[f])}</code>{s.reported_meta?.[f] && <span class="muted small"> {s.reported_meta[f]!.cause} <Age t={s.reported_meta[f]!.at} /></span>}</td>
                  <td>{s.desired?.[f] !== undefined && <code>{text(s.desired[f])}</code>}</td>
                  <td class="muted">{meta?.by?.replace(/^user:/, '')}</td>
                  <td class="muted num">{meta?.until ? (meta.until > now.value ? `${duration(meta.until - now.value)} more` : 'over') : ''}</td>
                  <td>{s.desired?.[f] !== undefined && isOperator.value && <button type="button" class="button small quiet-button" onClick={() => void forget(f)}>Forget</button>}</td>
                </tr>
              )
            })}
          </tbody>
        </table>
      </TableScroll>
      <div class="actions start"><span class="muted small">Version {s.ver}, policy {device.record.value?.shadow_policy}</span><CopyButton label="Copy JSON" text={() => JSON.stringify(s, null, 2)} /></div>
    </>
  )
}
