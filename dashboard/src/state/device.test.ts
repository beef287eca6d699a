import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { Device } from '../lib/types'

const record: Device = { id: 'lamp', name: 'Lamp', kinds: ['sensor', 'light'], enabled: true }
let handlers: Record<string, any>
let push: (event: string, payload: any) => Promise<any>

vi.mock('./socket', () => ({
  opened: { peek: () => 0, value: 0 },
  join(topic: string, _params: () => object, h: any) {
    handlers[topic] = h
    return { push: (event: string, payload: any) => push(event, payload), leave: () => {} }
  },
}))
vi.mock('./api', async (original) => ({ ...(await original<typeof import('./api')>()), get: async () => record }))

const { DeviceLive } = await import('./device')
const { ApiError } = await import('./api')

let device: InstanceType<typeof DeviceLive>
beforeEach(async () => {
  handlers = {}
  push = async (_e, p) => ({ cmd_id: p.cmd_id, status: 'pending' })
  device = new DeviceLive('lamp')
  await vi.waitFor(() => expect(Object.keys(handlers)).toEqual(['sensor:lamp', 'light:lamp']))
  handlers['light:lamp'].joined({ status: { state: 'online', epoch: 4, seq: 1 }, latest: {}, shadow: { device: 'lamp', ver: 10, reported: { on: false, brightness: 100 } } })
})
const light = () => handlers['light:lamp'].on
const status = (cmd_id: string, status: string, more = {}) => light().command_status({ cmd_id, device: 'lamp', op: 'set', params: { on: true }, status, at: 1, attempt: 1, by: 'user:ana', ...more })

describe('a command of this page', () => {
  test('is pending until the light shows it, and the real state stays on the page', async () => {
    const { cmd_id } = await device.send('set', { on: true })
    expect(device.target.value).toEqual({ on: true })
    expect(device.light.value!.on).toBe(false)
    status(cmd_id, 'sent')
    status(cmd_id, 'acked')
    light().state({ on: true, ver: 11 })
    expect(device.light.value!.on).toBe(true)
    status(cmd_id, 'done')
    status(cmd_id, 'confirmed')
    expect(device.target.value).toEqual({})
    expect(device.commands.value[0]).toMatchObject({ status: 'confirmed', mine: true })
    expect(device.commands.value[0]!.tookMs).toBeGreaterThanOrEqual(0)
  })

  test('may be confirmed before its own reply arrives', async () => {
    let answer: (v: any) => void = () => {}
    push = () => new Promise((r) => { answer = r })
    const sent = device.send('set', { on: true })
    const id = device.commands.value[0]!.cmd_id
    status(id, 'confirmed')
    answer({ cmd_id: id, status: 'pending' })
    await sent
    expect(device.commands.value[0]!.status).toBe('confirmed')
  })

  test('a refusal ends it with the code and the words of the hub', async () => {
    push = async () => { throw new ApiError('device_offline', 'lamp is offline', 409) }
    await device.send('set', { on: true })
    expect(device.commands.value[0]).toMatchObject({ status: 'refused', code: 'device_offline', msg: 'lamp is offline' })
    expect(device.target.value).toEqual({})
  })

  test('that is done still waits for the light to show it', async () => {
    const { cmd_id } = await device.send('set', { on: true, kelvin: 3000 })
    status(cmd_id, 'done', { params: { on: true, kelvin: 3000 } })
    expect(device.target.value).toEqual({ on: true, kelvin: 3000 })
    status(cmd_id, 'done', { params: { on: true, kelvin: 3000 }, code: 'unconfirmed' })
    expect(device.target.value).toEqual({})
    expect(device.commands.value[0]!.tookMs).toBeGreaterThanOrEqual(0)
  })

  test('that is done gives way to a newer one', async () => {
    const first = await device.send('set', { on: true, kelvin: 3000 })
    status(first.cmd_id, 'done', { params: { on: true, kelvin: 3000 } })
    const second = await device.send('set', { brightness: 9 })
    status(second.cmd_id, 'sent', { params: { brightness: 9 } })
    expect(device.target.value).toEqual({ on: true, brightness: 9, kelvin: 3000 })
    status(second.cmd_id, 'confirmed', { params: { brightness: 9 } })
    expect(device.target.value).toEqual({ kelvin: 3000 }) // of the power, the light has shown what it is
    const third = await device.send('set', { kelvin: 4000 })
    status(third.cmd_id, 'rejected', { params: { kelvin: 4000 } })
    expect(device.target.value).toEqual({ kelvin: 3000 })
  })

  test('once over, an echo does not bring it back', async () => {
    const { cmd_id } = await device.send('set', { on: true })
    status(cmd_id, 'failed', { code: 'overheated' })
    status(cmd_id, 'sent')
    expect(device.commands.value[0]!.status).toBe('failed')
  })
})

test('what somebody else does shows as pending here too', () => {
  status('01OTHER', 'sent')
  expect(device.target.value).toEqual({ on: true })
  expect(device.commands.value[0]!.mine).toBe(false)
  status('01OTHER', 'superseded')
  expect(device.target.value).toEqual({})
})

test('an older report does not set the light back', () => {
  light().state({ on: true, ver: 20 })
  light().state({ on: false, ver: 19 })
  expect(device.light.value!.on).toBe(true)
})

test('latest never goes back in time', () => {
  const on = handlers['sensor:lamp'].on
  on.reading({ device: 'lamp', r: [{ m: 'power', v: 5, t: 100 }], server_time: 1 })
  on.reading({ device: 'lamp', r: [{ m: 'power', v: 9, t: 50 }], server_time: 1 })
  on.backfill({ device: 'lamp', r: [{ m: 'power', v: 7, t: 200 }], server_time: 1 })
  expect(device.latest.value.power).toMatchObject({ v: 5, t: 100 })
})

test('a status of an older epoch is ignored', () => {
  light().status({ device: 'lamp', state: 'offline', epoch: 3, seq: 9 })
  expect(device.status.value!.state).toBe('online')
  light().status({ device: 'lamp', state: 'offline', epoch: 4, seq: 2 })
  expect(device.status.value!.state).toBe('offline')
})
