// Whole lives of a log on a disk that loses, tears and refuses: after every crash it opens, it holds a beginning
// of what was appended, and nothing that was called durable is missing. A failure names its seed; the same seed
// gives the same life.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { RecordPlace } from '../../src/base/batch.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import { FaultyMemoryFiles } from '../../src/env/memory/faulty-memory-files.ts'
import { Log } from '../../src/log/log.ts'
import { placeAt, placeBeforeAll, readU32, recordField } from '../../src/log/record-format.ts'
import { databaseId, lsn, ManualTimers, Writer } from '../support/log-fixture.ts'

const lives = Number(process.env.LOG_CRASH_LIVES ?? (process.env.COTERIE_TEST_ALL === '1' ? 1_500 : 75))
const firstSeed = Number(process.env.LOG_CRASH_SEED ?? 1)

class Life {
  readonly prng: Prng
  timers = new ManualTimers()
  files: FaultyMemoryFiles
  /** The place of every record that was appended, by LSN. */
  places: RecordPlace[] = [placeBeforeAll]
  /** Called durable, and not truncated since. */
  ackedLsn = 0
  firstLsn = 1
  crashes = 0

  constructor(seed: number) {
    this.prng = new Prng(seed)
    this.files = new FaultyMemoryFiles({ timers: this.timers, prng: this.prng.fork() })
  }

  async open(): Promise<Log> {
    this.timers = new ManualTimers()
    const { timers, prng } = this
    const { log } = await Log.open({
      host: { files: this.files, timers, clock: { now: () => 0, wall: () => 1_700_000_000_000 } },
      folder: '/data/log',
      databaseId,
      segmentBytes: prng.pick([8192, 16_384, 65_536]),
      tailBytes: prng.pick([0, 1 << 20]),
      durableAtLeast: lsn(this.ackedLsn),
    })
    assert.ok(log.lastLsn >= this.ackedLsn, 'nothing durable is lost')
    assert.ok(log.lastLsn < this.places.length, 'nothing comes from nowhere')
    assert.deepEqual(log.last, this.places[log.lastLsn])
    assert.ok(log.firstLsn <= this.firstLsn || log.firstLsn <= log.lastLsn + 1)
    assert.equal((await log.verify()).records, log.lastLsn - log.firstLsn + 1)
    this.places.length = log.lastLsn + 1
    this.ackedLsn = log.lastLsn
    log.onDurable = (durableLsn) => {
      assert.ok(durableLsn > this.ackedLsn)
      this.ackedLsn = durableLsn
    }
    return log
  }

  append(log: Log, writer: Writer): void {
    const { prng } = this
    const size = prng.pick([0, 5, 100, 600, 3000, 9000])
    const batch = prng.chance(0.15)
      ? writer.reign(`s${prng.below(9)}`)
      : writer.commits(prng.between(1, 5), size)
    log.append(batch)
    for (let at = 0; at < batch.bytes.length; at += readU32(batch.bytes, at + recordField.length)) {
      this.places.push(placeAt(batch.bytes, at))
    }
  }

  /** One thing that an owner, an operator or a disk may do. */
  async act(log: Log, writer: { now: Writer }): Promise<void> {
    const { prng } = this
    const what = prng.below(20)
    if (what < 9) this.append(log, writer.now)
    else if (what < 12) await this.settle(log)
    else if (what < 14) await this.ticks(prng.below(6))
    else if (what === 14) this.timers.fire(50)
    else if (what === 15) await log.trimBefore(lsn(prng.between(0, log.lastLsn)))
    else if (what === 16) await this.truncate(log, writer)
    else if (what === 17) this.files.full = prng.chance(0.5)
    else if (what === 18 && prng.chance(0.3)) this.files.failSync({ nth: prng.between(1, 3) })
    else if (what === 19 && prng.chance(0.3)) this.files.failWrite({ nth: prng.between(1, 3) })
  }

  async truncate(log: Log, writer: { now: Writer }): Promise<void> {
    await this.settle(log)
    const last = this.prng.between(log.firstLsn - 1, log.lastLsn)
    // From here on any end between the two is right.
    this.ackedLsn = last
    await log.truncateAfter(lsn(last))
    this.places.length = last + 1
    writer.now = new Writer(log.last)
  }

  /** Waits until nothing is pending; the disk has space again by then. */
  async settle(log: Log): Promise<void> {
    this.files.full = false
    const { timers } = this
    let isPending = true
    const durable = log.whenDurable(log.lastLsn).finally(() => {
      isPending = false
    })
    // It may be rejected while the loop below still looks elsewhere.
    durable.catch(() => {})
    while (isPending) {
      timers.fire(500)
      await this.ticks(1)
    }
    await durable
  }

  async ticks(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise<void>((resolve) => this.timers.soon(resolve))
  }

  /** The log object goes on, as a process may for a moment, but nothing that it does counts any more. */
  crash(log: Log): void {
    log.onDurable = () => {}
    this.files.full = false
    this.files = this.prng.chance(0.3) ? this.files.kill() : this.files.crash()
    this.crashes++
  }
}

/** What a disk that fails may make of a call; anything else is a defect. */
function expectFailure(error: unknown): void {
  const expected = ['LOG_POISONED', 'DISK_FULL', 'IO_ERROR'] as const
  assert.ok(
    expected.some((code) => isCoterieError(error, code)),
    String((error as Error).stack),
  )
}

async function live(seed: number): Promise<void> {
  const life = new Life(seed)
  for (let round = 0; round < 8; round++) {
    const log = await life.open()
    const writer = { now: new Writer(log.last) }
    const underWay: Promise<unknown>[] = []
    try {
      for (let i = life.prng.below(25); i > 0; i--) {
        const action = life.act(log, writer)
        // The last thing of a round is not waited for: the crash comes in the middle of it.
        if (i === 1) underWay.push(action.catch(expectFailure))
        else await action
      }
      await life.ticks(life.prng.below(4))
    } catch (error) {
      const expected = ['LOG_POISONED', 'DISK_FULL', 'IO_ERROR'] as const
      assert.ok(
        expected.some((code) => isCoterieError(error, code)),
        String((error as Error).stack),
      )
    }
    life.crash(log)
    if (life.prng.chance(0.2)) {
      // A crash in the middle of recovery.
      const opening = life.open().catch(expectFailure)
      await life.ticks(life.prng.below(8))
      life.files = life.files.crash()
      await opening
    }
    await Promise.all(underWay)
  }
}

it(`survives every crash of ${lives} lives`, async () => {
  for (let seed = firstSeed; seed < firstSeed + lives; seed++) {
    await live(seed).catch((error: unknown) => {
      throw new Error(`LOG_CRASH_SEED=${seed} LOG_CRASH_LIVES=1: ${(error as Error).message}`, {
        cause: error,
      })
    })
  }
})
