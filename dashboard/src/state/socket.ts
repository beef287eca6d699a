// The one socket of the page, over the unmodified Phoenix client.
//
// The client reconnects by itself, with the token it has. Tokens are short, so
// this module does the reconnecting in its place: a fresh token first, then
// connect. Channels rejoin as they always do.

import { Socket, type Channel } from 'phoenix'
import { effect, signal } from '@preact/signals'
import { asError, type ApiError } from './api'
import { now, serverNow, setServerTime } from './clock'
import { refreshMe, rightsChanged, socketToken, user } from './session'

/** link is how the socket does: "lost" means that what is on the page may be old. */
export const link = signal<'connecting' | 'open' | 'lost'>('connecting')

/** lostAt is when the socket was last heard before it was lost, on the hub's clock. */
export const lostAt = signal(0)

/** roundTrip is the last measured way to the hub and back, in ms. */
export const roundTrip = signal<number | undefined>(undefined)

/** opened counts connections: whoever shows history refills it when this rises. */
export const opened = signal(0)

// A silent network is found out by asking every second. Two seconds without a
// word are said on the page; the client itself gives up only later, so that a
// slow moment costs no reconnect.
const ASK_MS = 1000
const SAY_LOST_MS = 1900
const RETRY_MS = [200, 500, 1000, 2000, 3000, 5000]

let socket: Socket | undefined
let heardAt = 0
let askedAt = 0
let tries = 0
let retry: ReturnType<typeof setTimeout> | undefined

function connect(): void {
  if (socket) return
  const s = new Socket('/socket', { authToken: () => socketToken(), heartbeatIntervalMs: 10_000, timeout: 10_000, longPollFallbackMs: 4000 })
  socket = s
  s.onOpen(() => {
    heardAt = Date.now()
    askedAt = 0
    tries = 0
    link.value = 'open'
    opened.value++
  })
  s.onMessage(() => {
    heardAt = Date.now()
    askedAt = 0
    if (link.peek() === 'lost' && s.isConnected()) {
      link.value = 'open'
      opened.value++ // it was silent for a while: refill
    }
  })
  s.onClose(() => {
    if (socket !== s) return
    lost()
    s.disconnect() // stops the client's own timer
    schedule()
  })
  s.connect()
}

function lost(): void {
  if (link.peek() !== 'lost') lostAt.value = heardAt ? serverNow() - (Date.now() - heardAt) : serverNow()
  link.value = 'lost'
}

function schedule(delay = RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]! * (0.75 + Math.random() / 2)): void {
  clearTimeout(retry)
  tries++
  retry = setTimeout(() => void reconnect(), delay)
}

async function reconnect(): Promise<void> {
  const s = socket
  if (!s || s.isConnected()) return
  try {
    await refreshMe()
  } catch {
    if (socket === s && user.peek()) schedule() // not reachable; a session that has ended signs out by itself
    return
  }
  if (socket === s && !s.isConnected()) s.connect()
}

function disconnect(): void {
  clearTimeout(retry)
  const s = socket
  socket = undefined
  s?.disconnect()
  link.value = 'connecting'
  lostAt.value = 0
  heardAt = 0
}

setInterval(() => {
  const s = socket
  if (!s || document.visibilityState === 'hidden') return
  const t = Date.now()
  if (s.isConnected() && !askedAt && t - heardAt >= ASK_MS - 100) {
    askedAt = t
    s.ping((rtt) => { roundTrip.value = rtt })
  } else if (askedAt && t - askedAt >= SAY_LOST_MS - ASK_MS) {
    lost()
  }
}, ASK_MS / 2)

addEventListener('offline', () => { if (socket) lost() })
const hurry = () => {
  if (socket && link.peek() === 'lost' && !socket.isConnected()) schedule(0)
}
addEventListener('online', hurry)
document.addEventListener('visibilitychange', () => {
  askedAt = 0
  heardAt = Date.now()
  if (document.visibilityState === 'visible') hurry()
})

let signedIn: string | undefined
effect(() => {
  const name = user.value?.name
  if (name === signedIn) return
  signedIn = name
  disconnect()
  if (name) connect()
})

/** Topic is a joined topic. */
export interface Topic {
  /** push resolves with the reply, or rejects with an ApiError. */
  push<T>(event: string, payload: object, timeoutMs?: number): Promise<T>
  leave(): void
}

/** What the hub says often has its time; what else is in it the handler of the event knows. */
type Timed = { server_time?: number } | undefined

export interface TopicHandlers {
  /** joined is called with each reply to join: the first, and after every reconnect. */
  joined?: (reply: never) => void
  refused?: (error: ApiError) => void
  /** closed is called when the hub ends the topic: the right to see it is gone. */
  closed?: () => void
  /** channel is given the client's channel before it joins, for the client's own Presence. */
  channel?: (channel: Channel) => void
  /** on has a function for each event. */
  on?: Record<string, (payload: never) => void>
}

/** join joins a topic until leave is called. params is asked again at every rejoin. */
export function join(topic: string, params: () => object, handlers: TopicHandlers): Topic {
  const s = socket
  if (!s) throw new Error(`join ${topic} before signing in`)
  const channel: Channel = s.channel(topic, params as unknown as object)
  for (const [event, f] of Object.entries(handlers.on ?? {})) {
    channel.on(event, (payload: Timed) => {
      setServerTime(payload?.server_time)
      f(payload as never)
    })
  }
  channel.on('rights_changed', rightsChanged)
  handlers.channel?.(channel)
  let left = false
  channel.onClose(() => { if (!left) handlers.closed?.() })
  const leave = () => {
    left = true
    channel.leave()
  }
  channel.join()
    .receive('ok', (reply: Timed) => {
      setServerTime(reply?.server_time)
      now.value = serverNow()
      handlers.joined?.(reply as never)
    })
    .receive('error', (reply) => {
      const error = asError(reply)
      // Refused for good: rejoining would only be refused again.
      if (['unauthorized', 'forbidden', 'not_found', 'invalid'].includes(error.code)) leave()
      handlers.refused?.(error)
    })
  return {
    push: (event, payload, timeoutMs = 10_000) =>
      new Promise((resolve, reject) => {
        if (link.peek() === 'lost') return reject(asError({ code: 'unreachable', reason: 'the connection is lost; nothing was sent' }))
        channel.push(event, payload, timeoutMs)
          .receive('ok', resolve)
          .receive('error', (e) => reject(asError(e)))
          .receive('timeout', () => reject(asError({ code: 'timeout', reason: 'the hub did not answer' })))
      }),
    leave,
  }
}
