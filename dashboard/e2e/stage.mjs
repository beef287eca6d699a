// What the tests share: one hub and one browser for the whole run.

import { after } from 'node:test'
import { launch, open, signIn, DESKTOP } from './browser.mjs'
import { Api, openHub } from './hub.mjs'

const [hub, browser] = await Promise.all([openHub(), launch()])
after(async () => {
  await browser.close()
  await hub.stop()
})

export { hub, browser }
export const api = new Api(hub)

// Ids are new in every run, so that a hub may be used twice.
const run = Date.now().toString(36).slice(-5)
export const newID = (name) => `${name}-${run}`

/** window opens the dashboard, signed in, and closes it after the test; the page must be without fault. */
export async function window(t, path = '/', { user, options = DESKTOP, url = hub.url } = {}) {
  const page = await open(browser, options)
  t.after(async () => {
    await page.context().close()
    if (page.faults.length) throw new Error(`the page has faults:\n${page.faults.join('\n')}`)
  })
  await signIn(page, url, user?.name ?? hub.username, user?.password ?? hub.password, path)
  return page
}

/** person adds one and returns {name, password}. */
export async function person(role, scope) {
  const user = { name: newID(role) + Math.random().toString(36).slice(2, 6), password: 'a long enough password' }
  await api.call('POST', '/users', { username: user.name, password: user.password, role, ...(scope ? { scope } : {}) })
  return user
}
