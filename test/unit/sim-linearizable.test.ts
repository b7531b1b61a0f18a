import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Prng } from '../../src/base/prng.ts'
import type { Operation } from '../../src/sim/history.ts'
import { findRegisterFault } from '../../src/sim/linearizable.ts'
import { findOrderFault, type LoggedTransaction } from '../../src/sim/lsn-order.ts'

/**
 * One call a line: `put a x 1-2`, `del a 1-2`, `read a x 1-2`, `read a - 1-2` (nothing there), `cas a x>y 1-2`. A time
 * without an end (`1-`) is a call whose outcome is unknown; with `!` at its end it failed.
 */
function historyOf(text: string): Operation[] {
  const lines = text.split('\n').map((line) => line.trim())
  return lines
    .filter((line) => line !== '')
    .map((line, i) => {
      const words = line.split(/\s+/)
      const [verb, key] = words as [string, string]
      const [start, end] = (words.at(-1) as string).split('-') as [string, string]
      const outcome = end === '' ? 'unknown' : end.endsWith('!') ? 'failed' : 'ok'
      const [first, second] = (words[2] as string).split('>') as [string, string?]
      const operation: Operation = {
        id: i + 1,
        client: i,
        kind: verb === 'cas' ? 'transact' : verb === 'read' ? 'read' : 'write',
        site: 's',
        key,
        value: verb === 'del' ? undefined : named(second ?? first),
        invokedAt: Number(start),
        outcome,
      }
      if (verb === 'cas') operation.before = named(first)
      if (end !== '') operation.completedAt = Number.parseFloat(end)
      return operation
    })
}

function named(value: string): string | undefined {
  return value === '-' ? undefined : value
}

const right: Record<string, string> = {
  'what was put is read': 'put a x 1-2\n read a x 3-4\n read a x 5-6',
  'a key is absent at first': 'read a - 1-2\n put a x 3-4\n read a x 5-6',
  'a delete takes it away': 'put a x 1-2\n del a 3-4\n read a - 5-6\n put a y 7-8\n read a y 9-10',
  'a read that overlaps the write sees either': 'put a x 1-2\n put a y 3-9\n read a x 4-5\n read a y 6-7',
  'two writes at one time come in either order':
    'put a x 1-5\n put a y 1-5\n read a x 6-7\n put b x 1-5\n put b y 1-5\n read b y 6-7',
  'an unknown write that is never seen': 'put a x 1-2\n put a y 3-\n read a x 9-10\n read a x 90-91',
  'an unknown write that takes effect long after':
    'put a x 1-2\n put a y 3-\n read a x 9-10\n read a y 90-91',
  'an unknown delete, seen once and then written over':
    'put a x 1-2\n del a 3-\n read a x 9-10\n read a - 20-21\n put a z 30-31\n read a z 40-41',
  'two unknown deletes, seen one after the other':
    'put a x 1-2\n del a 3-\n del a 3-\n read a - 9-10\n put a y 11-12\n read a y 13-14\n read a - 20-21',
  'a failed write that nobody sees': 'put a x 1-2\n put a y 3-4!\n read a x 5-6',
  'a chain of transactions': 'cas a ->x 1-2\n cas a x>y 3-4\n cas a y>z 5-6\n read a z 7-8',
  'an unknown transaction in a chain': 'put a x 1-2\n cas a x>y 3-\n cas a y>z 20-21\n read a z 30-31',
  'transactions at one time find an order': 'put a x 0-1\n cas a y>z 2-9\n cas a x>y 2-9\n read a z 10-11',
  'calls that touch at one instant are not ordered': 'put a x 1-2\n put a y 2-3\n read a x 4-5',
  'keys have orders of their own':
    'put a x 1-9\n put b x 1-9\n read a - 2-3\n read b x 2-3\n read a x 4-5\n read b x 4-5',
}

