// A site process as the demo holds it: asks it, hears its events, kills it. Only processes that were started here are
// ever killed, by their handle.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Emitter } from '../../base/emitter.ts'
import type { FromSite, SiteEvent, SiteRequest, SiteResults } from './messages.ts'

type SiteEvents = {
  acks: Extract<SiteEvent, { event: 'acks' }>
  master: Extract<SiteEvent, { event: 'master' }>
  synced: Extract<SiteEvent, { event: 'synced' }>
  rewound: Extract<SiteEvent, { event: 'rewound' }>
  exit: { readonly expected: boolean; readonly words: string }
}

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

const stderrCharactersMax = 4000

export class SiteHandle extends Emitter<SiteEvents> {
  readonly name: string
  readonly path: string
  #child: ChildProcess | undefined
  #exited: Promise<void> = Promise.resolve()
  #nextId = 1
  #killed = false
  #stderr = ''
  readonly #waiting = new Map<number, Waiting>()

  constructor(options: { readonly name: string; readonly path: string }) {
    super()
    this.name = options.name
    this.path = options.path
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Starts the process; after a kill, again on the same folder. */
  start(): void {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const script = fileURLToPath(new URL(`./site-process.${extension}`, import.meta.url))
    const child = fork(script, [], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.#child = child
    this.#killed = false
    this.#stderr = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-stderrCharactersMax)
    })
    child.on('message', (message) => this.#heard(message as FromSite))
    this.#exited = new Promise((resolve) => {
      const end = (words: string): void => {
        if (this.#child !== child) return
        this.#child = undefined
        this.#ended(words)
        resolve()
      }
      child.on('close', (code, signal) => end(signal === null ? `code ${code}` : `signal ${signal}`))
      child.on('error', (error) => {
        if (child.pid === undefined) end(error.message)
      })
    })
  }

  /** Rejects when the site answers with an error, or ends first. */
  ask<Type extends SiteRequest['type']>(
    request: Extract<SiteRequest, { type: Type }>,
  ): Promise<SiteResults[Type]> {
    const child = this.#child
    if (child === undefined || !child.connected)
      return Promise.reject(new SiteGone(this.name, 'it is not running'))
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject })
      child.send({ ...request, id }, (error) => {
        if (error !== null && this.#waiting.delete(id)) reject(new SiteGone(this.name, error.message))
      })
    })
  }

  /** SIGKILL: no handler runs, nothing is flushed. Resolves when the process is gone. */
  async kill(): Promise<void> {
    this.#killed = true
    this.#child?.kill('SIGKILL')
    await this.#exited
  }

  #heard(message: FromSite): void {
    if ('event' in message) {
      this.#emitEvent(message)
      return
    }
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if ('error' in message)
      waiting?.reject(new Error(`site ${this.name}: ${message.error.code}: ${message.error.message}`))
    else waiting?.resolve(message.result)
  }

  #emitEvent(message: SiteEvent): void {
    switch (message.event) {
      case 'acks':
        this.emit('acks', message)
        return
      case 'master':
        this.emit('master', message)
        return
      case 'synced':
        this.emit('synced', message)
        return
      case 'rewound':
        this.emit('rewound', message)
    }
  }

  #ended(words: string): void {
    const tail = this.#stderr.trim()
    const why = tail === '' ? words : `${words}\n${tail}`
    for (const waiting of this.#waiting.values()) waiting.reject(new SiteGone(this.name, why))
    this.#waiting.clear()
    this.emit('exit', { expected: this.#killed, words: why })
  }
}

/** The site's process ended before it answered. */
export class SiteGone extends Error {
  constructor(name: string, why: string) {
    super(`site ${name} is gone: ${why}`)
    this.name = 'SiteGone'
  }
}
