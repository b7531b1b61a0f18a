// Counters of the core, for statistics: nothing is dropped, repeated or refused without one of them moving.

export interface Counters {
  messagesIn: number
  messagesOut: number
  bytesIn: number
  bytesOut: number
  /** Malformed, or of an unknown version. */
  messagesInvalid: number
  /** Of a lower term. */
  messagesStale: number
  /** Of another session, or that fit no state. */
  messagesIgnored: number
  joins: number
  joinsRefused: number
  appendsSent: number
  appendsReceived: number
  recordsReceived: number
  /** Batches that were here already. */
  duplicates: number
  /** Batches that came before their time. */
  held: number
  /** Batches that came before their time and found no room. */
  heldDropped: number
  gapRequests: number
  /** Held batches that a repair let in. */
  gapsFilled: number
  /** Gap requests that a master answered. */
  repairs: number
  /** Gap requests that a replica answered in its master's place. */
  peerRepairs: number
  acksSent: number
  acksReceived: number
  heartbeats: number
  logReads: number
  snapshotsSent: number
  snapshotsReceived: number
  snapshotChunks: number
  snapshotChunksResent: number
  rewinds: number
  detachments: number
  stepDowns: number
  /** Rounds of canvassing that this site began. */
  elections: number
  electionsWon: number
  votesGiven: number
  votesRefused: number
  handOvers: number
}

export function zeroCounters(): Counters {
  return {
    messagesIn: 0,
    messagesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    messagesInvalid: 0,
    messagesStale: 0,
    messagesIgnored: 0,
    joins: 0,
    joinsRefused: 0,
    appendsSent: 0,
    appendsReceived: 0,
    recordsReceived: 0,
    duplicates: 0,
    held: 0,
    heldDropped: 0,
    gapRequests: 0,
    gapsFilled: 0,
    repairs: 0,
    peerRepairs: 0,
    acksSent: 0,
    acksReceived: 0,
    heartbeats: 0,
    logReads: 0,
    snapshotsSent: 0,
    snapshotsReceived: 0,
    snapshotChunks: 0,
    snapshotChunksResent: 0,
    rewinds: 0,
    detachments: 0,
    stepDowns: 0,
    elections: 0,
    electionsWon: 0,
    votesGiven: 0,
    votesRefused: 0,
    handOvers: 0,
  }
}
