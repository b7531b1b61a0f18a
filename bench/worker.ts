// One process of a bench: a master with its load, a replica, a site of a group, a reader, or the load of a peer. It runs the built package,
// as its users do. Any error ends the bench; nothing is retried or left out.

import { createServer } from 'node:net'
import type { Attachment, Database } from '../src/index.ts'
import { GroupWorker } from './group-worker.ts'
import { runLoad, writeExactly } from './load.ts'
import { runPeerLoad } from './peer-load.ts'
import { measureReads } from './reads-in-worker.ts'
import { makeKeys, makeValues } from './rows.ts'
import { TakeOverLoad } from './takeover-load.ts'
import type { WorkerAnswer, WorkerCall, WorkerCalls } from './worker-calls.ts'

type Handlers = {
  readonly [Verb in keyof WorkerCalls]: (
    ...argument: Parameters<WorkerCalls[Verb]>
  ) => ReturnType<WorkerCalls[Verb]> | Promise<ReturnType<WorkerCalls[Verb]>>
}

const fillBatchRows = 1000
const fillBatchesAtOnce = 8
const pollMs = 2

const built = new URL('../dist/index.js', import.meta.url).href
const { open, attachMaster } = (await import(built)) as typeof import('../src/index.ts')

let db: Database | undefined
let attachment: Attachment<Database> | undefined
let takeOverLoad: TakeOverLoad | undefined
let site: GroupWorker | undefined

function opened(): Database {
  if (db === undefined) throw new Error('no database is open in this worker')
  return db
}

function joined(): GroupWorker {
  if (site === undefined) throw new Error('this worker has joined no group')
  return site
}

async function caughtUp(lsn: number): Promise<void> {
  while (opened().status().appliedLsn < lsn) {
    await new Promise((resolve) => {
      setTimeout(resolve, pollMs)
    })
  }
}

async function fill(rows: number, valueBytes: number): Promise<void> {
  const keys = makeKeys(rows)
  const values = makeValues(valueBytes)
  let at = 0
  const fillSome = async (): Promise<void> => {
    while (at < keys.length) {
      const from = at
      at += fillBatchRows
      const puts = keys.slice(from, at).map((key, index) => {
        return { type: 'put' as const, key, value: values[(from + index) % values.length] as string }
      })
      await opened().batch(puts, { durability: 'written' })
    }
  }
  await Promise.all(Array.from({ length: fillBatchesAtOnce }, fillSome))
  await opened().checkpoint()
}

const handlers: Handlers = {
  async open(options) {
    db = await open(options.path, options.open)
  },
  fill: ({ rows, valueBytes }) => fill(rows, valueBytes),
  async serve(options) {
    const { addresses } = await opened().serve(options)
    return { address: addresses[0] as string }
  },
  async attach({ path, address }) {
    const startedAt = performance.now()
    attachment = attachMaster(db ?? { path }, address)
    const result = await attachment.synced
    const syncedMs = performance.now() - startedAt
    db = attachment.db
    await caughtUp(result.to)
    const appliedMs = performance.now() - startedAt
    return { kind: result.kind, syncedMs, appliedMs, transactions: result.transactions }
  },
  async detach() {
    await attachment?.stop()
    attachment = undefined
  },
  write: (options) => writeExactly(opened(), options),
  load: (options) => runLoad(opened(), options),
  async caughtUp({ lsn }) {
    const startedAt = performance.now()
    const lagRecords = lsn - opened().status().appliedLsn
    await caughtUp(lsn)
    return { lagRecords, ms: performance.now() - startedAt }
  },
  read: (options) => measureReads(opened(), options),
  async join({ path, site: name, listen, seeds, load }) {
    db = await open(path, { site: name })
    site = new GroupWorker(db, load)
    return { address: await site.join({ listen, seeds }) }
  },
  firstCommit: ({ after }) => joined().firstCommit(after),
  reign: () => joined().reign(),
  takeOverLoad(options) {
    takeOverLoad = new TakeOverLoad(opened(), options)
  },
  acknowledgedSince: async ({ fromMs }) => (await takeOverLoad?.since(fromMs)) ?? [],
  async takeOver() {
    const { master, pausedMs } = await opened().takeOver({ listen: 'tcp://127.0.0.1:0' })
    return { address: master?.addresses[0] as string, pausedMs: pausedMs as number }
  },
  async echo() {
    const server = createServer((socket) => {
      socket.setNoDelay(true)
      socket.pipe(socket)
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    return { port: (server.address() as { port: number }).port }
  },
  peerLoad: (options) => runPeerLoad(options),
  async close() {
    await db?.close()
    db = undefined
    attachment = undefined
  },
}

async function answer({ id, verb, argument }: WorkerCall): Promise<WorkerAnswer> {
  try {
    const handler = handlers[verb] as (argument: unknown) => unknown
    return { id, result: await handler(argument) }
  } catch (error) {
    return { id, error: `${verb}: ${error instanceof Error ? error.stack : error}` }
  }
}

process.on('message', (call) => {
  void answer(call as WorkerCall).then((message) => process.send?.(message))
})
process.on('disconnect', () => process.exit(0))
