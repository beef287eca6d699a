// Two people edit one record at the same time: nobody's change is lost in silence.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from './hub.mjs'
import { api, newID, person, window } from './stage.mjs'

const conflict = (page) => page.getByRole('alert').filter({ hasText: 'Somebody else changed this meanwhile' })

test('a device’s settings: what somebody else changed meanwhile is shown, and not overwritten', async (t) => {
  const id = newID('edited')
  await api.device({ id, kinds: ['sensor'], name: 'Before', area: 'hall', labels: { floor: '1', old: 'x' } })
  const page = await window(t, `/devices/${id}?tab=settings`)

  // A form that nobody has touched follows.
  await page.getByLabel('Labels').waitFor()
  await api.call('PATCH', `/devices/${id}`, { labels: { theirs: 'y' } })
  await eventually('their label', async () => (await page.getByLabel('Labels').inputValue()).includes('theirs=y'))

  // One that is being filled in says so, and keeps what stands in it.
  await page.getByLabel('Area').fill('attic')
  await page.getByLabel('Labels').fill('floor=2\ntheirs=y')
  await api.call('PATCH', `/devices/${id}`, { name: 'Theirs', labels: { more: 'z' } })
  await conflict(page).getByText('Name, labels').waitFor()
  assert.equal(await page.getByLabel('Area').inputValue(), 'attic')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await conflict(page).waitFor()
  assert.equal((await api.call('GET', `/devices/${id}`)).area, 'hall', 'an old version was saved')

  // Saved over theirs, only what was changed here is replaced; a line taken out is a label taken away.
  await page.getByRole('button', { name: 'Save mine over it' }).click()
  await eventually('saved', async () => (await api.call('GET', `/devices/${id}`)).area === 'attic')
  const saved = await api.call('GET', `/devices/${id}`)
  assert.equal(saved.name, 'Theirs')
  assert.deepEqual(saved.labels, { floor: '2', theirs: 'y', more: 'z' })
  await conflict(page).waitFor({ state: 'detached' })
  assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'Theirs')

  // Or theirs is shown, and what stood here is dropped.
  await page.getByLabel('Notes').fill('mine')
  await api.call('PATCH', `/devices/${id}`, { notes: 'theirs', area: null })
  await page.getByRole('button', { name: 'Show theirs, drop mine' }).click()
  assert.equal(await page.getByLabel('Notes').inputValue(), 'theirs')
  assert.equal(await page.getByLabel('Area').inputValue(), '')

  // Alone, one just saves; twice in a row, too.
  for (const name of ['Once', 'Twice']) {
    await page.getByLabel('Name', { exact: true }).fill(name)
    await page.getByRole('button', { name: 'Save', exact: true }).click()
    await page.getByRole('heading', { level: 1, name }).waitFor()
  }
  assert.equal(await conflict(page).count(), 0)
})

test('a user: an old form is refused, and shows what holds now', async (t) => {
  const user = await person('viewer', 'area=hall')
  const page = await window(t, '/admin')
  const row = page.getByRole('row').filter({ hasText: user.name })
  await row.getByRole('button', { name: 'Change' }).click()
  await page.getByLabel('Scope').fill('area=attic')
  await api.call('PATCH', `/users/${user.name}`, { role: 'operator' })
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await conflict(page).getByText('Role').waitFor()
  assert.equal((await api.call('GET', `/users/${user.name}`)).scope, 'area=hall')
  await page.getByRole('button', { name: 'Show theirs, drop mine' }).click()
  assert.equal(await page.getByLabel('Role').inputValue(), 'operator')
  assert.equal(await page.getByLabel('Scope').inputValue(), 'area=hall')
  // An administrator has no scope: it goes with the promotion.
  await page.getByLabel('Role').selectOption('admin')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await row.getByText('every device').waitFor()
  assert.equal((await api.call('GET', `/users/${user.name}`)).role, 'admin')
})

test('an API token: what it may do is changed, beside what somebody else changed', async (t) => {
  const name = newID('edited-script')
  await api.call('POST', '/apitokens', { name, rights: ['read'], topics: ['a/#'] })
  const page = await window(t, '/admin/accounts')
  const row = page.getByRole('row').filter({ hasText: name })
  await row.getByRole('button', { name: 'Change' }).click()
  await page.getByLabel('Send commands').check()
  await api.call('PATCH', `/apitokens/${name}`, { scope: 'area=hall' })
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await conflict(page).getByText('Scope').waitFor()
  await page.getByRole('button', { name: 'Save mine over it' }).click()
  await row.getByText('read, command').waitFor()
  const saved = await api.call('GET', `/apitokens/${name}`)
  assert.deepEqual([saved.rights, saved.scope, saved.topics], [['read', 'command'], 'area=hall', ['a/#']])
})

test('a device whose answer was lost is made once, and its token is shown', async (t) => {
  const id = newID('lost-answer')
  const page = await window(t, '/onboard')
  let lost = 0
  await page.route('**/api/v1/devices', async (route) => {
    if (route.request().method() !== 'POST' || lost++) return route.continue()
    await route.fetch() // it is made, and nobody hears of it
    await route.abort()
  })
  await page.getByLabel('Id', { exact: true }).fill(id)
  await page.getByRole('button', { name: 'Create the device' }).click()
  await page.getByRole('alert').waitFor()
  assert.equal((await api.call('GET', `/devices/${id}`)).id, id)
  await page.getByRole('button', { name: 'Create the device' }).click()
  await page.getByRole('img', { name: /QR code/ }).waitFor()
})
