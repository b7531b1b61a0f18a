// A database that another process has open, seen through its control endpoint.
//
// `connect` answers undefined where there is no endpoint, or one that does not answer or does not know the secret:
// then the caller opens the directory itself. A connection that breaks later ends the calls under way; a write among
// them has an unknown outcome, and says so.

import { randomBytes } from 'node:crypto'
import { utf8Decode } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { Host } from '../../env/host.ts'
import type { ElectResult, TwoSites } from '../../index.ts'
import { parseAddress } from '../../transport/address.ts'
import { tcpTransport } from '../../transport/tcp-transport.ts'
import { toBase64 } from '../encoding.ts'
import type {
  DatabasePort,
  LogLine,
  LogRequest,
  PortDigest,
  PortProgress,
  PortPromoted,
  PortReceipt,
  PortStat,
  PortStatus,
  PortTakenOver,
  PortTakeOverOptions,
  PortTransferred,
  PortVerified,
  PortWrite,
  ReadOptions,
  RowsRequest,
  TransferOptions,
  WriteOptions,
} from '../port.ts'
import type { DumpRow } from '../records/record.ts'
import { Channel, handshakeMessageBytesMax } from './channel.ts'
import { type ControlFile, readControlFile } from './control-file.ts'
import {
  type ControlHead,
  controlProtocol,
  controlVersion,
  fromWireError,
  handshakeMs,
  type Method,
  type Params,
  proofOf,
  sameProof,
} from './protocol.ts'
import { decodeRows, encodeRows } from './rows-codec.ts'

interface PendingCall {
  readonly method: Method
  readonly resolve: (answer: CallAnswer) => void
  readonly reject: (error: Error) => void
  readonly item: ((bytes: Uint8Array) => void) | undefined
  readonly progress: PortProgress | undefined
}

interface CallAnswer {
  readonly result: unknown
  readonly payload: Uint8Array
}

interface CallOptions {
  readonly payload?: Uint8Array
  readonly progress?: PortProgress
  readonly item?: (bytes: Uint8Array) => void
  readonly signal?: AbortSignal
}

export class ControlClient implements DatabasePort {
  readonly holderPid: number
  readonly #channel: Channel
  readonly #pending = new Map<number, PendingCall>()
  #nextId = 1
  #handshake:
    | { resolve: () => void; reject: (error: Error) => void; file: ControlFile; nonce: string }
    | undefined
  #gone: Error | undefined

