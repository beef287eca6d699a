// The list itself: of ten thousand rows, those on the screen exist.

import { Virtualizer, observeWindowOffset, observeWindowRect, windowScroll, type VirtualizerOptions } from '@tanstack/virtual-core'
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from 'preact/hooks'
import { useKeys } from '../../lib/hooks'
import type { FleetList } from '../../state/fleet'
import { DeviceRow } from './row'

// The library's functions are typed for its own idea of a window.
type Options = VirtualizerOptions<Window, Element>

const phone = matchMedia('(max-width: 760px)')
const COLUMNS = ['Device', 'Status', 'Value', 'Age', 'Battery', 'Signal', 'Firmware', 'Last command']

export function FleetTable({ list, total }: { list: FleetList; total: number }) {
  const body = useRef<HTMLDivElement>(null)
  const [, repaint] = useReducer((n: number) => n + 1, 0)
  const [selected, setSelected] = useState(-1)
  const changed = list.changed.value

  const virtual = useRef<Virtualizer<Window, Element>>(undefined)
  const options = (): Options => ({
    count: total,
    estimateSize: () => (phone.matches ? 76 : 56),
    overscan: 10,
    scrollMargin: body.current?.offsetTop ?? 0,
    getScrollElement: (): Window => window,
    observeElementRect: observeWindowRect as Options['observeElementRect'],
    observeElementOffset: observeWindowOffset as Options['observeElementOffset'],
    scrollToFn: windowScroll as Options['scrollToFn'],
    initialRect: { width: innerWidth, height: innerHeight },
    onChange: () => repaint(0),
  })
  virtual.current ??= new Virtualizer(options())
  const v = virtual.current
  v.setOptions(options())
  useLayoutEffect(() => v._willUpdate())
  useEffect(() => {
    const un = v._didMount()
    const resized = () => { v.measure(); repaint(0) }
    phone.addEventListener('change', resized)
    repaint(0) // now that the list's place on the page is known
    return () => { un(); phone.removeEventListener('change', resized) }
  }, [])

  const items = v.getVirtualItems()
  const first = items[0]?.index ?? 0
  const last = items[items.length - 1]?.index ?? 0
  useEffect(() => list.show(first, last), [list, first, last, changed])

  const focusRow = (index: number) => {
    if (index < 0 || index >= total) return
    setSelected(index)
    v.scrollToIndex(index, { align: 'auto' })
    requestAnimationFrame(() => requestAnimationFrame(() => body.current?.querySelector<HTMLElement>(`[aria-rowindex="${index + 2}"] .cell-name a`)?.focus({ preventScroll: true })))
  }
  useKeys({
    j: () => focusRow(selected + 1),
    k: () => focusRow(Math.max(0, selected - 1)),
    ' ': (e) => {
      if ((e.target as HTMLElement).matches('button, summary')) return // they have their own space
      const control = body.current?.querySelector<HTMLElement>(`[aria-rowindex="${selected + 2}"] [role=switch]`)
      if (control) { e.preventDefault(); control.click() }
    },
  })

  const margin = v.options.scrollMargin
  return (
    <div role="table" class="fleet-table" aria-label="Devices" aria-rowcount={total + 1}>
      <div role="rowgroup" class="fleet-head"><div role="row" class="row head" aria-rowindex={1}>{COLUMNS.map((c) => <div role="columnheader" key={c}>{c}</div>)}</div></div>
      <div role="rowgroup" ref={body} class="fleet-body" style={{ height: `${v.getTotalSize()}px` }}>
        {items.map((item) => {
          const row = list.row(item.index)
          return (
            <div role="presentation" key={row ? row.peek().id : item.index} class="row-place" style={{ height: `${item.size}px`, transform: `translateY(${item.start - margin}px)` }}>
              {row
                ? <DeviceRow row={row} index={item.index} selected={item.index === selected} onFocus={() => setSelected(item.index)} />
                : <div role="row" class="row placeholder" aria-rowindex={item.index + 2}><div role="cell"><span class="bar" /></div></div>}
            </div>
          )
        })}
      </div>
    </div>
  )
}
