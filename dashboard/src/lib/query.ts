// The search box's terms, as far as the page itself writes them: the hub reads
// the whole grammar (devices/README.md#lists-of-devices).

import type { State } from './types'

/** split parts a query into terms; double quotes keep spaces together. */
export const split = (q: string): string[] => q.match(/(?:[^\s"]+|"[^"]*"?)+/g) ?? []

/** statusOf is the state that a query filters by, if it names exactly one. */
export function statusOf(q: string): string | undefined {
  const terms = split(q).filter((t) => t.startsWith('status:'))
  return terms.length === 1 ? terms[0]!.slice('status:'.length) : undefined
}

/** withStatus replaces the status term; undefined removes it. */
export function withStatus(q: string, state: State | undefined): string {
  const terms = split(q).filter((t) => !t.startsWith('status:'))
  if (state) terms.push(`status:${state}`)
  return terms.join(' ')
}
