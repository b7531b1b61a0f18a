// Is there an order in which these calls could have happened one at a time? Each key is a register of its own, and a
// history is linearisable exactly if that of each key is (Herlihy and Wing, locality).
//
// The search is that of Wing and Gong with Lowe's memory of what has been tried. Two facts keep it short: values are
// unique, so a value that is still to be read cannot be overwritten yet; and a call that may or may not have happened
// counts only if somebody saw what it wrote, and then it happened before that somebody returned. What did not fail and
// did not succeed is thus never guessed at. A fault names the key and the calls that no order explains.

import { assert } from '../base/assert.ts'
import type { Operation } from './history.ts'

/** Calls that cannot all have happened as they were answered. */
export interface HistoryFault {
  readonly key: string
  readonly message: string
  /** Those that show it, in the order of their invocation. */
  readonly operations: readonly Operation[]
}

/** What a value of a register is: undefined is a key that is not there. */
type Value = string | undefined

interface Step {
  readonly operation: Operation
  /** Before it there was this value; undefined: it does not say. */
  readonly reads: { readonly value: Value } | undefined
  readonly writes: { readonly value: Value } | undefined
  /** It has happened by then. */
  deadline: number
}

/** More states than this for one key: the history has too many calls at one time to be judged. */
const statesMax = 2_000_000

/**
 * Looks for a key whose calls no order explains; undefined if all are linearisable. Keys begin absent, or as `initial`
 * says. Reads with `stale` are left out.
 *
 * Invariant of its input: no two writes put the same value under one key.
 */
export function findRegisterFault(
  operations: readonly Operation[],
  initial: ReadonlyMap<string, string> = new Map(),
): HistoryFault | undefined {
  for (const [key, calls] of byKey(operations)) {
    const fault = findKeyFault(key, calls, initial.get(key))
    if (fault !== undefined) return fault
  }
  return undefined
}

function byKey(operations: readonly Operation[]): Map<string, Operation[]> {
  const keys = new Map<string, Operation[]>()
  for (const operation of operations) {
    if (operation.kind === 'read' && operation.stale === true) continue
    const calls = keys.get(operation.key)
    if (calls === undefined) keys.set(operation.key, [operation])
    else calls.push(operation)
  }
  return keys
}

function findKeyFault(key: string, calls: readonly Operation[], initial: Value): HistoryFault | undefined {
  const fault = (message: string, operations: readonly Operation[]): HistoryFault => ({
    key,
    message,
    operations: [...operations].sort((a, b) => a.invokedAt - b.invokedAt || a.id - b.id),
  })
  const writers = writersOf(calls)
  const { certain, deletes } = stepsOf(calls, writers)
  for (const { operation, reads } of certain) {
    if (reads?.value === undefined || reads.value === initial) continue
    const writer = writers.get(reads.value)
    if (writer === undefined) return fault(`${callOf(operation)}: nobody wrote that`, [operation])
    if (writer.outcome === 'failed') {
      return fault(`${callOf(operation)}, but ${callOf(writer)} had failed`, [writer, operation])
    }
    if ((operation.completedAt ?? Number.POSITIVE_INFINITY) < writer.invokedAt) {
      return fault(`${callOf(operation)} before ${callOf(writer)} was asked for`, [writer, operation])
    }
  }
  const stuck = new Search(certain, deletes, initial).run()
  if (stuck === undefined) return undefined
  const last = stuck.last === undefined ? 'the beginning' : callOf(stuck.last)
  const next = stuck.next.map(callOf).join('; ')
  return fault(`after ${last} none of these can be next: ${next}`, [
    ...(stuck.last === undefined ? [] : [stuck.last]),
    ...stuck.next,
  ])
}

/** Who put each value. */
function writersOf(calls: readonly Operation[]): Map<string, Operation> {
  const writers = new Map<string, Operation>()
  for (const call of calls) {
    if (call.kind === 'read' || call.value === undefined) continue
    assert(!writers.has(call.value), 'no two writes put the same value under one key')
    writers.set(call.value, call)
  }
  return writers
}

/**
 * The calls that have happened for certain, and the deletes that may have. A put of which nothing is known has happened
 * if its value was read by a call that has, and then not later than that one; if not, it makes no difference.
 */
