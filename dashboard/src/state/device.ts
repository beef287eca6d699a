// One device, live: its record, status, values, light state, commands and who
// is watching. Opened by its page, closed when the page is left.

import { Presence, type Channel } from 'phoenix'
import { computed, signal } from '@preact/signals'
import { groupsOf, opText } from '../lib/light'
import { isOver, lookOf, outcomeText, type Look } from '../lib/outcome'
import type { Command, CommandStatus, Device, LatestMap, LightParams, LightState, ReadingPush, Role, Shadow, Status } from '../lib/types'
import { ulid } from '../lib/ulid'
import { note, say } from './announce'
import { ApiError, asError, get } from './api'
import { serverNow } from './clock'
import { join, type Topic } from './socket'

/** A command as this page follows it. */
export interface Tracked extends Command {
  mine: boolean
  startedAt: number // performance.now() of the click, for commands of this page
  tookMs?: number
}

export interface Watcher { name: string; role?: Role }
export interface Connection { transport?: string; node?: string; online_at?: number; epoch?: number; fw?: string; sdk?: string }

interface JoinReply { status?: Status; latest?: LatestMap | { metrics: LatestMap }; shadow?: Shadow }

export type ReadingListener = (r: ReadingPush, late: boolean) => void

export class DeviceLive {
  readonly record = signal<Device | undefined>(undefined)
  readonly error = signal<ApiError | undefined>(undefined)
  readonly status = signal<Status | undefined>(undefined)
  readonly latest = signal<LatestMap>({})
  readonly light = signal<LightState | undefined>(undefined)
  readonly shadow = signal<Shadow | undefined>(undefined)
  readonly watchers = signal<Watcher[]>([])
  readonly connection = signal<Connection | undefined>(undefined)
  /** commands followed by this page, newest first; the log has them all. */
  readonly commands = signal<Tracked[]>([])
  /** commandsChanged rises with every transition, for lists that show the log. */
  readonly commandsChanged = signal(0)
  readonly transitions = signal(0)

  /** target is what has been asked for and not yet been decided, nor by a newer command since. */
  readonly target = computed<LightParams>(() => {
    const want: LightParams = {}
    for (const c of [...this.commands.value].reverse()) {
      if (c.op !== 'set' || lookOf(c.status) === 'failed') continue
      const groups = groupsOf(c.op, c.params)
      if (!isOver(c)) Object.assign(want, c.params)
      else if (c.status !== 'superseded' && c.status !== 'cancelled') {
        for (const key of Object.keys(want) as (keyof LightParams)[]) {
          if (groupsOf('set', { [key]: want[key] }).some((g) => groups.includes(g))) delete want[key]
        }
      }
    }
    return want
  })

  private topics: Topic[] = []
  private listeners = new Set<ReadingListener>()
  private closed = false
  private lightVer = 0

  constructor(readonly id: string) {
    void this.load()
  }

  close(): void {
    this.closed = true
    for (const t of this.topics) t.leave()
    this.topics = []
  }

  /** onReading hears every reading that is pushed, until the returned function is called. */
  onReading(f: ReadingListener): () => void {
    this.listeners.add(f)
    return () => this.listeners.delete(f)
  }

  async load(): Promise<void> {
    this.error.value = undefined
    try {
      const d = await get<Device>(`/devices/${this.id}`)
      if (this.closed) return
      this.record.value = d
      if (d.status) this.status.value = d.status
      if (d.latest) this.latest.value = d.latest
      if (!this.topics.length) this.topics = d.kinds.map((kind) => this.join(`${kind}:${this.id}`))
    } catch (e) {
      if (!this.closed) this.error.value = asError(e)
    }
  }

  private join(topic: string): Topic {
    const refetch = () => void get<Device>(`/devices/${this.id}`).then((d) => { if (!this.closed) this.record.value = d }, () => {})
    return join(topic, () => ({}), {
      joined: (r: JoinReply) => this.joined(r),
      refused: (e) => { this.error.value = e },
      closed: () => { this.error.value = new ApiError('forbidden', 'you may no longer see this device', 403) },
      channel: (c) => this.follow(c),
      on: {
        reading: (p: ReadingPush) => this.reading(p, false),
        backfill: (p: ReadingPush) => this.reading(p, true),
        status: (p: Status) => this.setStatus(p),
        state: (p: LightState) => this.reported(p),
        command_status: (p: Command & { at: number }) => this.transition(p),
        device_changed: (p: Device) => {
          if (p?.id === this.id) this.setRecord(p)
          else refetch()
        },
      },
    })
  }

  /** setRecord takes a record as it is now: a field that it lacks is one that was taken away. */
  setRecord(d: Device): void {
    const { status, latest, clock_offset_ms } = this.record.peek() ?? {}
    this.record.value = { ...(status ? { status } : {}), ...(latest ? { latest } : {}), ...(clock_offset_ms !== undefined ? { clock_offset_ms } : {}), ...d }
  }

  private joined(r: JoinReply): void {
    if (r.status) this.setStatus(r.status)
    if (r.latest) {
      const metrics = 'metrics' in r.latest && typeof r.latest.metrics === 'object' && !('v' in r.latest.metrics) ? r.latest.metrics : r.latest
      this.latest.value = { ...this.latest.peek(), ...(metrics as LatestMap) }
    }
    if (r.shadow) this.setShadow(r.shadow)
    // What was under way while the connection was lost has moved on.
    for (const c of this.commands.peek()) {
      if (isOver(c)) continue
      get<Command>(`/devices/${this.id}/commands/${c.cmd_id}`).then((now) => this.transition(now), () => {})
    }
  }

