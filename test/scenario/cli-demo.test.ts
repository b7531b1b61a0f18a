// The demo as a real process, on fewer cities; and that its check finds what is lost.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ExpectedRow } from '../../src/cli/demo/messages.ts'
import { type Moment, momentsOf } from '../../src/cli/demo/moments.ts'
import type { DemoReport } from '../../src/cli/demo/report.ts'
import { SiteHandle } from '../../src/cli/demo/site-handle.ts'
import { atEnd } from '../support/at-end.ts'
import { startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

test('the same seed kills at the same moments', () => {
  const moments = (seed: number, kills = 5): Moment[] => momentsOf(seed, { cities: 1000, kills })
  assert.deepEqual(moments(7), moments(7))
  assert.notDeepEqual(moments(7), moments(8))
  for (let seed = 0; seed < 200; seed++) {
    for (const kills of [1, 5, 20]) {
      const at = [0, ...moments(seed, kills).map(({ acknowledged }) => acknowledged), 1000]
      assert.equal(at.length, kills + 2)
      assert.ok(
        at.every((each, index) => index === 0 || each > (at[index - 1] ?? 0)),
        `seed ${seed}: ${at}`,
      )
    }
  }
})

function runDemo(t: TestContext, ...args: string[]): { cli: ReturnType<typeof startCoterie>; temp: string } {
  const temp = join(withTempFolder(t), 'tmp')
  mkdirSync(temp)
  const cli = startCoterie(t, ['demo', ...args], { env: { TMPDIR: temp } })
  return { cli, temp }
}

function nothingIsLeft(temp: string): void {
  assert.deepEqual(
    readdirSync(temp).filter((name) => name.startsWith('coterie')),
    [],
  )
}

test('[E8] the demo kills the master again and again, loses nothing, and says so with figures', async (t) => {
  const { cli, temp } = runDemo(t, '--cities', '3000', '--kills', '2', '--seed', '5', '--json')
  const { code, stdout, stderr } = await cli.ended
  assert.equal(code, 0, stderr)
  const report = JSON.parse(stdout) as DemoReport
  assert.equal(report.acknowledged, 3000)
  assert.equal(report.lost, 0)
  assert.equal(report.digestsEqual, true)
  assert.deepEqual(
    report.sites.map(({ site, checked, wrong }) => [site, checked, wrong]),
    ['a', 'b', 'c'].map((site) => [site, 3000, 0]),
  )
  // Every city, and the row with the members of the group.
  assert.deepEqual(new Set(report.sites.map(({ rows }) => rows)), new Set([3001]))
  assert.equal(report.failovers.length, 2)
  for (const { killed, master, masterMs, commitMs, lost } of report.failovers) {
    assert.notEqual(killed, master)
    assert.ok(0 < masterMs && masterMs <= commitMs)
    assert.equal(lost, 0)
  }
  const acknowledged = report.failovers.map((failover) => failover.acknowledged)
  assert.deepEqual(
    acknowledged,
    [...acknowledged].sort((left, right) => left - right),
  )
  assert.ok(
    report.failovers.some(({ unknown }) => unknown > 0),
    'commits were under way when a master died',
  )
  nothingIsLeft(temp)
})

test('[E8] the demo prints a line for each failover and ends with what it counted', async (t) => {
  const { cli, temp } = runDemo(t, '--cities', '1000', '--kills', '1', '-q')
  const { code, stdout, stderr } = await cli.ended
  assert.equal(code, 0, stderr)
  const lines = stdout.split('\n').filter((line) => line.startsWith('kill -9'))
  assert.equal(lines.length, 1, stdout)
  for (const line of lines) {
    assert.match(line, /^kill -9 [abc] -> [abc] master in [\d,]+ ms, acknowledged [\d,]+, lost 0$/)
  }
  assert.match(stdout, /^acknowledged 1,000, lost 0\n$/m)
  nothingIsLeft(temp)
})

test('an interrupted demo ends its processes and removes its folder', async (t) => {
  const { cli, temp } = runDemo(t, '--seed', '5', '--cities', '8000')
  await cli.says(/^kill -9 /m, 60_000)
  const { code } = await cli.signal('SIGINT')
  assert.equal(code, 130)
  nothingIsLeft(temp)
})

test('a site of the demo reports a row that is missing, another value, and a token that is not applied', async (t) => {
  const site = new SiteHandle({ name: 'x', path: join(withTempFolder(t), 'x') })
  atEnd(t, () => site.kill())
  site.start()
  const acked = new Map<number, string>()
  site.on('acks', (event) => {
    for (const [index, token] of event.acked) acked.set(index, token)
  })
  await site.ask({ type: 'join', path: site.path, site: 'x', listen: 'tcp://127.0.0.1:0', seeds: [] })
  await site.ask({ type: 'put', rows: [0, 1, 2].map((index) => [index, `k${index}`, `v${index}`] as const) })
  await waitUntil(() => acked.size === 3, { what: 'all are acknowledged' })
  const token = (index: number): string => acked.get(index) ?? ''
  const later = token(2).replace(/^([^-]+)-[^-]+-/, '$1-fffff-')
  const rows: readonly ExpectedRow[] = [
    [0, 'k0', 'v0', token(0)],
    [1, 'k1', 'another', token(1)],
    [2, 'k2', 'v2', later],
    [3, 'k3', 'v3', token(0)],
    [4, 'k0', 'v0', null],
  ]
  const { wrong } = await site.ask({ type: 'check', rows })
  assert.deepEqual(
    wrong.map(({ index, reason }) => [index, reason]),
    [
      [1, 'another value'],
      [2, 'its token is pending'],
      [3, 'missing'],
    ],
  )
})
