// A transport of a program's own: registered once for the process, and used by every database under its scheme. This one
// carries messages over message ports, of which Coterie knows nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import {
  type Address,
  type Connection,
  type ConnectionHandlers,
  CoterieError,
  type ListenOptions,
  registerTransport,
  type Transport,
} from '../../src/index.ts'
import { transportConformance } from '../../src/testing/index.ts'
import { atEnd } from '../support/at-end.ts'
import { addressOf, digestOf, failsWith, openMemory, putMany, replicaOf } from '../support/sites.ts'

type Posted =
  | { readonly kind: 'message'; readonly control: Uint8Array; readonly payload: Uint8Array }
  | { readonly kind: 'taken'; readonly bytes: number }
  | { readonly kind: 'end' | 'gone' }

const highWaterBytes = 100_000

class PortConnection implements Connection {
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion = 1
  bytesIn = 0
  bytesOut = 0
  bufferedBytes = 0
  lastHeardMs = performance.now()
  readonly #port: MessagePort
  #bound: number
  #handlers: ConnectionHandlers | undefined
  #inbox: Posted[] = []
  #paused = false
  #busy = false
  #state: 'open' | 'ending' | 'closed' = 'open'
  #error: CoterieError | undefined
  #ended: (() => void)[] = []
  #drainOwed = false
  #isReported = false

  constructor(port: MessagePort, names: { remote: string; local?: string; bound: number }) {
    this.#port = port
    this.remote = names.remote
    this.local = names.local
    this.#bound = names.bound
    port.on('message', (posted: Posted) => {
      this.#inbox.push(posted)
      this.#work()
    })
    port.on('close', () => {
      const lost = new CoterieError('CONNECTION_CLOSED', 'the other side is gone')
      if (this.#state !== 'closed') this.#close(this.#state === 'ending' ? undefined : lost)
    })
  }

  get handlers(): ConnectionHandlers {
    return this.#handlers as ConnectionHandlers
  }

  set handlers(handlers: ConnectionHandlers) {
    this.#handlers = handlers
    setImmediate(() => (this.#state === 'closed' ? this.#report() : this.#work()))
  }

  send(control: Uint8Array, payload: Uint8Array = new Uint8Array(0)): boolean {
    if (this.#state !== 'open') return false
    const bytes = control.length + payload.length
    this.bytesOut += bytes
    this.bufferedBytes += bytes
    // A view would be posted with all that is behind it.
    this.#post({ kind: 'message', control: control.slice(), payload: payload.slice() })
    this.#drainOwed = this.bufferedBytes > highWaterBytes
    return !this.#drainOwed
  }

  acceptFramesUpTo(bytes: number): void {
    this.#bound = bytes
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    setImmediate(() => this.#work())
  }

  end(): Promise<void> {
    if (this.#state === 'closed') return Promise.resolve()
    if (this.#state === 'open') {
      this.#state = 'ending'
      this.#post({ kind: 'end' })
      setImmediate(() => this.#work())
    }
    return new Promise((resolve) => this.#ended.push(resolve))
  }

  destroy(error?: Error): void {
    if (this.#state === 'closed') return
    this.#post({ kind: 'gone' })
    const known = error === undefined || error instanceof CoterieError
    this.#close(known ? error : new CoterieError('CONNECTION_CLOSED', error.message, { cause: error }))
  }

  #post(posted: Posted): void {
    this.#port.postMessage(posted)
  }

  #work(): void {
    if (this.#busy) return
    this.#busy = true
    for (let i = 0; i < this.#inbox.length && this.#state !== 'closed'; ) {
      const posted = this.#inbox[i] as Posted
      const mustWait = this.#state === 'open' && (this.#paused || this.#handlers === undefined)
      if (mustWait && posted.kind !== 'taken') i++
      else {
        this.#inbox.splice(i, 1)
        this.#take(posted)
        i = 0
      }
    }
    this.#busy = false
  }

  #take(posted: Posted): void {
    this.lastHeardMs = performance.now()
    if (posted.kind === 'end') {
      if (this.#state === 'open') this.#post({ kind: 'end' })
      this.#close(undefined)
    } else if (posted.kind === 'gone') {
      this.#close(new CoterieError('CONNECTION_CLOSED', 'the other side destroyed it'))
    } else if (posted.kind === 'taken') {
      this.bufferedBytes -= posted.bytes
      if (this.#drainOwed && this.bufferedBytes === 0) {
        this.#drainOwed = false
        this.#handlers?.drain()
      }
    } else if (posted.kind === 'message') this.#takeMessage(posted.control, posted.payload)
  }

  #takeMessage(control: Uint8Array, payload: Uint8Array): void {
    const bytes = control.length + payload.length
    this.bytesIn += bytes
    this.#post({ kind: 'taken', bytes })
    if (this.#state !== 'open') return
    if (bytes > this.#bound) this.destroy(new CoterieError('FRAME_INVALID', `${bytes} bytes are too many`))
    else this.#handlers?.message(control, payload)
  }

  #report(): void {
    if (this.#handlers === undefined || this.#isReported) return
    this.#isReported = true
    this.#handlers.closed(this.#error)
  }

  #close(error: CoterieError | undefined): void {
    this.#state = 'closed'
    this.#error = error
    setImmediate(() => {
      this.#port.close()
      this.#report()
      for (const resolve of this.#ended) resolve()
    })
  }
}

const listeners = new Map<string, ListenOptions>()

const portTransport: Transport = {
  scheme: 'port',
  takes: [],
  async listen(options) {
    const { text } = options.address
    if (listeners.has(text)) throw new CoterieError('ADDRESS_IN_USE', `somebody listens on ${text}`)
    listeners.set(text, options)
    return {
      address: text,
      close: async () => {
        if (listeners.get(text) === options) listeners.delete(text)
      },
    }
  },
  async connect({ address, signal, frameBytesMax = 262_144 }) {
    await new Promise((resolve) => setImmediate(resolve))
    if (signal?.aborted === true) throw new CoterieError('ABORTED', 'aborted', { cause: signal.reason })
    return connectTo(address, frameBytesMax)
  },
}

function connectTo(address: Address, bound: number): Connection {
  const listening = listeners.get(address.text)
  if (listening === undefined) throw new CoterieError('CONNECT_FAILED', `nobody is at ${address.text}`)
  const { port1, port2 } = new MessageChannel()
  const near = new PortConnection(port1, { remote: address.text, bound })
  const names = { remote: `${address.text}#`, local: address.text }
  listening.onConnection(new PortConnection(port2, { ...names, bound: listening.frameBytesMax ?? 262_144 }))
  return near
}

let names = 0
transportConformance({
  name: "a program's own",
  transport: portTransport,
  freshAddress: () => `port://suite-${++names}`,
  deadAddress: async () => 'port://nobody',
})

test('[A23b] databases serve and attach over a transport that the program has registered', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 50)
  await failsWith('ADDRESS_INVALID', source.serve({ listen: 'port://a' }))
  registerTransport('port', portTransport)
  const master = await source.serve({ listen: 'port://a', sites: 2 })
  atEnd(t, () => master.stop())
  const { db } = await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
})

test('[A23b] a scheme that exists, that is none, or that is not the transport’s is refused', () => {
  for (const scheme of ['tcp', 'tls', 'pipe', 'memory', 'udp', 'port', 'No Scheme', '', 'other']) {
    assert.throws(() => registerTransport(scheme, portTransport), TypeError, scheme)
  }
})
