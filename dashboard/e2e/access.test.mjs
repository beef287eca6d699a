// Who may do what, as the page shows it; administration; accessibility; the policy.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { axe, DESKTOP, open, PHONE, signIn } from './browser.mjs'
import { eventually, sleep } from './hub.mjs'
import { Light } from './devices.mjs'
import { api, browser, hub, newID, person, window } from './stage.mjs'

test('nothing that a viewer may not do looks as if they could', async (t) => {
  const id = newID('seen')
  const token = await api.device({ id, kinds: ['light'], name: 'Only seen', area: id, light: { modes: ['brightness'] } })
  const light = await Light.connect(hub.mqtt, id, token)
  t.after(() => light.close())
  const viewer = await person('viewer', `area=${id}`)
  const page = await window(t, '/', { user: viewer })
  await page.getByRole('link', { name: 'Only seen' }).waitFor()
  assert.equal(await page.getByRole('switch').getAttribute('aria-disabled'), 'true')
  for (const name of ['Onboard', 'Admin', 'Add a device']) assert.equal(await page.getByRole('link', { name }).count(), 0, `${name} is shown`)
  await page.getByRole('link', { name: 'Only seen' }).click()
  await page.getByRole('note').getByText('Viewers may look, not switch.').waitFor()
  await page.getByRole('switch', { name: 'Only seen' }).click({ force: true })
  assert.equal(await page.getByRole('slider', { name: 'Brightness' }).isDisabled(), true)
  for (const name of ['Token', 'Settings', 'Raw frames']) assert.equal(await page.getByRole('tab', { name }).count(), 0, `${name} is shown`)
  await sleep(300)
  assert.equal(light.seen.length, 0)
  await page.goto(`${hub.url}/admin`)
  await page.getByText('This is for administrators.').waitFor()
})

test('a role that changes takes effect on the open page at once', async (t) => {
  const id = newID('promoted')
  const token = await api.device({ id, kinds: ['light'], name: 'Promoted', light: { modes: ['onoff'] } })
  const light = await Light.connect(hub.mqtt, id, token, { state: { on: false } })
  t.after(() => light.close())
  const user = await person('viewer')
  const page = await window(t, `/devices/${id}`, { user })
  await page.getByRole('note').getByText('Viewers may look').waitFor()
  await api.call('PATCH', `/users/${user.name}`, { role: 'operator' })
  await page.getByRole('note').waitFor({ state: 'detached' })
  await page.getByRole('switch', { name: 'Promoted' }).click()
  await eventually('on', () => light.state.on === true)
  await api.call('DELETE', `/users/${user.name}`)
  await page.getByRole('button', { name: 'Sign in' }).waitFor() // and a removed one is out
})

test('administration: add a user and an API token, filter the audit', async (t) => {
  const page = await window(t, '/admin')
  const name = newID('nora')
  await page.getByRole('button', { name: 'Add a user' }).click()
  await page.getByLabel('User name').fill(name)
  await page.getByLabel('Role').selectOption('operator')
  await page.getByLabel('Scope').fill('area=kitchen')
  await page.getByLabel('Password').fill('a long enough password')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('row').filter({ hasText: name }).getByText('area=kitchen').waitFor()

  await page.getByRole('link', { name: 'API tokens' }).click()
  await page.getByRole('button', { name: 'Add an API token' }).click()
  await page.getByLabel('Name', { exact: true }).fill(newID('script'))
  await page.getByRole('button', { name: 'Create' }).click()
  await page.getByText('Shown only now').waitFor()

  const again = { username: name, password: 'a long enough password', role: 'operator' }
  for (let i = 0; i < 3; i++) await assert.rejects(api.call('POST', '/users', again))
  await page.getByRole('link', { name: 'Audit' }).click()
  await page.getByRole('row').filter({ hasText: name }).first().waitFor()
  await page.getByRole('row').filter({ hasText: name }).getByText(/3 times, last/).waitFor()
  for (const [link, word] of [['Bridges', /bridge/i], ['Sinks', /sink|store/i], ['Signing keys', /active/], ['Nodes', /./]]) {
    await page.getByRole('navigation', { name: 'Admin' }).getByRole('link', { name: link }).click()
    await page.locator('main').getByText(word).first().waitFor()
  }
})

