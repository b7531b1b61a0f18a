// `coterie top` on a terminal that is a stream of the test, and where there is none: what it draws, how it ends, and
// that the terminal is as before afterwards.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, type TestContext, test } from 'node:test'
import { ControlServer } from '../../src/cli/control/control-server.ts'
import { LocalPort, viewEncodings } from '../../src/cli/local-port.ts'
import { runCommand } from '../../src/cli/program.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { open } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const otherScreen = '\u001b[?1049h'
const shellScreen = '\u001b[?1049l'
const escapeCharacter = '\u001b'
const showCursor = '\u001b[?25h'

interface Terminal {
  readonly stdin: PassThrough
  readonly stdout: PassThrough
  /** All that was written. */
  shown: string
  stderr: string
  readonly raw: boolean[]
}

function terminal(options: {
  readonly isTTY: boolean
  readonly columns?: number
  readonly rows?: number
}): Terminal {
  const raw: boolean[] = []
  const { columns = 120, rows = 40, isTTY } = options
  const stdin = Object.assign(new PassThrough(), { isTTY, setRawMode: (on: boolean) => raw.push(on) })
  const stdout = Object.assign(new PassThrough(), { isTTY, columns, rows })
  const made: Terminal = { stdin, stdout, shown: '', stderr: '', raw }
  stdout.setEncoding('utf8').on('data', (text: string) => {
    made.shown += text
  })
  return made
}

function top(
  terminal: Terminal,
  args: readonly string[],
  interrupted = new AbortController().signal,
): Promise<number> {
  const stderr = new PassThrough()
  stderr.setEncoding('utf8').on('data', (text: string) => {
    terminal.stderr += text
  })
  const { stdin, stdout } = terminal
  return runCommand(['top', ...args], { stdin, stdout, stderr, env: {}, interrupted })
}

/** A database with a row that this process offers at a folder. */
async function offered(
  t: TestContext,
): Promise<{ path: string; server: ControlServer; again: () => Promise<void> }> {
  const path = withTempFolder(t)
  const db = await open<Uint8Array, Uint8Array>(join(path, 'data'), viewEncodings)
  atEnd(t, () => db.close())
  await db.put(Uint8Array.of(1), Uint8Array.of(1))
  const start = async (): Promise<ControlServer> => {
    const server = await ControlServer.start({ host: nodeHost(), location: path, port: new LocalPort(db) })
    atEnd(t, () => server.stop())
    return server
  }
  return {
    path,
    server: await start(),
    again: async () => {
      await start()
    },
  }
}

describe('on a terminal', () => {
  for (const key of ['q', '\u0003']) {
    test(`${JSON.stringify(key)} ends it with 0, and the terminal is as it was`, async (t) => {
      const { path } = await offered(t)
      const screen = terminal({ isTTY: true })
      const ended = top(screen, [path, '--every', '20ms'])
      await waitUntil(() => screen.shown.split('can lose:').length > 3, { what: 'it has drawn three times' })
      assert.ok(screen.shown.startsWith(otherScreen), 'the shell keeps its lines')
      assert.match(screen.shown, /records\/s/)
      assert.deepEqual(screen.raw, [true])
      screen.stdin.write(key)
      assert.equal(await ended, 0)
      assert.deepEqual(screen.raw, [true, false])
      assert.ok(screen.shown.endsWith(showCursor + shellScreen), 'cursor and lines are back')
      assert.equal(screen.stdin.listenerCount('data'), 0)
      assert.equal(screen.stderr, '')
    })
  }

  test('a signal ends it with 0, and the terminal is as it was', async (t) => {
    const { path } = await offered(t)
    const screen = terminal({ isTTY: true })
    const interruption = new AbortController()
    const ended = top(screen, [path, '--every', '10m'], interruption.signal)
    await waitUntil(() => screen.shown.includes('can lose:'), { what: 'it has drawn' })
    interruption.abort()
    assert.equal(await ended, 0)
    assert.ok(screen.shown.endsWith(showCursor + shellScreen))
  })

  test('what does not fit is cut off, and a new size is drawn at once', async (t) => {
    const { path } = await offered(t)
    const screen = terminal({ isTTY: true, columns: 12, rows: 6 })
    const ended = top(screen, [path, '--every', '10m'])
    await waitUntil(() => screen.shown.includes('role'), { what: 'it has drawn' })
    const lines = screen.shown
      .split(escapeCharacter)
      .map((part) => part.replace(/^\[[?\d]*[A-Za-z]/, ''))
      .join('')
      .split('\r\n')
    assert.ok(lines.length <= 6, `${lines.length} lines`)
    assert.ok(
      lines.every((line) => line.length <= 12),
      screen.shown,
    )
    Object.assign(screen.stdout, { columns: 120, rows: 40 })
    screen.stdout.emit('resize')
    await waitUntil(() => screen.shown.includes('can lose:'), { what: 'it has drawn at the new size' })
    screen.stdin.write('q')
    assert.equal(await ended, 0)
  })

  test('a process that ends is said to be gone, and is found again', async (t) => {
    const { path, server, again } = await offered(t)
    const screen = terminal({ isTTY: true })
    const ended = top(screen, [path, '--every', '20ms'])
    await waitUntil(() => screen.shown.includes('can lose:'), { what: 'it has drawn' })
    await server.stop()
    await waitUntil(() => screen.shown.includes('no process has it open'), { what: 'the end is seen' })
    const before = screen.shown.length
    await again()
    await waitUntil(() => screen.shown.slice(before).includes('can lose:'), { what: 'it is found again' })
    screen.stdin.write('q')
    assert.equal(await ended, 0)
  })
})

describe('elsewhere', () => {
  test('it prints plain text again and again until a signal', async (t) => {
    const { path } = await offered(t)
    const screen = terminal({ isTTY: false })
    const interruption = new AbortController()
    const ended = top(screen, [path, '--every', '20ms'], interruption.signal)
    await waitUntil(() => screen.shown.split('can lose:').length > 2, { what: 'it has printed twice' })
    interruption.abort()
    assert.equal(await ended, 0)
    assert.ok(!screen.shown.includes(escapeCharacter))
    assert.deepEqual(screen.raw, [])
  })

  test('--once prints once, --json an object', async (t) => {
    const { path } = await offered(t)
    const plain = terminal({ isTTY: true })
    assert.equal(await top(plain, [path, '--once']), 0)
    assert.equal(plain.shown.split('can lose:').length, 2)
    assert.ok(!plain.shown.includes(escapeCharacter))
    const json = terminal({ isTTY: true })
    assert.equal(await top(json, [path, '--once', '--json']), 0)
    const document = JSON.parse(json.shown) as Record<string, unknown>
    assert.equal(document.role, 'standalone')
    assert.equal(document.holderPid, process.pid)
  })

  test('a folder that nobody has open is an error, and is not opened', async (t) => {
    const screen = terminal({ isTTY: false })
    assert.equal(await top(screen, [withTempFolder(t)]), 1)
    assert.match(screen.stderr, /^coterie: INVALID_STATE: no process that can be asked/)
  })
})
