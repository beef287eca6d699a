// How many devices are in which state; each chip filters by it.

import { StatusShape } from '../../components/status'
import { STATE_MEANING, STATE_WORD } from '../../lib/status'
import { STATES, type State } from '../../lib/types'

export function Chips({ counts, current, onPick }: { counts: Partial<Record<State, number>>; current: string | undefined; onPick: (s: State | undefined) => void }) {
  const all = Object.values(counts).reduce((a, n) => a + (n ?? 0), 0)
  return (
    <div class="chips" role="group" aria-label="Filter by status">
      <button type="button" class="chip" aria-pressed={current === undefined} onClick={() => onPick(undefined)}>All <span class="num">{all}</span></button>
      {STATES.filter((s) => counts[s] || current === s).map((s) => (
        <button key={s} type="button" class="chip" title={STATE_MEANING[s]} aria-pressed={current === s} onClick={() => onPick(current === s ? undefined : s)}>
          <StatusShape state={s} />{STATE_WORD[s]} <span class="num">{counts[s] ?? 0}</span>
        </button>
      ))}
    </div>
  )
}
