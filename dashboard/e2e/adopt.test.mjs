// Devices that an adapter has met are taken in with a click, and then are like any other.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import mqtt from 'mqtt'
import { eventually } from './hub.mjs'
import { api, hub, newID, window } from './stage.mjs'

/** program signs in to the hub's own broker as somebody's program, which starts the dialect of its topics. */
async function program(t, topics) {
  const name = newID('house') + Math.random().toString(36).slice(2, 6)
  const { token } = await api.call('POST', '/apitokens', { name, rights: ['read'], topics })
  const client = await mqtt.connectAsync(hub.mqtt, { username: `service:${name}`, password: token, reconnectPeriod: 0 })
  t.after(() => client.endAsync(true))
  client.on('error', () => {})
  return client
}

/** said publishes again and again until the adapter, which wakes for the account, has heard it. */
const said = (client, topic, payload, heard) => eventually(`${topic} is heard`, async () => {
  await client.publishAsync(topic, typeof payload === 'string' ? payload : JSON.stringify(payload), { qos: 1 })
  return heard()
}, 20_000)

const met = async (part) => (await api.call('GET', '/discovered')).discovered.some((d) => d.adopt.endsWith(part))

test('a Zigbee lamp is adopted from the dashboard and obeys', async (t) => {
  const ieee = `0x00158d${Math.floor(Math.random() * 2 ** 40).toString(16).padStart(10, '0')}`
  const name = `Küchenlampe ${ieee.slice(-4)}`
  const zigbee = await program(t, ['zigbee2mqtt/#'])
  const list = [{
    ieee_address: ieee, friendly_name: name, type: 'Router', supported: true, disabled: false, interview_completed: true, power_source: 'Mains (single phase)',
    definition: { vendor: 'IKEA', model: 'LED1836G9', description: 'TRADFRI bulb', exposes: [{ type: 'light', features: [
      { type: 'binary', name: 'state', property: 'state', value_on: 'ON', value_off: 'OFF', access: 7 },
      { type: 'numeric', name: 'brightness', property: 'brightness', value_min: 0, value_max: 254, access: 7 }] },
    { type: 'numeric', name: 'linkquality', property: 'linkquality', unit: 'lqi', access: 1 }] },
  }]
  zigbee.on('message', (_topic, payload) => {
    const asked = JSON.parse(payload)
    void zigbee.publishAsync(`zigbee2mqtt/${name}`, JSON.stringify({ state: asked.state ?? 'ON', brightness: asked.brightness ?? 200 }))
  })
  await zigbee.subscribeAsync(`zigbee2mqtt/${name}/set`)
  const page = await window(t, '/onboard') // open before it is met
  await said(zigbee, 'zigbee2mqtt/bridge/devices', list, () => met(ieee))

  await page.getByRole('button', { name: `Adopt ${name}` }).click()
  const dialog = page.getByRole('dialog', { name: `Adopt ${name}` })
  assert.equal(await dialog.getByLabel('Id').inputValue(), `kuchenlampe-${ieee.slice(-4)}`)
  assert.equal(await dialog.getByRole('checkbox', { name: 'Light' }).isChecked(), true)
  await dialog.getByText('brightness', { exact: true }).waitFor()
  await dialog.getByLabel('Area').fill('kitchen')
  await dialog.getByRole('button', { name: 'Adopt', exact: true }).click()
  await page.getByRole('link', { name: 'Open its page' }).click()
  await page.getByRole('heading', { level: 1, name }).waitFor()
  const device = await api.call('GET', `/devices/kuchenlampe-${ieee.slice(-4)}`)
  assert.equal(device.area, 'kitchen')
  await said(zigbee, `zigbee2mqtt/${name}`, { state: 'OFF', brightness: 100 }, async () => (await api.call('GET', `/devices/${device.id}/shadow`).catch(() => ({}))).reported?.on === false)
  await page.getByRole('switch', { name }).click()
  await page.getByRole('region', { name: 'Light control' }).getByText(/confirmed in \d+ ms/).waitFor()
})

test('a Tasmota plug is adopted as a sensor and a light that switches', async (t) => {
  const topic = newID('plug')
  const tasmota = await program(t, ['tele/#', 'stat/#', 'cmnd/#'])
  tasmota.on('message', (_topic, payload) => {
    const [, word] = /Power\S*\s+(ON|OFF)/i.exec(payload.toString()) ?? ['', payload.toString() === '1' ? 'ON' : payload.toString()]
    void tasmota.publishAsync(`stat/${topic}/RESULT`, JSON.stringify({ POWER: word.toUpperCase() }))
  })
  await tasmota.subscribeAsync(`cmnd/${topic}/+`)
  await said(tasmota, `tele/${topic}/SENSOR`, { Time: '2026-11-30T10:00:00', ENERGY: { Total: 1.5, Power: 20, Voltage: 230 } }, () => met(topic))
  await said(tasmota, `tele/${topic}/STATE`, { Time: '2026-11-30T10:00:00', POWER: 'OFF' }, () => true)

  const page = await window(t, '/onboard')
  await page.getByRole('button', { name: `Adopt ${topic}` }).click()
  const dialog = page.getByRole('dialog', { name: `Adopt ${topic}` })
  await dialog.getByLabel('Name').fill('Heater plug')
  await dialog.getByLabel('Id').fill(topic)
  const light = dialog.getByRole('checkbox', { name: 'Light' })
  if (!await light.isChecked()) {
    await light.check()
    await dialog.getByLabel('The light can').selectOption({ label: 'On and off' })
  }
  await dialog.getByRole('button', { name: 'Adopt', exact: true }).click()
  await page.getByRole('link', { name: 'Open its page' }).click()
  await page.getByRole('heading', { level: 1, name: 'Heater plug' }).waitFor()
  await said(tasmota, `tele/${topic}/STATE`, { POWER: 'OFF' }, async () => (await api.call('GET', `/devices/${topic}/shadow`).catch(() => ({}))).reported?.on === false)
  await said(tasmota, `tele/${topic}/SENSOR`, { ENERGY: { Total: 1.6, Power: 25, Voltage: 231 } }, async () => 'power' in (await api.call('GET', `/devices/${topic}/latest`)).metrics)
  await page.getByRole('switch', { name: 'Heater plug' }).click()
  await page.getByRole('region', { name: 'Light control' }).getByText(/confirmed in \d+ ms/).waitFor()
})

test('an id that is taken is said in the dialog, which stays', async (t) => {
  const topic = newID('twice')
  await api.device({ id: topic, kinds: ['sensor'] })
  const tasmota = await program(t, ['tele/#', 'stat/#', 'cmnd/#'])
  await said(tasmota, `tele/${topic}/SENSOR`, { SI7021: { Temperature: 21.5 }, TempUnit: 'C' }, () => met(topic))
  const page = await window(t, '/onboard')
  await page.getByRole('button', { name: `Adopt ${topic}` }).click()
  const dialog = page.getByRole('dialog', { name: `Adopt ${topic}` })
  await dialog.getByText('Measures').waitFor()
  await dialog.getByRole('button', { name: 'Adopt', exact: true }).click()
  await dialog.getByRole('alert').getByText('conflict').waitFor()
  await dialog.getByLabel('Id').fill(`${topic}-2`)
  await dialog.getByRole('button', { name: 'Adopt', exact: true }).click()
  await page.getByRole('heading', { level: 1, name: topic }).waitFor()
})
