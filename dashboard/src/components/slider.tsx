// A native range input that shows two things: the filled track is what is, the
// handle is what is wanted; where they differ, the handle is hollow.

import { useId } from 'preact/hooks'

interface Props {
  label: string
  min: number
  max: number
  step?: number
  /** actual is what the device reports; undefined where it reports nothing of the kind. */
  actual: number | undefined
  /** wanted is where the handle stands. */
  wanted: number
  /** words are the value for people: "78 %"; spoken is the same read out: "78 percent". */
  words: (v: number) => string
  spoken: (v: number) => string
  disabled?: boolean
  pending?: boolean
  track?: 'fill' | 'hue' | 'saturation' | 'kelvin'
  onInput: (v: number) => void
  onCommit: (v: number) => void
  onCancel?: () => void
}

export function Slider(p: Props) {
  const id = useId()
  const share = (v: number | undefined) => (v === undefined ? 0 : Math.max(0, Math.min(1, (v - p.min) / (p.max - p.min || 1))))
  const ghost = p.pending || (p.actual !== undefined && Math.abs(p.actual - p.wanted) > (p.step ?? 1) / 2)
  return (
    <div class={`slider track-${p.track ?? 'fill'}${ghost ? ' ghosted' : ''}`} style={{ '--actual': String(share(p.actual)) }}>
      <div class="slider-head"><label for={id}>{p.label}</label><output for={id} class="num">{p.words(p.wanted)}</output></div>
      <div class="slider-body">
        <span class="slider-actual" aria-hidden="true" />
        <input
          id={id} type="range" min={p.min} max={p.max} step={p.step ?? 1} value={p.wanted} disabled={p.disabled} aria-valuetext={p.spoken(p.wanted)}
          onInput={(e) => p.onInput(Number(e.currentTarget.value))}
          onChange={(e) => p.onCommit(Number(e.currentTarget.value))}
        />
      </div>
    </div>
  )
}
