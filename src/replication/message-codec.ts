// Messages to bytes and back: little-endian, hand-written, strict.
//
//   envelope: u8 type, u8 version, u16 flags, u32 session, u32 term; then the fields of the type.
//
// A decoder that meets anything it did not expect - a short field, a byte too many, an unknown flag, an LSN beyond the
// safe integers, positions that contradict each other - answers with a reason. It never throws and never allocates
// more than a small multiple of what it was given.

import { assert } from '../base/assert.ts'
import { type ErrorCode, errorCatalogue } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Attest } from '../base/policy.ts'
import type { SnapshotResume } from './core-options.ts'
import type { Envelope } from './envelope.ts'
import {
  groupFlags,
  groupMessageFlags,
  groupTypeNumbers,
  readGroupMessage,
  writeGroupMessage,
} from './group-codec.ts'
import { messageLimits } from './message-limits.ts'
import { MessageReader } from './message-reader.ts'
import { MessageWriter } from './message-writer.ts'
import type { Accept, Heartbeat, Join, Message, MessageType, Route, SyncPlan } from './messages.ts'

export const protocolVersion = 1

const typeNumbers: Readonly<Record<MessageType, number>> = {
  join: 1,
  accept: 2,
  refuse: 3,
  append: 4,
  ack: 5,
  heartbeat: 6,
  gapRequest: 7,
  snapshotBegin: 8,
  snapshotRows: 9,
  snapshotAck: 10,
  snapshotEnd: 11,
  detach: 12,
  higherTerm: 13,
  ...groupTypeNumbers,
}
const plans: readonly SyncPlan[] = ['equal', 'stream', 'rewind', 'snapshot']
const attests: readonly Attest[] = ['received', 'durable', 'applied']

const joinFlag = {
  replace: 1,
  snapshot: 2,
  forceSync: 4,
  view: 8,
  database: 16,
  resume: 32,
  mixed: 64,
  member: 128,
  lease: 256,
} as const
const ackNowFlag = 1
const acceptRouteFlag = 1
const heartbeatRouteFlag = 2
const busyFlag = 1
const fromMasterFlag = 1
const resumedFlag = 1
const reignFlag = 2

export type DecodeResult =
  | { readonly ok: true; readonly message: Message }
  | { readonly ok: false; readonly code: 'FRAME_INVALID' | 'PROTOCOL_INCOMPATIBLE'; readonly reason: string }

const writer = new MessageWriter()

function begin(out: MessageWriter, message: Message, flags: number): void {
  out.begin(message, { type: typeNumbers[message.type], version: protocolVersion, flags })
}

export function encodeMessage(message: Message): Uint8Array {
  const out = writer
  switch (message.type) {
    case 'join':
      writeJoin(out, message)
      break
    case 'accept':
      writeAccept(out, message)
      break
    case 'refuse':
      begin(out, message, 0)
      out.text(message.code, messageLimits.codeBytesMax)
      out.text(message.message, messageLimits.messageBytesMax)
      out.text(message.master, messageLimits.addressBytesMax)
      break
    case 'append':
      begin(out, message, message.ackNow ? ackNowFlag : 0)
      out.place(message.previous)
      out.u64(message.lastLsn)
      out.u64(message.committedLsn)
      out.u64(message.permanentLsn)
      break
    case 'ack':
      begin(out, message, message.busy ? busyFlag : 0)
      out.u64(message.receivedLsn)
      out.u64(message.durableLsn)
      out.u64(message.appliedLsn)
      out.u32(message.stamp)
      break
    case 'heartbeat':
      writeHeartbeat(out, message)
      break
    case 'gapRequest':
      begin(out, message, 0)
      out.u64(message.from)
      out.u64(message.to)
      break
    case 'snapshotBegin':
      begin(out, message, (message.resumed ? resumedFlag : 0) | (message.snapshotReign ? reignFlag : 0))
      out.place(message.base)
      out.u64(message.snapshotLsn)
      out.u64(message.rowsEstimate)
      if (message.snapshotReign !== undefined) out.entry(message.snapshotReign)
      out.history(message.history)
      break
    case 'snapshotRows':
      begin(out, message, 0)
      out.u32(message.index)
      out.u32(message.count)
      out.u32(message.crc)
      break
    case 'snapshotAck':
      begin(out, message, 0)
      out.u32(message.storedIndex)
      out.u32(message.receivedIndex)
      break
    case 'snapshotEnd':
      begin(out, message, 0)
      out.u32(message.chunks)
      out.u64(message.rows)
      break
    case 'detach':
      begin(out, message, message.fromMaster ? fromMasterFlag : 0)
      out.text(message.code, messageLimits.codeBytesMax)
      out.text(message.message, messageLimits.messageBytesMax)
      out.text(message.master, messageLimits.addressBytesMax)
      break
    case 'higherTerm':
      begin(out, message, 0)
      out.text(message.databaseId, limits.siteIdBytesMax)
      out.text(message.site, limits.siteIdBytesMax)
      break
    default:
      begin(out, message, groupMessageFlags(message))
      writeGroupMessage(out, message)
  }
  return out.finish()
}

