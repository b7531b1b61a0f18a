// Transactions: sync ones are serialisable because nothing can come between; async ones because what came between is
// found out. The last test draws whole workloads and holds them against the serial order of their LSNs.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Database, Transaction } from '../../src/index.ts'
import { collect, failsWith, kinds, openMemory, watched } from '../support/sites.ts'

/** Lets everything that is due run, several turns of the event loop long. */
async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** A promise to hold a transaction at a place, and how to let it go on. */
function pausePoint(): {
  readonly reached: Promise<void>
  readonly pause: () => Promise<void>
  goOn: () => void
} {
  let reach: () => void = () => {}
  let goOn: () => void = () => {}
  const reached = new Promise<void>((resolve) => {
    reach = resolve
  })
  const released = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const pause = (): Promise<void> => {
    reach()
    return released
  }
  return { reached, pause, goOn: () => goOn() }
}

for (const { kind, openOne } of kinds) {
  test(`[D4a] ${kind}: a synchronous transaction reads its own writes and commits them as one`, async (t) => {
    const db = await openOne(t)
    await db.put('a', '1')
    const before = db.status().lastLsn
    const done = await db.transact((tx) => {
      assert.equal(tx.get('a'), '1')
      tx.put('a', '2')
      tx.put('b', '3')
      tx.store('other').put('a', 'x')
      assert.equal(tx.get('a'), '2')
      tx.del('b')
      assert.equal(tx.has('b'), false)
      assert.deepEqual(tx.getMany(['a', 'b', 'c']), ['2', undefined, undefined])
      return 'the result'
    })
    assert.equal(done.result, 'the result')
    assert.equal(done.lsn, before + 1)
    assert.equal(done.acks, 1)
    assert.deepEqual(await db.entries().all(), [['a', '2']])
    assert.equal(await db.store('other').get('a'), 'x')
  })

  test(`[D4a] ${kind}: synchronous increments from everywhere at once are all counted`, async (t) => {
    const db = await openOne<string, number>(t, { valueEncoding: 'json' })
    const increment = (tx: Transaction<string, number>): void => tx.put('n', (tx.get('n') ?? 0) + 1)
    const workers = Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 10; i++) await db.transact(increment)
    })
    await Promise.all(workers)
    assert.equal(await db.get('n'), 200)
  })

  test(`[D4a] ${kind}: asynchronous increments from everywhere at once are all counted, by being run again`, async (t) => {
    const db = await openOne<string, number>(t, { valueEncoding: 'json', maxAttempts: 1000 })
    let runs = 0
    const increment = async (tx: Transaction<string, number>): Promise<void> => {
      runs++
      const n = tx.get('n') ?? 0
      await turns(1)
      tx.put('n', n + 1)
    }
    await Promise.all(Array.from({ length: 12 }, () => db.transact(increment)))
    assert.equal(await db.get('n'), 12)
    assert.ok(runs > 12, 'some lost and were run again')
  })

  test(`[D4a] ${kind}: a function that throws or rejects has written nothing, and its error is passed on`, async (t) => {
    const db = await openOne(t)
    await db.put('a', '1')
    const { lastLsn } = db.status()
    const mine = new Error('mine')
    const sync = db.transact((tx) => {
      tx.put('a', '2')
      throw mine
    })
    await assert.rejects(sync, (error) => error === mine)
    const later = db.transact(async (tx) => {
      tx.put('a', '3')
      await turns()
      throw mine
    })
    await assert.rejects(later, (error) => error === mine)
    await failsWith(
      'KEY_INVALID',
      db.transact((tx) => {
        tx.put('b', '1')
        tx.put('', '2')
      }),
    )
    assert.equal(db.status().lastLsn, lastLsn)
    assert.deepEqual(await db.entries().all(), [['a', '1']])
  })

  test(`[D4a] ${kind}: an async transaction reads the state of its begin, ranges included`, async (t) => {
    const db = await openOne(t)
    await db.batch(['a', 'b', 'c'].map((key) => ({ type: 'put', key, value: 'old' })))
    const seen = await db.transact(async (tx) => {
      const range = tx.entries()
      const [first] = [await range.next()]
      await db.put('z', 'after the range')
      return { first: first.value, rest: await range.all() }
    })
    assert.deepEqual(seen.result.first, ['a', 'old'])
    assert.deepEqual(seen.result.rest, [
      ['b', 'old'],
      ['c', 'old'],
    ])
  })

  test(`[D4a] ${kind}: own writes stand in ranges, in both directions and within the limit`, async (t) => {
    const db = await openOne(t)
    await db.batch(['b', 'd', 'f', 'h'].map((key) => ({ type: 'put', key, value: 'stored' })))
    await db.transact(async (tx) => {
      tx.put('a', 'own')
      tx.put('d', 'own')
      tx.put('e', 'own')
      tx.put('i', 'own')
      tx.del('f')
      tx.del('nothing')
      const keys = async (range: Parameters<typeof tx.keys>[0]): Promise<string> =>
        (await tx.keys(range).all()).join('')
      assert.equal(await keys({}), 'abdehi')
      assert.equal(await keys({ reverse: true }), 'ihedba')
      assert.equal(await keys({ limit: 3 }), 'abd')
      assert.equal(await keys({ limit: 3, reverse: true }), 'ihe')
      assert.equal(await keys({ gt: 'a', lt: 'i' }), 'bdeh')
      assert.equal(await keys({ gte: 'd', lte: 'e', reverse: true }), 'ed')
      assert.deepEqual(await tx.entries({ gte: 'd', limit: 2 }).all(), [
        ['d', 'own'],
        ['e', 'own'],
      ])
      assert.equal(await tx.clear({ gte: 'e' }), 3)
      assert.equal(await keys({}), 'abd')
    })
    assert.equal((await db.keys().all()).join(''), 'abd')
  })

  test(`[D4a] ${kind}: a phantom in a range that was read ends the attempt`, async (t) => {
    const db = await openOne(t)
    await db.batch(['room:1', 'room:3'].map((key) => ({ type: 'put', key, value: 'taken' })))
    const at = pausePoint()
    let runs = 0
    const booking = db.transact(async (tx) => {
      runs++
      const taken = await tx.keys({ gte: 'room:', lt: 'room;' }).all()
      if (runs === 1) await at.pause()
      tx.put('count', String(taken.length))
    })
    await at.reached
    await db.put('room:2', 'taken')
    at.goOn()
    await booking
    assert.equal(runs, 2)
    assert.equal(await db.get('count'), '3')
  })

  test(`[D4a] ${kind}: writes beside what was read do not disturb`, async (t) => {
    const db = await openOne(t)
    const at = pausePoint()
    let runs = 0
    const quiet = db.transact(async (tx) => {
      runs++
      assert.equal(tx.get('mine'), undefined)
      await tx.keys({ gte: 'm', lt: 'n' }).all()
      await at.pause()
      tx.put('mine', 'done')
    })
    await at.reached
    await db.batch([
      { type: 'put', key: 'l', value: 'x' },
      { type: 'put', key: 'n', value: 'x' },
      { type: 'put', key: 'mine', value: 'x', store: 'other' },
    ])
    at.goOn()
    await quiet
    assert.equal(runs, 1)
  })
}

