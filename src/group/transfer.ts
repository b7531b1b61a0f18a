// One hand-over of the mastership as a promise, on the side that gives it and on the side that asks for it. The
// protocol is the core's; here is only the waiting for what it reports.

import { CoterieError } from '../base/errors.ts'
import { memberOf } from '../base/membership.ts'
import { aborted } from '../database/aborted.ts'
import type { CoreEvent } from '../replication/effects.ts'
import type { Site } from './site.ts'

/** What a hand-over came to. */
export interface TransferResult {
  /** Who is master now. */
  readonly site: string
  readonly term: number
  /** The last record of the old reign: nothing before it is lost, nothing came after it. */
  readonly lsn: number
  /** How long writers had to wait, as far as this site knows. */
  readonly pausedMs: number
}

interface Waited {
  /** Undefined as long as nothing is decided. */
  decide(event: CoreEvent): TransferResult | CoterieError | undefined
  /** Called when the time is up: calls it off, where that is still possible. */
  onTimeUp(): CoterieError
  /** The site is closed or leaves the group. */
  readonly signal: AbortSignal
  readonly timeoutMs: number
  /** What else may settle it; returns how to end the watch. */
  readonly watch?: (settle: (outcome: TransferResult) => void) => () => void
}

function waitFor(site: Site, begin: () => void, waited: Waited): Promise<TransferResult> {
  return new Promise((resolve, reject) => {
    const offs: (() => void)[] = []
    const settle = (outcome: TransferResult | CoterieError): void => {
      for (const off of offs.splice(0)) off()
      if (outcome instanceof CoterieError) reject(outcome)
      else resolve(outcome)
    }
    offs.push(
      site.events.on('core', (event) => {
        const outcome = waited.decide(event)
        if (outcome !== undefined) settle(outcome)
      }),
    )
    if (waited.watch !== undefined) offs.push(waited.watch(settle))
    const timer = site.engine.host.timers.after(waited.timeoutMs, () => settle(waited.onTimeUp()))
    offs.push(() => timer.cancel())
    const { signal } = waited
    const abort = (): void => settle(failed('this site leaves the group'))
    signal.addEventListener('abort', abort, { once: true })
    offs.push(() => signal.removeEventListener('abort', abort))
    try {
      begin()
    } catch (error) {
      for (const off of offs.splice(0)) off()
      reject(error as Error)
    }
  })
}

/** How often whoever waits for a site to catch up looks at it. */
const lookEveryMs = 10

/**
 * Hands the mastership of this site over, once the other site has caught up: until then nobody's writes wait.
 * TRANSFER_FAILED: this site goes on, unless the message says otherwise.
 */
export async function handOver(
  site: Site,
  options: { readonly to: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<TransferResult> {
  const { to, timeoutMs, signal } = options
  const deadline = site.now() + timeoutMs
  while (isOnItsWay(site, to) && site.now() < deadline) {
    const waited = new Promise<void>((resolve) => {
      site.engine.host.timers.after(lookEveryMs, resolve)
    })
    await aborted(waited, signal)
  }
  return await handOverNow(site, { to, timeoutMs: Math.max(1, deadline - site.now()), signal })
}

/** The site can be expected to be in step soon: it is attached, or at least linked and a member. */
function isOnItsWay(site: Site, to: string): boolean {
  if (!site.isWriter) return false
  const replica = site.replicas.find((view) => view.site === to)
  if (replica !== undefined) return !replica.view && (!replica.inStep || !replica.votes)
  const isLinked = site.core.sites.some((view) => view.site === to && view.linked)
  return isLinked && memberOf(site.core.membership, to) !== undefined
}

function handOverNow(
  site: Site,
  options: { readonly to: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<TransferResult> {
  const { to, timeoutMs, signal } = options
  const beganAt = site.now()
  let given: { readonly term: number; readonly lsn: number } | undefined
  const decide = (event: CoreEvent): TransferResult | CoterieError | undefined => {
    if (event.kind === 'handOverFailed' && given === undefined) {
      return new CoterieError(event.code, event.message, { details: { site: to } })
    }
    if (event.kind === 'handedOver') given = { term: event.term, lsn: event.lsn }
    if (event.kind !== 'masterFound' && event.kind !== 'newMaster') return undefined
    if (given === undefined || event.term < given.term) return undefined
    if (event.site !== to) {
      return failed(`site ${event.site} has become master in term ${event.term} instead of ${to}`)
    }
    return { site: to, term: event.term, lsn: given.lsn, pausedMs: site.now() - beganAt }
  }
  const onTimeUp = (): CoterieError => {
    if (given !== undefined) {
      return failed(
        `site ${to} was handed the mastership, but was not heard as master within ${timeoutMs} ms`,
      )
    }
    const message = `site ${to} did not catch up within ${timeoutMs} ms`
    site.cancelHandOver(message)
    return failed(message)
  }
  return waitFor(site, () => site.handOver(to), { decide, onTimeUp, signal, timeoutMs })
}

/** On an attached replica: asks its master to hand over. `reigned` says when this site reigns. */
export function takeOver(
  site: Site,
  options: {
    readonly address: string
    readonly timeoutMs: number
    readonly signal: AbortSignal
    readonly onReign: (listener: () => void) => () => void
  },
): Promise<TransferResult> {
  const { address, timeoutMs, signal, onReign } = options
  const beganAt = site.now()
  const { core } = site
  const decide = (event: CoreEvent): CoterieError | undefined => {
    if (event.kind === 'handOverFailed') return new CoterieError(event.code, event.message)
    if (event.kind === 'masterFound' && event.site !== site.site && event.term > core.term) {
      return failed(`site ${event.site} has become master in term ${event.term}`)
    }
    return undefined
  }
  const onTimeUp = (): CoterieError => failed(`the master did not hand over within ${timeoutMs} ms`)
  const watch: Waited['watch'] = (settle) =>
    onReign(() => {
      const lsn = (core.history.at(-1)?.firstLsn ?? 1) - 1
      settle({ site: site.site, term: core.term, lsn, pausedMs: site.now() - beganAt })
    })
  return waitFor(site, () => site.askTakeOver(address), { decide, onTimeUp, signal, timeoutMs, watch })
}

function failed(message: string): CoterieError {
  return new CoterieError('TRANSFER_FAILED', message)
}
