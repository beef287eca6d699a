// The shapes of the hub's HTTP API. Made by `npm run types` from devices/httpapi/schemas.json:
// do not edit.

export interface Access {
  token: string
  /** ms since epoch */
  expires_at: number
  user: {
    name: string
    role: Role
    scope?: Scope
  }
}

export interface Account {
  name: string
  /** 1 at first; rises with every change */
  ver: number
  rights: ('read' | 'command' | 'ingest' | 'admin')[]
  scope: Scope
  topics: string[]
  /** ms since epoch */
  created_at: number
  /** ms since epoch */
  expires_at?: number
  last4: string
  /** after a change: adapters that begin to work on the hub's own broker because of these topics */
  starts_adapters?: string[]
}

export interface AccountPatch {
  rights?: ('read' | 'command' | 'ingest' | 'admin')[]
  scope?: Scope
  topics?: string[]
  /** the version that is changed; another is version_conflict */
  if_ver?: number
}

export interface Accounts {
  apitokens: Account[]
  next_cursor: string
}

export interface Audit {
  entries: AuditEntry[]
  next_cursor: string
}

export interface AuditEntry {
  /** ms since epoch */
  at: number
  /** of identical refusals, when the last one was; ms since epoch */
  last_at?: number
  /** of identical refusals, how many there were; left out for one */
  count?: number
  actor: string
  ip_hash?: string
  via: 'ws' | 'longpoll' | 'http' | 'mqtt' | 'cli' | 'hub' | ''
  action: string
  target: string
  cmd_id?: string
  before?: unknown
  after?: unknown
  outcome: 'ok' | 'refused' | 'failed'
  code?: string
}

export interface Backup {
  without_keys?: boolean
}

export interface Bridges {
  bridges: (Record<string, unknown>)[]
}

export interface Clock {
  suspect: boolean
  /** ms since epoch */
  since?: number
  /** ms since epoch */
  recorded?: number
  reason?: 'behind' | 'stepped'
}

export interface Command {
  cmd_id: string
  device: ID
  op: string
  params: Record<string, unknown>
  status: 'pending' | 'queued' | 'sent' | 'acked' | 'done' | 'confirmed' | 'refused' | 'cancelled' | 'superseded' | 'rejected' | 'failed' | 'expired' | 'timed_out' | 'late_done'
  by: string
  /** ms since epoch */
  at?: number
  /** ms since epoch */
  issued_at: number
  /** ms since epoch */
  expires_at: number
  attempt: number
  code?: string
  msg?: string
  policy?: string
  warning?: string
  hops: {
    hub_ms?: number
    wire_ms?: number
    device_ms?: number
    confirm_ms?: number
  }
}

export interface Commands {
  commands: Command[]
  next_cursor: string
}

export interface CreatedAccount {
  name: string
  /** 1 at first; rises with every change */
  ver: number
  rights: ('read' | 'command' | 'ingest' | 'admin')[]
  scope: Scope
  topics: string[]
  /** ms since epoch */
  created_at: number
  /** ms since epoch */
  expires_at?: number
  last4: string
  token: string
  /** adapters that begin to work on the hub's own broker because of these topics */
  starts_adapters?: string[]
}

export interface CreatedDevice {
  device: Device
  token: string
  /** ms since epoch */
  expires_at?: number
  issuer: string
}

export type CreatedDevices = CreatedDevice | {
  devices: CreatedDevice[]
}

export interface Device {
  id: ID
  /** 1 at first; rises with every change, but not with what the device reports of itself */
  ver: number
  name: string
  kinds: Kind[]
  model?: string
  manufacturer?: string
  fw?: string
  hw?: string
  labels: Record<string, string>
  area?: string
  lat?: number
  lon?: number
  /** ms since epoch */
  created_at: number
  expected_interval_s?: number
  sleepy: boolean
  enabled: boolean
  /** direct or the name of a bridge */
  via: string
  metrics?: Metric[]
  undeclared: 'accept' | 'quarantine' | 'reject'
  light?: LightAbilities
  shadow_policy: 'local_wins' | 'desired_wins'
  config?: Record<string, unknown>
  config_ver?: number
  config_ack_ver?: number
  notes?: string
  status: Status
  /** ms since epoch */
  last_seen?: number
  clock_offset_ms?: number
  latest?: Record<string, Value>
  /** readings that never came */
  gaps?: {
    boot: string
    lost: number
    ranges: unknown[]
  }[]
}

