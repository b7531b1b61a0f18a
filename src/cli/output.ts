// Where the command's words go. Results go to standard output: text for people, or with --json one document (or one
// JSON object a line, for verbs that stream). Everything else (progress, hints, errors) goes to standard error, where
// with --json each line is an object with one field, `progress`, `warning` or `error`.
//
// A reader that goes away (`coterie scan | head`) is no failure: writing stops, the verb is told by `readerGone`.

import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { AssertionFailure } from '../base/assert.ts'
import { asError, isCoterieError } from '../base/errors.ts'
import { CommandError, isNodeError } from './exit-codes.ts'
import { whenAborted } from './signals.ts'

export interface OutputOptions {
  readonly stdout: Writable
  readonly stderr: Writable
  readonly json: boolean
  /** Adds stacks and causes to errors. */
  readonly debug: boolean
}

const chunkCharactersMax = 65_536

export class Output {
  readonly json: boolean
  readonly stderr: Writable
  readonly #stdout: Writable
  readonly #debug: boolean
  readonly #readerGone = new AbortController()
  readonly #onStdoutError: (error: Error) => void
  #gathered = ''
  #failure: Error | undefined

  constructor(options: OutputOptions) {
    this.json = options.json
    this.stderr = options.stderr
    this.#stdout = options.stdout
    this.#debug = options.debug
    this.#onStdoutError = (error) => {
      if (!isNodeError(error) || error.code !== 'EPIPE') this.#failure = error
      this.#readerGone.abort()
    }
    this.#stdout.on('error', this.#onStdoutError)
  }

  /** Aborted when nobody reads standard output any more. */
  get readerGone(): AbortSignal {
    return this.#readerGone.signal
  }

  /** The result of a verb that has one: `human` for people, `document` with --json. */
  async result(document: unknown, human: string): Promise<void> {
    await this.text(this.json ? `${toJson(document)}\n` : human === '' ? '' : `${human}\n`)
    await this.flush()
  }

  /** One line of a stream that people watch: goes out at once. */
  async event(document: unknown, human: string): Promise<void> {
    await this.result(document, human)
  }

  /** Part of a long stream; gathered into large writes. Waits while the reader is slow. */
  async text(text: string): Promise<void> {
    this.#gathered += text
    if (this.#gathered.length >= chunkCharactersMax) await this.flush()
  }

  async bytes(bytes: Uint8Array): Promise<void> {
    await this.flush()
    await this.#write(bytes)
  }

  async flush(): Promise<void> {
    if (this.#gathered === '') return
    const text = this.#gathered
    this.#gathered = ''
    await this.#write(text)
  }

  async #write(data: string | Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.readerGone.aborted) return
    if (this.#stdout.write(data)) return
    await Promise.race([once(this.#stdout, 'drain'), whenAborted(this.readerGone)])
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Something to know that is neither result nor error. */
  warn(message: string): void {
    this.stderr.write(this.json ? `${toJson({ warning: { message } })}\n` : `coterie: ${message}\n`)
  }

  error(thrown: unknown): void {
    const error = asError(thrown)
    const { code, details, hint } = describe(error)
    if (this.json) {
      const stack = this.#debug ? { stack: error.stack } : {}
      const withHint = hint === undefined ? {} : { hint }
      this.stderr.write(
        `${toJson({ error: { code, message: error.message, ...withHint, details, ...stack } })}\n`,
      )
      return
    }
    this.stderr.write(`coterie: ${code}: ${error.message}\n`)
    if (hint !== undefined) this.stderr.write(`  hint: ${hint}\n`)
    if (this.#debug) this.stderr.write(`${debugText(error)}\n`)
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      this.#stdout.off('error', this.#onStdoutError)
    }
  }
}

/** JSON in which bytes are hexadecimal text and bigints numbers; never throws on what the library returns. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) => {
    if (typeof field === 'bigint') return Number(field)
    if (field instanceof Error) return describeError(field)
    if (field instanceof Map) return Object.fromEntries(field)
    if (isBufferJson(field)) return Buffer.from(field.data).toString('hex')
    if (field instanceof Uint8Array) return Buffer.from(field).toString('hex')
    return field
  })
}

/** An error as plain data, its causes included. */
export function describeError(error: Error): Record<string, unknown> {
  const { code, details } = describe(error)
  const cause = error.cause === undefined ? {} : { cause: describeError(asError(error.cause)) }
  return { code, message: error.message, details, ...cause }
}

// `Buffer` has a toJSON of its own, which runs before the replacer sees the bytes.
function isBufferJson(field: unknown): field is { type: 'Buffer'; data: number[] } {
  if (typeof field !== 'object' || field === null) return false
  const candidate = field as { type?: unknown; data?: unknown }
  return candidate.type === 'Buffer' && Array.isArray(candidate.data)
}

function describe(error: Error): {
  code: string
  details: Readonly<Record<string, unknown>>
  hint: string | undefined
} {
  if (error instanceof CommandError) return { code: error.code, details: error.details, hint: error.hint }
  if (isCoterieError(error)) {
    return { code: error.code, details: error.details, hint: hintFor(error.code, error.details) }
  }
  if (isNodeError(error)) return { code: error.code ?? 'FAILED', details: {}, hint: undefined }
  if (error instanceof AssertionFailure) {
    return {
      code: 'ASSERTION',
      details: {},
      hint: 'this is a defect: please report it, with the output of --debug',
    }
  }
  return { code: 'FAILED', details: {}, hint: undefined }
}

function hintFor(code: string, details: Readonly<Record<string, unknown>>): string | undefined {
  switch (code) {
    case 'LOCKED':
      return details.pid === undefined
        ? 'another handle has it open'
        : `process ${String(details.pid)} has it open and offers no control endpoint`
    case 'NOT_MASTER':
      return details.master === undefined
        ? '`coterie promote` makes this site the master'
        : `the master is ${String(details.master)}`
    case 'FOREIGN_HISTORY':
      return '--replace sets the local data aside, then takes the master’s'
    case 'NO_MASTER':
      return 'reads go on; `coterie status` lists the sites that are heard, and writes go on when a majority is'
    case 'SITE_WIPED':
    case 'MEMBER_REMOVED':
      return 'join from a new folder under another --site; then remove the old one, if it still is a member'
    case 'OUTCOME_UNKNOWN':
      return `it may yet become permanent, so do not repeat it blindly; ask: coterie status <path> --outcome ${String(details.token)}`
    case 'LOG_DAMAGED':
      return 'nothing was changed; keep the files, and restore a backup or attach to a healthy site'
    case 'LOG_POISONED':
      return 'end the process that has it open and open the database again'
    case 'DISK_FULL':
      return 'free some space; reads still work'
    case 'ADDRESS_IN_USE':
      return 'port 0 takes any free port'
    default:
      return undefined
  }
}

function debugText(error: Error): string {
  let text = error.stack ?? String(error)
  let cause = error.cause
  for (let depth = 0; cause !== undefined && depth < 8; depth++) {
    const inner = asError(cause)
    text += `\ncaused by: ${inner.stack ?? String(inner)}`
    cause = inner.cause
  }
  return text
}
