// Two sites of which one goes on alone while the other one is away: each does so in its own half of the terms, and only
// once both have the record that lets it; what both disks had at one time stays on both; and what one of them has to take
// back, it tells.
//
// What both have is read from the two disks, by place and term, and not taken from what a site calls permanent: so it is
// more than that, and known before it.

import { entryAt, type History } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import { mayGoOnAlone, preferredMasterOf } from '../base/membership.ts'
import { decodeMessage, messageTypeOf } from '../replication/message-codec.ts'
import type { Place } from './history.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'

export function isPair(bench: BenchView): boolean {
  return bench.world.settings.kind === 'pair'
}

/** The other one of the two. */
function otherOf(bench: BenchView, site: SimSite): Sight | undefined {
  for (const sight of bench.sights.values()) if (sight.site !== site) return sight
  return undefined
}

/**
 * Whether the record that names the members here lets one of two go on alone, and is on both disks. Before it is, the
 * other one may be a group by itself, or a strict one.
 */
export function mayBeAlone(bench: BenchView, site: SimSite): boolean {
  const core = site.db?.site.core
  const membership = core?.membership
  if (core === undefined || membership === undefined || !mayGoOnAlone(membership)) return false
  const reign = entryAt(core.history, membership.lsn)
  // So old that nobody keeps when it was written: both have long had it.
  if (reign === undefined) return true
  for (const sight of bench.sights.values()) if (!sight.disk.has(membership.lsn, reign.term)) return false
  return true
}

/** Of two logs the last record that both have. */
export function agreedPlace(
  one: { readonly last: Lsn; readonly history: History },
  other: { readonly last: Lsn; readonly history: History },
): Place | undefined {
  let lsn = Math.min(one.last, other.last) as Lsn
  while (lsn > 0) {
    const a = entryAt(one.history, lsn)
    const b = entryAt(other.history, lsn)
    if (a === undefined || b === undefined) return undefined
    if (a.term === b.term) return { lsn, term: a.term }
    lsn = (Math.max(a.firstLsn, b.firstLsn) - 1) as Lsn
  }
  return undefined
}

/** What both disks have now. */
function agreedOnDisk(bench: BenchView): Place | undefined {
  const [one, other] = [...bench.sights.values()].map(({ disk }) => ({
    last: disk.last.lsn,
    history: disk.history,
  }))
  return one && other && agreedPlace(one, other)
}

/** What both disks had at one time is on both for ever: whoever reigns has it, and nobody is told to undo it. */
export class BothKeepWhatBothHad implements SiteJudge {
  readonly name = 'what both had'
  #agreed: Place | undefined

  moved(sight: Sight, bench: BenchView): void {
    const { now, before, isNew, site } = sight
    const other = otherOf(bench, site)
    const isSame = now.durableLsn === before.durableLsn && now.generation === before.generation
    if (!isPair(bench) || other === undefined || (isSame && !isNew)) return
    const known = this.#agreed
    if (known !== undefined) {
      for (const each of [sight, other]) {
        if (each.disk.has(known.lsn, known.term)) continue
        bench.violate(
          this,
          `both had LSN ${known.lsn} of term ${known.term}, and the disk of ${each.site.name} ends at ${each.disk.last.lsn} without it`,
        )
        return
      }
    }
    const agreed = agreedOnDisk(bench)
    if (agreed !== undefined && agreed.lsn > (known?.lsn ?? 0)) this.#agreed = agreed
  }
}

/** By these the other one is heard. */
const ofGroups: ReadonlySet<string | undefined> = new Set(['hello', 'canvass', 'voteRequest', 'vote'])

/** A site has raised its term: how it stood then. */
interface Raised {
  readonly term: number
  readonly heardAgoMs: number
  /** It has committed what the other one lacks, and is the one that is to reign. */
  readonly mayInsist: boolean
}

/**
 * Who reigns without the other one's vote does it in its own half of the terms, when both know that it may, and only while
 * the other one is away; or as the preferred one, which has committed what the other one lacks.
 */
export class LoneMastersKeepApart implements SiteJudge {
  readonly name = 'lone masters'
  /** Whom the other one has given its vote, or the reign itself, by term. */
  readonly #pledged: Map<number, string> = new Map()
  /** By connection and site. */
  readonly #heardAt: Map<string, number> = new Map()
  readonly #raised: Map<SimSite, Raised> = new Map()

