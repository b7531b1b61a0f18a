// Every wait and every bound of the core in one place. Waits are in milliseconds of the time that the driver passes
// in; the core never reads a clock, so a simulated day costs nothing.

export interface Timings {
  /** How often the driver should call `tick`. */
  readonly tickMs: number
  /** First wait before a Join, a gap request or a snapshot chunk is sent again; doubles each time ... */
  readonly retryMinMs: number
  /** ... up to this. */
  readonly retryMaxMs: number
  /** How often a master speaks when it has nothing to say. Told to the replica in Accept. */
  readonly heartbeatMs: number
  /** The other side is given up when nothing was heard of it for so long. */
  readonly silenceTimeoutMs: number
  /** A replica gives up joining when nobody answers for so long. */
  readonly initialTimeoutMs: number
  /** A replica that commits wait for is detached when it acknowledged nothing new for so long. */
  readonly ackTimeoutMs: number
  /** A replica that is heard but takes nothing is detached after so long, whatever the policy: it pins the log. */
  readonly stuckTimeoutMs: number
  /** Sent to one replica and not yet acknowledged as received: beyond it the replica catches up from the log. */
  readonly inflightBytesMax: number
  /** Asked of the log in one read for one replica. */
  readonly readBytesMax: number
  /** A replica acknowledges after so many bytes even where a window of n records is agreed. */
  readonly ackBytesMax: number
  /** Recently proposed records that are kept in memory, for all replicas together. */
  readonly recentBytesMax: number
  readonly recentBatchesMax: number
  /** Records that a replica holds because an earlier one is missing. */
  readonly heldBytesMax: number
  readonly heldBatchesMax: number
  /** Chunks of a snapshot sent and not yet stored. */
  readonly snapshotWindowBytesMax: number
  readonly snapshotWindowChunksMax: number
  /** A snapshot that makes no progress for so long fails. */
  readonly snapshotTimeoutMs: number
  /** A member that hears no master for so long looks for another; a master without a majority for so long steps down. */
  readonly electionTimeoutMs: number
  /** How often a site tells of itself on its links when nothing has changed. */
  readonly helloMs: number
  /** How long writes may wait for a hand-over before it is given up. */
  readonly handOverTimeoutMs: number
}

export const defaultTimings: Timings = {
  tickMs: 20,
  retryMinMs: 40,
  retryMaxMs: 1_280,
  heartbeatMs: 500,
  silenceTimeoutMs: 10_000,
  initialTimeoutMs: 60_000,
  ackTimeoutMs: 10_000,
  stuckTimeoutMs: 60_000,
  inflightBytesMax: 8 * 1_048_576,
  readBytesMax: 1_048_576,
  ackBytesMax: 1_048_576,
  recentBytesMax: 4 * 1_048_576,
  recentBatchesMax: 1_024,
  heldBytesMax: 4 * 1_048_576,
  heldBatchesMax: 1_024,
  snapshotWindowBytesMax: 4 * 1_048_576,
  snapshotWindowChunksMax: 64,
  snapshotTimeoutMs: 60_000,
  electionTimeoutMs: 300,
  helloMs: 1_000,
  handOverTimeoutMs: 5_000,
}

/** A wait that doubles: when the next try is due. */
export interface Retry {
  waitMs: number
  dueAt: number
}

export function startRetry(timings: Timings, now: number): Retry {
  return { waitMs: timings.retryMinMs, dueAt: now + timings.retryMinMs }
}

/** Notes that a try was just made. */
export function backOff(retry: Retry, timings: Timings, now: number): void {
  retry.waitMs = Math.min(retry.waitMs * 2, timings.retryMaxMs)
  retry.dueAt = now + retry.waitMs
}
