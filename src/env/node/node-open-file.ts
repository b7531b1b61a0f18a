// One open file over a raw file descriptor and Node's callback calls: a FileHandle's promises cost a third of the
// rate of durable writes. Every failure reaches the caller as a `CoterieError`; nothing is tried again.
//
// Invariant: the descriptor is closed only when no call on it is under way, because the operating system gives a
// closed descriptor's number to the next file that is opened.

import * as fs from 'node:fs'
import { CoterieError } from '../../base/errors.ts'
import type { OpenFile } from '../host.ts'
import { fileError } from './node-errors.ts'

type Done = (error: Error | null) => void
type DoneReading = (error: Error | null, count: number) => void

export class NodeOpenFile implements OpenFile {
  readonly path: string
  readonly #fd: number
  #underWay = 0
  #whenIdle: (() => void) | undefined
  #closing: Promise<void> | undefined

  constructor(path: string, fd: number) {
    this.path = path
    this.#fd = fd
  }

  read(into: Uint8Array, at: number): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#refuse(reject)) return
      this.#underWay++
      this.#readFrom(into, { got: 0, at }, (error, count) => {
        this.#leave()
        if (error === null) resolve(count)
        else reject(error)
      })
    })
  }

  write(parts: readonly Uint8Array[], at: number, done: Done): void {
    if (this.#refuse(done)) return
    let total = 0
    for (const part of parts) total += part.length
    if (total === 0) {
      process.nextTick(done, null)
      return
    }
    this.#underWay++
    this.#writeFrom(parts, { at, total }, (error) => {
      this.#leave()
      done(error)
    })
  }

  sync(done: Done): void {
    if (this.#refuse(done)) return
    this.#underWay++
    fs.fdatasync(this.#fd, (error) => {
      this.#leave()
      done(error ? this.#failure(error, 'fdatasync') : null)
    })
  }

  truncate(bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#refuse(reject)) return
      this.#underWay++
      fs.ftruncate(this.#fd, bytes, (error) => {
        this.#leave()
        if (error) reject(this.#failure(error, 'ftruncate'))
        else resolve()
      })
    })
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve, reject) => {
      const closeNow = (): void => {
        fs.close(this.#fd, (error) => {
          if (error) reject(this.#failure(error, 'close'))
          else resolve()
        })
      }
      if (this.#underWay === 0) closeNow()
      else this.#whenIdle = closeNow
    })
    return this.#closing
  }

  #readFrom(into: Uint8Array, place: { got: number; at: number }, done: DoneReading): void {
    const { got, at } = place
    fs.read(this.#fd, into, got, into.length - got, at + got, (error, count) => {
      if (error) done(this.#failure(error, 'read'), got)
      else if (count === 0 || got + count === into.length) done(null, got + count)
      else this.#readFrom(into, { got: got + count, at }, done)
    })
  }

  #writeFrom(parts: readonly Uint8Array[], place: { at: number; total: number }, done: Done): void {
    const { at, total } = place
    const written = (error: Error | null, count: number): void => {
      if (error !== null) done(this.#failure(error, 'write'))
      else if (count === total) done(null)
      else if (count === 0) done(this.#failure(new Error('no progress'), 'write'))
      else this.#writeFrom(partsAfter(parts, count), { at: at + count, total: total - count }, done)
    }
    const first = parts[0]
    if (parts.length === 1 && first !== undefined) fs.write(this.#fd, first, 0, first.length, at, written)
    else fs.writev(this.#fd, parts, at, written)
  }

  #failure(error: Error, syscall: string): CoterieError {
    return fileError(error, { path: this.path, syscall })
  }

  #refuse(report: Done): boolean {
    if (this.#closing === undefined) return false
    process.nextTick(report, new CoterieError('CLOSED', `${this.path} is closed`))
    return true
  }

  #leave(): void {
    this.#underWay--
    if (this.#underWay > 0 || this.#whenIdle === undefined) return
    const closeNow = this.#whenIdle
    this.#whenIdle = undefined
    closeNow()
  }
}

/** What is left of `parts` after their first `count` bytes. */
export function partsAfter(parts: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count
  const rest: Uint8Array[] = []
  for (const part of parts) {
    if (skip >= part.length) skip -= part.length
    else {
      rest.push(skip === 0 ? part : part.subarray(skip))
      skip = 0
    }
  }
  return rest
}
