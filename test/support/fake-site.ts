// One site for tests of the replication core: a core, and in memory what a real driver would have on disk. A log
// whose syncs take time, a toy store, the state file with the term, and a staging for snapshots. A crash keeps what is
// durable and, of the unsynced records, a beginning of any length.

import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { CoterieError } from '../../src/base/errors.ts'
import { entryAt, type HistoryEntry } from '../../src/base/history.ts'
import { type Lsn, lsnMax, type Term } from '../../src/base/lsn.ts'
import type { Members, Membership } from '../../src/base/membership.ts'
import type { CommitException } from '../../src/base/policy.ts'
import { decodeRows, encodeRows } from '../../src/base/row-run.ts'
import { Core } from '../../src/replication/core.ts'
import type {
  FollowOptions,
  MixedRows,
  PeerId,
  RelayOptions,
  ServeOptions,
  SnapshotResume,
} from '../../src/replication/core-options.ts'
import type { CoreEvent, Effect } from '../../src/replication/effects.ts'
import type { Timings } from '../../src/replication/timings.ts'
import {
  batchOf,
  type FakeRecord,
  fakeCodec,
  makeRecord,
  membershipOf,
  readRecords,
  startPlace,
} from './fake-records.ts'

/** What the site needs of the world around it. */
export interface World {
  readonly now: number
  after(ms: number, run: () => void): void
  random(): number
  /** A time in ms that some work takes. */
  workMs(site: FakeSite, kind: 'sync' | 'read' | 'apply' | 'persist'): number
  send(site: FakeSite, effect: Extract<Effect, { kind: 'send' }>): void
  disconnect(site: FakeSite, peer: PeerId): void
  report(site: FakeSite, effect: Effect): void
  afterStep(site: FakeSite): void
}

interface Disk {
  /** Another one for each folder: a site that lost its disk has a new one. */
  incarnation: string
  databaseId: string | undefined
  term: Term
  termMaster: string | undefined
  vote: string | undefined
  /** The log begins after this record, and the image is the store at it. */
  base: RecordPlace
  baseHistory: readonly HistoryEntry[]
  image: Map<string, string>
  records: FakeRecord[]
  durableLsn: Lsn
  appliedLsn: Lsn
  permanentLsn: Lsn
  readableLsn: Lsn
  staging: Staging | undefined
}

interface Staging {
  readonly databaseId: string
  readonly base: RecordPlace
  readonly history: readonly HistoryEntry[]
  newest: MixedRows
  rows: Map<string, string>
  lastKey: string | undefined
}

export class FakeSite {
  readonly name: string
  readonly world: World
  readonly timings: Partial<Timings>
  readonly disk: Disk
  core: Core
  isUp = true
  /** How many times slower its disk is than the others'. */
  slowness = 1
  /** Grows with each crash: what was under way before it is void. */
  life = 0
  /** Disks that this site has had. */
  #disks = 1
  store: Map<string, string> = new Map()
  retainFrom: Lsn | undefined
  lastStop: Extract<Effect, { kind: 'stopped' }> | undefined
  /** Peers whose connection the transport reports as full. */
  readonly full: Set<PeerId> = new Set()
  failReads = false
  #queue: Effect[] = []
  #isBarred = false
  #barriers = 0
  #isRunning = false
  #isSyncing = false
  /** Grows with each rewind and installation: syncs and applies under way are void. */
  #cut = 0
  #applyTo = 0
  #isApplying = false
  #isRewinding = false
  #stagingFreeAt = 0
  readonly #readers = new Map<PeerId, { rows: [string, string][]; at: number }>()

  constructor(name: string, world: World, options: { databaseId?: string; timings?: Partial<Timings> } = {}) {
    this.name = name
    this.world = world
    this.timings = options.timings ?? {}
    this.disk = emptyDisk(`${name}1`, options.databaseId)
    this.core = this.#makeCore()
  }

