// One device: what it measures, what it can be told, and what happened to it.

import { useEffect, useState } from 'preact/hooks'
import { useRoute } from 'preact-iso'
import { Age } from '../../components/age'
import { Hint } from '../../components/hint'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { Tabs, type Tab } from '../../components/tabs'
import { digitsOf, metricOrder, metricTitle, valueText, withUnit } from '../../lib/format'
import { useKeys, useQuery, useTitle } from '../../lib/hooks'
import { numeric } from '../../lib/points'
import { curlFor } from '../../lib/snippets'
import { now } from '../../state/clock'
import { DeviceLive } from '../../state/device'
import { isAdmin } from '../../state/session'
import { Charts, isStale } from './charts'
import { CommandsTab } from './commands-tab'
import { EventsTab } from './events-tab'
import { DeviceHeader } from './header'
import { LightControl } from './light-control'
import { SettingsTab } from './settings-tab'
import { StateTab } from './state-tab'
import { TokenTab } from './token-tab'
import { TraceTab } from './trace-tab'

export function DevicePage() {
  const { params } = useRoute()
  const id = params.id!
  const [device, setDevice] = useState<DeviceLive>()
  useEffect(() => {
    const d = new DeviceLive(id)
    setDevice(d)
    return () => d.close()
  }, [id])
  if (!device || device.id !== id) return null
  return <DeviceView key={id} device={device} />
}

function DeviceView({ device }: { device: DeviceLive }) {
  const d = device.record.value
  useTitle(d?.name || device.id)
  useKeys({
    ' ': (e) => {
      if ((e.target as HTMLElement).matches('button, summary, a')) return
      const control = document.querySelector<HTMLElement>('.light [role=switch]')
      if (control) { e.preventDefault(); control.click() }
    },
  })
  if (!d) {
    return <div class="page">{device.error.value ? <><a class="back" href="/">Fleet</a><ErrorNote error={device.error.value} retry={() => void device.load()} /></> : <Loading what={device.id} />}</div>
  }
  const isLight = d.kinds.includes('light')
  const latest = device.latest.value
  const hasCharts = Object.values(latest).some((l) => numeric(l.v) !== undefined && !l.undeclared)
  return (
    <div class="page">
      <DeviceHeader device={device} />
      <ErrorNote error={device.error.value} />
      <div class={`device-grid${isLight && hasCharts ? ' two' : isLight ? ' beside' : ''}`}>
        {isLight && <LightControl device={device} />}
        {isLight && !hasCharts && <DeviceTabs device={device} isLight />}
        <div class="device-main">
          <PlainValues device={device} />
          <Charts device={device} />
          {!hasCharts && !isLight && <NoReadings id={d.id} />}
          {(!isLight || hasCharts) && <DeviceTabs device={device} isLight={isLight} />}
        </div>
      </div>
    </div>
  )
}

/** Text, and metrics that nothing declares, are shown as they are. */
function PlainValues({ device }: { device: DeviceLive }) {
  const latest = device.latest.value
  const names = metricOrder(latest).filter((m) => numeric(latest[m]!.v) === undefined || latest[m]!.undeclared)
  if (names.length === 0) return null
  const record = device.record.value!
  return (
    <dl class="plain-values">
      {names.map((m) => {
        const l = latest[m]!
        return (
          <div key={m} class={isStale(l, undefined, now.value) ? 'card stale' : 'card'}>
            <dt>{metricTitle(m)}{l.undeclared && <span class="tag" title="Nothing declares this metric: it is kept, and not charted. Declare it in the device’s settings.">undeclared</span>}{l.undeclared && <Hint term="undeclared" />}</dt>
            <dd>{withUnit(valueText(l.v, digitsOf(m)), l.u)}<span class="muted small"> <Age t={l.t} labels={record.labels} /></span></dd>
          </div>
        )
      })}
    </dl>
  )
}

function NoReadings({ id }: { id: string }) {
  return (
    <Empty title="No readings yet.">
      <p class="muted">With the device’s token in DEVICEHUB_TOKEN, this sends the first one:</p>
      <pre class="inline-code" tabIndex={0}><code>{curlFor(location.origin, 'POST', `/devices/${id}/readings`, { r: [['temperature', 21.4]] })}</code></pre>
    </Empty>
  )
}

function DeviceTabs({ device, isLight }: { device: DeviceLive; isLight: boolean }) {
  const [query, setQuery] = useQuery()
  const tabs: Tab[] = [
    { id: 'commands', label: 'Commands' },
    { id: 'events', label: 'Events' },
    ...(isLight ? [{ id: 'state', label: 'State' }] : []),
    ...(isAdmin.value ? [{ id: 'token', label: 'Token' }, { id: 'trace', label: 'Raw frames' }, { id: 'settings', label: 'Settings' }] : []),
  ]
  const first = isLight ? 'commands' : 'events'
  const current = tabs.some((t) => t.id === query.tab) ? query.tab! : first
  return (
    <Tabs label="About this device" tabs={tabs} current={current} onChange={(tab) => setQuery({ tab: tab === first ? undefined : tab, cmd: undefined })}>
      {current === 'commands' && <CommandsTab device={device} open={query.cmd} />}
      {current === 'events' && <EventsTab device={device} />}
      {current === 'state' && <StateTab device={device} />}
      {current === 'token' && <TokenTab device={device} />}
      {current === 'trace' && <TraceTab id={device.id} />}
      {current === 'settings' && <SettingsTab device={device} />}
    </Tabs>
  )
}
