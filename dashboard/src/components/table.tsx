// A table that may be wider than the screen: it scrolls, by keyboard too.

import type { ComponentChildren } from 'preact'

export function TableScroll({ label, card, children }: { label: string; card?: boolean; children: ComponentChildren }) {
  return <div class={card ? 'card flush table-scroll' : 'table-scroll'} tabIndex={0} role="region" aria-label={label}>{children}</div>
}