  #makeCore(): Core {
    const { disk } = this
    return new Core({
      site: this.name,
      databaseId: disk.databaseId,
      term: disk.term,
      termMaster: disk.termMaster,
      vote: disk.vote,
      incarnation: disk.incarnation,
      membership: this.membership(),
      log: {
        first: (disk.base.lsn + 1) as Lsn,
        last: this.last,
        durableLsn: disk.durableLsn,
        history: this.history(),
      },
      appliedLsn: disk.appliedLsn,
      committedLsn: disk.appliedLsn,
      permanentLsn: Math.min(disk.permanentLsn, this.last.lsn) as Lsn,
      readableLsn: disk.readableLsn,
      codec: fakeCodec,
      random: () => this.world.random(),
      timings: this.timings,
      paranoid: true,
    })
  }

  get last(): RecordPlace {
    return this.disk.records.at(-1)?.place ?? this.disk.base
  }

  get firstLsn(): Lsn {
    return (this.disk.base.lsn + 1) as Lsn
  }

  history(): HistoryEntry[] {
    const reigns = this.disk.records
      .filter((record) => record.isTerm)
      .map((record) => ({ term: record.place.term, firstLsn: record.place.lsn, site: record.text }))
    return [...this.disk.baseHistory, ...reigns]
  }

  /** What the log says, and where it no longer reaches back, the store. */
  membership(): Membership | undefined {
    const inLog = membershipOf(this.disk.records)
    if (inLog !== undefined) return inLog
    const row = this.disk.image.get(membersKey)
    return row === undefined ? undefined : (JSON.parse(row) as Membership)
  }

  recordAt(lsn: number): FakeRecord | undefined {
    return this.disk.records[lsn - this.disk.base.lsn - 1]
  }

  /** Every record that can be told, oldest first: for comparing logs. */
  logText(): string {
    return this.disk.records.map((record) => `${record.place.term}:${record.text}`).join(' ')
  }

  storeText(): string {
    return JSON.stringify([...this.store].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  // ---- running

  /** Tells the core something, then runs what follows from it. */
  step(tell: (core: Core) => void): void {
    if (!this.isUp) return
    tell(this.core)
    this.run()
  }

  run(): void {
    this.#queue.push(...this.core.takeEffects())
    if (this.#isRunning) return
    this.#isRunning = true
    while (!this.#isBarred && this.isUp) {
      const effect = this.#queue.shift()
      if (effect === undefined) break
      this.#perform(effect)
      this.#queue.push(...this.core.takeEffects())
    }
    this.#isRunning = false
    if (this.isUp) this.world.afterStep(this)
  }

  get hasWork(): boolean {
    return this.#queue.length > 0
  }

  later(ms: number, run: () => void): void {
    const { life } = this
    this.world.after(ms, () => {
      if (this.isUp && this.life === life) run()
    })
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case 'send':
        this.world.send(this, effect)
        break
      case 'persist':
        this.#persist(effect)
        break
      case 'append':
        this.#append(effect.batch)
        break
      case 'commit':
        this.disk.permanentLsn = Math.max(this.disk.permanentLsn, effect.permanentLsn) as Lsn
        this.#applyTo = effect.applyLsn
        this.#apply()
        break
      case 'readLog':
        this.#readLog(effect)
        break
      case 'rewind':
        this.#rewind(effect.to)
        break
      case 'retainLog':
        this.retainFrom = effect.from
        break
      case 'disconnect':
        this.world.disconnect(this, effect.peer)
        break
      case 'stopped':
        this.lastStop = effect
        break
      case 'event':
      case 'steppedDown':
      case 'elected':
      case 'reignConfirmed':
        break
      default:
        this.#snapshotEffect(effect)
    }
    this.world.report(this, effect)
  }

  /** The barrier: nothing behind it runs before it is durable. */
  #persist({ term, master, vote }: Extract<Effect, { kind: 'persist' }>): void {
    this.#isBarred = true
    const barrier = ++this.#barriers
    this.later(this.world.workMs(this, 'persist'), () => {
      if (barrier !== this.#barriers) return
      this.disk.term = term
      this.disk.termMaster = master
      this.disk.vote = vote
      this.#isBarred = false
      this.run()
    })
  }

  /** Ends a barrier at once, as a driver does that waits for it before it goes on. */
  finishPersist(): void {
    while (this.isUp && (this.#isBarred || this.#queue.length > 0)) {
      this.disk.term = this.core.term
      this.disk.termMaster = this.core.termMaster
      this.disk.vote = this.core.vote
      this.#isBarred = false
      this.#barriers++
      this.run()
    }
  }

  // ---- log

  #append(batch: RecordBatch): void {
    const records = readRecords(batch.bytes, this.last)
    if (typeof records === 'string') throw new Error(`${this.name}: appended what does not fit: ${records}`)
    this.disk.records.push(...records)
    this.sync()
  }

  sync(): void {
    if (this.#isSyncing || this.disk.durableLsn >= this.last.lsn) return
    this.#isSyncing = true
    const { lsn } = this.last
    const cut = this.#cut
    this.later(this.world.workMs(this, 'sync'), () => {
      this.#isSyncing = false
      if (cut === this.#cut) {
        this.disk.durableLsn = lsn
        this.step((core) => core.synced({ durableLsn: lsn, now: this.world.now }))
        this.#apply()
      }
      this.sync()
    })
  }

  #readLog(effect: Extract<Effect, { kind: 'readLog' }>): void {
    const { peer, from, to, bytesMax } = effect
    this.later(this.world.workMs(this, 'read'), () => {
      const { now } = this.world
      if (this.failReads || from < this.firstLsn) {
        const error = this.failReads ? 'failed' : 'trimmed'
        this.step((core) => core.logRead({ peer, from, error, now }))
        return
      }
      const taken: FakeRecord[] = []
      let bytes = 0
      for (let lsn: number = from; lsn <= to; lsn++) {
        const record = this.recordAt(lsn)
        if (record === undefined || (taken.length > 0 && bytes + record.bytes.length > bytesMax)) break
        bytes += record.bytes.length
        taken.push(record)
      }
      const batch = taken.length === 0 ? undefined : batchOf(taken)
      this.step((core) => core.logRead({ peer, from, batch, now }))
    })
  }

  #rewind(to: Lsn): void {
    this.#isRewinding = true
    this.later(this.world.workMs(this, 'sync'), () => {
      this.#isRewinding = false
      const { disk } = this
      if (to < disk.base.lsn) {
        this.step((core) => core.rewindFailed({ reason: 'the log was trimmed', now: this.world.now }))
        return
      }
      this.#cut++
      disk.records.length = to - disk.base.lsn
      disk.durableLsn = to
      if (disk.appliedLsn > to) {
        disk.appliedLsn = to
        this.#rebuild()
      }
      this.#applyTo = Math.min(this.#applyTo, to)
      const place = this.last
      const membership = this.membership()
      const history = this.history()
      this.step((core) => core.rewound({ place, history, membership, now: this.world.now }))
      this.sync()
    })
  }

  /** Drops records that are applied and that nobody needs. */
  trim(through: number): void {
    const { disk } = this
    if (this.#isRewinding) return
    const limit = Math.min(through, disk.appliedLsn, disk.durableLsn, (this.retainFrom ?? Infinity) - 1)
    if (limit <= disk.base.lsn) return
    const gone = disk.records.splice(0, limit - disk.base.lsn)
    for (const record of gone) {
      applyTo(disk.image, record)
      if (record.isTerm) {
        const { term, lsn } = record.place
        disk.baseHistory = [...disk.baseHistory, { term, firstLsn: lsn, site: record.text }]
      }
    }
    disk.base = (gone.at(-1) as FakeRecord).place
    this.step((core) => core.logTrimmed({ firstLsn: this.firstLsn, now: this.world.now }))
  }

  // ---- store

  #apply(): void {
    const goal = Math.min(this.#applyTo, this.disk.durableLsn)
    if (this.#isApplying || goal <= this.disk.appliedLsn) return
    this.#isApplying = true
    const cut = this.#cut
    this.later(this.world.workMs(this, 'apply'), () => {
      this.#isApplying = false
      if (cut === this.#cut) this.#applyThrough(Math.min(this.#applyTo, this.disk.durableLsn))
      this.#apply()
    })
  }

  #applyThrough(lsn: number): void {
    for (let next = this.disk.appliedLsn + 1; next <= lsn; next++) {
      applyTo(this.store, this.recordAt(next) as FakeRecord)
    }
    this.disk.appliedLsn = lsn as Lsn
    this.step((core) => core.applied({ appliedLsn: lsn as Lsn, now: this.world.now }))
  }

  #rebuild(): void {
    this.store = new Map(this.disk.image)
    for (const record of this.disk.records) {
      if (record.place.lsn <= this.disk.appliedLsn) applyTo(this.store, record)
    }
  }

  /** While it is down: its store is gone, and its log does not reach back to the beginning. False if it does. */
  loseRows(): boolean {
    const { disk } = this
    if (this.isUp || disk.base.lsn === 0 || disk.databaseId === undefined) return false
    disk.image = new Map([['garbage', 'of a store that was lost']])
    disk.appliedLsn = disk.base.lsn
    disk.permanentLsn = disk.base.lsn
    disk.readableLsn = lsnMax
    return true
  }

  get hasLostRows(): boolean {
    return this.disk.readableLsn === lsnMax
  }

  // ---- snapshots

  #snapshotEffect(effect: Extract<Effect, { kind: `snapshot${string}` }>): void {
    switch (effect.kind) {
      case 'snapshotOpen':
        this.#snapshotOpen(effect)
        break
      case 'snapshotRead':
        this.#snapshotRead(effect)
        break
      case 'snapshotClose':
        this.#readers.delete(effect.peer)
        break
      case 'snapshotPrepare':
        this.#snapshotPrepare(effect)
        break
      case 'snapshotStore':
        this.#snapshotStore(effect)
        break
      case 'snapshotInstall':
        this.#snapshotInstall(effect)
        break
    }
  }

  #snapshotOpen({ peer, afterKey }: Extract<Effect, { kind: 'snapshotOpen' }>): void {
    const key = afterKey === undefined ? undefined : utf8Decode(afterKey)
    const rows = [...this.store]
      .filter(([each]) => key === undefined || each > key)
      .sort(([a], [b]) => (a < b ? -1 : 1))
    const reader = { rows, at: 0 }
    this.#readers.set(peer, reader)
    const place = this.recordAt(this.disk.appliedLsn)?.place ?? this.disk.base
    this.later(this.world.workMs(this, 'read'), () => {
      if (this.#readers.get(peer) !== reader) return
      const { now } = this.world
      this.step((core) => core.snapshotOpened({ peer, place, rowsEstimate: rows.length, now }))
    })
  }

  #snapshotRead({ peer, recordsMax }: Extract<Effect, { kind: 'snapshotRead' }>): void {
    const reader = this.#readers.get(peer)
    if (reader === undefined) throw new Error('a snapshot is open before it is read')
    this.later(this.world.workMs(this, 'read'), () => {
      if (this.#readers.get(peer) !== reader) return
      const rows = reader.rows.slice(reader.at, reader.at + recordsMax)
      reader.at += rows.length
      const bytes = encodeRows(rows.map(([key, value]) => [utf8Encode(key), utf8Encode(value)]))
      const done = reader.at >= reader.rows.length
      this.step((core) => core.snapshotRows({ peer, bytes, count: rows.length, done, now: this.world.now }))
    })
  }

  /** Work on the staging: one after the other, as on one file. */
  #laterInOrder(run: () => void): void {
    const { now } = this.world
    this.#stagingFreeAt = Math.max(this.#stagingFreeAt, now) + this.world.workMs(this, 'sync')
    this.later(this.#stagingFreeAt - now, run)
  }

  #snapshotPrepare(effect: Extract<Effect, { kind: 'snapshotPrepare' }>): void {
    const { databaseId, base, history, newest, resume } = effect
    if (!resume)
      this.disk.staging = { databaseId, base, history, newest, rows: new Map(), lastKey: undefined }
    else if (this.disk.staging !== undefined) this.disk.staging.newest = newest
    this.#laterInOrder(() => this.step((core) => core.snapshotPrepared({ now: this.world.now })))
  }

  #snapshotStore({ index, bytes }: Extract<Effect, { kind: 'snapshotStore' }>): void {
    const rows = decodeRows(bytes)
    const staging = this.disk.staging
    if (rows === undefined || staging === undefined) throw new Error('a chunk has rows and a place')
    for (const [key, value] of rows) {
      staging.lastKey = utf8Decode(key)
      staging.rows.set(staging.lastKey, utf8Decode(value))
    }
    this.#laterInOrder(() => this.step((core) => core.snapshotStored({ index, now: this.world.now })))
  }

  #snapshotInstall(effect: Extract<Effect, { kind: 'snapshotInstall' }>): void {
    this.later(this.world.workMs(this, 'sync'), () => {
      const { disk } = this
      const { staging } = disk
      if (staging === undefined) throw new Error('there is a staging to install')
      this.#cut++
      const { base, keptLsn = base.lsn } = effect
      const kept = disk.records.filter(({ place }) => place.lsn > base.lsn && place.lsn <= keptLsn)
      disk.permanentLsn = 0 as Lsn
      const isSame = disk.databaseId === effect.databaseId
      if (!isSame || effect.term > disk.term) {
        disk.term = effect.term
        disk.termMaster = effect.master
        disk.vote = undefined
      }
      disk.databaseId = effect.databaseId
      disk.base = base
      disk.baseHistory = effect.history
      disk.image = new Map(staging.rows)
      disk.records = kept
      disk.durableLsn = keptLsn
      disk.appliedLsn = base.lsn
      disk.staging = undefined
      this.store = new Map(staging.rows)
      disk.readableLsn = effect.readableLsn
      this.#applyTo = base.lsn
      const membership = this.membership()
      this.step((core) => core.snapshotInstalled({ place: this.last, membership, now: this.world.now }))
    })
  }

  resumable(): SnapshotResume | undefined {
    const { staging } = this.disk
    if (staging?.lastKey === undefined) return undefined
    const { databaseId, base, history, newest, lastKey } = staging
    const reign = entryAt(history, base.lsn)
    if (reign === undefined || newest.reign === undefined) return undefined
    const { lsn } = newest
    return { databaseId, base, reign, newest: { lsn, reign: newest.reign }, afterKey: utf8Encode(lastKey) }
  }

  // ---- roles

  follow(peer: PeerId, options: FollowOptions = {}): void {
    const resume = this.resumable()
    const all = resume === undefined ? options : { ...options, resume }
    this.lastStop = undefined
    this.step((core) => core.follow({ peer, now: this.world.now, options: all }))
  }

  serve(options: ServeOptions, above?: Term): void {
    const { now } = this.world
    if (options.databaseId !== undefined) this.disk.databaseId = options.databaseId
    this.step((core) => {
      core.serve({ ...options, now })
      core.startTerm(now, above === undefined ? {} : { above })
    })
    this.finishPersist()
    this.#propose([{ isTerm: true, text: this.name }])
  }

  /** Serves in its turn, as a driver that knows what is permanent and where that ends. */
  serveInTurn(options: Omit<RelayOptions, 'end'> = {}): void {
    const { now } = this.world
    const lsn = Math.min(this.core.permanentLsn, this.core.durableLsn)
    const end = lsn === this.disk.base.lsn ? this.disk.base : this.recordAt(lsn)?.place
    this.step((core) => core.serveInTurn({ ...options, end, now }))
  }

  /** What a driver does at the effect `elected`. False if another term has begun meanwhile. */
  reign(options: ServeOptions): boolean {
    const { now } = this.world
    try {
      this.step((core) => {
        core.serve({ ...options, now })
        core.startTerm(now, { elected: true })
      })
    } catch (error) {
      if (!(error instanceof CoterieError) || error.code !== 'NOT_MASTER') throw error
      this.step((core) => {
        core.stopServing(now)
        core.electionLost(now)
      })
      return false
    }
    this.finishPersist()
    if (this.core.role !== 'master') return false
    this.#propose([{ isTerm: true, text: this.name }])
    return true
  }

  writeMembers(members: Members): void {
    this.#propose([{ members }])
  }

  write(texts: readonly string[], exceptions: readonly CommitException[] = []): void {
    this.#propose(
      texts.map((text) => ({ text })),
      exceptions,
    )
  }

  #propose(
    contents: readonly { isTerm?: boolean; text?: string; members?: Members }[],
    exceptions: readonly CommitException[] = [],
  ): void {
    const records: FakeRecord[] = []
    let previous = this.last
    for (const content of contents) {
      const record = makeRecord(previous, { term: this.core.term, ...content })
      records.push(record)
      previous = record.place
    }
    this.disk.records.push(...records)
    this.step((core) => core.proposed({ batch: batchOf(records), exceptions, now: this.world.now }))
    this.sync()
  }

  // ---- faults

  /** Keeps what is durable, the state file, and a random beginning of the records that were not synced. */
  crash(): void {
    const { disk } = this
    const unsynced = this.last.lsn - disk.durableLsn
    const kept = disk.durableLsn + (unsynced > 0 ? this.world.random() % (unsynced + 1) : 0)
    disk.records.length = kept - disk.base.lsn
    disk.durableLsn = kept as Lsn
    this.isUp = false
    this.life++
  }

  /** The disk is lost, and a new one put in its place. Only while the site is down. */
  wipe(): void {
    Object.assign(this.disk, emptyDisk(`${this.name}${++this.#disks}`, undefined))
  }

  restart(): void {
    this.isUp = true
    this.#queue = []
    this.#isBarred = false
    this.#isRunning = false
    this.#isSyncing = false
    this.#isApplying = false
    this.#isRewinding = false
    this.#applyTo = 0
    this.#readers.clear()
    this.full.clear()
    this.retainFrom = undefined
    this.lastStop = undefined
    this.#rebuild()
    this.core = this.#makeCore()
  }
}

/** Where the store keeps the members; no key of a test comes after it. */
const membersKey = '~members'

function emptyDisk(incarnation: string, databaseId: string | undefined): Disk {
  return {
    incarnation,
    databaseId,
    term: 0 as Term,
    termMaster: undefined,
    vote: undefined,
    base: startPlace,
    baseHistory: [],
    image: new Map(),
    records: [],
    durableLsn: 0 as Lsn,
    appliedLsn: 0 as Lsn,
    permanentLsn: 0 as Lsn,
    readableLsn: 0 as Lsn,
    staging: undefined,
  }
}

function applyTo(store: Map<string, string>, record: FakeRecord): void {
  if (record.isTerm) return
  if (record.members !== undefined) {
    store.set(membersKey, JSON.stringify({ ...record.members, lsn: record.place.lsn }))
    return
  }
  const [key = '', value = ''] = record.text.split('=')
  if (value === '') store.delete(key)
  else store.set(key, value)
}

export type { CoreEvent }
