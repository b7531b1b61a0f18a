// Elections: how the members of a group agree on a master. docs/protocol.md, section "Elections".
//
// Two phases. In the first a site that hears no master canvasses: it tells what it has, and learns what the others
// have. No term is raised, so a site that was merely cut off disturbs nobody: whoever hears the master says so. In the
// second the site that has the most asks for votes in a new term. A vote is on disk before it is told, is given once in
// a term, never against a master that is heard, and never to a log that is behind the voter's own. A majority of the
// members - not of those that answer - wins. So every record that a majority has is in the log of whoever wins.
//
// Two sites that go on alone (`TwoSites`) need no vote but their own while the other one is away. What both have is in
// the log of either. Each is elected so in its own half of the terms only: no term has two masters.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { CoterieError } from '../base/errors.ts'
import { noTerm, type Term } from '../base/lsn.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { type ElectionFailure, type ElectionOutcome, ignore, type StepResult, stepOk } from './effects.ts'
import type { Electorate, Pair } from './electorate.ts'
import type { Greetings } from './greetings.ts'
import type { Canvass, HeardMaster, Vote, VoteRequest } from './group-messages.ts'
import { messageLimits } from './message-limits.ts'
import { backOff, type Retry, startRetry } from './timings.ts'

export interface ElectionHooks {
  /** The master that this site hears; itself from the moment that it begins its reign. */
  heardMaster(): HeardMaster | undefined
  /** Its log and store are such that it could reign. */
  canReign(): boolean
  /** Ends whatever role the site has: a new term begins for it. */
  endRole(reason: string): void
}

/** What a member has to offer, or another has told of it. */
interface Standing {
  readonly last: RecordPlace
  readonly priority: number
  readonly tiebreak: number
  readonly term: Term
}

type Phase =
  /** A master is heard, or this site does not vote. */
  | 'content'
  | 'waiting'
  | 'canvassing'
  /** Another site has more, or has this site's vote: its turn. */
  | 'deferring'
  | 'voting'
  /** The driver has been told to begin the reign. */
  | 'elected'

export class Election {
  readonly #state: CoreState
  readonly #greetings: Greetings
  readonly #hooks: ElectionHooks
  /** 0: never to be elected. */
  priority: number
  readonly #electorate: Electorate
  readonly #isView: boolean
  /** A site that hears no master holds an election of its own accord. */
  readonly isAutomatic: boolean
  #phase: Phase = 'waiting'
  #dueAt: number
  /** The term that votes are asked for in, or that was won. */
  #term: Term = noTerm
  #round = 0
  #beganAt = 0
  #tiebreak = 0
  readonly #standings = new Map<string, Standing>()
  readonly #votes = new Set<string>()
  readonly #answered = new Set<string>()
  /** `hold` has begun it, and its outcome has not been told. */
  #isHeld = false
  #isHandover = false
  /** It asks for no vote but its own. */
  #isAlone = false
  /** It has given up a reign, or knows who takes it: for this one wait it is not there to be elected. */
  #abstains = false
  /** Sites that this one has made way for since a master was heard, and that did not become master. */
  readonly #passedOver = new Set<string>()
  #retry: Retry

  constructor(options: {
    readonly state: CoreState
    readonly greetings: Greetings
    readonly hooks: ElectionHooks
    readonly electorate: Electorate
    readonly priority: number
    /** It never votes. */
    readonly view: boolean
    /** A site that hears no master holds an election of its own accord; else `hold` begins each. */
    readonly automatic: boolean
  }) {
    this.#state = options.state
    this.#greetings = options.greetings
    this.#hooks = options.hooks
    this.priority = options.priority
    this.#electorate = options.electorate
    this.#isView = options.view
    this.isAutomatic = options.automatic
    if (!options.automatic) this.#phase = 'content'
    const { now, timings } = this.#state
    // Time to find a master that there is.
    this.#dueAt = now + timings.electionTimeoutMs
    this.#retry = startRetry(timings, now)
  }

  get isCandidate(): boolean {
    return this.#phase === 'canvassing' || this.#phase === 'voting' || this.#phase === 'elected'
  }

  /** The term that this site was elected in and has not begun to reign in. */
  get electedTerm(): Term | undefined {
    return this.#phase === 'elected' && this.#isTermOurs ? this.#term : undefined
  }

