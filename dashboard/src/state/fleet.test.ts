import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { FleetRow } from '../lib/types'

interface Joined { topic: string; params: () => any; handlers: any; pushes: any[]; left: boolean }
const joins: Joined[] = []
const TOTAL = 1030

/** The hub: rows row-0 … row-1029, whose cursor is the next index. */
function view(params: { cursor?: string; limit: number }) {
  const from = Number(params.cursor ?? 0)
  const rows = Array.from({ length: Math.min(params.limit, TOTAL - from) }, (_, i) => row(from + i))
  return { rows, total: TOTAL, counts: { online: TOTAL }, next_cursor: from + rows.length < TOTAL ? String(from + rows.length) : '', server_time: 1 }
}
const row = (n: number): FleetRow => ({ id: `row-${n}`, name: `Row ${n}`, kinds: ['sensor'], status: { state: 'online', link: 'up', data: 'fresh', control: 'ok', since: 0 }, latest: {} })

vi.mock('./socket', () => ({
  join(topic: string, params: () => any, handlers: any) {
    const j: Joined = { topic, params, handlers, pushes: [], left: false }
    joins.push(j)
    queueMicrotask(() => handlers.joined(view(params())))
    return {
      push: async (_event: string, payload: any) => { j.pushes.push(payload); return view(payload) },
      leave: () => { j.left = true },
    }
  },
}))

const { FleetList, PAGE } = await import('./fleet')
const settle = async () => { for (let i = 0; i < 100; i++) await Promise.resolve() }

beforeEach(() => { joins.length = 0 })

describe('the fleet list', () => {
  test('begins with the first page, on one topic', async () => {
    const list = new FleetList({ q: 'area:kitchen', sort: 'name' })
    await settle()
    expect(joins.map((j) => [j.topic, j.params()])).toEqual([['fleet:even', { q: 'area:kitchen', sort: 'name', limit: PAGE }]])
    expect(list.total.value).toBe(TOTAL)
    expect(list.row(0)!.value.id).toBe('row-0')
    expect(list.row(PAGE)).toBeUndefined()
  })

  test('keeps two neighbouring pages live where the screen lies on both', async () => {
    const list = new FleetList({ q: '', sort: 'name' })
    await settle()
    list.show(PAGE - 5, PAGE + 15)
    await settle()
    expect(joins.map((j) => [j.topic, j.params().cursor])).toEqual([['fleet:even', undefined], ['fleet:odd', String(PAGE)]])
    expect(list.row(PAGE + 10)!.value.id).toBe(`row-${PAGE + 10}`)
  })

  test('walks to a page far down by the cursors between, and the right rows stand there', async () => {
    const list = new FleetList({ q: '', sort: 'name' })
    await settle()
    list.show(TOTAL - 8, TOTAL - 1)
    await settle()
    expect(list.row(TOTAL - 1)!.value.id).toBe(`row-${TOTAL - 1}`)
    expect(joins[0]!.params().cursor).toBe(String(10 * PAGE)) // what a rejoin would ask for
    list.show(0, 10)
    await settle()
    expect(joins[0]!.pushes.at(-1)).toEqual({ q: '', sort: 'name', limit: PAGE })
  })

  test('a patch repaints its row alone', async () => {
    const list = new FleetList({ q: '', sort: 'name' })
    await settle()
    const before = list.row(4)!.peek()
    const others = list.row(5)!.peek()
    const changed = list.changed.peek()
    joins[0]!.handlers.on.rows({ patch: [{ id: 'row-4', latest: { temperature: { v: 21.4, t: 5 } } }, { id: 'unknown', latest: {} }] })
    expect(list.row(4)!.peek()).not.toBe(before)
    expect(list.row(4)!.peek().latest.temperature!.v).toBe(21.4)
    expect(list.row(5)!.peek()).toBe(others)
    expect(list.changed.peek()).toBe(changed)
  })

  test('asks again, once, when the order changed', async () => {
    vi.useFakeTimers()
    const list = new FleetList({ q: '', sort: '-last' })
    await settle()
    for (let i = 0; i < 5; i++) joins[0]!.handlers.on.order_changed({})
    await vi.advanceTimersByTimeAsync(5000)
    expect(joins[0]!.pushes).toHaveLength(1)
    list.close()
    expect(joins[0]!.left).toBe(true)
    vi.useRealTimers()
  })
})
