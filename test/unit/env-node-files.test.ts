// The files of the real host: what is written is what is read, durable replacement, locks between handles and
// processes, and the codes that failures carry.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { projectFolder } from '../../scripts/files.ts'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import type { OpenFile } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { partsAfter } from '../../src/env/node/node-open-file.ts'

const { files, random, clock, timers } = nodeHost()
let folder = ''

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'coterie-env-'))
})
after(() => fs.rmSync(folder, { recursive: true, force: true }))

function write(file: OpenFile, parts: readonly Uint8Array[], at: number): Promise<void> {
  return new Promise((resolve, reject) =>
    file.write(parts, at, (error) => (error ? reject(error) : resolve())),
  )
}

function sync(file: OpenFile): Promise<void> {
  return new Promise((resolve, reject) => file.sync((error) => (error ? reject(error) : resolve())))
}

test('parts that are written at a place are read back there, in order', async () => {
  const file = await files.open(files.join(folder, 'parts'), 'create')
  await write(file, [utf8Encode('abc'), utf8Encode(''), utf8Encode('defg')], 2)
  await write(file, [utf8Encode('XY')], 0)
  await write(file, [], 5)
  await sync(file)
  const into = new Uint8Array(20)
  assert.equal(await file.read(into, 1), 8)
  assert.equal(utf8Decode(into.subarray(0, 8)), 'Yabcdefg')
  await file.truncate(4)
  await file.close()
  assert.equal(utf8Decode((await files.readAll(file.path)) ?? utf8Encode('none')), 'XYab')
  assert.equal(await files.size(file.path), 4)
})

test('more parts than one system call takes are all written', async () => {
  const file = await files.open(files.join(folder, 'many-parts'), 'create')
  const parts = Array.from({ length: 5000 }, (_, i) => Uint8Array.of(i & 255, i >> 8))
  await write(file, parts, 0)
  await file.close()
  assert.deepEqual(await files.readAll(file.path), Buffer.concat(parts))
})

test('the rest of a short write begins at the byte after the last one written', () => {
  const parts = [utf8Encode('abc'), utf8Encode('de'), utf8Encode('f')]
  const rest = (count: number): string[] => partsAfter(parts, count).map(utf8Decode)
  assert.deepEqual(rest(0), ['abc', 'de', 'f'])
  assert.deepEqual(rest(2), ['c', 'de', 'f'])
  assert.deepEqual(rest(3), ['de', 'f'])
  assert.deepEqual(rest(5), ['f'])
  assert.deepEqual(rest(6), [])
})

test('a close waits for the calls under way, and later calls are refused', async () => {
  const file = await files.open(files.join(folder, 'closing'), 'create')
  const writing = write(file, [new Uint8Array(1_000_000)], 0)
  const closing = file.close()
  await writing
  await closing
  assert.equal(await files.size(file.path), 1_000_000)
  await assert.rejects(write(file, [Uint8Array.of(1)], 0), (error) => isCoterieError(error, 'CLOSED'))
  await assert.rejects(sync(file), (error) => isCoterieError(error, 'CLOSED'))
  await assert.rejects(file.read(new Uint8Array(1), 0), (error) => isCoterieError(error, 'CLOSED'))
  await file.close()
})

test('a file is replaced as a whole and no temporary file stays', async () => {
  const file = files.join(folder, 'state')
  await files.replace(file, utf8Encode('first, longer'))
  await files.replace(file, utf8Encode('second'))
  assert.equal(utf8Decode((await files.readAll(file)) ?? new Uint8Array()), 'second')
  assert.deepEqual(
    (await files.list(folder))?.filter((name) => name.startsWith('state')),
    ['state'],
  )
})

test('create empties the file that is there; read and write need one', async () => {
  const file = files.join(folder, 'modes')
  await files.replace(file, utf8Encode('old'))
  await (await files.open(file, 'write')).close()
  assert.equal(await files.size(file), 3)
  await (await files.open(file, 'create')).close()
  assert.equal(await files.size(file), 0)
  for (const mode of ['read', 'write'] as const) {
    await assert.rejects(files.open(files.join(folder, 'absent'), mode), (error) => {
      assert.ok(isCoterieError(error, 'IO_ERROR'))
      assert.equal(error.details.syscall, 'open')
      assert.equal(error.details.path, files.join(folder, 'absent'))
      assert.equal((error.cause as NodeJS.ErrnoException).code, 'ENOENT')
      return true
    })
  }
})

