// One site of the demo: a process that joins the group by the public API and does what it is told over IPC. The demo
// kills it without warning; that is what it is for. It ends by itself when the demo is gone.

import { CoterieError, type Database, type Group, isCoterieError, open } from '../../index.ts'
import type {
  Acked,
  ExpectedRow,
  FromSite,
  NotAcked,
  SiteEvent,
  SiteRequest,
  SiteResults,
  ToSite,
  WrongRow,
} from './messages.ts'

const checkedAtOnce = 500

class Site {
  #db: Database | undefined
  #group: Group | undefined
  #acked: Acked[] = []
  #refused: NotAcked[] = []
  #flushing = false

  async handle(request: SiteRequest): Promise<unknown> {
    switch (request.type) {
      case 'join':
        return await this.#join(request)
      case 'put':
        for (const [index, key, value] of request.rows) this.#put(index, key, value)
        return {}
      case 'status':
        return this.#status()
      case 'digest':
        return await this.#open().digest()
      case 'check':
        return { wrong: await this.#check(request.rows) }
      case 'close':
        await this.#db?.close()
        return {}
    }
  }

  #open(): Database {
    if (this.#db === undefined) throw new CoterieError('INVALID_STATE', 'the site has no database yet')
    return this.#db
  }

  async #join(request: SiteRequest & { type: 'join' }): Promise<SiteResults['join']> {
    const { path, site, listen, seeds } = request
    const db: Database = this.#db ?? (await this.#opened(path, site))
    const group = await db.join({ site, listen, seeds })
    this.#group = group
    group.on('master', ({ term }) => tell({ event: 'master', term }))
    // Who founds a group is its master before anybody can listen.
    if (group.role === 'master') tell({ event: 'master', term: group.term })
    group.on('synced', (result) => tell({ event: 'synced', result }))
    await group.ready
    return { address: group.addresses[0] ?? '' }
  }

  async #opened(path: string, site: string): Promise<Database> {
    const db: Database = await open(path, { site })
    db.on('rewound', ({ transactions }) => tell({ event: 'rewound', transactions }))
    this.#db = db
    return db
  }

  #put(index: number, key: string, value: string): void {
    void this.#open()
      .put(key, value)
      .then(
        (receipt) => this.#acked.push([index, receipt.token]),
        (error: unknown) => this.#refused.push(notAcked(index, error)),
      )
      .then(() => this.#flushSoon())
  }

  /** Commits come back in groups; so do the answers. */
  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      const event: SiteEvent = { event: 'acks', acked: this.#acked, refused: this.#refused }
      this.#acked = []
      this.#refused = []
      tell(event)
    })
  }

  #status(): SiteResults['status'] {
    const { lastLsn, appliedLsn, committedLsn, canLose, term } = this.#open().status()
    const group = this.#group?.status()
    return {
      lastLsn,
      appliedLsn,
      committedLsn,
      isMaster: group?.role === 'master',
      term,
      canLose,
      members: group?.members.length ?? 0,
    }
  }

  async #check(rows: readonly ExpectedRow[]): Promise<WrongRow[]> {
    const db = this.#open()
    const wrong: WrongRow[] = []
    for (let at = 0; at < rows.length; at += checkedAtOnce) {
      const part = rows.slice(at, at + checkedAtOnce)
      const values = await db.getMany(part.map(([, key]) => key))
      const outcomes = await Promise.all(
        part.map(([, , , token]) => (token === null ? 'applied' : db.outcome(token, { timeoutMs: 1000 }))),
      )
      for (const [i, [index, key, value]] of part.entries()) {
        if (values[i] === undefined) wrong.push({ index, key, reason: 'missing' })
        else if (values[i] !== value) wrong.push({ index, key, reason: 'another value' })
        else if (outcomes[i] !== 'applied') wrong.push({ index, key, reason: `its token is ${outcomes[i]}` })
      }
    }
    return wrong
  }
}

function notAcked(index: number, error: unknown): NotAcked {
  return [index, isCoterieError(error) ? error.code : 'FAILED']
}

function tell(message: FromSite): void {
  if (process.connected) process.send?.(message)
}

const site = new Site()

async function answer(message: ToSite): Promise<void> {
  try {
    tell({ id: message.id, result: await site.handle(message) })
  } catch (error) {
    const code = isCoterieError(error) ? error.code : 'FAILED'
    tell({ id: message.id, error: { code, message: (error as Error).message } })
  }
}

process.on('message', (message) => {
  void answer(message as ToSite)
})
process.on('disconnect', () => process.exit(0))
// Ctrl-C reaches the whole group of processes; the demo decides what becomes of its sites.
process.on('SIGINT', () => undefined)
