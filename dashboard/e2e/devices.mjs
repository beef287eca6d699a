// Devices that behave, over MQTT, as the smallest firmware would.

import mqtt from 'mqtt'

const COLOURS = ['rgb', 'hs', 'xy', 'kelvin']

export class Light {
  /** connect signs in and reports; behave(command) may return {fail: {code, msg}} or {silent: true}. */
  static async connect(url, id, token, { state = { on: false, brightness: 128 }, delay = 30, behave = () => ({}) } = {}) {
    const light = new Light()
    Object.assign(light, { id, state: { ...state }, seen: [] })
    light.client = await mqtt.connectAsync(url, { username: id, password: token, clientId: id, keepalive: 30, reconnectPeriod: 0, protocolVersion: 4 })
    light.client.on('error', () => {})
    light.client.on('message', (_topic, payload) => {
      const c = JSON.parse(payload.toString())
      light.seen.push(c)
      setTimeout(() => void light.obey(c, behave(c)).catch(() => {}), delay)
    })
    await light.client.subscribeAsync(`hub/v1/${id}/cmd`, { qos: 1 })
    await light.report({ cause: 'boot' })
    return light
  }

  async obey(c, how) {
    if (how.silent) return
    if (how.fail) return this.send('ack', { cmd_id: c.cmd_id, status: 'failed', ...how.fail })
    await this.send('ack', { cmd_id: c.cmd_id, status: 'acked' })
    if (c.op === 'set') {
      const { transition_ms: _, ...fields } = c.params
      if (COLOURS.some((k) => k in fields)) for (const k of COLOURS) this.state[k] = null // one is true at a time
      if (fields.rgb) fields.mode = 'rgb'
      if (fields.kelvin) fields.mode = 'color_temp'
      Object.assign(this.state, fields)
    }
    await this.send('ack', { cmd_id: c.cmd_id, status: 'done', exec_ms: 5 })
    await this.report({ cause: 'command', cmd: c.cmd_id })
  }

  /** press is a hand on the switch itself. */
  async press(fields) {
    Object.assign(this.state, fields)
    await this.report({ cause: 'local' })
  }

  report(more) { return this.send('state', { ...this.state, ...more }) }
  send(what, payload) { return this.client.publishAsync(`hub/v1/${this.id}/${what}`, JSON.stringify(payload), { qos: 1 }) }
  close() { return this.client.endAsync(true) }
}

export class Sensor {
  static async connect(url, id, token) {
    const sensor = new Sensor()
    sensor.id = id
    sensor.client = await mqtt.connectAsync(url, { username: id, password: token, clientId: id, keepalive: 30, reconnectPeriod: 0, protocolVersion: 4 })
    sensor.client.on('error', () => {})
    return sensor
  }

  /** send pushes readings: {metric: value}. */
  send(values) { return this.client.publishAsync(`hub/v1/${this.id}/r`, JSON.stringify({ t0: Date.now(), r: Object.entries(values).map(([m, v]) => [m, v, 0]) }), { qos: 1 }) }
  close() { return this.client.endAsync(true) }
}
