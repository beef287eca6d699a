// The on/off control of a light. It shows what the light reports; what has been
// asked for shows as a ghost until the light reports that.

interface Props {
  name: string
  /** on is what the light reports; undefined: it has not said. */
  on: boolean | undefined
  /** wanted is the target of a command under way. */
  wanted?: boolean | undefined
  /** blocked says why the control does nothing. */
  blocked?: string | undefined
  large?: boolean
  onToggle: (on: boolean) => void
}

export function LightSwitch({ name, on, wanted, blocked, large, onToggle }: Props) {
  const pending = wanted !== undefined && wanted !== on
  return (
    <button
      type="button" role="switch" aria-label={name} aria-checked={on === true} aria-disabled={blocked ? 'true' : undefined} aria-busy={pending || undefined}
      title={blocked} class={`switch${large ? ' large' : ''}${pending ? ' pending' : ''}${pending && wanted ? ' to-on' : ''}${pending && !wanted ? ' to-off' : ''}`}
      onClick={(e) => { e.preventDefault(); e.stopPropagation(); if (!blocked) onToggle(!(wanted ?? on ?? false)) }}
    >
      <span class="thumb" />
      {pending && <span class="ghost" />}
    </button>
  )
}