function writeJoin(out: MessageWriter, message: Join): void {
  const { databaseId, resume, mixed } = message
  let flags = 0
  if (message.replace) flags |= joinFlag.replace
  if (message.snapshot) flags |= joinFlag.snapshot
  if (message.forceSync) flags |= joinFlag.forceSync
  if (message.view) flags |= joinFlag.view
  if (databaseId !== undefined) flags |= joinFlag.database
  if (resume !== undefined) flags |= joinFlag.resume
  if (mixed !== undefined) flags |= joinFlag.mixed
  if (message.member) flags |= joinFlag.member
  if (message.leaseMs > 0) flags |= joinFlag.lease
  begin(out, message, flags)
  out.text(message.site, limits.siteIdBytesMax)
  out.text(message.incarnation, limits.siteIdBytesMax)
  out.text(message.address, messageLimits.addressBytesMax)
  if (databaseId !== undefined) out.text(databaseId, limits.siteIdBytesMax)
  out.u64(message.firstLsn)
  out.place(message.last)
  out.u64(message.durableLsn)
  out.u64(message.permanentLsn)
  out.history(message.history)
  if (mixed !== undefined) {
    out.u64(mixed.lsn)
    out.entry(mixed.reign)
  }
  if (resume !== undefined) writeResume(out, resume)
  if (message.leaseMs > 0) out.u32(message.leaseMs)
}

function writeResume(out: MessageWriter, resume: SnapshotResume): void {
  assert(resume.afterKey.length <= messageLimits.storeKeyBytesMax, 'a key of the store fits into a message')
  out.text(resume.databaseId, limits.siteIdBytesMax)
  out.place(resume.base)
  out.entry(resume.reign)
  out.u64(resume.newest.lsn)
  out.entry(resume.newest.reign)
  out.bytes(resume.afterKey)
}

function writeAccept(out: MessageWriter, message: Accept): void {
  begin(out, message, message.route === undefined ? 0 : acceptRouteFlag)
  out.text(message.databaseId, limits.siteIdBytesMax)
  out.text(message.site, limits.siteIdBytesMax)
  out.u8(plans.indexOf(message.plan))
  out.u64(message.agreedLsn)
  out.place(message.last)
  out.u64(message.committedLsn)
  out.u64(message.permanentLsn)
  out.u8(attests.indexOf(message.attest))
  out.u32(message.window)
  out.u32(message.heartbeatMs)
  out.u32(message.silenceTimeoutMs)
  out.u32(message.sites)
  out.history(message.history)
  if (message.route !== undefined) writeRoute(out, message.route)
}

function writeRoute(out: MessageWriter, { site, address, sites, via }: Route): void {
  assert(via.length > 0 && via.length <= messageLimits.routeSitesMax, 'a route is bounded')
  out.text(site, limits.siteIdBytesMax)
  out.text(address, messageLimits.addressBytesMax)
  out.u32(sites)
  out.u8(via.length)
  for (const each of via) out.text(each, limits.siteIdBytesMax)
}

function writeHeartbeat(out: MessageWriter, message: Heartbeat): void {
  const { route } = message
  begin(out, message, (message.ackNow ? ackNowFlag : 0) | (route === undefined ? 0 : heartbeatRouteFlag))
  out.place(message.last)
  out.u64(message.sentLsn)
  out.u64(message.committedLsn)
  out.u64(message.permanentLsn)
  out.u32(message.stamp)
  out.u8(attests.indexOf(message.attest))
  out.u32(message.window)
  if (route !== undefined) writeRoute(out, route)
}

