// One command of a list: what, by whom, how it went; opened, everything about it.

import { useState } from 'preact/hooks'
import { opText } from '../lib/light'
import { failureText, isOver, lookOf, took } from '../lib/outcome'
import { duration } from '../lib/time'
import type { Command, Hops } from '../lib/types'
import { ulid } from '../lib/ulid'
import { asError, request } from '../state/api'
import { note } from '../state/announce'
import { serverNow } from '../state/clock'
import { isOperator } from '../state/session'
import { Age, Moment } from './age'
import { CopyButton, CurlButton } from './copy'
import { ChevronIcon } from './icons'
import { CommandBadge } from './outcome'

const HOPS: { key: keyof Hops; label: string }[] = [
  { key: 'hub_ms', label: 'hub' }, { key: 'wire_ms', label: 'wire' }, { key: 'device_ms', label: 'device' }, { key: 'confirm_ms', label: 'confirm' },
]

const who = (by: string | undefined) => (by ? by.replace(/^user:/, '') : '')

export function CommandRow({ command: c, showDevice, open, onToggle, onChanged }: { command: Command; showDevice?: boolean; open: boolean; onToggle: () => void; onChanged: () => void }) {
  return (
    <li class={open ? 'command open' : 'command'} id={`cmd-${c.cmd_id}`}>
      <button type="button" class="command-head" aria-expanded={open} onClick={onToggle}>
        <span class="command-what">{showDevice && <span class="command-device">{c.device}</span>}{opText(c.op, c.params)}</span>
        <CommandBadge command={c} />
        <span class="command-by muted">{who(c.by)}</span>
        <span class="command-when muted num"><Age t={c.issued_at ?? c.at} /></span>
        <ChevronIcon />
      </button>
      {open && <CommandDetail command={c} onChanged={onChanged} />}
    </li>
  )
}

function CommandDetail({ command: c, onChanged }: { command: Command; onChanged: () => void }) {
  const [busy, setBusy] = useState(false)
  const run = async (what: () => Promise<unknown>, said: string) => {
    setBusy(true)
    try {
      await what()
      note(said, 'good')
      onChanged()
    } catch (e) {
      const err = asError(e)
      note(`${err.reason} (${err.code})`, 'bad')
    }
    setBusy(false)
  }
  const body = { op: c.op, params: c.params ?? {} }
  const path = `/devices/${c.device}/commands`
  const total = took(c.hops)
  const cancellable = c.status === 'pending' || c.status === 'queued'
  return (
    <div class="command-detail">
      <dl class="facts">
        <div><dt>Command</dt><dd><a href={`/devices/${c.device}?tab=commands&cmd=${c.cmd_id}`}><code>{c.cmd_id}</code></a></dd></div>
        {c.by && <div><dt>By</dt><dd>{c.by}</dd></div>}
        <div><dt>Issued</dt><dd><Moment t={c.issued_at} /></dd></div>
        {c.expires_at ? <div><dt>Expires</dt><dd><Moment t={c.expires_at} /></dd></div> : null}
        {c.attempt ? <div><dt>Attempt</dt><dd>{c.attempt}</dd></div> : null}
        {lookOf(c.status) === 'failed' && <div><dt>Reason</dt><dd class="bad-text">{failureText(c)}</dd></div>}
      </dl>
      {total !== undefined && c.hops && (
        <div class="hops" role="img" aria-label={HOPS.filter((h) => c.hops![h.key] !== undefined).map((h) => `${h.label} ${duration(c.hops![h.key]!)}`).join(', ')}>
          {HOPS.filter((h) => c.hops![h.key] !== undefined).map((h) => (
            <span key={h.key} class={`hop hop-${h.label}`} style={{ flexGrow: String(Math.max(c.hops![h.key]!, total * 0.02)) }}><span>{h.label} {duration(c.hops![h.key]!)}</span></span>
          ))}
        </div>
      )}
      <div class="actions start">
        {isOperator.value && isOver(c) && <button type="button" class="button small" disabled={busy} title="Sends the same again, as a new command" onClick={() => void run(() => request('POST', path, { body: { ...body, cmd_id: ulid(serverNow()) } }), 'Sent again')}>Retry</button>}
        {isOperator.value && cancellable && <button type="button" class="button small" disabled={busy} onClick={() => void run(() => request('DELETE', `${path}/${c.cmd_id}`), 'Cancelled')}>Cancel</button>}
        <CopyButton label="Copy JSON" text={() => JSON.stringify(c, null, 2)} />
        <CurlButton call={{ method: 'POST', path, body }} />
      </div>
    </div>
  )
}