const wrong: Record<string, string> = {
  'a stale read': 'put a x 1-2\n put a y 3-4\n read a x 5-6',
  'a lost write': 'put a x 1-2\n read a - 3-4',
  'a write that is lost later': 'put a x 1-2\n put a y 3-4\n read a y 5-6\n read a x 7-8',
  'a read of a failed write': 'put a x 1-2\n put a y 3-4!\n read a y 5-6',
  'a read of what nobody wrote': 'put a x 1-2\n read a q 3-4',
  'a read of the future': 'read a x 1-2\n put a x 3-4',
  'reads that go back while a write is under way': 'put a x 1-2\n put a y 3-20\n read a y 4-5\n read a x 6-7',
  'writes seen in the wrong order': 'put a x 1-2\n put a y 3-4\n read a y 5-6\n read a x 5-6\n read a y 7-8',
  'two readers who disagree about the order':
    'put a x 1-9\n put a y 1-9\n read a x 10-11\n read a y 12-13\n read a x 14-15',
  'a write that reappears after a delete': 'put a x 1-2\n del a 3-4\n read a - 5-6\n read a x 7-8',
  'an unknown write that reappears': 'put a x 1-\n read a x 3-4\n put a y 5-6\n read a y 7-8\n read a x 9-10',
  'one unknown delete, seen twice':
    'put a x 1-2\n del a 3-\n read a - 9-10\n put a y 11-12\n read a y 13-14\n read a - 20-21',
  'a delete that was ineffective': 'put a x 1-2\n del a 3-4\n read a x 5-6',
  'two transactions that both found the same': 'put a x 1-2\n cas a x>y 3-9\n cas a x>z 3-9',
  'a transaction that found what had been written over': 'put a x 1-2\n put a y 3-4\n cas a x>z 5-6',
  'an unknown transaction whose effect shows without its cause':
    'put a x 1-2\n put a y 3-4\n cas a x>z 5-\n read a z 20-21',
  'a read that failed to see an acknowledged write of an unknown value':
    'put a x 1-\n put a y 1-2\n read a x 3-4\n read a y 5-6\n read a x 7-8',
  'one wrong key among right ones': 'put a x 1-2\n put b x 1-2\n read a x 3-4\n read b - 3-4',
}

