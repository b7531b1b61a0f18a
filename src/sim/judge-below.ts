// Sites that are no members, views among them: what goes below is permanent, and on the disk of whoever passes it on; what
// is below is undone only where it stands where something permanent does; nobody below votes, reigns or is a member; and a
// partial view has told its disk which stores it keeps before it has a row of one. (docs/protocol.md, section 13, and
// docs/views.md.) That all copies are equal in the end the others judge.

import type { RecordPlace } from '../base/batch.ts'
import { entryAt, type History } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import { splitWholeKey } from '../database/key-space.ts'
import { isSystemKey } from '../database/system-keys.ts'
import { RecordChecker } from '../log/record-checker.ts'
import { decodeMessage, messageTypeOf } from '../replication/message-codec.ts'
import type { Accept, Append, Join, MessageType } from '../replication/messages.ts'
import { keyBytes } from '../store/key-text.ts'
import type { Message } from './network-link.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'

/** What members say to each other, and nobody else does. */
const ofMembers: ReadonlySet<MessageType | undefined> = new Set([
  'vote',
  'voteRequest',
  'canvass',
  'handover',
])
const ofServers: ReadonlySet<MessageType | undefined> = new Set(['append', 'accept', 'snapshotBegin'])

/** Invariant 22, by what a site that is no member sends. */
export class OnlyPermanentGoesBelow implements SiteJudge {
  readonly name = 'what goes below'
  /** How far each master has called its log permanent, by term. The ledger asks no site whose disk was damaged. */
  readonly #told: Map<number, { readonly lsn: Lsn; readonly history: History }> = new Map()

  /** By session: what was said of a log when it asked to be let in. An old Join may come again. */
  readonly #joins: Map<number, Join> = new Map()

  begin(bench: BenchView): void {
    const { world } = bench
    world.network.observers.push({
      sent: (link, message): void => {
        const site = world.site(link.from)
        if (messageTypeOf(message.control) === 'join') this.#noteJoin(message)
        else if (site?.db?.site.core.isServingInTurn === true)
          this.#sent(bench, { site, to: link.to, message })
      },
    })
  }

  #noteJoin(message: Message): void {
    const decoded = decodeMessage(message.control)
    if (decoded.ok && decoded.message.type === 'join') {
      this.#joins.set(decoded.message.session, decoded.message)
    }
  }

  moved(sight: Sight): void {
    const { now, before, isNew, site } = sight
    if (now.reign === undefined || (!isNew && now.permanentLsn === before.permanentLsn)) return
    const history = site.db?.site.core.history ?? []
    this.#told.set(now.reign.term, { lsn: now.permanentLsn as Lsn, history })
  }

  #isPermanent(bench: BenchView, place: RecordPlace): boolean {
    const known = bench.ledger.permanentCrc(place.lsn)
    if (known !== undefined) return known === place.crc
    return [...this.#told.values()].some(
      ({ lsn, history }) => lsn >= place.lsn && entryAt(history, place.lsn)?.term === place.term,
    )
  }

  #sent(bench: BenchView, sending: { site: SimSite; to: string; message: Message }): void {
    const { site, to, message } = sending
    if (!ofServers.has(messageTypeOf(message.control))) return
    const decoded = decodeMessage(message.control)
    if (!decoded.ok) return
    const sent = decoded.message
    if (sent.type === 'append') this.#judgePlace(bench, site, lastOf(site, sent, message.payload))
    else if (sent.type === 'snapshotBegin') this.#judgePlace(bench, site, sent.base)
    else if (sent.type === 'accept' && sent.plan === 'rewind') this.#judgeRewind(bench, { site, to, sent })
  }

  #judgePlace(bench: BenchView, site: SimSite, place: RecordPlace): void {
    const { ledger } = bench
    if (!this.#isPermanent(bench, place)) {
      const what = `${site.name} passes LSN ${place.lsn} of term ${place.term} on`
      bench.violate(this, `${what}, which is not permanent (${ledger.permanentLsn} is)`)
    }
    const onDisk = bench.sights.get(site)?.disk.last.lsn ?? 0
    if (site.isSuspect || onDisk >= place.lsn) return
    bench.violate(this, `${site.name} passes LSN ${place.lsn} on, and has ${onDisk} on its disk`)
  }

  /** Whoever has more than is known to be permanent may have acknowledged it: it is not told to undo it. */
  #judgeRewind(bench: BenchView, told: { site: SimSite; to: string; sent: Accept }): void {
    const { site, to, sent } = told
    const { ledger } = bench
    const lsn = (sent.agreedLsn + 1) as Lsn
    const reign = entryAt(this.#joins.get(sent.session)?.history ?? [], lsn)
    if (reign === undefined) return
    const undone = ledger.find(lsn, reign.term)
    const permanent = ledger.permanentCrc(lsn)
    // Where the ledger has not got so far, a master may have said it of another record.
    const said = [...this.#told.values()].find((told) => told.lsn >= lsn)
    if (permanent === undefined && said && entryAt(said.history, lsn)?.term !== reign.term) return
    if (permanent !== undefined && permanent !== undone?.place.crc) return
    const why = permanent === undefined ? 'nothing else is permanent there' : 'it is permanent'
    bench.violate(this, `${site.name} tells ${to} to undo LSN ${lsn} of term ${reign.term}, and ${why}`)
  }
}

