// The HTTP API, as the signed-in person.

/** ApiError is a refusal of the hub, or the lack of any answer (code "unreachable"). */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    readonly reason: string,
    readonly status: number,
    readonly details?: Record<string, unknown>,
    readonly retryAfterMs?: number,
  ) {
    super(reason)
  }
}

/** asError makes an ApiError of anything thrown or answered. */
export function asError(e: unknown): ApiError {
  if (e instanceof ApiError) return e
  if (e && typeof e === 'object' && 'reason' in e) {
    const r = e as { code?: string; reason?: string; details?: Record<string, unknown>; retry_after_ms?: number }
    return new ApiError(r.code ?? 'invalid', r.reason ?? 'refused', 0, r.details, r.retry_after_ms)
  }
  return new ApiError('unreachable', e instanceof Error ? e.message : String(e), 0)
}

type Query = Record<string, string | number | undefined>

interface Options {
  query?: Query
  body?: unknown
  signal?: AbortSignal
  /** key has the hub make a thing once, however often it is asked for under it. */
  key?: string
}

let onUnauthorized: (path: string) => void = () => {}

/** whenUnauthorized has f called when a request, but for signing in, was answered with 401. */
export function whenUnauthorized(f: (path: string) => void): void { onUnauthorized = f }

export async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options)
  if (response.status === 204) return undefined as T
  try {
    return (await response.json()) as T
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e
    throw new ApiError('unreachable', 'the hub’s answer broke off', response.status)
  }
}

/** send is request for answers that are not one JSON document. */
export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const search = new URLSearchParams()
  for (const [k, v] of Object.entries(options.query ?? {})) if (v !== undefined && v !== '') search.set(k, String(v))
  const query = search.toString()
  // What marks a call as the dashboard's own (devices/README.md#people-and-rights).
  const headers: Record<string, string> = { 'X-Requested-With': 'devicehub' }
  if (options.body !== undefined) headers['Content-Type'] = 'application/json'
  if (options.key) headers['Idempotency-Key'] = options.key
  let response: Response
  try {
    response = await fetch(`/api/v1${path}${query ? `?${query}` : ''}`, {
      method, headers, credentials: 'same-origin',
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal ?? null,
    })
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e
    throw new ApiError('unreachable', 'the hub does not answer; check the network', 0)
  }
  if (response.ok) return response
  let refused: { code?: string; reason?: string; details?: Record<string, unknown>; retry_after_ms?: number } = {}
  try { refused = await response.json() } catch { /* not the hub's own answer: the status has to do */ }
  if (response.status === 401 && path !== '/login') onUnauthorized(path)
  throw new ApiError(
    refused.code ?? (response.status >= 500 ? 'platform_unavailable' : 'invalid'),
    refused.reason ?? `the hub answered ${response.status}`, response.status, refused.details, refused.retry_after_ms,
  )
}

export const get = <T>(path: string, query?: Query, signal?: AbortSignal) => request<T>('GET', path, { query: query ?? {}, ...(signal ? { signal } : {}) })
export const post = <T>(path: string, body?: unknown) => request<T>('POST', path, { body })
export const patch = <T>(path: string, body: unknown) => request<T>('PATCH', path, { body })
export const del = <T>(path: string) => request<T>('DELETE', path)
