// The overlay: what is in the log but not yet in the store, for the site that writes. Transactions read it before
// the store, so that they see every transaction before them, applied or not.
//
// Versions are grouped into generations: maps that are dropped whole, in O(1), once the store has all that is in
// them. A lookup asks every generation, newest first, so a new one begins only when the youngest is of some size:
// thousands of versions, or a quarter of all. Values are shared, not copied: nobody changes them.
//
// Invariant: a version is in the overlay until the store has it; some stay longer, which readers cannot tell.

import { assert } from '../base/assert.ts'
import { type Lsn, noLsn } from '../base/lsn.ts'

export interface OverlayVersion {
  readonly lsn: Lsn
  /** Undefined: the row was deleted. */
  readonly value: Uint8Array | undefined
  /** The version of the same key before this one, if it is of the same generation. */
  readonly older: OverlayVersion | undefined
}

interface Generation {
  readonly versions: Map<string, OverlayVersion>
  count: number
  bytes: number
  lastLsn: Lsn
}

/** Below this a generation is not sealed: each one costs every miss about 30 ns. */
const generationCountMin = 4096

export class Overlay {
  /** Sealed ones, oldest first. */
  #sealed: Generation[] = []
  #youngest: Generation = newGeneration()
  #count = 0
  #bytes = 0
  #lastLsn: Lsn = noLsn
  /** All versions up to here may have been dropped. */
  #droppedLsn: Lsn = noLsn

  /** How many versions there are. */
  get count(): number {
    return this.#count
  }

  /** Of their keys and values. */
  get bytes(): number {
    return this.#bytes
  }

  /** `key` is the text of a key (key-text.ts). Invariant: `lsn` never falls, but after `clear`. */
  set(key: string, value: Uint8Array | undefined, lsn: Lsn): void {
    assert(lsn >= this.#lastLsn, 'versions come in the order of their LSNs')
    const generation = this.#youngest
    const { versions } = generation
    versions.set(key, { lsn, value, older: versions.get(key) })
    const bytes = key.length + (value === undefined ? 0 : value.length)
    generation.count++
    generation.bytes += bytes
    generation.lastLsn = lsn
    this.#lastLsn = lsn
    this.#count++
    this.#bytes += bytes
  }

  /** The newest version; undefined if the store has it. */
  get(key: string): OverlayVersion | undefined {
    const version = this.#youngest.versions.get(key)
    if (version !== undefined || this.#sealed.length === 0) return version
    for (let i = this.#sealed.length - 1; i >= 0; i--) {
      const older = (this.#sealed[i] as Generation).versions.get(key)
      if (older !== undefined) return older
    }
    return undefined
  }

  /** The newest version up to `visibleLsn`, which is not before what has been dropped. */
  getAt(key: string, visibleLsn: Lsn): OverlayVersion | undefined {
    assert(visibleLsn >= this.#droppedLsn, 'no reader needs a version that has been dropped')
    const version = upTo(this.#youngest.versions.get(key), visibleLsn)
    if (version !== undefined || this.#sealed.length === 0) return version
    for (let i = this.#sealed.length - 1; i >= 0; i--) {
      const older = upTo((this.#sealed[i] as Generation).versions.get(key), visibleLsn)
      if (older !== undefined) return older
    }
    return undefined
  }

  /** Here a generation may end: called where it is cheap, once for each batch of records. */
  sealGeneration(): void {
    const { count } = this.#youngest
    if (count < generationCountMin || count * 4 < this.#count) return
    this.#sealed.push(this.#youngest)
    this.#youngest = newGeneration()
  }

  /** The store has everything up to `appliedLsn`. */
  dropThrough(appliedLsn: Lsn): void {
    let dropped = 0
    for (const generation of this.#sealed) {
      if (generation.lastLsn > appliedLsn) break
      this.#forget(generation)
      dropped++
    }
    if (dropped > 0) this.#sealed.splice(0, dropped)
    if (this.#sealed.length > 0 || this.#youngest.count === 0 || this.#youngest.lastLsn > appliedLsn) return
    this.#forget(this.#youngest)
    this.#youngest = newGeneration()
  }

  /** Forgets the versions after `lsn`: their records never came into the log. Costs a look at every version. */
  dropAfter(lsn: Lsn): void {
    if (this.#lastLsn <= lsn) return
    for (const generation of [...this.#sealed, this.#youngest]) {
      if (generation.lastLsn <= lsn) continue
      for (const [key, newest] of generation.versions) this.#dropVersions(generation, { key, newest, lsn })
      generation.lastLsn = lsn
    }
    this.#lastLsn = lsn
  }

  #dropVersions(
    generation: Generation,
    { key, newest, lsn }: { key: string; newest: OverlayVersion; lsn: Lsn },
  ): void {
    let version: OverlayVersion | undefined = newest
    for (; version !== undefined && version.lsn > lsn; version = version.older) {
      const bytes = key.length + (version.value?.length ?? 0)
      generation.count--
      generation.bytes -= bytes
      this.#count--
      this.#bytes -= bytes
    }
    if (version === undefined) generation.versions.delete(key)
    else if (version !== newest) generation.versions.set(key, version)
  }

  /** Forgets everything, and that LSNs have been as high as they were: after a rewind. */
  clear(): void {
    this.#sealed = []
    this.#youngest = newGeneration()
    this.#count = 0
    this.#bytes = 0
    this.#lastLsn = noLsn
    this.#droppedLsn = noLsn
  }

  #forget(generation: Generation): void {
    this.#count -= generation.count
    this.#bytes -= generation.bytes
    this.#droppedLsn = generation.lastLsn
  }
}

function newGeneration(): Generation {
  return { versions: new Map(), count: 0, bytes: 0, lastLsn: noLsn }
}

function upTo(newest: OverlayVersion | undefined, visibleLsn: Lsn): OverlayVersion | undefined {
  let version = newest
  while (version !== undefined && version.lsn > visibleLsn) version = version.older
  return version
}
