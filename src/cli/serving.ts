// What `serve`, and `attach` after a promotion, do as a master: options from the command line, events as lines, and
// what the end of serving means for the exit code.

import type { Command } from 'commander'
import type { AckPolicy, Master, ServeEnd, ServeOptions } from '../index.ts'
import type { EventLines } from './event-lines.ts'
import { type ExitCode, exitCodeOf, exitCodes } from './exit-codes.ts'
import { formatCount } from './format.ts'
import { type LinkingOptions, linkingOptions, toLinkOptions } from './linking.ts'
import { ackPolicy, byteSize, collect, durationMs, oneOf, wholeNumber } from './options.ts'

export interface ServingOptions extends LinkingOptions {
  readonly listen?: readonly string[]
  readonly acks?: AckPolicy
  readonly sites?: number
  readonly attest?: 'received' | 'durable' | 'applied'
  readonly quorum?: number
  readonly maxReplicas?: number
  readonly mode?: 'sync' | 'async'
  readonly maxLagBytes?: number
  readonly onFull?: 'wait' | 'detach' | 'reject'
  readonly window?: number
  readonly ackTimeout?: number
  readonly silenceTimeout?: number
  readonly initialSync?: 'live' | 'blocking'
}

export function servingOptions(command: Command, listenWords: string): void {
  command
    .option('--listen <address>', listenWords, collect)
    .option(
      '--acks <policy>',
      'none, one, onePeer, quorum (default), allPeers, allAvailable, all, or a number',
      ackPolicy,
    )
    .option(
      '--sites <count>',
      'sites of the group, this one included: what a quorum is counted from',
      wholeNumber(1, 1000),
    )
    .option(
      '--attest <what>',
      'what an ack says: received, durable (default) or applied',
      oneOf(['received', 'durable', 'applied']),
    )
    .option('--quorum <replicas>', 'refuse writes while fewer replicas are attached', wholeNumber(0, 1000))
    .option('--max-replicas <count>', 'refuse more replicas than this', wholeNumber(0, 10_000))
    .option(
      '--mode <mode>',
      'sync (default), or async: commits do not wait for replicas',
      oneOf(['sync', 'async']),
    )
    .option('--max-lag-bytes <bytes>', 'with async: how far a replica may lag, such as 16MiB', byteSize)
    .option(
      '--on-full <what>',
      'with async, when one lags more: wait (default), detach or reject',
      oneOf(['wait', 'detach', 'reject']),
    )
    .option('--window <transactions>', 'one ack for so many transactions', wholeNumber(1, 1_000_000))
    .option('--ack-timeout <time>', 'how long a commit waits for acks, such as 10s (default)', durationMs)
    .option(
      '--silence-timeout <time>',
      'detach a replica that is silent for so long; default 10s',
      durationMs,
    )
    .option(
      '--initial-sync <how>',
      'live (default), or blocking: writes wait for a snapshot',
      oneOf(['live', 'blocking']),
    )
  linkingOptions(command)
}

export function toServeOptions(options: ServingOptions, listen: readonly string[]): ServeOptions {
  const { acks, sites, attest, quorum, maxReplicas, mode, maxLagBytes, onFull, window, initialSync } = options
  const given = {
    acks,
    sites,
    attest,
    quorum,
    maxReplicas,
    mode,
    maxLagBytes,
    onFull,
    window,
    initialSync,
    ackTimeoutMs: options.ackTimeout,
    silenceTimeoutMs: options.silenceTimeout,
  }
  // The library tells an option that is absent from one that is undefined.
  const present = Object.entries(given).filter(([, value]) => value !== undefined)
  return { listen, ...(Object.fromEntries(present) as Partial<ServeOptions>), ...toLinkOptions(options) }
}

export function printMasterEvents(master: Master, lines: EventLines): void {
  master.on('attached', (event) => lines.print('attached', event, `${event.site} attached (${event.plan})`))
  master.on('synced', (event) =>
    lines.print('synced', event, `${event.site} is synchronised at lsn ${formatCount(event.lsn)}`),
  )
  master.on('detached', (event) =>
    lines.print(
      'detached',
      event,
      `${event.site} detached at lsn ${formatCount(event.lsn)}: ${event.code}: ${event.message}`,
    ),
  )
  master.on('refused', (event) =>
    lines.print(
      'refused',
      event,
      `${event.site === '' ? 'a site' : event.site} refused: ${event.code}: ${event.message}`,
    ),
  )
  master.on('takeOverAsked', (event) =>
    lines.print('takeOverAsked', event, `${event.site} asks to take over`),
  )
  master.on('handOverFailed', (event) =>
    lines.print('handOverFailed', event, `${event.site} did not take over: ${event.code}: ${event.message}`),
  )
  master.on('quorumGained', (event) =>
    lines.print('quorumGained', event, `quorum gained: ${event.have} of ${event.need} replicas`),
  )
  master.on('quorumLost', (event) =>
    lines.print(
      'quorumLost',
      event,
      `quorum lost: ${event.have} of ${event.need} replicas; writes are refused`,
    ),
  )
}

/** Ends by request are in order; being replaced or failing is not. */
export function exitCodeOfServing(end: ServeEnd): ExitCode {
  switch (end.reason) {
    case 'stopped':
    case 'cancelled':
      return exitCodes.ok
    case 'replaced':
      return exitCodes.notMaster
    case 'failed':
      return end.cause === undefined ? exitCodes.failed : exitCodeOf(end.cause)
  }
}

export function printServeEnd(end: ServeEnd, lines: EventLines): void {
  const by = end.by === undefined ? '' : ` by ${end.by}`
  const cause = end.cause === undefined ? '' : `: ${end.cause.code}: ${end.cause.message}`
  const now = end.master === undefined ? '' : `; the master is now at ${end.master}`
  lines.print(
    'stopped',
    { ...end },
    `${end.reason}${by} at lsn ${formatCount(end.lsn)}, term ${end.term}${cause}${now}`,
  )
}