test('[D4a] write skew is refused: two that read what the other writes cannot both commit unseen', async (t) => {
  const db = await openMemory<string, boolean>(t, { valueEncoding: 'json' })
  await db.batch([
    { type: 'put', key: 'alice', value: true },
    { type: 'put', key: 'bob', value: true },
  ])
  // Each goes off duty if another is on duty: serially one of them must stay.
  const leave = (who: string): Promise<unknown> =>
    db.transact(async (tx) => {
      const onDuty = ['alice', 'bob'].filter((name) => tx.get(name) === true)
      await turns()
      if (onDuty.length > 1) tx.put(who, false)
    })
  await Promise.all([leave('alice'), leave('bob')])
  const left = await db.getMany(['alice', 'bob'])
  assert.equal(left.filter(Boolean).length, 1)
})

test('[D4a] who is overtaken too often gets CONFLICT, and has written nothing', async (t) => {
  const db = await openMemory(t)
  let runs = 0
  const unlucky = db.transact(
    async (tx) => {
      runs++
      tx.get('hot')
      await db.put('hot', String(runs))
      tx.put('cold', 'never')
    },
    { maxAttempts: 3 },
  )
  const error = await failsWith('CONFLICT', unlucky)
  assert.equal(error.retryable, true)
  assert.equal(runs, 3)
  assert.equal(await db.get('cold'), undefined)
})

