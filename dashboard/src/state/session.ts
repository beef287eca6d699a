// Who is signed in. The session itself is a cookie that this page cannot read.

import { computed, signal } from '@preact/signals'
import type { Role, User } from '../lib/types'
import { ApiError, get, post, whenUnauthorized } from './api'

interface Me { user: User; socket_token: string; expires_at: number }

/** user is undefined until the hub has been asked, null when nobody is signed in. */
export const user = signal<User | null | undefined>(undefined)

/** startError says why the hub could not be asked at all. */
export const startError = signal<ApiError | undefined>(undefined)

/** endedBecause is shown on the sign-in page when the session ended by itself. */
export const endedBecause = signal<string | undefined>(undefined)

let token = ''

/** socketToken is the latest token for the socket. */
export const socketToken = (): string => token

const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 }
const atLeast = (role: Role) => computed(() => !!user.value && RANK[user.value.role] >= RANK[role])

/** isOperator and isAdmin decide what is offered; the hub decides what is done. */
export const isOperator = atLeast('operator')
export const isAdmin = atLeast('admin')

/** refreshMe fetches who is signed in and a fresh token for the socket. */
export async function refreshMe(): Promise<User> {
  const me = await get<Me>('/me')
  token = me.socket_token
  if (JSON.stringify(me.user) !== JSON.stringify(user.peek())) user.value = me.user
  return me.user
}

// Whether this browser signed in before: who never did need not ask who they are.
const SIGNED_IN = 'devicehub.signed-in'

function remember(signedIn: boolean): void {
  try {
    if (signedIn) localStorage.setItem(SIGNED_IN, '1')
    else localStorage.removeItem(SIGNED_IN)
  } catch { /* storage is switched off */ }
}

function remembered(): boolean {
  try { return localStorage.getItem(SIGNED_IN) !== null } catch { return true }
}

export async function start(): Promise<void> {
  startError.value = undefined
  if (!remembered()) {
    user.value = null
    return
  }
  try {
    await refreshMe()
  } catch (e) {
    if (e instanceof ApiError && e.status === 401) user.value = null
    else startError.value = e as ApiError
  }
}

export async function signIn(username: string, password: string): Promise<void> {
  await post('/login', { username, password })
  endedBecause.value = undefined
  remember(true)
  await refreshMe()
}

export async function signOut(): Promise<void> {
  try { await post('/logout') } finally { signedOut() }
}

function signedOut(reason?: string): void {
  token = ''
  remember(false)
  if (user.peek()) endedBecause.value = reason
  user.value = null
}

whenUnauthorized((path) => {
  // Elsewhere it may be about what was asked, such as a wrong present password.
  if (path === '/me') signedOut('Your session has ended. Sign in again.')
  else if (user.peek()) refreshMe().catch(() => { /* an ended session came back here */ })
})

/** rightsChanged is told by the socket: what this person may do is not what it was. */
export function rightsChanged(p: { role?: Role; scope?: string }): void {
  const u = user.peek()
  if (u) user.value = { ...u, ...(p.role ? { role: p.role } : {}), ...(p.scope !== undefined ? { scope: p.scope } : {}) }
  void refreshMe().catch(() => { /* the next call tells */ })
}
