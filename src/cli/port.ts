// What a verb needs of a database, whether this process opens the directory (local-port.ts) or another one has it open
// and is asked through its control endpoint (control-client.ts). Keys and values are bytes; results are plain data.

import type { DatabaseStatus, ElectResult, LogRecord, TwoSites } from '../index.ts'
import type { DumpRow } from './records/record.ts'

export interface DatabasePort {
  /** The pid of the process that has the directory open, if it is not this one. */
  readonly holderPid: number | undefined
  get(key: Uint8Array, options: ReadOptions): Promise<Uint8Array | undefined>
  /** One transaction. */
  write(writes: readonly PortWrite[], options: WriteOptions): Promise<PortReceipt>
  /** Rows of one snapshot, in order, in batches; ends early when `signal` is aborted. */
  rows(request: RowsRequest, signal: AbortSignal): AsyncIterable<readonly DumpRow[]>
  /** Names of the named stores; the default one is not among them. */
  storeNames(): Promise<readonly string[]>
  records(request: LogRequest, signal: AbortSignal): AsyncIterable<readonly LogLine[]>
  status(): Promise<PortStatus>
  stat(): Promise<PortStat>
  verify(onProgress: PortProgress): Promise<PortVerified>
  digest(onProgress: PortProgress): Promise<PortDigest>
  checkpoint(): Promise<Record<string, unknown>>
  archive(): Promise<Record<string, unknown>>
  /** `file` is absolute. */
  backup(file: string, onProgress: PortProgress): Promise<Record<string, unknown>>
  promote(): Promise<PortPromoted>
  /** Of a running `coterie attach`: asks its master to hand over. */
  takeOver(options: PortTakeOverOptions): Promise<PortTakenOver>
  /** Of a running `coterie join`: hands the mastership over. */
  transfer(site: string, options: TransferOptions): Promise<PortTransferred>
  /** Of a running `coterie join`: for good. */
  removeMember(site: string): Promise<void>
  /** Of a running `coterie join` on the master. */
  setTwoSites(twoSites: TwoSites): Promise<void>
  /** Of a running `coterie join --no-elections`. */
  elect(): Promise<ElectResult>
  outcome(token: string): Promise<string>
  close(): Promise<void>
}

export interface ReadOptions {
  readonly store?: string | undefined
}

export interface PortWrite {
  readonly store: string | undefined
  readonly key: Uint8Array
  /** Undefined: delete. */
  readonly value: Uint8Array | undefined
}

export interface WriteOptions {
  readonly acks?: string | number | undefined
  readonly durability?: string | undefined
  readonly ackTimeoutMs?: number | undefined
}

export interface PortReceipt {
  readonly lsn: number
  readonly term: number
  readonly token: string
  readonly acks: number
  readonly detached: readonly string[]
}

export interface RowsRequest {
  /** Undefined is the default store. In this order, each by the same range. */
  readonly stores: readonly (string | undefined)[]
  readonly gt?: Uint8Array | undefined
  readonly gte?: Uint8Array | undefined
  readonly lt?: Uint8Array | undefined
  readonly lte?: Uint8Array | undefined
  readonly reverse?: boolean | undefined
  readonly limit?: number | undefined
  /** False: values come back empty, and need not travel. */
  readonly values: boolean
}

export interface LogRequest {
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly limit?: number | undefined
  /** Goes on with new records as they are committed. */
  readonly follow: boolean
}

/** One record of the log, without the values. */
export interface LogLine {
  readonly lsn: number
  readonly term: number
  readonly kind: string
  readonly bytes: number
  /** Milliseconds since 1970, by the clock of the master. */
  readonly time: number
  readonly committed: boolean
  readonly writes: readonly LogWrite[]
  /** Of the first record of a reign: the site that became master. */
  readonly site?: string | undefined
  /** Of a members record. */
  readonly members?: LogRecord['members']
}

export interface LogWrite {
  readonly type: 'put' | 'del'
  readonly store: string
  /** Base64. */
  readonly key: string
  readonly valueBytes?: number | undefined
}

/** Amount done and, where known, the whole. */
export type PortProgress = (done: number, total: number | undefined) => void

export type PortStatus = DatabaseStatus

export interface PortStat {
  readonly stores: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[]
  /** On a view. */
  readonly view?: PortStatus['view']
  readonly [field: string]: unknown
}

export interface PortDigest {
  readonly digest: string
  readonly rows: number
  readonly bytes: number
  readonly lsn: number
}

export interface PortVerified {
  readonly log: { readonly records: number; readonly bytes: number; readonly segments: number }
  readonly store: { readonly rows: number; readonly bytes: number; readonly digest: string }
}

export interface TransferOptions {
  readonly timeoutMs?: number | undefined
}

export interface PortTransferred {
  /** The new master ... */
  readonly site: string
  readonly term: number
  /** ... which has everything up to here. */
  readonly lsn: number
  /** How long writers had to wait. */
  readonly pausedMs: number
}

export interface PortTakeOverOptions {
  /** Default: what the running process was told. Empty: it will not listen. */
  readonly listen?: readonly string[] | undefined
  readonly advertise?: string | undefined
  readonly timeoutMs?: number | undefined
}

export interface PortTakenOver {
  readonly term: number
  /** The last LSN of the old master. */
  readonly lsn: number
  /** How long writers had to wait, at most. */
  readonly pausedMs?: number | undefined
  /** Where the process now serves, if it was told to listen. */
  readonly addresses: readonly string[]
}

export interface PortPromoted {
  readonly term: number
  /** Where the process now serves, if it was told to listen. */
  readonly addresses: readonly string[]
}
