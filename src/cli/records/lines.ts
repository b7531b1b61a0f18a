// Lines of a byte stream, with their numbers and with a bound on their length: a file without newlines must not fill
// memory. Bytes stay bytes until a whole line is there, so a chunk boundary within a character does no harm.

export interface Line {
  readonly number: number
  /** Bytes of the input up to the end of this line. */
  readonly bytesRead: number
  /** Without its end; undefined if it was longer than the bound and was skipped. */
  readonly bytes: Uint8Array | undefined
  /** Empty at the end of a file that does not end with a line end. */
  readonly end: '' | '\n' | '\r\n'
}

const newline = 0x0a
const carriageReturn = 0x0d

/** A value of the largest size as JSON with every byte escaped would be longer; such files are not ours. */
export const lineBytesMax = 67_108_864

export async function* linesOf(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number = lineBytesMax,
): AsyncGenerator<Line, void, undefined> {
  const state = new LineGatherer(bytesMax)
  for await (const chunk of source) yield* state.take(chunk)
  const last = state.end()
  if (last !== undefined) yield last
}

class LineGatherer {
  readonly #bytesMax: number
  #parts: Uint8Array[] = []
  #partsBytes = 0
  #overlong = false
  #number = 0
  #bytesRead = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  *take(chunk: Uint8Array): Generator<Line, void, undefined> {
    let start = 0
    for (;;) {
      const end = chunk.indexOf(newline, start)
      if (end < 0) break
      this.#gather(chunk.subarray(start, end))
      this.#bytesRead += end + 1 - start
      yield this.#line(true)
      start = end + 1
    }
    // A copy: the stream may use its buffer again.
    this.#gather(chunk.slice(start))
    this.#bytesRead += chunk.length - start
  }

  end(): Line | undefined {
    return this.#partsBytes > 0 || this.#overlong ? this.#line(false) : undefined
  }

  #gather(part: Uint8Array): void {
    if (part.length === 0 || this.#overlong) return
    this.#partsBytes += part.length
    if (this.#partsBytes > this.#bytesMax) {
      this.#overlong = true
      this.#parts = []
      return
    }
    this.#parts.push(part)
  }

  #line(ended: boolean): Line {
    this.#number++
    const bytes = this.#overlong ? undefined : this.#whole()
    const returned = ended && bytes !== undefined && bytes[bytes.length - 1] === carriageReturn
    this.#parts = []
    this.#partsBytes = 0
    this.#overlong = false
    return {
      number: this.#number,
      bytesRead: this.#bytesRead,
      bytes: returned ? bytes.subarray(0, -1) : bytes,
      end: ended ? (returned ? '\r\n' : '\n') : '',
    }
  }

  /** Without the byte order mark of the file. */
  #whole(): Uint8Array {
    const bytes = Buffer.concat(this.#parts)
    const marked = this.#number === 1 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
    return marked ? bytes.subarray(3) : bytes
  }
}
