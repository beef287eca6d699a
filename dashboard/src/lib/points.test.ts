import { describe, expect, test } from 'vitest'
import { add, columns, fromSeries, gapAfter, inside, join, lateOf, outOf, summary, turnOf, usualRange, within, type Point } from './points'
import type { Series } from './types'

const at = (t: number, v: number, count = 1): Point => ({ t, mean: v, min: v, max: v, count })
const series = (buckets: Series['buckets']): Series => ({ metric: 'temperature', from: 0, to: 100, step_ms: 10, buckets })

test('history keeps the buckets that hold numbers, in order', () => {
  const points = fromSeries(series([
    { t: 20, min: 1, max: 3, mean: 2, last: 3, count: 5 },
    { t: 10, last: 'eco', count: 2 },
    { t: 0, last: true, count: 1 },
  ]))
  expect(points).toEqual([{ t: 0, min: 1, max: 1, mean: 1, count: 1 }, { t: 20, min: 1, max: 3, mean: 2, count: 5 }])
})

test('buckets with late readings are marked, once fetched', () => {
  const late = lateOf(series([
    { t: 0, min: 1, max: 3, mean: 2, last: 3, count: 5 },
    { t: 10, min: 1, max: 5, mean: 4, last: 5, count: 2, late: 1 },
    { t: 20, last: 'eco', count: 1, late: 1 },
  ]))
  expect(late).toEqual([{ t: 10, v: 4 }])
})

test('readings out of range are marked and in no point', () => {
  const s = series([
    { t: 0, min: 20, max: 22, mean: 21, last: 22, count: 3, out_of_range: 1 },
    { t: 10, last: null, count: 2, out_of_range: 2 },
    { t: 20, min: 21, max: 21, mean: 21, last: 21, count: 1 },
  ])
  const points = fromSeries(s)
  expect(points).toEqual([{ t: 0, min: 20, max: 22, mean: 21, count: 2 }, { t: 20, min: 21, max: 21, mean: 21, count: 1 }])
  expect(outOf(s)).toEqual([0, 10])
  expect(usualRange(points)).toEqual([20, 22])
})

test('a direction goes round', () => {
  expect(turnOf('°')).toBe(360)
  expect(turnOf('°C')).toBeUndefined()
  const points = fromSeries(series([{ t: 0, mean: 359, last: 2, count: 1 }]))
  add(points, 5, 1, 10, 360)
  expect(points[0]).toMatchObject({ min: points[0]!.mean, max: points[0]!.mean, count: 2 })
  expect(Math.min(points[0]!.mean, 360 - points[0]!.mean)).toBeCloseTo(0)
})

describe('a live reading', () => {
  test('goes after the last bucket, at its own time while the step is fine', () => {
    const points = [at(0, 1)]
    expect(add(points, 2500, 4, 1000)).toBe(true)
    expect(points[1]).toEqual(at(2500, 4))
  })
  test('starts a bucket of its own where points are buckets', () => {
    const points = [at(0, 1)]
    add(points, 25_500, 4, 10_000)
    expect(points[1]!.t).toBe(20_000)
  })
  test('within the last bucket widens it', () => {
    const points = [at(0, 1, 3)]
    add(points, 5000, 5, 10_000)
    expect(points).toEqual([{ t: 0, min: 1, max: 5, mean: 2, count: 4 }])
  })
  test('from before the last point is left to history', () => {
    const points = [at(1000, 1)]
    expect(add(points, 500, 9, 0)).toBe(false)
    expect(points).toEqual([at(1000, 1)])
  })
  test('twice stands once', () => {
    const points: Point[] = []
    add(points, 1000, 7, 0)
    add(points, 1000, 7, 0)
    expect(points.map((p) => [p.t, p.mean])).toEqual([[1000, 7]])
  })
})

test('a refill replaces what it covers and doubles nothing', () => {
  expect(join([at(0, 1), at(10, 2), at(20, 3)], [at(20, 4), at(30, 5)]).map((p) => [p.t, p.mean])).toEqual([[0, 1], [10, 2], [20, 4], [30, 5]])
  expect(join([at(0, 1)], [])).toEqual([at(0, 1)])
})

describe('windows', () => {
  const points = [0, 10, 20, 30, 40].map((t) => at(t, t))
  test('reach one point beyond their edges for the line', () => expect(within(points, 12, 32).map((p) => p.t)).toEqual([10, 20, 30, 40]))
  test('and not for numbers', () => expect(inside(points, 10, 30).map((p) => p.t)).toEqual([10, 20, 30]))
  test('may be empty', () => expect(inside(points, 41, 99)).toEqual([]))
})

describe('gaps', () => {
  test('are as long as three intervals', () => {
    expect(gapAfter([], 0, 5000)).toBe(15_000)
    expect(gapAfter([at(0, 1), at(10_000, 1), at(20_000, 1), at(90_000, 1)], 0)).toBe(30_000)
    expect(gapAfter([], 60_000)).toBe(150_000)
  })
  test('are drawn as gaps', () => {
    const [t, mean] = columns([at(0, 1), at(10, 2), at(100, 3)], 30)
    expect(t).toEqual([0, 10, 55, 100])
    expect(mean).toEqual([1, 2, null, 3])
  })
})

describe('the axis', () => {
  const normal = Array.from({ length: 60 }, (_, i) => at(i, 20 + (i % 5)))
  test('covers every value', () => expect(usualRange(normal)).toEqual([20, 24]))
  test('is not flattened by a wild one', () => expect(usualRange([...normal, at(99, 1e7)])).toEqual([20, 24]))
  test('but shows a step that lasts', () => expect(usualRange([...normal, ...Array.from({ length: 20 }, (_, i) => at(100 + i, 90))])).toEqual([20, 90]))
  test('shows all of few', () => expect(usualRange([at(0, 1), at(1, 1e6)])).toEqual([1, 1e6]))
  test('is unknown without points', () => expect(usualRange([])).toBeUndefined())
})

test('the spoken summary', () => {
  expect(summary([])).toBeUndefined()
  const rising = Array.from({ length: 20 }, (_, i) => at(i, i))
  expect(summary(rising)).toMatchObject({ last: 19, min: 0, max: 19, trend: 'rising' })
  expect(summary(rising.map((p) => at(p.t, -p.mean)))!.trend).toBe('falling')
  expect(summary(rising.map((p) => at(p.t, 5)))!.trend).toBe('steady')
})
