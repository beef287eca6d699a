// Losing the hub and finding it again.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually, Cable, sleep } from './hub.mjs'
import { Light } from './devices.mjs'
import { api, hub, newID, window } from './stage.mjs'

const BANNER = 'Connection lost, reconnecting'

for (const how of ['break', 'silence']) {
  test(`a connection that ${how === 'break' ? 'breaks' : 'falls silent'} is said within two seconds, and its gap is filled on return`, async (t) => {
    const id = newID(`cable-${how}`)
    const token = await api.device({ id, kinds: ['sensor'] })
    await api.reading(id, token, [['temperature', 20]])
    const proxy = await Cable.open(hub.url)
    t.after(() => proxy.close())
    const page = await window(t, `/devices/${id}`, { url: proxy.url })
    await page.locator('[data-metric=temperature]').getByText('20.0 °C').waitFor()
    await page.getByRole('button', { name: 'Show the charts as tables' }).click()
    await sleep(1500) // the link is at rest

    const lost = Date.now()
    proxy[how]()
    await page.getByText(BANNER).waitFor({ timeout: 4000 })
    const took = Date.now() - lost
    assert.ok(took <= 2100, `the banner came after ${took} ms`)
    await page.getByRole('list', { name: 'Link, data and control' }).getByText('link unknown').waitFor()
    assert.equal(await page.locator('.triad .good').count(), 0, 'nothing is good that nobody knows')

    const values = [21, 22, 23]
    for (const v of values) {
      await api.reading(id, token, [['temperature', v]])
      await sleep(1100)
    }
    assert.match(await page.locator('[data-metric=temperature]').textContent(), /20\.0 °C/)
    proxy.mend()
    await page.getByText(BANNER).waitFor({ state: 'detached', timeout: 15_000 })
    await page.locator('[data-metric=temperature]').getByText('23.0 °C').waitFor()
    const table = page.getByRole('table', { name: /Temperature/ })
    for (const v of values) await table.getByText(`${v}.0 °C`).first().waitFor()
    // And it goes on, without doubles.
    await api.reading(id, token, [['temperature', 24]])
    await table.getByText('24.0 °C').first().waitFor()
    const times = await table.locator('tbody td:first-child').allTextContents()
    assert.equal(new Set(times).size, times.length, 'a moment stands twice')
  })
}

test('while the connection is lost controls say so, and nothing is sent later', async (t) => {
  const id = newID('lost-lamp')
  const token = await api.device({ id, kinds: ['light'], name: 'Lost lamp', light: { modes: ['brightness'] } })
  const light = await Light.connect(hub.mqtt, id, token)
  t.after(() => light.close())
  const proxy = await Cable.open(hub.url)
  t.after(() => proxy.close())
  const page = await window(t, `/devices/${id}`, { url: proxy.url })
  await page.getByText('Online').first().waitFor()
  proxy.break()
  await page.getByText(BANNER).waitFor()
  const control = page.getByRole('switch', { name: 'Lost lamp' })
  assert.equal(await control.getAttribute('aria-disabled'), 'true')
  await control.click({ force: true })
  proxy.mend()
  await page.getByText(BANNER).waitFor({ state: 'detached', timeout: 15_000 })
  await sleep(500)
  assert.equal(light.seen.length, 0)
  await control.click()
  await eventually('on', () => light.state.on === true)
})
