// The hub under test: one that runs already, named by the environment, or one
// started here from ../bin on free ports and an empty folder.
//
//   DEVICEHUB_URL        http://127.0.0.1:4000
//   DEVICEHUB_USERNAME   an administrator (admin)
//   DEVICEHUB_PASSWORD
//   DEVICEHUB_MQTT       mqtt://127.0.0.1:1883
//   DEVICEHUB_BIN        folder of the binaries (../bin), when none of these is set

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))))
const START_MS = 30_000

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms))

/** eventually calls f until it neither throws nor returns something false. */
export async function eventually(what, f, within = 10_000) {
  const deadline = Date.now() + within
  for (let last; ; await sleep(100)) {
    try {
      const v = await f()
      if (v) return v
      last = undefined
    } catch (e) { last = e }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${within} ms${last ? ` (${last.message})` : ''}`)
  }
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const s = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = s.address()
      s.close(() => resolve(port))
    })
    s.on('error', reject)
  })
}

/** openHub returns {url, mqtt, username, password, stop}. */
export async function openHub() {
  const env = process.env
  if (env.DEVICEHUB_URL) {
    return {
      url: env.DEVICEHUB_URL.replace(/\/$/, ''), mqtt: env.DEVICEHUB_MQTT ?? 'mqtt://127.0.0.1:1883',
      username: env.DEVICEHUB_USERNAME ?? 'admin', password: env.DEVICEHUB_PASSWORD ?? '', stop: async () => {},
    }
  }
  const dir = await mkdtemp(path.join(os.tmpdir(), 'devicehub-dashboard-'))
  const [http, mqtt] = [await freePort(), await freePort()]
  const password = 'correct horse battery staple'
  const config = path.join(dir, 'devicehub.yaml')
  await writeFile(config, `data_dir: ${dir}/data\nhttp:\n  listen: 127.0.0.1:${http}\nmqtt:\n  embedded:\n    listen: 127.0.0.1:${mqtt}\nauth:\n  initial_admin_password: ${JSON.stringify(password)}\n`, { mode: 0o600 })
  const bin = path.resolve(env.DEVICEHUB_BIN ?? path.join(root, 'bin'))
  const child = spawn(path.join(bin, 'devicehub'), ['serve', '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  let ended
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (b) => { log = (log + b).slice(-20_000) })
  child.on('error', (e) => { ended = e })
  child.on('exit', (code) => { ended = new Error(`devicehub ended with ${code}\n${log}`) })
  const url = `http://127.0.0.1:${http}`
  await eventually('the hub is ready', async () => {
    if (ended) throw ended
    return (await fetch(`${url}/readyz`)).ok
  }, START_MS).catch((e) => { child.kill('SIGKILL'); throw ended ?? e })
  return {
    url, mqtt: `mqtt://127.0.0.1:${mqtt}`, username: 'admin', password,
    stop: async () => {
      const gone = new Promise((r) => child.once('exit', r))
      if (child.exitCode === null) {
        child.kill('SIGTERM')
        const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
        await gone
        clearTimeout(timer)
      }
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Api calls the HTTP API as an administrator. */
export class Api {
  constructor(hub) { this.hub = hub }

  async call(method, route, body, token) {
    this.token ??= await this.login(this.hub.username, this.hub.password)
    const response = await fetch(`${this.hub.url}/api/v1${route}`, {
      method, headers: { Authorization: `Bearer ${token ?? this.token}`, ...(body !== undefined ? { 'Content-Type': 'application/json' } : {}) },
      ...(body !== undefined ? { body: JSON.stringify(body) } : {}),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${text}`)
    return text ? JSON.parse(text) : undefined
  }

  async login(username, password) {
    const response = await fetch(`${this.hub.url}/api/v1/login`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username, password }) })
    if (!response.ok) throw new Error(`login of ${username}: ${response.status} ${await response.text()}`)
    return (await response.json()).token
  }

  /** device makes one and returns its token. */
  async device(record) { return (await this.call('POST', '/devices', record)).token }

  /** reading sends one as the device itself, over HTTP. */
  reading(id, token, r, t0) { return this.call('POST', `/devices/${id}/readings`, { r, ...(t0 ? { t0 } : {}) }, token) }
}

/** Cable stands between a browser and the hub, so that a test can cut the cable. */
export class Cable {
  static async open(url) {
    const p = new Cable()
    const { hostname, port } = new URL(url)
    p.sockets = new Set()
    p.server = net.createServer((client) => {
      if (p.cut === 'refuse') return client.destroy()
      const hub = net.connect(Number(port), hostname)
      const pair = [client, hub]
      for (const s of pair) {
        p.sockets.add(s)
        s.on('error', () => {})
        s.on('close', () => { p.sockets.delete(s); for (const o of pair) o.destroy() })
      }
      client.on('data', (b) => { if (p.cut !== 'silent') hub.write(b) })
      hub.on('data', (b) => { if (p.cut !== 'silent') client.write(b) })
    })
    await new Promise((r) => p.server.listen(0, '127.0.0.1', r))
    p.url = `http://127.0.0.1:${p.server.address().port}`
    return p
  }

  /** break closes every connection and takes no new ones; silence keeps them and passes nothing. */
  break() { this.cut = 'refuse'; for (const s of this.sockets) s.destroy() }
  silence() { this.cut = 'silent' }
  mend() {
    if (this.cut === 'silent') for (const s of this.sockets) s.destroy() // what was lost stays lost
    this.cut = undefined
  }
  close() { this.break(); return new Promise((r) => this.server.close(r)) }
}
