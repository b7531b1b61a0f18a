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

export interface FirstCommit {
  readonly term: number
  /** From the moment that the site knew itself elected. */
  readonly sinceElectedMs: number
}

export interface GroupLoad {
  readonly committers: number
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
  /** Joins a group, and commits without a pause whenever this site is its master. Answers when it has its data. */
  join(options: { path: string; site: string; listen: string; seeds: readonly string[]; load: GroupLoad }): {
    address: string
  }
  /** The first commit of this site as master in a term above `after`: waits for it. */
  firstCommit(options: { after: number }): FirstCommit
  /** What this site is now, and the commits of its reign so far. */
  reign(): { isMaster: boolean; term: number; commits: number }
  /** Commits without a pause whenever this site is master, from now on. */
  takeOverLoad(options: GroupLoad): void
  /** When commits were acknowledged here since then, by the clock of the machine. */
  acknowledgedSince(options: { fromMs: number }): number[]
  /** Takes over from the master that this site is attached to, and serves. */
  takeOver(): { address: string; pausedMs: number }
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
