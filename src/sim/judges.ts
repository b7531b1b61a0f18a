// The judges of a run: what must hold whatever breaks (docs/protocol.md and reliability, "Invariants"). Most look only
// at sites on which something has moved in the last event; what costs more is judged at the end.
//
// A judge that finds something says what, in words that stand by themselves, and the run ends there: the first fault is
// the one to look at. The judges keep state, so each run has its own.

import { NobodyBelowVotes, OnlyPermanentGoesBelow, PartialViewsKnowWhatTheyKeep } from './judge-below.ts'
import { HistoriesAreLinearisable, ReadsFollowTheLog } from './judge-clients.ts'
import {
  HeirsHaveEverything,
  LeasesExclude,
  LogIsKeptForReplicas,
  LonelyMastersStepDown,
  MastersCountTheirOwnTerm,
  MembersChangeOneAtATime,
  SitesStartAgain,
} from './judge-masters.ts'
import { BothKeepWhatBothHad, LoneMastersKeepApart, UndoneCommitsAreTold } from './judge-pair.ts'
import { QueuesAreBounded } from './judge-queues.ts'
import {
  AcknowledgedStays,
  DamageIsNotCutOff,
  LogsAndDisks,
  NothingPermanentIsUndone,
  RolledBackIsReported,
} from './judge-records.ts'
import { ReadersSeeAPrefix, RowsFollowTheLog } from './judge-rows.ts'
import { EndedSessionsAreIgnored } from './judge-sessions.ts'
import { OneMasterPerTerm, TermsAndVotes } from './judge-terms.ts'
import { Ledger } from './ledger.ts'
import { type BenchView, Sight, type SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'
import type { Judge, World } from './world.ts'

/** All judges, for one run. */
export function createJudges(): Judge[] {
  return [
    new Bench([
      new OneMasterPerTerm(),
      new TermsAndVotes(),
      new EndedSessionsAreIgnored(),
      new LogsAndDisks(),
      new DamageIsNotCutOff(),
      new NothingPermanentIsUndone(),
      new AcknowledgedStays(),
      new MastersCountTheirOwnTerm(),
      new MembersChangeOneAtATime(),
      new LonelyMastersStepDown(),
      new HeirsHaveEverything(),
      new LeasesExclude(),
      new LogIsKeptForReplicas(),
      new BothKeepWhatBothHad(),
      new LoneMastersKeepApart(),
      new UndoneCommitsAreTold(),
      new SitesStartAgain(),
      new OnlyPermanentGoesBelow(),
      new NobodyBelowVotes(),
      new PartialViewsKnowWhatTheyKeep(),
      new RowsFollowTheLog(),
      new ReadersSeeAPrefix(),
      new QueuesAreBounded(),
      new RolledBackIsReported(),
      new HistoriesAreLinearisable(),
      new ReadsFollowTheLog(),
    ]),
  ]
}

/** Looks once for all of its judges. */
export class Bench implements Judge {
  readonly name = 'bench'
  readonly ledger: Ledger = new Ledger()
  readonly sights: Map<SimSite, Sight> = new Map()
  readonly #judges: readonly SiteJudge[]
  /** Those that look after every event: few. */
  readonly #watchful: readonly SiteJudge[]
  #isOpen: boolean = false

  constructor(judges: readonly SiteJudge[]) {
    this.#judges = judges
    this.#watchful = judges.filter((judge) => judge.afterEvent !== undefined)
  }

  afterEvent(world: World): void {
    const view = this.#viewOf(world)
    if (!this.#isOpen) this.#open(view)
    for (const site of world.touched) {
      const sight = this.#sightOf(site)
      if (!sight.look() || !sight.isOpen) continue
      this.#each(this.#judges, view, (judge) => judge.moved?.(sight, view))
    }
    this.#each(this.#watchful, view, (judge) => judge.afterEvent?.(view))
  }

  /** What the code under test throws at a judge it throws at its users too. */
  #each(judges: readonly SiteJudge[], view: BenchView, look: (judge: SiteJudge) => void): void {
    for (const judge of judges) {
      try {
        look(judge)
      } catch (error) {
        view.violate(judge, `threw ${(error as Error).stack ?? String(error)}`)
      }
    }
  }

  atEnd(world: World): void {
    const view = this.#viewOf(world)
    for (const site of world.sites) this.#sightOf(site).disk.readOn()
    this.#each(this.#judges, view, (judge) => judge.atEnd?.(view))
  }

  #open(view: BenchView): void {
    this.#isOpen = true
    for (const { keptStores } of view.world.sites) if (keptStores !== undefined) this.ledger.watch(keptStores)
    for (const judge of this.#judges) judge.begin?.(view)
  }

  #sightOf(site: SimSite): Sight {
    let sight = this.sights.get(site)
    if (sight === undefined) {
      sight = new Sight(site, this.ledger)
      this.sights.set(site, sight)
    }
    return sight
  }

  #view: BenchView | undefined

  #viewOf(world: World): BenchView {
    if (this.#view?.world !== world) {
      const { ledger, sights } = this
      this.#view = { world, ledger, sights, violate: (judge, message) => world.violate(judge.name, message) }
    }
    return this.#view
  }
}
