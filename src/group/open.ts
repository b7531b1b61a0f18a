// Opening: from a folder, or from nothing, to a database and the site that drives it.

import { CoterieError } from '../base/errors.ts'
import { type Lsn, noLsn, toLsn } from '../base/lsn.ts'
import {
  anything,
  checkOptions,
  type OptionRules,
  objectOf,
  oneOf,
  text,
  truth,
  wholeNumber,
} from '../base/options.ts'
import type { Durability } from '../base/policy.ts'
import { DatabaseFolder } from '../database/database-folder.ts'
import { codecOf, type Encoding } from '../database/encoding.ts'
import { Engine } from '../database/engine.ts'
import type { Retention } from '../database/retention.ts'
import { checkSiteId, newDatabaseId, newIncarnation, newSiteId } from '../database/site-id.ts'
import type { SiteState } from '../database/site-state.ts'
import type { Host } from '../env/host.ts'
import { memoryHost } from '../env/memory/memory-host.ts'
import { nodeHost } from '../env/node/node-host.ts'
import { classicLevelEngine } from '../store/classic-level-engine.ts'
import { memoryEngine } from '../store/memory-engine.ts'
import type { StoreEngine } from '../store/store.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { AttachOptions } from './attach-options.ts'
import { Attachment } from './attachment.ts'
import { Database } from './database.ts'
import { Site } from './site.ts'
import { transportsOf } from './transports.ts'

export interface OpenOptions {
  /** The durable id of this site, given once. Default: a random one at creation. */
  readonly site?: string
  /** Create a database where there is none. Default true; false gives NOT_A_DATABASE. */
  readonly create?: boolean
  /** Of the unnamed store, and the default of named ones. Default `utf8`. */
  readonly keyEncoding?: Encoding
  readonly valueEncoding?: Encoding
  /** Local durability that commits wait for. Default `sync`. */
  readonly durability?: Durability
  /** Memory for rows that were read lately. Default 32 MiB. */
  readonly cacheBytes?: number
  /** Memory for blocks of the store on disk. Default 64 MiB. */
  readonly storeCacheBytes?: number
  /** Size of the log's files. Default 64 MiB; 8 MiB in memory. */
  readonly segmentBytes?: number
  /** Log kept for replicas that are away. Default 256 MiB; 32 MiB in memory. */
  readonly retain?: Retention
  /** Log after which a checkpoint is made. Default 64 MiB; 8 MiB in memory. */
  readonly checkpointBytes?: number
  /** How often an async transaction is run before CONFLICT. Default 10. */
  readonly maxAttempts?: number
  /** The host to run on; for tests and simulators. Default: Node. */
  readonly host?: Host
}

export const openRules: OptionRules = {
  site: text,
  create: truth,
  keyEncoding: anything,
  valueEncoding: anything,
  durability: oneOf('sync', 'written', 'memory'),
  cacheBytes: wholeNumber(0),
  storeCacheBytes: wholeNumber(0),
  segmentBytes: wholeNumber(65_536, 1_073_741_824),
  retain: objectOf({ transactions: wholeNumber(0), bytes: wholeNumber(0), ms: wholeNumber(0) }),
  checkpointBytes: wholeNumber(65_536),
  maxAttempts: wholeNumber(1, 1_000_000),
  host: anything,
}

const mib = 1024 * 1024
const overlayWritesMax = 65_536

/**
 * Opens the database in a folder, or creates it; `:memory:` opens a new one that leaves nothing behind.
 *
 * Errors: LOCKED (with the holder's pid), NOT_A_DATABASE, LOG_DAMAGED (file and offset; nothing is changed),
 * STATE_DAMAGED, STORE_FAILED, FORMAT_UNSUPPORTED, OPTION_UNKNOWN, OPTION_INVALID, IO_ERROR, DISK_FULL.
 */
export async function open<K = string, V = string>(
  location: string,
  options: OpenOptions = {},
): Promise<Database<K, V>> {
  return await openIn(environmentOf(location, options), options, { asReplica: false })
}

async function openReplica<K, V>(location: string, options: OpenOptions): Promise<Database<K, V>> {
  return await openIn(environmentOf(location, options), options, { asReplica: true })
}

/**
 * Attaches a database to a master over the network and follows it (eXtremeDB's mco_HA_attach_master). The target is
 * an open database, which becomes a replica; or `{ path }` (a folder, or `:memory:`), which is opened, or created by
 * the master's snapshot. Returns at once: `await attachment.synced`, later `await attachment.stopped`.
 */
export function attachMaster<K = string, V = string>(
  target: Database<K, V> | ({ readonly path: string } & OpenOptions),
  address: string,
  options: AttachOptions = {},
): Attachment<Database<K, V>> {
  if (typeof address !== 'string') throw new TypeError('attachMaster: the address of the master must be text')
  if (typeof options !== 'object' || options === null) {
    throw new TypeError('attachMaster: the options must be an object')
  }
  if (target instanceof Database) {
    return new Attachment({ target, address, attach: options })
  }
  if (typeof target !== 'object' || target === null || typeof target.path !== 'string') {
    throw new TypeError('attachMaster takes a database, or { path } of a folder or :memory:')
  }
  const { path, ...openOptions } = target
  const openTarget = (): Promise<Database<K, V>> => openReplica(path, openOptions)
  return new Attachment({ target: openTarget, address, attach: options })
}

/** Where a database lives, and what it runs on. */
export interface Environment {
  readonly location: string
  /** The folder, in the host's files. */
  readonly path: string
  readonly host: Host
  readonly storeEngine: StoreEngine
  readonly inMemory: boolean
  /** Default: those of this version. */
  readonly transports?: TransportRegistry
}

