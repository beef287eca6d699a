// The shapes that the dashboard reads: those of the HTTP API, which are made from its OpenAPI
// document (api.ts, npm run types), and those of the channels beside them.
import type * as api from './api'

/** Some is a T of which only the fields K are surely there: others may not have been asked for. */
type Some<T, K extends keyof T> = Pick<T, K> & Partial<Omit<T, K>>

export type Role = api.Role
export type Kind = api.Kind
export type State = api.Status['state']

/** All states, in the order in which they are shown. */
export const STATES: readonly State[] = ['online', 'quiet', 'unresponsive', 'data_only', 'sleeping', 'offline', 'never_seen']

export type User = Some<api.User, 'name' | 'role'>
export type Status = Some<api.Status, 'state' | 'link' | 'data' | 'control' | 'since'>

export type Scalar = number | boolean | string
export type Latest = Some<Omit<api.Value, 'quality'>, 'v' | 't'> & { quality?: string[] }
export type LatestMap = Record<string, Latest>

export type MetricDecl = api.Metric & { type: NonNullable<api.Metric['type']> }

export type LightCaps = api.LightAbilities
export type LightMode = LightCaps['modes'][number]

export interface LightState {
  on?: boolean | null; brightness?: number | null; mode?: LightMode | null
  rgb?: number[] | null; rgbw?: number[] | null; rgbww?: number[] | null
  hs?: number[] | null; xy?: number[] | null; kelvin?: number | null; white?: number | null
  effect?: string | null; transitioning?: boolean; target?: Partial<LightState> | null
  ver?: number; t?: number; cause?: string; by?: string; cmd?: string
}

export interface LightParams {
  on?: boolean; brightness?: number; rgb?: number[]; hs?: number[]; xy?: number[]
  kelvin?: number; white?: number; effect?: string; transition_ms?: number
  brightness_delta?: number; pct_delta?: number; ms?: number
}

export type Device = Some<Omit<api.Device, 'metrics' | 'latest' | 'status'>, 'id' | 'name' | 'kinds'> & {
  metrics?: MetricDecl[]; status?: Status; latest?: LatestMap
}

export type CommandStatus = api.Command['status']
export type Hops = api.Command['hops']
export type Command = Some<Omit<api.Command, 'params'>, 'cmd_id' | 'device' | 'op' | 'status'> & { params?: LightParams }

export type Transition = Some<api.Events['events'][number], 'at'> & { from: State | ''; to: State }

/** Readings out of range are in count and in nothing else; a direction has neither min nor max. */
export type Bucket = api.Series['buckets'][number]
export type Series = Some<api.Series, 'metric' | 'from' | 'to' | 'step_ms' | 'buckets'>

export interface ReadingPush { device: string; r: { m: string; v: Scalar; u?: string; t: number; q?: string[] }[]; server_time: number; skipped?: number }

export type Shadow = Some<Omit<api.Shadow, 'reported'>, 'device' | 'ver'> & { reported?: LightState & Record<string, unknown> }
export type ShadowMeta = api.Shadow['desired_meta'][string]

export interface FleetRow {
  id: string; name: string; kinds: Kind[]; area?: string; status: Status
  latest: Record<string, { v: Scalar; u?: string; t: number; stale?: boolean }>
  light?: { on?: boolean; brightness?: number; t?: number }
  battery?: number; rssi?: number; fw?: string
  last_command?: { cmd_id: string; status: CommandStatus; at: number }
}

export interface FleetView { rows: FleetRow[]; total: number; counts: Partial<Record<State, number>>; next_cursor?: string; server_time: number }

export type AuditEntry = api.AuditEntry
