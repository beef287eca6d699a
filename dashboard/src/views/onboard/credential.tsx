// A token, shown once: as a code for a camera and as lines for a shell.

import { useState } from 'preact/hooks'
import { Code, CopyButton } from '../../components/copy'
import { QRCode } from '../../components/qr'
import { Segments } from '../../components/tabs'
import { handoverURL } from '../../lib/handover'
import { useLoad } from '../../lib/hooks'
import { snippets, type MQTTWays } from '../../lib/snippets'
import { dateTime } from '../../lib/time'
import type { Kind } from '../../lib/types'
import { get } from '../../state/api'
import { zoneName } from '../../state/prefs'

interface Issued { token: string; gen?: number; expires_at?: number; grace_until?: number }

/** handedOver shows a token that came by its QR code, to somebody who may not be signed in. */
export function Credential({ id, kinds, issued, handedOver }: { id: string; kinds: Kind[]; issued: Issued; handedOver?: boolean }) {
  const kind: Kind = kinds.includes('light') ? 'light' : 'sensor'
  const nodes = useLoad('nodes', (signal) => handedOver ? Promise.resolve({ nodes: [] }) : get<{ nodes: { mqtt?: MQTTWays }[] }>('/nodes', undefined, signal))
  const mqtt = nodes.data?.nodes.find((n) => n.mqtt)?.mqtt ?? { root: '' }
  const ways = snippets({ id, kind, token: issued.token, origin: location.origin, mqtt })
  const [way, setWay] = useState(ways[0]!.name)
  const shown = ways.find((w) => w.name === way) ?? ways[0]!
  return (
    <section class="credential card" aria-label="Token">
      {!handedOver && (
        <div class="credential-qr">
          <QRCode text={handoverURL(location.origin, id, kind, issued.token)} label={`QR code with the address of the hub, the id ${id} and its token`} />
          <p class="muted small">Scan it to open the token and these lines on a phone. Whoever has the picture has the token.</p>
        </div>
      )}
      <div class="credential-text stack">
        <div>
          <h3>Token</h3>
          <p class="muted small">{handedOver ? 'Copy it to the device.' : <>Shown only now.{issued.expires_at ? ` Good until ${dateTime(issued.expires_at, zoneName())}.` : ' It does not expire.'}{issued.grace_until ? ` The one before it works until ${dateTime(issued.grace_until, zoneName())}.` : ''}</>}</p>
          <div class="token-line"><code>{issued.token}</code><CopyButton text={issued.token} /></div>
        </div>
        <div>
          <h3>Connect it</h3>
          <Segments label="Way to connect" options={ways.map((w) => ({ value: w.name, label: w.name }))} value={way} onChange={setWay} />
          <Code text={shown.text} label={`${shown.name} example`} />
        </div>
      </div>
    </section>
  )
}