/** The host and the store for a location. */
export function environmentOf(
  location: string,
  options: { readonly host?: Host; readonly storeCacheBytes?: number },
): Environment {
  if (typeof location !== 'string' || location === '') throw new TypeError('a location is a path or :memory:')
  const base = options.host ?? nodeHost()
  if (location === ':memory:') {
    const host = memoryHost({ base })
    return { location, path: '/memory', host, storeEngine: memoryEngine(), inMemory: true }
  }
  const { storeCacheBytes } = options
  return {
    location,
    path: location,
    host: base,
    storeEngine: classicLevelEngine({
      files: base.files,
      ...(storeCacheBytes === undefined ? {} : { cacheBytes: storeCacheBytes }),
    }),
    inMemory: false,
  }
}

/** What the lock file says of this process. */
export function describeHolder(host: Host): string {
  return JSON.stringify({ pid: host.processId, since: new Date(host.clock.wall()).toISOString() })
}

/** As `open`, in any environment: for tests and simulators. */
export async function openIn<K = string, V = string>(
  environment: Environment,
  options: OpenOptions,
  mode: { readonly asReplica: boolean },
): Promise<Database<K, V>> {
  checkOptions('open', options, openRules)
  const keyEncoding = (options.keyEncoding ?? 'utf8') as Encoding
  const valueEncoding = (options.valueEncoding ?? 'utf8') as Encoding
  codecOf(keyEncoding)
  codecOf(valueEncoding)
  if (options.site !== undefined) checkSiteId(options.site)
  const { location, path, host, storeEngine, inMemory } = environment
  const folder = await DatabaseFolder.open({
    files: host.files,
    path,
    holder: describeHolder(host),
    create: options.create !== false,
  })
  let engine: Engine | undefined
  try {
    const state = await settleState(folder, host, options.site, mode.asReplica)
    await folder.sweep()
    const retain = options.retain ?? { bytes: (inMemory ? 32 : 256) * mib }
    const segmentBytes = options.segmentBytes ?? (inMemory ? 8 * mib : undefined)
    engine = new Engine({
      host,
      folder,
      storeEngine,
      durability: options.durability ?? 'sync',
      segmentBytes,
      cacheBytes: options.cacheBytes,
      retain,
      checkpointBytes: options.checkpointBytes ?? (inMemory ? 8 : 64) * mib,
      overlayWritesMax,
    })
    const site = await startSite(engine, { state, segmentBytes, asReplica: mode.asReplica })
    return new Database<K, V>({
      location,
      engine,
      site,
      transports: environment.transports ?? transportsOf(host),
      outsideFiles: inMemory ? (options.host ?? nodeHost()).files : host.files,
      keyEncoding,
      valueEncoding,
      maxAttempts: options.maxAttempts,
      retain,
    })
  } catch (error) {
    try {
      await engine?.close({ discard: true })
    } finally {
      await folder.release()
    }
    throw error
  }
}

/** The state of the site; a new folder gets its own. */
async function settleState(
  folder: DatabaseFolder,
  host: Host,
  site: string | undefined,
  asReplica: boolean,
): Promise<SiteState> {
  const { state } = folder
  if (state !== undefined) {
    if (site !== undefined && site !== state.site) {
      throw new CoterieError('OPTION_INVALID', `this site's id is '${state.site}' for ever, not '${site}'`)
    }
    return state
  }
  return await folder.saveState(() => ({
    format: 1,
    databaseId: asReplica ? undefined : newDatabaseId(host.random),
    site: site ?? newSiteId(host.random),
    term: 0,
    termMaster: undefined,
    vote: undefined,
    promiseMs: 0,
    incarnation: newIncarnation(host.random),
    inGroup: false,
    view: undefined,
    role: asReplica ? 'replica' : 'standalone',
    sites: undefined,
    master: undefined,
    generation: 1,
    staging: undefined,
    aside: [],
    cleanEnd: undefined,
    createdMs: host.clock.wall(),
  }))
}

/** Opens what data there is, joins it to the replication core, and applies what is certainly committed. */
async function startSite(
  engine: Engine,
  options: {
    readonly state: SiteState
    readonly segmentBytes: number | undefined
    readonly asReplica: boolean
  },
): Promise<Site> {
  const { state, segmentBytes, asReplica } = options
  let certain: { committedLsn: Lsn; permanentLsn: Lsn } | undefined
  if (state.databaseId !== undefined) {
    const parts = await engine.openParts({
      databaseId: state.databaseId,
      generation: state.generation,
      durableAtLeast: state.cleanEnd === undefined ? noLsn : toLsn(state.cleanEnd.lsn),
      // A replica gets them again from its master, and keeps its log and what it has promised.
      mayLackRows: asReplica || state.role === 'replica',
    })
    const { permanentLsn } = parts
    // Rows are applied before they count where acks attest `applied`: what has undo is committed for certain only by
    // the word of a master.
    engine.useParts(parts, { databaseId: state.databaseId, permanentLsn, committedLsn: permanentLsn })
    const committedLsn = parts.log.lastLsn
    // Alone, everything durable is committed. In a group only the group can say; and the master of one whose size
    // was not fixed goes on with what it has, but may yet find that its replicas have gone on without it.
    if (state.role === 'standalone') certain = { committedLsn, permanentLsn: committedLsn }
    else if (state.role === 'master' && (state.sites ?? 1) === 1 && !asReplica) {
      certain = { committedLsn, permanentLsn }
    }
  }
  const site = new Site({ engine, state, segmentBytes, ...certain })
  await site.loadLostFiles()
  if (certain !== undefined) {
    engine.commitTo({ ...certain, applyLsn: certain.committedLsn, acks: 1, detached: [] })
    await engine.parts.applier.whenApplied(certain.committedLsn)
  }
  return site
}