test('a failed write reaches the callback as IO_ERROR with path, call and cause', async () => {
  const file = files.join(folder, 'read-only')
  await files.replace(file, utf8Encode('x'))
  const open = await files.open(file, 'read')
  await assert.rejects(write(open, [utf8Encode('y')], 0), (error) => {
    assert.ok(isCoterieError(error, 'IO_ERROR'))
    assert.deepEqual(error.details, { path: file, syscall: 'write', errno: 'EBADF' })
    return true
  })
  await open.close()
})

test('a full disk is DISK_FULL', {
  skip: fs.existsSync('/dev/full') ? false : 'no /dev/full here',
}, async () => {
  const open = await files.open('/dev/full', 'write')
  await assert.rejects(write(open, [utf8Encode('y')], 0), (error) => isCoterieError(error, 'DISK_FULL'))
  await open.close()
})

test('folders are made with their parents, listed in order, and removed with what they hold', async () => {
  const deep = files.join(folder, 'a', 'b', 'c')
  await files.makeFolder(deep)
  await files.makeFolder(deep)
  await files.replace(files.join(deep, 'two'), utf8Encode('2'))
  await files.replace(files.join(deep, 'one'), utf8Encode('1'))
  await files.rename(files.join(deep, 'one'), files.join(deep, 'zero'))
  await files.syncFolder(deep)
  assert.deepEqual(await files.list(deep), ['two', 'zero'])
  await files.remove(files.join(deep, 'two'))
  await files.remove(files.join(deep, 'two'))
  assert.deepEqual(await files.list(deep), ['zero'])
  await files.removeTree(files.join(folder, 'a'))
  assert.equal(await files.list(deep), undefined)
  assert.equal(await files.size(deep), undefined)
  assert.equal(await files.readAll(files.join(deep, 'two')), undefined)
})

test('free space is known even for a path that is not there yet', async () => {
  assert.ok((await files.freeBytes(files.join(folder, 'not', 'yet'))) > 0)
})

test('a lock excludes a second handle in the same process until it is released', async () => {
  const file = files.join(folder, 'lock')
  const lock = await files.lock(file)
  assert.ok(lock)
  await lock.describe('{"pid":1234567,"host":"a-long-name"}')
  await lock.describe('{"pid":7}')
  assert.equal(await files.lock(file), undefined)
  assert.equal(utf8Decode((await files.readAll(file)) ?? new Uint8Array()), '{"pid":7}')
  assert.equal(await files.lock(file), undefined, 'reading the holder does not free the lock')
  await lock.release()
  await lock.release()
  const second = await files.lock(file)
  assert.ok(second)
  await second.release()
  assert.equal(await files.size(file), 9, 'the lock file stays')
})

test('a lock excludes other processes and dies with its own, even when that is killed', async () => {
  const file = files.join(folder, 'lock-of-process')
  const hostModule = pathToFileURL(path.join(projectFolder, 'src/env/node/node-host.ts')).href
  const script = `
    const { nodeHost } = await import(${JSON.stringify(hostModule)})
    const lock = await nodeHost().files.lock(process.argv[1])
    await lock.describe(JSON.stringify({ pid: process.pid }))
    process.stdout.write('locked')
    setInterval(() => lock, 1000)`
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', script, '--', file],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  try {
    await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
    assert.equal(child.exitCode, null)
    assert.equal(await files.lock(file), undefined)
    const holder = utf8Decode((await files.readAll(file)) ?? new Uint8Array())
    assert.deepEqual(JSON.parse(holder), { pid: child.pid })
  } finally {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  const lock = await files.lock(file)
  assert.ok(lock)
  await lock.release()
})

test('random bytes differ from call to call, short or long', () => {
  const seen = new Set<string>()
  for (const length of [16, 16, 512, 513, 5000, 16]) {
    const bytes = random.bytes(length)
    assert.equal(bytes.length, length)
    seen.add(Buffer.from(bytes).toString('hex'))
  }
  assert.equal(seen.size, 6)
})

test('timers run once, cancelled ones never; the clock does not go back', async () => {
  const start = clock.now()
  let cancelled = false
  timers
    .after(1, () => {
      cancelled = true
    })
    .cancel()
  // A timer of the host does not keep the process alive, so something else must.
  const alive = setInterval(() => undefined, 1000)
  await new Promise<void>((resolve) => timers.after(5, resolve))
  clearInterval(alive)
  await new Promise<void>((resolve) => timers.soon(resolve))
  assert.equal(cancelled, false)
  assert.ok(clock.now() >= start)
  assert.ok(clock.wall() > 1_600_000_000_000)
})
