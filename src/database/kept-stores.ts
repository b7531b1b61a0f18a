// Which stores this site keeps: all of them, but on a partial view (Berkeley DB's rep_set_view with a callback). Its
// log is whole, because each record's checksum chains to the one before; its store has the rows that the filter let in.
//
// The filter is a function of the program and gone when that ends. So each of its answers is asked for once and kept in
// the state file, before a row is stored or left out by it. That way a reader always knows: from the moment of opening,
// without a filter, and also where the store had to be made anew. The state file and not the store has them because it
// outlives the store, is synced, and is read before anything else.
//
// A reader never takes what is not kept for what is not there: STORE_NOT_KEPT. A filter that throws, or answers neither
// true nor false, is VIEW_FILTER_FAILED, and nothing of the batch that asked is written.

import { assert } from '../base/assert.ts'
import { utf8Decode, utf8Encode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import type { RowFilter } from '../store/row-filter.ts'
import { latin1, splitWholeKey } from './key-space.ts'
import type { ViewState } from './site-state.ts'
import { isSystemKey } from './system-keys.ts'

/** Whether this site keeps the rows of a store, by its name; '' is the database's own, unnamed store. */
export type StoreFilter = (store: string) => boolean

/** What a partial view keeps. Stores that it has met no row of, and was not asked for, are in neither list. */
export type StoreAnswers = Pick<ViewState, 'kept' | 'declined'>

export class KeptStores implements RowFilter {
  /** Writes the answers to the state file; durable when it resolves. */
  onAnswered: (answers: StoreAnswers) => Promise<void> = () => {
    throw new CoterieError('INVALID_STATE', 'nobody keeps the answers of the filter')
  }
  #isPartial: boolean
  #filter: StoreFilter | undefined
  /** By the name of the store. Invariant: an answer never changes. */
  #answers: Map<string, boolean>
  /** The same by the first bytes of a key, so that no name is decoded twice. */
  #byPrefix: Map<string, boolean> = new Map()
  /** Answers that the state file does not have yet. */
  #hasNew = false
  #settling: Promise<void> = Promise.resolve()

  constructor(view: ViewState | undefined) {
    this.#isPartial = view?.kind === 'partial'
    this.#answers = answersOf(view)
  }

  /** False: every store is kept, and nobody is asked. */
  get isPartial(): boolean {
    return this.#isPartial
  }

  /** What the applier asks; undefined where every row is kept. */
  get rowFilter(): RowFilter | undefined {
    return this.#isPartial ? this : undefined
  }

  get answers(): StoreAnswers {
    const names = (wanted: boolean): string[] =>
      [...this.#answers].filter(([, isKept]) => isKept === wanted).map(([name]) => name)
    return { kept: names(true), declined: names(false) }
  }

  /**
   * A partial view from now on, by this filter. It is asked for the unnamed store at once, so that one that cannot
   * answer is found before anything else happens; and for every store again that an earlier one has answered for.
   * VIEW_FILTER_FAILED; INVALID_STATE where it answers otherwise than before. Then nothing has changed.
   */
  useFilter(filter: StoreFilter): void {
    for (const [store, before] of this.#answers) {
      if (askFilter(filter, store) === before) continue
      const message = `the filter ${before ? 'declines' : 'wants'} ${named(store)}, which this partial view has ${
        before ? 'kept' : 'declined'
      } so far: what a view keeps is decided once; make another one in a new folder`
      throw new CoterieError('INVALID_STATE', message, { details: { store, kept: before } })
    }
    const isNew = !this.#answers.has('')
    const unnamed = this.#answers.get('') ?? askFilter(filter, '')
    this.#filter = filter
    this.#isPartial = true
    if (isNew) this.#answered('', unnamed)
  }

  /** Undoes the first `useFilter`, where nothing came of it. */
  forget(): void {
    this.#isPartial = false
    this.#filter = undefined
    this.#answers = new Map()
    this.#byPrefix = new Map()
    this.#hasNew = false
  }

  keeps(wholeKey: Uint8Array): boolean {
    if (isSystemKey(wholeKey)) return true
    const prefix = latin1(wholeKey.subarray(0, 1 + (wholeKey[0] ?? 0)))
    let isKept = this.#byPrefix.get(prefix)
    if (isKept === undefined) {
      isKept = this.#ask(splitWholeKey(wholeKey).storeName)
      this.#byPrefix.set(prefix, isKept)
    }
    return isKept
  }

  /** Records are not applied without a filter, so that there is one whenever a row of a new store comes. */
  #ask(store: string): boolean {
    const known = this.#answers.get(store)
    if (known !== undefined) return known
    const filter = this.#filter
    if (filter === undefined) {
      throw new CoterieError('VIEW_FILTER_FAILED', `there is no filter to ask about ${named(store)}`, {
        details: { store },
      })
    }
    const answer = askFilter(filter, store)
    this.#answered(store, answer)
    return answer
  }

  #answered(store: string, answer: boolean): void {
    assert((this.#answers.get(store) ?? answer) === answer, 'what a view keeps is decided once')
    this.#answers.set(store, answer)
    this.#hasNew = true
  }

  settle(): Promise<void> {
    if (!this.#hasNew) return this.#settling
    this.#hasNew = false
    this.#settling = this.onAnswered(this.answers).catch((error: unknown) => {
      this.#hasNew = true
      throw error
    })
    return this.#settling
  }

  /**
   * STORE_NOT_KEPT unless the rows of the store are here. Also where nobody can say: after a reopening, before a
   * filter is given again, of a store that no row has come of. VIEW_FILTER_FAILED.
   */
  assertKept(storeName: string): void {
    if (!this.#isPartial) return
    const store = this.#answers.has(storeName) ? storeName : utf8Decode(utf8Encode(storeName))
    const answer = this.#filter === undefined ? this.#answers.get(store) : this.#ask(store)
    if (answer === true) return
    const message =
      answer === false
        ? `this partial view does not keep ${named(store)}: read it at another site`
        : `this partial view does not know yet whether it keeps ${named(store)}: no row of it has come; attach it with its filter`
    throw new CoterieError('STORE_NOT_KEPT', message, { details: { store } })
  }
}

function answersOf(view: ViewState | undefined): Map<string, boolean> {
  const kept = (view?.kept ?? []).map((name) => [name, true] as const)
  const declined = (view?.declined ?? []).map((name) => [name, false] as const)
  return new Map([...kept, ...declined])
}

function askFilter(filter: StoreFilter, store: string): boolean {
  const failed = (why: string, cause?: unknown): CoterieError =>
    new CoterieError('VIEW_FILTER_FAILED', `the filter of the view, asked for ${named(store)}, ${why}`, {
      ...(cause === undefined ? {} : { cause }),
      details: { store },
    })
  let answer: unknown
  try {
    answer = filter(store)
  } catch (cause) {
    throw failed('threw an error', cause)
  }
  if (typeof answer !== 'boolean') throw failed('answered neither true nor false')
  return answer
}

function named(store: string): string {
  return store === '' ? 'the unnamed store' : `store '${store}'`
}
