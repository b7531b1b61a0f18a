// Records: logs match, what is permanent stays, what was acknowledged is on enough disks and in every later master's
// log, and what was rolled back is in the report.

import { entryAt, type History } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import { majorityOf } from '../base/membership.ts'
import type { Operation } from './history.ts'
import { isPair, mayBeAlone } from './judge-pair.ts'
import { type LedgerRecord, rowSumOf } from './ledger.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'
import { databasePath, type SimSite } from './site.ts'
import type { Acknowledged } from './world.ts'

/** What a site says is durable is on its disk; and records of one term and LSN are one record. */
export class LogsAndDisks implements SiteJudge {
  readonly name = 'logs and disks'

  begin(bench: BenchView): void {
    bench.ledger.onMismatch = (a, b): void => {
      bench.violate(this, `two records of term ${a.term} at LSN ${a.lsn}: ${a.crc} and ${b.crc}`)
    }
  }

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    if (now.last.lsn > 0) bench.ledger.noteTerm(now.last)
    const isSettled = !isNew && now.durableLsn === before.durableLsn && now.generation === before.generation
    if (isSettled || now.durableLsn === 0) return
    const { lsn } = sight.disk.last
    if (lsn < now.durableLsn && !site.isSuspect) {
      bench.violate(this, `${site.name} says that LSN ${now.durableLsn} is durable, its disk has ${lsn}`)
    }
  }
}

/** Syncs after which damage can no longer be taken for a torn write: no sector that is lost has all of them. */
const syncsBetween = 16

/** Records that rotted are refused at the next start, never cut off in silence: the site would vote without them. */
export class DamageIsNotCutOff implements SiteJudge {
  readonly name = 'damage'
  /** The ends of the durable log after the last syncs, oldest first. */
  readonly #ends: Map<SimSite, number[]> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew, start } = sight
    const ends = this.#ends.get(site) ?? []
    const isSameData = now.generation === before.generation && now.incarnation === before.incarnation
    const isReopened = isNew && start > 1 && isSameData
    const synced = ends.length === syncsBetween ? (ends[0] as number) : 0
    const certain = Math.max(synced, site.endedAtLsn ?? 0)
    if (isReopened && now.last.lsn < certain) {
      bench.violate(this, `${site.name} had ${certain} records for certain, and opens with ${now.last.lsn}`)
    }
    if (isNew || !isSameData || now.durableLsn < before.durableLsn) {
      this.#ends.set(site, [now.durableLsn])
    } else if (now.durableLsn > before.durableLsn) {
      this.#ends.set(site, [...ends, now.durableLsn].slice(-syncsBetween))
    }
  }
}

/** The commit point only moves forward, and all sites have the same records up to it. */
export class NothingPermanentIsUndone implements SiteJudge {
  readonly name = 'permanent records'
  /** The highest LSN that each site ever knew to be permanent and had on its own disk. */
  readonly #permanent: Map<SimSite, number> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    if (site.isSuspect) return
    if (!isNew && now.generation === before.generation) {
      if (now.permanentLsn < before.permanentLsn) {
        bench.violate(
          this,
          `${site.name}: the permanent LSN fell from ${before.permanentLsn} to ${now.permanentLsn}`,
        )
      }
      // Of two sites one may have to take back what it has committed alone; that it does, and says so, is judged elsewhere.
      const isWhole = now.last.lsn >= before.committedLsn && !isPair(bench)
      if (now.committedLsn < before.committedLsn && isWhole) {
        bench.violate(
          this,
          `${site.name}: the committed LSN fell from ${before.committedLsn} to ${now.committedLsn} without a rewind`,
        )
      }
    }
    const known = this.#permanent.get(site) ?? 0
    if (now.generation > 0 && now.last.lsn < known && site.db?.site.core.databaseId !== undefined) {
      bench.violate(this, `${site.name}: the log ends at ${now.last.lsn}, and ${known} was permanent there`)
    }
    const kept = Math.min(now.permanentLsn, now.durableLsn)
    if (kept > known) this.#permanent.set(site, kept)
    if (isNew || now.permanentLsn > before.permanentLsn) this.#compare(sight, bench)
  }

  /** The last permanent record of the site is the permanent record of all. */
  #compare(sight: Sight, bench: BenchView): void {
    const { site, now } = sight
    const lsn = now.permanentLsn
    if (lsn === 0 || site.db === undefined) return
    const reign = entryAt(site.db.site.core.history, lsn as Lsn)
    if (reign === undefined) return
    const place = now.last.lsn === lsn ? now.last : bench.ledger.find(lsn, reign.term)?.place
    if (place === undefined) return
    const clash = bench.ledger.makePermanent(place)
    if (clash !== undefined) this.#clash(bench, site, place)
  }

  #clash(bench: BenchView, site: SimSite, place: { lsn: number; term: number; crc: number }): void {
    const crc = bench.ledger.permanentCrc(place.lsn)
    bench.violate(
      this,
      `${site.name}: LSN ${place.lsn} of term ${place.term} is permanent, and so is another one (${crc}, ${place.crc})`,
    )
  }

  afterEvent(bench: BenchView): void {
    const clash = bench.ledger.extend()
    if (clash === undefined) return
    bench.violate(this, `LSN ${clash.lsn} of term ${clash.term} does not follow what is permanent before it`)
  }
}

