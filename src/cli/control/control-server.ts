// The control endpoint of a process that has a database open: answers the calls of other `coterie` processes by the
// same `DatabasePort` that its own verbs use.
//
// Bounded: so many connections, so many calls under way on each (then the connection is not read), and streams send
// only what they have credit for. A connection that has not proved the secret in time is closed.

import { randomBytes } from 'node:crypto'
import { CoterieError } from '../../base/errors.ts'
import type { Host, Timer, Timers } from '../../env/host.ts'
import { parseAddress } from '../../transport/address.ts'
import { tcpTransport } from '../../transport/tcp-transport.ts'
import type { Connection, Listener } from '../../transport/transport.ts'
import type { DatabasePort } from '../port.ts'
import { Channel, handshakeMessageBytesMax } from './channel.ts'
import { newSecret, removeControlFile, writeControlFile } from './control-file.ts'
import { answerCall, type CallContext } from './control-methods.ts'
import {
  type ControlHead,
  controlProtocol,
  controlVersion,
  handshakeMs,
  proofOf,
  sameProof,
  streamCredit,
  toWireError,
} from './protocol.ts'

const connectionsMax = 64
const callsMax = 32
/** How long `stop` waits for calls under way. */
const stopMs = 2000

export interface ControlServerOptions {
  readonly host: Host
  /** The directory of the database: control.json goes there. */
  readonly location: string
  readonly port: DatabasePort
}

export class ControlServer {
  readonly #options: ControlServerOptions
  readonly #secret = newSecret()
  readonly #sessions = new Set<ControlSession>()
  #listener: Listener | undefined

  private constructor(options: ControlServerOptions) {
    this.#options = options
  }

  static async start(options: ControlServerOptions): Promise<ControlServer> {
    const server = new ControlServer(options)
    await server.#listen()
    return server
  }

