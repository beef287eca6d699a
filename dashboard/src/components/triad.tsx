// The three parts that a status is made of: link, data, control. Each has a shape
// and a word.

import { PART_WORD } from '../lib/status'
import type { Kind, Status } from '../lib/types'
import { link } from '../state/socket'

type Look = 'good' | 'poor' | 'open'

const LOOK: Record<string, Look> = { up: 'good', fresh: 'good', ok: 'good', down: 'poor', stale: 'poor', unanswered: 'poor' }

const SHAPE: Record<Look, preact.JSX.Element> = {
  good: <path d="m2.500 6.300 2.400 2.400 4.600-5.200" class="line" />,
  poor: <path d="m3 3 6 6M9 3 3 9" class="line" />,
  open: <circle cx="6" cy="6" r="2.500" class="line" />,
}

function Part({ part, word, known }: { part: string; word: string | undefined; known: boolean }) {
  if (!word) return null
  const look = known ? LOOK[part] ?? 'open' : 'open'
  return <li class={`part ${look}`}><svg class="shape" viewBox="0 0 12 12" aria-hidden="true" focusable="false">{SHAPE[look]}</svg>{word}</li>
}

export function Triad({ status: s, kinds }: { status: Status; kinds: readonly Kind[] }) {
  const known = link.value !== 'lost' // while the hub is away, nothing here is known to be so
  return (
    <ul class="triad" aria-label="Link, data and control">
      <Part part={s.link} word={PART_WORD.link[known ? s.link : 'unknown']} known={known} />
      {kinds.includes('sensor') && <Part part={s.data} word={PART_WORD.data[s.data]} known={known} />}
      {kinds.includes('light') && <Part part={s.control} word={PART_WORD.control[s.control]} known={known} />}
    </ul>
  )
}
