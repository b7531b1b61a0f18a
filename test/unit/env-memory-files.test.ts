// Files in memory, without and with faults. The crash tests hold each survivor against the rule: all that was
// synced, and of every later sector one of the versions that it had.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Files, OpenFile } from '../../src/env/host.ts'
import { FaultyMemoryFiles } from '../../src/env/memory/faulty-memory-files.ts'
import { MemoryContent } from '../../src/env/memory/memory-content.ts'
import { MemoryFiles } from '../../src/env/memory/memory-files.ts'
import { memoryHost } from '../../src/env/memory/memory-host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'

const { timers } = nodeHost()

function faulty(seed: number): FaultyMemoryFiles {
  return new FaultyMemoryFiles({ timers, prng: new Prng(seed) })
}

function write(file: OpenFile, bytes: Uint8Array, at: number): Promise<void> {
  return new Promise((resolve, reject) =>
    file.write([bytes], at, (error) => (error ? reject(error) : resolve())),
  )
}

function sync(file: OpenFile): Promise<void> {
  return new Promise((resolve, reject) => file.sync((error) => (error ? reject(error) : resolve())))
}

async function text(files: Files, path: string): Promise<string | undefined> {
  const bytes = await files.readAll(path)
  return bytes === undefined ? undefined : utf8Decode(bytes)
}

test('content agrees with a plain array over random writes, cuts and reads', () => {
  const prng = new Prng(11)
  const content = new MemoryContent()
  const model = new Uint8Array(1_200_000)
  let size = 0
  for (let step = 0; step < 300; step++) {
    const at = prng.pick([prng.below(2000), prng.below(900_000), 262_144 - prng.below(10), size])
    if (prng.chance(0.7)) {
      const bytes = prng.bytes(prng.pick([0, 1, 100, 5000, prng.below(300_000)])).subarray(0, 1_200_000 - at)
      content.write(bytes, at)
      model.set(bytes, at)
      if (bytes.length > 0) size = Math.max(size, at + bytes.length)
    } else {
      content.truncate(at)
      model.fill(0, Math.min(at, size))
      size = at
    }
    assert.equal(content.size, size)
    const into = prng.bytes(prng.below(100_000))
    const from = prng.below(900_000)
    const count = content.read(into, from)
    assert.equal(count, Math.max(0, Math.min(into.length, size - from)))
    assert.equal(Buffer.compare(into.subarray(0, count), model.subarray(from, from + count)), 0)
  }
  assert.equal(Buffer.compare(content.copy().readAll(), model.subarray(0, size)), 0)
})

test('files in memory behave as those on disk: names, modes, replacement, errors', async () => {
  const { files } = memoryHost({ base: nodeHost() })
  await files.makeFolder('/data/log')
  await files.makeFolder('/data/log')
  await files.replace('/data/state', utf8Encode('one'))
  await files.replace('/data/state', utf8Encode('second'))
  assert.deepEqual(await files.list('/data'), ['log', 'state'])
  assert.equal(await text(files, '/data/state'), 'second')
  assert.equal(await files.size('data/./log/../state'), 6)
  const file = await files.open('/data/log/1', 'create')
  await write(file, utf8Encode('abc'), 3)
  await sync(file)
  const into = new Uint8Array(10)
  assert.equal(await file.read(into, 1), 5)
  assert.deepEqual([...into.subarray(0, 5)], [0, 0, 97, 98, 99])
  await file.truncate(4)
  await files.rename('/data/log', '/data/old')
  assert.equal(await files.size('/data/old/1'), 4)
  assert.equal(await files.list('/data/log'), undefined)
  await files.remove('/data/old/1')
  await files.remove('/data/old/1')
  assert.equal(await file.read(into, 0), 4, 'an open file outlives its name')
  await files.removeTree('/data')
  assert.equal(await text(files, '/data/state'), undefined)
  await assert.rejects(files.open('/data/x', 'create'), (error) => isCoterieError(error, 'IO_ERROR'))
  await assert.rejects(files.open('/absent', 'write'), (error) => {
    assert.ok(isCoterieError(error, 'IO_ERROR'))
    assert.deepEqual(error.details, { path: '/absent', syscall: 'open', errno: 'ENOENT' })
    return true
  })
  await file.close()
  await assert.rejects(write(file, utf8Encode('x'), 0), (error) => isCoterieError(error, 'CLOSED'))
  await files.replace('/read-only', utf8Encode('x'))
  const readOnly = await files.open('/read-only', 'read')
  await assert.rejects(write(readOnly, utf8Encode('x'), 0), (error) => isCoterieError(error, 'IO_ERROR'))
  assert.equal(files.join('a', '..', '..', 'b', './c'), '../b/c')
  assert.equal(files.join('/a', '../../b'), '/b')
})

test('a write is readable before it has reported, and reports before a sync that follows it', async () => {
  const files = new MemoryFiles({ timers })
  const file = await files.open('/f', 'create')
  const order: string[] = []
  const done = new Promise<void>((resolve) => {
    file.write([utf8Encode('x')], 0, () => void order.push('written'))
    file.sync(() => {
      order.push('synced')
      resolve()
    })
  })
  assert.equal(await file.read(new Uint8Array(1), 0), 1)
  await done
  assert.deepEqual(order, ['written', 'synced'])
})

