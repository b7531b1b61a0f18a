// Progress on a terminal, on a plain stream, and with --json.

import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { Progress, type ProgressTarget } from '../../src/cli/progress.ts'

class Gathered extends Writable {
  text = ''
  readonly isTTY: boolean
  readonly columns = 100

  constructor(isTTY: boolean) {
    super()
    this.isTTY = isTTY
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }

  cursorTo(): boolean {
    return true
  }

  clearLine(): boolean {
    return true
  }
}

function target(stderr: Gathered, options: Partial<ProgressTarget> = {}): ProgressTarget & { time: number } {
  const clock = { time: 0 }
  const made = { stderr, json: false, quiet: false, env: {}, now: () => clock.time, ...options }
  return Object.defineProperty(made as ProgressTarget & { time: number }, 'time', {
    get: () => clock.time,
    set: (time: number) => {
      clock.time = time
    },
  })
}

test('off a terminal, a plain line about every second says how much, how fast and how long to go', () => {
  const stderr = new Gathered(false)
  const world = target(stderr)
  const bar = new Progress(world, { label: 'load', unit: 'bytes', total: 10_000_000 })
  for (world.time = 0; world.time <= 3050; world.time += 50) bar.update(world.time * 1000)
  bar.stop()
  assert.deepEqual(stderr.text.split('\n'), [
    'load:  10 %, 1.0 MB of 10.0 MB, 1.0 MB/s, 9 s left',
    'load:  20 %, 2.0 MB of 10.0 MB, 1.0 MB/s, 8 s left',
    'load:  30 %, 3.0 MB of 10.0 MB, 1.0 MB/s, 7 s left',
    '',
  ])
})

test('work that is done within a second prints nothing off a terminal', () => {
  const stderr = new Gathered(false)
  const world = target(stderr)
  const bar = new Progress(world, { label: 'load', unit: 'rows' })
  world.time = 900
  bar.update(50)
  bar.stop()
  assert.equal(stderr.text, '')
})

test('the time left follows the pace of the last ten seconds, not of the whole', () => {
  const stderr = new Gathered(false)
  const world = target(stderr)
  const bar = new Progress(world, { label: 'sync', unit: 'rows', total: 100_000 })
  for (world.time = 1000; world.time <= 60_000; world.time += 1000)
    bar.update(world.time < 30_000 ? 100 : world.time)
  assert.match(
    stderr.text.trim().split('\n').at(-1) ?? '',
    /^sync: {2}60 %, 60,000 rows of 100,000 rows, 1,000 rows\/s, 40 s left$/,
  )
})

test('with --json each line is an object, on a terminal too', () => {
  const stderr = new Gathered(true)
  const world = target(stderr, { json: true })
  const bar = new Progress(world, { label: 'load', unit: 'bytes', total: 4000 })
  world.time = 2000
  bar.update(1000)
  bar.stop()
  assert.deepEqual(JSON.parse(stderr.text), {
    progress: {
      label: 'load',
      value: 1000,
      total: 4000,
      unit: 'bytes',
      perSecond: 500,
      leftSeconds: 6,
      elapsedMs: 2000,
    },
  })
})

test('on a terminal there is a bar, also for work of unknown length', () => {
  for (const total of [1000, undefined]) {
    const stderr = new Gathered(true)
    const world = target(stderr)
    const bar = new Progress(world, { label: 'verify', unit: 'rows', total })
    world.time = 500
    bar.update(250)
    bar.stop()
    assert.match(stderr.text, /verify \[[= ]{28}\]/)
    assert.match(stderr.text, /250 rows/)
    assert.equal(stderr.text.includes('50 %'), false)
    assert.equal(stderr.text.includes('25 %'), total !== undefined)
  }
})

test('--quiet and TERM=dumb keep the bar away', () => {
  for (const options of [{ quiet: true }, { env: { TERM: 'dumb' } }]) {
    const stderr = new Gathered(true)
    const world = target(stderr, options)
    const bar = new Progress(world, { label: 'load', unit: 'rows', total: 10 })
    world.time = 400
    bar.update(5)
    bar.stop()
    assert.equal(stderr.text, '')
  }
})
