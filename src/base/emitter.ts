// Typed events: each name has one type of argument. Listeners are called in the order in which they were added and
// must not throw; one that does ends nothing but itself: its error is thrown on its own, as an uncaught exception.

/** Maps event names to what their listeners are given. */
export type EventMap = Record<string, unknown>

export type Listener<T> = (event: T) => void

export class Emitter<Events extends EventMap> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>()
  readonly #all = new Set<(name: keyof Events, event: unknown) => void>()

  /** Adds a listener; returns a function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    checkListener(name, listener)
    let listeners = this.#listeners.get(name)
    if (listeners === undefined) {
      listeners = new Set()
      this.#listeners.set(name, listeners)
    }
    listeners.add(listener)
    return () => this.off(name, listener)
  }

  /** As `on`, for the next event only. */
  once<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    checkListener(name, listener)
    const off = this.on(name, (event) => {
      off()
      listener(event)
    })
    return off
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    this.#listeners.get(name)?.delete(listener)
  }

  /** Hears everything. Returns a function that ends it. */
  onAny(listener: (name: keyof Events, event: unknown) => void): () => void {
    this.#all.add(listener)
    return () => {
      this.#all.delete(listener)
    }
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      contained(() => (listener as Listener<Events[Name]>)(event))
    }
    for (const listener of this.#all) contained(() => listener(name, event))
  }
}

/** Found here, and not at the first event. */
function checkListener(name: PropertyKey, listener: unknown): void {
  if (typeof listener !== 'function') {
    throw new TypeError(`the listener of '${String(name)}' must be a function`)
  }
}

function contained(call: () => void): void {
  try {
    call()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

/** A queue between a producer of events and a consumer that awaits them; bounded, and it says what it dropped. */
export class EventQueue<T> implements AsyncIterableIterator<T> {
  readonly #bound: number
  #items: T[] = []
  #waiting: ((result: IteratorResult<T, undefined>) => void)[] = []
  #ended = false
  readonly #onEnd: () => void
  /** Events that were dropped, oldest first, because nobody took them. */
  dropped = 0

  constructor(options: { bound: number; onEnd: () => void }) {
    this.#bound = options.bound
    this.#onEnd = options.onEnd
  }

  push(item: T): void {
    if (this.#ended) return
    const waiter = this.#waiting.shift()
    if (waiter !== undefined) {
      waiter({ value: item, done: false })
      return
    }
    this.#items.push(item)
    if (this.#items.length > this.#bound) {
      this.#items.shift()
      this.dropped++
    }
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#onEnd()
    for (const waiter of this.#waiting) waiter({ value: undefined, done: true })
    this.#waiting = []
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const item = this.#items.shift()
    if (item !== undefined) return Promise.resolve({ value: item, done: false })
    if (this.#ended) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#items = []
    this.end()
    return Promise.resolve({ value: undefined, done: true })
  }
}
