import { describe, expect, test } from 'vitest'
import { cell, csv } from './csv'
import { bytes, digitsOf, keyMetric, metricOrder, metricTitle, valueText, valueWords, withUnit } from './format'
import { formatLabels, parseLabels } from './labels'
import { isOver, lookOf, outcomeText, statusText, took } from './outcome'
import { split, statusOf, withStatus } from './query'
import { commandBlock } from './status'
import { age, ago, dateTime, duration, shortTime } from './time'
import type { Status } from './types'

describe('times', () => {
  test.each([[0, 'now'], [1999, 'now'], [2000, '2 s'], [59_999, '59 s'], [60_000, '1 min'], [3_600_000, '1 h'], [49 * 3_600_000, '2 d'], [NaN, '']])('%d ms old is %s', (ms, want) => expect(age(ms)).toBe(want))
  test('in a sentence', () => expect([ago(500), ago(5000)]).toEqual(['now', '5 s ago']))
  test.each([[142, '142 ms'], [4200, '4.2 s'], [42_000, '42 s'], [190_000, '3 min 10 s'], [7_200_000, '2 h']])('%d ms lasts %s', (ms, want) => expect(duration(ms)).toBe(want))
  test('in a zone', () => {
    const t = Date.UTC(2026, 10, 21, 23, 3, 12)
    expect(dateTime(t, 'UTC')).toBe('2026-11-21 23:03:12')
    expect(dateTime(t, 'Europe/Madrid')).toBe('2026-11-22 00:03:12')
    expect(shortTime(t, t, 'UTC')).toBe('23:03')
    expect(shortTime(t - 86_400_000, t, 'UTC')).toBe('11-20 23:03')
    expect(dateTime(t, 'Not/AZone')).toMatch(/^2026-11-2/)
  })
})

describe('values', () => {
  test('are written as precisely as they are worth', () => {
    expect(valueText(21.44, digitsOf('temperature'))).toBe('21.4')
    expect(valueText(-3, digitsOf('rssi'))).toBe('−3')
    expect(valueText(231.5, digitsOf('voltage'))).toBe('231.5')
    expect(valueText(12345.6, 0)).toBe('12\u202f346')
    expect(valueText(null)).toBe('–')
    expect(digitsOf('x', { name: 'x', type: 'float', precision: 0.01 })).toBe(2)
  })
  test('carry their unit', () => {
    expect(withUnit('21.4', '°C')).toBe('21.4 °C')
    expect(withUnit('90', '°')).toBe('90°')
    expect(withUnit('–', '°C')).toBe('–')
  })
  test('of bools are words', () => {
    expect(valueWords('door', true)).toBe('Open')
    expect(valueWords('motion', false)).toBe('No motion')
    expect(valueWords('armed', true)).toBe('yes')
  })
  test('one of them stands for the device', () => {
    expect(keyMetric({ battery: 1, rssi: 1, humidity: 1, temperature: 1 })).toBe('temperature')
    expect(keyMetric({ battery: 1, zebra: 1 })).toBe('zebra')
    expect(keyMetric({ battery: 1 })).toBe('battery')
    expect(keyMetric({})).toBeUndefined()
  })
  test('housekeeping comes last', () => {
    const l = { v: 1, t: 1 }
    expect(metricOrder({ battery: l, zebra: l, humidity: l, temperature: l })).toEqual(['temperature', 'humidity', 'zebra', 'battery'])
  })
  test('have titles', () => expect([metricTitle('co2'), metricTitle('wind_speed'), metricTitle('soil_ph')]).toEqual(['CO₂', 'Wind speed', 'Soil ph']))
  test('sizes', () => expect([bytes(12), bytes(1234), bytes(18_432)]).toEqual(['12 B', '1.2 kB', '18 kB']))
})

describe('outcomes', () => {
  test('pending, confirmed and failed are three looks', () => {
    expect([lookOf('sent'), lookOf('confirmed'), lookOf('rejected')]).toEqual(['pending', 'confirmed', 'failed'])
  })
  test('in the words that stand beside the control', () => {
    expect(outcomeText({ status: 'sent' }, undefined)).toBe('pending')
    expect(outcomeText({ status: 'queued' }, undefined)).toBe('pending: waits for the device')
    expect(outcomeText({ status: 'confirmed' }, 142.3)).toBe('confirmed in 142 ms')
    expect(outcomeText({ status: 'failed', code: 'overheated', msg: 'driver above 85 °C' }, 300)).toBe('failed: driver above 85 °C (overheated)')
    expect(outcomeText({ status: 'timed_out', code: 'outcome_unknown' }, 300)).toBe('failed: no answer from the device; it may have run (outcome_unknown)')
    expect(outcomeText({ status: 'done', code: 'unconfirmed' }, 300)).toBe('done, but the device has not shown it')
  })
  test('in the fewer words of a list', () => {
    expect(statusText({ status: 'done' })).toBe('done')
    expect(statusText({ status: 'done', code: 'unconfirmed' })).toBe('done, not shown')
    expect(statusText({ status: 'failed', code: 'overheated' })).toBe('failed')
  })
  test('done is not the end while a state may still confirm it', () => {
    expect(isOver({ status: 'done' })).toBe(false)
    expect(isOver({ status: 'done', code: 'unconfirmed' })).toBe(true)
    expect(isOver({ status: 'confirmed' })).toBe(true)
  })
  test('hops add up', () => expect([took({ hub_ms: 2, wire_ms: 18, device_ms: 96, confirm_ms: 26 }), took({}), took(undefined)]).toEqual([142, undefined, undefined]))
})

describe('the search box', () => {
  test('keeps quoted words together', () => expect(split('area:"living room" battery<20')).toEqual(['area:"living room"', 'battery<20']))
  test('chips replace the status and nothing else', () => {
    expect(withStatus('area:kitchen status:quiet', 'offline')).toBe('area:kitchen status:offline')
    expect(withStatus('area:kitchen status:quiet', undefined)).toBe('area:kitchen')
    expect(statusOf('lamp status:quiet')).toBe('quiet')
    expect(statusOf('lamp')).toBeUndefined()
  })
})

test('commands are blocked only where they have nowhere to go', () => {
  const s = (state: Status['state'], reason?: string): Status => ({ state, link: 'up', data: 'fresh', control: 'ok', since: 0, ...(reason ? { reason } : {}) })
  expect(commandBlock(s('online'))).toBeUndefined()
  expect(commandBlock(s('quiet'))).toBeUndefined()
  expect(commandBlock(s('unresponsive'))).toBeUndefined()
  expect(commandBlock(s('sleeping'))).toBeUndefined()
  expect(commandBlock(s('offline', 'heartbeat_timeout'))).toBe('Offline: it fell silent.')
  expect(commandBlock(s('never_seen'))).toMatch(/not connected/)
  expect(commandBlock(s('online'), false)).toMatch(/disabled/)
})

test('labels as lines', () => {
  expect(parseLabels('floor=1\n\n tz = Europe/Lisbon ')).toEqual({ floor: '1', tz: 'Europe/Lisbon' })
  expect(parseLabels('nonsense')).toBeNull()
  expect(formatLabels({ b: '2', a: '1' })).toBe('a=1\nb=2')
})

test('CSV quotes, and defuses what a spreadsheet would run', () => {
  expect([cell('a,b'), cell('say "hi"'), cell('=1+1'), cell(-3), cell(null)]).toEqual(['"a,b"', '"say ""hi"""', "'=1+1", '-3', ''])
  expect(csv(['t', 'v'], [[1, 2]])).toBe('t,v\r\n1,2\r\n')
})
