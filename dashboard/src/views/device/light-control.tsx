// The control of a light. What is solid is reported by the light; what is
// hollow has been asked for.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { Age } from '../../components/age'
import { CurlButton } from '../../components/copy'
import { Outcome } from '../../components/outcome'
import { Slider } from '../../components/slider'
import { LightSwitch } from '../../components/switch'
import { Segments } from '../../components/tabs'
import { Wheel } from '../../components/wheel'
import { colourOf, colourParams, fromPercent, groupsOf, hex, hsToRgb, kelvinToRgb, offers, parseHex, rgbToHs, stateText, toPercent, type Group, type RGB } from '../../lib/light'
import { lookOf } from '../../lib/outcome'
import { commandBlock, STATE_MEANING } from '../../lib/status'
import { throttle } from '../../lib/throttle'
import type { LightParams } from '../../lib/types'
import type { DeviceLive } from '../../state/device'
import { recentColours, rememberColour } from '../../state/prefs'
import { isOperator } from '../../state/session'
import { link } from '../../state/socket'

// The hub passes at most 10 a second on (devices/README.md#commands).
const DRAG_MS = 100
const FADES = [{ ms: 0, label: 'At once' }, { ms: 500, label: '0.5 s' }, { ms: 2000, label: '2 s' }, { ms: 10_000, label: '10 s' }]

/** whyBlocked says why the control does nothing; undefined when it works. */
export function whyBlocked(device: DeviceLive): string | undefined {
  if (!isOperator.value) return 'Viewers may look, not switch.'
  if (link.value === 'lost') return 'The connection to the hub is lost.'
  return commandBlock(device.status.value, device.record.value?.enabled)
}

export function LightControl({ device }: { device: DeviceLive }) {
  const record = device.record.value!
  const light = device.light.value
  const target = device.target.value
  const can = offers(record.light)
  const blocked = whyBlocked(device)
  const [draft, setDraft] = useState<LightParams>({})
  const [fade, setFade] = useState(0)
  const [tab, setTab] = useState<'colour' | 'white'>()
  const fadeNow = useRef(fade)
  fadeNow.current = fade
  const drag = useMemo(() => throttle<LightParams>(DRAG_MS, (p) => {
    void device.send('set', fadeNow.current ? { ...p, transition_ms: fadeNow.current } : p)
  }), [device])
  useEffect(() => () => drag.cancel(), [drag])

  const name = record.name || record.id
  const want = { ...target, ...draft }
  const pending = (group: Group) => groupsOf('set', want).includes(group) || device.commands.value.some((c) => lookOf(c.status) === 'pending' && groupsOf(c.op, c.params).includes(group))
  const input = (p: LightParams) => { if (!blocked) { setDraft(p); drag.push(p) } }
  const commit = (p: LightParams) => { if (!blocked) { setDraft({}); drag.commit(p) } }
  const send = (op: string, p: LightParams = {}) => { if (!blocked) void device.send(op, p) }

  const last = device.commands.value.find((c) => c.mine) ?? device.commands.value[0]
  const colour: RGB = want.rgb ? (want.rgb as RGB) : want.hs ? hsToRgb(want.hs[0]!, want.hs[1]!) : want.kelvin ? kelvinToRgb(want.kelvin) : colourOf(light)
  const reportedColour = colourOf(light)
  const mode = tab ?? ((want.kelvin ?? light?.kelvin) || !can.colour ? 'white' : 'colour')
  const kelvin = want.kelvin ?? light?.kelvin ?? Math.round((can.kelvin[0] + can.kelvin[1]) / 2)
  const isOn = light?.on === true
  const glow = isOn ? Math.max(0.25, (light?.brightness ?? 255) / 255) : 0
  const state = device.status.value?.state
  const away = state === 'offline' || state === 'never_seen'
  return (
    <section class={isOn ? 'card light' : 'card light off'} aria-label="Light control">
      <div class="light-head" style={{ '--lamp': hex(reportedColour), '--glow': String(glow) }}>
        <div class={`lamp${isOn ? ' on' : ''}${away ? ' away' : ''}`} aria-hidden="true" />
        <div class="light-words">
          <h2 class={away ? 'stale' : ''}>{stateText(light)}{light?.transitioning ? ' …' : ''}</h2>
          <p class="light-outcome">{last ? <Outcome command={last} ms={last.mine ? last.tookMs : undefined} /> : <span class="muted small">{light?.t ? <>reported <Age t={light.t} labels={record.labels} /></> : light ? '' : 'The light has not said how it is.'}</span>}</p>
        </div>
        <LightSwitch large name={name} on={light?.on ?? undefined} wanted={want.on ?? (target.brightness !== undefined ? true : undefined)} blocked={blocked} onToggle={(on) => send('set', fade ? { on, transition_ms: fade } : { on })} />
      </div>
      {blocked && <p class="blocked" role="note">{blocked}</p>}
      {!blocked && state && ['quiet', 'unresponsive', 'data_only', 'sleeping'].includes(state) && <p class="hint">{STATE_MEANING[state]}{state === 'sleeping' ? '' : ' Commands are sent all the same.'}</p>}
      {!blocked && last?.warning && lookOf(last.status) === 'pending' && <p class="hint">Sent, though the light is {last.warning.replace(/_/g, ' ')}.</p>}

      {can.dim && (
        <Slider label="Brightness" min={1} max={100} disabled={!!blocked} pending={pending('power') && want.brightness !== undefined}
          actual={light?.brightness ? toPercent(light.brightness) : undefined} wanted={toPercent(want.brightness ?? light?.brightness ?? 255)}
          words={(v) => `${v} %`} spoken={(v) => `${v} percent`}
          onInput={(v) => input({ brightness: fromPercent(v) })} onCommit={(v) => commit({ brightness: fromPercent(v) })} />
      )}

      {can.colour && can.white && <Segments label="Colour or white" options={[{ value: 'colour', label: 'Colour' }, { value: 'white', label: 'White' }]} value={mode} onChange={setTab} />}

      {can.colour && mode === 'colour' && (
        <ColourPicker colour={colour} pending={pending('colour')} disabled={!!blocked} reported={reportedColour}
          onInput={(c) => input(colourParams(record.light, c))}
          onCommit={(c) => { rememberColour(hex(c)); commit(colourParams(record.light, c)) }} />
      )}
      {can.white && mode === 'white' && (
        <Slider label="White temperature" min={can.kelvin[0]} max={can.kelvin[1]} step={50} track="kelvin" disabled={!!blocked} pending={pending('colour')}
          actual={light?.kelvin ?? undefined} wanted={kelvin} words={(v) => `${v} K`} spoken={(v) => `${v} kelvin`}
          onInput={(v) => input({ kelvin: v })} onCommit={(v) => commit({ kelvin: v })} />
      )}

      {can.effects.length > 0 && (
        <div class="field">
          <span class="field-label">Effect</span>
          <div class="chips" role="group" aria-label="Effect">
            {['none', ...can.effects].map((e) => (
              <button key={e} type="button" class={`chip${want.effect === e && light?.effect !== e ? ' ghosted' : ''}`} disabled={!!blocked} aria-pressed={(light?.effect ?? 'none') === e} onClick={() => send('set', { effect: e })}>{e === 'none' ? 'None' : e}</button>
            ))}
          </div>
        </div>
      )}
      <div class="light-foot">
        {can.dim && (
          <label class="inline-field">Fade
            <select value={String(fade)} disabled={!!blocked} onChange={(e) => setFade(Number(e.currentTarget.value))}>
              {FADES.map((f) => <option key={f.ms} value={String(f.ms)}>{f.label}</option>)}
            </select>
          </label>
        )}
        <span class="spring" />
        {isOperator.value && <CurlButton icon call={{ method: 'POST', path: `/devices/${record.id}/commands`, body: last ? { op: last.op, params: last.params ?? {} } : { op: 'toggle' } }} />}
        <button type="button" class="button small" disabled={!!blocked} title="Have it show itself" onClick={() => send('identify', { ms: 5000 })}>Identify</button>
        <button type="button" class="button small" disabled={!!blocked} title="Ask for a full report of its state" onClick={() => send('refresh')}>Refresh</button>
      </div>
    </section>
  )
}

