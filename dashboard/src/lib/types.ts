// Shapes of the hub's HTTP API and channels, as far as the dashboard reads them.

export type Role = 'viewer' | 'operator' | 'admin'
export type Kind = 'sensor' | 'light'
export type State = 'online' | 'quiet' | 'unresponsive' | 'data_only' | 'sleeping' | 'offline' | 'never_seen'

/** All states, in the order in which they are shown. */
export const STATES: readonly State[] = ['online', 'quiet', 'unresponsive', 'data_only', 'sleeping', 'offline', 'never_seen']

export interface User { name: string; ver?: number; role: Role; scope?: string; created_at?: number }

export interface Status {
  state: State
  link: 'up' | 'down' | 'unknown'
  data: 'fresh' | 'stale' | 'none'
  control: 'ok' | 'unanswered' | 'unknown'
  reason?: string
  since: number
  flapping?: boolean
  unverified?: boolean
  awake_at?: number
  epoch?: number
  seq?: number
  rtt_ms?: number
  transport?: string
}

export type Scalar = number | boolean | string

export interface Latest { v: Scalar; u?: string; t: number; age_ms?: number; stale?: boolean; quality?: string[]; undeclared?: boolean }
export type LatestMap = Record<string, Latest>

export interface MetricDecl {
  name: string; class?: string; unit?: string; type: 'float' | 'bool' | 'enum' | 'string'
  min?: number; max?: number; on_range?: string; options?: string[]; precision?: number; state_class?: string; expected_interval_s?: number
}

export type LightMode = 'onoff' | 'brightness' | 'color_temp' | 'hs' | 'rgb' | 'rgbw' | 'rgbww' | 'xy' | 'white'
export interface LightCaps { modes: LightMode[]; min_kelvin?: number; max_kelvin?: number; effects?: string[] }

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

export interface Device {
  id: string; ver?: number; name: string; kinds: Kind[]; labels?: Record<string, string>; area?: string
  model?: string; manufacturer?: string; fw?: string; hw?: string; created_at?: number
  expected_interval_s?: number; sleepy?: boolean; enabled?: boolean; via?: string
  metrics?: MetricDecl[]; undeclared?: string; light?: LightCaps; shadow_policy?: string; notes?: string
  config?: unknown; config_ver?: number; config_ack_ver?: number; lat?: number; lon?: number
  status?: Status; latest?: LatestMap; clock_offset_ms?: number
}

export type CommandStatus =
  | 'pending' | 'queued' | 'sent' | 'resent' | 'acked' | 'done' | 'confirmed'
  | 'refused' | 'cancelled' | 'superseded' | 'rejected' | 'failed' | 'expired' | 'timed_out' | 'late_done'

export interface Hops { hub_ms?: number; wire_ms?: number; device_ms?: number; confirm_ms?: number }

export interface Command {
  cmd_id: string; device: string; op: string; params?: LightParams; status: CommandStatus; by?: string
  issued_at?: number; expires_at?: number; at?: number; attempt?: number; code?: string; msg?: string; hops?: Hops; warning?: string
}

export interface Transition { at: number; from: State | ''; to: State; reason?: string; epoch?: number; transport?: string; node?: string }

/** Readings out of range are in count and in nothing else; a direction has neither min nor max. */
export interface Bucket { t: number; min?: number | null; max?: number | null; mean?: number | null; last: Scalar | null; count: number; out_of_range?: number; late?: number; delta?: number }
export interface Series { metric: string; unit?: string; from: number; to: number; step_ms: number; tier?: string; buckets: Bucket[] }

export interface ReadingPush { device: string; r: { m: string; v: Scalar; u?: string; t: number; q?: string[] }[]; server_time: number; skipped?: number }

export interface ShadowMeta { ver?: number; at?: number; by?: string; cmd?: string; until?: number; cause?: string }
export interface Shadow {
  device: string; kind?: string; ver: number
  desired?: Record<string, unknown>; desired_meta?: Record<string, ShadowMeta>
  reported?: LightState & Record<string, unknown>; reported_meta?: Record<string, ShadowMeta>
  delta?: Record<string, unknown>
}

export interface FleetRow {
  id: string; name: string; kinds: Kind[]; area?: string; status: Status
  latest: Record<string, { v: Scalar; u?: string; t: number; stale?: boolean }>
  light?: { on?: boolean; brightness?: number; t?: number }
  battery?: number; rssi?: number; fw?: string
  last_command?: { cmd_id: string; status: CommandStatus; at: number }
}

export interface FleetView { rows: FleetRow[]; total: number; counts: Partial<Record<State, number>>; next_cursor?: string; server_time: number }

export interface AuditEntry {
  at: number; actor: string; ip_hash?: string; via: string; action: string; target: string
  cmd_id?: string; before?: unknown; after?: unknown; outcome: string; code?: string
}