test('a lock in memory excludes a second holder of the same path until it is released', async () => {
  const files = new MemoryFiles({ timers })
  const lock = await files.lock('/lock')
  assert.ok(lock)
  await lock.describe('{"pid":1}')
  assert.equal(await files.lock('lock'), undefined)
  assert.ok(await files.lock('/other'))
  assert.equal(await text(files, '/lock'), '{"pid":1}')
  await lock.release()
  const second = await files.lock('/lock')
  assert.ok(second)
  await lock.release()
  assert.equal(await files.lock('/lock'), undefined, 'a second release of the old lock frees nothing')
})

test('what was synced survives every crash; of each later sector one of its versions does', async () => {
  let torn = 0
  for (let seed = 0; seed < 200; seed++) {
    const prng = new Prng(seed)
    const files = faulty(seed)
    const file = await files.open('/f', 'create')
    await files.syncFolder('/')
    let versions: Uint8Array[] = [new Uint8Array(0)]
    for (let step = prng.below(12); step > 0; step--) {
      const at = prng.below(4000)
      const syncs = files.counts.syncs
      if (prng.chance(0.7)) await write(file, prng.bytes(1 + prng.below(3000)), at)
      else if (prng.chance(0.5)) await file.truncate(at)
      else await sync(file)
      const next = (await files.readAll('/f')) as Uint8Array
      if (files.counts.syncs > syncs) versions = [next]
      else versions.push(next)
    }
    const survivor = await files.crash().readAll('/f')
    assert.ok(survivor, `seed ${seed}: a name in a synced folder survives`)
    assert.ok(
      versions.some((version) => version.length === survivor.length),
      `seed ${seed}: the size is one that the file had`,
    )
    for (let at = 0; at < survivor.length; at += 512) {
      const sector = paddedSector(survivor, at)
      assert.ok(
        versions.some((version) => matchesUpTo(paddedSector(version, at), sector, survivor.length - at)),
        `seed ${seed}: the sector at ${at} is one that the file had`,
      )
    }
    if (!versions.some((version) => Buffer.compare(version, survivor) === 0)) torn++
  }
  assert.ok(torn > 20, `${torn} of 200 crashes tore a file`)
})

function paddedSector(bytes: Uint8Array, at: number): Uint8Array {
  const sector = new Uint8Array(512)
  sector.set(bytes.subarray(at, at + 512))
  return sector
}

function matchesUpTo(a: Uint8Array, b: Uint8Array, length: number): boolean {
  return Buffer.compare(a.subarray(0, length), b.subarray(0, length)) === 0
}

test('a replaced file is the old or the new one after a crash at any time; a finished one is the new one', async () => {
  const seen = new Set<string>()
  for (let seed = 0; seed < 100; seed++) {
    const files = faulty(seed)
    await files.replace('/state', utf8Encode('old'))
    const replacing = files.replace('/state', utf8Encode('new, longer'))
    const prng = new Prng(seed)
    for (let turns = prng.below(12); turns > 0; turns--) {
      if (prng.chance(0.3)) await new Promise<void>((resolve) => timers.soon(resolve))
      else await Promise.resolve()
    }
    const survivor = files.crash()
    await replacing.catch((error: unknown) => assert.ok(isCoterieError(error, 'IO_ERROR')))
    seen.add((await text(survivor, '/state')) ?? 'none')
    await survivor.replace('/state', utf8Encode('third'))
    assert.equal(await text(survivor.crash(), '/state'), 'third')
  }
  assert.deepEqual(
    [...seen].sort((a, b) => (a < b ? -1 : 1)),
    ['new, longer', 'old'],
  )
})

test('names that were not synced may be undone, each rename as a whole', async () => {
  const seen = new Set<string>()
  for (let seed = 0; seed < 100; seed++) {
    const files = faulty(seed)
    await files.makeFolder('/d')
    await files.replace('/d/a', utf8Encode('a'))
    await files.rename('/d/a', '/d/b')
    await (await files.open('/d/c', 'create')).close()
    await files.remove('/d/b')
    seen.add(String(await files.crash().list('/d')))
  }
  assert.deepEqual(
    [...seen].sort((a, b) => (a < b ? -1 : 1)),
    ['a', 'b', 'b,c', 'c'],
  )
})

test('a folder sync makes durable what its changes stand on, and nothing else', async () => {
  const files = faulty(1)
  await files.makeFolder('/from')
  await files.makeFolder('/to')
  const file = await files.open('/from/x', 'create')
  await write(file, utf8Encode('x'), 0)
  await sync(file)
  await files.rename('/from/x', '/to/x')
  await (await files.open('/other', 'create')).close()
  await files.syncFolder('/to')
  const survivor = files.crash({ survival: 'none' })
  assert.deepEqual(await survivor.list('/'), ['from', 'to'])
  assert.equal(await text(survivor, '/to/x'), 'x')
  assert.deepEqual(await survivor.list('/from'), [])
})

