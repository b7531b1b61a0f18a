// How fast a connection sends. Pure: it is told what reports say and what time it is.
//
// The signal is delay, not loss. The replication core and the fragments repair loss, and 20 % of it on a bad link says
// nothing about how much the link carries: a controller that halves at each loss, as TCP's, sends next to nothing
// there. What a full link does show is a queue: the way takes longer than the shortest time seen. So, in intervals of a
// round trip (20 ms at least), by the *shortest* round trip of each interval - one slow turn of an event loop is no
// queue -
//
//   - it grows while the queue is short: by 40 % at first, later by a fixed step in each interval, and by more of
//     them the longer no queue is seen;
//   - it falls by 30 % (on a long way by 40 %) when the queue is longer than 20 ms in two intervals; or when loss comes
//     *with* a queue and is above what was seen without one (a short buffer overflows before it is 20 ms long); or when
//     more than 33 % is lost whatever the delay, which no link that is worth having does;
//   - it never falls below 64 KiB/s, and never grows beyond twice what has really arrived.
//
// Additive growth and multiplicative decrease on a signal that all who share a queue see is what makes them equal (Chiu
// and Jain, 1989). How soon depends on how deep and how often they fall, and on where they begin: so the start is gentle
// and ends at the first sign of a queue, for of two that start together the one that doubles once more than the other has
// twice its rate, and fills the queue that makes the other fall. BBR treats loss as noise as well, but its model needs the delivery rate over many round trips, which
// on a loopback in an event loop measures the event loop. docs/udp.md has what was measured.
//
// How it fails: a path whose delay grows for other reasons (a wireless link) is used below what it carries; and loss
// above a third of all datagrams drives it to its floor.

export const pacing = {
  startBytesPerSecond: 1_000_000,
  minBytesPerSecond: 65_536,
  maxBytesPerSecond: 400_000_000,
  intervalMsMin: 20,
  queueMsMax: 20,
  /** At the start, when the queue of the last step is not yet seen in full. */
  queueMsStart: 10,
  /** A queue that a busy event loop does not explain. */
  queueMsNoticed: 6,
  /** No queue at all: what is lost now is lost by the link. */
  queueMsNone: 3,
  lossNoiseMax: 0.33,
  /** Over so many datagrams. */
  lossJudged: 300,
  /** Above the loss that was seen without a queue ... */
  lossExcess: 0.04,
  /** ... and so many standard deviations of it: of few datagrams a bad link loses more than its share by chance. */
  lossDeviations: 3,
  overflowJudged: 50,
  decrease: 0.7,
  /** Where the shortest round trip is longer than this. Falls are rarer there, so each must do more to make equal. */
  farMs: 25,
  decreaseFar: 0.6,
  startGrowth: 1.4,
  /** In bytes a second, for each interval. */
  step: 24_000,
  /** The step grows as long as no queue is seen: by itself after so many intervals, up to so many times. */
  hasteAfter: 2,
  hasteMax: 30,
  /** The shortest round trip is forgotten after once to twice this: paths change. */
  baseMs: 10_000,
  /** Intervals in which the growth of the start may bring nothing. */
  startBoundMax: 5,
  /** The shortest round trip was not seen for so long: so little may be under way then, for two round trips. */
  drainAfterMs: 2000,
  drainBytes: 4800,
  /** Over how many datagrams loss is averaged. */
  lossMemory: 300,
  /** Tokens gather for so long at most. */
  bucketMs: 4,
  bucketBytesMin: 6000,
  /** What may be under way whatever the rate. */
  flightBytesMin: 38_400,
  /** Reports come so late at most, and half of it is the pacing's own jitter. */
  flightSlackMs: 20,
} as const

export interface PacerReport {
  readonly nowMs: number
  readonly roundTripMs: number | undefined
  readonly arrivedBytes: number
  readonly arrived: number
  readonly lost: number
}

export class Pacer {
  #rate: number = pacing.startBytesPerSecond
  #isStarting = true
  #tokens: number = pacing.bucketBytesMin
  #tokensAtMs: number
  #smoothedMs: number | undefined
  #baseMs: number | undefined
  #nextBaseMs: number | undefined
  #baseTurnsAtMs: number
  // This interval.
  #beganMs: number
  #shortestMs: number | undefined
  #intervalBytes = 0
  #arrived = 0
  #lost = 0
  #wasHeldBack = false
  #wasFull = false
  /** In the interval before. */
  #queueMs = 0
  #clearIntervals = 0
  #boundIntervals = 0
  #baseSeenMs: number
  #drainsUntilMs: number | undefined
  #restsUntilMs = 0
  // While there is a queue, since the last judgement.
  #queuedArrived = 0
  #queuedLost = 0
  // Since the last judgement of loss alone.
  #judgedArrived = 0
  #judgedLost = 0
  #lossShare = 0
  #lossNoise = 0
  #arrivalRate = 0

