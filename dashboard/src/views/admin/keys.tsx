// The keys that sign device tokens.

import { useState } from 'preact/hooks'
import { Moment } from '../../components/age'
import { Confirm } from '../../components/dialog'
import { Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { TableScroll } from '../../components/table'
import { useLoad } from '../../lib/hooks'
import { note } from '../../state/announce'
import { del, get, post } from '../../state/api'

interface Key { kid: string; state: string; created_at: number; retired_at?: number; revoked_at?: number; until?: number }

const MEANING: Record<string, string> = { active: 'signs new tokens', verifying: 'still accepted', revoked: 'no longer accepted' }

export function Keys() {
  const { data, error, reload } = useLoad('keys', (signal) => get<{ keys: Key[] }>('/keys', undefined, signal))
  const [rotating, setRotating] = useState(false)
  const [revoking, setRevoking] = useState<Key>()
  if (!data) return error ? <ErrorNote error={error} retry={reload} /> : <Loading what="keys" />
  return (
    <div class="stack">
      <div class="actions start"><button type="button" class="button" onClick={() => setRotating(true)}>Make a new key</button></div>
      <TableScroll label="Signing keys" card>
        <table class="table">
          <thead><tr><th scope="col">Key</th><th scope="col">State</th><th scope="col">Made</th><th scope="col">Verifies until</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {(data.keys ?? []).map((k) => (
              <tr key={k.kid}>
                <th scope="row"><code>{k.kid}</code></th>
                <td><span class={k.state === 'active' ? 'tag good' : k.state === 'revoked' ? 'tag bad' : 'tag'}>{k.state}</span> <span class="muted">{MEANING[k.state]}</span></td>
                <td><Moment t={k.created_at} /></td>
                <td>{k.revoked_at ? <Moment t={k.revoked_at} /> : k.until ? <Moment t={k.until} /> : <span class="muted">–</span>}</td>
                <td class="row-actions">{k.state !== 'revoked' && <button type="button" class="button small" onClick={() => setRevoking(k)}>Revoke</button>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </TableScroll>
      {rotating && <Confirm title="Make a new key" action="Make it" call={{ method: 'POST', path: '/keys' }} text="New tokens are signed with it. Tokens under the old key stay good." onClose={() => setRotating(false)} run={async () => { await post('/keys'); note('A new key signs from now on', 'good'); reload() }} />}
      {revoking && (
        <Confirm title={`Revoke ${revoking.kid}`} action="Revoke" call={{ method: 'DELETE', path: `/keys/${encodeURIComponent(revoking.kid)}` }} typed={revoking.kid} text="Every token under this key ends at once; those devices need new tokens to come back." onClose={() => setRevoking(undefined)}
          run={async () => { const r = await del<{ stranded?: number } | undefined>(`/keys/${encodeURIComponent(revoking.kid)}`); note(`${revoking.kid} is revoked${r?.stranded !== undefined ? `; ${r.stranded} devices need a new token` : ''}`, 'good'); reload() }} />
      )}
    </div>
  )
}