test('the survival can be chosen: nothing unsynced, or everything', async () => {
  for (const survival of ['none', 'all'] as const) {
    const files = faulty(5)
    const file = await files.open('/f', 'create')
    await files.syncFolder('/')
    await write(file, utf8Encode('synced'), 0)
    await sync(file)
    await write(file, utf8Encode('!'), 6)
    const survivor = files.crash({ survival })
    assert.equal(await text(survivor, '/f'), survival === 'none' ? 'synced' : 'synced!')
    await assert.rejects(files.readAll('/f'), (error) => isCoterieError(error, 'IO_ERROR'))
    await assert.rejects(sync(file), (error) => isCoterieError(error, 'IO_ERROR'))
  }
})

test('a sync under way at the crash promises nothing and reports the crash', async () => {
  const files = faulty(5)
  const file = await files.open('/f', 'create')
  await files.syncFolder('/')
  await write(file, utf8Encode('data'), 0)
  const syncing = sync(file)
  const survivor = files.crash({ survival: 'none' })
  await assert.rejects(syncing, (error) => isCoterieError(error, 'IO_ERROR'))
  assert.equal(await text(survivor, '/f'), '')
})

test('a killed process leaves what it wrote readable, and still not durable, and its locks free', async () => {
  const files = faulty(6)
  const file = await files.open('/f', 'create')
  await files.syncFolder('/')
  assert.ok(await files.lock('/lock'))
  await write(file, utf8Encode('data'), 0)
  const restarted = files.kill()
  await assert.rejects(write(file, utf8Encode('late'), 0), (error) => isCoterieError(error, 'IO_ERROR'))
  assert.equal(await text(restarted, '/f'), 'data')
  assert.ok(await restarted.lock('/lock'))
  assert.equal(await text(restarted.crash({ survival: 'none' }), '/f'), '')
})

test('the chosen write fails after a part of it, the chosen sync fails, and the others do not', async () => {
  const files = faulty(7)
  const file = await files.open('/f', 'create')
  const other = await files.open('/other', 'create')
  files.failWrite({ nth: 2, where: (path) => path === '/f' })
  await write(file, utf8Encode('one'), 0)
  await write(other, utf8Encode('one'), 0)
  await assert.rejects(write(file, new Uint8Array(1000).fill(1), 3), (error) =>
    isCoterieError(error, 'IO_ERROR'),
  )
  assert.ok(((await files.size('/f')) as number) < 1003)
  await write(file, utf8Encode('two'), 3)
  files.failSync({ nth: 2 })
  await sync(file)
  await assert.rejects(sync(file), (error) => isCoterieError(error, 'IO_ERROR'))
  await sync(file)
  assert.deepEqual(files.counts, { writes: 4, syncs: 3 })
})

test('after a failed sync a good one does not bring back what was lost; writing it again does', async () => {
  const outcomes = new Set<string>()
  for (let seed = 0; seed < 60; seed++) {
    const files = faulty(seed)
    const file = await files.open('/f', 'create')
    await files.syncFolder('/')
    await write(file, utf8Encode('data'), 0)
    files.failSync({ nth: 1 })
    await assert.rejects(sync(file), (error) => isCoterieError(error, 'IO_ERROR'))
    await sync(file)
    assert.equal(await text(files, '/f'), 'data', 'reads still show it')
    if (seed % 2 === 0) {
      outcomes.add((await text(files.crash(), '/f')) ?? 'none')
    } else {
      await write(file, utf8Encode('data'), 0)
      await sync(file)
      assert.equal(await text(files.crash(), '/f'), 'data')
    }
  }
  assert.ok(outcomes.has('') && outcomes.has('data'))
})

test('a full disk refuses what is new, keeps taking what overwrites, and recovers', async () => {
  const files = faulty(8)
  const file = await files.open('/f', 'create')
  await write(file, utf8Encode('abcdef'), 0)
  files.full = true
  assert.equal(await files.freeBytes('/'), 0)
  await write(file, utf8Encode('ABC'), 0)
  await assert.rejects(write(file, utf8Encode('xyz'), 5), (error) => isCoterieError(error, 'DISK_FULL'))
  await assert.rejects(files.open('/new', 'create'), (error) => isCoterieError(error, 'DISK_FULL'))
  await assert.rejects(files.replace('/f', utf8Encode('z')), (error) => isCoterieError(error, 'DISK_FULL'))
  assert.equal(await text(files, '/f'), 'ABCdex')
  files.full = false
  assert.ok((await files.freeBytes('/')) > 0)
  await write(file, utf8Encode('xyz'), 5)
  assert.equal(await text(files, '/f'), 'ABCdexyz')
})

test('damage shows in reads at once and after a crash', async () => {
  const files = faulty(9)
  await files.replace('/f', utf8Encode('abc'))
  files.damage({ path: '/f', at: 1, mask: 1 })
  assert.equal(await text(files, '/f'), 'acc')
  assert.equal(await text(files.crash(), '/f'), 'acc')
  assert.throws(() => files.damage({ path: '/f', at: 3, mask: 1 }), RangeError)
})
