// A colour wheel: hue around, saturation outwards. It is for fingers and mice;
// the sliders beside it are its keyboard.

import iro from '@jaames/iro'
import { useEffect, useRef } from 'preact/hooks'
import type { RGB } from '../lib/light'

interface Props { colour: RGB; pending: boolean; disabled: boolean; onInput: (c: RGB) => void; onCommit: (c: RGB) => void }

type Picker = ReturnType<typeof iro.ColorPicker>

export function Wheel(props: Props) {
  const place = useRef<HTMLDivElement>(null)
  const picker = useRef<Picker>(undefined)
  const dragging = useRef(false)
  const latest = useRef(props)
  latest.current = props

  useEffect(() => {
    const el = place.current!
    const p = iro.ColorPicker(el, {
      width: 196, padding: 4, handleRadius: 10, borderWidth: 0, wheelLightness: false, wheelAngle: 0,
      color: rgb(latest.current.colour), layout: [{ component: iro.ui.Wheel }],
    })
    picker.current = p
    const now = (): RGB => [p.color.rgb.r, p.color.rgb.g, p.color.rgb.b]
    p.on('input:start', () => { dragging.current = true })
    p.on('input:move', () => latest.current.onInput(now()))
    p.on('input:end', () => {
      dragging.current = false
      latest.current.onCommit(now())
    })
    return () => { el.replaceChildren() }
  }, [])
  const [r, g, b] = props.colour
  useEffect(() => {
    if (!dragging.current && picker.current) picker.current.color.rgb = { r, g, b }
  }, [r, g, b])
  return <div ref={place} class={`wheel${props.pending ? ' ghosted' : ''}${props.disabled ? ' off' : ''}`} aria-hidden="true" />
}

const rgb = ([r, g, b]: RGB) => ({ r, g, b })
