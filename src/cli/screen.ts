// A terminal that a verb draws on again and again: another screen than the one with the shell's lines, without a
// cursor, with keys read one by one. `leave` puts everything back; it also runs when the process is ended in between.

import type { Readable, Writable } from 'node:stream'

interface TerminalOut extends Writable {
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
}

interface TerminalIn extends Readable {
  readonly isTTY?: boolean
  setRawMode?(raw: boolean): unknown
}

const otherScreen = '\u001b[?1049h'
const shellScreen = '\u001b[?1049l'
const hideCursor = '\u001b[?25l'
const showCursor = '\u001b[?25h'
const home = '\u001b[H'
const clearLine = '\u001b[K'
const clearBelow = '\u001b[J'
/** Ctrl-C comes as a key while keys are read one by one. */
const endKeys = ['q', 'Q', '\u0003', '\u0004']

const columnsDefault = 80
const rowsDefault = 24

export function isTerminal(stream: Writable): boolean {
  return (stream as TerminalOut).isTTY === true
}

export class Screen {
  readonly #out: TerminalOut
  readonly #in: TerminalIn
  readonly #ended = new AbortController()
  readonly #restore: () => void
  readonly #onKeys: (keys: Buffer | string) => void
  #last = ''
  readonly #onResize: () => void

  constructor(streams: { readonly stdin: Readable; readonly stdout: Writable }) {
    this.#out = streams.stdout
    this.#in = streams.stdin
    this.#restore = () => this.leave()
    this.#onKeys = (keys) => {
      const text = keys.toString()
      if (endKeys.some((key) => text.includes(key))) this.#ended.abort()
    }
    this.#onResize = () => this.draw(this.#last)
  }

  /** Aborted when a key asks for the end. */
  get ended(): AbortSignal {
    return this.#ended.signal
  }

  enter(): void {
    process.once('exit', this.#restore)
    this.#out.write(otherScreen + hideCursor)
    this.#out.on('resize', this.#onResize)
    if (this.#in.isTTY !== true) return
    this.#in.setRawMode?.(true)
    this.#in.on('data', this.#onKeys)
    this.#in.resume()
  }

  /** What does not fit is cut off. */
  draw(text: string): void {
    this.#last = text
    const { columns = columnsDefault, rows = rowsDefault } = this.#out
    const lines = text.split('\n').slice(0, rows - 1)
    const drawn = lines.map((line) => `${line.slice(0, columns)}${clearLine}\r\n`)
    this.#out.write(home + drawn.join('') + clearBelow)
  }

  /** May be called twice. */
  leave(): void {
    process.off('exit', this.#restore)
    this.#out.off('resize', this.#onResize)
    if (this.#in.isTTY === true) {
      this.#in.off('data', this.#onKeys)
      this.#in.setRawMode?.(false)
      this.#in.pause()
    }
    this.#out.write(clearBelow + showCursor + shellScreen)
  }
}
