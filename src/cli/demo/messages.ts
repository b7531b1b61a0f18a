// What the demo and its site processes say to each other over Node's IPC channel.

import type { SyncResult } from '../../index.ts'

/** A city as the demo loads it: `index` names it in the ledger. */
export type CityRow = readonly [index: number, key: string, value: string]

/** A row to be found on a site; the token is that of the receipt, null where none arrived. */
export type ExpectedRow = readonly [index: number, key: string, value: string, token: string | null]

export type SiteRequest =
  /** Answers when the site knows a master and has its data. Without seeds it founds the group. */
  | {
      readonly type: 'join'
      readonly path: string
      readonly site: string
      readonly listen: string
      readonly seeds: readonly string[]
    }
  /** Commits each row as a transaction of its own; the answers come as `acks`. */
  | { readonly type: 'put'; readonly rows: readonly CityRow[] }
  | { readonly type: 'status' }
  | { readonly type: 'digest' }
  /** Answers with the rows that are not there as they should be. */
  | { readonly type: 'check'; readonly rows: readonly ExpectedRow[] }
  | { readonly type: 'close' }

export interface SiteResults {
  join: { readonly address: string }
  put: Record<string, never>
  status: {
    readonly lastLsn: number
    readonly appliedLsn: number
    readonly committedLsn: number
    readonly isMaster: boolean
    readonly term: number
    readonly members: number
    readonly canLose: string
  }
  digest: { readonly digest: string; readonly rows: number; readonly bytes: number; readonly lsn: number }
  check: { readonly wrong: readonly WrongRow[] }
  close: Record<string, never>
}

export interface WrongRow {
  readonly index: number
  readonly key: string
  readonly reason: string
}

export type Acked = readonly [index: number, token: string]
export type NotAcked = readonly [index: number, code: string]

export type SiteEvent =
  | { readonly event: 'acks'; readonly acked: readonly Acked[]; readonly refused: readonly NotAcked[] }
  /** This site is the master from now on. */
  | { readonly event: 'master'; readonly term: number }
  | { readonly event: 'synced'; readonly result: SyncResult }
  | { readonly event: 'rewound'; readonly transactions: number }

export type ToSite = SiteRequest & { readonly id: number }
export type FromSite =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly code: string; readonly message: string } }
  | SiteEvent
