// Pipes: the common suite, and the rules for the file: only its owner may connect, a stale one is taken over, and what
// is not ours is left alone.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import * as net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { pipeTransport } from '../../src/transport/pipe-transport.ts'
import type { Listener } from '../../src/transport/transport.ts'
import { atEnd } from '../support/at-end.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { connectPair, hasCode, transportConformance } from './transport-suite.ts'

const isWindows = process.platform === 'win32'
const unixOnly = { skip: isWindows ? 'a named pipe is no file' : false }
const transport = pipeTransport(nodeHost())
const folder = mkdtempSync(join(tmpdir(), 'coterie-pipe-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let names = 0

function freshPath(): string {
  return isWindows ? `\\\\.\\pipe\\coterie-${process.pid}-${++names}` : join(folder, `${++names}.sock`)
}

transportConformance({
  name: 'pipe',
  transport,
  freshAddress: () => parseAddress(freshPath()),
  deadAddress: async () => parseAddress(freshPath()),
})

function listenOn(path: string): Promise<Listener> {
  return transport.listen({
    address: parseAddress(`pipe:${path}`),
    onConnection: (connection) => connection.destroy(),
  })
}

/** A socket file whose process is gone. */
function leaveStale(path: string): void {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script])
  assert.ok(lstatSync(path).isSocket())
}

test('[A4b A23d] a pipe is an address of its own or a bare path, and names itself in full', async (t) => {
  const path = freshPath()
  const { near, far, listener } = await connectPair(t, transport, parseAddress(path))
  assert.equal(listener.address, `pipe:${path}`)
  assert.equal(near.remote, `pipe:${path}`)
  assert.equal(far.local, `pipe:${path}`)
})

test(
  'the file of a pipe is for its owner alone, and the mask of the process stays as it was',
  unixOnly,
  async (t) => {
    const before = process.umask()
    const path = join(withTempFolder(t), 's')
    const listener = await listenOn(path)
    atEnd(t, () => listener.close())
    assert.equal(lstatSync(path).mode & 0o077, 0)
    assert.equal(process.umask(), before)
    await listener.close()
    assert.ok(!existsSync(path), 'it is gone with its listener')
  },
)

test('the file of a pipe is for its owner alone in a worker thread, too', unixOnly, async (t) => {
  const path = join(withTempFolder(t), 's')
  const isCompiled = import.meta.url.endsWith('.js')
  const host = new URL(`../../src/env/node/node-host.${isCompiled ? 'js' : 'ts'}`, import.meta.url).href
  const code = `(async () => {
    ${isCompiled ? '' : `(await import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))})).register()`}
    const { nodeHost } = await import(${JSON.stringify(host)})
    await nodeHost().streams.listen({ path: ${JSON.stringify(path)} }, () => undefined)
    require('node:worker_threads').parentPort.postMessage('listening')
  })()`
  const worker = new Worker(code, { eval: true, execArgv: [] })
  atEnd(t, async () => void (await worker.terminate()))
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  assert.equal(lstatSync(path).mode & 0o077, 0)
})

test('a pipe that its process left behind is taken over', unixOnly, async (t) => {
  const path = join(withTempFolder(t), 's')
  leaveStale(path)
  const { near, farSide } = await connectPair(t, transport, parseAddress(path))
  near.send(Uint8Array.of(1))
  await farSide.until((side) => side.messages.length === 1, 'a message over the pipe')
})

test('a pipe on which somebody listens is ADDRESS_IN_USE and goes on', unixOnly, async (t) => {
  const path = join(withTempFolder(t), 's')
  const server = net.createServer((socket) => socket.on('error', () => undefined).end('still here'))
  await new Promise<void>((resolve) => server.listen(path, resolve))
  atEnd(t, () => void server.close())
  await assert.rejects(listenOn(path), hasCode('ADDRESS_IN_USE'))
  const socket = net.connect(path)
  const [chunk] = (await new Promise((resolve) => socket.once('data', (data) => resolve([data])))) as [Buffer]
  assert.equal(chunk.toString(), 'still here')
  socket.destroy()
})

test('what is no socket of ours is refused and left as it is', unixOnly, async (t) => {
  const path = withTempFolder(t)
  const file = join(path, 'file')
  writeFileSync(file, 'precious')
  const stale = join(path, 'stale')
  leaveStale(stale)
  const link = join(path, 'link')
  symlinkSync(stale, link)
  const dangling = join(path, 'dangling')
  symlinkSync(join(path, 'nothing'), dangling)
  for (const place of [file, path, link, dangling]) {
    await assert.rejects(listenOn(place), hasCode('ADDRESS_INVALID'), place)
  }
  assert.ok(lstatSync(file).isFile() && lstatSync(stale).isSocket() && lstatSync(link).isSymbolicLink())
})

test('a socket of another user is no place to listen', unixOnly, async (t) => {
  if (process.getuid?.() !== 0) {
    t.skip('only root can make a file of another user')
    return
  }
  const path = withTempFolder(t)
  chmodSync(path, 0o777)
  const place = join(path, 's')
  leaveStale(place)
  chownSync(place, 65_534, 65_534)
  await assert.rejects(listenOn(place), hasCode('ADDRESS_INVALID'))
})

test('a client follows no symlink', unixOnly, async (t) => {
  const path = withTempFolder(t)
  const listener = await listenOn(join(path, 's'))
  atEnd(t, () => listener.close())
  symlinkSync(join(path, 's'), join(path, 'link'))
  const connecting = transport.connect({
    address: parseAddress(join(path, 'link')),
    connectTimeoutMs: 5000,
  })
  await assert.rejects(
    connecting,
    (error) => hasCode('CONNECT_FAILED')(error) && /symlink/.test(String(error)),
  )
})

test('a path that no socket can have is ADDRESS_INVALID', unixOnly, async () => {
  await assert.rejects(listenOn(`/${'x'.repeat(200)}`), hasCode('ADDRESS_INVALID'))
  await assert.rejects(listenOn(join(folder, 'no-such-folder', 's')), hasCode('ADDRESS_INVALID'))
})
