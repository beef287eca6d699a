// A QR code as one SVG path, dark on white in either theme so that any camera reads it.

import { generate } from 'lean-qr'
import { useMemo } from 'preact/hooks'

const QUIET = 3 // modules of white around it

export function QRCode({ text, label }: { text: string; label: string }) {
  const { path, size } = useMemo(() => {
    const code = generate(text)
    let path = ''
    for (let y = 0; y < code.size; y++) {
      for (let x = 0; x < code.size; x++) {
        if (!code.get(x, y)) continue
        let run = 1
        while (code.get(x + run, y)) run++
        path += `M${x + QUIET} ${y + QUIET}h${run}v1h-${run}z`
        x += run
      }
    }
    return { path, size: code.size + 2 * QUIET }
  }, [text])
  return <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shape-rendering="crispEdges"><path d={path} /></svg>
}
