// A device's credential: replaced with time to spare, or ended at once.

import { useState } from 'preact/hooks'
import { Age, Moment } from '../../components/age'
import { Hint } from '../../components/hint'
import { CurlButton } from '../../components/copy'
import { Confirm } from '../../components/dialog'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { asError, del, get, type ApiError } from '../../state/api'
import { useLoad, usePost } from '../../lib/hooks'
import { note } from '../../state/announce'
import type { DeviceLive } from '../../state/device'
import { Credential } from '../onboard/credential'

export interface IssuedToken { token: string; gen?: number; expires_at?: number }

interface Known {
  gen: number; min_gen: number; graces: { below: number; until: number }[]
  generations: { gen: number; last_used_at?: number }[]
  tokens: { jti: string; gen: number; form: string; issued_at: number; expires_at?: number; last4: string; good: boolean }[]
}

export function TokenTab({ device }: { device: DeviceLive }) {
  const [issued, setIssued] = useState<IssuedToken>()
  const [error, setError] = useState<ApiError>()
  const [revoking, setRevoking] = useState(false)
  const known = useLoad(`tokens ${device.id}`, (signal) => get<Known>(`/devices/${device.id}/tokens`, undefined, signal))
  const issue = usePost<IssuedToken>(`/devices/${device.id}/tokens`)
  const make = async (mode: 'rotate' | 'issue') => {
    setError(undefined)
    try {
      setIssued(await issue({ mode, ...(known.data ? { if_gen: known.data.gen } : {}) }))
      known.reload()
    } catch (e) {
      const err = asError(e)
      setError(err)
      if (err.code === 'version_conflict') known.reload() // somebody else made one meanwhile
    }
  }
  return (
    <div class="stack">
      <div class="choices">
        <div class="choice"><h3>Rotate <Hint term="rotate" /></h3><div><p class="muted">A token of the next generation. The present one works for 7 more days, or until the new one has been used on two boots.</p>{known.data && <Generations known={known.data} />}</div><div class="choice-actions"><button type="button" class="button" onClick={() => void make('rotate')}>Rotate the token</button><CurlButton call={{ method: 'POST', path: `/devices/${device.id}/tokens`, body: { mode: 'rotate' } }} /></div></div>
        <div class="choice"><h3>Issue</h3><p class="muted">One more token of the present generation, for a device that is set up again.</p><div class="choice-actions"><button type="button" class="button" onClick={() => void make('issue')}>Issue a token</button><CurlButton call={{ method: 'POST', path: `/devices/${device.id}/tokens`, body: { mode: 'issue' } }} /></div></div>
        <div class="choice"><h3>Revoke</h3><p class="muted">Ends every token of this device, and its connections, within a second.</p><div class="choice-actions"><button type="button" class="button danger" onClick={() => setRevoking(true)}>Revoke all tokens</button></div></div>
      </div>
      <ErrorNote error={error} />
      {issued && <Credential id={device.id} kinds={device.record.value!.kinds} issued={issued} />}
      {known.data && known.data.tokens.length > 0 && <KnownTokens known={known.data} />}
      {revoking && (
        <Confirm title="Revoke all tokens" action="Revoke" typed={device.id} call={{ method: 'DELETE', path: `/devices/${device.id}/tokens` }} onClose={() => setRevoking(false)}
          text={<>The device is disconnected at once and needs a new token to come back.</>}
          run={async () => {
            await del(`/devices/${device.id}/tokens`)
            setIssued(undefined)
            known.reload()
            note(`All tokens of ${device.id} are revoked`, 'good')
          }} />
      )}
    </div>
  )
}

function Generations({ known }: { known: Known }) {
  return (
    <ul aria-label="Generations">
      {known.generations.map((g) => (
        <li key={g.gen}>Generation {g.gen}{g.gen === known.gen ? ' (present)' : ''}{g.gen < known.min_gen ? ' (ended)' : ''}: {g.last_used_at ? <>last used <Age t={g.last_used_at} /></> : 'never used'}</li>
      ))}
    </ul>
  )
}

function KnownTokens({ known }: { known: Known }) {
  const grace = (gen: number) => known.graces.find((g) => gen < g.below)?.until
  return (
    <TableScroll label="Tokens" card>
      <table class="table">
        <thead><tr><th scope="col">Token</th><th scope="col">Generation</th><th scope="col">Issued</th><th scope="col">Expires</th><th scope="col">State</th></tr></thead>
        <tbody>
          {known.tokens.map((t) => (
            <tr key={t.jti}>
              <th scope="row"><code>…{t.last4}</code> <span class="muted">{t.form}</span></th>
              <td class="num">{t.gen}{t.gen === known.gen ? ' (present)' : ''}</td>
              <td><Moment t={t.issued_at} /></td>
              <td>{t.expires_at ? <Moment t={t.expires_at} /> : <span class="muted">never</span>}</td>
              <td>{!t.good ? <span class="tag bad">ended</span> : grace(t.gen) ? <span class="muted">good until <Moment t={grace(t.gen)} /></span> : <span class="tag good">good</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableScroll>
  )
}
