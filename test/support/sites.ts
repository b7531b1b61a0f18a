// Databases and groups for tests, in this process: what a test opens here is closed when it ends, last things first.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import {
  type Attachment,
  type AttachOptions,
  attachMaster,
  CoterieError,
  type Database,
  type ErrorCode,
  type Master,
  type OpenOptions,
  open,
  type ServeOptions,
} from '../../src/index.ts'
import { atEnd } from './at-end.ts'
import { withTempFolder } from './temp-folder.ts'

/** A database in memory, closed at the end of the test. */
export function openMemory<K = string, V = string>(
  t: TestContext,
  options: OpenOptions = {},
): Promise<Database<K, V>> {
  return openAt<K, V>(t, ':memory:', options)
}

/** A database in a folder of its own, closed and removed at the end of the test. */
export function openFolder<K = string, V = string>(
  t: TestContext,
  options: OpenOptions = {},
): Promise<Database<K, V>> {
  return openAt<K, V>(t, join(withTempFolder(t), 'db'), options)
}

export async function openAt<K = string, V = string>(
  t: TestContext,
  location: string,
  options: OpenOptions = {},
): Promise<Database<K, V>> {
  keepAlive(t)
  const db = await open<K, V>(location, options)
  atEnd(t, () => db.close())
  return db
}

/** A database's own timers keep no process alive, and a test may wait for nothing else. */
export function keepAlive(t: TestContext): void {
  const timer = setInterval(() => {}, 60_000)
  atEnd(t, () => clearInterval(timer))
}

/** Runs a test on both kinds of database. */
export const kinds: readonly {
  readonly kind: string
  readonly openOne: <K = string, V = string>(t: TestContext, options?: OpenOptions) => Promise<Database<K, V>>
}[] = [
  { kind: 'in memory', openOne: openMemory },
  { kind: 'on disk', openOne: openFolder },
]

/** Serves on a free port of the loopback. */
export function serveTcp(db: Database, options: Partial<ServeOptions> = {}): Promise<Master> {
  return db.serve({ listen: 'tcp://127.0.0.1:0', ...options })
}

export function addressOf(master: Master): string {
  const [address] = master.addresses
  assert.ok(address !== undefined, 'a master listens somewhere')
  return address
}

/** Attaches; what was opened for it is closed at the end of the test. */
export function attachTo(
  t: TestContext,
  master: Master | string,
  target: Database | ({ readonly path: string } & OpenOptions) = { path: ':memory:' },
  options: AttachOptions = {},
): Attachment<Database> {
  const address = typeof master === 'string' ? master : addressOf(master)
  keepAlive(t)
  const attachment = attachMaster(target, address, options)
  atEnd(t, () => attachment[Symbol.asyncDispose]())
  return attachment
}

/** Attaches and waits until it is in step. */
export async function replicaOf(
  t: TestContext,
  master: Master | string,
  target?: Database | ({ readonly path: string } & OpenOptions),
  options?: AttachOptions,
): Promise<{ attachment: Attachment<Database>; db: Database }> {
  const attachment = attachTo(t, master, target, options)
  await attachment.synced
  return { attachment, db: attachment.db }
}

/** An error of this code, and no other. Returns it, to look at its details. */
export async function failsWith(
  code: ErrorCode,
  work: Promise<unknown> | (() => unknown),
): Promise<CoterieError> {
  let outcome: unknown
  try {
    outcome = await (typeof work === 'function' ? work() : work)
  } catch (error) {
    if (error instanceof CoterieError && error.code === code) return error
    throw error
  }
  throw new assert.AssertionError({ message: `expected ${code}, got ${JSON.stringify(outcome)}` })
}

/** All that an iterator gives out. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** What has become of a promise so far. A rejection is taken note of, not lost. */
export interface Watched<T> {
  readonly isSettled: boolean
  /** Throws unless it has resolved. */
  readonly value: T
  /** Throws unless it was rejected. */
  readonly error: CoterieError
}

export function watched<T>(work: Promise<T>): Watched<T> {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined
  work.then(
    (value) => {
      outcome = { value }
    },
    (error: unknown) => {
      outcome = { error }
    },
  )
  return {
    get isSettled() {
      return outcome !== undefined
    },
    get value() {
      if (outcome !== undefined && 'value' in outcome) return outcome.value
      throw outcome === undefined ? new Error('it is pending') : outcome.error
    },
    get error() {
      assert.ok(outcome !== undefined && 'error' in outcome, 'it was rejected')
      assert.ok(outcome.error instanceof CoterieError, 'it was rejected with an error of ours')
      return outcome.error
    },
  }
}

/** Writes `count` rows `prefix0001` ... one transaction each, with their number as value. */
export async function putMany(db: Database, count: number, prefix = 'row'): Promise<void> {
  const puts: Promise<unknown>[] = []
  for (let i = 0; i < count; i++) puts.push(db.put(`${prefix}${String(i).padStart(4, '0')}`, String(i)))
  await Promise.all(puts)
}

export async function digestOf(db: Database): Promise<string> {
  return (await db.digest()).digest
}

/** A folder within a temp folder that lives as long as the test. */
export function folderFor(t: TestContext, name: string): string {
  const path = join(withTempFolder(t), name)
  mkdirSync(path)
  return path
}
