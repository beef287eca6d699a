// A live window onto the list of devices (devices/README.md#lists-of-devices).
//
// The hub sorts, filters and pages; here is only what was looked at. Two views
// are kept live, one for even and one for odd pages, so that the rows on the
// screen stream whichever two neighbouring pages they lie on, and no others.

import { signal, type Signal } from '@preact/signals'
import { patched, type RowPatch } from '../lib/patch'
import type { FleetRow, FleetView, State } from '../lib/types'
import { asError, type ApiError } from './api'
import { join, type Topic } from './socket'

export const PAGE = 100
const RELOAD_MS = 2000

export interface FleetQuery { q: string; sort: string }

interface Lane { page: number; topic?: Topic; walking: boolean; want: number }

export class FleetList {
  readonly total = signal<number | undefined>(undefined)
  readonly counts = signal<Partial<Record<State, number>>>({})
  readonly error = signal<ApiError | undefined>(undefined)
  /** changed rises when rows come, go or move; values within a row have their own signal. */
  readonly changed = signal(0)

  private rows = new Map<number, Signal<FleetRow>>()
  private byId = new Map<string, Signal<FleetRow>>()
  private cursors: (string | undefined)[] = [undefined]
  private lanes: [Lane, Lane] = [{ page: 0, walking: false, want: 0 }, { page: 1, walking: false, want: 1 }]
  private reload: ReturnType<typeof setTimeout> | undefined
  private closed = false

  constructor(private readonly query: FleetQuery) {
    this.open(0)
  }

  /** row is the row at an index, once it has been fetched. */
  row(index: number): Signal<FleetRow> | undefined {
    return this.rows.get(index)
  }

  /** show makes the rows from first to last live; call it as the list is scrolled. */
  show(first: number, last: number): void {
    const total = this.total.peek()
    if (this.closed || !total) return
    const lastPage = Math.floor((total - 1) / PAGE)
    const a = Math.min(Math.floor(first / PAGE), lastPage)
    const b = Math.min(Math.floor(last / PAGE), lastPage)
    for (const page of new Set([a, b])) void this.turn(page)
  }

  close(): void {
    this.closed = true
    clearTimeout(this.reload)
    for (const lane of this.lanes) lane.topic?.leave()
  }

  private params(page: number, pages = 1): object {
    const cursor = this.cursors[page]
    return { q: this.query.q, sort: this.query.sort, limit: pages * PAGE, ...(cursor ? { cursor } : {}) }
  }

  private open(n: 0 | 1): void {
    const lane = this.lanes[n]
    lane.topic = join(n === 0 ? 'fleet:even' : 'fleet:odd', () => this.params(lane.page), {
      joined: (reply: FleetView) => { if (!this.closed) this.fill(lane.page, reply) },
      refused: (e) => { this.error.value = e },
      on: {
        rows: (p: { patch?: RowPatch[]; removed?: string[] }) => this.patch(p),
        counts: (p: { total: number; counts: FleetView['counts'] }) => {
          this.counts.value = p.counts
          if (p.total !== this.total.peek()) this.reloadSoon()
        },
        order_changed: () => this.reloadSoon(),
      },
    })
  }

  /** turn brings its lane to a page, walking there when the cursor is not yet known. */
  private async turn(page: number): Promise<void> {
    const lane = this.lanes[page % 2 === 0 ? 0 : 1]
    lane.want = page
    if (lane.walking || (lane.topic && lane.page === page && this.rows.has(page * PAGE))) return
    lane.walking = true
    try {
      for (;;) {
        const want = lane.want
        let at = want
        while (at > 0 && this.cursors[at] === undefined) at--
        if (at === want && !lane.topic) {
          lane.page = want
          this.open((want % 2) as 0 | 1) // its reply fills the page
          return
        }
        const topic = lane.topic ?? this.lanes[0].topic!
        const pages = want - at > 1 ? 2 : 1 // strides of 200 rows, the most a view has, until it is there
        const view = await topic.push<FleetView>('view', this.params(at, pages))
        if (this.closed) return
        this.fill(at, view, pages)
        if (topic === lane.topic) lane.page = at
        else this.lanes[0].page = at
        if (!view.next_cursor || at === lane.want) return
      }
    } catch (e) {
      this.error.value = asError(e)
    } finally {
      lane.walking = false
    }
  }

  private fill(page: number, view: FleetView, pages = 1): void {
    this.error.value = undefined
    const first = page * PAGE
    view.rows.forEach((row, i) => {
      let s = this.byId.get(row.id)
      if (s) s.value = row
      else {
        s = signal(row)
        this.byId.set(row.id, s)
      }
      this.rows.set(first + i, s)
    })
    this.cursors[page + pages] = view.next_cursor || undefined
    for (const i of [...this.rows.keys()]) if (i >= view.total || (i >= first + view.rows.length && i < first + pages * PAGE)) this.rows.delete(i)
    this.counts.value = view.counts
    this.total.value = view.total
    this.changed.value++
  }

  private patch(p: { patch?: RowPatch[]; removed?: string[] }): void {
    for (const row of p.patch ?? []) {
      const s = this.byId.get(row.id)
      if (s) s.value = patched(s.peek(), row)
    }
    if (p.removed?.length) this.reloadSoon()
  }

  /** Rows came, went or moved: fetch the pages on the screen again, at most once in a while. */
  private reloadSoon(): void {
    if (this.reload || this.closed) return
    this.reload = setTimeout(() => {
      this.reload = undefined
      for (const lane of this.lanes) {
        if (!lane.topic || lane.walking) continue
        const page = lane.page
        lane.topic.push<FleetView>('view', this.params(page)).then(
          (view) => { if (!this.closed && lane.page === page) this.fill(page, view) },
          () => { /* the connection is lost; joining again fetches the page */ },
        )
      }
    }, RELOAD_MS)
  }
}