function stepsOf(
  calls: readonly Operation[],
  writers: ReadonlyMap<string, Operation>,
): { certain: Step[]; deletes: Step[] } {
  const deletes: Step[] = []
  const steps = new Map<Operation, Step>()
  const waiting: Step[] = []
  for (const call of calls) {
    if (call.outcome === 'failed') continue
    const step = stepOf(call)
    if (call.outcome === 'ok') {
      assert(call.completedAt !== undefined, 'a call that succeeded has returned')
      step.deadline = call.completedAt
      steps.set(call, step)
      waiting.push(step)
    } else if (call.kind === 'write' && call.value === undefined) deletes.push(step)
  }
  for (let step = waiting.pop(); step !== undefined; step = waiting.pop()) {
    if (step.reads?.value === undefined) continue
    const writer = writers.get(step.reads.value)
    if (writer === undefined || writer.outcome === 'failed') continue
    let seen = steps.get(writer)
    if (seen !== undefined && seen.deadline <= step.deadline) continue
    if (seen === undefined) {
      seen = stepOf(writer)
      steps.set(writer, seen)
    }
    seen.deadline = step.deadline
    waiting.push(seen)
  }
  return { certain: [...steps.values()].sort(byInvocation), deletes: deletes.sort(byInvocation) }
}

function stepOf(operation: Operation): Step {
  const { kind, value } = operation
  const saysBefore = kind === 'transact' && (operation.outcome === 'ok' || 'before' in operation)
  return {
    operation,
    reads: kind === 'read' ? { value } : saysBefore ? { value: operation.before } : undefined,
    writes: kind === 'read' ? undefined : { value },
    deadline: Number.POSITIVE_INFINITY,
  }
}

function byInvocation(a: Step, b: Step): number {
  return a.operation.invokedAt - b.operation.invokedAt || a.operation.id - b.operation.id
}

/** Where the search got furthest: what it did last, and what could not come next. */
interface Stuck {
  readonly last: Operation | undefined
  readonly next: readonly Operation[]
}

/** A place in the search: what was done on the way here, and what is left to try from here. */
interface Frame {
  readonly state: Value
  /** The first step that was not done on the way here. */
  readonly first: number
  /** Steps taken since the frame before; undone when this one is left. */
  readonly taken: readonly number[]
  readonly choices: readonly number[]
  next: number
}

/** Stands for the next delete of those that may have happened. */
const anyDelete = -1

class Search {
  readonly #steps: readonly Step[]
  readonly #deletes: readonly Step[]
  readonly #done: Uint8Array
  /** How many steps that are not done will read this value. */
  readonly #toBeRead: Map<string, number> = new Map()
  readonly #tried: Set<string> = new Set()
  #state: Value
  #left: number
  /** No step before this one is left. */
  #first = 0
  /** By then one of the steps that are left has happened. */
  #deadline = 0
  /** Deletes used of those that may have happened: an earlier one can always stand for a later one. */
  #deletesUsed = 0
  #fewestLeft = Number.POSITIVE_INFINITY
  #stuck: Stuck = { last: undefined, next: [] }

  constructor(steps: readonly Step[], deletes: readonly Step[], initial: Value) {
    this.#steps = steps
    this.#deletes = deletes
    this.#done = new Uint8Array(steps.length)
    this.#state = initial
    this.#left = steps.length
    for (const { reads } of steps) this.#expect(reads?.value, 1)
  }

