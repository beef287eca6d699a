// The last minutes of one value, the size of a word.

const MIN_SPAN_MS = 60_000

export function Sparkline({ points }: { points: readonly { t: number; v: number }[] }) {
  if (points.length < 2) return <svg class="sparkline" viewBox="0 0 80 24" aria-hidden="true" />
  const values = points.map((p) => p.v)
  const min = Math.min(...values)
  const span = Math.max(...values) - min
  const to = points[points.length - 1]!.t
  const from = Math.min(points[0]!.t, to - MIN_SPAN_MS)
  const x = (t: number) => (1 + ((t - from) / (to - from)) * 78).toFixed(1)
  const y = (v: number) => (span ? 21 - ((v - min) / span) * 18 : 12).toFixed(1)
  return (
    <svg class="sparkline" viewBox="0 0 80 24" aria-hidden="true" preserveAspectRatio="none">
      <polyline points={points.map((p) => `${x(p.t)},${y(p.v)}`).join(' ')} />
    </svg>
  )
}
