// The messages of a group to bytes and back; message-codec.ts says how messages are framed and what a decoder owes.

import { limits } from '../base/limits.ts'
import type { Envelope } from './envelope.ts'
import type {
  Canvass,
  GroupMessage,
  Handover,
  HandoverRefused,
  HeardMaster,
  Hello,
  SiteActivity,
  TakeOver,
  Vote,
  VoteRequest,
} from './group-messages.ts'
import { messageLimits } from './message-limits.ts'
import type { MessageReader } from './message-reader.ts'
import type { MessageWriter } from './message-writer.ts'

export const groupTypeNumbers: {
  readonly hello: 14
  readonly canvass: 15
  readonly voteRequest: 16
  readonly vote: 17
  readonly handover: 18
  readonly takeOver: 19
  readonly handoverRefused: 20
} = {
  hello: 14,
  canvass: 15,
  voteRequest: 16,
  vote: 17,
  handover: 18,
  takeOver: 19,
  handoverRefused: 20,
}

const activities: readonly SiteActivity[] = ['alone', 'candidate', 'syncing', 'replica', 'master']

const helloFlag = { answer: 1, database: 2, grouped: 4, master: 8, view: 16 } as const
const answerFlag = 1
const handoverFlag = 1
const grantedFlag = 1
const groupedFlag = 1

/** All flags of each type. */
export const groupFlags: Readonly<Record<number, number>> = {
  [groupTypeNumbers.hello]: 31,
  [groupTypeNumbers.canvass]: answerFlag,
  [groupTypeNumbers.voteRequest]: handoverFlag,
  [groupTypeNumbers.vote]: grantedFlag,
  [groupTypeNumbers.handover]: groupedFlag,
}

export function groupMessageFlags(message: GroupMessage): number {
  switch (message.type) {
    case 'hello':
      return (
        (message.answer ? helloFlag.answer : 0) |
        (message.databaseId === undefined ? 0 : helloFlag.database) |
        (message.grouped ? helloFlag.grouped : 0) |
        (message.master === undefined ? 0 : helloFlag.master) |
        (message.view ? helloFlag.view : 0)
      )
    case 'canvass':
      return message.answer ? answerFlag : 0
    case 'voteRequest':
      return message.handover ? handoverFlag : 0
    case 'vote':
      return message.granted ? grantedFlag : 0
    case 'handover':
      return message.grouped ? groupedFlag : 0
    case 'takeOver':
    case 'handoverRefused':
      return 0
  }
}

/** What follows the envelope. */
export function writeGroupMessage(out: MessageWriter, message: GroupMessage): void {
  switch (message.type) {
    case 'hello':
      writeHello(out, message)
      return
    case 'canvass':
      out.text(message.databaseId, limits.siteIdBytesMax)
      out.text(message.site, limits.siteIdBytesMax)
      out.u32(message.round)
      out.place(message.last)
      out.u32(message.priority)
      out.u32(message.tiebreak)
      return
    case 'voteRequest':
      out.text(message.databaseId, limits.siteIdBytesMax)
      out.text(message.site, limits.siteIdBytesMax)
      out.place(message.last)
      return
    case 'vote':
      out.text(message.databaseId, limits.siteIdBytesMax)
      out.text(message.site, limits.siteIdBytesMax)
      out.text(message.incarnation, limits.siteIdBytesMax)
      out.u32(message.forTerm)
      out.text(message.reason, messageLimits.messageBytesMax)
      return
    case 'handover':
      out.u64(message.lsn)
      return
    case 'takeOver':
      out.text(message.address, messageLimits.addressBytesMax)
      return
    case 'handoverRefused':
      out.text(message.code, messageLimits.codeBytesMax)
      out.text(message.message, messageLimits.messageBytesMax)
      return
  }
}

function writeHello(out: MessageWriter, message: Hello): void {
  const { databaseId, master } = message
  if (databaseId !== undefined) out.text(databaseId, limits.siteIdBytesMax)
  out.text(message.site, limits.siteIdBytesMax)
  out.text(message.incarnation, limits.siteIdBytesMax)
  out.text(message.address, messageLimits.addressBytesMax)
  out.u32(message.priority)
  out.text(message.version, messageLimits.codeBytesMax)
  out.u8(activities.indexOf(message.activity))
  out.place(message.last)
  out.u64(message.durableLsn)
  out.u64(message.appliedLsn)
  out.u64(message.committedLsn)
  out.u32(message.ackMicros)
  out.bytes(message.data.subarray(0, messageLimits.siteDataBytesMax))
  if (master === undefined) return
  out.text(master.site, limits.siteIdBytesMax)
  out.u32(master.term)
  out.text(master.address, messageLimits.addressBytesMax)
}

