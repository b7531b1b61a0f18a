// What `coterie join` takes: the options of a site of a group that elects its own master, and their way to the library.

import type { Command } from 'commander'
import type { AckPolicy, JoinOptions, TwoSites } from '../index.ts'
import { type LinkingOptions, linkingOptions, toLinkOptions } from './linking.ts'
import { ackPolicy, collect, durationMs, oneOf, twoSitesMode, wholeNumber } from './options.ts'
import { version } from './version.ts'

export interface JoiningOptions extends LinkingOptions {
  readonly listen?: readonly string[]
  readonly advertise?: string
  readonly seed?: readonly string[]
  readonly start?: 'election' | 'master' | 'replica'
  readonly priority?: number
  readonly acks?: AckPolicy
  readonly attest?: 'received' | 'durable' | 'applied'
  readonly window?: number
  readonly maxReplicas?: number
  readonly ackTimeout?: number
  readonly heartbeat?: number
  readonly electionTimeout?: number
  readonly silenceTimeout?: number
  readonly replace?: boolean
  /** False with `--no-elections`. */
  readonly elections?: boolean
  readonly twoSites?: TwoSites
}

const defaultListen = 'tcp://127.0.0.1:0'

export function joiningOptions(command: Command): void {
  command
    .option('--listen <address>', `where to listen; may be given again; default ${defaultListen}`, collect)
    .option('--advertise <address>', 'where the other sites reach this one; default: the first --listen')
    .option(
      '--seed <address>',
      'a site of the group, to be asked for the others; may be given again',
      collect,
    )
    .option(
      '--start <how>',
      'election (default), master: found a group unless the seeds have one, or replica: never master',
      oneOf(['election', 'master', 'replica']),
    )
    .option(
      '--priority <number>',
      'of sites that have equally much the highest becomes master; 0 never; default 100',
      wholeNumber(0, 1_000_000),
    )
    .option(
      '--acks <policy>',
      'none, one, onePeer, quorum (default), allPeers, allAvailable, all, or a number',
      ackPolicy,
    )
    .option(
      '--attest <what>',
      'what an ack says: received, durable (default) or applied',
      oneOf(['received', 'durable', 'applied']),
    )
    .option('--window <transactions>', 'one ack for so many transactions', wholeNumber(1, 1_000_000))
    .option('--max-replicas <count>', 'refuse more replicas than this', wholeNumber(0, 10_000))
    .option('--ack-timeout <time>', 'how long a commit waits for acks, such as 10s (default)', durationMs)
    .option('--heartbeat <time>', 'how often a master speaks; default 100ms', durationMs)
    .option(
      '--election-timeout <time>',
      'without word from the master for so long, the others elect one; default 300ms',
      durationMs,
    )
    .option('--silence-timeout <time>', 'give up a site that is silent for so long; default 3s', durationMs)
    .option(
      '--two-sites <mode>',
      'of a group that is founded: strict (default), available, or prefer:<site>; see `coterie members --help`',
      twoSitesMode,
    )
    .option('--no-elections', 'begin no election; `coterie elect` holds one')
    .option('--replace', 'set data of another database aside (it is not deleted), where else join is refused')
  linkingOptions(command)
}

export function toJoinOptions(options: JoiningOptions): JoinOptions {
  const { advertise, start, priority, acks, attest, window, maxReplicas, replace, elections, twoSites } =
    options
  const given = {
    advertise,
    seeds: options.seed,
    start,
    priority,
    acks,
    attest,
    window,
    maxReplicas,
    replace,
    elections,
    twoSites,
    ackTimeoutMs: options.ackTimeout,
    heartbeatMs: options.heartbeat,
    electionTimeoutMs: options.electionTimeout,
    silenceTimeoutMs: options.silenceTimeout,
  }
  // The library tells an option that is absent from one that is undefined.
  const present = Object.entries(given).filter(([, value]) => value !== undefined)
  return {
    listen: options.listen ?? [defaultListen],
    version,
    ...(Object.fromEntries(present) as Partial<JoinOptions>),
    ...toLinkOptions(options),
  }
}
