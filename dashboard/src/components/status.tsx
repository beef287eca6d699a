// A device's status: a shape, a colour and a word, so that no one of them is needed.

import { capital } from '../lib/format'
import { STATE_MEANING, STATE_WORD, partsText, reasonText } from '../lib/status'
import type { State, Status } from '../lib/types'

function Shape({ state }: { state: State }) {
  switch (state) {
    case 'online': return <circle cx="6" cy="6" r="4.5" class="fill" />
    case 'quiet': return <><circle cx="6" cy="6" r="4" class="line" /><path d="M6 2a4 4 0 0 1 0 8z" class="fill" /></>
    case 'unresponsive': return <path d="M6 1.2 11 10.400H1z" class="fill" />
    case 'data_only': return <path d="M6 1 11 6 6 11 1 6z" class="fill" />
    case 'sleeping': return <path d="M8.6 8.300A4.6 4.6 0 0 1 4.8 1.600a4.7 4.7 0 1 0 6 6 4.6 4.6 0 0 1-2.2.7z" class="fill" />
    case 'never_seen': return <circle cx="6" cy="6" r="4" class="line dashed" />
    default: return <circle cx="6" cy="6" r="4" class="line" />
  }
}

export function StatusShape({ state }: { state: State }) {
  return <svg class={`shape state-${state}`} viewBox="0 0 12 12" aria-hidden="true" focusable="false"><Shape state={state} /></svg>
}

/** StatusBadge shows shape and word; its title explains what the status means. */
export function StatusBadge({ status, compact }: { status: Status | undefined; compact?: boolean }) {
  if (!status) return <span class="status muted">–</span>
  const why = reasonText(status.reason)
  const title = `${STATE_MEANING[status.state]} ${capital(partsText(status))}.${why ? ` Reason: ${why}.` : ''}${status.unverified ? ' Known from before the hub restarted; not heard again yet.' : ''}`
  return (
    <span class={`status state-${status.state}`} title={title}>
      <StatusShape state={status.state} />
      <span>{STATE_WORD[status.state]}{status.unverified ? '?' : ''}</span>
      {status.flapping && <span class="tag bad" title="It connects and disconnects again and again.">flapping</span>}
      {!compact && why && <span class="muted"> · {why}</span>}
    </span>
  )
}
