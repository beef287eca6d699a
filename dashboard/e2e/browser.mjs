// Chromium, as people use it, and what every test does with it.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable']

export const DESKTOP = { viewport: { width: 1280, height: 800 } }
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true }

export function launch() {
  const executablePath = PLACES.find((p) => p && existsSync(p))
  if (!executablePath) throw new Error('these tests need Chromium: apt-get install chromium, or name it in CHROMIUM')
  return chromium.launch({ executablePath, headless: true, args: ARGS })
}

/** open makes a window whose faults are kept: exceptions, what the policy refused, errors in the console. */
export async function open(browser, options = DESKTOP) {
  const context = await browser.newContext({ timezoneId: 'UTC', ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(10_000)
  const faults = []
  page.on('pageerror', (e) => faults.push(`exception: ${e.message}`))
  page.on('console', (m) => {
    const text = m.text()
    // What the browser itself says of refused or failed requests is the hub's answer, not a fault of the page.
    if (m.type() === 'error' && !/Failed to load resource|WebSocket connection to/.test(text)) faults.push(`console: ${text}`)
  })
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))
  })
  page.faults = faults
  return page
}

export async function signIn(page, url, username, password, path = '/') {
  await page.goto(url + path)
  await page.getByLabel('User name').fill(username)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('navigation', { name: 'Main' }).waitFor()
}

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

/** axe returns the serious and critical findings, one line each. */
export async function axe(page) {
  // Through the debugger, so that the page's own policy need not allow it.
  await page.evaluate(`${(await import('node:fs')).readFileSync(axePath, 'utf8')};0`)
  const result = await page.evaluate(() => globalThis.axe.run(document, { runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] } }))
  return result.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(' ')} ${n.any[0]?.message ?? ''}`).join(' | ')}`)
}
