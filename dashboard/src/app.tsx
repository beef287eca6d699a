// Which page stands where.

import { LocationProvider, Route, Router } from 'preact-iso'
import { Shell } from './components/shell'
import { ErrorNote } from './components/error'
import { Empty } from './components/empty'
import { start, startError, user } from './state/session'
import { SignIn } from './views/sign-in'
import { FleetPage } from './views/fleet/fleet'
import { DevicePage } from './views/device/device'
import { CommandsPage } from './views/commands'
import { HANDOVER } from './lib/handover'
import { HandoverPage } from './views/onboard/handover'
import { OnboardPage } from './views/onboard/onboard'
import { AdminPage } from './views/admin/admin'
import { useTitle } from './lib/hooks'

export function App() {
  if (location.pathname === HANDOVER) return <HandoverPage />
  if (startError.value) {
    return <main class="centred"><div class="card narrow"><ErrorNote error={startError.value} retry={() => void start()} /></div></main>
  }
  if (user.value === undefined) return null
  if (user.value === null) return <SignIn />
  return (
    <LocationProvider>
      <Shell>
        <Router>
          <Route path="/" component={FleetPage} />
          <Route path="/devices/:id" component={DevicePage} />
          <Route path="/commands" component={CommandsPage} />
          <Route path="/onboard" component={OnboardPage} />
          <Route path="/admin/:section?" component={AdminPage} />
          <Route default component={NotFound} />
        </Router>
      </Shell>
    </LocationProvider>
  )
}

function NotFound() {
  useTitle('Not found')
  return (
    <div class="page">
      <h1>Not found</h1>
      <Empty title="There is no page at this address."><p><a href="/">Go to the fleet</a></p></Empty>
    </div>
  )
}
