// What a device's status means, in words.

import type { State, Status } from './types'

export const STATE_WORD: Record<State, string> = {
  online: 'Online', quiet: 'Quiet', unresponsive: 'Unresponsive', data_only: 'Data only',
  sleeping: 'Sleeping', offline: 'Offline', never_seen: 'Never seen',
}

export const STATE_MEANING: Record<State, string> = {
  online: 'Connected, and every value is fresh.',
  quiet: 'Connected, but a value is older than three times its interval.',
  unresponsive: 'Connected, but the last command went unanswered.',
  data_only: 'No connection is known, but data arrives.',
  sleeping: 'Announced its sleep; commands wait until it wakes.',
  offline: 'Not connected.',
  never_seen: 'Registered, and has not connected yet.',
}

/** What the three parts of a status say of themselves: is it there, does it measure, does it obey. */
export const PART_WORD = {
  link: { up: 'link up', down: 'link down', unknown: 'link unknown' },
  data: { fresh: 'data fresh', stale: 'data stale', none: 'no data' },
  control: { ok: 'last command answered', unanswered: 'last command unanswered', unknown: 'no command yet' },
} as const

/** partsText is all three in a line. */
export const partsText = (s: Status): string => [PART_WORD.link[s.link], PART_WORD.data[s.data], PART_WORD.control[s.control]].filter(Boolean).join(', ')

const REASON: Record<string, string> = {
  client_close: 'it closed the connection', heartbeat_timeout: 'it fell silent', connection_lost: 'the connection broke',
  replaced: 'a newer connection took over', duplicate_identity: 'two devices use the same id', token_expired: 'its token expired',
  token_revoked: 'its token was revoked', device_disabled: 'it is disabled', server_drain: 'the hub shut down', hub_restart: 'not back since the hub restarted',
  node_lost: 'its node was lost', bridge_down: 'its bridge is down', rate_limited: 'it sent too much', protocol_error: 'it broke the protocol',
  slow_consumer: 'it read too slowly', kicked: 'it was disconnected', unanswered: 'a command went unanswered',
}

/** reasonText explains a reason code; an unknown one stands for itself. */
export const reasonText = (reason: string | undefined): string => (reason ? (REASON[reason] ?? reason.replace(/_/g, ' ')) : '')

const TRANSPORT: Record<string, string> = { websocket: 'WebSocket', longpoll: 'Long-poll', mqtt: 'MQTT', http: 'HTTP' }

export const transportText = (t: string | undefined): string =>
  !t ? '' : (TRANSPORT[t] ?? (t.startsWith('bridge:') ? `Bridge ${t.slice(7)}` : t))

/** canCommand reports whether a command has somewhere to go, else why not. Quiet and unresponsive devices are still asked. */
export function commandBlock(status: Status | undefined, enabled = true): string | undefined {
  if (!enabled) return 'This device is disabled.'
  if (status?.state === 'offline') return `Offline${status.reason ? `: ${reasonText(status.reason)}` : ''}.`
  if (status?.state === 'never_seen') return 'This light has not connected yet.'
  return undefined
}