/** Of the records of a message; where they are not what it says, its receiver finds that out. */
function lastOf(site: SimSite, { previous }: Append, records: Uint8Array): RecordPlace {
  const databaseId = site.db?.site.core.databaseId ?? ''
  const checker = new RecordChecker({ databaseId, previous, markSeed: 0 })
  for (let at = 0; at < records.length; ) {
    const taken = checker.check(records, at, records.length, 0)
    if (taken <= 0) break
    at += taken
  }
  return checker.place
}

/** Who is no member has no voice: it never votes, reigns, or is counted among the members. */
export class NobodyBelowVotes implements SiteJudge {
  readonly name = 'views'

  begin(bench: BenchView): void {
    const { world } = bench
    world.network.observers.push({
      sent: (link, message): void => {
        const type = messageTypeOf(message.control)
        if (!ofMembers.has(type) || world.site(link.from)?.isMember !== false) return
        bench.violate(this, `${link.from}, which is no member, sent a ${type} to ${link.to}`)
      },
    })
  }

  moved(sight: Sight, bench: BenchView): void {
    const { site, now } = sight
    if (!site.isMember && now.reign !== undefined) {
      bench.violate(this, `${site.name}, which is no member, reigns in term ${now.reign.term}`)
    }
    for (const member of site.db?.site.core.membership?.members ?? []) {
      if (bench.world.site(member.site)?.isMember !== false) continue
      bench.violate(this, `${site.name} has ${member.site} for a member, which follows by hand`)
    }
  }
}

/** Whoever opens a partial view without its filter is told which stores are here, whatever has happened to it. */
export class PartialViewsKnowWhatTheyKeep implements SiteJudge {
  readonly name = 'what views keep'

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    const kept = site.keptStores
    const isSame = now.appliedLsn === before.appliedLsn && now.generation === before.generation
    if (kept === undefined || (isSame && !isNew) || site.isSuspect) return
    const path = site.db?.site.engine.folder.storePath(now.generation)
    const rows = path === undefined ? undefined : site.stores.contentOf(path)?.rows
    const told = new Set(sight.disk.state?.view?.kept)
    for (const key of rows?.keys() ?? []) {
      const bytes = keyBytes(key)
      const store = isSystemKey(bytes) ? undefined : splitWholeKey(bytes).storeName
      if (store === undefined || (told.has(store) && kept.includes(store))) continue
      bench.violate(
        this,
        `${site.name}, which keeps [${kept}], has a row of '${store}', and [${[...told]}] on its disk`,
      )
      return
    }
  }
}
