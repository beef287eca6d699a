// Small hooks that more than one view uses.

import { useEffect, useRef, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { asError, request, type ApiError } from '../state/api'
import { ulid } from './ulid'

/** useQuery reads and writes the page's query string; undefined removes a key. */
export function useQuery(): [Record<string, string>, (change: Record<string, string | undefined>, push?: boolean) => void] {
  const { path, query, route } = useLocation()
  const latest = useRef({ path, query })
  latest.current = { path, query }
  return [query, (change, push = false) => {
    const next = new URLSearchParams(latest.current.query)
    for (const [k, v] of Object.entries(change)) {
      if (v === undefined || v === '') next.delete(k)
      else next.set(k, v)
    }
    const text = next.toString()
    latest.current.query = Object.fromEntries(next)
    route(latest.current.path + (text ? `?${text}` : ''), !push)
  }]
}

export interface Loaded<T> { data: T | undefined; error: ApiError | undefined; loading: boolean; reload: () => void }

/** useLoad fetches when its key changes, and again with reload; what was shown stays until the new is there. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: ApiError; loading: boolean }>({ key, loading: true })
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    const abort = new AbortController()
    setState((s) => (s.key === key ? { ...s, loading: true } : { key, loading: true }))
    load(abort.signal).then(
      (data) => { if (!abort.signal.aborted) setState({ key, data, loading: false }) },
      (e) => { if (!abort.signal.aborted) setState((s) => ({ ...s, error: asError(e), loading: false })) },
    )
    return () => abort.abort()
  }, [key, turn])
  return { data: state.key === key ? state.data : undefined, error: state.error, loading: state.loading, reload: () => setTurn((n) => n + 1) }
}

/** usePages collects the pages of a list as they are asked for. */
export function usePages<T>(key: string, load: (cursor: string | undefined, signal: AbortSignal) => Promise<{ items: T[]; next?: string | undefined }>) {
  const [extra, setExtra] = useState<{ key: string; items: T[]; next: string | undefined }>()
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<ApiError>()
  const first = useLoad(key, (signal) => load(undefined, signal))
  useEffect(() => setExtra(undefined), [first.data])
  const next = extra ? extra.next : first.data?.next
  const more = async () => {
    if (!next || busy) return
    setBusy(true)
    setError(undefined)
    try {
      const page = await load(next, new AbortController().signal)
      setExtra((e) => ({ key, items: [...(e?.items ?? []), ...page.items], next: page.next || undefined }))
    } catch (e) {
      setError(asError(e))
    }
    setBusy(false)
  }
  return {
    items: first.data ? [...first.data.items, ...(extra?.items ?? [])] : undefined,
    error: first.error ?? error, loading: first.loading, more: next ? more : undefined, busy, reload: first.reload,
  }
}

/**
 * usePost makes things at path. What is asked for again because no answer came is
 * asked for under the same key, and is made once.
 */
export function usePost<T>(path: string): (body: unknown, query?: Record<string, string>) => Promise<T> {
  const asked = useRef({ text: '', key: '' })
  return async (body, query = {}) => {
    const text = JSON.stringify([body, query])
    if (asked.current.text !== text) asked.current = { text, key: ulid() }
    const made = await request<T>('POST', path, { body, query, key: asked.current.key })
    asked.current = { text: '', key: '' } // the next is another
    return made
  }
}

/** useTitle names the page in the browser's tab. */
export function useTitle(title: string): void {
  useEffect(() => { document.title = title ? `${title} · devicehub` : 'devicehub' }, [title])
}

/** typing reports whether a key press belongs to a field and not to the page. */
export function typing(e: KeyboardEvent): boolean {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return true
  const el = e.target as HTMLElement | null
  return !!el && (el.matches?.('input, select, textarea, [contenteditable]') || !!el.closest?.('dialog'))
}

/** useKeys hears single keys on the page, outside of fields and dialogs. */
export function useKeys(keys: Record<string, (e: KeyboardEvent) => void>): void {
  const latest = useRef(keys)
  latest.current = keys
  useEffect(() => {
    const hear = (e: KeyboardEvent) => {
      const f = latest.current[e.key]
      if (f && !typing(e)) f(e)
    }
    addEventListener('keydown', hear)
    return () => removeEventListener('keydown', hear)
  }, [])
}