test('a beaten attempt is run again even if its function catches what the read threw', async (t) => {
  const db = await openMemory(t)
  let runs = 0
  const { result } = await db.transact(async (tx) => {
    runs++
    if (runs === 1) await db.put('a', 'newer')
    try {
      tx.get('a')
    } catch {
      tx.put('wrong', 'x')
    }
    return runs
  })
  assert.equal(result, 2)
  assert.equal(await db.get('wrong'), undefined)
})

test('a transaction that only reads async is never run again for what came after its reads', async (t) => {
  const db = await openMemory(t)
  await db.put('a', '1')
  const { lastLsn } = db.status()
  let runs = 0
  const done = await db.transact(async (tx) => {
    runs++
    const value = tx.get('a')
    await db.put('a', '2')
    return value
  })
  assert.equal(done.result, '1')
  assert.equal(runs, 1)
  assert.equal(done.lsn, lastLsn)
})

test('a transaction cannot be used after its function has returned', async (t) => {
  const db = await openMemory(t)
  let kept: Transaction | undefined
  await db.transact((tx) => {
    kept = tx
    tx.put('a', '1')
  })
  const tx = kept as Transaction
  await failsWith('TRANSACTION_ENDED', () => tx.get('a'))
  await failsWith('TRANSACTION_ENDED', () => tx.put('a', '2'))
  await failsWith('TRANSACTION_ENDED', () => tx.del('a'))
  await failsWith('TRANSACTION_ENDED', () => tx.keys())
  await failsWith('TRANSACTION_ENDED', () => tx.store('x').get('a'))
  let late: Promise<unknown> | undefined
  await db.transact(async (running) => {
    late = turns(10).then(() => running.put('late', 'x'))
  })
  await failsWith('TRANSACTION_ENDED', late as Promise<unknown>)
  assert.equal(await db.get('late'), undefined)
})

test('a synchronous function that writes past its transaction what it depends on is refused', async (t) => {
  const db = await openMemory(t)
  await db.put('a', '1')
  let past: Promise<unknown> | undefined
  const run = db.transact((tx) => {
    const value = tx.get('a')
    past = db.put('a', 'past the transaction')
    tx.put('copy', value ?? '')
  })
  await failsWith('INVALID_STATE', run)
  await past
  assert.equal(await db.get('a'), 'past the transaction')
  assert.equal(await db.get('copy'), undefined)
})

test('a transaction that reads what is not confirmed yet resolves after it', async (t) => {
  const db = await openMemory(t)
  const order: string[] = []
  const put = db.put('a', '1').then(() => order.push('put'))
  const read = db.transact((tx) => tx.get('a')).then(({ result }) => order.push(`read ${result}`))
  await Promise.all([put, read])
  assert.deepEqual(order, ['put', 'read 1'])
})

test('an aborted signal ends the wait of a commit with an unknown outcome; the commit stands', async (t) => {
  const db = await openMemory(t)
  await db.put('first', '1')
  const controller = new AbortController()
  const put = watched(db.put('a', '1', { signal: controller.signal }))
  controller.abort()
  await turns()
  const { error } = put
  assert.equal(error.code, 'OUTCOME_UNKNOWN')
  assert.equal(await db.outcome(String(error.details.token), { timeoutMs: 1000 }), 'applied')
  assert.equal(await db.get('a'), '1')
})

test('a wait for admission that is aborted has written nothing', async (t) => {
  const db = await openMemory(t)
  const signal = AbortSignal.abort(new Error('changed my mind'))
  // The first write of a database waits for its reign to begin.
  await failsWith('ABORTED', db.put('a', '1', { signal }))
  await failsWith(
    'ABORTED',
    db.transact((tx) => tx.put('a', '1'), { signal }),
  )
  assert.deepEqual(await db.keys().all(), [])
})

// ---- workloads against the serial order of their LSNs --------------------------------------------------------------

const keys = ['a', 'b', 'c', 'd'] as const

/** A step of a transaction. Every write depends on what was read before it, so that a wrong read shows. */
type Step =
  | { readonly kind: 'read'; readonly key: string }
  | { readonly kind: 'range'; readonly gte: string; readonly lt: string; readonly reverse: boolean }
  | { readonly kind: 'write'; readonly key: string }
  | { readonly kind: 'del'; readonly key: string }
  | { readonly kind: 'wait'; readonly turns: number }

