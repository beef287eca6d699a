// What stands where nothing is yet, and says how to change that.

import type { ComponentChildren } from 'preact'

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  )
}

export const Loading = ({ what }: { what: string }) => <p class="loading" role="status">Loading {what}…</p>
