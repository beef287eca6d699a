import { useState } from 'preact/hooks'
import { ErrorNote } from '../components/error'
import { useTitle } from '../lib/hooks'
import { asError, type ApiError } from '../state/api'
import { endedBecause, signIn } from '../state/session'

export function SignIn() {
  useTitle('Sign in')
  const [error, setError] = useState<ApiError>()
  const [busy, setBusy] = useState(false)
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    setBusy(true)
    setError(undefined)
    try {
      await signIn(String(form.get('username')), String(form.get('password')))
    } catch (err) {
      setError(asError(err))
      setBusy(false)
    }
  }
  return (
    <main class="centred">
      <div class="sign-in">
        <div class="sign-in-head">
          <img src="/icon.svg" alt="" width="48" height="48" />
          <h1>devicehub</h1>
          <p class="muted">{endedBecause.value ?? 'Sensors and lights, live.'}</p>
        </div>
        <form class="card stack" onSubmit={submit}>
          <div class="field">
            <label for="username">User name</label>
            <input id="username" name="username" autoComplete="username" autoCapitalize="none" spellcheck={false} required autoFocus />
          </div>
          <div class="field">
            <label for="password">Password</label>
            <input id="password" name="password" type="password" autoComplete="current-password" required />
          </div>
          <ErrorNote error={error} />
          <button type="submit" class="button primary block" disabled={busy}>Sign in</button>
        </form>
        <details class="muted small">
          <summary>Forgot the password?</summary>
          <p>An administrator sets a new one under Admin, People, or on the hub’s machine with <code>devicehub user passwd NAME</code>.</p>
        </details>
        {location.protocol === 'http:' && !/^(localhost|127\.|\[::1\])/.test(location.host) && (
          <p class="muted small">This page came over plain HTTP: use it on a network you trust, or give the hub a certificate (<code>http.tls.mode</code>).</p>
        )}
      </div>
    </main>
  )
}
