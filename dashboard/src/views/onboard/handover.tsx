// What the QR code of a new token opens, on the device or phone that scans it: the token and ways
// to use it. All of it stands in the fragment of the address, which no browser sends anywhere.

import { Credential } from './credential'
import type { Kind } from '../../lib/types'
import { useTitle } from '../../lib/hooks'
import { Empty } from '../../components/empty'

export function HandoverPage() {
  useTitle('A device’s token')
  const q = new URLSearchParams(location.hash.slice(1))
  const [id, token] = [q.get('id'), q.get('token')]
  const kind: Kind = q.get('kind') === 'light' ? 'light' : 'sensor'
  return (
    <main class="page">
      {id && token
        ? <><header class="page-head"><h1>{id}</h1></header><Credential id={id} kinds={[kind]} issued={{ token }} handedOver /></>
        : <Empty title="This address holds no token."><p><a href="/">Go to the hub</a></p></Empty>}
    </main>
  )
}