  setShadow(s: Shadow): void {
    this.shadow.value = s
    if (s.reported && (s.ver ?? 0) >= this.lightVer) {
      this.lightVer = s.ver ?? 0
      this.light.value = { ...s.reported }
    }
  }

  private setStatus(p: Status): void {
    const before = this.status.peek()
    if (before && p.epoch !== undefined && before.epoch !== undefined && (p.epoch < before.epoch || (p.epoch === before.epoch && (p.seq ?? 0) < (before.seq ?? 0)))) return
    this.status.value = p
    if (before?.state !== p.state) this.transitions.value++
  }

  private reading(p: ReadingPush, late: boolean): void {
    if (!late) {
      const latest = { ...this.latest.peek() }
      for (const r of p.r) {
        const before = latest[r.m]
        if (before && before.t > r.t) continue
        latest[r.m] = { v: r.v, t: r.t, stale: false, ...(r.u !== undefined ? { u: r.u } : {}), ...(r.q ? { quality: r.q } : {}), ...(before?.undeclared ? { undeclared: true } : {}) }
      }
      this.latest.value = latest
    }
    for (const f of this.listeners) f(p, late)
  }

  private reported(p: LightState): void {
    // A report that is older than what is known would set the controls back.
    if (p.ver !== undefined && p.ver < this.lightVer) return
    if (p.ver !== undefined) this.lightVer = p.ver
    this.light.value = { ...this.light.peek(), ...p, transitioning: p.transitioning ?? false, target: p.target ?? null }
  }

  private transition(p: Partial<Command> & { cmd_id: string; status: CommandStatus }): void {
    this.commandsChanged.value++
    const list = this.commands.peek()
    const known = list.find((c) => c.cmd_id === p.cmd_id)
    if (!known) {
      if (lookOf(p.status) !== 'pending') return
      this.commands.value = [{ device: this.id, op: 'set', mine: false, startedAt: performance.now(), ...p } as Tracked, ...list].slice(0, 40)
      return
    }
    if (isOver(known) && !isOver(p as Command)) return // an echo from before its end
    const next: Tracked = { ...known, ...p, params: p.params ?? known.params ?? {} }
    if (lookOf(next.status) !== 'pending' && (next.status === 'confirmed' || next.tookMs === undefined)) next.tookMs = performance.now() - known.startedAt
    this.commands.value = list.map((c) => (c === known ? next : c))
    if (next.mine && lookOf(next.status) !== 'pending' && next.status !== known.status) {
      // The word stands at the top of the control, which may have been scrolled away.
      if (lookOf(next.status) === 'failed') note(`${opText(next.op, next.params)} ${outcomeText(next, undefined)}`, 'bad')
      else say(outcomeText(next, next.tookMs))
    }
  }

  /** send asks for a command and follows it; refusals end it here, in words. */
  async send(op: string, params: LightParams = {}): Promise<Tracked> {
    const topic = this.controlTopic()
    const cmd: Tracked = { cmd_id: ulid(serverNow()), device: this.id, op, params, status: 'pending', mine: true, startedAt: performance.now(), issued_at: serverNow() }
    this.commands.value = [cmd, ...this.commands.peek()].slice(0, 40)
    try {
      const receipt = await topic.push<{ cmd_id: string; status: CommandStatus; warning?: string }>('command', { op, params, cmd_id: cmd.cmd_id })
      const warning = receipt.warning
      this.commands.value = this.commands.peek().map((c) => (c.cmd_id === cmd.cmd_id ? { ...c, ...(warning ? { warning } : {}), status: c.status === 'pending' ? receipt.status : c.status } : c))
    } catch (e) {
      const err = asError(e)
      if (err.code === 'timeout') {
        // It may have arrived: the log knows.
        get<Command>(`/devices/${this.id}/commands/${cmd.cmd_id}`).then((c) => this.transition(c), (e2) => this.transition({ ...cmd, status: 'refused', code: asError(e2).code, msg: asError(e2).reason }))
      } else {
        this.transition({ ...cmd, status: 'refused', code: err.code, msg: err.reason })
      }
    }
    return cmd
  }

  async refreshShadow(): Promise<void> {
    if (this.record.peek()?.kinds.includes('light')) this.setShadow(await get<Shadow>(`/devices/${this.id}/shadow`))
  }

  private controlTopic(): Topic {
    const kinds = this.record.peek()?.kinds ?? []
    const topic = this.topics[Math.max(0, kinds.indexOf('light'))]
    if (!topic) throw new ApiError('unreachable', 'the page is not connected yet', 0)
    return topic
  }

  private follow(channel: Channel): void {
    const presence = new Presence(channel)
    presence.onSync(() => {
      const people: Watcher[] = []
      let connection: Connection | undefined
      presence.list((key, { metas }) => {
        if (key.startsWith('user:')) people.push({ name: key.slice(5), role: metas[0]?.role as Role | undefined })
        else if (key === this.id) connection = metas[metas.length - 1]
      })
      this.watchers.value = people.sort((a, b) => (a.name < b.name ? -1 : 1))
      this.connection.value = connection
    })
  }
}

export type { Look }