const typesByNumber: ReadonlyMap<number, MessageType> = new Map(
  Object.entries(typeNumbers).map(([type, number]) => [number, type as MessageType]),
)

/** What a message says it is; nothing else of it is looked at. */
export function messageTypeOf(control: Uint8Array): MessageType | undefined {
  const [type = 0] = control
  return typesByNumber.get(type)
}

/** Any bytes; the answer is a value. */
export function decodeMessage(control: Uint8Array): DecodeResult {
  const input = new MessageReader(control)
  const type = input.u8()
  const version = input.u8()
  if (input.fault === '' && version !== protocolVersion) {
    return { ok: false, code: 'PROTOCOL_INCOMPATIBLE', reason: `version ${version} is not known` }
  }
  const flags = input.u16()
  const envelope: Envelope = { session: input.u32(), term: input.term() }
  const message = input.fault === '' ? readMessage(input, { type, flags, envelope }) : undefined
  if (message === undefined) input.fail('the type is not known')
  if (!input.atEnd()) input.fail('there are bytes after the end')
  if (message === undefined || input.fault !== '') {
    return { ok: false, code: 'FRAME_INVALID', reason: input.fault }
  }
  return { ok: true, message }
}

interface Head {
  readonly type: number
  readonly flags: number
  readonly envelope: Envelope
}

/** Undefined for an unknown type. */
function readMessage(input: MessageReader, head: Head): Message | undefined {
  const { type, flags, envelope } = head
  input.expect((flags & ~(flagsOf[type] ?? 0)) === 0, 'a flag is not known')
  switch (type) {
    case typeNumbers.join:
      return readJoin(input, head)
    case typeNumbers.accept:
      return readAccept(input, head)
    case typeNumbers.refuse:
      return {
        type: 'refuse',
        ...envelope,
        code: input.text(messageLimits.codeBytesMax),
        message: input.text(messageLimits.messageBytesMax),
        master: input.text(messageLimits.addressBytesMax),
      }
    case typeNumbers.append:
      return readAppend(input, head)
    case typeNumbers.ack:
      return readAck(input, head)
    case typeNumbers.heartbeat:
      return readHeartbeat(input, head)
    case typeNumbers.gapRequest: {
      const from = input.lsn()
      const to = input.lsn()
      input.expect(from > 0 && (to === 0 || to >= from), 'a gap has no records')
      return { type: 'gapRequest', session: envelope.session, term: envelope.term, from, to }
    }
    case typeNumbers.snapshotBegin:
      return readSnapshotBegin(input, head)
    default:
      return readRare(input, head)
  }
}

function readRare(input: MessageReader, { type, flags, envelope }: Head): Message | undefined {
  const { session, term } = envelope
  switch (type) {
    case typeNumbers.snapshotRows: {
      const index = input.u32()
      const count = input.u32()
      input.expect(index > 0, 'a chunk has no number')
      return { type: 'snapshotRows', session, term, index, count, crc: input.u32() }
    }
    case typeNumbers.snapshotAck: {
      const storedIndex = input.u32()
      const receivedIndex = input.u32()
      input.expect(storedIndex <= receivedIndex, 'a chunk is stored that has not come')
      return { type: 'snapshotAck', session, term, storedIndex, receivedIndex }
    }
    case typeNumbers.snapshotEnd:
      return { type: 'snapshotEnd', session, term, chunks: input.u32(), rows: input.u64() }
    case typeNumbers.detach: {
      const code = input.text(messageLimits.codeBytesMax)
      const message = input.text(messageLimits.messageBytesMax)
      const master = input.text(messageLimits.addressBytesMax)
      const fromMaster = (flags & fromMasterFlag) !== 0
      return { type: 'detach', session, term, fromMaster, code, message, master }
    }
    case typeNumbers.higherTerm: {
      const databaseId = input.name()
      return { type: 'higherTerm', session, term, databaseId, site: input.text(limits.siteIdBytesMax) }
    }
    default:
      return readGroupMessage(input, { type, flags, envelope })
  }
}