interface PickerProps { colour: RGB; reported: RGB; pending: boolean; disabled: boolean; onInput: (c: RGB) => void; onCommit: (c: RGB) => void }

function ColourPicker({ colour, reported, pending, disabled, onInput, onCommit }: PickerProps) {
  const [text, setText] = useState<string>()
  const [hue, saturation] = rgbToHs(colour)
  const [keptHue, setKeptHue] = useState(hue)
  const h = saturation === 0 ? keptHue : hue
  const enter = (e: Event) => {
    e.preventDefault()
    const rgb = text === undefined ? null : parseHex(text)
    setText(undefined)
    if (rgb) onCommit(rgb)
  }
  const [rh, rs] = rgbToHs(reported)
  return (
    <div class="colour">
      <Wheel colour={colour} pending={pending} disabled={disabled} onInput={(c) => { setKeptHue(rgbToHs(c)[0]); onInput(c) }} onCommit={onCommit} />
      <div class="colour-fields">
        <Slider label="Hue" min={0} max={359} track="hue" disabled={disabled} pending={pending} actual={rh} wanted={h} words={(v) => `${v}°`} spoken={(v) => `${v} degrees`}
          onInput={(v) => { setKeptHue(v); onInput(hsToRgb(v, saturation)) }} onCommit={(v) => onCommit(hsToRgb(v, saturation))} />
        <Slider label="Saturation" min={0} max={100} track="saturation" disabled={disabled} pending={pending} actual={rs} wanted={saturation} words={(v) => `${v} %`} spoken={(v) => `${v} percent`}
          onInput={(v) => onInput(hsToRgb(h, v))} onCommit={(v) => onCommit(hsToRgb(h, v))} />
        <form class="hex" onSubmit={enter}>
          <label for="hex-colour">Hex</label>
          <input id="hex-colour" value={text ?? hex(colour)} disabled={disabled} onInput={(e) => setText(e.currentTarget.value)} onBlur={enter} spellcheck={false} autoComplete="off" maxLength={7} aria-invalid={text !== undefined && parseHex(text) === null} />
          <span class="swatch" style={{ background: hex(reported) }} title={`Reported: ${hex(reported)}`} />
        </form>
        {recentColours.value.length > 0 && (
          <div class="swatches" role="group" aria-label="Recent colours">
            {recentColours.value.map((c) => <button key={c} type="button" class="swatch" style={{ background: c }} aria-label={`Recent colour ${c}`} disabled={disabled} onClick={() => onCommit(parseHex(c)!)} />)}
          </div>
        )}
      </div>
    </div>
  )
}
