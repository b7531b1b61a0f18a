// A connection over datagrams: the parts of this folder put together, for one other side.
//
// What it promises is less than a stream: messages may be lost, doubled by nobody here but late and out of order, and
// each that arrives is whole and unaltered. Long ones are repeated until they are there; short ones are the replication
// core's to repair. It ends in order by a bye that is repeated until it is answered, and is given up (CONNECTION_CLOSED)
// when nothing was heard for 10 s, or for 1 s after the system said that nobody is at the address.
//
// One timer serves all that is due: the next turn of the pacer, a report, a question, a sign of life, an end.

import { emptyBytes } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { Host, Timer } from '../../env/host.ts'
import {
  type Connection,
  type ConnectionHandlers,
  type SharedChannel,
  transportDefaults,
} from '../transport.ts'
import { Arrivals } from './arrivals.ts'
import { udpBounds } from './bounds.ts'
import { Departures } from './departures.ts'
import { type Frame, frameBytes, type ReportFrame, readFrames, writeFrame } from './frames.ts'
import type { Session } from './handshake.ts'
import { Inbox } from './inbox.ts'
import { type Cargo, Outgoing } from './outgoing.ts'
import { Pacer } from './pacer.ts'
import { checkBytes, dataHeaderBytes, writeDataHeader } from './packet.ts'
import { Reassembly } from './reassembly.ts'

export interface UdpConnectionOptions {
  readonly host: Pick<Host, 'clock' | 'timers'>
  readonly session: Session
  readonly remote: string
  readonly local: string | undefined
  readonly datagramBytes: number
  readonly frameBytesMax: number
  readonly highWaterBytes: number
  /** What the system holds of datagrams that are not read yet. */
  readonly receiveBufferBytes: number
  /** Sends a datagram to the other side; it may be lost. */
  readonly write: (datagram: Uint8Array) => void
  /** Nothing more is sent or taken. */
  readonly onClosed: () => void
}

/** What is sent of a datagram that ends a connection at once, or that answers its end: nobody will ask again. */
const lastWords = 3
const never = Number.POSITIVE_INFINITY
/** Asked again so often without an answer, the link is taken to be worse than it was. */
const asksUnanswered = 4
/** Where a fifth is lost, so are a third of the questions or their answers: the first ones follow each other soon. */
const asksSoon = 3
/** Of who has ended, and asked so often without an answer (in about two seconds), nobody takes the rest. */
const asksAtEndMax = 8
const refusedMs = 1000

export class UdpConnection implements Connection {
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion: number
  /** What the two ends say to each other about a channel. */
  onChannel: ((bytes: Uint8Array) => void) | undefined
  /** Called once, when nothing more is sent or taken. */
  onEnd: (() => void) | undefined
  /** Whether the other side hears the channel of this one. */
  hears: (() => SharedChannel | undefined) | undefined
  readonly #options: UdpConnectionOptions
  readonly #arrivals = new Arrivals()
  readonly #departures = new Departures<Cargo>()
  readonly #outgoing: Outgoing
  readonly #reassembly: Reassembly
  readonly #inbox: Inbox
  readonly #pacer: Pacer
  /** ending: what waits is being sent. bye: all is sent, and the other side is told. */
  #state: 'open' | 'ending' | 'bye' | 'closed' = 'open'
  #error: CoterieError | undefined
  #drainOwed = false
  #otherEnded = false
  #flushAsked = false
  #otherRoom = 65_536
  #unreported = 0
  #bytesIn = 0
  #bytesOut = 0
  #lastHeardMs: number
  #byesLeft: number = udpBounds.byeTries
  #asked = 0
  #timer: Timer | undefined
  #timerDueMs: number = never
  #reportDueMs: number = never
  #pumpDueMs: number = never
  #askDueMs: number = never
  #byeDueMs: number = never
  #lingerDueMs: number = never
  #keepAliveDueMs: number
  #silenceDueMs: number
  #ended: Promise<void> | undefined
  #reportEnd: (() => void) | undefined

