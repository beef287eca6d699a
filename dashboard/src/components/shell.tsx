// What surrounds every page: navigation, the state of the connection, notes.

import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { GLOSSARY } from '../lib/glossary'
import { age } from '../lib/time'
import { useKeys } from '../lib/hooks'
import { notes, spoken } from '../state/announce'
import { now } from '../state/clock'
import { theme, zone, type Theme, type Zone } from '../state/prefs'
import { isAdmin, signOut, user } from '../state/session'
import { link, lostAt, roundTrip } from '../state/socket'
import { ChangePassword, Sessions } from './account'
import { HubWarnings } from './hub-warnings'
import { Dialog } from './dialog'
import { AdminIcon, CommandsIcon, FleetIcon, OnboardIcon, UserIcon } from './icons'
import { Segments } from './tabs'

export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = useLocation()
  const [help, setHelp] = useState(false)
  const main = useRef<HTMLElement>(null)
  useKeys({ '?': () => setHelp(true) })
  // A page change starts at the top, and the reader at its heading.
  const first = useRef(true)
  useEffect(() => {
    if (first.current) { first.current = false; return }
    main.current?.focus({ preventScroll: true })
  }, [path])
  return (
    <div class={link.value === 'lost' ? 'shell link-lost' : 'shell'}>
      {/* biome-ignore lint/a11y/useValidAnchor: a link within the page, kept from the router */}
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus() }}>Skip to content</a>
      <Banner />
      <Navigation path={path} onHelp={() => setHelp(true)} />
      <main id="main" ref={main} tabIndex={-1}><HubWarnings />{children}</main>
      <div class="notes" aria-live="polite">
        {notes.value.map((n) => <p key={n.id} class={`note ${n.look}`}>{n.text}</p>)}
      </div>
      <p class="visually-hidden" aria-live="polite">{spoken.value}</p>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  )
}

function Banner() {
  if (link.value !== 'lost') return null
  const silent = now.value - lostAt.value
  return (
    <div class="banner" role="alert">
      <span class="spinner" aria-hidden="true" />
      <span>Connection lost, reconnecting</span>
      <span class="muted" aria-hidden="true">{silent > 3000 ? `values are ${age(silent)} old` : ''}</span>
    </div>
  )
}

function Navigation({ path, onHelp }: { path: string; onHelp: () => void }) {
  const items = [
    { href: '/', label: 'Fleet', icon: <FleetIcon />, here: path === '/' || path.startsWith('/devices') },
    { href: '/commands', label: 'Commands', icon: <CommandsIcon />, here: path.startsWith('/commands') },
    ...(isAdmin.value
      ? [
          { href: '/onboard', label: 'Onboard', icon: <OnboardIcon />, here: path.startsWith('/onboard') },
          { href: '/admin', label: 'Admin', icon: <AdminIcon />, here: path.startsWith('/admin') },
        ]
      : []),
  ]
  return (
    <nav class="nav" aria-label="Main">
      <a class="brand" href="/" aria-label="devicehub, home"><img src="/icon.svg" alt="" width="28" height="28" /><span>devicehub</span></a>
      <ul>
        {items.map((i) => (
          <li key={i.href}><a href={i.href} aria-current={i.here ? 'page' : undefined}>{i.icon}<span>{i.label}</span></a></li>
        ))}
        <li class="nav-you"><YouMenu onHelp={onHelp} /></li>
      </ul>
      <p class="nav-foot" title="Round trip to the hub over the socket">
        <span class={`dot ${link.value}`} aria-hidden="true" />
        {link.value === 'open' ? `Live${roundTrip.value !== undefined ? ` · ${roundTrip.value} ms` : ''}` : link.value === 'lost' ? 'Reconnecting' : 'Connecting'}
      </p>
    </nav>
  )
}

const THEMES: { value: Theme; label: string }[] = [{ value: 'auto', label: 'Auto' }, { value: 'light', label: 'Light' }, { value: 'dark', label: 'Dark' }]
const ZONES: { value: Zone; label: string }[] = [{ value: 'browser', label: 'Browser' }, { value: 'device', label: 'Device' }, { value: 'utc', label: 'UTC' }]

function YouMenu({ onHelp }: { onHelp: () => void }) {
  const [open, setOpen] = useState<'' | 'menu' | 'password'>('')
  const u = user.value
  if (!u) return null
  return (
    <>
      <button type="button" class="nav-button" aria-haspopup="dialog" onClick={() => setOpen('menu')}><UserIcon /><span class="nav-name">{u.name}</span></button>
      {open === 'password' && <Dialog title="Change the password" onClose={() => setOpen('')}><ChangePassword onDone={() => setOpen('')} /></Dialog>}
      {open === 'menu' && (
        <Dialog title={u.name} onClose={() => setOpen('')}>
          <div class="stack">
            <p class="muted">Signed in as {u.role}{u.scope ? `, for ${u.scope}` : ''}.</p>
            <div class="field"><span class="field-label">Looks</span><Segments label="Looks" options={THEMES} value={theme.value} onChange={(v) => { theme.value = v }} /></div>
            <div class="field">
              <span class="field-label">Time zone</span>
              <Segments label="Time zone" options={ZONES} value={zone.value} onChange={(v) => { zone.value = v }} />
              {zone.value === 'device' && <span class="hint">The zone named by a device’s label “tz”, such as Europe/Lisbon; else the browser’s.</span>}
            </div>
            <Sessions />
            <div class="actions">
              <button type="button" class="button" onClick={() => { setOpen(''); onHelp() }}>Keyboard and words</button>
              <button type="button" class="button" onClick={() => setOpen('password')}>Change password</button>
              <button type="button" class="button" onClick={() => void signOut()}>Sign out</button>
            </div>
          </div>
        </Dialog>
      )}
    </>
  )
}

const KEYS: [string, string][] = [
  ['/', 'Search the fleet'], ['j  k', 'Next, previous device'], ['Enter', 'Open the device'], ['Space', 'Switch the selected light'],
  ['[  ]', 'Shorter, longer time range'], ['p', 'Pause the charts'], ['?', 'This list'],
]

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard and words" onClose={onClose}>
      <dl class="keys">
        {KEYS.map(([k, what]) => (
          <div key={k}><dt>{k.split('  ').map((one) => <kbd key={one}>{one}</kbd>)}</dt><dd>{what}</dd></div>
        ))}
      </dl>
      <h3>Words</h3>
      <dl class="words">
        {Object.values(GLOSSARY).map(([word, meaning]) => <div key={word}><dt>{word}</dt><dd>{meaning}</dd></div>)}
      </dl>
      <p class="muted small"><a href="/licenses.txt" target="_blank" rel="noopener">Licences</a> of what the hub and this dashboard hold from others.</p>
    </Dialog>
  )
}
