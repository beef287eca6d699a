// Lights: what is asked for, what is reported, and what stands between.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually, sleep } from './hub.mjs'
import { Light } from './devices.mjs'
import { api, hub, newID, window } from './stage.mjs'

const CAPS = { modes: ['rgb', 'color_temp'], effects: ['candle', 'rainbow'] }

async function lamp(t, name, options) {
  const id = newID(name)
  const token = await api.device({ id, kinds: ['light'], name: `The ${id}`, light: CAPS })
  const light = await Light.connect(hub.mqtt, id, token, options)
  t.after(() => light.close())
  return { id, name: `The ${id}`, light, token }
}

test('switching a light on the page reaches a light over MQTT and comes back confirmed', async (t) => {
  const { id, name, light } = await lamp(t, 'lamp', { delay: 250 })
  const page = await window(t, `/devices/${id}`)
  const control = page.getByRole('switch', { name })
  await page.getByText('Online').first().waitFor()
  assert.equal(await control.getAttribute('aria-checked'), 'false')
  await control.click()
  await page.locator('.light-outcome').getByText('pending').waitFor()
  assert.equal(await control.getAttribute('aria-checked'), 'false', 'it shows what is, not what was asked for')
  await page.locator('.light-outcome').getByText(/^confirmed in \d+ ms$/).waitFor()
  assert.equal(await control.getAttribute('aria-checked'), 'true')
  assert.equal(light.state.on, true)
  await page.getByRole('heading', { name: /^On · 51 %/ }).waitFor()

  // The command log has it, with who and how long.
  const entry = page.locator('.command').first()
  await entry.getByText(/confirmed in/).waitFor()
  await entry.getByRole('button').first().click()
  await entry.getByText(/device \d+/).waitFor()
  await page.waitForURL(/cmd=[0-9A-Z]{26}/)
})

test('a hand on the switch shows on the page, in both windows', async (t) => {
  const { id, name, light } = await lamp(t, 'both')
  const [one, two] = [await window(t, `/devices/${id}`), await window(t, `/devices/${id}`)]
  for (const page of [one, two]) await page.getByRole('switch', { name }).waitFor()
  await light.press({ on: true, brightness: 255 })
  for (const page of [one, two]) await page.getByRole('heading', { name: 'On · 100 %' }).waitFor()
  await one.getByRole('switch', { name }).click()
  for (const page of [one, two]) await page.getByRole('heading', { name: 'Off' }).waitFor()
  await two.locator('.light-outcome').getByText('confirmed').waitFor()
})

test('brightness by keyboard, colour, white and effects arrive in the light’s own terms', async (t) => {
  const { id, light } = await lamp(t, 'dimmer', { state: { on: true, brightness: 128, mode: 'rgb', rgb: [255, 255, 255] } })
  const page = await window(t, `/devices/${id}`)
  const slider = page.getByRole('slider', { name: 'Brightness' })
  await page.getByText('Online').first().waitFor() // before, it is disabled, and a key does nothing
  await slider.focus()
  await slider.press('End')
  await eventually('full brightness', () => light.state.brightness === 255)
  assert.equal(await slider.getAttribute('aria-valuetext'), '100 percent')
  await page.getByLabel('Hex').fill('#ff7800')
  await page.getByLabel('Hex').press('Enter')
  await eventually('orange', () => JSON.stringify(light.state.rgb) === '[255,120,0]')
  await page.getByRole('button', { name: 'White' }).click()
  await page.getByRole('slider', { name: 'White temperature' }).press('Home')
  await eventually('warm white', () => light.state.kelvin === 2000)
  await page.getByRole('button', { name: 'candle' }).click()
  await eventually('an effect', () => light.state.effect === 'candle')
  await page.locator('.light-outcome').getByText(/^confirmed/).waitFor()
})

test('dragging sends at most ten a second, and the last value always', async (t) => {
  const { id, light } = await lamp(t, 'drag', { delay: 5, state: { on: true, brightness: 10 } })
  const page = await window(t, `/devices/${id}`)
  const box = await page.getByRole('slider', { name: 'Brightness' }).boundingBox()
  const y = box.y + box.height / 2
  const started = Date.now()
  await page.mouse.move(box.x + 14, y)
  await page.mouse.down()
  for (let i = 0; i <= 60; i++) {
    await page.mouse.move(box.x + 14 + ((box.width - 26) * i) / 60, y)
    await sleep(12)
  }
  await page.mouse.up()
  const seconds = (Date.now() - started) / 1000
  await eventually('the last value', () => light.state.brightness === 255)
  assert.ok(light.seen.length <= 10 * seconds + 3, `${light.seen.length} commands in ${seconds} s`)
})

test('a failure shows the device’s own code and words, and the control snaps back', async (t) => {
  const { id, name } = await lamp(t, 'hot', { behave: () => ({ fail: { code: 'overheated', msg: 'LED driver above 85 °C' } }) })
  const page = await window(t, `/devices/${id}`)
  await page.getByRole('switch', { name }).click()
  await page.locator('.light-outcome').getByText('failed: LED driver above 85 °C (overheated)').waitFor()
  assert.equal(await page.getByRole('switch', { name }).getAttribute('aria-checked'), 'false')
})

test('an offline light says why it cannot be switched', async (t) => {
  const { id, name, light } = await lamp(t, 'gone')
  const page = await window(t, `/devices/${id}`)
  await page.getByText('Online').first().waitFor()
  await light.close()
  await page.getByText('Offline').first().waitFor()
  await page.getByRole('note').getByText(/^Offline/).waitFor()
  assert.equal(await page.getByRole('switch', { name }).getAttribute('aria-disabled'), 'true')
  await page.getByRole('tab', { name: 'Events' }).click()
  await page.getByRole('row').filter({ hasText: 'Offline' }).first().waitFor()
})

test('the list switches lights too, by mouse and by key', async (t) => {
  const { id, name, light } = await lamp(t, 'listed')
  const page = await window(t, `/?q=${id}`)
  await page.getByRole('switch', { name }).click()
  await eventually('on', () => light.state.on === true)
  await page.getByText(/^confirmed in/).waitFor()
  await page.locator('body').press('j')
  await page.getByRole('link', { name }).press(' ')
  await eventually('off', () => light.state.on === false)
})
