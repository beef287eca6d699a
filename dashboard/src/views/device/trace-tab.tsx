// What one device sends and gets, as it happens; the hub leaves secrets out.

import { useEffect, useRef, useState } from 'preact/hooks'
import { CopyButton } from '../../components/copy'
import { ErrorNote } from '../../components/error'
import { clock } from '../../lib/time'
import { lines } from '../../lib/ndjson'
import { asError, send, type ApiError } from '../../state/api'
import { zoneName } from '../../state/prefs'

const KEEP = 300

interface Frame { n: number; at: number; dir: string; text: string }

export function TraceTab({ id }: { id: string }) {
  const [running, setRunning] = useState(false)
  const [frames, setFrames] = useState<Frame[]>([])
  const [error, setError] = useState<ApiError>()
  const count = useRef(0)
  useEffect(() => {
    if (!running) return
    const abort = new AbortController()
    const listen = async () => {
      try {
        const response = await send('GET', `/devices/${id}/trace`, { signal: abort.signal })
        for await (const line of lines(response.body!)) {
          const f = line as { at?: number; dir?: string }
          const { at, dir, ...rest } = f
          setFrames((old) => [{ n: ++count.current, at: at ?? Date.now(), dir: dir ?? '', text: JSON.stringify(rest) }, ...old].slice(0, KEEP))
        }
      } catch (e) {
        if (!abort.signal.aborted) setError(asError(e))
      }
      if (!abort.signal.aborted) setRunning(false)
    }
    setError(undefined)
    void listen()
    return () => abort.abort()
  }, [running, id])
  return (
    <div class="stack">
      <div class="actions start">
        <button type="button" class="button" aria-pressed={running} onClick={() => setRunning(!running)}>{running ? 'Stop' : 'Listen'}</button>
        <button type="button" class="button" disabled={frames.length === 0} onClick={() => setFrames([])}>Clear</button>
        <CopyButton text={() => frames.map((f) => `${new Date(f.at).toISOString()} ${f.dir} ${f.text}`).reverse().join('\n')} />
        <span class="muted small">{running ? 'Listening…' : 'Every frame of this device, both ways, while you listen.'}</span>
      </div>
      <ErrorNote error={error} />
      {frames.length > 0 && (
        <ol class="frames" aria-label="Frames, newest first">
          {frames.map((f) => <li key={f.n}><time>{clock(f.at, zoneName())}</time><span class={`dir ${f.dir}`}>{f.dir}</span><code>{f.text}</code></li>)}
        </ol>
      )}
    </div>
  )
}
