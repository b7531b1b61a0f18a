// The clients of a simulated group: programs that have the database embedded, each calling it on the site that it takes
// for the master, and now and then on another. They write down every call before they make it and what came of it,
// as truthfully as they can tell: a commit whose outcome is unknown is asked for later by its token.
//
// Values name the operation that wrote them, so that whoever reads one knows where it came from.

import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import { entryAt } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Prng } from '../base/prng.ts'
import type { NamedStore } from '../database/named-store.ts'
import type { Database } from '../group/database.ts'
import type { Operation, Place } from './history.ts'
import type { SimSite } from './site.ts'
import type { World } from './world.ts'

export interface LoadSettings {
  readonly clients: number
  readonly keys: number
  /** Between two bursts, on the average. */
  readonly pauseMs: number
  readonly burstMax: number
  /** Of most values; some are longer. Long ones fill segments, so that log is trimmed and snapshots are needed. */
  readonly valueBytesMax: number
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

/** Errors that say that nothing of the operation has happened or will. */
const refusals: ReadonlySet<string> = new Set([
  'NOT_MASTER',
  'NO_QUORUM',
  'NO_MASTER',
  'LEASE_EXPIRED',
  'LAG_EXCEEDED',
  'DISK_FULL',
  'CONFLICT',
  'SYNCING',
])

export class Clients {
  readonly #world: World
  readonly #prng: Prng
  readonly #load: LoadSettings
  #running: boolean = true
  /** What the clients last heard: where the master is. */
  #masters: (SimSite | undefined)[] = []
  #nextId = 1
  #pauseMs: number
  /** A client waits no longer for an answer, and goes on. */
  #patienceMs = 5000

  constructor(world: World, load: LoadSettings) {
    this.#world = world
    this.#prng = world.prng.fork()
    this.#load = load
    this.#pauseMs = load.pauseMs
    world.onReign = (site): void => this.#askNew(site)
  }

  start(): void {
    for (let client = 0; client < this.#load.clients; client++) this.#pauseThenBurst(client)
  }

  /** Pauses are short from now on, and patience too. */
  hurry(): void {
    this.#pauseMs = 100
    this.#patienceMs = 1000
  }

  /** No new operations; those under way may still end. */
  stop(): void {
    this.#running = false
  }

  #pauseThenBurst(client: number): void {
    const ms = this.#prng.fraction() * 2 * this.#pauseMs
    this.#world.clock.after(ms, () => this.#burst(client, this.#prng.between(1, this.#load.burstMax)))
  }

  #burst(client: number, left: number): void {
    if (!this.#running) return
    if (left === 0) {
      this.#pauseThenBurst(client)
      return
    }
    let goneOn = false
    const goOn = (): void => {
      if (goneOn) return
      goneOn = true
      this.#world.clock.after(this.#prng.fraction() * 5, () => this.#burst(client, left - 1))
    }
    this.#world.clock.after(this.#patienceMs, goOn)
    this.#operate(client, goOn)
  }

  #operate(client: number, done: () => void): void {
    const prng = this.#prng
    const site = this.#chooseSite(client)
    const kindDraw = prng.fraction()
    if (kindDraw < 0.15) this.#readAnywhere(client, prng.pick(this.#world.livingSites), done)
    else if (site === undefined) done()
    else if (kindDraw < 0.3) this.#read(client, site, done)
    else if (kindDraw < 0.5) this.#transact(client, site, done)
    else this.#write(client, site, done)
  }

  #chooseSite(client: number): SimSite | undefined {
    const { livingSites } = this.#world
    if (livingSites.length === 0) return undefined
    // Now and then one that may be anything: a master that was cut off, a replica.
    if (this.#prng.chance(0.1)) return this.#prng.pick(livingSites)
    const known = this.#masters[client]
    if (known?.isMaster === true && known.isAwake) return known
    const masters = livingSites.filter((site) => site.isMaster && site.isAwake)
    const chosen = this.#prng.pick(masters.length > 0 ? masters : livingSites)
    this.#masters[client] = chosen
    return chosen
  }