  async #listen(): Promise<void> {
    const { host, location } = this.#options
    const listener = await tcpTransport(host).listen({
      address: parseAddress('tcp://127.0.0.1:0'),
      frameBytesMax: handshakeMessageBytesMax,
      connectTimeoutMs: handshakeMs,
      halfOpenMax: connectionsMax,
      onConnection: (connection) => this.#accept(connection),
    })
    this.#listener = listener
    try {
      await writeControlFile(location, {
        version: controlVersion,
        pid: process.pid,
        address: listener.address,
        secret: this.#secret,
      })
    } catch (error) {
      await listener.close()
      throw error
    }
  }

  #accept(connection: Connection): void {
    if (this.#sessions.size >= connectionsMax) {
      connection.destroy()
      return
    }
    const session = new ControlSession(connection, this.#options, this.#secret, () =>
      this.#sessions.delete(session),
    )
    this.#sessions.add(session)
  }

  async stop(): Promise<void> {
    await removeControlFile(this.#options.location, this.#secret)
    await this.#listener?.close()
    const ended = [...this.#sessions].map((session) => session.stop())
    await Promise.all(ended)
  }
}

interface Call {
  readonly abort: AbortController
  credit: number
  wake: (() => void) | undefined
}

class ControlSession {
  readonly #channel: Channel
  readonly #port: DatabasePort
  readonly #secret: string
  readonly #calls = new Map<number, Call>()
  readonly #onClosed: () => void
  readonly #timers: Timers
  readonly #deadline: Timer
  readonly #underWay = new Set<Promise<void>>()
  #state: 'hello' | 'proof' | 'open' = 'hello'
  #expectedProof = ''

  constructor(connection: Connection, options: ControlServerOptions, secret: string, onClosed: () => void) {
    this.#port = options.port
    this.#secret = secret
    this.#onClosed = onClosed
    this.#timers = options.host.timers
    this.#channel = new Channel(connection, {
      message: (head, payload) => this.#received(head, payload),
      closed: () => this.#closed(),
    })
    this.#deadline = this.#timers.after(handshakeMs, () => this.#channel.destroy())
  }

  /** Ends the calls under way and waits for them, so that the database can be closed after it. */
  async stop(): Promise<void> {
    for (const call of this.#calls.values()) abort(call)
    // A commit that waits for acks cannot be cancelled; closing the database ends it.
    await Promise.race([Promise.all(this.#underWay), this.#after(stopMs)])
    await this.#channel.end()
  }

  #after(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#timers.after(ms, resolve)
    })
  }

  #closed(): void {
    this.#deadline.cancel()
    for (const call of this.#calls.values()) abort(call)
    this.#onClosed()
  }

  #received(head: ControlHead, payload: Uint8Array): void {
    switch (this.#state) {
      case 'hello':
        this.#hello(head)
        return
      case 'proof':
        this.#proof(head)
        return
      case 'open':
        this.#open(head, payload)
    }
  }

  #hello(head: ControlHead): void {
    const known = head.type === 'hello' && head.protocol === controlProtocol && typeof head.nonce === 'string'
    if (!known || head.version !== controlVersion) {
      this.#channel.destroy(
        new CoterieError('PROTOCOL_INCOMPATIBLE', 'not a control connection of this version'),
      )
      return
    }
    const nonce = randomBytes(16).toString('hex')
    this.#expectedProof = proofOf(this.#secret, 'client', head.nonce, nonce)
    this.#state = 'proof'
    const proof = proofOf(this.#secret, 'server', head.nonce, nonce)
    void this.#channel.send({ type: 'challenge', version: controlVersion, nonce, proof })
  }

  #proof(head: ControlHead): void {
    if (head.type !== 'proof' || !sameProof(head.proof, this.#expectedProof)) {
      this.#channel.destroy(new CoterieError('HANDSHAKE_FAILED', 'the secret is wrong'))
      return
    }
    this.#deadline.cancel()
    this.#state = 'open'
    this.#channel.trust()
  }

  #open(head: ControlHead, payload: Uint8Array): void {
    switch (head.type) {
      case 'call':
        this.#start(head, payload)
        return
      case 'more': {
        const call = this.#calls.get(head.id)
        if (call === undefined || !Number.isSafeInteger(head.credit)) return
        call.credit += head.credit
        call.wake?.()
        return
      }
      case 'cancel': {
        const call = this.#calls.get(head.id)
        if (call !== undefined) abort(call)
        return
      }
      default:
        this.#channel.destroy(
          new CoterieError('FRAME_INVALID', `a client does not send '${String(head.type)}'`),
        )
    }
  }

  #start(head: ControlHead & { type: 'call' }, payload: Uint8Array): void {
    if (!Number.isSafeInteger(head.id) || this.#calls.has(head.id)) {
      this.#channel.destroy(new CoterieError('FRAME_INVALID', 'a call has a bad id'))
      return
    }
    const call: Call = { abort: new AbortController(), credit: streamCredit, wake: undefined }
    this.#calls.set(head.id, call)
    if (this.#calls.size >= callsMax) this.#channel.pause()
    // The payload stays with the call: writes go to the database without a copy.
    const work = this.#answer(head, payload, call).finally(() => {
      this.#calls.delete(head.id)
      this.#underWay.delete(work)
      if (this.#calls.size < callsMax) this.#channel.resume()
    })
    this.#underWay.add(work)
  }

  async #answer(head: ControlHead & { type: 'call' }, payload: Uint8Array, call: Call): Promise<void> {
    const { id } = head
    const context: CallContext = {
      port: this.#port,
      signal: call.abort.signal,
      item: (bytes) => this.#item(id, call, bytes),
      progress: (done, total) => {
        void this.#channel.send({ type: 'progress', id, done, total })
      },
    }
    try {
      const { result, payload: answer } = await answerCall(head.method, head.params, payload, context)
      await this.#channel.send({ type: 'result', id, result }, answer)
    } catch (error) {
      await this.#channel.send({ type: 'failure', id, error: toWireError(error) })
    }
  }

  async #item(id: number, call: Call, bytes: Uint8Array): Promise<void> {
    while (call.credit <= 0 && !call.abort.signal.aborted) {
      await new Promise<void>((resolve) => {
        call.wake = resolve
      })
      call.wake = undefined
    }
    if (call.abort.signal.aborted) throw new CoterieError('ABORTED', 'the call was cancelled')
    call.credit--
    await this.#channel.send({ type: 'item', id }, bytes)
  }
}

function abort(call: Call): void {
  call.abort.abort()
  call.wake?.()
}
