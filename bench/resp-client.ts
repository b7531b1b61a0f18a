// As much of the Redis protocol as a bench needs: commands go out as they come, replies come back in their order.

import { connect, type Socket } from 'node:net'

interface Waiting {
  readonly resolve: (reply: RespReply) => void
  readonly reject: (error: Error) => void
}

/** Arrays do not occur in the replies of the commands that are used here. */
export type RespReply = string | number | null

export class RespClient {
  readonly #socket: Socket
  #waiting: Waiting[] = []
  #head = 0
  #rest = ''

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => this.#take(text))
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('the connection to the peer was closed')))
  }

  static connect(port: number): Promise<RespClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1')
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RespClient(socket))
      })
    })
  }

  /** Sends commands that were encoded beforehand; resolves to the last of their `replies`. */
  async send(commands: string, replies: number): Promise<RespReply> {
    this.#socket.write(commands, 'latin1')
    let last: Promise<RespReply> | undefined
    const all: Promise<RespReply>[] = []
    for (let i = 0; i < replies; i++) {
      last = new Promise((resolve, reject) => {
        this.#waiting.push({ resolve, reject })
      })
      all.push(last)
    }
    await Promise.all(all)
    return (await last) ?? null
  }

  #take(text: string): void {
    this.#rest += text
    let at = 0
    for (;;) {
      const end = this.#rest.indexOf('\r\n', at)
      if (end < 0) break
      const line = this.#rest.slice(at, end)
      if (line.startsWith('$') && line !== '$-1') {
        const length = Number(line.slice(1))
        if (this.#rest.length < end + 4 + length) break
        this.#settle(this.#rest.slice(end + 2, end + 2 + length))
        at = end + 4 + length
      } else {
        this.#reply(line)
        at = end + 2
      }
    }
    this.#rest = this.#rest.slice(at)
  }

  #reply(line: string): void {
    const text = line.slice(1)
    if (line.startsWith('-')) this.#next()?.reject(new Error(`the peer answered: ${text}`))
    else if (line.startsWith(':')) this.#settle(Number(text))
    else this.#settle(line === '$-1' ? null : text)
  }

  #settle(reply: RespReply): void {
    this.#next()?.resolve(reply)
  }

  #next(): Waiting | undefined {
    const waiting = this.#waiting[this.#head++]
    if (this.#head > 4096) {
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
    return waiting
  }

  #fail(error: Error): void {
    for (const waiting of this.#waiting.slice(this.#head)) waiting.reject(error)
    this.#waiting = []
    this.#head = 0
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** A command in the form that Redis reads. */
export function respCommand(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`).join('')}`
}