  /** False once another term has begun, or another site is master of this one: what was asked for counts for nothing. */
  get #isTermOurs(): boolean {
    const { term, termMaster, site } = this.#state
    return term === this.#term && (termMaster === undefined || termMaster === site)
  }

  // ---- time

  tick(): void {
    const { now } = this.#state
    if ((this.#phase === 'voting' || this.#phase === 'elected') && !this.#isTermOurs) this.#overtaken()
    if (this.#phase === 'elected') return
    const heard = this.#hooks.heardMaster()
    if (!this.#mayStand || heard !== undefined) {
      this.#phase = 'content'
      this.#passedOver.clear()
      if (heard !== undefined) this.#decidedBy(heard)
      else if (this.#isHeld) this.#failed('nobody-electable', 0)
      return
    }
    switch (this.#phase) {
      case 'content':
        if (!this.isAutomatic) return
        // The wait for the master is behind us; whether others still hear one, they will say.
        this.#tryRound()
        return
      case 'canvassing':
        this.#repeat(
          (site) => !this.#standings.has(site),
          () => this.#canvassMessage(),
        )
        this.#reviewRound()
        return
      case 'voting':
        this.#repeat(
          (site) => !this.#answered.has(site),
          () => this.#requestMessage(),
        )
        if (now >= this.#dueAt) this.#failed('no-votes', this.#votes.size)
        return
      case 'deferring':
        if (now >= this.#dueAt) this.#hasDeferred()
        return
      default:
        if (now >= this.#dueAt) this.#tryRound()
    }
  }

  /** The other one did not take its turn. */
  #hasDeferred(): void {
    if (this.isAutomatic) this.#tryRound()
    else this.#failed('deferred', 0)
  }

  /** Another term has begun: what this site has won or asked for in the old one counts for nothing. */
  #overtaken(): void {
    if (this.isAutomatic) this.#waitRandomly()
    else this.#failed('no-votes', 0)
  }

  get #mayStand(): boolean {
    return !this.#isView && this.#electorate.includesThisSite
  }

  #repeat(isAwaited: (site: string) => boolean, message: () => Canvass | VoteRequest): void {
    const { now, timings } = this.#state
    if (now < this.#retry.dueAt) return
    backOff(this.#retry, timings, now)
    for (const { site, peer } of this.#electorate.linked()) {
      if (isAwaited(site)) this.#state.send(peer, message())
    }
  }

  #waitRandomly(): void {
    const { now, timings } = this.#state
    const { electionTimeoutMs } = timings
    this.#phase = 'waiting'
    this.#dueAt = now + electionTimeoutMs / 2 + (this.#state.drawSession() % electionTimeoutMs)
  }

  #defer(): void {
    const { now, timings } = this.#state
    const { electionTimeoutMs } = timings
    // However often the others ask for votes, one that is held comes to an end.
    const goesOn = this.#phase === 'deferring' && this.#isHeld
    this.#phase = 'deferring'
    this.#abstains = false
    if (goesOn) return
    this.#dueAt = now + electionTimeoutMs + (this.#state.drawSession() % electionTimeoutMs)
  }

  #failed(reason: ElectionFailure, have: number): void {
    const need = this.#electorate.majority
    this.#state.event({ kind: 'electionFailed', reason, have, need })
    if (this.isAutomatic) this.#waitRandomly()
    else this.#phase = 'content'
    this.#decided({ kind: 'unavailable', reason, have, need })
  }

  #decided(outcome: ElectionOutcome): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.#state.event({ kind: 'electionDecided', outcome })
  }

  #decidedBy({ site, term }: HeardMaster): void {
    this.#decided({ kind: 'other', master: site, term })
  }

  /**
   * Another site names a master, or is it. Whoever has asked for an election is told so, and nothing of it goes on. One of
   * a lower term decides nothing any more once this site has voted: its word may be late.
   */
  masterFound(master: HeardMaster): void {
    if (!this.#isHeld || (this.#phase !== 'canvassing' && master.term < this.#state.term)) return
    this.#phase = 'content'
    this.#decidedBy(master)
  }

  /** Holds one election now, where the application asks for each; ends as `elected`, or with `electionDecided`. */
  hold(): void {
    if (this.isAutomatic) throw new CoterieError('INVALID_STATE', 'this group holds its elections itself')
    if ((this.#phase === 'voting' || this.#phase === 'elected') && !this.#isTermOurs) this.#overtaken()
    if (this.isCandidate) throw new CoterieError('INVALID_STATE', 'an election is under way')
    if (!this.#mayStand)
      throw new CoterieError('INVALID_STATE', 'a view, or a site without data, elects nobody')
    this.#abstains = false
    this.#isHeld = true
    if (this.#isPromised()) this.#failed('leased', 0)
    else this.#beginRound()
  }

  // ---- first phase: canvassing

  /** Begins a round as soon as this site may vote, if only for itself. */
  #tryRound(): void {
    if (this.#isPromised()) this.#waitForPromise()
    else this.#beginRound()
  }

  #waitForPromise(): void {
    this.#phase = 'waiting'
    this.#dueAt = this.#state.promise.until
  }

  #beginRound(): void {
    const state = this.#state
    const { now, timings } = state
    this.#phase = 'canvassing'
    this.#round = (this.#round + 1) >>> 0
    this.#beganAt = now
    this.#tiebreak = state.drawSession()
    this.#standings.clear()
    this.#retry = startRetry(timings, now)
    state.counters.elections++
    state.event({ kind: 'electionBegun', round: this.#round })
    for (const { peer } of this.#electorate.linked()) state.send(peer, this.#canvassMessage())
    this.#reviewRound()
  }

  /** `asked`: the round of the site that it answers to. */
  #canvassMessage(asked?: number): Canvass {
    const { databaseId, site, term, last } = this.#state
    assert(databaseId !== undefined, 'who canvasses or answers has the database')
    const answer = asked !== undefined
    const round = asked ?? this.#round
    const tiebreak = this.#tiebreak
    const priority = this.#offeredPriority
    return { type: 'canvass', session: 0, term, answer, databaseId, site, round, last, priority, tiebreak }
  }

  /** A lease that this site has granted to another holds, perhaps: it votes for nobody, itself included. */
  #isPromised(inMs = 0): boolean {
    const { promise, site, now } = this.#state
    return promise.binds(site, now + inMs)
  }

  get #offeredPriority(): number {
    // Nobody shall wait for a site that cannot stand for long.
    if (this.#isPromised(this.#state.timings.electionTimeoutMs)) return 0
    if (!this.#mayStand || (this.#abstains && this.#phase === 'deferring')) return 0
    return this.#hooks.canReign() ? this.priority : 0
  }

  canvass(canvass: Canvass, from: PeerId): StepResult {
    const state = this.#state
    const { membership } = state
    this.#greetings.heard(from)
    if (canvass.databaseId !== state.databaseId) return ignore('the canvass is of another database')
    if (membership?.removed.includes(canvass.site) === true) return ignore('the site was removed')
    if (this.#hooks.heardMaster() !== undefined) {
      // Not disturbed: the sender learns whom this site hears.
      if (!canvass.answer) this.#greetings.tell(from)
      return ignore('a master is heard')
    }
    if (this.#isView || !state.mayVote) return ignore('this site does not vote')
    if (canvass.answer && canvass.round !== this.#round) return ignore('the answer is to an earlier round')
    const isNews = this.#phase === 'content' && this.#mayStand
    if (isNews && !canvass.answer && this.isAutomatic) this.#tryRound()
    if (this.#phase === 'canvassing' && this.#electorate.includes(canvass.site)) {
      const { last, priority, tiebreak, term } = canvass
      this.#standings.set(canvass.site, { last, priority, tiebreak, term })
    }
    if (!canvass.answer) state.send(from, this.#canvassMessage(canvass.round))
    if (this.#phase === 'canvassing') this.#reviewRound()
    return isNews ? { kind: 'holdElection' } : stepOk
  }

  /** Goes on once all that can be reached have answered, or a majority has and the rest has had its time. */
  #reviewRound(): void {
    const { now, timings } = this.#state
    const have = this.#standings.size + 1
    const waitedMs = now - this.#beganAt
    const isWhole = this.#electorate.linked().every(({ site }) => this.#standings.has(site))
    const isEnough = have >= this.#electorate.majority
    const { pair } = this.#electorate
    if (isEnough && (isWhole || waitedMs >= timings.electionTimeoutMs / 2)) this.#endRound()
    else if (waitedMs < timings.electionTimeoutMs) return
    else if (pair !== undefined && !this.#greetings.wasHeard(pair.other, this.#beganAt)) this.#goAlone(pair)
    else this.#failed('no-majority', have)
  }

  /** The other one of two is away. */
  #goAlone(pair: Pair): void {
    if (this.#isPromised()) {
      if (this.isAutomatic) this.#waitForPromise()
      else this.#failed('leased', 1)
    } else if (this.#offeredPriority === 0) {
      this.#failed('nobody-electable', 1)
    } else {
      this.#reignAlone(pair)
    }
  }

  /** This site shall be master of two whatever the other one says: it has committed what that one would undo. */
  insist(): void {
    const { pair } = this.#electorate
    if (pair === undefined || !this.#mayStand || this.isCandidate) return
    if (this.priority > 0 && this.#hooks.canReign() && !this.#isPromised()) this.#reignAlone(pair)
  }

  #reignAlone({ remainder }: Pair): void {
    const next = this.#state.term + 1
    const term = (next % 2 === remainder ? next : next + 1) as Term
    if (term > messageLimits.termMax) this.#failed('nobody-electable', 1)
    else this.#askForVotes(term, { isAlone: true })
  }

  #endRound(): void {
    const { last, term, site } = this.#state
    const priority = this.#offeredPriority
    const own: Standing = { last, term, priority, tiebreak: this.#tiebreak }
    let best: [string, Standing] | undefined = priority > 0 ? [site, own] : undefined
    let highest = term
    for (const [other, standing] of this.#standings) {
      if (standing.term > highest) highest = standing.term
      // Who had its turn and did not take it, cut off from too many perhaps, stands in nobody's way.
      if (standing.priority === 0 || this.#passedOver.has(other)) continue
      if (best === undefined || compareStandings([other, standing], best) > 0) best = [other, standing]
    }
    // Terms are used up only by a broken peer; then nobody can be elected, but nothing else stops.
    if (best === undefined || highest >= messageLimits.termMax) {
      this.#failed('nobody-electable', this.#standings.size + 1)
    } else if (best[0] === site && this.#supporters < this.#electorate.majority) {
      // Those whose logs go further would refuse: no term is used up to be told so.
      this.#failed('nobody-electable', this.#supporters)
    } else if (best[0] === site && this.#isPromised()) {
      if (this.isAutomatic) this.#waitForPromise()
      else this.#failed('leased', this.#supporters)
    } else if (best[0] === site) {
      this.#askForVotes((highest + 1) as Term)
    } else {
      this.#passedOver.add(best[0])
      this.#defer()
    }
  }

  /** Members that answered, and this one, whose logs do not go further than the one here. */
  get #supporters(): number {
    let count = 1
    for (const { last } of this.#standings.values()) if (comparePlaces(this.#state.last, last) >= 0) count++
    return count
  }

  // ---- second phase: votes

  /** Also where the master has handed over: then `term` is given, and its vote with it if it is certain who it is. */
  #askForVotes(
    term: Term,
    options: { readonly given?: { readonly by: string | undefined }; readonly isAlone?: boolean } = {},
  ): void {
    const { given, isAlone = false } = options
    const state = this.#state
    const { now, timings } = state
    this.#hooks.endRole(`this site asks for votes in term ${term}`)
    this.#phase = 'voting'
    this.#dueAt = now + timings.electionTimeoutMs
    this.#retry = startRetry(timings, now)
    this.#isHandover = given !== undefined
    this.#isAlone = isAlone
    this.#votes.clear()
    this.#answered.clear()
    // On disk before the requests leave, and before this site counts its own vote: `persist` is a barrier.
    state.raiseTerm(term, undefined, state.site)
    this.#term = term
    this.#votes.add(state.site)
    if (given?.by !== undefined) this.#votes.add(given.by)
    for (const { site, peer } of isAlone ? [] : this.#electorate.linked()) {
      if (site !== given?.by) state.send(peer, this.#requestMessage())
    }
    this.#countVotes()
  }

  #requestMessage(): VoteRequest {
    const { databaseId, site, term, last } = this.#state
    assert(databaseId !== undefined, 'a member has a database')
    return { type: 'voteRequest', session: 0, term, databaseId, site, last, handover: this.#isHandover }
  }

  voteRequest(request: VoteRequest, from: PeerId): StepResult {
    const state = this.#state
    this.#greetings.heard(from)
    if (request.databaseId !== state.databaseId) return ignore('the request is of another database')
    if (this.#isView || !state.mayVote) return ignore('this site does not vote')
    const refusal = this.#whyNotVoteFor(request)
    if (refusal !== undefined) {
      state.counters.votesRefused++
      this.#sendVote(request, from, refusal)
      return ignore(refusal)
    }
    // Who gives the reign away has given up its lease. Else no answer: asked again, this site may be free to vote.
    if (!request.handover && state.promise.binds(request.site, state.now)) {
      return ignore('a lease that this site has granted may hold')
    }
    if (request.term > state.term) {
      this.#hooks.endRole(`site ${request.site} asks for votes in term ${request.term}`)
      state.raiseTerm(request.term, undefined, request.site)
    } else {
      state.castVote(request.site)
    }
    state.counters.votesGiven++
    state.event({ kind: 'voted', term: request.term, site: request.site })
    this.#sendVote(request, from, undefined)
    this.#defer()
    return stepOk
  }

  #whyNotVoteFor(request: VoteRequest): string | undefined {
    const { term, vote, termMaster, last, membership } = this.#state
    if (request.term < term) return `term ${request.term} is over`
    if (membership?.removed.includes(request.site) === true) return 'the site was removed'
    const heard = this.#hooks.heardMaster()
    const isSteppingDown = request.handover && heard?.site !== this.#state.site
    if (heard !== undefined && !isSteppingDown) return `site ${heard.site} is heard as master`
    if (request.term === term) {
      const chosen = vote ?? termMaster
      if (chosen !== undefined && chosen !== request.site) return `the vote of term ${term} is given`
    }
    if (comparePlaces(request.last, last) < 0) return `the log here goes further, to LSN ${last.lsn}`
    return undefined
  }

  #sendVote(request: VoteRequest, to: PeerId, refusal: string | undefined): void {
    const { databaseId, site, incarnation, term } = this.#state
    assert(databaseId !== undefined, 'a voter has a database')
    this.#state.send(to, {
      type: 'vote',
      session: 0,
      term,
      databaseId,
      site,
      incarnation,
      forTerm: request.term,
      granted: refusal === undefined,
      reason: refusal ?? '',
    })
  }

  vote(vote: Vote, from: PeerId): StepResult {
    const state = this.#state
    this.#greetings.heard(from)
    if (vote.databaseId !== state.databaseId) return ignore('the vote is of another database')
    if (this.#phase !== 'voting' || !this.#isTermOurs || vote.forTerm !== this.#term) {
      return ignore('no vote is asked for')
    }
    if (!this.#electorate.includes(vote.site, vote.incarnation)) {
      return ignore('the voter is no member')
    }
    this.#answered.add(vote.site)
    if (!vote.granted) return ignore(vote.reason)
    this.#votes.add(vote.site)
    this.#countVotes()
    return stepOk
  }

  #countVotes(): void {
    const state = this.#state
    let have = 0
    for (const site of this.#votes) if (this.#electorate.includes(site)) have++
    if (have < (this.#isAlone ? 1 : this.#electorate.majority)) return
    assert(this.#isTermOurs && state.vote === state.site, 'who is elected has voted for itself in that term')
    // It may have begun to look for another master meanwhile.
    this.#hooks.endRole(`this site is elected in term ${this.#term}`)
    this.#phase = 'elected'
    this.#isHeld = false
    state.counters.electionsWon++
    state.emit({ kind: 'elected', term: state.term, handover: this.#isHandover })
  }

  // ---- what others decide

  /** The master has handed over to this site, in a term of its choice. `by`: undefined where that is not certain. */
  handedOver(term: Term, by: string | undefined): void {
    this.#askForVotes(term, { given: { by } })
  }

  /** The reign has been given to another site, which shall have time to take it. */
  gaveAway(): void {
    this.#defer()
    this.#abstains = true
  }

  /** The reign has begun. */
  began(): void {
    const { site, term } = this.#state
    this.#phase = 'content'
    this.#decided({ kind: 'other', master: site, term })
  }

  /** The term has been raised from outside, or the reign that was won could not begin. */
  interrupted(): void {
    if (this.#phase === 'voting' || this.#phase === 'elected') this.#overtaken()
  }
}

/** Positive if `a` has more: newest last term, then LSN, then priority, then chance, then the id. */
function compareStandings(a: readonly [string, Standing], b: readonly [string, Standing]): number {
  const [siteA, x] = a
  const [siteB, y] = b
  return (
    comparePlaces(x.last, y.last) ||
    x.priority - y.priority ||
    x.tiebreak - y.tiebreak ||
    (siteA > siteB ? 1 : -1)
  )
}

/** Positive if the log that ends at `a` goes further than the one that ends at `b`. */
function comparePlaces(a: RecordPlace, b: RecordPlace): number {
  return a.term - b.term || a.lsn - b.lsn
}
