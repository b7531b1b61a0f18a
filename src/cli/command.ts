// What every verb of the command shares: its common options, and the run of its action with an output, progress bars
// and one place where errors become words and exit codes.

import type { Readable, Writable } from 'node:stream'
import { type Command, CommanderError } from 'commander'
import type { Host } from '../env/host.ts'
import { nodeHost } from '../env/node/node-host.ts'
import { type ExitCode, exitCodeOf, exitCodes } from './exit-codes.ts'
import { Output } from './output.ts'
import { Progress, type ProgressOptions } from './progress.ts'

/** The world of one run of the command; tests give their own. */
export interface CommandIo {
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  readonly env: NodeJS.ProcessEnv
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly interrupted: AbortSignal
}

export interface CommonOptions {
  readonly json?: boolean
  readonly quiet?: boolean
  readonly debug?: boolean
}

export interface VerbContext {
  readonly io: CommandIo
  readonly output: Output
  readonly host: Host
  /** Aborted by a signal, or when nobody reads standard output any more. */
  readonly signal: AbortSignal
  progress(options: ProgressOptions): Progress
}

export type VerbAction<O> = (
  context: VerbContext,
  args: readonly string[],
  options: O & CommonOptions,
) => Promise<ExitCode | undefined>

export interface VerbDefinition<O> {
  /** As commander has it: `get <path> <key>`. */
  readonly usage: string
  readonly summary: string
  /** Below the summary in --help. */
  readonly description?: string
  /** Each is a command line and what it does. */
  readonly examples: readonly (readonly [string, string])[]
  readonly options?: (command: Command) => unknown
  readonly action: VerbAction<O>
}

/** A run of the command: holds what the actions need and the exit code that they leave. */
export class CommandRun {
  readonly io: CommandIo
  exitCode: ExitCode = exitCodes.ok

  constructor(io: CommandIo) {
    this.io = io
  }

  async act<O>(action: VerbAction<O>, args: readonly string[], options: O & CommonOptions): Promise<void> {
    const { io } = this
    const output = new Output({
      stdout: io.stdout,
      stderr: io.stderr,
      json: options.json === true,
      debug: options.debug === true,
    })
    const bars = new Set<Progress>()
    const context: VerbContext = {
      io,
      output,
      host: nodeHost(),
      signal: AbortSignal.any([io.interrupted, output.readerGone]),
      progress: (progressOptions) => {
        const target = { stderr: io.stderr, json: output.json, quiet: options.quiet === true, env: io.env }
        const bar = new Progress(target, progressOptions)
        bars.add(bar)
        return bar
      },
    }
    try {
      this.exitCode = (await action(context, args, options)) ?? exitCodes.ok
      await output.close()
    } catch (error) {
      for (const bar of bars) bar.stop()
      await this.#failed(output, error)
    }
    for (const bar of bars) bar.stop()
  }

  async #failed(output: Output, error: unknown): Promise<void> {
    // What was written before the failure belongs to the result: a dump that broke off, a load's warnings.
    try {
      await output.close()
    } catch (closeError) {
      output.error(closeError)
    }
    // An action that fails because its reader went away has nobody to tell.
    if (output.readerGone.aborted && !this.io.interrupted.aborted) {
      this.exitCode = exitCodes.ok
      return
    }
    this.exitCode = this.io.interrupted.aborted ? exitCodes.interrupted : exitCodeOf(error)
    output.error(error)
  }
}

export function defineVerb<O>(program: Command, run: CommandRun, definition: VerbDefinition<O>): Command {
  const { usage, summary, description, examples, options, action } = definition
  const command = program
    .command(usage)
    .summary(summary)
    .description(description === undefined ? summary : `${summary}\n\n${description}`)
  options?.(command)
  command
    .option('--json', 'print JSON: one document, or one object a line where the verb streams')
    .option('-q, --quiet', 'no progress')
    .option('--debug', 'with errors, print stacks and causes')
  const lines = examples.map(([line, what]) => `  $ ${line}\n      ${what}`)
  command.addHelpText('after', `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.join('\n')}`)
  command.action(async (...received: unknown[]) => {
    // Commander passes the arguments (those of a list as an array), then the options, then the command.
    const given = received.slice(0, -2) as (string | string[] | undefined)[]
    const args = given.flat().filter((argument) => argument !== undefined)
    await run.act(action, args, command.opts<O & CommonOptions>())
  })
  return command
}

/** True for what commander throws after it has printed help or the version. */
export function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0
}
