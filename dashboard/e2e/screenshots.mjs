// Pictures of every view, light and dark, desktop and phone, with a small house
// full of devices behind them. They go to pictures/, or to the folder given.

import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { DESKTOP, launch, open, PHONE, signIn } from './browser.mjs'
import { Light, Sensor } from './devices.mjs'
import { Api, openHub, sleep } from './hub.mjs'

const out = path.resolve(process.argv[2] ?? path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), 'pictures'))
const HOUR = 3_600_000
const STEP = 5 * 60_000
const HISTORY = 26 * HOUR
const BATCH = 150

// Each metric is a function of time, so that history and present are one line.
const day = (t, shift = 0) => Math.sin(((t / HOUR - 9 + shift) / 24) * 2 * Math.PI)
const ripple = (t, s) => Math.sin(t / 4.1e5 + s) * 0.5 + Math.sin(t / 1.3e6 + 2 * s) * 0.5
const round = (v, d = 1) => Number(v.toFixed(d))
const climate = (s, mean) => ({
  temperature: (t) => round(mean + 1.6 * day(t, s) + 0.35 * ripple(t, s)),
  humidity: (t) => round(46 - 6 * day(t, s) + 2.5 * ripple(t, s + 1)),
})

const SENSORS = [
  { id: 'kitchen-climate', name: 'Kitchen climate', area: 'kitchen', metrics: { ...climate(0, 21.6), co2: (t) => round(720 + 240 * Math.max(0, day(t, 2)) + 90 * ripple(t, 3), 0), battery: () => 87, rssi: (t) => round(-58 + 3 * ripple(t, 4), 0) } },
  { id: 'bedroom-climate', name: 'Bedroom climate', area: 'bedroom', metrics: { ...climate(1.5, 19.4), battery: () => 64, rssi: (t) => round(-71 + 3 * ripple(t, 5), 0) } },
  { id: 'cellar-climate', name: 'Cellar climate', area: 'cellar', metrics: { ...climate(4, 14.2), battery: () => 12, rssi: (t) => round(-84 + 2 * ripple(t, 6), 0) } },
  { id: 'greenhouse', name: 'Greenhouse', area: 'garden', metrics: { temperature: (t) => round(17 + 8 * day(t)), moisture: (t) => round(48 + 6 * ripple(t, 7), 0), illuminance: (t) => round(Math.max(0, 21000 * day(t)), 0) } },
  { id: 'house-power', name: 'House power', area: 'cellar', metrics: { power: (t) => round(420 + 260 * Math.max(0, day(t, 3)) + 140 * ripple(t, 8)), voltage: (t) => round(231 + 1.5 * ripple(t, 9)) } },
  { id: 'front-door', name: 'Front door', area: 'hall', metrics: { door: (t) => Math.floor(t / 2.7e6) % 9 === 0, battery: () => 91 } },
  { id: 'attic-leak', name: 'Attic leak', area: 'attic', metrics: { leak: () => false, battery: () => 78 }, quiet: true },
  { id: 'garden-rain', name: 'Rain gauge', area: 'garden', metrics: { rain: (t) => round(4 + 3 * ripple(t, 11)) }, gone: true },
]
const RGB = { modes: ['rgb', 'color_temp'], min_kelvin: 2200, max_kelvin: 6500, effects: ['candle', 'sunset', 'rainbow'] }
const LIGHTS = [
  { id: 'kitchen-lamp', name: 'Kitchen lamp', area: 'kitchen', light: RGB, state: { on: true, brightness: 200, mode: 'rgb', rgb: [255, 147, 41], effect: 'none' }, metrics: { power: (t) => (((t / HOUR) % 24) > 17 || ((t / HOUR) % 24) < 0.5 || ((t / HOUR) % 24) > 5.5 && ((t / HOUR) % 24) < 9 ? round(8.4 + 0.2 * ripple(t, 12)) : 0.3) } },
  { id: 'desk-lamp', name: 'Desk lamp', area: 'office', light: RGB, state: { on: true, brightness: 255, mode: 'color_temp', kelvin: 4000, effect: 'none' } },
  { id: 'hall-light', name: 'Hall light', area: 'hall', light: { modes: ['brightness'] }, state: { on: false, brightness: 140 } },
  { id: 'porch-light', name: 'Porch light', area: 'garden', light: { modes: ['onoff'] }, state: { on: true } },
]

