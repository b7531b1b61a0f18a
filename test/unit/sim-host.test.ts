// A simulated process: its own time, its pauses, its end; and a machine's disk under it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf8Encode } from '../../src/base/bytes.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Files } from '../../src/env/host.ts'
import { SimulatedMachine } from '../../src/env/simulated/simulated-machine.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'

function machine(options: { seed?: number; rate?: number } = {}): {
  clock: VirtualClock
  machine: SimulatedMachine
} {
  const clock = new VirtualClock()
  const { seed = 1, rate = 1 } = options
  return { clock, machine: new SimulatedMachine({ clock, prng: new Prng(seed), rate }) }
}

/** Moves time on until the promise has settled. */
async function passing<R>(clock: VirtualClock, promise: Promise<R>): Promise<R> {
  let settled = false
  const end = (): void => {
    settled = true
  }
  promise.then(end, end)
  for (let i = 0; i < 10_000 && !settled; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    clock.runNext()
  }
  assert.ok(settled, 'it came to an end')
  return await promise
}

async function writeFile(files: Files, path: string, content: Uint8Array, sync: boolean): Promise<void> {
  const file = await files.open(path, 'create')
  await new Promise<void>((resolve, reject) =>
    file.write([content], 0, (error) => (error ? reject(error) : resolve())),
  )
  if (sync) {
    await new Promise<void>((resolve, reject) => file.sync((error) => (error ? reject(error) : resolve())))
  }
  await file.close()
}

test('the time of a site runs at its own rate, and its timers by it', () => {
  const { clock, machine: slow } = machine({ rate: 0.9 })
  const host = slow.boot()
  const start = host.clock.now()
  const seen: number[] = []
  host.timers.after(90, () => seen.push(clock.now()))
  clock.advance(99)
  assert.deepEqual(seen, [])
  clock.advance(2)
  assert.deepEqual(seen, [100])
  assert.ok(Math.abs(host.clock.now() - start - 101 * 0.9) < 1e-6)
})

test('the wall clock of a site jumps, and its other clock does not', () => {
  const { machine: site } = machine()
  const host = site.boot()
  const [wall, now] = [host.clock.wall(), host.clock.now()]
  site.shiftWall(-86_400_000)
  assert.equal(host.clock.wall(), wall - 86_400_000)
  assert.equal(host.clock.now(), now)
})

test('a pause holds timers back, and a resume lets them run in their order; cancelled ones do not', () => {
  const { clock, machine: site } = machine()
  const host = site.boot()
  const seen: string[] = []
  host.timers.after(10, () => seen.push(`first@${clock.now()}`))
  host.timers.after(20, () => seen.push('second'))
  const cancelled = host.timers.after(15, () => seen.push('never'))
  clock.advance(5)
  host.pause()
  clock.advance(100)
  assert.equal(seen.length, 0)
  cancelled.cancel()
  host.resume()
  host.timers.soon(() => seen.push('third'))
  clock.advance(0)
  assert.deepEqual(seen, ['first@105', 'second', 'third'])
})

test('nothing of a killed process runs: no timer, no callback of a file, no promise', async () => {
  const { clock, machine: site } = machine()
  const host = site.boot()
  const seen: string[] = []
  host.timers.after(10, () => seen.push('timer'))
  host.timers.soon(() => seen.push('soon'))
  void writeFile(host.files, '/file', utf8Encode('x'), true).then(
    () => seen.push('written'),
    () => seen.push('refused'),
  )
  site.kill()
  const next = site.boot()
  next.timers.after(20, () => seen.push('new'))
  for (let i = 0; i < 20; i++) {
    clock.advance(10)
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.deepEqual(seen, ['new'])
  assert.notEqual(next.processId, host.processId)
})

test('a killed process leaves what it has written; a machine without power only what was synced', async () => {
  const { clock, machine: site } = machine()
  const content = utf8Encode('0123456789')
  const first = site.boot()
  await passing(clock, writeFile(first.files, '/synced', content, true))
  await passing(clock, first.files.syncFolder('/'))
  await passing(clock, writeFile(first.files, '/unsynced', content, false))
  site.kill()
  const second = site.boot()
  assert.deepEqual(await passing(clock, second.files.readAll('/unsynced')), content)
  site.crash('none')
  const third = site.boot()
  assert.deepEqual(await passing(clock, third.files.readAll('/synced')), content)
  assert.equal(await passing(clock, third.files.readAll('/unsynced')), undefined)
})

test('a replace that a crash cuts anywhere leaves the old content or the new', async () => {
  const [old, young] = [utf8Encode('old'.repeat(300)), utf8Encode('new'.repeat(300))]
  const found = new Set<string>()
  for (let seed = 1; seed <= 60; seed++) {
    const { clock, machine: site } = machine({ seed })
    const host = site.boot()
    await passing(clock, host.files.replace('/state', old))
    void host.files.replace('/state', young).catch(() => undefined)
    for (let events = seed % 8; events > 0; events--) {
      await new Promise((resolve) => setImmediate(resolve))
      clock.runNext()
    }
    site.crash()
    const after = await passing(clock, site.boot().files.readAll('/state'))
    const text = Buffer.from(after ?? []).toString()
    assert.ok(text === 'old'.repeat(300) || text === 'new'.repeat(300), `seed ${seed}: ${text.slice(0, 40)}`)
    found.add(text)
  }
  assert.equal(found.size, 2, 'both were seen')
})

test('a slow disk takes its time, a wiped one is empty, sectors can be put back as they were', async () => {
  const { clock, machine: site } = machine()
  const host = site.boot()
  site.speed = { syncMsMin: 100, syncMsMax: 100, writeMsMax: 0, nameMsMax: 0, readMsMax: 0 }
  const begun = clock.now()
  await passing(clock, writeFile(host.files, '/file', utf8Encode('before'), true))
  assert.equal(clock.now() - begun, 100)
  await passing(clock, host.files.syncFolder('/'))
  const stale = site.disk.peek({ path: '/file', at: 0, length: 6 })
  await passing(clock, writeFile(host.files, '/file', utf8Encode('after!'), true))
  site.disk.overwrite({ path: '/file', at: 0, bytes: stale })
  assert.deepEqual(await passing(clock, host.files.readAll('/file')), utf8Encode('before'))
  site.crash()
  assert.deepEqual(await passing(clock, site.boot().files.readAll('/file')), utf8Encode('before'))
  assert.deepEqual(site.disk.paths(), [{ path: '/file', bytes: 6 }])
  site.wipe()
  assert.deepEqual(site.disk.paths(), [])
  assert.equal(await passing(clock, site.boot().files.readAll('/file')), undefined)
})
