// What the bench asks of its worker processes: one call, one answer, by number.

import type { OpenOptions, ServeOptions } from '../src/index.ts'

export interface LoadOptions {
  readonly committers: number
  readonly warmUpSeconds: number
  readonly seconds: number
  readonly keys: number
  readonly valueBytes: number
}

export interface LoadResult {
  readonly commits: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How late timers of this process were, at the 99th percentile. */
  readonly loopDelayP99Ms: number
  readonly cpuUsPerCommit: number
  readonly lastLsn: number
  /** Records logged here and not yet in the store. */
  readonly lagRecords: number
}

export interface SyncTimes {
  readonly kind: string
  /** From the call of `attachMaster` until `synced`. */
  readonly syncedMs: number
  /** ... and until everything that the master had then can be read here. */
  readonly appliedMs: number
  readonly transactions: number
}

export interface ReadOptions {
  readonly what: 'get' | 'getSync' | 'entries' | 'all' | 'scan20'
  /** Reads draw from so many keys. */
  readonly keys: number
  /** Of the keys that the database holds. */
  readonly rows: number
  readonly inFlight: number
  readonly seconds: number
}

export interface PeerLoadOptions {
  readonly ports: { readonly master: number }
  readonly committers: number
  /** Committers share so many connections. */
  readonly connections: number
  readonly warmUpSeconds: number
  readonly seconds: number
  readonly keys: number
  readonly valueBytes: number
}

export interface WorkerCalls {
  open(options: { path: string; open?: OpenOptions }): void
  /** Puts every key once, in batches. */
  fill(options: { rows: number; valueBytes: number }): void
  serve(options: ServeOptions): { address: string }
  attach(options: { path: string; address: string }): SyncTimes
  /** Stops following; the database stays open. */
  detach(): void
  /** So many commits, each of one put. */
  write(options: { commits: number; committers: number; keys: number; valueBytes: number }): void
  load(options: LoadOptions): LoadResult
  /** Waits until `lsn` is in the store here. */
  caughtUp(options: { lsn: number }): { lagRecords: number; ms: number }
  /** Reads or rows per second. */
  read(options: ReadOptions): { perSecond: number }
  echo(): { port: number }
  peerLoad(options: PeerLoadOptions): Pick<LoadResult, 'commits' | 'seconds' | 'p50Ms' | 'p99Ms'>
  close(): void
}

export interface WorkerCall {
  readonly id: number
  readonly verb: keyof WorkerCalls
  readonly argument: unknown
}

export type WorkerAnswer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string }