export interface DevicePatch {
  name?: string | null
  /** merged; null takes a label away */
  labels?: Record<string, string | null> | null
  area?: string | null
  enabled?: boolean
  expected_interval_s?: number | null
  sleepy?: boolean
  /** the whole list */
  metrics?: Metric[] | null
  undeclared?: 'accept' | 'quarantine' | 'reject' | null
  /** LightAbilities, merged; null takes a field away */
  light?: Record<string, unknown> | null
  shadow_policy?: 'local_wins' | 'desired_wins' | null
  /** merged; null takes a field away */
  config?: Record<string, unknown> | null
  lat?: number | null
  lon?: number | null
  /** direct or the name of a bridge */
  via?: string | null
  notes?: string | null
  /** the version that is changed; another is version_conflict */
  if_ver?: number
}

export interface Devices {
  devices: Device[]
  next_cursor: string
  total: number
}

export interface Discovered {
  discovered: {
    adopt: string
    bridge: string
    /** ms since epoch */
    seen_at: number
    device: Record<string, unknown>
  }[]
}

export interface Error {
  /** for people */
  reason: string
  code: 'unauthorized' | 'token_expired' | 'token_revoked' | 'forbidden' | 'device_disabled' | 'not_found' | 'replaced' | 'version_conflict' | 'conflict' | 'device_offline' | 'expired' | 'too_large' | 'invalid' | 'range' | 'unit_mismatch' | 'type_conflict' | 'undeclared_metric' | 'too_old' | 'rate_limited' | 'timeout' | 'overloaded' | 'platform_unavailable' | 'retained_command'
  retry_after_ms?: number
  details?: Record<string, unknown>
}

export interface Events {
  events: {
    /** ms since epoch */
    at: number
    from: string
    to: string
    reason: string
    epoch: number
    transport: string
    node: string
  }[]
  next_cursor: string
}

export interface Finding {
  device: ID
  /** the series' name; of one that is no metric's name the first bytes, escaped */
  name: string
  /** of the whole name */
  bytes: number
  /** name: it is no metric's name; unit: it is one of the catalogue's, in a unit or type that nothing declares */
  why: 'name' | 'unit'
  /** the name looks like a piece of a token */
  token: boolean
  type: 'float' | 'bool' | 'enum' | 'string'
  unit: string
  readings: number
  /** ms since epoch */
  first?: number
  /** ms since epoch */
  last?: number
}

export interface Findings {
  series: Finding[]
}

export interface Health {
  status: string
}

export type ID = string

export interface Key {
  kid: string
  state: 'active' | 'verifying' | 'revoked'
  /** ms since epoch */
  created_at: number
  /** ms since epoch */
  retired_at?: number
  /** ms since epoch */
  revoked_at?: number
  /** ms since epoch */
  used_until?: number
}

export interface Keys {
  keys: Key[]
}

export type Kind = 'sensor' | 'light'

export interface Latest {
  metrics: Record<string, Value>
  /** ms since epoch */
  server_time: number
}

export interface LightAbilities {
  modes: ('onoff' | 'brightness' | 'color_temp' | 'hs' | 'rgb' | 'rgbw' | 'rgbww' | 'xy' | 'white')[]
  min_kelvin?: number
  max_kelvin?: number
  effects?: string[]
}

export interface LoggedIn {
  /** absent when it went into the cookie */
  token?: string
  /** ms since epoch */
  expires_at?: number
  user: {
    name: string
    role: Role
    scope?: Scope
  }
}

export interface Login {
  username: string
  password: string
}

export interface MQTTSession {
  /** device:<id> or service:<name>:<number> */
  id: string
  account?: string
  device?: string
  client_id: string
  connected: boolean
  transport?: 'tcp' | 'tls' | 'ws'
  address?: string
  /** ms since epoch: connected, or absent */
  since?: number
  subscriptions: number
  /** messages that wait or are unacknowledged */
  queued: number
  /** that the session takes with them */
  bytes: number
  /** ms since epoch, of an absent session */
  expires_at?: number
}

export interface MQTTSessions {
  sessions: MQTTSession[]
  next_cursor: string
}

