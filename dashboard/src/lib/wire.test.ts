import { describe, expect, test, vi } from 'vitest'
import { lines } from './ndjson'
import { patched } from './patch'
import { curlFor, quote, snippets } from './snippets'
import { throttle } from './throttle'
import { ulid } from './ulid'
import type { FleetRow } from './types'

describe('command ids', () => {
  test('are ULIDs: the time first, as Crockford writes it', () => {
    expect(ulid(1469918176385, new Uint8Array(16))).toBe('01ARYZ6S410000000000000000')
    expect(ulid(1469918176385.4, new Uint8Array(16))).toBe('01ARYZ6S410000000000000000')
    expect(ulid()).toMatch(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/)
  })
  test('differ', () => expect(new Set(Array.from({ length: 1000 }, () => ulid(1))).size).toBe(1000))
})

test('a patch changes its fields and leaves the others', () => {
  const row: FleetRow = {
    id: 'a', name: 'A', kinds: ['sensor'], status: { state: 'online', link: 'up', data: 'fresh', control: 'ok', since: 1 },
    latest: { temperature: { v: 1, t: 1 }, humidity: { v: 2, t: 1 } }, fw: '1.4',
  }
  const next = patched(row, { id: 'a', latest: { temperature: { v: 9, t: 2 } } })
  expect(next.latest).toEqual({ temperature: { v: 9, t: 2 }, humidity: { v: 2, t: 1 } })
  expect(next.fw).toBe('1.4')
  expect(row.latest.temperature!.v).toBe(1)
})

describe('a dragged slider', () => {
  test('sends at once, then at most every 100 ms, and the last value always', () => {
    vi.useFakeTimers()
    const sent: number[] = []
    const t = throttle<number>(100, (v) => sent.push(v))
    for (let i = 0; i < 50; i++) {
      t.push(i)
      vi.advanceTimersByTime(10)
    }
    t.commit(99)
    vi.advanceTimersByTime(1000)
    expect(sent[0]).toBe(0)
    expect(sent.at(-1)).toBe(99)
    expect(sent.length).toBeLessThanOrEqual(8)
    vi.useRealTimers()
  })
  test('sends nothing once cancelled', () => {
    vi.useFakeTimers()
    const sent: number[] = []
    const t = throttle<number>(100, (v) => sent.push(v))
    t.push(1)
    t.push(2)
    t.cancel()
    vi.advanceTimersByTime(1000)
    expect(sent).toEqual([1])
    vi.useRealTimers()
  })
})

describe('one-liners', () => {
  test('are quoted for a shell', () => {
    expect([quote('kitchen-lamp'), quote("it's"), quote('a b'), quote('$X')]).toEqual(['kitchen-lamp', `'it'\\''s'`, `'a b'`, `'$X'`])
    expect(curlFor('http://hub:4000', 'POST', '/devices/a/commands', { op: 'toggle' })).toBe(
      `curl -X POST http://hub:4000/api/v1/devices/a/commands -H "Authorization: Bearer $DEVICEHUB_TOKEN" -H 'Content-Type: application/json' -d '{"op":"toggle"}'`)
  })
  test('exist for every way in, each with id and token', () => {
    for (const kind of ['sensor', 'light'] as const) {
      const list = snippets({ id: 'my-dev', kind, token: 'eyJ.a.b', origin: 'https://hub.example:4000', mqtt: { port: 1884, root: 'here' } })
      expect(list.map((s) => s.name)).toEqual(['firmware-sim', 'curl', 'mosquitto_pub', 'JavaScript', 'Go'])
      for (const s of list) {
        expect(s.text).toContain('my-dev')
        expect(s.text).toContain('eyJ.a.b')
      }
      expect(list.find((s) => s.name === 'mosquitto_pub')!.text).toMatch(kind === 'light' ? /-p 1884 .*-t here\/my-dev\/state/s : /-p 1884 .*-t here\/my-dev\/r/s)
    }
  })
  test('leave MQTT out where the hub does not listen for it', () => {
    expect(snippets({ id: 'a', kind: 'sensor', token: 't', origin: 'http://hub:4000', mqtt: { root: '' } }).map((s) => s.name)).toEqual(['firmware-sim', 'curl', 'JavaScript'])
  })
})

test('NDJSON comes line by line, however it is cut', async () => {
  const bytes = new TextEncoder().encode('{"a":"ü"}\n\n{"b":2}\n{"c":3}')
  const body = new ReadableStream<Uint8Array>({
    start(c) {
      for (const b of bytes) c.enqueue(Uint8Array.of(b))
      c.close()
    },
  })
  const got: unknown[] = []
  for await (const line of lines(body)) got.push(line)
  expect(got).toEqual([{ a: 'ü' }, { b: 2 }, { c: 3 }])
})