describe('linearisability of registers', () => {
  for (const [name, text] of Object.entries(right)) {
    test(`accepts: ${name}`, () => {
      assert.equal(findRegisterFault(historyOf(text)), undefined)
    })
  }

  for (const [name, text] of Object.entries(wrong)) {
    test(`refuses: ${name}`, () => {
      const fault = findRegisterFault(historyOf(text))
      assert.notEqual(fault, undefined)
      assert.ok((fault?.operations.length ?? 0) > 0, 'the fault names the calls')
    })
  }

  test('the histories above are judged by trying all orders in the same way', () => {
    for (const text of Object.values(right)) assert.equal(isLinearisable(historyOf(text)), true, text)
    for (const text of Object.values(wrong)) assert.equal(isLinearisable(historyOf(text)), false, text)
  })

  test('a stale read is left to the judge of prefixes', () => {
    const history = historyOf('put a x 1-2\n put a y 3-4\n read a x 5-6')
    const [put, second, read] = history as [Operation, Operation, Operation]
    assert.equal(findRegisterFault([put, second, { ...read, stale: true }]), undefined)
  })

  test('keys can begin with a value', () => {
    const history = historyOf('read a x 1-2\n put a y 3-4\n read a y 5-6')
    assert.equal(findRegisterFault(history, new Map([['a', 'x']])), undefined)
    assert.notEqual(findRegisterFault(history), undefined)
  })

  test('small random histories are judged as trying all orders does', () => {
    const call = fc.record({
      kind: fc.constantFrom('put', 'del', 'read', 'cas'),
      value: fc.integer({ min: 0, max: 3 }),
      start: fc.integer({ min: 0, max: 9 }),
      length: fc.integer({ min: 0, max: 6 }),
      outcome: fc.constantFrom('ok', 'ok', 'ok', 'unknown', 'failed'),
    })
    let refused = 0
    let accepted = 0
    const property = fc.property(fc.array(call, { minLength: 1, maxLength: 6 }), (calls) => {
      const values = ['-', '-', '-', '-']
      calls.forEach((each, i) => {
        if (each.kind === 'put' || each.kind === 'cas') values[i % 4] = `v${i}`
      })
      const lines = calls.map((each, i) => {
        const seen = values[each.value] as string
        const end = each.outcome === 'unknown' ? '' : each.start + each.length
        const when = `${each.start}-${end}${each.outcome === 'failed' ? '!' : ''}`
        if (each.kind === 'put') return `put a v${i} ${when}`
        if (each.kind === 'del') return `del a - ${when}`
        return each.kind === 'read' ? `read a ${seen} ${when}` : `cas a ${seen}>v${i} ${when}`
      })
      const history = historyOf(lines.join('\n'))
      const expected = isLinearisable(history)
      if (expected) accepted++
      else refused++
      assert.equal(findRegisterFault(history) === undefined, expected, lines.join('\n'))
    })
    fc.assert(property, { numRuns: 4000, seed: 7 })
    assert.ok(refused > 500 && accepted > 500, `${refused} refused, ${accepted} accepted`)
  })

  test('histories of a true register are accepted, however many calls overlap and are lost', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const history = registerHistory({ seed, calls: 1500, clients: 8, keys: 6 })
      assert.equal(findRegisterFault(history), undefined, `seed ${seed}`)
    }
  })

  test('of a true history, one answer changed to an older value is refused', () => {
    let refused = 0
    for (let seed = 1; seed <= 60; seed++) {
      const history = registerHistory({ seed, calls: 400, clients: 5, keys: 3 })
      const prng = new Prng(seed)
      const stale = staleAnswer(history, prng)
      if (stale === undefined) continue
      refused++
      assert.notEqual(findRegisterFault(stale), undefined, `seed ${seed}`)
    }
    assert.ok(refused > 50, `${refused} histories could be changed`)
  })
})

/** The oracle: tries every order of every choice of what may have happened. For a handful of calls only. */
function isLinearisable(history: readonly Operation[]): boolean {
  const keys = new Set(history.map((call) => call.key))
  return [...keys].every((key) => {
    const calls = history.filter((call) => call.key === key && call.outcome !== 'failed')
    return canGoOn(calls, undefined)
  })
}

function canGoOn(left: readonly Operation[], state: string | undefined): boolean {
  if (left.every((call) => call.outcome === 'unknown')) return true
  return left.some((call) => {
    const isFirst = left.every(
      (other) => !(other.outcome === 'ok' && (other.completedAt ?? 0) < call.invokedAt),
    )
    if (!isFirst) return false
    const others = left.filter((other) => other !== call)
    if (call.kind === 'read')
      return (call.outcome === 'unknown' || call.value === state) && canGoOn(others, state)
    if (call.kind === 'transact' && call.before !== state) return false
    return canGoOn(others, call.value)
  })
}