async function house(hub, api) {
  const now = Date.now()
  const running = []
  for (const d of [...SENSORS, ...LIGHTS]) {
    const kinds = [...(d.metrics ? ['sensor'] : []), ...(d.light ? ['light'] : [])]
    const token = await api.device({ id: d.id, name: d.name, area: d.area, kinds, ...(d.metrics ? { expected_interval_s: d.quiet ? 2 : 10 } : {}), ...(d.light ? { light: d.light } : {}) })
    const entries = Object.entries(d.metrics ?? {})
    const r = []
    for (let t = now - HISTORY; t < now; t += t > now - HOUR ? 10_000 : STEP) for (const [m, f] of entries) r.push([m, f(t), t])
    for (let i = 0; i < r.length; i += BATCH) {
      const t0 = Date.now()
      await api.reading(d.id, token, r.slice(i, i + BATCH).map(([m, v, t]) => [m, v, t - t0]), t0)
    }
    const device = d.light ? await Light.connect(hub.mqtt, d.id, token, { state: d.state, delay: 90 }) : await Sensor.connect(hub.mqtt, d.id, token)
    if (d.gone) await device.close()
    else running.push({ d, device, entries })
  }
  const tick = setInterval(() => {
    const t = Date.now()
    for (const { d, device, entries } of running) {
      if (!entries.length || d.quiet) continue
      const values = Object.fromEntries(entries.map(([m, f]) => [m, f(t)]))
      const publish = device.send.length === 1 ? device.send(values) : device.send('r', { t0: t, r: Object.entries(values).map(([m, v]) => [m, v, 0]) })
      publish.catch(() => {})
    }
  }, 2000)
  return () => { clearInterval(tick); return Promise.all(running.map(({ device }) => device.close())) }
}

const VIEWS = [
  ['fleet', '/'],
  ['device', '/devices/kitchen-lamp?range=24h'],
  ['sensor', '/devices/kitchen-climate?range=24h'],
  ['light', '/devices/desk-lamp'],
  ['events', '/devices/garden-rain?tab=events'],
  ['commands', '/commands'],
  ['onboard', '/onboard'],
  ['users', '/admin'],
  ['audit', '/admin/audit'],
  ['keys', '/admin/keys'],
  ['nodes', '/admin/nodes'],
]

const hub = await openHub()
const browser = await launch()
try {
  await mkdir(out, { recursive: true })
  const api = new Api(hub)
  const stop = await house(hub, api)
  await api.call('POST', '/users', { username: 'ana', password: 'a long enough password', role: 'operator', scope: 'area=kitchen' })
  for (const [id, params] of [['hall-light', { on: true }], ['kitchen-lamp', { brightness: 120 }], ['hall-light', { brightness: 90 }], ['kitchen-lamp', { brightness: 200 }], ['desk-lamp', { kelvin: 4000 }], ['hall-light', { on: false }]]) {
    await api.call('POST', `/devices/${id}/commands?wait=confirmed`, { op: 'set', params })
  }
  await sleep(8000)
  for (const [size, device] of [['desktop', DESKTOP], ['phone', PHONE]]) {
    for (const theme of ['light', 'dark']) {
      const page = await open(browser, { ...device, colorScheme: theme, ...(size === 'desktop' ? { deviceScaleFactor: 1.5 } : {}) })
      const shoot = async (name) => {
        await page.mouse.move(0, 0)
        await sleep(1500)
        await page.screenshot({ path: path.join(out, `${name}-${size}-${theme}.png`) })
      }
      await page.goto(hub.url)
      await page.getByLabel('User name').waitFor()
      await shoot('sign-in')
      await signIn(page, hub.url, hub.username, hub.password)
      for (const [name, view] of VIEWS) {
        await page.goto(hub.url + view)
        await page.getByRole('heading', { level: 1 }).waitFor()
        await shoot(name)
      }
      await page.goto(`${hub.url}/onboard`)
      await page.getByLabel('Name', { exact: true }).fill(`Balcony ${size} ${theme}`)
      await page.getByRole('button', { name: 'Create the device' }).click()
      await page.getByRole('img', { name: /QR code/ }).waitFor()
      await shoot('token')
      if (page.faults.length) throw new Error(page.faults.join('\n'))
      await page.context().close()
    }
  }
  await stop()
  console.log(`pictures are in ${out}`)
} finally {
  await browser.close()
  await hub.stop()
}
