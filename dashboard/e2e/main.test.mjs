// Signing in, the list, values as they arrive, charts with history.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { open, PHONE } from './browser.mjs'
import { eventually, sleep } from './hub.mjs'
import { api, browser, hub, newID, window } from './stage.mjs'

const run = promisify(execFile)

/** publish is mosquitto_pub, as a person at a shell would use it. */
async function publish(id, token, topic, message) {
  const { hostname, port } = new URL(hub.mqtt)
  await run('mosquitto_pub', ['-h', hostname, '-p', port, '-u', id, '-P', token, '-q', '1', '-t', `hub/v1/${id}/${topic}`, '-m', message])
}

test('signing in: a wrong password is refused in words, the right one opens the fleet, and a reload stays signed in', async (t) => {
  const page = await open(browser)
  t.after(() => page.context().close())
  const refused = []
  page.on('response', (r) => { if (r.status() >= 400) refused.push(r.url()) })
  await page.goto(hub.url)
  await page.getByLabel('User name').fill(hub.username)
  assert.deepEqual(refused, [], 'a first visit asks for nothing that it may not have')
  await page.getByLabel('Password').fill('wrong')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').getByText('unauthorized').waitFor()
  await page.getByLabel('Password').fill(hub.password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Fleet' }).waitFor()
  await page.reload()
  await page.getByRole('heading', { name: 'Fleet' }).waitFor()
  const cookies = await page.context().cookies()
  assert.ok(cookies.length > 0 && cookies.every((c) => c.httpOnly && c.sameSite === 'Strict'), 'the session is a cookie that scripts cannot read')
  assert.deepEqual(page.faults, [])
})

test('a reading published by mosquitto_pub appears in the list and on the device page', async (t) => {
  const id = newID('kitchen-temp')
  const token = await api.device({ id, kinds: ['sensor'], name: `Kitchen ${id}`, area: 'kitchen' })
  const page = await window(t, `/?q=${id}`)
  await page.getByRole('link', { name: `Kitchen ${id}` }).waitFor()
  await page.getByRole('row').filter({ hasText: id }).getByText('Never seen').waitFor()
  await publish(id, token, 'r', '{"m":"temperature","v":21.4}')
  await page.getByRole('row').filter({ hasText: id }).getByText('21.4 °C').waitFor()

  await page.getByRole('link', { name: `Kitchen ${id}` }).click()
  await page.getByRole('heading', { level: 1, name: `Kitchen ${id}` }).waitFor()
  await page.locator('[data-metric=temperature]').getByText('21.4 °C').waitFor()
  await publish(id, token, 'r/temperature', '22.9')
  await page.locator('[data-metric=temperature]').getByText('22.9 °C').waitFor()
})

/** linePixels counts what is painted in the colour of the line. */
const linePixels = (page) => page.evaluate(() => {
  const canvas = document.querySelector('.metric canvas')
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let n = 0
  for (let i = 0; i < data.length; i += 4) if (data[i] === 0x2f && data[i + 1] === 0x5b && data[i + 2] === 0xea) n++
  return n
})

test('a wild reading does not flatten the line', async (t) => {
  const id = newID('wild')
  const token = await api.device({ id, kinds: ['sensor'] })
  const now = Date.now()
  await api.reading(id, token, Array.from({ length: 80 }, (_, i) => ['temperature', 20 + (i % 7), (i - 80) * 10_000]), now)
  const page = await window(t, `/devices/${id}?range=15m`)
  await eventually('the line is drawn', async () => (await linePixels(page)) > 500)
  const before = await linePixels(page)
  await api.reading(id, token, [['temperature', 1e7]])
  await page.locator('[data-metric=temperature]').getByText('out of range').or(page.getByText('out of range')).first().waitFor()
  await sleep(500)
  assert.ok((await linePixels(page)) > before * 0.7, 'the line has gone flat')
})

test('the chart begins with history, draws gaps, and goes on live; its table and CSV hold the same', async (t) => {
  const id = newID('chart')
  const token = await api.device({ id, kinds: ['sensor'], expected_interval_s: 60 })
  const now = Date.now()
  const r = []
  for (let m = 55; m >= 1; m--) if (m < 20 || m > 35) r.push(['temperature', 20 + m / 10, -m * 60_000])
  await api.reading(id, token, r, now)
  const page = await window(t, `/devices/${id}?range=1h`)
  await page.locator('.metric canvas').waitFor()
  await eventually('the line is drawn', async () => (await linePixels(page)) > 60)
  await page.getByRole('button', { name: 'Show the charts as tables' }).click()
  const table = page.getByRole('table', { name: /Temperature/ })
  await table.waitFor()
  assert.equal(await table.locator('tbody tr').count(), r.length)
  await api.reading(id, token, [['temperature', 33.3]])
  await table.getByText('33.3 °C').first().waitFor()

  const download = page.waitForEvent('download')
  await page.getByRole('button', { name: /Download/ }).click()
  const file = await (await download).path()
  const lines = (await import('node:fs')).readFileSync(file, 'utf8').trim().split('\r\n')
  assert.equal(lines[0], 'device,metric,t,time,mean,min,max,count,unit')
  assert.equal(lines.length - 1, r.length + 1)
  assert.match(lines.at(-1), /,33\.3,/)
})

test('ranges are in the address, keys change them, and pausing holds the picture', async (t) => {
  const id = newID('range')
  const token = await api.device({ id, kinds: ['sensor'] })
  await api.reading(id, token, [['co2', 640]])
  const page = await window(t, `/devices/${id}`)
  await page.locator('[data-metric=co2]').waitFor()
  await page.getByRole('button', { name: '24 h' }).click()
  await page.waitForURL(/range=24h/)
  await page.keyboard.press('[')
  await page.waitForURL(/range=6h/)
  await page.reload()
  await page.getByRole('button', { name: '6 h', pressed: true }).waitFor()
  await page.keyboard.press('p')
  await page.getByText('Paused at').waitFor()
  await page.getByRole('button', { name: 'Resume the charts' }).click()

  // Dragging over the chart zooms into what was dragged over.
  const over = await page.locator('.u-over').first().boundingBox()
  await page.mouse.move(over.x + over.width * 0.3, over.y + 50)
  await page.mouse.down()
  await page.mouse.move(over.x + over.width * 0.6, over.y + 50, { steps: 5 })
  await page.mouse.up()
  await page.waitForURL(/from=\d+&to=\d+/)
  const q = new URL(page.url()).searchParams
  const hours = (q.get('to') - q.get('from')) / 3_600_000
  assert.ok(hours > 1.5 && hours < 2.1, `zoomed to ${hours} h, want about 1.8`)
  await page.getByRole('button', { name: 'Back to live' }).click()
  await page.getByRole('button', { name: '6 h', pressed: true }).waitFor()
})

test('a late reading is marked, and does not move the value', async (t) => {
  const id = newID('late')
  const token = await api.device({ id, kinds: ['sensor'] })
  await api.reading(id, token, [['temperature', 21]])
  const page = await window(t, `/devices/${id}?range=1h`)
  await page.locator('[data-metric=temperature]').getByText('21.0 °C').waitFor()
  await page.getByRole('button', { name: 'Show the charts as tables' }).click()
  await api.reading(id, token, [['temperature', 11, 0]], Date.now() - 20 * 60_000)
  await page.getByRole('table', { name: /Temperature/ }).getByText('11.0 °C').first().waitFor()
  assert.match(await page.locator('[data-metric=temperature]').textContent(), /21\.0 °C/)
})

test('search, chips and keyboard alone', async (t) => {
  const area = newID('attic')
  for (const n of ['a', 'b', 'c']) await api.device({ id: newID(`key-${n}`), kinds: ['sensor'], name: `Key ${n}`, area })
  const page = await window(t)
  await page.keyboard.press('/')
  await page.keyboard.type(`area:${area}`)
  await page.waitForURL(/q=area/)
  await eventually('three rows', async () => (await page.getByRole('row').filter({ hasText: area }).count()) === 3)
  await page.getByRole('button', { name: /Never seen 3/ }).click()
  await page.waitForURL(/status%3Anever_seen/)
  await page.keyboard.press('Escape')
  await page.locator('body').press('j')
  await page.keyboard.press('j')
  await eventually('the second device has the focus', async () => (await page.evaluate(() => document.activeElement.textContent)) === 'Key b')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { level: 1, name: 'Key b' }).waitFor()
  await page.goBack()
  await page.waitForURL(/status%3Anever_seen/) // a deep link, back and forth
  await page.getByRole('link', { name: 'Key a' }).waitFor()
})

