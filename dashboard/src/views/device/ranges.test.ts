import { expect, test } from 'vitest'
import { neighbour, spanOf, usual } from './ranges'

test('the address names the span, and nonsense is the usual one', () => {
  expect(spanOf({ range: '6h' }, '15m')).toMatchObject({ live: true, ms: 6 * 3_600_000, preset: '6h' })
  expect(spanOf({ from: '1000', to: '61000' }, '15m')).toEqual({ from: 1000, to: 61000, live: false, ms: 60000 })
  for (const q of [{}, { range: 'x' }, { from: '5', to: '1' }, { from: 'x', to: 'y' }]) expect(spanOf(q as Record<string, string>, '15m').preset).toBe('15m')
})

test('the usual span follows the pace of the device', () => {
  expect([usual(undefined), usual(5), usual(60), usual(900)]).toEqual(['15m', '15m', '1h', '24h'])
})

test('neighbours stop at the ends', () => {
  expect([neighbour('15m', -1), neighbour('15m', 1), neighbour('30d', 1)]).toEqual(['15m', '1h', '30d'])
})
