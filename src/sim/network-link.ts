// One direction between two simulated sites, and what connections need of the network that they are part of.

import type { Prng } from '../base/prng.ts'
import type { VirtualClock } from '../env/simulated/virtual-clock.ts'

/** What a link does to messages in one direction. Chances are between 0 and 1. */
export interface LinkFaults {
  /** What every message takes, at least. */
  readonly latencyMs: number
  /** Up to so much more; order is kept. */
  readonly jitterMs: number
  readonly dropChance: number
  readonly duplicateChance: number
  /** A message that is late by up to `lateMsMax` more, and so is overtaken. */
  readonly lateChance: number
  readonly lateMsMax: number
  /** With each message, one of an earlier connection between the same sites comes again. */
  readonly replayChance: number
  /** Bytes in a millisecond; 0: no bound. What is beyond it waits at the sender. */
  readonly bytesPerMs: number
}

export const goodLink: LinkFaults = {
  latencyMs: 0.2,
  jitterMs: 0.3,
  dropChance: 0,
  duplicateChance: 0,
  lateChance: 0,
  lateMsMax: 0,
  replayChance: 0,
  bytesPerMs: 0,
}

export interface Message {
  readonly control: Uint8Array
  readonly payload: Uint8Array
  readonly bytes: number
}

export interface PastMessage {
  readonly connection: number
  readonly message: Message
}

/** So many messages are the opening of a connection. */
const openingMessages = 12

/** One direction between two sites, over all the connections there ever are. */
export class Link {
  readonly from: string
  readonly to: string
  #faults: LinkFaults = goodLink
  /** Nothing gets through. */
  isCut: boolean = false
  /** While it is cut messages wait, and come all at once when it heals, as TCP has it; else they are lost. */
  holdsWhileCut: boolean = false
  /** When the last message that keeps its order arrives. */
  lastArrivalMs = 0
  /** When the sender's last byte has left. */
  lastDepartureMs = 0
  readonly held: (() => void)[] = []
  heldBytes = 0
  /** A few messages of the past, for replays. */
  readonly past: PastMessage[] = []
  /** A few of those with which connections began. */
  readonly openings: PastMessage[] = []
  #connection: number = -1
  #sentOnIt = 0

  constructor(from: string, to: string) {
    this.from = from
    this.to = to
  }

  /** A message goes on its way. True: it belongs to the opening of its connection. */
  isOpening(connection: number): boolean {
    if (connection < this.#connection) return false
    if (connection > this.#connection) this.#sentOnIt = 0
    this.#connection = connection
    return ++this.#sentOnIt <= openingMessages
  }

  get faults(): LinkFaults {
    return this.#faults
  }

  /** What is on its way keeps its time; what comes now does not wait for it. */
  set faults(faults: LinkFaults) {
    this.#faults = faults
    this.lastArrivalMs = 0
    this.lastDepartureMs = 0
  }
}

export interface NetworkCounts {
  sent: number
  delivered: number
  dropped: number
  duplicated: number
  late: number
  replayed: number
  held: number
  connections: number
  resets: number
  halfOpen: number
}

/** The network, as its connections see it. */
export interface Wire {
  readonly clock: VirtualClock
  readonly prng: Prng
  readonly counts: NetworkCounts
  readonly halfOpenChance: number
  /** Whether a machine answers there. */
  isUp(site: string): boolean
  /** Takes something of the system's own over a link: never doubled, never overtaken; lost or held where it is cut. */
  carry(link: Link, arrive: () => void): void
  /** Sends a message on its way; `arrive` is called for every copy that gets there. */
  transmit(link: Link, connection: number, message: Message, arrive: (message: Message) => void): void
  /** A message has come to those that it was sent to. */
  delivered(link: Link, connection: number, message: Message): void
  closed(side: object): void
}
