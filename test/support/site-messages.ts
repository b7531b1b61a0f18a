// What a test and the site that it runs as a process of its own say to each other: one call, one answer, by number;
// and, unasked, what the site has to tell. Structured clones, so `undefined` and bytes survive the way.

import type {
  AttachOptions,
  DatabaseStatus,
  JoinOptions,
  OpenOptions,
  ServeOptions,
  SyncResult,
  TakeOverOptions,
} from '../../src/index.ts'

/** What the load of a site does. Keys and values follow from `seed`; every value is unique. */
export interface LoadOptions {
  readonly seed: number
  readonly writers: number
  readonly keys: number
  readonly valueBytes: number
  /** Mean rest of a writer between two commits, in ms; 0 for none. */
  readonly restMs: number
  /** Some commits are deletes, batches and transactions that read. Default false: puts only. */
  readonly mixed?: boolean
  /** For each commit; default that of `serve`. */
  readonly ackTimeoutMs?: number
  /** Stops by itself after so many bytes of values. */
  readonly bytes?: number
  /** Receipts are counted and not sent. */
  readonly silent?: boolean
}

/** A key and its new value, undefined where it was deleted. */
export type KeyValue = readonly [key: string, value: string | undefined]

/** A commit whose promise has settled: with a receipt, or with OUTCOME_UNKNOWN and a token. */
export interface Settled {
  readonly lsn: number
  readonly term: number
  readonly token: string
  readonly writes: readonly KeyValue[]
}

export interface SiteCalls {
  open(options: { path: string; open?: OpenOptions }): { site: string; lastLsn: number; recovery: unknown }
  serve(options: ServeOptions): { address: string; term: number }
  /** Attaches, and attaches again after every loss, until `unfollow`, `promote`, mastership or the end. */
  follow(options: { path: string; address: string; open?: OpenOptions; attach?: FollowAttach }): void
  unfollow(): void
  promote(): { term: number; lsn: number }
  /** Of the master that it follows; from then on it follows nobody. */
  takeOver(options: TakeOverOptions): { term: number; lsn: number; address: string | undefined }
  /** Joins a group that elects its master. */
  join(options: JoinOptions): { address: string }
  startLoad(options: LoadOptions): void
  /** Resolves when every writer has settled and everything was sent. */
  stopLoad(): LoadResult
  /** Resolves when the load has stopped by itself, after its `bytes`. */
  loadEnded(): LoadResult
  status(): DatabaseStatus | undefined
  digest(): { digest: string; rows: number; lsn: number }
  outcomes(tokens: readonly string[]): string[]
  values(keys: readonly string[]): (string | undefined)[]
  /** Committed transactions, first and last included. */
  changes(options: { from: number; to: number }): { lsn: number; term: number; writes: readonly KeyValue[] }[]
  /** A hash of the log's records, first and last included. */
  logHash(options: { from: number; to: number }): string
  verify(): { records: number; rows: number }
  /** Resident memory of the process after a collection, without mapped files where those can be told. */
  memoryBytes(): number
  close(): void
}

export type FollowAttach = Omit<AttachOptions, 'signal'>

export interface LoadResult {
  readonly acknowledged: number
  readonly unknown: number
  /** Commits that were refused before anything was logged, by code. */
  readonly refused: Readonly<Record<string, number>>
}

export type SiteNotice =
  | { readonly notice: 'acknowledged' | 'unknown'; readonly commits: readonly Settled[] }
  | { readonly notice: 'progress'; readonly unit: string; readonly done: number }
  | { readonly notice: 'snapshotDone' }
  | { readonly notice: 'synced'; readonly result: SyncResult }
  | { readonly notice: 'rewound'; readonly to: number; readonly transactions: number; readonly file: string }
  | { readonly notice: 'stopped'; readonly reason: string; readonly code: string | undefined }
  | { readonly notice: 'master'; readonly term: number }
  | { readonly notice: 'failed'; readonly code: string; readonly message: string }

export interface SiteCall {
  readonly id: number
  readonly verb: keyof SiteCalls
  readonly argument: unknown
}

export type SiteAnswer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly message: string; readonly code: string | undefined } }