  constructor(options: UdpConnectionOptions) {
    this.#options = options
    this.remote = options.remote
    this.local = options.local
    this.protocolVersion = options.session.version
    const now = options.host.clock.now()
    this.#outgoing = new Outgoing({ bodyBytes: options.datagramBytes - dataHeaderBytes - checkBytes })
    this.#reassembly = new Reassembly({ messageBytesMax: options.frameBytesMax })
    this.#inbox = new Inbox({
      timers: options.host.timers,
      onRoom: () => this.#inboxHasRoom(),
      onEmpty: () => {
        if (this.#otherEnded) this.#close(undefined)
      },
    })
    this.#pacer = new Pacer(now)
    this.#lastHeardMs = now
    this.#keepAliveDueMs = now + udpBounds.keepAliveMs
    this.#silenceDueMs = now + udpBounds.silenceMs
    this.#arm()
  }

  get handlers(): ConnectionHandlers {
    return this.#inbox.handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    this.#inbox.handlers = handlers
  }

  get bufferedBytes(): number {
    return this.#outgoing.waitingBytes
  }

  get bytesIn(): number {
    return this.#bytesIn
  }

  get bytesOut(): number {
    return this.#bytesOut
  }

  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  get channel(): SharedChannel | undefined {
    return this.hears?.()
  }

  /** A message that came by the channel of the other side. */
  receivedShared(control: Uint8Array, payload: Uint8Array): void {
    if (this.#state === 'open') this.#inbox.add(control, payload, true)
  }

  /** As the pacer has it now, for whoever measures. */
  get pace(): { readonly bytesPerSecond: number; readonly roundTripMs: number; readonly lossShare: number } {
    const { bytesPerSecond, smoothedMs, lossShare } = this.#pacer
    return { bytesPerSecond, roundTripMs: smoothedMs, lossShare }
  }

  send(control: Uint8Array, payload: Uint8Array = emptyBytes): boolean {
    if (this.#state !== 'open' || this.#otherEnded) return false
    this.#outgoing.add(control, payload)
    this.#askFlush()
    if (this.bufferedBytes <= this.#options.highWaterBytes) return true
    this.#drainOwed = true
    return false
  }

  /** To the other end's `onChannel`; once, and it may be lost. At most 1,000 bytes. */
  sendChannel(bytes: Uint8Array): void {
    if (this.#state === 'open') this.#write([{ kind: 'channel', bytes }], [], true)
  }

  acceptFramesUpTo(bytes: number): void {
    this.#reassembly.messageBytesMax = bytes
  }

  pause(): void {
    this.#inbox.pause()
  }

  resume(): void {
    this.#inbox.resume()
  }

  end(): Promise<void> {
    if (this.#ended !== undefined) return this.#ended
    if (this.#state === 'closed') return Promise.resolve()
    this.#ended = new Promise((resolve) => {
      this.#reportEnd = resolve
    })
    this.#state = 'ending'
    this.#inbox.drop()
    this.#lingerDueMs = this.#now() + transportDefaults.lingerMs
    this.#pump()
    this.#sayByeIfDone()
    this.#arm()
    return this.#ended
  }

  destroy(error?: Error): void {
    if (this.#state === 'closed') return
    for (let i = 0; i < lastWords; i++) this.#write([{ kind: 'bye', broken: true }], [], false)
    const known = error === undefined || error instanceof CoterieError
    this.#close(known ? error : connectionLost(this.remote, error.message, error))
  }

  /** Says something, so that the other side knows that it is heard. */
  greet(): void {
    this.#write([{ kind: 'ping' }], [], true)
    this.#arm()
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  /** Nobody was ever told of it: it is let go of without a word. */
  abandon(): void {
    this.#close(undefined)
  }

  // ---- what comes --------------------------------------------------------------------------------------------

  /** A datagram for this connection, from its address. False: it is a repetition, damaged, or not from the other side. */
  received(number: number, datagram: Uint8Array): boolean {
    if (this.#state === 'closed' || !this.#arrivals.isNew(number)) return false
    const body = this.#options.session.incoming.open(number, datagram, dataHeaderBytes)
    if (body === undefined) return false
    const frames = readFrames(body)
    if (frames === undefined) return false
    const now = this.#now()
    this.#arrivals.add(number)
    this.#bytesIn += datagram.length
    this.#lastHeardMs = now
    this.#silenceDueMs = now + udpBounds.silenceMs
    let asksReport = false
    for (const frame of frames) {
      if (this.isClosed) return true
      if (frame.kind !== 'report' && frame.kind !== 'byeAck') asksReport = true
      this.#handle(frame, now)
    }
    if (asksReport && !this.isClosed) {
      this.#arrivals.echo(number, now)
      this.#unreported++
      if (this.#unreported >= udpBounds.reportEvery) this.#sendReport()
      else this.#reportDueMs = Math.min(this.#reportDueMs, now + udpBounds.reportMs)
    }
    this.#arm()
    return true
  }

  /** The system could not send, or says that nobody is there. */
  unreachable(error: Error, isRefused: boolean): void {
    if (!isRefused || this.isClosed) return
    if (this.#state === 'bye') {
      this.#close(undefined)
      return
    }
    // Anybody on the way could say so: the other side has a second to show that it is there.
    const soon = this.#now() + refusedMs
    if (soon >= this.#silenceDueMs) return
    this.#silenceDueMs = soon
    this.#error ??= connectionLost(this.remote, error.message, error)
    this.greet()
  }

  #handle(frame: Frame, now: number): void {
    switch (frame.kind) {
      case 'message':
        this.#message(frame.control, frame.payload)
        return
      case 'fragment': {
        const step = this.#reassembly.add(frame, now)
        if (step.kind === 'whole') this.#message(step.message.control, step.message.payload)
        else if (step.kind === 'tooLong') this.#refuse(step.bytes)
        return
      }
      case 'report':
        this.#reported(frame, now)
        return
      case 'ping':
        return
      case 'bye':
        this.#bye(frame.broken)
        return
      case 'byeAck':
        if (this.#state === 'bye') this.#close(undefined)
        return
      case 'channel':
        this.onChannel?.(frame.bytes)
        return
    }
  }

  #message(control: Uint8Array, payload: Uint8Array): void {
    if (control.length + payload.length > this.#reassembly.messageBytesMax) {
      this.#refuse(control.length + payload.length)
    } else if (this.#state === 'open') this.#inbox.add(control, payload)
  }

  #refuse(bytes: number): void {
    const boundBytes = this.#reassembly.messageBytesMax
    this.destroy(
      new CoterieError('FRAME_INVALID', `a message of ${bytes} bytes is above the bound of ${boundBytes}`, {
        details: { boundBytes },
      }),
    )
  }

  #reported(report: ReportFrame, now: number): void {
    const outcome = this.#departures.reported(report, now, this.#pacer.smoothedMs)
    if (outcome === undefined) return
    const wasStopped = this.#otherRoom === 0
    this.#otherRoom = report.room
    const isNews = outcome.isNews || outcome.roundTripMs !== undefined
    if (!isNews && !(wasStopped && report.room > 0)) return
    for (const cargo of outcome.arrivedCargo) this.#outgoing.confirmed(cargo)
    for (const cargo of outcome.lostCargo) this.#outgoing.lost(cargo)
    this.#pacer.reported({ nowMs: now, ...outcome })
    this.#asked = 0
    this.#askDueMs = this.#departures.underWay > 0 ? now + this.#askAfterMs() : never
    this.#pump()
    this.#drained()
    this.#sayByeIfDone()
  }

  #inboxHasRoom(): void {
    if (this.isClosed) return
    this.#sendReport()
    this.#arm()
  }

  #bye(broken: boolean): void {
    if (broken) {
      this.#close(connectionLost(this.remote, 'the other side destroyed it'))
      return
    }
    for (let i = 0; i < lastWords; i++) this.#write([{ kind: 'byeAck' }], [], false)
    this.#otherEnded = true
    if (this.#state !== 'open' || this.#inbox.isEmpty) this.#close(undefined)
  }

  // ---- what goes ---------------------------------------------------------------------------------------------

  #askFlush(): void {
    if (this.#flushAsked) return
    this.#flushAsked = true
    this.#options.host.timers.soon(() => {
      this.#flushAsked = false
      if (this.isClosed) return
      this.#pump()
      this.#drained()
      this.#arm()
    })
  }

  /** Lets out what the pacer and the other side have room for. */
  #pump(): void {
    this.#pumpDueMs = never
    for (let count = 0; this.#outgoing.hasMore && !this.isClosed; count++) {
      const now = this.#now()
      if (this.#otherRoom === 0) {
        this.#askDueMs = Math.min(this.#askDueMs, now + udpBounds.probeMs)
        return
      }
      if (!this.#flightHasRoom()) {
        this.#pacer.heldBack()
        return
      }
      const waitMs = count >= udpBounds.burst ? 1 : this.#pacer.waitMs(now)
      if (waitMs > 0) {
        this.#pacer.heldBack()
        this.#pumpDueMs = now + Math.max(1, waitMs)
        return
      }
      const frames: Frame[] = this.#takeReport(now)
      const cargo: Cargo[] = []
      this.#outgoing.fill(frames, cargo, bytesOf(frames))
      this.#write(frames, cargo, true)
    }
  }

  #flightHasRoom(): boolean {
    const { bytesUnderWay, underWay } = this.#departures
    if (underWay >= udpBounds.reportWindow - 64) return false
    const { flightBytesMax, pathBytes } = this.#pacer
    return bytesUnderWay < Math.min(flightBytesMax, this.#otherRoom + pathBytes)
  }

  /** A report that is due anyway goes along. */
  #takeReport(now: number): Frame[] {
    if (this.#unreported === 0) return []
    this.#unreported = 0
    this.#reportDueMs = never
    return [this.#arrivals.report(now, this.#room())]
  }

  #sendReport(): void {
    this.#unreported = 0
    this.#reportDueMs = never
    this.#write([this.#arrivals.report(this.#now(), this.#room())], [], false)
  }

  /** What the other side may have under way beyond what the path itself holds. */
  #room(): number {
    if (!this.#inbox.hasRoom) return 0
    return Math.max(2 * udpBounds.datagramBytes, Math.floor(this.#options.receiveBufferBytes / 3))
  }

  /** `asksReport`: its arrival is awaited. */
  #write(frames: readonly Frame[], cargo: readonly Cargo[], asksReport: boolean): void {
    const number = this.#departures.nextNumber()
    const datagram = new Uint8Array(dataHeaderBytes + bytesOf(frames) + checkBytes)
    writeDataHeader(datagram, { number, id: this.#options.session.peerId })
    let at = dataHeaderBytes
    for (const frame of frames) at = writeFrame(datagram, at, frame)
    this.#options.session.outgoing.seal(number, datagram, dataHeaderBytes)
    const now = this.#now()
    this.#bytesOut += datagram.length
    this.#keepAliveDueMs = now + udpBounds.keepAliveMs
    if (asksReport) {
      this.#departures.sent({ number, bytes: datagram.length, sentMs: now, cargo })
      this.#pacer.sent(datagram.length, now)
      this.#askDueMs = Math.min(this.#askDueMs, now + this.#askAfterMs())
    }
    this.#options.write(datagram)
  }

  #askAfterMs(): number {
    const doublings = Math.min(Math.max(0, this.#asked + 1 - asksSoon), 5)
    return Math.min(1000, (2 * this.#pacer.smoothedMs + 30) * 2 ** doublings)
  }

  /** Nothing was reported although something is under way, or the other side has told us to stop. */
  #ask(now: number): void {
    this.#asked++
    if (this.#state === 'ending' && this.#asked > asksAtEndMax) {
      this.#giveUpEnding()
      return
    }
    if (this.#asked >= asksUnanswered && this.#departures.underWay > 0) this.#pacer.unanswered()
    this.#askDueMs = now + this.#askAfterMs()
    this.#write([{ kind: 'ping' }], [], true)
  }

  #drained(): void {
    const { highWaterBytes } = this.#options
    if (!this.#drainOwed || this.#state !== 'open' || this.bufferedBytes > highWaterBytes / 2) return
    this.#drainOwed = false
    this.#inbox.drain()
  }

  #sayByeIfDone(): void {
    if (this.#state !== 'ending' || !this.#outgoing.isDone || this.#departures.underWay > 0) return
    this.#state = 'bye'
    this.#sayBye(this.#now())
  }

  #sayBye(now: number): void {
    if (this.#byesLeft === 0) {
      // All that was sent is confirmed: it ends in order, whether or not the other side says so.
      this.#close(undefined)
      return
    }
    this.#byesLeft--
    this.#byeDueMs = now + Math.max(udpBounds.byeRetryMs, 2 * this.#pacer.smoothedMs)
    this.#write([{ kind: 'bye', broken: false }], [], false)
  }

  #giveUpEnding(): void {
    this.destroy(connectionLost(this.remote, 'the other side did not take the rest in time'))
  }

  // ---- time --------------------------------------------------------------------------------------------------

  #now(): number {
    return this.#options.host.clock.now()
  }

  #arm(): void {
    if (this.isClosed) return
    const due = Math.min(
      this.#reportDueMs,
      this.#pumpDueMs,
      this.#askDueMs,
      this.#byeDueMs,
      this.#lingerDueMs,
      this.#keepAliveDueMs,
      this.#silenceDueMs,
    )
    // One that fires too early looks again; most dues only move later.
    if (due >= this.#timerDueMs) return
    this.#timer?.cancel()
    this.#timerDueMs = due
    this.#timer = this.#options.host.timers.after(Math.max(0, due - this.#now()), () => {
      this.#timer = undefined
      this.#timerDueMs = never
      this.#due()
      this.#arm()
    })
  }

  #due(): void {
    const now = this.#now()
    if (now >= this.#silenceDueMs) {
      const seconds = Math.round((now - this.#lastHeardMs) / 1000)
      this.#close(this.#error ?? connectionLost(this.remote, `nothing was heard for ${seconds} s`))
      return
    }
    if (now >= this.#lingerDueMs) {
      this.#giveUpEnding()
      return
    }
    if (now >= this.#pumpDueMs) {
      this.#pump()
      this.#drained()
    }
    if (now >= this.#reportDueMs) this.#sendReport()
    if (now >= this.#askDueMs) {
      if (this.#departures.underWay > 0 || this.#otherRoom === 0) this.#ask(now)
      else this.#askDueMs = never
    }
    if (now >= this.#byeDueMs) this.#sayBye(now)
    if (!this.isClosed && now >= this.#keepAliveDueMs) {
      this.#reassembly.sweep(now)
      this.#write([{ kind: 'ping' }], [], true)
    }
  }

  #close(error: CoterieError | undefined): void {
    if (this.isClosed) return
    this.#state = 'closed'
    this.#timer?.cancel()
    this.#outgoing.clear()
    this.#departures.clear()
    this.#reassembly.clear()
    this.#options.onClosed()
    this.onEnd?.()
    this.#inbox.close(error)
    this.#options.host.timers.soon(() => this.#reportEnd?.())
  }
}

function bytesOf(frames: readonly Frame[]): number {
  let bytes = 0
  for (const frame of frames) bytes += frameBytes(frame)
  return bytes
}

export function connectionLost(remote: string, reason: string, cause?: Error): CoterieError {
  return new CoterieError('CONNECTION_CLOSED', `the connection to ${remote} was lost: ${reason}`, {
    details: { remote },
    ...(cause === undefined ? {} : { cause }),
  })
}
