// Hellos that were let in and whose senders have not yet shown, by data, that they have the answer. Bounded in number
// (the oldest goes first) and in time; each costs a few hundred bytes.

import { CoterieError } from '../../base/errors.ts'
import type { DatagramPeer } from '../../env/datagrams.ts'
import type { Timer, Timers } from '../../env/host.ts'
import type { Session } from './handshake.ts'

export interface HalfOpenSession {
  readonly session: Session
  readonly from: DatagramPeer
  /** The sender and its hello: the same hello is answered with the same answer. */
  readonly helloKey: string
  readonly answer: Uint8Array
}

export class HalfOpen {
  readonly #timers: Timers
  readonly #max: number
  readonly #timeoutMs: number
  readonly #onDropped: (error: CoterieError) => void
  readonly #byId: Map<number, HalfOpenSession & { readonly timer: Timer }> = new Map()
  readonly #byHello: Map<string, number> = new Map()

  constructor(options: {
    readonly timers: Timers
    readonly max: number
    readonly timeoutMs: number
    readonly onDropped: (error: CoterieError) => void
  }) {
    this.#timers = options.timers
    this.#max = options.max
    this.#timeoutMs = options.timeoutMs
    this.#onDropped = options.onDropped
  }

  get size(): number {
    return this.#byId.size
  }

  find(id: number): HalfOpenSession | undefined {
    return this.#byId.get(id)
  }

  findHello(helloKey: string): HalfOpenSession | undefined {
    const id = this.#byHello.get(helloKey)
    return id === undefined ? undefined : this.#byId.get(id)
  }

  add(half: HalfOpenSession): void {
    const id = half.session.ownId
    const timer = this.#timers.after(this.#timeoutMs, () =>
      this.#drop(id, 'CONNECT_TIMEOUT', `did not go on within ${this.#timeoutMs} ms`),
    )
    this.#byId.set(id, { ...half, timer })
    this.#byHello.set(half.helloKey, id)
    const [oldest] = this.#byId.keys()
    if (this.#byId.size > this.#max && oldest !== undefined) {
      this.#drop(oldest, 'CONNECTION_CLOSED', 'was dropped: too many others had not gone on either')
    }
  }

  remove(id: number): void {
    const half = this.#byId.get(id)
    if (half === undefined) return
    half.timer.cancel()
    this.#byId.delete(id)
    this.#byHello.delete(half.helloKey)
  }

  clear(): void {
    for (const id of [...this.#byId.keys()]) this.remove(id)
  }

  #drop(id: number, code: 'CONNECT_TIMEOUT' | 'CONNECTION_CLOSED', why: string): void {
    const half = this.#byId.get(id)
    if (half === undefined) return
    this.remove(id)
    const remote = `udp://${half.from.host}:${half.from.port}`
    this.#onDropped(new CoterieError(code, `${remote} ${why}`, { details: { remote } }))
  }
}
