// The inside of a data datagram: frames, one after the other. The tables are in docs/udp.md.
//
//   message  = 1: u8 | control bytes: u16 | payload bytes: u16 | control | payload
//   fragment = 2: u8 | message: u32 | control bytes: u32 | payload bytes: u32 | unit: u16 | index: u32 | bytes
//   report   = 3: u8 | highest: u48 | echoed: u48 | held for, in microseconds: u32 | room: u32 | bytes: u16 | bitmap
//   ping     = 4: u8
//   bye      = 5: u8 | 1 if it was broken off: u8
//   byeAck   = 6: u8
//   channel  = 7: u8 | bytes: u16 | bytes                                         (docs/udp.md, Multicast)
//
// A fragment's bytes are those of its message (control, then payload) from unit * index on, `unit` of them or what is
// left. Bit n of a report's bitmap says that the number highest - 1 - n has come. A datagram with anything else in it
// is dropped as a whole: nothing of it is acted upon.

import { readU16, readU32, readU48, writeU16, writeU32, writeU48 } from './wire.ts'

const types = { message: 1, fragment: 2, report: 3, ping: 4, bye: 5, byeAck: 6, channel: 7 } as const

export const messageHeadBytes = 5
export const fragmentHeadBytes = 19
export const reportHeadBytes = 23
/** Below it a message would have absurdly many fragments. */
export const fragmentUnitMin = 64

export interface FragmentFrame {
  readonly kind: 'fragment'
  readonly message: number
  readonly controlBytes: number
  readonly payloadBytes: number
  readonly unit: number
  readonly index: number
  readonly bytes: Uint8Array
}

export interface ReportFrame {
  readonly kind: 'report'
  /** The highest number that has come. */
  readonly highest: number
  /** The newest number that asked for a report, 0 if none; it came `heldMs` before the report left. */
  readonly echoed: number
  readonly heldMs: number
  readonly room: number
  readonly bitmap: Uint8Array
}

export type Frame =
  | { readonly kind: 'message'; readonly control: Uint8Array; readonly payload: Uint8Array }
  | FragmentFrame
  | ReportFrame
  | { readonly kind: 'ping' }
  | { readonly kind: 'bye'; readonly broken: boolean }
  | { readonly kind: 'byeAck' }
  | { readonly kind: 'channel'; readonly bytes: Uint8Array }

export function frameBytes(frame: Frame): number {
  switch (frame.kind) {
    case 'message':
      return messageHeadBytes + frame.control.length + frame.payload.length
    case 'fragment':
      return fragmentHeadBytes + frame.bytes.length
    case 'report':
      return reportHeadBytes + frame.bitmap.length
    case 'bye':
      return 2
    case 'channel':
      return 3 + frame.bytes.length
    default:
      return 1
  }
}

/** Writes a frame at `at`; returns where it ends. */
export function writeFrame(into: Uint8Array, at: number, frame: Frame): number {
  into[at] = types[frame.kind]
  switch (frame.kind) {
    case 'message': {
      const { control, payload } = frame
      writeU16(into, at + 1, control.length)
      writeU16(into, at + 3, payload.length)
      into.set(control, at + messageHeadBytes)
      into.set(payload, at + messageHeadBytes + control.length)
      break
    }
    case 'fragment':
      writeU32(into, at + 1, frame.message)
      writeU32(into, at + 5, frame.controlBytes)
      writeU32(into, at + 9, frame.payloadBytes)
      writeU16(into, at + 13, frame.unit)
      writeU32(into, at + 15, frame.index)
      into.set(frame.bytes, at + fragmentHeadBytes)
      break
    case 'report':
      writeU48(into, at + 1, frame.highest)
      writeU48(into, at + 7, frame.echoed)
      writeU32(into, at + 13, Math.min(0xffff_ffff, Math.round(frame.heldMs * 1000)))
      writeU32(into, at + 17, Math.min(0xffff_ffff, frame.room))
      writeU16(into, at + 21, frame.bitmap.length)
      into.set(frame.bitmap, at + reportHeadBytes)
      break
    case 'bye':
      into[at + 1] = frame.broken ? 1 : 0
      break
    case 'channel':
      writeU16(into, at + 1, frame.bytes.length)
      into.set(frame.bytes, at + 3)
      break
    default:
  }
  return at + frameBytes(frame)
}

/** Undefined if the body is not frames from its first byte to its last. What is returned are views. */
export function readFrames(body: Uint8Array): Frame[] | undefined {
  const frames: Frame[] = []
  for (let at = 0; at < body.length; ) {
    const frame = readFrame(body, at)
    if (frame === undefined) return undefined
    frames.push(frame)
    at += frameBytes(frame)
  }
  return frames.length === 0 ? undefined : frames
}

function readFrame(body: Uint8Array, at: number): Frame | undefined {
  const left = body.length - at
  switch (body[at]) {
    case types.message: {
      if (left < messageHeadBytes) return undefined
      const controlBytes = readU16(body, at + 1)
      const payloadBytes = readU16(body, at + 3)
      if (left < messageHeadBytes + controlBytes + payloadBytes) return undefined
      const controlAt = at + messageHeadBytes
      const payloadAt = controlAt + controlBytes
      return {
        kind: 'message',
        control: body.subarray(controlAt, payloadAt),
        payload: body.subarray(payloadAt, payloadAt + payloadBytes),
      }
    }
    case types.fragment:
      return readFragment(body, at, left)
    case types.report: {
      if (left < reportHeadBytes) return undefined
      const bytes = readU16(body, at + 21)
      if (left < reportHeadBytes + bytes) return undefined
      return {
        kind: 'report',
        highest: readU48(body, at + 1),
        echoed: readU48(body, at + 7),
        heldMs: readU32(body, at + 13) / 1000,
        room: readU32(body, at + 17),
        bitmap: body.subarray(at + reportHeadBytes, at + reportHeadBytes + bytes),
      }
    }
    case types.ping:
      return { kind: 'ping' }
    case types.bye: {
      const broken = body[at + 1]
      return broken === 0 || broken === 1 ? { kind: 'bye', broken: broken === 1 } : undefined
    }
    case types.byeAck:
      return { kind: 'byeAck' }
    case types.channel: {
      if (left < 3) return undefined
      const bytes = readU16(body, at + 1)
      return left < 3 + bytes ? undefined : { kind: 'channel', bytes: body.subarray(at + 3, at + 3 + bytes) }
    }
    default:
      return undefined
  }
}

function readFragment(body: Uint8Array, at: number, left: number): FragmentFrame | undefined {
  if (left < fragmentHeadBytes) return undefined
  const controlBytes = readU32(body, at + 5)
  const payloadBytes = readU32(body, at + 9)
  const unit = readU16(body, at + 13)
  const index = readU32(body, at + 15)
  const rest = controlBytes + payloadBytes - unit * index
  if (unit < fragmentUnitMin || rest <= 0) return undefined
  const bytes = Math.min(unit, rest)
  if (left < fragmentHeadBytes + bytes) return undefined
  const bytesAt = at + fragmentHeadBytes
  return {
    kind: 'fragment',
    message: readU32(body, at + 1),
    controlBytes,
    payloadBytes,
    unit,
    index,
    bytes: body.subarray(bytesAt, bytesAt + bytes),
  }
}
