// The events of a group, as the lines that `coterie join` prints, and what its end means for the exit code.

import type { Group, GroupEnd } from '../index.ts'
import type { EventLines } from './event-lines.ts'
import { type ExitCode, exitCodeOf, exitCodes } from './exit-codes.ts'
import { formatBytes, formatCount, formatMs } from './format.ts'
import type { Progress, ProgressOptions } from './progress.ts'

/** Why an election has elected nobody. */
export const failureWords = {
  'no-majority': 'too few members answer',
  'nobody-electable': 'no member that answers may become master',
  'no-votes': 'the votes were split',
  deferred: 'the site that has the most did not become master',
  leased: 'the lease of the last master may hold still',
} as const

const stepDownWords = {
  replaced: 'another site has become master',
  'no-majority': 'a majority of the members does not answer',
  'handed-over': 'it was handed over',
  asked: 'it was asked to',
} as const

export function printGroupEvents(
  group: Group,
  lines: EventLines,
  progress: (options: ProgressOptions) => Progress,
): void {
  printReigns(group, lines)
  printElections(group, lines)
  printSites(group, lines)
  printSync(group, lines, progress)
}

function printReigns(group: Group, lines: EventLines): void {
  group.on('newMaster', (event) =>
    lines.print('newMaster', event, `the master is ${event.site}, term ${event.term}, at ${event.address}`),
  )
  group.on('master', (event) => lines.print('master', event, `this site is master in term ${event.term}`))
  group.on('replica', (event) =>
    lines.print('replica', event, `this site is a replica in term ${event.term}`),
  )
  group.on('steppedDown', (event) =>
    lines.print(
      'steppedDown',
      event,
      `this site is master no more: ${stepDownWords[event.reason]}` +
        (event.site === undefined ? '' : ` (${event.site})`),
    ),
  )
  group.on('handedOver', (event) =>
    lines.print(
      'handedOver',
      event,
      `handed over to ${event.site} in term ${event.term}, at lsn ${formatCount(event.lsn)}`,
    ),
  )
}

function printElections(group: Group, lines: EventLines): void {
  // An election that fails is held again every second or so, for as long as it takes: people are told what is new.
  let lastFailure: string | undefined
  group.on('newMaster', () => {
    lastFailure = undefined
  })
  group.on('electionBegun', (event) =>
    lines.print(
      'electionBegun',
      event,
      lastFailure === undefined ? 'no master is heard: an election begins' : undefined,
    ),
  )
  group.on('electionFailed', (event) => {
    const { have, need, reason } = event
    const words = `nobody was elected, it is tried again: ${failureWords[reason]} (${have} heard, ${need} needed)`
    lines.print('electionFailed', event, words === lastFailure ? undefined : words)
    lastFailure = words
  })
  group.on('voted', (event) => lines.print('voted', event, `voted for ${event.site} in term ${event.term}`))
}

function printSites(group: Group, lines: EventLines): void {
  group.on('siteConnected', (event) =>
    lines.print('siteConnected', event, `connected with ${event.site} at ${event.address}`),
  )
  group.on('siteLost', (event) => lines.print('siteLost', event, `lost the connection with ${event.site}`))
  group.on('memberAdded', (event) =>
    lines.print('memberAdded', event, `${event.site} at ${event.address} is a member`),
  )
  group.on('memberRemoved', (event) =>
    lines.print('memberRemoved', event, `${event.site} is a member no more`),
  )
  // Who is refused tries again: people are told once.
  let lastRefusal: string | undefined
  group.on('siteRefused', (event) => {
    const words = `${event.site === '' ? 'a site' : event.site} refused: ${event.code}: ${event.message}`
    lines.print('siteRefused', event, words === lastRefusal ? undefined : words)
    lastRefusal = words
  })
  group.on('refused', ({ code, message }) =>
    lines.print('refused', { code, message }, `refused by the group: ${code}: ${message}`),
  )
  group.on('seedFailed', ({ address, error }) =>
    lines.print(
      'seedFailed',
      { address, code: error.code, message: error.message },
      `seed ${address}: ${error.code}: ${error.message}`,
    ),
  )
}

function printSync(group: Group, lines: EventLines, progress: (options: ProgressOptions) => Progress): void {
  let bar: Progress | undefined
  group.on('syncProgress', ({ unit, done, total }) => {
    bar ??= progress({ label: 'sync', unit, total })
    bar.update(done, total)
  })
  const endBar = (): void => {
    bar?.stop()
    bar = undefined
  }
  group.on('synced', (result) => {
    endBar()
    const { kind, transactions, bytes, ms, to } = result
    const amount = kind === 'snapshot' ? formatBytes(bytes) : `${formatCount(transactions)} transactions`
    lines.print(
      'synced',
      { ...result },
      `synced ${kind} ${amount} in ${formatMs(ms)}, at lsn ${formatCount(to)}`,
    )
  })
  group.on('newMaster', endBar)
  group.on('stopped', endBar)
}

export function printGroupEnd(end: GroupEnd, lines: EventLines): void {
  const cause = end.cause === undefined ? '' : `: ${end.cause.code}: ${end.cause.message}`
  lines.print('stopped', { ...end }, `${end.reason} at lsn ${formatCount(end.lsn)}, term ${end.term}${cause}`)
}

/** Leaving by request is in order; what the group or a failure decided is not. */
export function exitCodeOfGroup(end: GroupEnd): ExitCode {
  switch (end.reason) {
    case 'left':
    case 'cancelled':
      return exitCodes.ok
    case 'removed':
    case 'refused':
      return end.cause === undefined ? exitCodes.connection : exitCodeOf(end.cause)
    case 'failed':
      return end.cause === undefined ? exitCodes.failed : exitCodeOf(end.cause)
  }
}
