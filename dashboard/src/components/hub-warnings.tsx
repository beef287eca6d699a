// What is wrong with the hub itself, for administrators: it doubts its own clock
// (devices/README.md#times), which they can say is right; or a proxy that it was not told of passes
// requests on.

import { useEffect, useState } from 'preact/hooks'
import { note } from '../state/announce'
import { asError, get, post } from '../state/api'
import { isAdmin } from '../state/session'

interface Node { clock?: { suspect?: boolean; reason?: string }; unknown_proxies?: string[] }

const LOOK_MS = 60_000

export function HubWarnings() {
  const [reason, setReason] = useState<string>()
  const [proxies, setProxies] = useState<string[]>([])
  const admin = isAdmin.value
  useEffect(() => {
    setReason(undefined)
    setProxies([])
    if (!admin) return
    const look = () => {
      if (document.visibilityState === 'hidden') return
      get<{ nodes: Node[] | null }>('/nodes').then((r) => {
        const node = r.nodes?.find((n) => n.clock?.suspect)
        setReason(node ? (node.clock!.reason ?? '') : undefined)
        setProxies([...new Set(r.nodes?.flatMap((n) => n.unknown_proxies ?? []))])
      }, () => { /* the connection has its own banner */ })
    }
    look()
    const t = setInterval(look, LOOK_MS)
    return () => clearInterval(t)
  }, [admin])
  const accept = () => post('/clock/accept').then(() => { setReason(undefined); note('The hub’s clock is taken as right', 'good') }, (e) => note(asError(e).reason, 'bad'))
  return (
    <>
      {reason !== undefined && (
        <div class="warning" role="alert">
          <p><strong>The hub’s clock is in doubt</strong>{reason === 'behind' ? ': it is behind what was recorded before.' : reason === 'stepped' ? ': it has jumped.' : '.'} Tokens do not expire and old readings are not removed until it is settled.</p>
          <button type="button" class="button small" onClick={() => void accept()}>The clock is right</button>
        </div>
      )}
      {proxies.length > 0 && (
        <div class="warning" role="alert">
          <p><strong>The hub was not told of a proxy</strong> at {proxies.join(', ')}. It cannot tell who comes through it: everybody there shares one limit of sign-ins, and over plain HTTP nobody can sign in. If the proxy is yours, name it in <code>http.trusted_proxies</code>.</p>
        </div>
      )}
    </>
  )
}