const flagsOf: Readonly<Record<number, number>> = {
  [typeNumbers.join]: 511,
  [typeNumbers.accept]: acceptRouteFlag,
  [typeNumbers.append]: ackNowFlag,
  [typeNumbers.ack]: busyFlag,
  [typeNumbers.heartbeat]: ackNowFlag | heartbeatRouteFlag,
  [typeNumbers.snapshotBegin]: resumedFlag | reignFlag,
  [typeNumbers.detach]: fromMasterFlag,
  ...groupFlags,
}

function readJoin(input: MessageReader, { flags, envelope }: Head): Join {
  input.expect(envelope.session !== 0, 'a Join has no session')
  const site = input.name()
  const incarnation = input.text(limits.siteIdBytesMax)
  const address = input.text(messageLimits.addressBytesMax)
  const databaseId = (flags & joinFlag.database) === 0 ? undefined : input.name()
  const firstLsn = input.lsn()
  const last = input.place()
  const durableLsn = input.lsn()
  const permanentLsn = input.lsn()
  const history = input.history(last.lsn)
  input.expect(firstLsn > 0 && firstLsn <= last.lsn + 1, 'a log begins after its end')
  input.expect(durableLsn <= last.lsn && permanentLsn <= last.lsn, 'a position is beyond the log')
  input.expect(databaseId !== undefined || last.lsn === 0, 'a log belongs to no database')
  input.expect(last.term === (history.at(-1)?.term ?? 0), 'a log ends in another term than its history')
  return {
    type: 'join',
    ...envelope,
    databaseId,
    site,
    incarnation,
    address,
    history,
    firstLsn,
    last,
    durableLsn,
    permanentLsn,
    replace: (flags & joinFlag.replace) !== 0,
    snapshot: (flags & joinFlag.snapshot) !== 0,
    forceSync: (flags & joinFlag.forceSync) !== 0,
    view: (flags & joinFlag.view) !== 0,
    member: (flags & joinFlag.member) !== 0,
    mixed: (flags & joinFlag.mixed) === 0 ? undefined : readMixed(input),
    resume: (flags & joinFlag.resume) === 0 ? undefined : readResume(input),
    leaseMs: (flags & joinFlag.lease) === 0 ? 0 : readLease(input),
  }
}

function readLease(input: MessageReader): number {
  const leaseMs = input.u32()
  input.expect(leaseMs > 0, 'a lease lasts no time')
  return leaseMs
}

function readMixed(input: MessageReader): NonNullable<Join['mixed']> {
  const lsn = input.lsn()
  const reign = input.entry()
  input.expect(reign.firstLsn <= lsn, 'a record lies outside its reign')
  return { lsn, reign }
}

function readResume(input: MessageReader): SnapshotResume {
  const databaseId = input.name()
  const base = input.place()
  const reign = input.entry()
  input.expect(reign.term === base.term && reign.firstLsn <= base.lsn, 'a base lies outside its reign')
  const lsn = input.lsn()
  const newest = { lsn, reign: input.entry() }
  input.expect(lsn >= base.lsn && newest.reign.firstLsn <= lsn, 'a record lies outside its reign')
  // Kept for as long as the snapshot takes, so it must not hold on to the buffer of the connection.
  return { databaseId, base, reign, newest, afterKey: input.bytes(messageLimits.storeKeyBytesMax).slice() }
}

function readAccept(input: MessageReader, { flags, envelope }: Head): Accept {
  const databaseId = input.name()
  const site = input.name()
  const plan = input.oneOf(plans)
  const agreedLsn = input.lsn()
  const last = input.place()
  const committedLsn = input.lsn()
  const permanentLsn = input.lsn()
  const attest = input.oneOf(attests)
  const window = input.u32()
  const heartbeatMs = input.u32()
  const silenceTimeoutMs = input.u32()
  const sites = input.u32()
  const history = input.history(last.lsn)
  const route = (flags & acceptRouteFlag) === 0 ? undefined : readRoute(input)
  input.expect(
    route === undefined || (route.site === site && route.sites === sites),
    'a route leads elsewhere',
  )
  input.expect(agreedLsn <= last.lsn, 'the agreed record is beyond the log')
  input.expect(committedLsn <= last.lsn && permanentLsn <= last.lsn, 'a position is beyond the log')
  input.expect(window > 0 && heartbeatMs > 0 && silenceTimeoutMs > 0, 'a setting is 0')
  input.expect(last.term === (history.at(-1)?.term ?? 0), 'a log ends in another term than its history')
  return {
    type: 'accept',
    ...envelope,
    databaseId,
    site,
    plan,
    agreedLsn,
    history,
    last,
    committedLsn,
    permanentLsn,
    attest,
    window,
    heartbeatMs,
    silenceTimeoutMs,
    sites,
    route,
  }
}