interface Plan {
  readonly name: string
  readonly async: boolean
  readonly steps: readonly Step[]
}

const key = fc.constantFrom(...keys)
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('read' as const), key }),
  fc.record({
    kind: fc.constant('range' as const),
    gte: key,
    lt: fc.constantFrom('b', 'c', 'd', 'e'),
    reverse: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('write' as const), key }),
  fc.record({ kind: fc.constant('del' as const), key }),
  fc.record({ kind: fc.constant('wait' as const), turns: fc.integer({ min: 0, max: 3 }) }),
)
const plans = fc.array(fc.record({ async: fc.boolean(), steps: fc.array(step, { maxLength: 6 }) }), {
  minLength: 2,
  maxLength: 12,
})

function inOrder(state: ReadonlyMap<string, string>): [string, string][] {
  return [...state].sort(([one], [other]) => (one < other ? -1 : 1))
}

/** What a plan does to a state alone: the model. Its reads, and the state after it. */
function runAlone(plan: Plan, state: Map<string, string>): string[] {
  const reads: string[] = []
  for (const each of plan.steps) {
    if (each.kind === 'read') reads.push(`${each.key}=${state.get(each.key)}`)
    else if (each.kind === 'range' && plan.async) {
      const found = inOrder(state).filter(([name]) => name >= each.gte && name < each.lt)
      reads.push(JSON.stringify(each.reverse ? found.reverse() : found))
    } else if (each.kind === 'write')
      state.set(each.key, `${plan.name}:${reads.length}:${reads.at(-1) ?? ''}`)
    else if (each.kind === 'del') state.delete(each.key)
  }
  return reads
}

async function runIn(db: Database, plan: Plan): Promise<{ lsn: number; reads: string[] }> {
  const write = (tx: Transaction, each: Step, reads: string[]): void => {
    if (each.kind === 'read') reads.push(`${each.key}=${tx.get(each.key)}`)
    else if (each.kind === 'write') tx.put(each.key, `${plan.name}:${reads.length}:${reads.at(-1) ?? ''}`)
    else if (each.kind === 'del') tx.del(each.key)
  }
  const sync = (tx: Transaction): string[] => {
    const reads: string[] = []
    for (const each of plan.steps) write(tx, each, reads)
    return reads
  }
  const slow = async (tx: Transaction): Promise<string[]> => {
    const reads: string[] = []
    for (const each of plan.steps) {
      if (each.kind === 'wait') await turns(each.turns)
      else if (each.kind === 'range') {
        const { gte, lt, reverse } = each
        reads.push(JSON.stringify(await collect(tx.entries({ gte, lt, reverse }))))
      } else write(tx, each, reads)
    }
    return reads
  }
  const { lsn, result } = await db.transact<string[]>(plan.async ? slow : sync, { maxAttempts: 10_000 })
  return { lsn, reads: result }
}

test('[D4a] any mix of concurrent transactions is equivalent to the serial order of their LSNs', async () => {
  const numRuns = process.env.COTERIE_TEST_ALL === undefined ? 150 : 3000
  await fc.assert(
    fc.asyncProperty(plans, async (drawn) => {
      const mix: Plan[] = drawn.map((plan, i) => ({ ...plan, name: `t${i}` }))
      const { open } = await import('../../src/index.ts')
      await using db = await open(':memory:')
      await db.put('b', 'start')
      const ran = await Promise.all(mix.map(async (plan) => ({ plan, ...(await runIn(db, plan)) })))
      // A reader stands right behind the writer whose state it read; two of those do not disturb each other.
      const writes = (plan: Plan): number =>
        plan.steps.some(({ kind }) => kind === 'write' || kind === 'del') ? 0 : 1
      ran.sort((a, b) => a.lsn - b.lsn || writes(a.plan) - writes(b.plan))
      const state = new Map([['b', 'start']])
      for (const { plan, lsn, reads } of ran) {
        assert.deepEqual(reads, runAlone(plan, state), `reads of ${plan.name} at LSN ${lsn}`)
      }
      assert.deepEqual(await db.entries().all(), inOrder(state))
    }),
    { numRuns },
  )
})
