// Rows of CSV as RFC 4180 has it, strictly, with the line where each begins.
//
// Our own, because of what happens after a bad row: csv-parse, told to skip what does not parse, takes a stray quote
// for an open field and swallows the rows after it without a word. Here a bad row is its first line and nothing more;
// reading goes on at the next line, so every line is a row, part of one, or reported.

import { type Line, lineBytesMax, linesOf } from './lines.ts'

export interface CsvRow {
  readonly line: number
  readonly bytesRead: number
  /** Or what is wrong with the row. */
  readonly fields: readonly string[] | string
}

// A byte order mark within the file is a character like any other.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Empty lines are skipped. */
export async function* csvRows(source: AsyncIterable<Uint8Array>): AsyncGenerator<CsvRow, void, undefined> {
  const queue = new LineQueue(linesOf(source))
  try {
    for (let line = await queue.next(); line !== undefined; line = await queue.next()) {
      if (line.bytes?.length === 0) continue
      yield { line: line.number, fields: await fieldsOf(line, queue), bytesRead: line.bytesRead }
    }
  } finally {
    await queue.close()
  }
}

/** Reads on over as many lines as the row has; all but the first are given back if the row is bad. */
async function fieldsOf(first: Line, queue: LineQueue): Promise<readonly string[] | string> {
  const parser = new RowParser()
  const taken: Line[] = []
  let bytes = 0
  let line: Line | undefined = first
  for (;;) {
    const reason = line === undefined ? 'a quote is never closed' : takeLine(parser, line)
    bytes += line?.bytes?.length ?? 0
    if (reason === undefined && !parser.open) return parser.fields
    if (reason !== undefined || bytes > lineBytesMax) {
      queue.giveBack(taken)
      return reason ?? 'the row is too long'
    }
    line = await queue.next()
    if (line !== undefined) taken.push(line)
  }
}

function takeLine(parser: RowParser, line: Line): string | undefined {
  if (line.bytes === undefined) return 'the row is too long'
  let text: string
  try {
    text = decoder.decode(line.bytes)
  } catch {
    return 'not UTF-8'
  }
  return parser.take(text, line.end)
}

class RowParser {
  readonly fields: string[] = []
  /** Within a quoted field at the end of the line. */
  open = false
  #field = ''

  /** Returns what is wrong, if anything is. */
  take(text: string, end: string): string | undefined {
    let at = 0
    if (!this.open && !text.includes('"')) {
      for (const field of text.split(',')) this.fields.push(field)
      return undefined
    }
    for (;;) {
      if (!this.open && text[at] === '"') {
        this.open = true
        this.#field = ''
        at++
      }
      if (this.open) {
        const after = this.#quoted(text, at)
        if (after === undefined) {
          this.#field += end
          return undefined
        }
        if (after < text.length && text[after] !== ',') return 'something follows the quote that ends a field'
        this.open = false
        this.fields.push(this.#field)
        at = after
      } else {
        const comma = text.indexOf(',', at)
        const field = text.slice(at, comma < 0 ? text.length : comma)
        if (field.includes('"')) return 'a quote within a field that does not begin with one'
        this.fields.push(field)
        at += field.length
      }
      if (at >= text.length) return undefined
      at++
    }
  }

  /** Takes the quoted field on from `at`; returns the place after its closing quote, if it is in this line. */
  #quoted(text: string, at: number): number | undefined {
    let from = at
    for (;;) {
      const quote = text.indexOf('"', from)
      if (quote < 0) {
        this.#field += text.slice(from)
        return undefined
      }
      this.#field += text.slice(from, quote)
      if (text[quote + 1] !== '"') return quote + 1
      this.#field += '"'
      from = quote + 2
    }
  }
}

/** Lines with a way back. */
class LineQueue {
  readonly #source: AsyncGenerator<Line, void, undefined>
  #given: Line[] = []

  constructor(source: AsyncGenerator<Line, void, undefined>) {
    this.#source = source
  }

  async next(): Promise<Line | undefined> {
    const given = this.#given.shift()
    if (given !== undefined) return given
    const { value } = await this.#source.next()
    return value ?? undefined
  }

  giveBack(lines: readonly Line[]): void {
    this.#given = [...lines, ...this.#given]
  }

  async close(): Promise<void> {
    await this.#source.return()
  }
}
