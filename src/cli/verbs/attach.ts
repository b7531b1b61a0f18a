// coterie attach: follows a master as a replica, until a signal ends it.
//
// A connection that is lost is made again, with a pause that doubles. What another try cannot mend (another database,
// another protocol, a damaged file) ends the command. Where its master has moved, it goes along. `coterie promote` and
// `coterie takeover` on the same path make the running process the master; so does a master that hands over to it.

import type { Command } from 'commander'
import { CoterieError, isCoterieError } from '../../base/errors.ts'
import type { Attachment, Master, StopResult } from '../../index.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { ControlServer } from '../control/control-server.ts'
import { printDatabaseEvents } from '../database-events.ts'
import { EventLines } from '../event-lines.ts'
import { CommandError, type ExitCode, exitCodeOf, exitCodes, usageError } from '../exit-codes.ts'
import { formatBytes, formatCount, formatMs } from '../format.ts'
import { library } from '../library.ts'
import { toLinkOptions } from '../linking.ts'
import { type ByteDatabase, LocalPort, takeOver, viewEncodings } from '../local-port.ts'
import { collect, durationMs } from '../options.ts'
import type { PortPromoted, PortTakenOver, PortTakeOverOptions } from '../port.ts'
import type { Progress } from '../progress.ts'
import {
  exitCodeOfServing,
  printMasterEvents,
  printServeEnd,
  type ServingOptions,
  servingOptions,
  toServeOptions,
} from '../serving.ts'
import { pause, whenAborted } from '../signals.ts'

interface AttachVerbOptions extends ServingOptions {
  readonly replace?: boolean
  readonly reconnect: boolean
  readonly connectTimeout?: number
  readonly sync?: boolean
  readonly site?: string
  readonly inTurn?: boolean
  readonly view?: boolean
  readonly onlyStore?: readonly string[]
}

const firstPauseMs = 100
const pauseMsMax = 5000

export function defineAttach(program: Command, run: CommandRun): Command {
  return defineVerb<AttachVerbOptions>(program, run, {
    usage: 'attach <path> <address>',
    summary: 'follow a master as a replica',
    description:
      'Brings the directory up to date, from the log where it can and by a snapshot where it must, then follows the\n' +
      'master and prints a line for each event. Ends in good order on SIGINT or SIGTERM. Meanwhile the other verbs\n' +
      'work on the same path through this process; `coterie takeover` and `coterie promote` make it the master, and the\n' +
      'options below that are those of serve are for then, but for those of the link - --tls-..., --secret-file, --key-file,\n' +
      '--multicast and --compression -, which are for both. With --in-turn others can attach to the replica, too: it passes on what is permanent.',
    examples: [
      ['coterie attach ./copy 127.0.0.1:10000', 'makes a live copy'],
      ['coterie attach ./copy db1:10000 --listen tcp://0.0.0.0:10000', 'and serves, once it is promoted'],
      ['coterie attach ./copy db1:10000 --in-turn --listen 10.1.0.1:10000', 'and serves others in its turn'],
      ['coterie attach ./part db1:10000 --only-store cities', 'a view that keeps the rows of one store'],
    ],
    options: (command) => {
      command
        .option(
          '--replace',
          'set data of another database aside (it is not deleted), where else attach is refused',
        )
        .option('--no-reconnect', 'end when the connection is lost, instead of trying again')
        .option('--connect-timeout <time>', 'how long the master may take to answer; default 10s', durationMs)
        .option('--sync', 'commits of an asynchronous master wait for this replica')
        .option('--site <id>', 'the durable id of this site, given once; default: a random one')
        .option('--in-turn', 'serve on --listen already as a replica, with what is permanent')
        .option('--view', 'be a view, for ever: never counted by the master, never promoted')
        .option(
          '--only-store <name>',
          "be a view that keeps the rows of this store alone ('' is the unnamed one); may be given again, and is each time",
          collect,
        )
      servingOptions(command, 'once promoted, serve on this address; may be given again')
    },
    action: async (context, [path = '', address = ''], options) =>
      await new Following(context, path, address, options).run(),
  })
}

class Following {
  readonly #context: VerbContext
  readonly #path: string
  /** Of the master: the one that was given, or where it has moved to. */
  #address: string
  readonly #options: AttachVerbOptions
  readonly #lines: EventLines
  #db: ByteDatabase | undefined
  #control: ControlServer | undefined
  #master: Master | undefined
  #promoting: Promise<PortPromoted> | undefined
  #taking: Promise<PortTakenOver> | undefined
  readonly #promoted = new AbortController()
  #adopting: Promise<void> | undefined
  #everSynced = false
  /** What serves in its turn. */
  #inTurn: Master | undefined

  constructor(context: VerbContext, path: string, address: string, options: AttachVerbOptions) {
    this.#context = context
    this.#path = path
    this.#address = address
    this.#options = options
    this.#lines = new EventLines(context.output)
  }