  begin(bench: BenchView): void {
    if (!isPair(bench)) return
    const { world } = bench
    world.network.observers.push({
      delivered: (link, message, connection): void => {
        if (!ofGroups.has(messageTypeOf(message.control))) return
        this.#heardAt.set(`${connection}/${link.to}`, world.nowMs)
      },
      sent: (link, message): void => {
        const type = messageTypeOf(message.control)
        if (type !== 'vote' && type !== 'handover') return
        const decoded = decodeMessage(message.control)
        if (!decoded.ok) return
        const sent = decoded.message
        if (sent.type === 'vote' && sent.granted) this.#pledged.set(sent.forTerm, link.to)
        if (sent.type === 'handover') this.#pledged.set(sent.term, link.to)
      },
    })
  }

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    if (!isPair(bench)) return
    if (!isNew && now.term > before.term) this.#noteRaised(sight, bench)
    if (now.reign === undefined || (now.reign === before.reign && !isNew)) return
    const { term } = now.reign
    const raised = this.#raised.get(site)
    const members = site.db?.site.core.membership?.members ?? []
    const other = members.find((member) => member.site !== site.name)
    // The one that founds the group is alone for a moment, and needs no other one's vote.
    if (other === undefined || this.#pledged.get(term) === site.name) return
    const half = site.name < other.site ? 0 : 1
    if (term % 2 !== half) {
      bench.violate(
        this,
        `${site.name} reigns in term ${term} without the vote of ${other.site}, whose term it is`,
      )
    } else if (!mayBeAlone(bench, site)) {
      bench.violate(
        this,
        `${site.name} reigns in term ${term} without the vote of ${other.site}, and that it may is not on both disks`,
      )
    } else if (raised?.term === term && !raised.mayInsist && isHeard(raised, bench)) {
      const heardAgoMs = Math.round(raised.heardAgoMs)
      bench.violate(
        this,
        `${site.name} reigns in term ${term} without the vote of ${other.site}, which it had heard ${heardAgoMs} ms before`,
      )
    }
  }

  /** Over a connection that is still there: one that flaps is away. */
  #lastHeardAt({ world }: BenchView, site: SimSite): number {
    let at = Number.NEGATIVE_INFINITY
    for (const side of world.network.sides) {
      if (side.link.from !== site.name) continue
      at = Math.max(at, this.#heardAt.get(`${side.number}/${site.name}`) ?? at)
    }
    return at
  }

  #noteRaised({ site, now }: Sight, bench: BenchView): void {
    const isPreferred = preferredMasterOf(site.db?.site.core.membership) === site.name
    this.#raised.set(site, {
      term: now.term,
      heardAgoMs: bench.world.nowMs - this.#lastHeardAt(bench, site),
      mayInsist: isPreferred && now.committedLsn > (agreedOnDisk(bench)?.lsn ?? 0),
    })
  }
}

/** A round takes an election timeout, and clocks differ. */
function isHeard({ heardAgoMs }: Raised, bench: BenchView): boolean {
  return heardAgoMs < bench.world.settings.electionTimeoutMs / 2
}

/** How long a site may take to say that it has taken back what it had committed. */
const tellingMsMax = 5000

interface Undone {
  readonly sight: Sight
  readonly start: number
  readonly to: number
  readonly untilMs: number
}

/** Commits are taken back by one of two that was alone, aloud; and never by the preferred one for those of the other one. */
export class UndoneCommitsAreTold implements SiteJudge {
  readonly name = 'undone commits'
  #waiting: Undone[] = []
  /** Which site was to be master, as each site last knew and both had on their disks. */
  readonly #preferred: Map<SimSite, string | undefined> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    if (!isPair(bench)) return
    const { site, now, before, isNew, start } = sight
    const preferred = this.#preferred.get(site)
    const isSettled = mayBeAlone(bench, site)
    this.#preferred.set(site, isSettled ? preferredMasterOf(site.db?.site.core.membership) : undefined)
    // It counts for nothing any more before it goes from the log.
    const to = now.committedLsn
    if (isNew || now.generation !== before.generation || to >= before.committedLsn) return
    if (preferred === site.name) {
      bench.violate(
        this,
        `${site.name}, the preferred master, took back what it had committed after LSN ${to}`,
      )
    }
    this.#waiting.push({ sight, start, to, untilMs: bench.world.nowMs + tellingMsMax })
  }

  afterEvent(bench: BenchView): void {
    if (this.#waiting.length === 0) return
    const { nowMs, rewound } = bench.world
    this.#waiting = this.#waiting.filter(({ sight, start, to, untilMs }) => {
      // A process that has ended tells nothing any more; the file does.
      if (!sight.isOpen || sight.start !== start) return false
      const { name, isAwake } = sight.site
      if (rewound.some((each) => each.site === name && each.start === start && each.to === to)) return false
      if (nowMs < untilMs || !isAwake) return true
      bench.violate(this, `${name} took back what it had committed after LSN ${to}, and told nobody`)
      return false
    })
  }
}