test('on a phone nothing is wider than the screen or smaller than a finger, and the navigation is under the thumb', async (t) => {
  const id = newID('phone')
  const token = await api.device({ id, kinds: ['sensor', 'light'], name: 'On the phone', light: { modes: ['rgb', 'color_temp'], effects: ['candle'] } })
  await api.reading(id, token, [['temperature', 21.4], ['humidity', 40]])
  const page = await window(t, '/', { options: PHONE })
  for (const path of ['/', `/devices/${id}`, `/devices/${id}?tab=events`, `/devices/${id}?tab=token`, `/devices/${id}?tab=settings`, '/commands', '/onboard', '/admin', '/admin/audit', '/admin/keys']) {
    await page.goto(hub.url + path)
    await page.getByRole('heading', { level: 1 }).waitFor()
    await sleep(300)
    const [scroll, width] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth])
    assert.ok(scroll <= 390 && width <= 390, `${path} is ${scroll} wide`)
    const nav = await page.getByRole('navigation', { name: 'Main' }).boundingBox()
    assert.ok(nav.y > 700, `${path}: the navigation is at ${nav.y}`)
    const small = await page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea, nav a, .button')]
      .filter((e) => e.checkVisibility())
      .map((e) => [e.textContent || e.ariaLabel || e.name, (e.type === 'checkbox' ? e.closest('label') : e).getBoundingClientRect()])
      .filter(([, r]) => r.height < 44 || r.width < 44)
      .map(([name, r]) => `${name}: ${Math.round(r.width)} x ${Math.round(r.height)}`))
    assert.deepEqual(small, [], path)
  }
})