  async run(): Promise<ExitCode> {
    const { interrupted } = this.#context.io
    const { view, onlyStore, listen, inTurn } = this.#options
    if (inTurn === true && listen === undefined) {
      throw new CoterieError('OPTION_INVALID', '--in-turn needs --listen: where others can attach')
    }
    if (listen !== undefined && (view === true || onlyStore !== undefined)) {
      throw usageError('--listen is for a site that may become master, and a view never does')
    }
    try {
      let pauseMs = firstPauseMs
      for (;;) {
        const { stop, synced } = await this.#follow()
        if (interrupted.aborted && this.#promoting === undefined) return exitCodes.ok
        const retry = this.#options.reconnect && worthAnotherTry(stop)
        if (!retry && stop.reason !== 'became-master') return this.#ended(stop)
        if (synced) pauseMs = firstPauseMs
        const moved = stop.cause?.code === 'NOT_MASTER' ? stop.cause.details.master : undefined
        if (typeof moved === 'string') this.#address = moved
        if (stop.reason !== 'became-master')
          await pause(pauseMs, AbortSignal.any([interrupted, this.#promoted.signal]))
        // Promoted while it was attached, or between two tries; or the master has handed over.
        if (this.#promoting !== undefined || stop.reason === 'became-master') return await this.#reign()
        if (interrupted.aborted) return exitCodes.ok
        pauseMs = Math.min(pauseMs * 2, pauseMsMax)
      }
    } finally {
      await this.#control?.stop()
      await this.#db?.close()
      await this.#lines.end()
    }
  }

  /** One attachment, from connecting to its end. */
  async #follow(): Promise<{ stop: StopResult; synced: boolean }> {
    const { site, replace, connectTimeout, sync, view, onlyStore } = this.#options
    const { attachMaster } = await library()
    const target = this.#db ?? { path: this.#path, ...viewEncodings, ...(site === undefined ? {} : { site }) }
    const attachment = attachMaster<Uint8Array, Uint8Array>(target, this.#address, {
      // Only the first time: what was set aside once must not be again because the address has a new owner.
      ...(replace === true && !this.#everSynced ? { replace } : {}),
      ...(connectTimeout === undefined ? {} : { connectTimeoutMs: connectTimeout }),
      ...(sync === true ? { sync } : {}),
      ...(view === true ? { view } : {}),
      ...(onlyStore === undefined ? {} : { view: { filter: (store) => onlyStore.includes(store) } }),
      ...toLinkOptions(this.#options),
    })
    const stopOnSignal = (): void => {
      void attachment.stop()
    }
    const { interrupted } = this.#context.io
    if (interrupted.aborted) stopOnSignal()
    else interrupted.addEventListener('abort', stopOnSignal, { once: true })
    const progress = this.#watch(attachment)
    const synced = await attachment.synced.then(
      () => true,
      () => false,
    )
    progress.stop()
    if (synced) {
      this.#everSynced = true
      await this.#adopt(attachment)
      await this.#serveInTurn()
    }
    const stop = await attachment.stopped
    interrupted.removeEventListener('abort', stopOnSignal)
    if (!synced) await this.#adopt(attachment)
    this.#printStop(stop)
    return { stop, synced }
  }

  /** From the first time that it is in step on, whether it is attached or not. */
  async #serveInTurn(): Promise<void> {
    const { inTurn, listen = [] } = this.#options
    const db = this.#db
    if (inTurn !== true || db === undefined || this.#inTurn !== undefined) return
    if (db.status().role !== 'replica') return
    const master = await db.serve({ ...toServeOptions(this.#options, listen), inTurn })
    this.#inTurn = master
    printMasterEvents(master, this.#lines)
    const { addresses } = master
    this.#lines.print('servingInTurn', { addresses }, `serving in turn, listening on ${addresses.join(', ')}`)
  }

  /** Takes over the database that the attachment has opened, and offers it to the other verbs. */
  #adopt(attachment: Attachment): Promise<void> {
    const db = this.#db === undefined ? openedBy(attachment) : undefined
    if (db !== undefined) {
      this.#db = db
      this.#adopting = this.#offer(db)
      // Awaited by the next call; until then it must not count as unhandled.
      this.#adopting.catch(() => undefined)
    }
    return this.#adopting ?? Promise.resolve()
  }

  async #offer(db: ByteDatabase): Promise<void> {
    printDatabaseEvents(db, this.#lines)
    if (this.#path === ':memory:') return
    this.#control = await ControlServer.start({
      host: this.#context.host,
      location: this.#path,
      port: new LocalPort(db, {
        promote: () => this.#promote(db),
        takeOver: (options) => this.#takeOver(db, options),
      }),
    })
  }

  #watch(attachment: Attachment): { stop(): void } {
    const lines = this.#lines
    let bar: Progress | undefined
    let connectedTo = this.#address
    attachment.on('connected', ({ address }) => {
      connectedTo = address
      lines.print('connected', { address }, `connected to ${address}`)
      // A copy that has data already can be read while it catches up.
      void this.#adopt(attachment)
    })
    attachment.on('connectFailed', ({ error }) =>
      lines.print(
        'connectFailed',
        { code: error.code, message: error.message },
        `${error.code}: ${error.message}`,
      ),
    )
    attachment.on('newMaster', (event) => {
      this.#address = connectedTo
      lines.print('newMaster', event, `the master is ${event.site}, term ${event.term}`)
    })
    attachment.on('syncProgress', ({ unit, done, total }) => {
      bar ??= this.#context.progress({ label: 'sync', unit, total })
      bar.update(done, total)
    })
    attachment.on('synced', (result) => {
      bar?.stop()
      const { kind, transactions, bytes, ms, to } = result
      const amount = kind === 'snapshot' ? formatBytes(bytes) : `${formatCount(transactions)} transactions`
      lines.print(
        'synced',
        { ...result },
        `synced ${kind} ${amount} in ${formatMs(ms)}, at lsn ${formatCount(to)}`,
      )
    })
    return { stop: () => bar?.stop() }
  }

  #printStop(stop: StopResult): void {
    const cause = stop.cause === undefined ? '' : `: ${stop.cause.code}: ${stop.cause.message}`
    this.#lines.print(
      'stopped',
      { ...stop },
      `${stop.reason} at lsn ${formatCount(stop.lsn)}, term ${stop.term}${cause}`,
    )
  }

  #promote(db: ByteDatabase): Promise<PortPromoted> {
    // Refused, and the process goes on.
    if (db.status().view !== undefined) return this.#becomeMaster(db)
    this.#promoting ??= this.#becomeMaster(db)
    this.#promoted.abort()
    return this.#promoting
  }

  /** If it fails the process goes on as a replica. */
  #takeOver(db: ByteDatabase, options: PortTakeOverOptions): Promise<PortTakenOver> {
    const taking = this.#takeMastership(db, options)
    this.#taking ??= taking
    taking.catch(() => {
      if (this.#taking === taking) this.#taking = undefined
    })
    return taking
  }

  async #takeMastership(db: ByteDatabase, options: PortTakeOverOptions): Promise<PortTakenOver> {
    const { listen = this.#inTurn === undefined ? (this.#options.listen ?? []) : [] } = options
    const { listen: _, ...serve } = toServeOptions(this.#options, listen)
    const taken = await takeOver(db, { ...options, listen }, serve)
    this.#nowMaster(db, taken.term)
    return taken
  }

  #nowMaster(db: ByteDatabase, term: number): void {
    const { master } = db
    if (master === undefined) {
      this.#lines.print('master', { term }, `master in term ${term}; not listening: there was no --listen`)
      return
    }
    this.#master = master
    if (master !== this.#inTurn) printMasterEvents(master, this.#lines)
    const { addresses } = master
    const text = `master in term ${term}, listening on ${addresses.join(', ')}`
    this.#lines.print('serving', { term, addresses }, text)
  }

  async #becomeMaster(db: ByteDatabase): Promise<PortPromoted> {
    const { listen } = this.#options
    const { term } = await db.promote()
    return await this.#serve(db, term, listen)
  }

  async #serve(db: ByteDatabase, term: number, listen: readonly string[] | undefined): Promise<PortPromoted> {
    if (listen !== undefined && db.master === undefined) await db.serve(toServeOptions(this.#options, listen))
    this.#nowMaster(db, term)
    return { term, addresses: db.master?.addresses ?? [] }
  }

  /** The master has handed over of its own accord. */
  async #handedOver(): Promise<void> {
    const db = this.#db
    if (db === undefined || this.#master !== undefined) return
    await this.#serve(db, db.status().term, this.#options.listen)
  }

  /** As master: stays, as `serve` does. */
  async #reign(): Promise<ExitCode> {
    const { interrupted } = this.#context.io
    if (this.#promoting !== undefined) await this.#promoting
    else if (this.#taking !== undefined) await this.#taking
    else await this.#handedOver()
    const master = this.#master
    if (master === undefined) {
      await whenAborted(interrupted)
      return exitCodes.ok
    }
    await Promise.race([master.stopped, whenAborted(interrupted)])
    await this.#control?.stop()
    await master.stop()
    const end = await master.stopped
    printServeEnd(end, this.#lines)
    return exitCodeOfServing(end)
  }

  #ended(stop: StopResult): ExitCode {
    if (stop.cause !== undefined) throw stop.cause
    if (stop.reason === 'stopped' || stop.reason === 'cancelled') return exitCodes.ok
    throw new CommandError('INTERRUPTED', stop.reason, { exitCode: exitCodes.connection })
  }
}

/** The attachment's database, if it has one that is still open. */
function openedBy(attachment: Attachment): ByteDatabase | undefined {
  try {
    const db = attachment.db as unknown as ByteDatabase
    return db.databaseId === undefined ? undefined : db
  } catch (error) {
    if (isCoterieError(error, 'INVALID_STATE')) return undefined
    throw error
  }
}

/** Whether the same call may succeed later without anybody's help. */
function worthAnotherTry(stop: StopResult): boolean {
  switch (stop.reason) {
    case 'connection-lost':
      return true
    case 'detached-by-master':
      // Mostly a master that stops in good order, and will be back.
      return stop.cause?.retryable === true
    case 'handshake-refused':
      return stop.cause?.retryable === true && exitCodeOf(stop.cause) !== exitCodes.locked
    default:
      return false
  }
}