  #begin(operation: Omit<Operation, 'id' | 'invokedAt' | 'outcome'>): Mutable<Operation> {
    const begun: Mutable<Operation> = {
      ...operation,
      id: this.#nextId++,
      invokedAt: this.#world.nowMs,
      outcome: 'unknown',
    }
    this.#world.history.push(begun)
    return begun
  }

  /** Runs a call on the site, as soon as its process runs; undefined where there is none. */
  #on(site: SimSite, call: (db: Database) => void, otherwise: () => void): void {
    const { host, db } = site
    if (host === undefined || db === undefined) otherwise()
    else host.run(() => call(db))
  }

  #keyName(): string {
    return `k${this.#prng.below(this.#load.keys)}`
  }

  #valueOf(client: number): string {
    const padding = this.#prng.chance(0.02)
      ? this.#prng.between(1000, 20_000)
      : this.#prng.below(this.#load.valueBytesMax)
    return `c${client}.${this.#nextId}.${'x'.repeat(padding)}`
  }

  /** Each key has its store, by its number. */
  #storeOf(key: string): string {
    const { stores } = this.#world.settings
    return stores[Number(key.slice(1)) % stores.length] as string
  }

  #write(client: number, site: SimSite, done: () => void): void {
    const key = this.#keyName()
    const value = this.#prng.chance(0.15) ? undefined : this.#valueOf(client)
    this.#on(
      site,
      (db) => {
        const operation = this.#begin({ client, kind: 'write', site: site.name, key, value })
        const store = this.#namedStore(db, key)
        const call = value === undefined ? store.del(key) : store.put(key, value)
        this.#settle(
          operation,
          call.then((receipt) => {
            this.#acknowledged(operation, receipt)
          }),
          done,
        )
      },
      done,
    )
  }

  #namedStore(db: Database, key: string): NamedStore<string, string> {
    const store = this.#storeOf(key)
    return store === '' ? db : db.store(store)
  }

  /** Reads a key, writes it and its twin: whoever reads both in one turn must find the same. */
  #transact(client: number, site: SimSite, done: () => void): void {
    const key = `t${this.#prng.below(Math.max(1, this.#load.keys >> 1))}`
    const value = this.#valueOf(client)
    this.#on(
      site,
      (db) => {
        const operation = this.#begin({ client, kind: 'transact', site: site.name, key, value })
        const call = db.transact((tx) => {
          const store = tx.store(this.#storeOf(key))
          const before = store.get(key)
          const twin = store.get(`${key}/twin`)
          if (before !== twin)
            this.#world.violate('atomicity', `${site.name}: ${key} is ${before}, its twin ${twin}`)
          store.put(key, value)
          store.put(`${key}/twin`, value)
          operation.before = before
        })
        this.#settle(
          operation,
          call.then((receipt) => {
            this.#acknowledged(operation, receipt)
          }),
          done,
        )
      },
      done,
    )
  }

  /**
   * By a read that asks for the newest, or in a transaction, so that the group confirms that it was the newest; in one
   * that writes, too, by turns.
   */
  #read(client: number, site: SimSite, done: () => void, written?: string): void {
    const drawn = this.#prng.chance(0.3)
      ? `t${this.#prng.below(Math.max(1, this.#load.keys >> 1))}`
      : this.#keyName()
    const key = written ?? drawn
    this.#on(
      site,
      (db) => {
        const operation = this.#begin({ client, kind: 'read', site: site.name, key })
        const writes = this.#prng.chance(0.3)
        if (!writes && operation.id % 2 === 0) {
          this.#settle(operation, this.#get(db, operation), done)
          return
        }
        const call = db.transact((tx) => {
          if (writes) tx.put(`reader${client}`, `${operation.id}`)
          return tx.store(this.#storeOf(key)).get(key)
        })
        this.#settle(
          operation,
          call.then((receipt) => {
            operation.value = receipt.result
            operation.lsn = receipt.lsn
            operation.term = receipt.term
            this.#notePlace(operation, db, receipt.lsn)
            if (writes) this.#acknowledged(operation, receipt)
          }),
          done,
        )
      },
      done,
    )
  }

  async #get(db: Database, operation: Mutable<Operation>): Promise<void> {
    const { key } = operation
    const { engine } = db.site
    this.#notePlace(operation, db, engine.committedLsn)
    operation.value = await this.#namedStore(db, key).get(key, { consistency: 'linearizable' })
    this.#notePlace(operation, db, engine.committedLsn)
  }

  /** Of a pair: the state here is that of this record, which may be undone. */
  #notePlace(operation: Mutable<Operation>, db: Database, lsn: number): void {
    if (this.#world.settings.kind !== 'pair') return
    const reign = entryAt(db.site.core.history, lsn as Lsn)
    const place: Place[] = reign === undefined ? [] : [{ lsn, term: reign.term }]
    operation.places = [...(operation.places ?? []), ...place]
  }

  /** The state of one site as it is there, new or old. */
  #readAnywhere(client: number, site: SimSite, done: () => void): void {
    const twins = this.#prng.chance(0.5)
    const key = twins ? `t${this.#prng.below(Math.max(1, this.#load.keys >> 1))}` : this.#keyName()
    this.#on(
      site,
      (db) => {
        const { committedLsn, partsInUse } = db.site.engine
        // Where acks attest `applied`, rows are there before it is certain that they stay.
        const isCertain = partsInUse === undefined || partsInUse.appliedLsn <= committedLsn
        const operation = this.#begin({ client, kind: 'read', site: site.name, key, stale: true })
        try {
          const store = this.#namedStore(db, key)
          operation.value = store.getSync(key)
          if (partsInUse !== undefined) {
            operation.lsn = partsInUse.appliedLsn
            this.#notePlace(operation, db, Math.max(committedLsn, partsInUse.appliedLsn))
          }
          operation.outcome = 'ok'
          const twin = twins ? store.getSync(`${key}/twin`) : operation.value
          if (twin !== operation.value) {
            this.#world.violate('atomicity', `${site.name}: ${key} is ${operation.value}, its twin ${twin}`)
          }
        } catch (error) {
          this.#noteError(operation, error)
          if (operation.outcome === 'unknown') operation.outcome = 'failed'
        }
        operation.completedAt = this.#world.nowMs
        if (!isCertain) operation.outcome = 'failed'
        done()
      },
      done,
    )
  }

  #acknowledged(
    operation: Mutable<Operation>,
    receipt: { readonly lsn: number; readonly term: number; readonly token: string },
  ): void {
    const { lsn, term, token } = receipt
    operation.lsn = lsn
    operation.term = term
    operation.token = token
    operation.acks = 'quorum'
    if (this.#world.settings.kind === 'pair') operation.places = [{ lsn, term }]
    this.#world.acknowledged.push({ operation, lsn, term, token })
    this.#world.fingerprint.number(lsn)
  }

  #settle(operation: Mutable<Operation>, call: Promise<void>, done: () => void): void {
    call.then(
      () => {
        operation.outcome = 'ok'
        operation.completedAt = this.#world.nowMs
        this.#masters[operation.client] = this.#world.site(operation.site)
        this.#askDeposed(operation, done)
      },
      (error: unknown) => {
        this.#noteError(operation, error)
        if (operation.outcome === 'unknown') this.#askLater(operation, 1)
        else operation.completedAt = this.#world.nowMs
        done()
      },
    )
  }

  /** Where another takes itself for the master still, it must not answer with what was before this write. */
  #askDeposed({ client, kind, site, key }: Operation, done: () => void): void {
    const deposed = this.#world.livingSites.find((each) => each.isMaster && each.name !== site)
    if (kind === 'read' || deposed === undefined) done()
    else this.#read(client, deposed, done, key)
  }

  /** One that has come back as master must not answer with less than it, or anybody, has acknowledged. */
  #askNew(site: SimSite): void {
    for (const { operation } of this.#world.acknowledged.slice(-2)) {
      if (operation.kind !== 'read') this.#read(operation.client, site, () => {}, operation.key)
    }
  }

  #noteError(operation: Mutable<Operation>, thrown: unknown): void {
    const error = asError(thrown)
    if (!(error instanceof CoterieError)) {
      this.#world.violate('defect', `a client's ${operation.kind} threw ${error.stack}`)
      return
    }
    operation.code = error.code
    if (refusals.has(error.code)) operation.outcome = 'failed'
    const { token, lsn, term, master } = error.details
    if (typeof token === 'string') operation.token = token
    if (typeof lsn === 'number') operation.lsn = lsn
    if (typeof term === 'number') operation.term = term
    if (isCoterieError(error, 'NOT_MASTER')) {
      this.#masters[operation.client] = this.#world.livingSites.find((site) => site.address === master)
    }
  }

  /** What became of it, once some site can say. */
  #askLater(operation: Mutable<Operation>, attempt: number): void {
    const { token } = operation
    if (token === undefined || attempt > 12) return
    this.#world.clock.after(this.#prng.between(200, 1500 * attempt), () => {
      const { livingSites } = this.#world
      if (livingSites.length === 0) return
      this.#on(
        this.#prng.pick(livingSites),
        (db) => {
          db.outcome(token).then(
            (outcome) => {
              if (outcome === 'pending') {
                this.#askLater(operation, attempt + 1)
                return
              }
              this.#world.tell(
                'client',
                `${token} (LSN ${operation.lsn}) turns out ${outcome} on ${db.siteId}`,
              )
              operation.outcome = outcome === 'applied' ? 'ok' : 'failed'
              operation.completedAt = this.#world.nowMs
              if (outcome === 'applied' && operation.lsn !== undefined && operation.term !== undefined) {
                const { lsn, term } = operation
                this.#world.acknowledged.push({ operation, lsn, term, token })
              }
            },
            (error: unknown) => {
              if (!(error instanceof CoterieError)) {
                this.#world.violate('defect', `outcome() threw ${asError(error).stack}`)
              }
              this.#askLater(operation, attempt + 1)
            },
          )
        },
        () => this.#askLater(operation, attempt + 1),
      )
    })
  }
}