/** touch puts fingers on the page as a touch screen would, and lifts them after the last step. */
async function touch(page, steps) {
  const debug = await page.context().newCDPSession(page)
  const points = (xs, y) => xs.map((x, id) => ({ x, y, id }))
  await debug.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: points(steps.from, steps.y) })
  for (let i = 1; i <= 8; i++) {
    await debug.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: points(steps.from.map((x, k) => x + ((steps.to[k] - x) * i) / 8), steps.y) })
    await sleep(30)
  }
  await debug.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
  await debug.detach()
}

test('two fingers stretch a chart, one moves it', async (t) => {
  const id = newID('pinch')
  const token = await api.device({ id, kinds: ['sensor'] })
  await api.reading(id, token, [['temperature', 21]])
  const page = await window(t, `/devices/${id}?range=1h`, { options: PHONE })
  await page.locator('.u-over').first().waitFor()
  await sleep(500)
  const span = () => { const q = new URL(page.url()).searchParams; return [Number(q.get('from')), Number(q.get('to'))] }
  const over = await page.locator('.u-over').first().boundingBox()
  const y = over.y + over.height / 2
  const at = (share) => over.x + over.width * share

  await touch(page, { y, from: [at(0.4), at(0.6)], to: [at(0.2), at(0.8)] })
  await page.waitForURL(/from=\d+&to=\d+/)
  const [from, to] = span()
  const minutes = (to - from) / 60_000
  assert.ok(minutes > 17 && minutes < 23, `three times the width shows ${minutes} min, want about 20`)

  await touch(page, { y, from: [at(0.3)], to: [at(0.8)] })
  await eventually('it has moved', () => span()[0] !== from)
  const moved = (from - span()[0]) / (to - from)
  assert.ok(moved > 0.4 && moved < 0.6, `half the width moves it by ${moved} of its span`)
  assert.ok(Math.abs(span()[1] - span()[0] - (to - from)) < 1000, 'and keeps its width')
  await page.getByRole('button', { name: 'Back to live' }).click()
  await page.getByRole('button', { name: '1 h', pressed: true }).waitFor()
})