/** Undefined for a type that is none of a group's. */
export function readGroupMessage(
  input: MessageReader,
  head: { type: number; flags: number; envelope: Envelope },
): GroupMessage | undefined {
  const { type, flags, envelope } = head
  const { session, term } = envelope
  const belongsToNone = type <= groupTypeNumbers.vote
  switch (type) {
    case groupTypeNumbers.hello:
    case groupTypeNumbers.canvass:
    case groupTypeNumbers.voteRequest:
    case groupTypeNumbers.vote:
    case groupTypeNumbers.handover:
    case groupTypeNumbers.takeOver:
    case groupTypeNumbers.handoverRefused:
      input.expect((session === 0) === belongsToNone, 'the session does not fit the type')
      break
    default:
      return undefined
  }
  switch (type) {
    case groupTypeNumbers.hello:
      return readHello(input, { flags, envelope })
    case groupTypeNumbers.canvass:
      return readCanvass(input, { flags, envelope })
    case groupTypeNumbers.voteRequest:
      return readVoteRequest(input, { flags, envelope })
    case groupTypeNumbers.vote:
      return readVote(input, { flags, envelope })
    case groupTypeNumbers.handover: {
      const handover: Handover = {
        type: 'handover',
        session,
        term,
        lsn: input.lsn(),
        grouped: (flags & groupedFlag) !== 0,
      }
      input.expect(handover.lsn > 0, 'a master hands over a log with records')
      return handover
    }
    case groupTypeNumbers.takeOver: {
      const takeOver: TakeOver = {
        type: 'takeOver',
        session,
        term,
        address: input.text(messageLimits.addressBytesMax),
      }
      return takeOver
    }
    default: {
      const code = input.text(messageLimits.codeBytesMax)
      const message = input.text(messageLimits.messageBytesMax)
      const refused: HandoverRefused = { type: 'handoverRefused', session, term, code, message }
      return refused
    }
  }
}

interface Head {
  readonly flags: number
  readonly envelope: Envelope
}

function readHello(input: MessageReader, { flags, envelope }: Head): Hello {
  const databaseId = (flags & helloFlag.database) === 0 ? undefined : input.name()
  const site = input.name()
  const incarnation = input.name()
  const address = input.text(messageLimits.addressBytesMax)
  const priority = input.u32()
  const version = input.text(messageLimits.codeBytesMax)
  const activity = input.oneOf(activities)
  const last = input.place()
  const durableLsn = input.lsn()
  const appliedLsn = input.lsn()
  const committedLsn = input.lsn()
  const ackMicros = input.u32()
  const data = input.bytes(messageLimits.siteDataBytesMax)
  input.expect(
    durableLsn <= last.lsn && appliedLsn <= last.lsn && committedLsn <= last.lsn,
    'a position is beyond the log',
  )
  return {
    type: 'hello',
    ...envelope,
    answer: (flags & helloFlag.answer) !== 0,
    databaseId,
    site,
    incarnation,
    address,
    priority,
    version,
    activity,
    grouped: (flags & helloFlag.grouped) !== 0,
    last,
    durableLsn,
    appliedLsn,
    committedLsn,
    ackMicros,
    view: (flags & helloFlag.view) !== 0,
    data,
    master: (flags & helloFlag.master) === 0 ? undefined : readMaster(input),
  }
}

function readMaster(input: MessageReader): HeardMaster {
  const site = input.name()
  const term = input.term()
  input.expect(term > 0, 'a master has a term')
  return { site, term, address: input.text(messageLimits.addressBytesMax) }
}

function readCanvass(input: MessageReader, { flags, envelope }: Head): Canvass {
  const databaseId = input.name()
  const site = input.name()
  const round = input.u32()
  const last = input.place()
  const priority = input.u32()
  const tiebreak = input.u32()
  const answer = (flags & answerFlag) !== 0
  return { type: 'canvass', ...envelope, answer, databaseId, site, round, last, priority, tiebreak }
}

function readVoteRequest(input: MessageReader, { flags, envelope }: Head): VoteRequest {
  const databaseId = input.name()
  const site = input.name()
  const last = input.place()
  input.expect(envelope.term > last.term, 'a candidate asks for a later term than that of its log')
  const handover = (flags & handoverFlag) !== 0
  return { type: 'voteRequest', ...envelope, databaseId, site, last, handover }
}

function readVote(input: MessageReader, { flags, envelope }: Head): Vote {
  const databaseId = input.name()
  const site = input.name()
  const incarnation = input.name()
  const forTerm = input.term()
  const reason = input.text(messageLimits.messageBytesMax)
  const granted = (flags & grantedFlag) !== 0
  return { type: 'vote', ...envelope, databaseId, site, incarnation, forTerm, granted, reason }
}
