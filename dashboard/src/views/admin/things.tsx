// Bridges, sinks and nodes: what the hub says about each, all of it.

import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'
import { CopyButton } from '../../components/copy'
import { Empty, Loading } from '../../components/empty'
import { ErrorNote } from '../../components/error'
import { Properties } from '../../components/properties'
import { useLoad } from '../../lib/hooks'
import { get } from '../../state/api'

interface Thing { name?: string; id?: string; state?: string; status?: string }

const REFRESH_MS = 5000
const GOOD = new Set(['up', 'ok', 'connected', 'running', 'ready'])

export function Things({ kind, empty, teach }: { kind: 'bridges' | 'sinks' | 'nodes'; empty: string; teach: ComponentChildren }) {
  const { data, error, reload } = useLoad(kind, (signal) => get<Record<string, Thing[] | null>>(`/${kind}`, undefined, signal))
  useEffect(() => {
    const t = setInterval(() => { if (document.visibilityState === 'visible') reload() }, REFRESH_MS)
    return () => clearInterval(t)
  }, [])
  if (!data) return error ? <ErrorNote error={error} retry={reload} /> : <Loading what={kind} />
  const list = data[kind] ?? []
  return (
    <div class="stack">
      <ErrorNote error={error} />
      {list.length === 0 && <Empty title={empty}><p class="muted">{teach}</p></Empty>}
      {list.map((t, i) => {
        const state = typeof t.state === 'string' ? t.state : typeof t.status === 'string' ? t.status : ''
        return (
          <section class="card thing" key={t.name ?? t.id ?? i}>
            <header><h2>{t.name ?? t.id ?? kind}</h2>{state && <span class={GOOD.has(state) ? 'tag good' : 'tag bad'}>{state}</span>}<span class="spring" /><CopyButton label="JSON" text={() => JSON.stringify(t, null, 2)} /></header>
            <Properties of={t} except={['name', 'state', 'status']} />
          </section>
        )
      })}
    </div>
  )
}
