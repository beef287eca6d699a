// One's own account: where one is signed in, and the password.

import { useState } from 'preact/hooks'
import { useLoad } from '../lib/hooks'
import { note } from '../state/announce'
import { asError, del, get, patch, type ApiError } from '../state/api'
import { user } from '../state/session'
import { Age } from './age'
import { ErrorNote } from './error'

interface Session { sid: string; user: string; created_at: number; last_used_at: number; user_agent?: string; current?: boolean }

export function Sessions() {
  const { data, error, reload } = useLoad('sessions', (signal) => get<{ sessions: Session[] }>('/sessions', { limit: 100 }, signal))
  const mine = data?.sessions.filter((s) => s.user === user.value?.name) ?? []
  const end = (s: Session) => del(`/sessions/${s.sid}`).then(() => { note('The session is ended', 'good'); reload() }, (e) => note(asError(e).reason, 'bad'))
  return (
    <div class="field">
      <span class="field-label">Signed in</span>
      <ErrorNote error={error} />
      <ul class="list">
        {mine.map((s) => (
          <li key={s.sid}>
            <span>{browserName(s.user_agent)}<span class="muted small"> used <Age t={s.last_used_at} /></span></span>
            {s.current ? <span class="tag">here</span> : <button type="button" class="button small" onClick={() => void end(s)}>End</button>}
          </li>
        ))}
      </ul>
    </div>
  )
}

/** browserName is the part of a User-Agent that people know. */
export function browserName(agent: string | undefined): string {
  if (!agent) return 'A program'
  const browser = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(agent)?.[1]
  const system = /Android|iPhone|iPad|Windows|Mac OS X|Linux/.exec(agent)?.[0]
  const name = { Edg: 'Edge', OPR: 'Opera' }[browser ?? ''] ?? browser
  return name ? `${name}${system ? ` on ${system.replace('Mac OS X', 'macOS')}` : ''}` : agent.slice(0, 40)
}

export function ChangePassword({ onDone }: { onDone: () => void }) {
  const [error, setError] = useState<ApiError>()
  const submit = async (e: SubmitEvent) => {
    e.preventDefault()
    const form = new FormData(e.currentTarget as HTMLFormElement)
    setError(undefined)
    try {
      await patch(`/users/${encodeURIComponent(user.value!.name)}`, { password: String(form.get('password')), current_password: String(form.get('current')) })
      note('The password is changed', 'good')
      onDone()
    } catch (err) {
      setError(asError(err))
    }
  }
  return (
    <form class="stack" onSubmit={submit}>
      <input type="text" name="username" autoComplete="username" value={user.value?.name} hidden readOnly />
      <div class="field"><label for="pw-current">Present password</label><input id="pw-current" name="current" type="password" required autoComplete="current-password" /></div>
      <div class="field"><label for="pw-new">New password</label><input id="pw-new" name="password" type="password" required autoComplete="new-password" /><span class="hint">At least 8 characters, and nothing common. It ends your other sessions, and this one.</span></div>
      <ErrorNote error={error} />
      <div class="actions"><button type="button" class="button" onClick={onDone}>Cancel</button><button type="submit" class="button primary">Change it</button></div>
    </form>
  )
}
