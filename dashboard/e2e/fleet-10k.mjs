// What a large fleet costs a browser: frame times while scrolling and filtering,
// bytes a second over the socket, and heap. It makes the devices, has a share of
// them send, and prints one table. `node e2e/fleet-10k.mjs [devices]`

import mqtt from 'mqtt'
import { DESKTOP, launch, open, signIn } from './browser.mjs'
import { Api, openHub, sleep } from './hub.mjs'

const COUNT = Number(process.argv[2] ?? 10_000)
const BATCH = 500
const SPEAKERS = Math.min(COUNT, 200) // connections that send every two seconds
const LIMITS = { frame: 50, kBps: 30 }

const hub = await openHub()
const browser = await launch()
const clients = []
let failed = false
try {
  const api = new Api(hub)
  const tokens = new Map()
  const started = Date.now()
  for (let i = 0; i < COUNT; i += BATCH) {
    const list = Array.from({ length: Math.min(BATCH, COUNT - i) }, (_, k) => {
      const n = i + k
      return { id: `s-${String(n).padStart(5, '0')}`, name: `Sensor ${String(n).padStart(5, '0')}`, kinds: ['sensor'], area: `room-${n % 40}`, expected_interval_s: 10 }
    })
    for (const d of (await api.call('POST', '/devices', list)).devices) tokens.set(d.device.id, d.token)
  }
  console.log(`${COUNT} devices made in ${((Date.now() - started) / 1000).toFixed(1)} s`)
  for (const [id, token] of [...tokens].slice(0, SPEAKERS)) {
    const c = await mqtt.connectAsync(hub.mqtt, { username: id, password: token, clientId: id, keepalive: 60, reconnectPeriod: 0, protocolVersion: 4 })
    clients.push([id, c])
  }
  const send = setInterval(() => {
    for (const [id, c] of clients) c.publishAsync(`hub/v1/${id}/r`, JSON.stringify({ r: [['temperature', 20 + Math.random()], ['humidity', 40 + Math.random()]] }), { qos: 1 }).catch(() => {})
  }, 2000)

  const page = await open(browser, DESKTOP)
  const debug = await page.context().newCDPSession(page)
  let bytes = 0
  await debug.send('Network.enable')
  debug.on('Network.webSocketFrameReceived', (e) => { bytes += e.response.payloadData.length })
  await signIn(page, hub.url, hub.username, hub.password)
  await page.getByRole('link', { name: 'Sensor 00000' }).waitFor()

  const quietFrom = bytes
  await sleep(10_000)
  const kBps = (bytes - quietFrom) / 10_000

  /** frames measures the time between frames while what runs. */
  const frames = async (what) => {
    await page.evaluate(() => {
      const times = []
      globalThis.frameTimes = times
      let last = performance.now()
      const next = (t) => { times.push(t - last); last = t; globalThis.frameLoop = requestAnimationFrame(next) }
      globalThis.frameLoop = requestAnimationFrame(next)
    })
    await what()
    const times = (await page.evaluate(() => { cancelAnimationFrame(globalThis.frameLoop); return globalThis.frameTimes })).slice(1).sort((a, b) => a - b)
    return { frames: times.length, p50: times[times.length >> 1], p95: times[Math.floor(times.length * 0.95)], max: times.at(-1) }
  }
  const resting = await frames(() => sleep(4000))
  const scrolling = await frames(async () => {
    await page.mouse.move(640, 500)
    for (let i = 0; i < 60; i++) { await page.mouse.wheel(0, 700); await sleep(50) }
  })
  const jump = Date.now()
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight))
  await page.getByRole('link', { name: `Sensor ${String(COUNT - 1).padStart(5, '0')}` }).waitFor({ timeout: 30_000 })
  const jumped = Date.now() - jump
  await page.evaluate(() => scrollTo(0, 0))
  const filterFrom = Date.now()
  const filtering = await frames(async () => {
    await page.getByRole('searchbox').fill('area:room-7')
    await page.getByRole('button', { name: new RegExp(`^All ${Math.ceil((COUNT - 7) / 40)}`) }).waitFor()
  })
  const filtered = Date.now() - filterFrom
  await debug.send('HeapProfiler.collectGarbage')
  const heap = await page.evaluate(() => performance.memory.usedJSHeapSize / 1e6)

  const row = (name, f) => console.log(`${name.padEnd(12)} ${String(f.frames).padStart(5)} frames  p50 ${f.p50.toFixed(1)} ms  p95 ${f.p95.toFixed(1)} ms  max ${f.max.toFixed(1)} ms`)
  row('at rest', resting)
  row('scrolling', scrolling)
  row('filtering', filtering)
  console.log(`to the end   ${jumped} ms\nfiltered in  ${filtered} ms\nsocket       ${kBps.toFixed(1)} kB/s\nheap         ${heap.toFixed(1)} MB`)
  if (scrolling.p95 > LIMITS.frame) { failed = true; console.log(`FAILED: p95 of scrolling is above ${LIMITS.frame} ms`) }
  if (kBps > LIMITS.kBps) { failed = true; console.log(`FAILED: more than ${LIMITS.kBps} kB/s`) }
  clearInterval(send)
} finally {
  for (const [, c] of clients) c.end(true)
  await browser.close()
  await hub.stop()
}
process.exitCode = failed ? 1 : 0
