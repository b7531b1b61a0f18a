// One row as load and dump see it, and a line of the input that is not one.

import { limits } from '../../base/limits.ts'

/** A row of the database. */
export interface DumpRow {
  /** The name of a named store; undefined: the default one. */
  readonly store: string | undefined
  readonly key: Uint8Array
  readonly value: Uint8Array
}

/** What a line of the input asks for: a put, or a delete where `value` is undefined. */
export interface LoadRecord {
  readonly store: string | undefined
  readonly key: Uint8Array
  readonly value: Uint8Array | undefined
}

/** A line of the input that is no record; `line` counts from 1 and is where the record begins. */
export class BadRecord extends Error {
  readonly line: number

  constructor(line: number, message: string) {
    super(message)
    this.name = 'BadRecord'
    this.line = line
  }
}

/** What a reader yields: records and bad ones in the order of the input, with how far it has read. */
export interface ReadItem {
  readonly line: number
  readonly bytesRead: number
  readonly outcome: LoadRecord | BadRecord
}

/** Undefined if the database will take it; else what is wrong. The library's own check would name no line. */
export function whyRefused(record: LoadRecord): string | undefined {
  if (record.key.length === 0) return 'the key is empty'
  if (record.key.length > limits.keyBytesMax) {
    return `the key has ${record.key.length} bytes; at most ${limits.keyBytesMax} are allowed`
  }
  if (record.value !== undefined && record.value.length > limits.valueBytesMax) {
    return `the value has ${record.value.length} bytes; at most ${limits.valueBytesMax} are allowed`
  }
  return undefined
}