function readRoute(input: MessageReader): Route {
  const site = input.text(limits.siteIdBytesMax)
  const address = input.text(messageLimits.addressBytesMax)
  const sites = input.u32()
  const count = input.u8()
  input.expect(count > 0 && count <= messageLimits.routeSitesMax, 'a route has no sites, or too many')
  const via: string[] = []
  while (via.length < count && input.fault === '') via.push(input.name())
  return { site, address, sites, via }
}

function readAppend(input: MessageReader, { flags, envelope }: Head): Message {
  const previous = input.place()
  const lastLsn = input.lsn()
  const committedLsn = input.lsn()
  const permanentLsn = input.lsn()
  input.expect(lastLsn > previous.lsn, 'there are no records')
  return {
    type: 'append',
    session: envelope.session,
    term: envelope.term,
    previous,
    lastLsn,
    committedLsn,
    permanentLsn,
    ackNow: (flags & ackNowFlag) !== 0,
  }
}

function readAck(input: MessageReader, { flags, envelope }: Head): Message {
  const receivedLsn = input.lsn()
  const durableLsn = input.lsn()
  const appliedLsn = input.lsn()
  const stamp = input.u32()
  input.expect(durableLsn <= receivedLsn && appliedLsn <= receivedLsn, 'a position is beyond the log')
  return {
    type: 'ack',
    session: envelope.session,
    term: envelope.term,
    receivedLsn,
    durableLsn,
    appliedLsn,
    stamp,
    busy: (flags & busyFlag) !== 0,
  }
}

function readHeartbeat(input: MessageReader, { flags, envelope }: Head): Heartbeat {
  const last = input.place()
  const sentLsn = input.lsn()
  const committedLsn = input.lsn()
  const permanentLsn = input.lsn()
  const stamp = input.u32()
  const attest = input.oneOf(attests)
  const window = input.u32()
  const route = (flags & heartbeatRouteFlag) === 0 ? undefined : readRoute(input)
  input.expect(
    sentLsn <= last.lsn && committedLsn <= last.lsn && permanentLsn <= last.lsn && window > 0,
    'a position is beyond the log',
  )
  return {
    type: 'heartbeat',
    session: envelope.session,
    term: envelope.term,
    last,
    sentLsn,
    committedLsn,
    permanentLsn,
    stamp,
    attest,
    window,
    ackNow: (flags & ackNowFlag) !== 0,
    route,
  }
}

function readSnapshotBegin(input: MessageReader, { flags, envelope }: Head): Message {
  const base = input.place()
  const snapshotLsn = input.lsn()
  const rowsEstimate = input.u64()
  const snapshotReign = (flags & reignFlag) === 0 ? undefined : input.entry()
  const history = input.history(base.lsn)
  input.expect(snapshotLsn >= base.lsn, 'a snapshot is older than its base')
  input.expect(base.term === (history.at(-1)?.term ?? 0), 'a log ends in another term than its history')
  const resumed = (flags & resumedFlag) !== 0
  input.expect(snapshotLsn === base.lsn || (resumed && snapshotReign !== undefined), 'rows have no reign')
  return {
    type: 'snapshotBegin',
    ...envelope,
    base,
    snapshotLsn,
    snapshotReign,
    history,
    rowsEstimate,
    resumed,
  }
}

/** A code from the wire as one of ours; a peer of another version may send codes that we do not have. */
export function knownCode(code: string, otherwise: ErrorCode): ErrorCode {
  return Object.hasOwn(errorCatalogue, code) ? (code as ErrorCode) : otherwise
}