export interface Me {
  user: {
    name: string
    role: Role
    scope: Scope
  }
  socket_token: string
  /** ms since epoch */
  expires_at: number
}

export interface Metric {
  name: string
  class?: string
  unit?: string
  type?: 'float' | 'bool' | 'enum' | 'string'
  min?: number
  max?: number
  on_range?: 'flag' | 'reject'
  /** what an enum can be */
  options?: string[]
  precision?: number
  state_class?: 'measurement' | 'measurement_angle' | 'total' | 'total_increasing'
  expected_interval_s?: number
}

export interface NewAccount {
  name: string
  rights: ('read' | 'command' | 'ingest' | 'admin')[]
  scope?: Scope
  topics?: string[]
  ttl_s?: number
}

export interface NewCommand {
  op: 'set' | 'toggle' | 'step' | 'identify' | 'restart' | 'refresh'
  params?: Record<string, unknown>
  expires_in_ms?: number
  policy?: 'none' | 'latest' | 'all'
  cmd_id?: string
  if_ver?: number
}

export interface NewDevice {
  id: ID
  name?: string
  kinds: Kind[]
  model?: string
  manufacturer?: string
  fw?: string
  hw?: string
  labels?: Record<string, string>
  area?: string
  lat?: number
  lon?: number
  expected_interval_s?: number
  sleepy?: boolean
  enabled?: boolean
  /** direct or the name of a bridge */
  via?: string
  metrics?: Metric[]
  undeclared?: 'accept' | 'quarantine' | 'reject'
  light?: LightAbilities
  shadow_policy?: 'local_wins' | 'desired_wins'
  config?: Record<string, unknown>
  notes?: string
  /** a device that an adapter has met, as /discovered names it */
  adopt?: string
}

export type NewDevices = NewDevice | NewDevice[]

export interface NewToken {
  mode?: 'rotate' | 'issue'
  /** its life; 0: for ever */
  ttl_s?: number
  /** how long older generations stay good after a rotation */
  grace_s?: number
  form?: 'jwt' | 'short'
  /** a token that is good in messages over this bridge only */
  bridge?: string
  /** the generation that is meant; another is version_conflict */
  if_gen?: number
}

export interface NewUser {
  username: string
  /** 8 characters to 256 bytes; none that is common, repetitive, a sequence, or made of a name: then invalid, with rule length, repetitive, sequence, name or common */
  password: string
  role: Role
  scope?: Scope
}

export interface Nodes {
  nodes: (Record<string, unknown>)[]
}

export type OpenAPI = Record<string, unknown>

export interface PruneAudit {
  /** entries that are older go; ms since epoch. Without it, those beyond the configured age and size */
  before?: number
}

export interface PrunedAudit {
  /** entries that went, of what changed nothing */
  refusals: number
  /** entries that went, of what changed something */
  changes: number
}

export interface Reading {
  m: string
  v: number | boolean | string
  /** ms since epoch */
  t?: number
  s?: number
  /** unit */
  u?: string
  boot?: string
}

export type ReadingOrReadings = Readings | Reading

export interface Readings {
  boot?: string
  s0?: number
  /** ms since epoch */
  t0?: number
  u?: Record<string, string>
  r: unknown[][]
}

export interface ReadingsReply {
  ack?: number
  accepted: number
  late: number
  dup: number
  rejected: (Record<string, unknown>)[]
  /** what looks wrong with what was taken */
  hint?: string
}

export interface Ready {
  status: 'ready' | 'not ready'
  checks?: {
    name: string
    ok: boolean
    detail?: string
  }[]
  clock?: Clock
}

export interface Receipt {
  cmd_id: string
  status: 'pending' | 'queued' | 'sent' | 'acked' | 'done' | 'confirmed' | 'refused' | 'cancelled' | 'superseded' | 'rejected' | 'failed' | 'expired' | 'timed_out' | 'late_done'
  warning?: string
}

export type Role = 'admin' | 'operator' | 'viewer'

export type Scope = string

