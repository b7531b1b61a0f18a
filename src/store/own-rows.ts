// The rows that an engine on disk keeps for itself, next to the data: meta, history and undo.
//
// A data key begins with the length of its store's name, at most 200, so a first byte of 0xfe or 0xff is free. The
// history has a row of its own, because it can be long and changes once a reign, where the meta changes with
// every batch. Everything is inside the engine's files: no other program reads it.

import { CoterieError } from '../base/errors.ts'
import type { HistoryEntry } from '../base/history.ts'
import { type Lsn, toLsn, toTerm } from '../base/lsn.ts'
import type { StoreMeta, UndoEntry } from './store.ts'

/** Keys from here on are the engine's own. */
export const ownKeysFrom: Uint8Array = Uint8Array.of(0xfe)
export const metaKey: Uint8Array = Uint8Array.of(0xff, 1)
export const historyKey: Uint8Array = Uint8Array.of(0xff, 2)

const undoPrefix = 0xfe
const undoKeyBytes = 9
const formatVersion = 1
const highUnit = 0x1_0000_0000

const textEncoder = new TextEncoder()
const textDecoder = new TextDecoder('utf-8', { fatal: true })

export function isDataKey(key: Uint8Array): boolean {
  return key.length > 0 && (key[0] as number) < undoPrefix
}

/** Orders as the LSN does. */
export function undoKey(lsn: Lsn): Uint8Array {
  const key = new Uint8Array(undoKeyBytes)
  const view = new DataView(key.buffer)
  key[0] = undoPrefix
  view.setUint32(1, Math.floor(lsn / highUnit))
  view.setUint32(5, lsn >>> 0)
  return key
}

export function lsnOfUndoKey(key: Uint8Array): Lsn {
  const view = new DataView(key.buffer, key.byteOffset, key.length)
  return toLsn(view.getUint32(1) * highUnit + view.getUint32(5))
}

export function encodeMeta(meta: StoreMeta): Uint8Array {
  const { history: _, ...rest } = meta
  return textEncoder.encode(JSON.stringify({ format: formatVersion, ...rest }))
}

/** Throws FORMAT_UNSUPPORTED on the meta of another version. */
export function decodeMeta(bytes: Uint8Array, history: readonly HistoryEntry[]): StoreMeta {
  const read = JSON.parse(textDecoder.decode(bytes)) as StoreMeta & { readonly format: number }
  if (read.format !== formatVersion) {
    throw new CoterieError('FORMAT_UNSUPPORTED', `the store has format ${read.format}, not ${formatVersion}`)
  }
  return {
    databaseId: read.databaseId,
    appliedLsn: toLsn(read.appliedLsn),
    appliedTerm: toTerm(read.appliedTerm),
    appliedCrc: read.appliedCrc,
    readableLsn: toLsn(read.readableLsn),
    history,
  }
}

export function encodeHistory(history: readonly HistoryEntry[]): Uint8Array {
  return textEncoder.encode(JSON.stringify(history))
}

export function decodeHistory(bytes: Uint8Array): readonly HistoryEntry[] {
  return JSON.parse(textDecoder.decode(bytes)) as readonly HistoryEntry[]
}

/** u32 count, then for each entry: u32 key length, u32 value length or 0xffffffff for "no row", key, value. */
export function encodeUndo(entries: readonly UndoEntry[]): Uint8Array {
  let bytes = 4
  for (const { key, before } of entries) bytes += 8 + key.length + (before?.length ?? 0)
  const encoded = new Uint8Array(bytes)
  const view = new DataView(encoded.buffer)
  view.setUint32(0, entries.length)
  let at = 4
  for (const { key, before } of entries) {
    view.setUint32(at, key.length)
    view.setUint32(at + 4, before === undefined ? noRow : before.length)
    encoded.set(key, at + 8)
    at += 8 + key.length
    if (before !== undefined) {
      encoded.set(before, at)
      at += before.length
    }
  }
  return encoded
}

const noRow = 0xffff_ffff

/** The entries share `bytes`. */
export function decodeUndo(bytes: Uint8Array): UndoEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const entries: UndoEntry[] = []
  let at = 4
  for (let left = view.getUint32(0); left > 0; left--) {
    const keyEnd = at + 8 + view.getUint32(at)
    const valueBytes = view.getUint32(at + 4)
    const key = bytes.subarray(at + 8, keyEnd)
    if (valueBytes === noRow) {
      entries.push({ key, before: undefined })
      at = keyEnd
    } else {
      entries.push({ key, before: bytes.subarray(keyEnd, keyEnd + valueBytes) })
      at = keyEnd + valueBytes
    }
  }
  return entries
}
