// coterie top: the status of a running database or group, again and again, on one screen.
//
// It asks the process that has the folder open and never opens the folder itself: looking must not keep anybody out. A
// process that ends is said to be gone, and found again when it is back.

import type { Command } from 'commander'
import { CoterieError, isCoterieError } from '../../base/errors.ts'
import type { Host } from '../../env/host.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { ControlClient } from '../control/control-client.ts'
import { formatCount } from '../format.ts'
import { durationMs } from '../options.ts'
import type { PortStatus } from '../port.ts'
import { isTerminal, Screen } from '../screen.ts'
import { pause } from '../signals.ts'
import { statusText } from '../status-text.ts'

interface TopOptions {
  readonly once?: boolean
  readonly every: number
}

const everyMs = 1000

export function defineTop(program: Command, run: CommandRun): Command {
  return defineVerb<TopOptions>(program, run, {
    usage: 'top <path>',
    summary: 'watch a running database and its group',
    description:
      'On a terminal one screen that is drawn again every second; q or Ctrl-C ends it. Elsewhere, and with --once, the\n' +
      'same as plain text. Needs a `coterie join`, `serve` or `attach` that runs on the path.',
    examples: [
      ['coterie top ./a', 'the group as site a sees it'],
      ['coterie top ./a --once --json', 'one look, for a program'],
    ],
    options: (command) => {
      command
        .option('--once', 'look once and end')
        .option('--every <time>', 'how often to look, such as 500ms or 2s', durationMs, everyMs)
    },
    action: async (context, [path = ''], options) => {
      const watched = new Watched(path, context.host)
      try {
        await watch(context, watched, { path, ...options })
      } finally {
        await watched.close()
      }
      return undefined
    },
  })
}

async function watch(
  context: VerbContext,
  watched: Watched,
  options: TopOptions & { readonly path: string },
): Promise<void> {
  const { io, output } = context
  const first = await watched.look()
  if (first.status === undefined) {
    throw new CoterieError('INVALID_STATE', `no process that can be asked has ${options.path} open`)
  }
  const live = options.once !== true && !output.json && isTerminal(io.stdout)
  const screen = live ? new Screen(io) : undefined
  const signal = screen === undefined ? context.signal : AbortSignal.any([context.signal, screen.ended])
  screen?.enter()
  try {
    for (let look = first; ; look = await watched.look()) {
      if (screen !== undefined) screen.draw(`${lookText(options.path, look)}\n\nq ends`)
      else await output.event(lookDocument(look), `${lookText(options.path, look)}\n`)
      if (options.once === true) return
      await pause(options.every, signal)
      if (signal.aborted) return
    }
  } finally {
    screen?.leave()
  }
}

interface Look {
  readonly at: Date
  readonly status: PortStatus | undefined
  readonly holderPid: number | undefined
  /** Since the look before. */
  readonly recordsPerSecond: number | undefined
}

class Watched {
  readonly #path: string
  readonly #host: Host
  #client: ControlClient | undefined
  #before: { readonly lsn: number; readonly at: number } | undefined

  constructor(path: string, host: Host) {
    this.#path = path
    this.#host = host
  }

  async look(): Promise<Look> {
    const at = new Date()
    this.#client ??= await ControlClient.connect(this.#path, this.#host)
    const client = this.#client
    if (client === undefined) return this.#nobody(at)
    try {
      const status = await client.status()
      const now = performance.now()
      const before = this.#before
      this.#before = { lsn: status.lastLsn, at: now }
      const recordsPerSecond =
        before === undefined
          ? undefined
          : (Math.max(0, status.lastLsn - before.lsn) * 1000) / Math.max(1, now - before.at)
      return { at, status, holderPid: client.holderPid, recordsPerSecond }
    } catch (error) {
      if (!isCoterieError(error)) throw error
      // The process has ended, or is about to.
      this.#client = undefined
      await client.close()
      return this.#nobody(at)
    }
  }

  #nobody(at: Date): Look {
    this.#before = undefined
    return { at, status: undefined, holderPid: undefined, recordsPerSecond: undefined }
  }

  async close(): Promise<void> {
    await this.#client?.close()
  }
}

function lookText(path: string, look: Look): string {
  const { at, status, holderPid, recordsPerSecond } = look
  const rate = recordsPerSecond === undefined ? '' : `  ${formatCount(recordsPerSecond)} records/s`
  const head = `${at.toTimeString().slice(0, 8)}  ${path}${rate}`
  const body = status === undefined ? 'no process has it open' : statusText(status, holderPid)
  return `${head}\n\n${body}`
}

function lookDocument(look: Look): Record<string, unknown> {
  const { at, status, holderPid, recordsPerSecond } = look
  return { time: at.toISOString(), ...status, holderPid, recordsPerSecond }
}