/** One reign, as its master began it. */
interface ReignBegun {
  readonly term: number
  readonly site: string
  readonly firstLsn: number
  readonly history: History
}

/**
 * What a client was told of is on a majority of disks, and in the log of every master after. Of two sites one that may go on
 * alone commits for itself while the other one is away: that may be undone, for good or until both have it.
 */
export class AcknowledgedStays implements SiteJudge {
  readonly name = 'acknowledged commits'
  #judged = 0
  readonly #reigns: ReignBegun[] = []
  /** The last acknowledged LSN of each term, by the term that it was certain in. */
  readonly #acknowledged: Map<string, { term: number; since: number; lsn: number }> = new Map()
  /** Of one site alone. */
  readonly #alone: Set<Acknowledged> = new Set()

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    if (now.reign === undefined || (now.reign === before.reign && !isNew)) return
    const { term } = now.reign
    const { history } = site.db?.site.core ?? { history: [] }
    const own = history.find((entry) => entry.term === term)
    const reign = { term, site: site.name, firstLsn: own?.firstLsn ?? now.last.lsn + 1, history }
    this.#reigns.push(reign)
    for (const known of this.#acknowledged.values()) {
      if (known.since < term) this.#judgeReign(bench, reign, known)
    }
  }

  #judgeReign(bench: BenchView, reign: ReignBegun, commit: { term: number; lsn: number }): void {
    const entry = entryAt(reign.history, commit.lsn as Lsn)
    const has = commit.lsn < reign.firstLsn && (entry === undefined || entry.term === commit.term)
    if (has) return
    bench.violate(
      this,
      `LSN ${commit.lsn} of term ${commit.term} was acknowledged, and ${reign.site}, master of term ${reign.term} from LSN ${reign.firstLsn} on, does not have it`,
    )
  }

  afterEvent(bench: BenchView): void {
    const { acknowledged } = bench.world
    for (let next = acknowledged[this.#judged]; next !== undefined; next = acknowledged[this.#judged]) {
      this.#judged++
      this.#judge(bench, next)
    }
  }

  #judge(bench: BenchView, commit: Acknowledged): void {
    const { lsn, term, operation } = commit
    // Told by its own master, it was certain in that term; by another site later, in some term up to the present one.
    const isFromMaster = operation.acks !== undefined
    const since = isFromMaster ? term : this.#reigns.reduce((most, reign) => Math.max(most, reign.term), term)
    const master = bench.world.site(operation.site)
    if (isFromMaster && master !== undefined && this.#isAlone(bench, master, commit)) {
      this.#alone.add(commit)
      return
    }
    const name = `${term}/${since}`
    if (lsn > (this.#acknowledged.get(name)?.lsn ?? 0)) this.#acknowledged.set(name, { term, since, lsn })
    for (const reign of this.#reigns) if (reign.term > since) this.#judgeReign(bench, reign, commit)
    const membership = master?.db?.site.core.membership
    const holders: string[] = []
    let counted = 0
    for (const [site, sight] of bench.sights) {
      if (!site.isMember) continue
      if (membership !== undefined && !membership.members.some((member) => member.site === site.name))
        continue
      counted++
      // Of a disk that was damaged or lost nothing can be asked.
      if (site.isSuspect || sight.disk.has(lsn, term)) holders.push(site.name)
    }
    const needed =
      membership === undefined ? Math.floor(bench.world.settings.sites / 2) + 1 : majorityOf(membership)
    if (holders.length >= needed) return
    bench.violate(
      this,
      `operation ${operation.id} was acknowledged at LSN ${lsn} of term ${term}; of ${counted} disks only those of [${holders}] have it, ${needed} must`,
    )
  }

  /** Of two sites: one that may go on alone has it on its disk, the other one does not, and does not follow in step. */
  #isAlone(bench: BenchView, site: SimSite, { lsn, term }: Acknowledged): boolean {
    if (!isPair(bench) || !mayBeAlone(bench, site)) return false
    if (site.db?.site.replicas.some(({ votes, inStep }) => votes && inStep) === true) return false
    for (const [each, { disk }] of bench.sights) if (disk.has(lsn, term) !== (each === site)) return false
    return true
  }

  atEnd(bench: BenchView): void {
    const { ledger, world } = bench
    for (const commit of world.acknowledged) {
      const { lsn, term, operation } = commit
      const record = ledger.permanentRecord(lsn)
      if (record === undefined && lsn > ledger.permanentLsn) continue
      if (record?.place.term !== term && this.#alone.has(commit)) continue
      if (record?.place.term !== term) {
        bench.violate(
          this,
          `operation ${operation.id} was acknowledged at LSN ${lsn} of term ${term}, where the record of term ${record?.place.term} is permanent`,
        )
        return
      }
      if (operation.kind === 'read' || writes(record, operation)) continue
      bench.violate(
        this,
        `the record of operation ${operation.id}, LSN ${lsn}, does not write ${operation.key}`,
      )
    }
  }
}

function writes(record: LedgerRecord, { key, value }: Operation): boolean {
  return record.writes.some(([rowKey, rowSum]) => {
    if (!rowKey.endsWith(key)) return false
    return rowSum === (value === undefined ? undefined : rowSumOf(rowKey, new TextEncoder().encode(value)))
  })
}

/** Transactions that were durable on a site and that the group has not kept are in that site's lost files. */
export class RolledBackIsReported implements SiteJudge {
  readonly name = 'rolled back transactions'

  atEnd(bench: BenchView): void {
    for (const [site, sight] of bench.sights) {
      if (site.isSuspect || site.state !== 'up') continue
      // Of a site that the rest has gone on without nobody knows yet what will be undone.
      if (sight.now.permanentLsn < bench.ledger.permanentLsn) continue
      this.#judge(bench, sight)
    }
  }

  #judge(bench: BenchView, sight: Sight): void {
    const { ledger } = bench
    let reported: Set<string> | undefined
    for (const place of sight.hadDurable.values()) {
      if (place.lsn > ledger.permanentLsn || ledger.permanentCrc(place.lsn) === place.crc) continue
      reported ??= lostOn(sight.site)
      if (reported.has(`${place.lsn}/${place.term}`)) continue
      bench.violate(
        this,
        `${sight.site.name} had LSN ${place.lsn} of term ${place.term} on its disk, which is not permanent, and reports it nowhere`,
      )
      return
    }
  }
}

function lostOn(site: SimSite): Set<string> {
  const lost = new Set<string>()
  const { disk } = site.machine
  const folder = `${databasePath}/lost/`
  for (const { path, bytes } of disk.paths()) {
    if (!path.startsWith(folder) || !path.endsWith('.ndjson')) continue
    const text = new TextDecoder().decode(disk.peek({ path, at: 0, length: bytes }))
    for (const line of text.split('\n')) {
      if (line === '') continue
      const { lsn, term } = JSON.parse(line) as { lsn: number; term: number }
      lost.add(`${lsn}/${term}`)
    }
  }
  return lost
}
