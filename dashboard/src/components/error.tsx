// Refusals and failures: what happened, the hub's code, and what to do next.

import type { ComponentChildren } from 'preact'
import { capital } from '../lib/format'
import type { ApiError } from '../state/api'

const NEXT: Record<string, string> = {
  unreachable: 'Check that the hub runs and that this machine reaches it.',
  unauthorized: 'Sign in again.',
  forbidden: 'Ask an administrator for the right.',
  not_found: 'It may have been removed; go back to the list.',
  conflict: 'Choose another id; a deleted one stays taken for 30 days.',
  version_conflict: 'It changed meanwhile: look again, then repeat.',
  device_offline: 'Wait until the device is back, or check its power and network.',
  rate_limited: 'Wait a moment, then repeat.',
  overloaded: 'Wait a moment, then repeat.',
  platform_unavailable: 'The hub cannot write at the moment; its log says why.',
  timeout: 'The device may still have done it; look at its state.',
  too_large: 'Ask for less at once.',
}

export function nextStep(e: ApiError): string {
  if (e.retryAfterMs) return `Repeat in ${Math.ceil(e.retryAfterMs / 1000)} s.`
  const d = e.details ?? {}
  if (e.code === 'range' && 'min' in d) return `Allowed: ${d.min} to ${d.max}${d.unit ? ` ${d.unit}` : ''}.`
  if (e.code === 'invalid' && 'field' in d) return `Field ${d.field}${d.want ? `: ${d.want}` : ''}.`
  return NEXT[e.code] ?? ''
}

/** ErrorNote tells an error; what stands in it, such as a way out, is shown below. */
export function ErrorNote({ error, retry, children }: { error: ApiError | undefined; retry?: () => void; children?: ComponentChildren }) {
  if (!error) return null
  const next = nextStep(error)
  return (
    <div class="error-note" role="alert">
      <p><strong>{capital(error.reason)}</strong> <code>{error.code}</code></p>
      {next && <p class="muted">{next}</p>}
      {retry && <button type="button" class="button small" onClick={retry}>Try again</button>}
      {children}
    </div>
  )
}
