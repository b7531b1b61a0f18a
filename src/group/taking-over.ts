// One takeover, from the side of the replica that wants to be master: what it will serve with, where it listens, and
// how it ended. The listeners are bound before the master is asked, because it tells its other replicas the address.

import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import { checkOptions, type OptionRules, text, wholeNumber } from '../base/options.ts'
import type { Timer } from '../env/host.ts'
import { parseAddress } from '../transport/address.ts'
import { linkOptionsOf } from '../transport/link-options.ts'
import type { Listener } from '../transport/transport.ts'
import type { StopResult } from './events.ts'
import { bind, Master, type MasterSetting } from './master.ts'
import { checkTimes, coreOptions, type ServeOptions, serveRules } from './serve-options.ts'

/**
 * How this site goes on as master. Without `listen` it takes writes, but nobody can attach before `serve()`. Options for
 * links that are not given are those of the attachment.
 */
export interface TakeOverOptions extends Omit<Partial<ServeOptions>, 'inTurn'> {
  /** Where the others reach this site. Default: the first of `listen`, with its real port. */
  readonly advertise?: string
  /** How long the master may take to answer. Default 10,000. */
  readonly timeoutMs?: number
}

const { inTurn: _inTurn, ...masterRules } = serveRules

export const takeOverRules: OptionRules = { ...masterRules, advertise: text, timeoutMs: wholeNumber(1) }

export interface TakeOverResult {
  readonly term: number
  /** The last LSN of the old master; this site's term begins behind it. */
  readonly lsn: number
  /** From asking until this site took writes: writes paused for less. Undefined if the master began it. */
  readonly pausedMs?: number
  /** With `listen`, or where this site has served in its turn. */
  readonly master?: Master
}

const timeoutMsDefault = 10_000

/** OPTION_UNKNOWN, OPTION_INVALID, ADDRESS_INVALID. */
export function checkTakeOver(call: string, options: TakeOverOptions): void {
  checkOptions(call, options, takeOverRules)
  checkTimes(options)
  const { advertise, listen = [] } = options
  const texts = typeof listen === 'string' ? [listen] : listen
  const [first] = texts.map((each) => parseAddress(each))
  if (advertise !== undefined) parseAddress(advertise)
  else if (first !== undefined && ['0.0.0.0', '::'].includes(first.host)) {
    const message = `'listen' is ${first.text}, so 'advertise' must say where others reach this site`
    throw new CoterieError('OPTION_INVALID', message, { details: { option: 'advertise' } })
  }
}

export class TakingOver {
  readonly done: Promise<TakeOverResult>
  readonly #setting: MasterSetting
  readonly #options: TakeOverOptions
  #resolve: ((result: TakeOverResult) => void) | undefined
  #reject: ((error: CoterieError) => void) | undefined
  #listeners: readonly Listener[] = []
  #askedAt: number | undefined
  #timer: Timer | undefined
  #isSettled = false

  constructor(setting: MasterSetting, options: TakeOverOptions) {
    this.#setting = setting
    this.#options = options
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.done.catch(() => undefined)
  }

  /** The master may have given up its place: what became of that must be found out. */
  get isAsked(): boolean {
    return this.#askedAt !== undefined && !this.#isSettled
  }

  get #address(): string {
    const { advertise } = this.#options
    if (advertise !== undefined) return parseAddress(advertise).text
    return this.#listeners[0]?.address ?? this.#setting.serving()?.addresses[0] ?? ''
  }

  /** ADDRESS_IN_USE; INVALID_STATE where this site serves in its turn, and goes on at those addresses. */
  async listen(): Promise<void> {
    const { listen } = this.#options
    if (listen === undefined) return
    const serving = this.#setting.serving()
    if (serving !== undefined) {
      const message = `this site serves at ${serving.addresses.join(', ')}, and goes on there: leave out 'listen'`
      throw new CoterieError('INVALID_STATE', message)
    }
    const listeners = await bind(this.#setting, listen, linkOptionsOf(this.#options))
    // The master may have handed over of its own accord meanwhile, or the attachment may have ended.
    if (this.#isSettled) await Promise.all(listeners.map((listener) => listener.close()))
    else this.#listeners = listeners
  }

  /** `onSilence`: the master has not answered in time. */
  ask(onSilence: () => void): void {
    const { site } = this.#setting
    const { timeoutMs = timeoutMsDefault } = this.#options
    this.#askedAt = site.now()
    this.#timer = site.engine.host.timers.after(timeoutMs, onSilence)
    site.askTakeOver(this.#address)
  }

  /** The mastership is this site's: takes it up. Rejects if it could not. */
  async reign(adopt: (master: Master) => void): Promise<void> {
    const { site } = this.#setting
    const { lastLsn } = site.core
    this.#timer?.cancel()
    const { advertise: _, timeoutMs: __, ...serve } = this.#options
    await reignAsGiven(this.#setting, serve, this.#address)
    const [first] = this.#listeners
    let master = this.#setting.serving()
    if (first !== undefined) {
      master = Master.goOn(this.#setting, { ...serve, listen: first.address }, this.#listeners)
      adopt(master)
    }
    this.#isSettled = true
    const { term } = site.core
    this.#resolve?.({
      term,
      lsn: lastLsn,
      ...(this.#askedAt === undefined ? {} : { pausedMs: site.now() - this.#askedAt }),
      ...(master === undefined ? {} : { master }),
    })
  }

  fail(cause: unknown): void {
    if (this.#isSettled) return
    this.#isSettled = true
    this.#timer?.cancel()
    const error = isCoterieError(cause)
      ? cause
      : new CoterieError('TRANSFER_FAILED', asError(cause).message, { cause })
    const listeners = this.#listeners
    this.#listeners = []
    // Nobody is told of it before the addresses are free again.
    Promise.all(listeners.map((listener) => listener.close())).then(
      () => this.#reject?.(error),
      () => this.#reject?.(error),
    )
  }
}

/** Begins the reign of a term that the old master has given to this site. */
export async function reignAsGiven(
  setting: MasterSetting,
  serve: Partial<ServeOptions>,
  address: string,
): Promise<void> {
  const { site } = setting
  const sites = serve.sites ?? site.groupSites
  const { durability } = site.engine
  const before = setting.serving()?.asMaster ?? {}
  const now = coreOptions(serve, address === '' ? undefined : address)
  await site.roles.reignElected({
    ...before,
    ...now,
    timings: { ...before.timings, ...now.timings },
    ...(sites === undefined ? {} : { sites }),
    durability,
  })
}

/** What the end of the attachment means for a takeover that was under way. */
export function takeOverEnd({ reason, cause }: StopResult): CoterieError {
  const options = cause === undefined ? {} : { cause }
  if (reason === 'connection-lost') {
    const message = 'the master was lost before it said whether it has handed over to this site'
    return new CoterieError('CONNECTION_CLOSED', message, options)
  }
  if (reason === 'stopped' || reason === 'cancelled' || reason === 'became-master') {
    return new CoterieError('ABORTED', 'the attachment was ended during the takeover', options)
  }
  // Perhaps after the old master had given up: then nobody goes on as before.
  if (reason === 'apply-failed' && cause !== undefined) return cause
  const why = cause === undefined ? reason : cause.message
  return new CoterieError('TRANSFER_FAILED', `the attachment has ended: ${why}`, options)
}