  constructor(nowMs: number) {
    this.#tokensAtMs = nowMs
    this.#beganMs = nowMs
    this.#baseTurnsAtMs = nowMs + pacing.baseMs
    this.#baseSeenMs = nowMs
  }

  get bytesPerSecond(): number {
    return this.#rate
  }

  /** Of the round trip; 50 before anything is known. */
  get smoothedMs(): number {
    return this.#smoothedMs ?? 50
  }

  get lossShare(): number {
    return this.#lossShare
  }

  /** What may be under way: what the link holds in its shortest round trip, twice, and what waits for a report. */
  get flightBytesMax(): number {
    if (this.#drainsUntilMs !== undefined) return pacing.drainBytes
    const ms = 2 * (this.#baseMs ?? 50) + pacing.flightSlackMs
    return Math.max(pacing.flightBytesMin, (this.#rate * ms) / 1000)
  }

  /** What the link holds of this flow in one round trip: by what arrives, so that who has more does not keep it. */
  get pathBytes(): number {
    const rate = this.#isStarting ? this.#rate : Math.min(this.#rate, this.#arriving)
    return (rate * 1.25 * (this.#baseMs ?? 50)) / 1000
  }

  /** Milliseconds until a datagram may leave; 0: now. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs)
    return this.#tokens >= 0 ? 0 : (-this.#tokens * 1000) / this.#rate
  }

  /** Debt is allowed: what must leave at once delays what follows. */
  sent(bytes: number, nowMs: number): void {
    this.#refill(nowMs)
    this.#tokens -= bytes
  }

  /** More was waiting than was let out: only then does the rate mean anything. */
  heldBack(): void {
    this.#wasHeldBack = true
  }

  reported(report: PacerReport): void {
    const { nowMs, roundTripMs } = report
    if (roundTripMs !== undefined) this.#addRoundTrip(roundTripMs, nowMs)
    this.#intervalBytes += report.arrivedBytes
    this.#arrived += report.arrived
    this.#lost += report.lost
    const count = report.arrived + report.lost
    if (count > 0) {
      const weight = Math.min(1, count / pacing.lossMemory)
      this.#lossShare += (report.lost / count - this.#lossShare) * weight
    }
    if (this.#isDraining(nowMs)) return
    const intervalMs = Math.max(pacing.intervalMsMin, this.smoothedMs)
    if (nowMs - this.#beganMs >= intervalMs && this.#shortestMs !== undefined) this.#endInterval(nowMs)
  }

  /** No report came although something is under way: the link may be gone. */
  unanswered(): void {
    this.#lower(0.5)
    this.#isStarting = false
    this.#drainsUntilMs = undefined
  }

  /**
   * Where the shortest round trip was not seen again for long, a queue may have been taken for it - by who came when it
   * was there already, above all. To let go for a moment shows it, to this flow and to all others.
   */
  #isDraining(nowMs: number): boolean {
    if (this.#drainsUntilMs === undefined) {
      if (nowMs - this.#baseSeenMs < pacing.drainAfterMs || !this.#wasHeldBack) return false
      this.#drainsUntilMs = nowMs + 2 * this.smoothedMs + pacing.intervalMsMin
      return true
    }
    if (nowMs < this.#drainsUntilMs) return true
    this.#drainsUntilMs = undefined
    this.#baseSeenMs = nowMs
    this.#beginInterval(nowMs)
    return false
  }

  #endInterval(nowMs: number): void {
    const queueMs = (this.#shortestMs ?? 0) - (this.#baseMs ?? 0)
    const seconds = (nowMs - this.#beganMs) / 1000
    const rate = this.#intervalBytes / seconds
    this.#arrivalRate = Math.max(rate, this.#arrivalRate * 0.9 + rate * 0.1)
    const count = this.#arrived + this.#lost
    const share = count === 0 ? 0 : this.#lost / count
    const hasQueue = queueMs > pacing.queueMsNoticed
    if (queueMs < pacing.queueMsNone) this.#learnNoise(share, count)
    this.#judgedArrived += this.#arrived
    this.#judgedLost += this.#lost
    const overflows = this.#overflows(hasQueue)
    const isFull = queueMs > pacing.queueMsMax || overflows || this.#losesTooMuch()
    // One bad interval may be a slow turn of an event loop, here or there; two are a queue.
    if (overflows || (isFull && this.#wasFull) || this.#hasStarted(queueMs))
      this.#fall(nowMs, hasQueue ? rate : this.#rate)
    else if (!isFull && nowMs >= this.#restsUntilMs && this.#wasHeldBack) this.#grow()
    this.#wasFull = isFull
    this.#queueMs = queueMs
    if (hasQueue) this.#clearIntervals = 0
    // Who has little to send does not find out whether the link carries more.
    else if (this.#wasHeldBack) this.#clearIntervals++
    this.#beginInterval(nowMs)
  }

  #beginInterval(nowMs: number): void {
    this.#beganMs = nowMs
    this.#shortestMs = undefined
    this.#intervalBytes = 0
    this.#arrived = 0
    this.#lost = 0
    this.#wasHeldBack = false
  }

  /**
   * The growth of the start has reached what the link carries: a queue, and it did not come from nowhere. Who has little
   * to send makes none, and must not take what arrives of that little for what the link carries.
   */
  #hasStarted(queueMs: number): boolean {
    return (
      this.#isStarting &&
      this.#wasHeldBack &&
      queueMs > pacing.queueMsStart &&
      this.#queueMs > pacing.queueMsNone
    )
  }

  /** Down at once and up slowly, or the loss of a short full queue would pass for the link's own. */
  #learnNoise(share: number, count: number): void {
    const weight = Math.min(1, count / pacing.lossMemory)
    const isRising = share > this.#lossNoise && !this.#isStarting
    this.#lossNoise += (share - this.#lossNoise) * (isRising ? weight / 8 : weight)
  }

  /** Loss beyond the link's own, while there is a queue: the queue has no more room. */
  #overflows(hasQueue: boolean): boolean {
    this.#queuedArrived = hasQueue ? this.#queuedArrived + this.#arrived : 0
    this.#queuedLost = hasQueue ? this.#queuedLost + this.#lost : 0
    const count = this.#queuedArrived + this.#queuedLost
    if (count < pacing.overflowJudged) return false
    const share = this.#queuedLost / count
    this.#queuedArrived = 0
    this.#queuedLost = 0
    const deviation = Math.sqrt((this.#lossNoise * (1 - this.#lossNoise)) / count)
    return share > this.#lossNoise + pacing.lossExcess + pacing.lossDeviations * deviation
  }

  /** Judged over enough datagrams that a bad link is not mistaken for a full one. */
  #losesTooMuch(): boolean {
    const count = this.#judgedArrived + this.#judgedLost
    if (count < pacing.lossJudged) return false
    const share = this.#judgedLost / count
    this.#judgedArrived = 0
    this.#judgedLost = 0
    return share > pacing.lossNoiseMax
  }

  #fall(nowMs: number, arrivalRate: number): void {
    if (nowMs < this.#restsUntilMs) return
    if (this.#isStarting) {
      // What arrived is what the link carries; the growth went beyond it.
      this.#isStarting = false
      this.#rate = Math.max(pacing.minBytesPerSecond, Math.min(this.#rate, arrivalRate * 1.1))
    }
    this.#lower((this.#baseMs ?? 0) > pacing.farMs ? pacing.decreaseFar : pacing.decrease)
    this.#judgedArrived = 0
    this.#judgedLost = 0
    // The queue that is there must drain before the next one means anything.
    this.#restsUntilMs = nowMs + 2 * this.smoothedMs + pacing.intervalMsMin
  }

  #grow(): void {
    const haste = Math.min(pacing.hasteMax, 1 + this.#clearIntervals / pacing.hasteAfter)
    const grown = this.#isStarting ? this.#rate * pacing.startGrowth : this.#rate + pacing.step * haste
    const bound = Math.min(pacing.maxBytesPerSecond, Math.max(2 * this.#arriving, pacing.startBytesPerSecond))
    this.#rate = Math.max(this.#rate, Math.min(grown, bound))
    // Growth that brings no more through is over, queue or not: something else holds it back.
    if (grown > bound) this.#boundIntervals++
    if (this.#boundIntervals >= pacing.startBoundMax) this.#isStarting = false
  }

  /** What was sent a second of which so much arrived. */
  get #arriving(): number {
    return this.#arrivalRate / (1 - Math.min(0.5, this.#lossShare))
  }

  #lower(factor: number): void {
    this.#rate = Math.max(pacing.minBytesPerSecond, this.#rate * factor)
  }

  #addRoundTrip(roundTripMs: number, nowMs: number): void {
    this.#smoothedMs =
      this.#smoothedMs === undefined ? roundTripMs : this.#smoothedMs + (roundTripMs - this.#smoothedMs) / 8
    this.#shortestMs = Math.min(this.#shortestMs ?? roundTripMs, roundTripMs)
    this.#baseMs = Math.min(this.#baseMs ?? roundTripMs, roundTripMs)
    if (roundTripMs <= this.#baseMs * 1.1 + 1) this.#baseSeenMs = nowMs
    this.#nextBaseMs = Math.min(this.#nextBaseMs ?? roundTripMs, roundTripMs)
    if (nowMs < this.#baseTurnsAtMs) return
    this.#baseMs = this.#nextBaseMs
    this.#nextBaseMs = undefined
    this.#baseTurnsAtMs = nowMs + pacing.baseMs
  }

  #refill(nowMs: number): void {
    const gained = (this.#rate * (nowMs - this.#tokensAtMs)) / 1000
    const most = Math.max(pacing.bucketBytesMin, (this.#rate * pacing.bucketMs) / 1000)
    this.#tokens = Math.min(most, this.#tokens + gained)
    this.#tokensAtMs = nowMs
  }
}
