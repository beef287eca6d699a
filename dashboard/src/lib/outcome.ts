// What became of a command, in the words and looks that the whole dashboard uses.

import type { Command, CommandStatus, Hops } from './types'
import { duration } from './time'

/** The three looks of a command, and a fourth for one that neither failed nor was seen to work. */
export type Look = 'pending' | 'confirmed' | 'failed' | 'ended'

const LOOKS: Record<CommandStatus, Look> = {
  pending: 'pending', queued: 'pending', sent: 'pending', acked: 'pending',
  done: 'ended', confirmed: 'confirmed', late_done: 'ended', superseded: 'ended', cancelled: 'ended',
  refused: 'failed', rejected: 'failed', failed: 'failed', expired: 'failed', timed_out: 'failed',
}

export const lookOf = (status: CommandStatus): Look => LOOKS[status] ?? 'pending'

/** isOver reports whether nothing more will be heard of a command, timed_out aside: it may still end as late_done. */
export const isOver = (c: Pick<Command, 'status' | 'code'>): boolean =>
  lookOf(c.status) !== 'pending' && (c.status !== 'done' || c.code !== undefined)

const WORDS: Record<CommandStatus, string> = {
  pending: 'pending', queued: 'queued', sent: 'sent', acked: 'acknowledged', done: 'done', confirmed: 'confirmed',
  refused: 'refused', cancelled: 'cancelled', superseded: 'superseded', rejected: 'rejected', failed: 'failed', expired: 'expired',
  timed_out: 'timed out', late_done: 'done late',
}

export const statusWord = (status: CommandStatus): string => WORDS[status] ?? status

const EXPLAIN: Partial<Record<CommandStatus, string>> = {
  timed_out: 'no answer from the device; it may have run',
  expired: 'it was never sent',
  rejected: 'the device rejected it',
  refused: 'the hub refused it',
  failed: 'the device could not do it',
}

/** statusText is where a command stands, in the few words that a list has room for. */
export const statusText = (c: Pick<Command, 'status' | 'code'>): string =>
  c.status === 'done' && c.code === 'unconfirmed' ? 'done, not shown' : statusWord(c.status)

/** failureText names the code and what the device or the hub said about it. */
export function failureText(c: Pick<Command, 'status' | 'code' | 'msg'>): string {
  const said = c.msg || EXPLAIN[c.status] || statusWord(c.status)
  return c.code ? `${said} (${c.code})` : said
}

/** took adds up the hops of a command, in ms; undefined when none is known. */
export function took(hops: Hops | undefined): number | undefined {
  if (!hops) return undefined
  const known = [hops.hub_ms, hops.wire_ms, hops.device_ms, hops.confirm_ms].filter((h): h is number => typeof h === 'number')
  return known.length ? known.reduce((a, b) => a + b, 0) : undefined
}

/**
 * outcomeText is what stands beside a control: "pending", "confirmed in 142 ms", "failed: …".
 * ms is how long it took as seen from here.
 */
export function outcomeText(c: Pick<Command, 'status' | 'code' | 'msg'>, ms: number | undefined): string {
  switch (lookOf(c.status)) {
    case 'confirmed': return ms === undefined ? 'confirmed' : `confirmed in ${duration(ms)}`
    case 'failed': return `failed: ${failureText(c)}`
    case 'ended':
      if (c.status === 'done') return c.code === 'unconfirmed' ? 'done, but the device has not shown it' : 'done'
      return statusWord(c.status)
    default:
      return c.status === 'queued' ? 'pending: waits for the device' : 'pending'
  }
}