  private constructor(
    file: ControlFile,
    open: (handlers: ConstructorParameters<typeof Channel>[1]) => Channel,
  ) {
    this.holderPid = file.pid
    this.#channel = open({
      message: (head, payload) => this.#received(head, payload),
      closed: (error) => this.#closed(error),
    })
  }

  /** Undefined if no running process offers its database at `location`. */
  static async connect(location: string, host: Host): Promise<ControlClient | undefined> {
    const file = await readControlFile(location)
    if (file === undefined) return undefined
    try {
      const connection = await tcpTransport(host).connect({
        address: parseAddress(file.address),
        connectTimeoutMs: handshakeMs,
        frameBytesMax: handshakeMessageBytesMax,
      })
      const client = new ControlClient(file, (handlers) => new Channel(connection, handlers))
      await client.#greet(file, host)
      return client
    } catch (error) {
      if (error instanceof CoterieError) return undefined
      throw error
    }
  }

  #greet(file: ControlFile, host: Host): Promise<void> {
    const nonce = randomBytes(16).toString('hex')
    const deadline = host.timers.after(handshakeMs, () =>
      this.#channel.destroy(new CoterieError('CONNECT_TIMEOUT', 'the control endpoint does not answer')),
    )
    const greeted = new Promise<void>((resolve, reject) => {
      this.#handshake = { resolve, reject, file, nonce }
    })
    void this.#channel.send({ type: 'hello', protocol: controlProtocol, version: controlVersion, nonce })
    return greeted.finally(() => deadline.cancel())
  }

  #received(head: ControlHead, payload: Uint8Array): void {
    if (this.#handshake !== undefined) {
      const { resolve, file, nonce } = this.#handshake
      const trusted =
        head.type === 'challenge' &&
        typeof head.nonce === 'string' &&
        sameProof(head.proof, proofOf(file.secret, 'server', nonce, head.nonce))
      if (!trusted) {
        this.#channel.destroy(new CoterieError('HANDSHAKE_FAILED', 'the endpoint does not know the secret'))
        return
      }
      this.#handshake = undefined
      this.#channel.trust()
      void this.#channel.send({ type: 'proof', proof: proofOf(file.secret, 'client', nonce, head.nonce) })
      resolve()
      return
    }
    this.#answered(head, payload)
  }

  #answered(head: ControlHead, payload: Uint8Array): void {
    if (!('id' in head)) return
    const call = this.#pending.get(head.id)
    if (call === undefined) return
    switch (head.type) {
      case 'item':
        call.item?.(payload)
        return
      case 'progress':
        call.progress?.(head.done, head.total)
        return
      case 'result':
        this.#pending.delete(head.id)
        call.resolve({ result: head.result, payload })
        return
      case 'failure':
        this.#pending.delete(head.id)
        call.reject(fromWireError(head.error))
        return
      default:
        this.#channel.destroy(new CoterieError('FRAME_INVALID', `the endpoint sent '${head.type}'`))
    }
  }

  #closed(error: Error | undefined): void {
    const gone = error ?? new CoterieError('CONNECTION_CLOSED', `process ${this.holderPid} has ended`)
    this.#gone = gone
    this.#handshake?.reject(gone instanceof CoterieError ? gone : closedBy(gone))
    this.#handshake = undefined
    for (const call of this.#pending.values()) call.reject(lost(call.method, gone))
    this.#pending.clear()
  }

  async #call(method: Method, params: Params, options: CallOptions = {}): Promise<CallAnswer> {
    if (this.#gone !== undefined) throw closedBy(this.#gone)
    const id = this.#nextId++
    const answered = new Promise<CallAnswer>((resolve, reject) => {
      this.#pending.set(id, { method, resolve, reject, item: options.item, progress: options.progress })
    })
    const cancel = (): void => {
      void this.#channel.send({ type: 'cancel', id })
    }
    options.signal?.addEventListener('abort', cancel, { once: true })
    try {
      const sent = this.#channel.send({ type: 'call', id, method, params }, options.payload)
      const [answer] = await Promise.all([answered, sent])
      return answer
    } finally {
      options.signal?.removeEventListener('abort', cancel)
    }
  }

  /** The items of a stream; credit is given back as they are taken. */
  async *#stream(
    method: Method,
    params: Params,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const items: Uint8Array[] = []
    let wake: (() => void) | undefined
    let end: { readonly error?: unknown } | undefined
    const finish = (how: { readonly error?: unknown }): void => {
      end = how
      wake?.()
    }
    const ending = new AbortController()
    const id = this.#nextId
    const work = this.#call(method, params, {
      signal: AbortSignal.any([signal, ending.signal]),
      item: (bytes) => {
        items.push(bytes)
        wake?.()
      },
    }).then(
      () => finish({}),
      (error: unknown) => finish({ error }),
    )
    try {
      for (;;) {
        const item = items.shift()
        if (item !== undefined) {
          yield item
          void this.#channel.send({ type: 'more', id, credit: 1 })
          continue
        }
        if (end !== undefined) break
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        wake = undefined
      }
      if (end.error !== undefined && !signal.aborted) throw end.error
    } finally {
      ending.abort()
      await work
    }
  }

  async get(key: Uint8Array, options: ReadOptions): Promise<Uint8Array | undefined> {
    const { result, payload } = await this.#call('get', { ...options }, { payload: key })
    return (result as { found: boolean }).found ? payload : undefined
  }

  async write(writes: readonly PortWrite[], options: WriteOptions): Promise<PortReceipt> {
    const { result } = await this.#call('write', { ...options }, { payload: encodeRows(writes) })
    return result as PortReceipt
  }

  async *rows(request: RowsRequest, signal: AbortSignal): AsyncGenerator<DumpRow[], void, undefined> {
    const bound = (bytes: Uint8Array | undefined): string | undefined =>
      bytes === undefined ? undefined : toBase64(bytes)
    const params = {
      ...request,
      stores: request.stores.map((name) => name ?? null),
      gt: bound(request.gt),
      gte: bound(request.gte),
      lt: bound(request.lt),
      lte: bound(request.lte),
    }
    for await (const item of this.#stream('rows', params, signal)) {
      yield decodeRows(item).map(({ store, key, value }) => ({
        store,
        key,
        value: value ?? new Uint8Array(0),
      }))
    }
  }

  async storeNames(): Promise<readonly string[]> {
    return (await this.#call('storeNames', {})).result as readonly string[]
  }

  async *records(request: LogRequest, signal: AbortSignal): AsyncGenerator<LogLine[], void, undefined> {
    for await (const item of this.#stream('records', { ...request }, signal)) {
      yield JSON.parse(utf8Decode(item)) as LogLine[]
    }
  }

  async status(): Promise<PortStatus> {
    return (await this.#call('status', {})).result as PortStatus
  }

  async stat(): Promise<PortStat> {
    return (await this.#call('stat', {})).result as PortStat
  }

  async verify(progress: PortProgress): Promise<PortVerified> {
    return (await this.#call('verify', {}, { progress })).result as PortVerified
  }

  async digest(progress: PortProgress): Promise<PortDigest> {
    return (await this.#call('digest', {}, { progress })).result as PortDigest
  }

  async checkpoint(): Promise<Record<string, unknown>> {
    return (await this.#call('checkpoint', {})).result as Record<string, unknown>
  }

  async archive(): Promise<Record<string, unknown>> {
    return (await this.#call('archive', {})).result as Record<string, unknown>
  }

  async backup(file: string, progress: PortProgress): Promise<Record<string, unknown>> {
    return (await this.#call('backup', { file }, { progress })).result as Record<string, unknown>
  }

  async promote(): Promise<PortPromoted> {
    return (await this.#call('promote', {})).result as PortPromoted
  }

  async takeOver(options: PortTakeOverOptions): Promise<PortTakenOver> {
    return (await this.#call('takeOver', { ...options })).result as PortTakenOver
  }

  async transfer(site: string, options: TransferOptions): Promise<PortTransferred> {
    return (await this.#call('transfer', { site, ...options })).result as PortTransferred
  }

  async removeMember(site: string): Promise<void> {
    await this.#call('removeMember', { site })
  }

  async setTwoSites(twoSites: TwoSites): Promise<void> {
    await this.#call('setTwoSites', { twoSites })
  }

  async elect(): Promise<ElectResult> {
    return (await this.#call('elect', {})).result as ElectResult
  }

  async outcome(token: string): Promise<string> {
    return (await this.#call('outcome', { token })).result as string
  }

  close(): Promise<void> {
    return this.#channel.end()
  }
}

function closedBy(cause: Error): CoterieError {
  return new CoterieError('CONNECTION_CLOSED', 'the process that has the database open is gone', { cause })
}

/** A write whose answer never came may have been committed. */
function lost(method: Method, cause: Error): CoterieError {
  if (method !== 'write') return closedBy(cause)
  return new CoterieError(
    'OUTCOME_UNKNOWN',
    'the process that has the database open ended before it answered',
    {
      cause,
    },
  )
}
