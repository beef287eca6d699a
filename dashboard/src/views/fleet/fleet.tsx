// The fleet: how many devices are how, and a live list of them.

import { effect } from '@preact/signals'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Empty, Loading } from '../../components/empty'
import { Hint } from '../../components/hint'
import { ErrorNote } from '../../components/error'
import { SearchIcon } from '../../components/icons'
import { statusOf, withStatus } from '../../lib/query'
import { useKeys, useQuery, useTitle } from '../../lib/hooks'
import type { State } from '../../lib/types'
import { FleetList } from '../../state/fleet'
import { isAdmin } from '../../state/session'
import { forgetSparks } from '../../state/sparks'
import { Chips } from './chips'
import { FleetTable } from './table'

const SORTS = [
  { value: 'name', label: 'Name' }, { value: '-name', label: 'Name, backwards' }, { value: 'id', label: 'Id' }, { value: '-id', label: 'Id, backwards' },
  { value: 'status', label: 'Status' }, { value: '-status', label: 'Status, best first' }, { value: '-last', label: 'Last heard' }, { value: 'last', label: 'Longest silent' },
]

export function FleetPage() {
  useTitle('Fleet')
  const [query, setQuery] = useQuery()
  const q = query.q ?? ''
  const sort = query.sort ?? 'name'
  const [text, setText] = useState(q)
  const search = useRef<HTMLInputElement>(null)
  const pending = useRef<ReturnType<typeof setTimeout>>(undefined)
  const [list, setList] = useState<FleetList>()

  useEffect(() => {
    const next = new FleetList({ q, sort })
    forgetSparks()
    // What the last query found stays until the new one has an answer.
    const stop = effect(() => { if (next.total.value !== undefined || next.error.value) setList(next) })
    return () => {
      stop()
      next.close()
    }
  }, [q, sort])

  useEffect(() => { if (document.activeElement !== search.current) setText(q) }, [q])
  const type = (value: string) => {
    setText(value)
    clearTimeout(pending.current)
    pending.current = setTimeout(() => setQuery({ q: value.trim() || undefined }), 200)
  }
  const pick = (s: State | undefined) => {
    clearTimeout(pending.current)
    const next = withStatus(text, s)
    setText(next)
    setQuery({ q: next || undefined })
  }
  useKeys({ '/': (e) => { e.preventDefault(); search.current?.focus(); search.current?.select() } })

  return (
    <div class="page">
      <header class="page-head">
        <h1>Fleet <Hint term="fleet" /></h1>
        {isAdmin.value && <a class="button primary" href="/onboard">Add a device</a>}
      </header>
      <div class="toolbar">
        <div class="search" role="search">
          <SearchIcon />
          <input ref={search} type="search" aria-label="Search devices" placeholder="Search, or area:kitchen battery<20" value={text} onInput={(e) => type(e.currentTarget.value)}
            onKeyDown={(e) => { if (e.key === 'Escape') e.currentTarget.blur() }} autoComplete="off" autoCapitalize="none" spellcheck={false} enterkeyhint="search" />
          {/* biome-ignore lint/a11y/noAriaHiddenOnFocusable: a kbd has no focus */}
          <kbd aria-hidden="true">/</kbd>
        </div>
        <label class="sort"><span class="visually-hidden">Sort by</span>
          <select value={sort} onChange={(e) => setQuery({ sort: e.currentTarget.value === 'name' ? undefined : e.currentTarget.value })}>
            {SORTS.map((s) => <option key={s.value} value={s.value}>{s.label}</option>)}
          </select>
        </label>
      </div>
      {list ? <FleetBody list={list} q={q} onPick={pick} /> : <Loading what="devices" />}
    </div>
  )
}

function FleetBody({ list, q, onPick }: { list: FleetList; q: string; onPick: (s: State | undefined) => void }) {
  const total = list.total.value
  return (
    <>
      <Chips counts={list.counts.value} current={statusOf(q)} onPick={onPick} />
      <ErrorNote error={list.error.value} />
      {total === 0 && (q ? <NothingFound q={q} /> : <NoDevices />)}
      {total ? <FleetTable list={list} total={total} /> : null}
    </>
  )
}

function NothingFound({ q }: { q: string }) {
  return (
    <Empty title={`No device matches “${q}”.`}>
      <p class="muted">A search is words of a name or id, and terms such as <code>area:kitchen</code> <code>status:quiet</code> <code>kind:light</code> <code>battery&lt;20</code> <code>fw!=1.4</code> <code>temperature&gt;30</code>.</p>
    </Empty>
  )
}

function NoDevices() {
  return (
    <Empty title="No devices yet.">
      {isAdmin.value
        ? <><p class="muted">Add one here and copy the line that connects it, or on the hub’s machine:</p><pre class="inline-code" tabIndex={0}><code>devicehub device add kitchen-temp --kind sensor</code></pre><p><a class="button primary" href="/onboard">Add a device</a></p></>
        : <p class="muted">None is within what you may see. An administrator adds devices and sets who sees which.</p>}
    </Empty>
  )
}
