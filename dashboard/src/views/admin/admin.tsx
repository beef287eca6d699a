// The hub itself: people, accounts, keys, what was done, and what it is connected to.

import { useLocation, useRoute } from 'preact-iso'
import { Empty } from '../../components/empty'
import { Hint } from '../../components/hint'
import type { Term } from '../../lib/glossary'
import { useTitle } from '../../lib/hooks'
import { isAdmin } from '../../state/session'
import { Accounts } from './accounts'
import { Audit } from './audit'
import { Keys } from './keys'
import { Things } from './things'
import { Users } from './users'

const SECTIONS: { id: string; label: string; term?: Term }[] = [
  { id: 'users', label: 'Users' }, { id: 'accounts', label: 'API tokens' }, { id: 'audit', label: 'Audit' }, { id: 'bridges', label: 'Bridges', term: 'bridge' },
  { id: 'sinks', label: 'Sinks', term: 'sink' }, { id: 'keys', label: 'Signing keys', term: 'keys' }, { id: 'nodes', label: 'Nodes', term: 'node' },
]

export function AdminPage() {
  const { params } = useRoute()
  const { path } = useLocation()
  const current = SECTIONS.find((s) => s.id === params.section) ?? SECTIONS[0]!
  useTitle(`${current.label}, Admin`)
  if (!isAdmin.value) {
    return <div class="page"><h1>Admin</h1><Empty title="This is for administrators."><p class="muted">Ask one, or sign in as one.</p></Empty></div>
  }
  return (
    <div class="page">
      <header class="page-head"><h1>Admin {current.term && <Hint term={current.term} />}</h1></header>
      <nav class="subnav" aria-label="Admin">
        {SECTIONS.map((s) => <a key={s.id} href={s === SECTIONS[0] ? '/admin' : `/admin/${s.id}`} aria-current={s === current ? 'page' : undefined}>{s.label}</a>)}
      </nav>
      <div key={path}>
        {current.id === 'users' && <Users />}
        {current.id === 'accounts' && <Accounts />}
        {current.id === 'audit' && <Audit />}
        {current.id === 'bridges' && <Things kind="bridges" empty="No bridges to other brokers." teach={<>A bridge joins another MQTT broker to the hub. It is set in the configuration, under <code>mqtt.bridges</code>.</>} />}
        {current.id === 'sinks' && <Things kind="sinks" empty="No sinks." teach={<>Readings stay in the hub’s own store. With <code>readings.influx.url</code> they also go to InfluxDB.</>} />}
        {current.id === 'keys' && <Keys />}
        {current.id === 'nodes' && <Things kind="nodes" empty="No nodes." teach={<>The hub says nothing about itself yet.</>} />}
      </div>
    </div>
  )
}
