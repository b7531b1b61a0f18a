// One site in a process of its own, told over IPC what to do: the script behind `RemoteSite`. It is killed at any
// moment, so it keeps nothing that a test could miss afterwards. An error that nobody expected ends it, with the stack
// on stderr, and whoever waits for an answer gets that.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type Attachment, attachMaster, type Database, isCoterieError, open } from '../../src/index.ts'
import { SiteLoad } from './site-load.ts'
import type { KeyValue, SiteAnswer, SiteCall, SiteCalls, SiteNotice } from './site-messages.ts'

type Handlers = {
  readonly [Verb in keyof SiteCalls]: (
    ...argument: Parameters<SiteCalls[Verb]>
  ) => ReturnType<SiteCalls[Verb]> | Promise<ReturnType<SiteCalls[Verb]>>
}

const reattachAfterMs = 40

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

let db: Database | undefined
let load: SiteLoad | undefined
/** Changes when this site is to follow another master, or nobody. */
let following: object | undefined
let attachment: Attachment<Database> | undefined
let followed: Promise<void> = Promise.resolve()

function tell(message: SiteNotice | SiteAnswer): void {
  process.send?.(message)
}

function opened(): Database {
  if (db === undefined) throw new Error('this site is not open yet')
  return db
}

function adopt(database: Database): void {
  if (db === database) return
  db = database
  database.on('failed', ({ code, message }) => tell({ notice: 'failed', code, message }))
}

async function follow(options: Parameters<SiteCalls['follow']>[0], me: object): Promise<void> {
  while (following === me) {
    const current = attachMaster(
      db ?? { ...options.open, path: options.path },
      options.address,
      options.attach,
    )
    attachment = current
    current.on('syncProgress', ({ unit, done }) => tell({ notice: 'progress', unit, done }))
    current.on('rewound', ({ to, transactions, file }) => {
      tell({ notice: 'rewound', to, transactions, file: file ?? '' })
    })
    current.on('snapshotDone', () => tell({ notice: 'snapshotDone' }))
    current.synced.then(
      (result) => tell({ notice: 'synced', result }),
      () => undefined,
    )
    const stopped = await current.stopped
    tell({ notice: 'stopped', reason: stopped.reason, code: stopped.cause?.code })
    keepDatabaseOf(current)
    if (stopped.reason === 'became-master') {
      if (following === me) following = undefined
      return
    }
    await new Promise((resolve) => {
      setTimeout(resolve, reattachAfterMs)
    })
  }
}

/** The attachment closes a database that never got any data; any other stays open for the next attachment. */
function keepDatabaseOf(ended: Attachment<Database>): void {
  if (db !== undefined) return
  try {
    if (ended.db.status().databaseId !== undefined) adopt(ended.db)
  } catch (error) {
    if (!isCoterieError(error)) throw error
  }
}

/** The database of a site that follows is there once it has data. */
function present(): Database | undefined {
  if (db !== undefined) return db
  try {
    if (attachment !== undefined && attachment.db.status().databaseId !== undefined) adopt(attachment.db)
  } catch (error) {
    if (!isCoterieError(error)) throw error
  }
  return db
}

async function unfollow(): Promise<void> {
  present()
  following = undefined
  await attachment?.stop()
  await followed
}

const handlers: Handlers = {
  async open(options) {
    adopt(await open(options.path, options.open))
    const { site, lastLsn, recovery } = opened().status()
    return { site, lastLsn, recovery }
  },
  async serve(options) {
    const master = await opened().serve(options)
    return { address: master.addresses[0] as string, term: opened().status().term }
  },
  follow(options) {
    const me = {}
    following = me
    followed = follow(options, me)
  },
  unfollow,
  async promote() {
    present()
    following = undefined
    const result = await opened().promote()
    await followed
    return result
  },
  async takeOver(options) {
    const { term, lsn, master } = await opened().takeOver(options)
    return { term, lsn, address: master?.addresses[0] }
  },
  async join(options) {
    const group = await opened().join(options)
    group.on('master', ({ term }) => tell({ notice: 'master', term }))
    group.on('synced', (result) => tell({ notice: 'synced', result }))
    group.on('rewound', ({ to, transactions, file }) => {
      tell({ notice: 'rewound', to, transactions, file: file ?? '' })
    })
    group.on('stopped', ({ reason, cause }) => tell({ notice: 'stopped', reason, code: cause?.code }))
    return { address: group.address }
  },
  startLoad(options) {
    load = new SiteLoad(opened(), options, tell)
  },
  async stopLoad() {
    const running = load
    load = undefined
    return (await running?.stop()) ?? { acknowledged: 0, unknown: 0, refused: {} }
  },
  async loadEnded() {
    if (load === undefined) throw new Error('no load was started')
    return await load.ended
  },
  status: () => present()?.status(),
  digest: () => opened().digest(),
  outcomes: (tokens) => Promise.all(tokens.map((token) => opened().outcome(token))),
  values: (keys) => opened().getMany(keys),
  async changes({ from, to }) {
    const found: { lsn: number; term: number; writes: KeyValue[] }[] = []
    for await (const { lsn, term, writes } of opened().changes({ from, live: false })) {
      if (lsn > to) break
      found.push({
        lsn,
        term,
        writes: writes.map((write) => [textOf(write.key), newValueOf(write)] as const),
      })
    }
    return found
  },
  async logHash({ from, to }) {
    const hash = createHash('sha256')
    for await (const record of opened().records({ from, to })) {
      const { lsn, term, time, kind, site } = record
      hash.update(`${lsn} ${term} ${time} ${kind} ${site}\n`)
      for (const write of record.writes)
        hash.update(`${write.type} ${textOf(write.key)} ${newValueOf(write)}\n`)
    }
    return hash.digest('hex')
  },
  async verify() {
    const { log, store } = await opened().verify()
    return { records: log.records, rows: store.rows }
  },
  memoryBytes,
  async close() {
    if (following !== undefined) await unfollow()
    await db?.close()
    db = undefined
  },
}

/**
 * What is in use, not what waits to be collected. Pages of mapped files come and go as the system likes; on Linux they
 * can be told from the process's own.
 */
function memoryBytes(): number {
  collectGarbage()
  const path = '/proc/self/status'
  const own = existsSync(path) ? /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(path, 'utf8'))?.[1] : undefined
  return own === undefined ? process.memoryUsage.rss() : Number(own) * 1024
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8')
}

function newValueOf(write: { readonly type: string; readonly value?: Uint8Array }): string | undefined {
  return write.value === undefined ? undefined : textOf(write.value)
}

async function answer(call: SiteCall): Promise<void> {
  const { id, verb, argument } = call
  try {
    const handler = handlers[verb] as (argument: unknown) => unknown
    tell({ id, result: await handler(argument) })
  } catch (error) {
    if (!(error instanceof Error)) throw error
    const code = isCoterieError(error) ? error.code : undefined
    tell({ id, error: { message: error.stack ?? error.message, code } })
  }
}

process.on('message', (call) => void answer(call as SiteCall))
// The test has gone: nothing is left to do, and nobody to clean up after this process.
process.on('disconnect', () => process.exit(0))
