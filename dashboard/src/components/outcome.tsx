// The word beside a control: pending, confirmed in 142 ms, failed: …

import { lookOf, outcomeText, statusText, took } from '../lib/outcome'
import { duration } from '../lib/time'
import type { Command } from '../lib/types'
import { CheckIcon, CloseIcon } from './icons'

export function Outcome({ command, ms }: { command: Pick<Command, 'status' | 'code' | 'msg' | 'warning'> | undefined; ms?: number | undefined }) {
  if (!command) return null
  const look = lookOf(command.status)
  return (
    <span class={`outcome ${look}`}>
      {look === 'pending' && <span class="spinner" aria-hidden="true" />}
      {look === 'confirmed' && <CheckIcon />}
      {look === 'failed' && <CloseIcon />}
      <span>{outcomeText(command, ms)}</span>
    </span>
  )
}

/** CommandBadge is the state of a command in a list. */
export function CommandBadge({ command }: { command: Pick<Command, 'status' | 'code' | 'hops'> }) {
  const look = lookOf(command.status)
  const ms = took(command.hops)
  return (
    <span class={`outcome ${look}`}>
      {look === 'pending' && <span class="spinner" aria-hidden="true" />}
      {look === 'confirmed' && <CheckIcon />}
      {look === 'failed' && <CloseIcon />}
      <span>{statusText(command)}{look === 'confirmed' && ms !== undefined ? ` in ${duration(ms)}` : ''}</span>
    </span>
  )
}