/** Calls of several clients on registers that take each at one moment between its start and its end, or never. */
function registerHistory(options: {
  seed: number
  calls: number
  clients: number
  keys: number
}): Operation[] {
  const prng = new Prng(options.seed)
  const plans: { operation: Operation; happensAt: number | undefined }[] = []
  const freeAt = new Array<number>(options.clients).fill(0)
  for (let id = 1; id <= options.calls; id++) {
    const client = prng.below(options.clients)
    const invokedAt = (freeAt[client] as number) + prng.below(6)
    const length = prng.below(20)
    const kind = prng.pick(['write', 'write', 'read', 'read', 'transact'] as const)
    const fate = prng.fraction()
    const outcome = fate < 0.85 ? 'ok' : fate < 0.95 ? 'unknown' : 'failed'
    const isDelete = kind === 'write' && prng.chance(0.2)
    const operation: Operation = {
      id,
      client,
      kind,
      site: 's',
      key: `k${prng.below(options.keys)}`,
      value: isDelete ? undefined : `v${id}`,
      invokedAt,
      outcome,
    }
    freeAt[client] = invokedAt + length + 1
    if (outcome !== 'unknown') operation.completedAt = invokedAt + length
    const late = outcome === 'unknown' ? prng.below(200) : 0
    const happens = outcome === 'ok' || (outcome === 'unknown' && prng.chance(0.6))
    plans.push({ operation, happensAt: happens ? invokedAt + prng.fraction() * length + late : undefined })
  }
  const state = new Map<string, string | undefined>()
  const happening = plans.filter((plan) => plan.happensAt !== undefined)
  happening.sort((a, b) => (a.happensAt as number) - (b.happensAt as number))
  for (const { operation } of happening) {
    if (operation.kind === 'read') operation.value = state.get(operation.key)
    else {
      if (operation.kind === 'transact') operation.before = state.get(operation.key)
      state.set(operation.key, operation.value)
    }
  }
  return plans.map((plan) => plan.operation)
}

/** One read answers with a value that had been overwritten, for certain, before it began. */
function staleAnswer(history: readonly Operation[], prng: Prng): Operation[] | undefined {
  const isKnownWrite = (call: Operation): boolean => call.kind !== 'read' && call.outcome === 'ok'
  const reads = history.filter((call) => call.kind === 'read' && call.outcome === 'ok')
  for (let tries = 0; tries < 200; tries++) {
    const read = prng.pick(reads)
    const before = history.filter(
      (call) => call.key === read.key && isKnownWrite(call) && (call.completedAt as number) < read.invokedAt,
    )
    const old = before.find(
      (call) =>
        call.value !== undefined && before.some((later) => later.invokedAt > (call.completedAt as number)),
    )
    if (old === undefined) continue
    return history.map((call) => (call === read ? { ...read, value: old.value } : call))
  }
  return undefined
}

