// The `coterie` command as a function: arguments and streams in, exit code out. main.ts gives it the process's own.

import { Command, CommanderError } from 'commander'
import { asError } from '../base/errors.ts'
import { type CommandIo, CommandRun, isHelp } from './command.ts'
import { type ExitCode, exitCodeMeanings, exitCodeOf, exitCodes, usageError } from './exit-codes.ts'
import { Output } from './output.ts'
import { loadVerbs } from './verbs/index.ts'
import { version } from './version.ts'

/** `args` are those after the name of the command. */
export async function runCommand(args: readonly string[], io: CommandIo): Promise<ExitCode> {
  const run = new CommandRun(io)
  const program = await createProgram(run, args[0])
  try {
    await program.parseAsync([...args], { from: 'user' })
    return run.exitCode
  } catch (error) {
    if (isHelp(error)) return exitCodes.ok
    const output = new Output({
      stdout: io.stdout,
      stderr: io.stderr,
      json: args.includes('--json'),
      debug: args.includes('--debug'),
    })
    if (!(error instanceof CommanderError)) {
      output.error(error)
      return exitCodeOf(error)
    }
    // `coterie` alone prints its help; the rest is a sentence and where to read on.
    if (error.code !== 'commander.help') output.error(asUsageError(error, args, program))
    return exitCodes.usage
  }
}

/** With all verbs, or with the one named `verb` alone. */
export async function createProgram(run: CommandRun, verb?: string): Promise<Command> {
  const { io } = run
  const program = new Command('coterie')
  program
    .description('An embedded, transactional, replicated database for Node.js whose replicas lose nothing.')
    .version(version, '-V, --version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      // runCommand prints errors in the form that all errors have.
      outputError: () => undefined,
    })
    .showSuggestionAfterError(true)
    .addHelpText('after', `\n${programNotes()}`)
  for (const define of await loadVerbs(verb)) inherit(program, define(program, run))
  return program
}

/** Commander copies settings to subcommands made by `command()`; this fails loudly if that should change. */
function inherit(program: Command, command: Command): void {
  if (command.parent !== program) throw new TypeError('a verb is not a subcommand of the program')
}

function programNotes(): string {
  const codes = exitCodeMeanings.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`)
  return [
    'A directory that a running `coterie join`, `serve` or `attach` has open is reached through that process: the',
    'other verbs work on it all the same.',
    '',
    'Results go to standard output; progress, warnings and errors to standard error, as `coterie: CODE: message`.',
    'With --json, each line of standard error is an object: {"progress"}, {"warning"} or {"error"}.',
    '',
    'Exit codes:',
    ...codes,
  ].join('\n')
}

function asUsageError(error: CommanderError, args: readonly string[], program: Command): Error {
  const message = asError(error).message.replace(/^error: /, '')
  const [first = ''] = message.split('\n')
  const suggestion = /\((Did you mean .*\?)\)/.exec(message)?.[1]
  const verb = program.commands.find((command) => command.name() === args[0])
  const help = verb === undefined ? 'coterie --help' : `coterie ${verb.name()} --help`
  return usageError(first, suggestion === undefined ? `see ${help}` : `${suggestion} See ${help}`)
}
