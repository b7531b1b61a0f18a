// One site of the demo: a process that serves or attaches a database by the public API and does what it is told over
// IPC. The demo kills it without warning; that is what it is for. It ends by itself when the demo is gone.

import { attachMaster, CoterieError, type Database, isCoterieError, open } from '../../index.ts'
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

const retryMs = 25
const checkedAtOnce = 500

class Site {
  #db: Database | undefined
  #address = ''
  #closing = false
  #acked: Acked[] = []
  #refused: NotAcked[] = []
  #flushing = false

  async handle(request: SiteRequest): Promise<unknown> {
    switch (request.type) {
      case 'serve':
        return await this.#serve(request)
      case 'attach':
        this.#address = request.address
        void this.#follow(request.path, request.site)
        return {}
      case 'redirect':
        this.#address = request.address
        return {}
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
        this.#closing = true
        await this.#db?.close()
        return {}
    }
  }

  #open(): Database {
    if (this.#db === undefined) throw new CoterieError('INVALID_STATE', 'the site has no database yet')
    return this.#db
  }

  async #serve(request: SiteRequest & { type: 'serve' }): Promise<SiteResults['serve']> {
    const { path, site, listen, sites } = request
    const db: Database = await open(path, { site })
    this.#db = db
    const master = await db.serve({ listen, sites, acks: 'quorum' })
    return { address: master.addresses[0] ?? '', term: db.status().term }
  }

  /** Attaches, and attaches again whenever the connection is lost. */
  async #follow(path: string, site: string): Promise<void> {
    while (!this.#closing) {
      const attachment = attachMaster(this.#db ?? { path, site }, this.#address)
      attachment.on('synced', (result) => tell({ event: 'synced', result }))
      const adopt = (): void => {
        this.#db = attachment.db as unknown as Database
      }
      await attachment.synced.then(adopt, () => undefined)
      const { reason, cause } = await attachment.stopped
      tell({ event: 'stopped', reason, code: cause?.code ?? null })
      await new Promise((resolve) => setTimeout(resolve, retryMs))
    }
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
    const { lastLsn, appliedLsn, committedLsn, canLose } = this.#open().status()
    return { lastLsn, appliedLsn, committedLsn, canLose }
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
