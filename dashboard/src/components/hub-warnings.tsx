// The hub doubts its own clock (devices/README.md#times): administrators are told, and can
// say that it is right.

import { useEffect, useState } from 'preact/hooks'
import { note } from '../state/announce'
import { asError, get, post } from '../state/api'
import { isAdmin } from '../state/session'

interface Node { clock?: { suspect?: boolean; reason?: string } }

const LOOK_MS = 60_000

export function ClockWarning() {
  const [reason, setReason] = useState<string>()
  const admin = isAdmin.value
  useEffect(() => {
    if (!admin) return setReason(undefined)
    const look = () => {
      if (document.visibilityState === 'hidden') return
      get<{ nodes: Node[] | null }>('/nodes').then((r) => {
        const node = r.nodes?.find((n) => n.clock?.suspect)
        setReason(node ? (node.clock!.reason ?? '') : undefined)
      }, () => { /* the connection has its own banner */ })
    }
    look()
    const t = setInterval(look, LOOK_MS)
    return () => clearInterval(t)
  }, [admin])
  if (reason === undefined) return null
  const accept = () => post('/clock/accept').then(() => { setReason(undefined); note('The hub’s clock is taken as right', 'good') }, (e) => note(asError(e).reason, 'bad'))
  return (
    <div class="warning" role="alert">
      <p><strong>The hub’s clock is in doubt</strong>{reason === 'behind' ? ': it is behind what was recorded before.' : reason === 'stepped' ? ': it has jumped.' : '.'} Tokens do not expire and old readings are not removed until it is settled.</p>
      <button type="button" class="button small" onClick={() => void accept()}>The clock is right</button>
    </div>
  )
}
