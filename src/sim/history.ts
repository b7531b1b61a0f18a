// What one simulated run leaves behind, and the face by which judges look at it. The clients write the history of
// operations that the linearisability judge reads; the report says what ran and, if a judge found fault, what it was.

import type { RunKind } from './stage.ts'

/** One call of a client. Times are simulated milliseconds of the true clock, which no site can see. */
export interface Operation {
  /** Numbers operations in the order of their invocation, from 1. */
  readonly id: number
  readonly client: number
  readonly kind: 'write' | 'read' | 'transact'
  /** Where it was sent. */
  readonly site: string
  readonly key: string
  /**
   * write: what is put (undefined: deleted). read: what was found. transact: what was put, after a read of the same
   * key in the same transaction, which found `before`.
   */
  value?: string | undefined
  before?: string | undefined
  readonly invokedAt: number
  completedAt?: number
  /**
   * ok: it has happened. failed: it has not and never will. unknown: it may have happened, or may yet; so, too, an
   * operation that never completed.
   */
  outcome: 'ok' | 'unknown' | 'failed'
  /** The code of the error of an operation that is not ok. */
  code?: string
  /** Of an acknowledged write. */
  lsn?: number
  term?: number
  token?: string
  acks?: string
  /** A read on a site that did not take itself for the master: judged as a prefix, not as linearisable. */
  readonly stale?: boolean
  /** Of a read in a pair: what was committed there when it began, and when it was answered. */
  places?: readonly Place[]
}

/** A record, by its number and its term. */
export interface Place {
  readonly lsn: number
  readonly term: number
}

export interface SimViolation {
  readonly judge: string
  readonly message: string
  /** Simulated time. */
  readonly atMs: number
}

export interface SimReport {
  readonly seed: number
  readonly kind: RunKind
  readonly simulatedMs: number
  readonly events: number
  readonly commits: number
  readonly failovers: number
  /** How often each fault struck. */
  readonly faults: Record<string, number>
  /** A checksum of everything that happened, in order. */
  readonly fingerprint: string
  readonly violation?: SimViolation
}
