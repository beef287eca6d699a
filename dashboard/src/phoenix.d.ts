// The part of the official client that the dashboard uses. The published types
// are older than the client's authToken.
declare module 'phoenix' {
  export interface SocketOptions {
    authToken?: string | (() => string)
    heartbeatIntervalMs?: number
    timeout?: number
    reconnectAfterMs?: (tries: number) => number
    rejoinAfterMs?: (tries: number) => number
    longPollFallbackMs?: number
  }
  export class Push {
    receive(status: 'ok' | 'error' | 'timeout', callback: (response: never) => void): Push
  }
  export class Channel {
    readonly topic: string
    join(timeout?: number): Push
    leave(timeout?: number): Push
    push(event: string, payload: object, timeout?: number): Push
    on(event: string, callback: (payload: never) => void): number
    onError(callback: (reason?: unknown) => void): void
    onClose(callback: () => void): void
  }
  export class Socket {
    constructor(endPoint: string, options?: SocketOptions)
    connect(): void
    disconnect(callback?: () => void, code?: number, reason?: string): void
    isConnected(): boolean
    channel(topic: string, params?: object): Channel
    ping(callback: (rtt: number) => void): boolean
    onOpen(callback: () => void): string
    onClose(callback: (event: unknown) => void): string
    onMessage(callback: (message: unknown) => void): string
  }
  export class Presence {
    constructor(channel: Channel)
    onSync(callback: () => void): void
    list<T>(by: (key: string, presence: { metas: Record<string, unknown>[] }) => T): T[]
  }
}
