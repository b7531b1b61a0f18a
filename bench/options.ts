// The command line of the bench.

import { tmpdir } from 'node:os'
import { parseArgs } from 'node:util'

export const groupNames = [
  'durable',
  'memory',
  'alone',
  'reads',
  'ranges',
  'sync',
  'catchup',
  'failover',
  'takeover',
] as const
export type GroupName = (typeof groupNames)[number]

export interface BenchOptions {
  readonly only: readonly GroupName[]
  readonly quick: boolean
  readonly peers: boolean
  /** How long each point is measured. */
  readonly seconds: number
  readonly warmUpSeconds: number
  readonly committers: readonly number[]
  /** Rows in the database while commits and reads are measured. */
  readonly keys: number
  readonly valueBytes: number
  /** How often the master is killed. */
  readonly failovers: number
  /** How often one site takes over from the other. */
  readonly takeovers: number
  /** Where temporary folders are made. */
  readonly folder: string
  /** Where the results go; default a file in `bench/results`. */
  readonly json: string | undefined
}

export const usage: string = `usage: npm run bench -- [options]

  --only GROUPS       of ${groupNames.join(', ')}
  --committers LIST   default 1,16,64,256,1024
  --seconds N         for each point; default 4
  --keys N            rows in the database; default 1000000
  --value-bytes N     default 100
  --failovers N       default 50
  --takeovers N       default 30
  --peers             also the like of it with Redis, if redis-server is on the PATH
  --quick             little of everything, in seconds: to see that it runs, not how fast
  --folder PATH       where to put the data; default the system's folder for temporary files
  --json FILE         default bench/results/<time>.json`

/** Undefined if help was asked for. Throws with a message for people otherwise. */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      committers: { type: 'string' },
      seconds: { type: 'string' },
      keys: { type: 'string' },
      'value-bytes': { type: 'string' },
      failovers: { type: 'string' },
      takeovers: { type: 'string' },
      peers: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      folder: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  const { quick } = values
  const seconds = positive('--seconds', values.seconds ?? (quick ? '0.4' : '4'))
  return {
    only: groupsOf(values.only),
    quick,
    peers: values.peers,
    seconds,
    warmUpSeconds: Math.min(1, seconds / 2),
    committers: listOf('--committers', values.committers ?? (quick ? '1,64' : '1,16,64,256,1024')),
    keys: positive('--keys', values.keys ?? (quick ? '20000' : '1000000')),
    valueBytes: positive('--value-bytes', values['value-bytes'] ?? '100'),
    failovers: positive('--failovers', values.failovers ?? (quick ? '3' : '50')),
    takeovers: positive('--takeovers', values.takeovers ?? (quick ? '4' : '30')),
    folder: values.folder ?? tmpdir(),
    json: values.json,
  }
}

function groupsOf(text: string | undefined): readonly GroupName[] {
  if (text === undefined) return groupNames
  return text.split(',').map((name) => {
    const known = groupNames.find((each) => each === name)
    if (known === undefined) throw new Error(`--only knows ${groupNames.join(', ')}, not '${name}'`)
    return known
  })
}

function listOf(option: string, text: string): number[] {
  return text.split(',').map((each) => positive(option, each))
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (!(value > 0) || !Number.isFinite(value))
    throw new Error(`${option} takes positive numbers, not '${text}'`)
  return value
}