test('one’s own account: looks that stay, sessions, and a new password', async (t) => {
  const user = await person('viewer')
  const page = await window(t, '/', { user })
  await page.getByRole('button', { name: user.name }).click()
  await page.getByText('Signed in as viewer').waitFor()
  await page.getByText(/Chrome on Linux/).waitFor()
  await page.getByRole('button', { name: 'Dark' }).click()
  await page.reload()
  assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark')
  await page.getByRole('button', { name: user.name }).click()
  await page.getByRole('button', { name: 'Change password' }).click()
  await page.getByLabel('Present password').fill('not it')
  await page.getByLabel('New password').fill('another long password')
  await page.getByRole('button', { name: 'Change it' }).click()
  await page.getByRole('alert').waitFor()
  assert.equal(await page.getByRole('button', { name: 'Sign in' }).count(), 0, 'a wrong present password signs nobody out')
  await page.getByLabel('Present password').fill(user.password)
  await page.getByRole('button', { name: 'Change it' }).click()
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  await page.getByText('Your session has ended').waitFor()
  await page.getByLabel('User name').fill(user.name)
  await page.getByLabel('Password').fill('another long password')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Fleet' }).waitFor()
})

test('a clock in doubt is said to administrators', async (t) => {
  const page = await window(t)
  let accepted = false
  await page.route('**/api/v1/nodes', (r) => r.fulfill({ json: { nodes: [{ name: 'a', clock: { suspect: !accepted, reason: 'behind' } }] } }))
  await page.route('**/api/v1/clock/accept', (r) => { accepted = true; return r.fulfill({ json: {} }) })
  await page.reload()
  await page.getByText('The hub’s clock is in doubt').waitFor()
  await page.getByRole('button', { name: 'The clock is right' }).click()
  await page.getByText('The hub’s clock is in doubt').waitFor({ state: 'detached' })
  assert.ok(accepted)
})

test('a proxy that the hub was not told of is said to administrators', async (t) => {
  const page = await window(t)
  await page.route('**/api/v1/nodes', (r) => r.fulfill({ json: { nodes: [{ name: 'a', unknown_proxies: ['127.0.0.1'] }] } }))
  await page.reload()
  await page.getByText('The hub was not told of a proxy at 127.0.0.1').waitFor()
})

for (const theme of ['light', 'dark']) {
  for (const [size, device] of [['desktop', DESKTOP], ['phone', PHONE]]) {
    test(`axe finds nothing serious, and the policy refuses nothing: ${theme}, ${size}`, async (t) => {
      const id = newID(`axe-${theme}-${size}`)
      const token = await api.device({ id, kinds: ['sensor', 'light'], name: `Axe ${theme}`, area: 'hall', light: { modes: ['rgb', 'color_temp'], effects: ['candle'] } })
      await api.reading(id, token, [['temperature', 21.4], ['humidity', 48], ['door', true], ['mode', 'eco']])
      const light = await Light.connect(hub.mqtt, id, token, { state: { on: true, brightness: 180, mode: 'rgb', rgb: [255, 120, 0] } })
      t.after(() => light.close())
      await api.call('POST', `/devices/${id}/commands`, { op: 'set', params: { brightness: 90 } })
      const page = await open(browser, { ...device, colorScheme: theme, reducedMotion: 'reduce' })
      t.after(() => page.context().close())
      await page.goto(hub.url)
      await page.getByLabel('User name').waitFor()
      const found = (await axe(page)).map((f) => `sign-in ${f}`)
      await signIn(page, hub.url, hub.username, hub.password)
      const all = ['/', `/devices/${id}`, `/devices/${id}?tab=events`, `/devices/${id}?tab=state`, `/devices/${id}?tab=token`, `/devices/${id}?tab=settings`, '/commands', '/onboard', '/admin', '/admin/accounts', '/admin/audit', '/admin/keys', '/admin/nodes', '/admin/bridges', '/nowhere']
      // Colours depend on the theme, layout on the size: each is looked at in full once.
      const paths = (theme === 'light') === (size === 'desktop') ? all : all.slice(0, 3)
      for (const path of paths) {
        await page.goto(hub.url + path)
        await page.getByRole('heading', { level: 1 }).waitFor()
        await sleep(400)
        found.push(...(await axe(page)).map((f) => `${path} ${f}`))
      }
      assert.deepEqual(found, [])
      assert.deepEqual(page.faults, [])
    })
  }
}
