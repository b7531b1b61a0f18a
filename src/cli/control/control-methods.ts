// The calls of the control endpoint, each turned into one call of the port. Parameters come from a process that has
// proved the secret, but perhaps of another version: what has the wrong type is refused by name.

import { utf8Encode } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { TwoSites } from '../../index.ts'
import { fromBase64 } from '../encoding.ts'
import type { DatabasePort, LogRequest, PortProgress, RowsRequest, WriteOptions } from '../port.ts'
import { type Method, methods, type Params } from './protocol.ts'
import { decodeRows, encodeRows } from './rows-codec.ts'

export interface CallContext {
  readonly port: DatabasePort
  readonly signal: AbortSignal
  /** One item of a stream; resolves when the next may be sent. */
  readonly item: (bytes: Uint8Array) => Promise<void>
  readonly progress: PortProgress
}

export interface Answer {
  readonly result: unknown
  readonly payload?: Uint8Array
}

type Handler = (context: CallContext, params: Params, payload: Uint8Array) => Promise<Answer>

const handlers: Record<Method, Handler> = {
  async get({ port }, params, payload) {
    const value = await port.get(payload, { store: text(params, 'store') })
    return value === undefined ? { result: { found: false } } : { result: { found: true }, payload: value }
  },
  async write({ port }, params, payload) {
    const options: WriteOptions = {
      acks: textOrNumber(params, 'acks'),
      durability: text(params, 'durability'),
      ackTimeoutMs: number(params, 'ackTimeoutMs'),
    }
    return { result: await port.write(decodeRows(payload), options) }
  },
  async rows({ port, signal, item }, params) {
    for await (const batch of port.rows(rowsRequest(params), signal)) await item(encodeRows(batch))
    return { result: {} }
  },
  async storeNames({ port }) {
    return { result: await port.storeNames() }
  },
  async records({ port, signal, item }, params) {
    const request: LogRequest = {
      from: number(params, 'from'),
      to: number(params, 'to'),
      limit: number(params, 'limit'),
      follow: params.follow === true,
    }
    for await (const lines of port.records(request, signal)) await item(utf8Encode(JSON.stringify(lines)))
    return { result: {} }
  },
  async status({ port }) {
    return { result: await port.status() }
  },
  async stat({ port }) {
    return { result: await port.stat() }
  },
  async verify({ port, progress }) {
    return { result: await port.verify(progress) }
  },
  async digest({ port, progress }) {
    return { result: await port.digest(progress) }
  },
  async checkpoint({ port }) {
    return { result: await port.checkpoint() }
  },
  async archive({ port }) {
    return { result: await port.archive() }
  },
  async backup({ port, progress }, params) {
    return { result: await port.backup(required(params, 'file'), progress) }
  },
  async promote({ port }) {
    return { result: await port.promote() }
  },
  async takeOver({ port }, params) {
    const options = {
      listen: texts(params, 'listen'),
      advertise: text(params, 'advertise'),
      timeoutMs: number(params, 'timeoutMs'),
    }
    return { result: await port.takeOver(options) }
  },
  async transfer({ port }, params) {
    return {
      result: await port.transfer(required(params, 'site'), { timeoutMs: number(params, 'timeoutMs') }),
    }
  },
  async removeMember({ port }, params) {
    await port.removeMember(required(params, 'site'))
    return { result: {} }
  },
  async setTwoSites({ port }, { twoSites }) {
    // What it may be, the group says.
    await port.setTwoSites(twoSites as TwoSites)
    return { result: {} }
  },
  async elect({ port }) {
    return { result: await port.elect() }
  },
  async outcome({ port }, params) {
    return { result: await port.outcome(required(params, 'token')) }
  },
}

export async function answerCall(
  method: string,
  params: Params,
  payload: Uint8Array,
  context: CallContext,
): Promise<Answer> {
  const name = methods.find((candidate) => candidate === method)
  if (name === undefined) throw new CoterieError('PROTOCOL_INCOMPATIBLE', `no such call: ${String(method)}`)
  if (typeof params !== 'object' || params === null) throw wrong('params')
  return await handlers[name](context, params, payload)
}

function rowsRequest(params: Params): RowsRequest {
  const stores = params.stores
  if (!Array.isArray(stores) || !stores.every((name) => name === null || typeof name === 'string')) {
    throw wrong('stores')
  }
  return {
    stores: (stores as (string | null)[]).map((name) => name ?? undefined),
    gt: bytes(params, 'gt'),
    gte: bytes(params, 'gte'),
    lt: bytes(params, 'lt'),
    lte: bytes(params, 'lte'),
    reverse: params.reverse === true,
    limit: number(params, 'limit'),
    values: params.values === true,
  }
}

function text(params: Params, name: string): string | undefined {
  const value = params[name]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw wrong(name)
  return value
}

function texts(params: Params, name: string): string[] | undefined {
  const value = params[name]
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) throw wrong(name)
  return value
}

function required(params: Params, name: string): string {
  const value = text(params, name)
  if (value === undefined) throw wrong(name)
  return value
}

function number(params: Params, name: string): number | undefined {
  const value = params[name]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'number') throw wrong(name)
  return value
}

function textOrNumber(params: Params, name: string): string | number | undefined {
  return typeof params[name] === 'number' ? number(params, name) : text(params, name)
}

function bytes(params: Params, name: string): Uint8Array | undefined {
  const value = text(params, name)
  if (value === undefined) return undefined
  const decoded = fromBase64(value)
  if (decoded === undefined) throw wrong(name)
  return decoded
}

function wrong(name: string): CoterieError {
  return new CoterieError('OPTION_INVALID', `the parameter '${name}' of a control call is missing or wrong`)
}