export interface Series {
  metric: string
  unit: string
  /** ms since epoch */
  from: number
  /** ms since epoch */
  to: number
  step_ms: number
  tier: 'raw' | '15m' | '1h'
  /** as it was asked for */
  tz?: string
  /** with a reading in the time; of many devices alone */
  devices?: number
  buckets: {
    /** where it begins, ms since epoch */
    t: number
    /** where it ends; with tz alone, when it is of an hour or more */
    end?: number
    /** absent of directions, of texts, and where no reading was in range */
    min?: number
    max?: number
    /** of directions the circular one */
    mean?: number
    /** null where no reading was in range */
    last: number | boolean | string | null
    /** of all readings */
    count: number
    /** of those outside the plausible range, which take no part in the rest */
    out_of_range?: number
    /** how many came late; not in roll-ups */
    late?: number
    /** of meters: how much they rose since the reading before the bucket */
    delta?: number
  }[]
}

export interface Session {
  sid: string
  user: string
  /** ms since epoch */
  created_at: number
  /** ms since epoch */
  last_used_at: number
  /** ms since epoch */
  expires_at: number
  user_agent?: string
  current?: boolean
}

export interface Sessions {
  sessions: Session[]
  next_cursor: string
}

export interface Shadow {
  device: ID
  kind: Kind
  ver: number
  desired: Record<string, unknown>
  desired_meta: Record<string, {
    ver: number
    /** ms since epoch */
    at: number
    by?: string
    cause?: string
    cmd?: string
    /** ms since epoch */
    until?: number
  }>
  reported: Record<string, unknown>
  reported_meta: Record<string, {
    ver: number
    /** ms since epoch */
    at: number
    by?: string
    cause?: string
    cmd?: string
    /** ms since epoch */
    until?: number
  }>
  delta: Record<string, unknown>
}

export interface ShadowPatch {
  desired: Record<string, unknown>
  if_ver?: number
  /** ms since epoch */
  until?: number
}

export interface Repair {
  /** those found for their unit, too */
  misfiled?: boolean
}

export interface Repaired {
  erased: Finding[]
  left: Finding[]
}

export interface Replayed {
  taken: number
  left: number
  /** put aside by an earlier build under a name that is no metric's */
  erased: number
}

export interface Sinks {
  sinks: (Record<string, unknown>)[]
}

export interface Status {
  state: 'online' | 'quiet' | 'unresponsive' | 'data_only' | 'sleeping' | 'offline' | 'never_seen'
  link: 'up' | 'down' | 'unknown'
  data: 'fresh' | 'stale' | 'none'
  control: 'ok' | 'unanswered' | 'unknown'
  reason?: string
  /** ms since epoch */
  since: number
  flapping: boolean
  unverified?: boolean
  /** ms since epoch */
  awake_at?: number
  epoch: number
  seq: number
  rtt_ms?: number
  transport?: string
}

export interface Stranded {
  /** devices that have no usable token left */
  stranded: number
}

export interface Token {
  token: string
  gen: number
  /** ms since epoch */
  expires_at?: number
  /** ms since epoch */
  grace_until?: number
}

export interface Tokens {
  gen: number
  min_gen: number
  graces: {
    below: number
    /** ms since epoch */
    until: number
  }[]
  /** the present one and the one before it */
  generations: {
    gen: number
    /** ms since epoch, of the last connection or push that was accepted with it; absent: never */
    last_used_at?: number
  }[]
  tokens: {
    jti: string
    device: ID
    gen: number
    kid: string
    form: string
    /** ms since epoch */
    issued_at: number
    last4: string
    /** ms since epoch */
    expires_at?: number
    good: boolean
  }[]
}

export interface User {
  name: string
  /** 1 at first; rises with every change */
  ver: number
  role: Role
  scope: Scope
  /** ms since epoch */
  created_at: number
  disabled?: boolean
}

export interface UserPatch {
  role?: Role
  scope?: Scope
  /** as of a new person */
  password?: string
  /** needed to change one's own password */
  current_password?: string
  enabled?: boolean
  /** the version that is changed; another is version_conflict */
  if_ver?: number
}

export interface Users {
  users: User[]
  next_cursor: string
}

export interface Value {
  v: number | boolean | string
  /** unit */
  u: string
  /** ms since epoch */
  t: number
  age_ms: number
  stale: boolean
  quality: ('server_time' | 'clock_ahead' | 'clock_unset' | 'late' | 'out_of_range' | 'converted' | 'undeclared')[]
  undeclared?: boolean
}
