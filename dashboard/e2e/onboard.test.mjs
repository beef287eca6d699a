// A new device: created, handed over, seen to arrive; and its token ended.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { Light } from './devices.mjs'
import { eventually, root } from './hub.mjs'
import { open, PHONE } from './browser.mjs'
import { api, browser, hub, newID, window } from './stage.mjs'

const run = promisify(execFile)

test('create a sensor, run the one-liner that is shown, and watch it arrive', async (t) => {
  const name = newID('Greenhouse')
  const page = await window(t, '/onboard')
  await page.getByLabel('Name', { exact: true }).fill(name)
  assert.equal(await page.getByLabel('Id', { exact: true }).inputValue(), name.toLowerCase())
  await page.getByRole('button', { name: 'Create the device' }).click()
  await page.getByRole('img', { name: /QR code/ }).waitFor()
  await page.getByText('Waiting for it to connect').waitFor()
  await page.getByRole('button', { name: 'curl' }).click()
  const line = await page.getByLabel('curl example').textContent()
  const { stdout } = await run('sh', ['-c', line])
  assert.equal(JSON.parse(stdout).accepted, 1)
  await page.getByText('First reading: Temperature 21.4 °C').waitFor()
  await page.getByText(/^Connected/).waitFor()
  await page.getByRole('link', { name: 'Open its page' }).click()
  await page.locator('[data-metric=temperature]').getByText('21.4 °C').waitFor()
})

for (const kind of ['sensor', 'light']) {
  test(`every line that is shown for a ${kind} works as it is pasted`, async (t) => {
    const id = newID(`paste-${kind}`)
    const page = await window(t, '/onboard')
    await page.getByLabel('Id', { exact: true }).fill(id)
    if (kind === 'light') {
      await page.getByRole('checkbox', { name: 'Sensor' }).uncheck()
      await page.getByRole('checkbox', { name: 'Light' }).check()
    }
    await page.getByRole('button', { name: 'Create the device' }).click()
    const heard = async () => kind === 'sensor'
      ? Object.values((await api.call('GET', `/devices/${id}/latest`)).metrics)[0]?.t ?? 0
      : (await api.call('GET', `/devices/${id}/shadow`).catch(() => ({}))).reported?.t ?? 0
    const dir = await mkdtemp(path.join(root, 'dashboard', 'node_modules', '.paste-')) // where phoenix is found
    t.after(() => rm(dir, { recursive: true, force: true }))
    for (const way of ['curl', 'mosquitto_pub', 'Go', 'JavaScript', 'firmware-sim']) {
      await page.getByRole('button', { name: way, exact: true }).click()
      const text = await page.getByLabel(`${way} example`).textContent()
      const before = await heard()
      const file = path.join(dir, { Go: 'main.go', JavaScript: 'device.mjs' }[way] ?? 'line.sh')
      await writeFile(file, text)
      const [program, first] = { Go: ['go', ['run', file]], JavaScript: [process.execPath, [file]] }[way] ?? ['sh', [file]]
      const env = { ...process.env, PATH: `${path.resolve(process.env.DEVICEHUB_BIN ?? path.join(root, 'bin'))}:${process.env.PATH}` }
      const child = spawn(program, first, { cwd: root, env, detached: true, stdio: 'pipe' })
      child.stdin.on('error', () => {}) // not all of them read
      child.stdin.write(kind === 'sensor' ? '22.5\n' : 'p\n') // what a person types to firmware-sim
      let said = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (b) => { said += b })
      try {
        await eventually(`${way} is heard`, async () => (await heard()) > before, 60_000).catch((e) => { throw new Error(`${e.message}\n${said}`) })
      } finally {
        try { process.kill(-child.pid, 'SIGTERM') } catch { /* it has ended by itself */ }
      }
    }
    await page.getByText(kind === 'sensor' ? /First reading: Temperature/ : /First report: O/).waitFor()
  })
}

test('what the QR code opens shows the token to a phone that is not signed in', async (t) => {
  const id = newID('scanned')
  const token = await api.device({ id, kinds: ['sensor'] })
  const page = await open(browser, PHONE)
  t.after(() => page.context().close())
  const asked = []
  page.on('request', (r) => asked.push(r.url()))
  await page.goto(`${hub.url}/handover#${new URLSearchParams({ id, kind: 'sensor', token })}`)
  await page.getByRole('heading', { level: 1, name: id }).waitFor()
  assert.equal(await page.locator('.token-line code').textContent(), token)
  await page.getByRole('button', { name: 'curl' }).click()
  await run('sh', ['-c', await page.getByLabel('curl example').textContent()])
  assert.equal((await api.call('GET', `/devices/${id}/latest`)).metrics.temperature.v, 21.4)
  assert.ok(asked.every((u) => !u.includes(token) || u.includes('#')), 'the token was sent to the hub')
  assert.deepEqual(page.faults, [])
})

