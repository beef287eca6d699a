// What a dragged slider sends: at once, then at most every so often, and the
// last value always.

export interface Throttle<T> { push(v: T): void; commit(v: T): void; cancel(): void }

export function throttle<T>(ms: number, send: (v: T) => void): Throttle<T> {
  let next: { v: T } | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  const tick = () => {
    timer = undefined
    if (!next) return
    const { v } = next
    next = undefined
    timer = setTimeout(tick, ms)
    send(v)
  }
  return {
    push(v) {
      next = { v }
      if (!timer) tick()
    },
    commit(v) {
      clearTimeout(timer)
      timer = undefined
      next = { v }
      tick()
    },
    cancel() {
      clearTimeout(timer)
      timer = next = undefined
    },
  }
}
