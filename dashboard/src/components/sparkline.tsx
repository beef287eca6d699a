// The last hour of one value, the size of a word.

export function Sparkline({ values }: { values: readonly number[] | undefined }) {
  if (!values || values.length < 2) return <svg class="sparkline" viewBox="0 0 80 24" aria-hidden="true" />
  const min = Math.min(...values)
  const span = Math.max(...values) - min || 1
  const x = (i: number) => ((i / (values.length - 1)) * 78 + 1).toFixed(1)
  const y = (v: number) => (21 - ((v - min) / span) * 18).toFixed(1)
  return (
    <svg class="sparkline" viewBox="0 0 80 24" aria-hidden="true" preserveAspectRatio="none">
      <polyline points={values.map((v, i) => `${x(i)},${y(v)}`).join(' ')} />
    </svg>
  )
}
