// What judges see of a site after an event, and what has moved since they last looked: most events move nothing that
// any judge looks at, so that is found out once for all of them.

import type { RecordPlace } from '../base/batch.ts'
import { noLsn } from '../base/lsn.ts'
import type { Reign } from '../database/receipt.ts'
import { placeBeforeAll } from '../log/record-format.ts'
import { DiskLog } from './disk-log.ts'
import type { Ledger } from './ledger.ts'
import type { SimSite } from './site.ts'
import type { World } from './world.ts'

/** One process of a site, as it stands. Positions are 0 while it has no data. */
export interface Position {
  /** The oldest record that the log still has. */
  readonly firstLsn: number
  readonly last: RecordPlace
  readonly durableLsn: number
  readonly committedLsn: number
  readonly permanentLsn: number
  readonly appliedLsn: number
  readonly appliedCrc: number
  readonly generation: number
  /** Of the data folder: another one is another disk. */
  readonly incarnation: string
  readonly term: number
  readonly reign: Reign | undefined
}

const nowhere: Position = {
  firstLsn: 1,
  last: placeBeforeAll,
  durableLsn: 0,
  committedLsn: 0,
  permanentLsn: 0,
  appliedLsn: 0,
  appliedCrc: 0,
  generation: 0,
  incarnation: '',
  term: 0,
  reign: undefined,
}

/** One site as the judges know it. */
export class Sight {
  readonly site: SimSite
  readonly disk: DiskLog
  /** Which process of the site it is. */
  start = 0
  /** A process that has its database open runs now. */
  isOpen: boolean = false
  /** It was opened since the last look: `before` is of no account. */
  isNew: boolean = false
  before: Position = nowhere
  now: Position = nowhere
  /** Records that were durable here at some time: transactions only, by LSN and checksum. */
  readonly hadDurable: Map<string, RecordPlace> = new Map()

  constructor(site: SimSite, ledger: Ledger) {
    this.site = site
    this.disk = new DiskLog(site, (record) => {
      ledger.add(record)
      const { place } = record
      if (ledger.get(place)?.isCommit === true) this.hadDurable.set(`${place.lsn}/${place.crc}`, place)
    })
  }

  /** True if anything has moved. */
  look(): boolean {
    const { site } = this
    const { db } = site
    const wasOpen = this.isOpen
    this.isOpen = db !== undefined && !db.site.engine.closed
    if (!this.isOpen) return wasOpen
    this.isNew = !wasOpen || this.start !== site.starts
    this.start = site.starts
    this.before = this.now
    this.now = positionOf(site)
    return this.isNew || !isSame(this.before, this.now)
  }
}

function positionOf(site: SimSite): Position {
  const driver = site.db?.site
  if (driver === undefined) return nowhere
  const { engine, core } = driver
  const { partsInUse } = engine
  const meta = partsInUse?.store.meta
  return {
    firstLsn: partsInUse?.log.firstLsn ?? 1,
    last: partsInUse?.log.last ?? placeBeforeAll,
    durableLsn: partsInUse?.log.durableLsn ?? noLsn,
    committedLsn: engine.committedLsn,
    permanentLsn: engine.permanentLsn,
    appliedLsn: meta?.appliedLsn ?? noLsn,
    appliedCrc: meta?.appliedCrc ?? 0,
    generation: partsInUse?.generation ?? 0,
    incarnation: engine.folder.state?.incarnation ?? '',
    term: core.term,
    reign: engine.reign,
  }
}

function isSame(a: Position, b: Position): boolean {
  return (
    a.firstLsn === b.firstLsn &&
    a.last.crc === b.last.crc &&
    a.last.lsn === b.last.lsn &&
    a.durableLsn === b.durableLsn &&
    a.committedLsn === b.committedLsn &&
    a.permanentLsn === b.permanentLsn &&
    a.appliedLsn === b.appliedLsn &&
    a.appliedCrc === b.appliedCrc &&
    a.generation === b.generation &&
    a.term === b.term &&
    a.reign === b.reign
  )
}

/** A judge that looks at sites only where something has moved. */
export interface SiteJudge {
  readonly name: string
  /** Something has moved on an open site; `sight.isNew`: it has just been opened. */
  moved?(sight: Sight, bench: BenchView): void
  /** Before the first event. */
  begin?(bench: BenchView): void
  /** After each event. */
  afterEvent?(bench: BenchView): void
  atEnd?(bench: BenchView): void
}

/** What judges share. */
export interface BenchView {
  readonly world: World
  readonly ledger: Ledger
  readonly sights: ReadonlyMap<SimSite, Sight>
  violate(judge: SiteJudge, message: string): void
}