describe('transactions in the order of their LSNs', () => {
  let nextId = 0
  const tx = (
    span: [from: number, to?: number],
    parts: Partial<Pick<LoggedTransaction, 'lsn' | 'outcome' | 'prefixOf'>> & {
      reads?: Record<string, string | undefined>
      writes?: Record<string, string | undefined>
    },
  ): LoggedTransaction => {
    const [invokedAt, completedAt] = span
    const { reads = {}, writes = {}, ...rest } = parts
    nextId++
    return {
      id: nextId,
      invokedAt,
      ...(completedAt === undefined ? { outcome: 'unknown' } : { completedAt, outcome: 'ok' }),
      ...rest,
      reads: Object.entries(reads),
      writes: Object.entries(writes),
    }
  }

  const fitting: Record<string, () => LoggedTransaction[]> = {
    'a transfer between two keys': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1', b: '2' } }),
      tx([3, 4], { lsn: 2, reads: { a: '1', b: '2' }, writes: { a: '3' } }),
      tx([5, 6], { lsn: 2, reads: { a: '3', b: '2' } }),
    ],
    'overlapping writers in either order': () => [
      tx([1, 9], { lsn: 2, writes: { a: '1' } }),
      tx([1, 9], { lsn: 1, writes: { a: '2' } }),
      tx([10, 11], { lsn: 2, reads: { a: '1' } }),
    ],
    'an unknown transaction that a reader has seen': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3], { writes: { a: '2', b: '3' } }),
      tx([9, 10], { lsn: 3, reads: { a: '2', b: '3' }, writes: { c: '1' } }),
    ],
    'an unknown delete that a reader has seen': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3], { writes: { a: undefined } }),
      tx([9, 10], { lsn: 3, reads: { a: undefined }, writes: { c: '1' } }),
    ],
    'prefixes that grow, and differ between two sites': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3, 4], { lsn: 2, writes: { b: '1' } }),
      tx([5, 6], { prefixOf: 'x', reads: { a: '1', b: '1' } }),
      tx([5, 6], { prefixOf: 'y', reads: { a: undefined } }),
      tx([7, 8], { prefixOf: 'y', reads: { a: '1', b: undefined } }),
      tx([7, 8], { prefixOf: 'x', reads: { b: '1' } }),
    ],
    'a prefix in which a key is gone for the second time': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3, 4], { lsn: 2, writes: { a: undefined } }),
      tx([5, 6], { lsn: 3, writes: { b: '1' } }),
      tx([7, 8], { prefixOf: 'x', reads: { b: '1' } }),
      tx([9, 10], { prefixOf: 'x', reads: { a: undefined } }),
    ],
  }

  const impossible: Record<string, () => LoggedTransaction[]> = {
    'two commits with one LSN': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3, 4], { lsn: 1, writes: { a: '2' } }),
    ],
    'a later commit with a lower LSN': () => [
      tx([1, 2], { lsn: 2, writes: { a: '1' } }),
      tx([3, 4], { lsn: 1, writes: { b: '2' } }),
    ],
    'a stale transaction that wrote nothing': () => [
      tx([1, 2], { lsn: 5, writes: { a: '1' } }),
      tx([3, 4], { lsn: 4, reads: { a: undefined } }),
    ],
    'half of another transaction': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1', b: '1' } }),
      tx([3, 4], { lsn: 2, writes: { a: '2', b: '2' } }),
      tx([5, 6], { lsn: 3, reads: { a: '2', b: '1' }, writes: { c: '1' } }),
    ],
    'a write skew: both found what the other was to change': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1', b: '1' } }),
      tx([3, 9], { lsn: 2, reads: { a: '1', b: '1' }, writes: { a: '2' } }),
      tx([3, 9], { lsn: 3, reads: { a: '1', b: '1' }, writes: { b: '2' } }),
    ],
    'a failed transaction that was read': () => [
      tx([1, 2], { outcome: 'failed', writes: { a: '1' } }),
      tx([3, 4], { lsn: 1, reads: { a: '1' }, writes: { b: '1' } }),
    ],
    'half of an unknown transaction': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1', b: '1' } }),
      tx([3], { writes: { a: '2', b: '2' } }),
      tx([5, 6], { lsn: 3, reads: { a: '2' }, writes: { c: '1' } }),
      tx([7, 8], { lsn: 4, reads: { b: '1' }, writes: { d: '1' } }),
    ],
    'an unknown transaction that was seen and then was not': () => [
      tx([3], { writes: { a: '2', b: '2' } }),
      tx([5, 6], { lsn: 3, reads: { a: '2' }, writes: { c: '1' } }),
      tx([7, 8], { lsn: 4, reads: { a: undefined }, writes: { d: '1' } }),
    ],
    'a prefix that goes back': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3, 4], { lsn: 2, writes: { b: '1' } }),
      tx([5, 6], { prefixOf: 'x', reads: { b: '1' } }),
      tx([7, 8], { prefixOf: 'x', reads: { a: undefined } }),
    ],
    'a prefix with a hole': () => [
      tx([1, 2], { lsn: 1, writes: { a: '1' } }),
      tx([3, 4], { lsn: 2, writes: { b: '1' } }),
      tx([5, 6], { prefixOf: 'x', reads: { a: undefined, b: '1' } }),
    ],
    'a prefix that shows the future': () => [
      tx([1, 2], { prefixOf: 'x', reads: { a: '1' } }),
      tx([3, 4], { lsn: 1, writes: { a: '1' } }),
    ],
    'a prefix that shows what failed': () => [
      tx([1, 2], { outcome: 'failed', writes: { a: '1' } }),
      tx([3, 4], { prefixOf: 'x', reads: { a: '1' } }),
    ],
  }

  for (const [name, make] of Object.entries(fitting)) {
    test(`accepts: ${name}`, () => assert.equal(findOrderFault(make()), undefined))
  }

  for (const [name, make] of Object.entries(impossible)) {
    test(`refuses: ${name}`, () => {
      const fault = findOrderFault(make())
      assert.notEqual(fault, undefined)
      assert.ok((fault?.transactions.length ?? 0) > 0, 'the fault names the transactions')
    })
  }

  test('histories of a true log are accepted, and refused once an answer is taken from another state', () => {
    let refused = 0
    for (let seed = 1; seed <= 40; seed++) {
      const { history, changed } = logHistory(seed)
      assert.equal(findOrderFault(history), undefined, `seed ${seed}`)
      if (changed === undefined) continue
      refused++
      assert.notEqual(findOrderFault(changed), undefined, `seed ${seed}, changed`)
    }
    assert.ok(refused > 30, `${refused} histories could be changed`)
  })
})

