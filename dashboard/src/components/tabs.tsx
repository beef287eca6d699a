// Tabs with the keyboard of the ARIA practices: arrows move, Home and End jump.

import type { ComponentChildren } from 'preact'
import { useRef } from 'preact/hooks'

export interface Tab { id: string; label: string; count?: number }

export function Tabs({ label, tabs, current, onChange, children }: {
  label: string; tabs: readonly Tab[]; current: string; onChange: (id: string) => void; children: ComponentChildren
}) {
  const list = useRef<HTMLDivElement>(null)
  const key = (e: KeyboardEvent) => {
    const i = tabs.findIndex((t) => t.id === current)
    const n = tabs.length
    const to = { ArrowRight: (i + 1) % n, ArrowLeft: (i - 1 + n) % n, Home: 0, End: n - 1 }[e.key]
    if (to === undefined) return
    e.preventDefault()
    onChange(tabs[to]!.id)
    list.current?.querySelectorAll<HTMLElement>('[role=tab]')[to]?.focus()
  }
  return (
    <section class="tabs">
      <div class="tab-list" role="tablist" aria-label={label} ref={list} onKeyDown={key}>
        {tabs.map((t) => (
          <button key={t.id} type="button" role="tab" id={`tab-${t.id}`} aria-selected={t.id === current} aria-controls={`panel-${t.id}`} tabIndex={t.id === current ? 0 : -1} onClick={() => onChange(t.id)}>
            {t.label}{t.count ? <span class="count">{t.count}</span> : null}
          </button>
        ))}
      </div>
      <div class="tab-panel" role="tabpanel" id={`panel-${current}`} aria-labelledby={`tab-${current}`}>{children}</div>
    </section>
  )
}

/** Segments is a choice of one among few, as a row of radio buttons. */
export function Segments<T extends string>({ label, options, value, onChange }: {
  label: string; options: readonly { value: T; label: string }[]; value: T | undefined; onChange: (v: T) => void
}) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {options.map((o) => (
        <button key={o.value} type="button" aria-pressed={o.value === value} onClick={() => onChange(o.value)}>{o.label}</button>
      ))}
    </div>
  )
}
