// Somebody else changed what is being edited: said before anything is lost.

import { capital } from '../lib/format'
import { difference } from '../lib/merge'

/** Conflict asks whose change shall stand. */
export function Conflict({ base, theirs, onDiscard, onOverwrite }: {
  base: Record<string, unknown>; theirs: Record<string, unknown>; onDiscard: () => void; onOverwrite: () => void
}) {
  const names = Object.keys(difference(base, theirs)).map((name) => name.replace(/_s$/, '').replaceAll('_', ' '))
  return (
    <div class="error-note" role="alert">
      <p><strong>Somebody else changed this meanwhile.</strong>{names.length > 0 && ` ${capital(names.join(', '))}.`}</p>
      <p class="muted">What stands here is not saved. Saved over theirs, it replaces only what you changed.</p>
      <div class="actions start">
        <button type="button" class="button small" onClick={onDiscard}>Show theirs, drop mine</button>
        <button type="button" class="button small" onClick={onOverwrite}>Save mine over it</button>
      </div>
    </div>
  )
}