/** Transactions over several keys on a true log, read also by sites that lag; and the same with one wrong answer. */
function logHistory(seed: number): {
  history: LoggedTransaction[]
  changed: LoggedTransaction[] | undefined
} {
  const prng = new Prng(seed)
  const keys = ['a', 'b', 'c', 'd']
  const states: Map<string, string>[] = [new Map()]
  const shownTo = new Map<string, number>()
  const history: LoggedTransaction[] = []
  let now = 0
  for (let id = 1; id <= 600; id++) {
    now += prng.below(3)
    const readKeys = keys.filter(() => prng.chance(0.5))
    const latest = states.length - 1
    const begin = { id, invokedAt: now, completedAt: now + prng.below(2) }
    if (prng.chance(0.4)) {
      const prefixOf = prng.pick(['x', 'y', 'z'])
      const lsn = prng.between(shownTo.get(prefixOf) ?? 0, latest)
      shownTo.set(prefixOf, lsn)
      const state = states[lsn] as Map<string, string>
      history.push({
        ...begin,
        outcome: 'ok',
        prefixOf,
        reads: readKeys.map((key) => [key, state.get(key)]),
        writes: [],
      })
    } else {
      const state = states[latest] as Map<string, string>
      const writes = keys
        .filter(() => prng.chance(0.5))
        .map((key) => [key, prng.chance(0.2) ? undefined : `v${id}`] as const)
      const reads = readKeys.map((key) => [key, state.get(key)] as const)
      const isKnown = prng.chance(0.9)
      const next = new Map(state)
      for (const [key, value] of writes) {
        if (value === undefined) next.delete(key)
        else next.set(key, value)
      }
      if (writes.length > 0) states.push(next)
      if (isKnown) history.push({ ...begin, outcome: 'ok', lsn: states.length - 1, reads, writes })
      else history.push({ id, invokedAt: now, outcome: 'unknown', reads, writes })
    }
    now = Math.max(now, begin.completedAt) + 1
  }
  return { history, changed: withWrongAnswer(history, prng) }
}

function withWrongAnswer(history: readonly LoggedTransaction[], prng: Prng): LoggedTransaction[] | undefined {
  for (let tries = 0; tries < 200; tries++) {
    const at = prng.below(history.length)
    const reader = history[at] as LoggedTransaction
    if (reader.lsn === undefined || reader.writes.length === 0) continue
    const found = reader.reads.findIndex(([, value]) => value !== undefined)
    if (found < 0) continue
    const [key, value] = reader.reads[found] as readonly [string, string]
    const older = history.slice(0, at).findLast((each) => {
      return (
        each.outcome === 'ok' && each.writes.some(([k, v]) => k === key && v !== undefined && v !== value)
      )
    })
    const wrongValue = older?.writes.find(([k]) => k === key)?.[1]
    const truth = history.find((each) => each.writes.some(([k, v]) => k === key && v === value))
    if (wrongValue === undefined || truth?.outcome !== 'ok') continue
    const reads = reader.reads.map((each, i) => (i === found ? ([key, wrongValue] as const) : each))
    return history.map((each) => (each === reader ? { ...reader, reads } : each))
  }
  return undefined
}
