// Labels as text, one key=value a line.

export const formatLabels = (labels: Record<string, string> | undefined): string =>
  Object.entries(labels ?? {}).sort().map(([k, v]) => `${k}=${v}`).join('\n')

/** parseLabels reads what formatLabels writes; null when a line is not key=value. */
export function parseLabels(text: string): Record<string, string> | null {
  const out: Record<string, string> = {}
  for (const line of text.split('\n').map((l) => l.trim()).filter(Boolean)) {
    const i = line.indexOf('=')
    if (i < 1) return null
    out[line.slice(0, i).trim()] = line.slice(i + 1).trim()
  }
  return out
}