test('a taken id is refused with its code and what to do', async (t) => {
  const id = newID('taken')
  await api.device({ id, kinds: ['sensor'] })
  const page = await window(t, '/onboard')
  await page.getByLabel('Id', { exact: true }).fill(id)
  await page.getByRole('button', { name: 'Create the device' }).click()
  await page.getByRole('alert').getByText('conflict').waitFor()
  await page.getByText('Choose another id').waitFor()
  assert.equal(await page.getByRole('button', { name: 'Use the id again' }).count(), 0, 'it is another device’s')
})

test('the id of a device that was deleted by mistake is taken again', async (t) => {
  const id = newID('again')
  await api.device({ id, kinds: ['sensor'], name: 'Wrong' })
  await api.call('DELETE', `/devices/${id}`)
  const page = await window(t, '/onboard')
  await page.getByLabel('Name', { exact: true }).fill('Right')
  await page.getByLabel('Id', { exact: true }).fill(id)
  await page.getByRole('button', { name: 'Create the device' }).click()
  await page.getByRole('alert').getByText('conflict').waitFor()
  await page.getByRole('button', { name: 'Use the id again' }).click()
  await page.getByRole('heading', { level: 1, name: 'Right' }).waitFor()
  assert.equal((await api.call('GET', `/devices/${id}`)).name, 'Right')
})

test('create a light, see its first report, revoke its token: it is gone within a second', async (t) => {
  const id = newID('porch')
  const page = await window(t, '/onboard')
  await page.getByLabel('Name', { exact: true }).fill('Porch')
  await page.getByLabel('Id', { exact: true }).fill(id)
  await page.getByRole('checkbox', { name: 'Sensor' }).uncheck()
  await page.getByRole('checkbox', { name: 'Light' }).check()
  await page.getByRole('button', { name: 'Create the device' }).click()
  const token = await page.locator('.token-line code').textContent()
  const light = await Light.connect(hub.mqtt, id, token, { state: { on: true, brightness: 255 } })
  t.after(() => light.close())
  await page.getByText('First report: On · 100 %').waitFor()
  await page.getByText('Connected over MQTT').waitFor()

  await page.goto(`${hub.url}/devices/${id}?tab=token`)
  await page.getByRole('button', { name: 'Revoke all tokens' }).click()
  const dialog = page.getByRole('dialog', { name: 'Revoke all tokens' })
  const revoke = dialog.getByRole('button', { name: 'Revoke' })
  assert.equal(await revoke.isDisabled(), true, 'the id must be typed first')
  await dialog.getByLabel(/Type/).fill(id)
  const ended = new Promise((r) => light.client.once('close', () => r(Date.now())))
  const asked = Date.now()
  await revoke.click()
  assert.ok((await ended) - asked < 1500, 'the device is still connected')
  await page.getByText(/Offline/).first().waitFor()
  await page.getByText('its token was revoked').first().waitFor()
})

test('rotating shows a new token once, and the device’s name can be changed', async (t) => {
  const id = newID('rotate')
  await api.device({ id, kinds: ['sensor'] })
  const page = await window(t, `/devices/${id}?tab=token`)
  await page.getByRole('button', { name: 'Rotate the token' }).click()
  await page.getByRole('img', { name: /QR code/ }).waitFor()
  await page.getByText('Shown only now').waitFor()
  await page.getByText('Generation 2 (present): never used').waitFor()
  await page.getByRole('tab', { name: 'Settings' }).click()
  await page.getByLabel('Name', { exact: true }).fill('Renamed here')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('heading', { level: 1, name: 'Renamed here' }).waitFor()
})

test('an action copied as curl does the same from a shell', async (t) => {
  const id = newID('as-curl')
  await api.device({ id, kinds: ['sensor'], name: 'Before' })
  const page = await window(t, `/devices/${id}?tab=settings`)
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await page.getByLabel('Name', { exact: true }).fill("It's after")
  await page.getByRole('button', { name: 'Copy as curl' }).click()
  await page.getByRole('button', { name: 'Copied' }).waitFor()
  const line = await page.evaluate(() => navigator.clipboard.readText())
  await run('sh', ['-c', line], { env: { ...process.env, DEVICEHUB_TOKEN: await api.login(hub.username, hub.password) } })
  await page.getByRole('heading', { level: 1, name: "It's after" }).waitFor()
})
