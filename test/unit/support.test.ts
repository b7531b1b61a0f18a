// The helpers of the tests themselves: a helper that hides a failure would hide it in every test.

import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import { startChild } from '../support/child.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

test('what a test leaves behind is undone last thing first, when the test ends', async (t) => {
  const order: string[] = []
  let folder = ''
  await t.test('inner', (inner) => {
    folder = withTempFolder(inner)
    writeFileSync(join(folder, 'file'), 'content')
    atEnd(inner, () => {
      order.push(`first, folder there: ${existsSync(folder)}`)
    })
    atEnd(inner, () => {
      order.push('second')
    })
  })
  assert.deepEqual(order, ['second', 'first, folder there: true'])
  assert.ok(!existsSync(folder))
})

test('waiting ends when the condition holds, and fails with the words of what was waited for', async () => {
  let polls = 0
  await waitUntil(() => ++polls === 3, { what: 'the third poll' })
  assert.equal(polls, 3)
  await assert.rejects(
    waitUntil(() => false, { what: 'pigs fly', timeoutMs: 1 }),
    /^Error: waited 1 ms until pigs fly$/,
  )
  const broken = new Error('broken')
  await assert.rejects(
    waitUntil(() => Promise.reject(broken), { what: 'nothing' }),
    broken,
  )
})

const echo = `// A child that answers.
const greeting: string = process.argv[2] ?? ''
process.send?.({ greeting, flag: process.env.COTERIE_TEST_FLAG })
process.on('message', (message) => {
  if (message === 'fail') {
    console.error('the reason')
    process.exit(3)
  }
  process.send?.({ echo: message, bytes: new Uint8Array([1, 2]) })
})
`

test('a child is started with arguments, answers over IPC, and is killed by its id', async (t) => {
  const script = join(withTempFolder(t), 'echo.ts')
  writeFileSync(script, echo)
  const child = startChild(t, script, { args: ['hello'], env: { COTERIE_TEST_FLAG: 'up' }, cwd: '/' })
  assert.deepEqual(await child.next({ what: 'greeting' }), { greeting: 'hello', flag: 'up' })
  child.send('one')
  child.send('two')
  const bytes = new Uint8Array([1, 2])
  assert.deepEqual(await child.next({ what: 'answering' }), { echo: 'one', bytes })
  assert.deepEqual(await child.next({ what: 'answering' }), { echo: 'two', bytes })
  assert.deepEqual(await child.kill(), { code: null, signal: 'SIGKILL' })
  assert.deepEqual(await child.kill(), { code: null, signal: 'SIGKILL' })
  assert.throws(() => process.kill(child.pid as number, 0), { code: 'ESRCH' })
})

test('waiting for a child that ends or stays silent fails with what it wrote to stderr', async (t) => {
  const script = join(withTempFolder(t), 'echo.ts')
  writeFileSync(script, echo)
  const child = startChild(t, script)
  await child.next({ what: 'greeting' })
  await assert.rejects(
    child.next({ what: 'talking', timeoutMs: 1 }),
    /was silent for 1 ms instead of talking/,
  )
  child.send('fail')
  await assert.rejects(child.next({ what: 'talking' }), /ended instead of talking \(code 3, .*\n.*the reason/)
  assert.deepEqual(await child.exited, { code: 3, signal: null })
})

test('a child that a test forgets is gone when the test ends', async (t) => {
  let pid = 0
  await t.test('inner', async (inner) => {
    const script = join(withTempFolder(inner), 'echo.ts')
    writeFileSync(script, echo)
    const child = startChild(inner, script)
    await child.next({ what: 'greeting' })
    pid = child.pid as number
  })
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})