  /** Undefined if an order was found. */
  run(): Stuck | undefined {
    const frames: Frame[] = []
    for (let taken: number[] = []; ; ) {
      const choices = this.#open(taken)
      if (this.#left === 0) return undefined
      frames.push({ state: this.#state, first: this.#first, taken, choices, next: 0 })
      const chosen = this.#nextChoice(frames)
      if (chosen === undefined) return this.#stuck
      taken = [chosen]
      this.#take(chosen)
    }
  }

  /** The next way to try, back as far as there is one; undefined if all have been tried. */
  #nextChoice(frames: Frame[]): number | undefined {
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      this.#state = frame.state
      this.#first = frame.first
      const chosen = frame.choices[frame.next++]
      if (chosen !== undefined) return chosen
      frames.pop()
      for (const index of frame.taken) this.#takeBack(index)
    }
    return undefined
  }

  /** Takes the reads that fit now, which never shuts a way, and returns what can be tried next. */
  #open(taken: number[]): number[] {
    for (;;) {
      const open = this.#candidates()
      const fitting = open.filter((index) => this.#isFittingRead(this.#steps[index] as Step))
      for (const index of fitting) {
        this.#take(index)
        taken.push(index)
      }
      if (fitting.length > 0 && this.#left > 0) continue
      this.#noteProgress(taken, open)
      if (this.#left === 0 || !this.#isNew()) return []
      return this.#choices(open)
    }
  }

  #firstLeft(): number {
    while (this.#first < this.#steps.length && this.#done[this.#first] === 1) this.#first++
    return this.#first
  }

  /** Steps not done that no other such step must come before. */
  #candidates(): number[] {
    const steps = this.#steps
    const open: number[] = []
    let deadline = Number.POSITIVE_INFINITY
    for (let i = this.#firstLeft(); i < steps.length; i++) {
      if (this.#done[i] === 1) continue
      const step = steps[i] as Step
      if (step.operation.invokedAt > deadline) break
      if (step.deadline < deadline) deadline = step.deadline
      open.push(i)
    }
    this.#deadline = deadline
    return open
  }

  #isFittingRead(step: Step): boolean {
    return step.writes === undefined && step.reads !== undefined && step.reads.value === this.#state
  }

  #choices(open: readonly number[]): number[] {
    const state = this.#state
    const pending = state === undefined ? 0 : (this.#toBeRead.get(state) ?? 0)
    const choices = open.filter((index) => {
      const { reads, writes } = this.#steps[index] as Step
      if (writes === undefined) return false
      if (reads === undefined) return pending === 0
      return reads.value === state && (state === undefined || pending === 1)
    })
    choices.sort((a, b) => (this.#steps[a] as Step).deadline - (this.#steps[b] as Step).deadline)
    const unsure = this.#deletes[this.#deletesUsed]
    const isDeleteOpen = unsure !== undefined && unsure.operation.invokedAt <= this.#deadline
    // A delete that nobody notices changes nothing: it is tried only where a call that found nothing could be next.
    if (isDeleteOpen && state !== undefined && pending === 0) {
      if (open.some((index) => readsNothing(this.#steps[index] as Step))) choices.push(anyDelete)
    }
    return choices
  }

  #take(index: number): void {
    if (index === anyDelete) {
      this.#deletesUsed++
      this.#state = undefined
      return
    }
    const { reads, writes } = this.#steps[index] as Step
    this.#done[index] = 1
    this.#left--
    this.#expect(reads?.value, -1)
    if (writes !== undefined) this.#state = writes.value
  }

  #takeBack(index: number): void {
    if (index === anyDelete) {
      this.#deletesUsed--
      return
    }
    this.#done[index] = 0
    this.#left++
    this.#expect((this.#steps[index] as Step).reads?.value, 1)
  }

  #expect(value: Value, change: number): void {
    if (value !== undefined) this.#toBeRead.set(value, (this.#toBeRead.get(value) ?? 0) + change)
  }

  /** Whether this state is met for the first time. */
  #isNew(): boolean {
    const first = this.#firstLeft()
    let key = `${first},${this.#deletesUsed},${this.#state === undefined ? '' : `=${this.#state}`}`
    let doneBehind = this.#steps.length - this.#left - first
    for (let i = first + 1; doneBehind > 0; i++) {
      if (this.#done[i] === 0) continue
      key += `,${i}`
      doneBehind--
    }
    if (this.#tried.has(key)) return false
    assert(this.#tried.size < statesMax, 'the calls of one key can be put in order within reason')
    this.#tried.add(key)
    return true
  }

  #noteProgress(taken: readonly number[], open: readonly number[]): void {
    if (this.#left >= this.#fewestLeft) return
    this.#fewestLeft = this.#left
    const lastTaken = taken.at(-1)
    const last = lastTaken === undefined || lastTaken === anyDelete ? undefined : this.#steps[lastTaken]
    this.#stuck = {
      last: last?.operation,
      next: open.map((index) => (this.#steps[index] as Step).operation),
    }
  }
}

function readsNothing({ reads }: Step): boolean {
  return reads !== undefined && reads.value === undefined
}

/** The call in words, for reports. */
export function callOf(operation: Operation): string {
  const { id, kind, key, value, before, site, invokedAt, completedAt, outcome, lsn } = operation
  const what =
    kind === 'read'
      ? `read ${key} = ${value ?? 'nothing'}`
      : kind === 'write'
        ? `${value === undefined ? 'del' : 'put'} ${key}${value === undefined ? '' : ` = ${value}`}`
        : `transact ${key}: ${before ?? 'nothing'} -> ${value ?? 'nothing'}`
  const when = `${invokedAt}..${completedAt ?? ''} ms`
  return `#${id} ${what} (${site}, ${when}, ${outcome}${lsn === undefined ? '' : `, lsn ${lsn}`})`
}
