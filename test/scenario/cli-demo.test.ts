// The demo as a real process, on fewer cities; and that its check finds what is lost.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ExpectedRow } from '../../src/cli/demo/messages.ts'
import { momentsOf } from '../../src/cli/demo/moments.ts'
import type { DemoReport } from '../../src/cli/demo/report.ts'
import { SiteHandle } from '../../src/cli/demo/site-handle.ts'
import { atEnd } from '../support/at-end.ts'
import { startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

test('the same seed kills at the same moments', () => {
  assert.deepEqual(momentsOf(7, 100_000), momentsOf(7, 100_000))
  assert.notDeepEqual(momentsOf(7, 100_000), momentsOf(8, 100_000))
  for (let seed = 0; seed < 200; seed++) {
    const { killReplica, restartReplica, addReplica, killMaster } = momentsOf(seed, 1000)
    assert.ok(0 < killReplica && killReplica < restartReplica && restartReplica < addReplica)
    assert.ok(addReplica < killMaster && killMaster < 1000)
  }
})

function runDemo(t: TestContext, ...args: string[]): { cli: ReturnType<typeof startCoterie>; temp: string } {
  const temp = join(withTempFolder(t), 'tmp')
  mkdirSync(temp)
  const cli = startCoterie(t, ['demo', ...args], { env: { TMPDIR: temp } })
  return { cli, temp }
}

test('[E8] the demo loses nothing, says so with figures, and leaves nothing behind', async (t) => {
  const { cli, temp } = runDemo(t, '--cities', '6000', '--seed', '5', '--json')
  const { code, stdout, stderr } = await cli.ended
  assert.equal(code, 0, stderr)
  const report = JSON.parse(stdout) as DemoReport
  assert.equal(report.acknowledged, 6000)
  assert.equal(report.lost, 0)
  assert.equal(report.digestsEqual, true)
  assert.deepEqual(
    report.sites.map(({ rows, checked, wrong }) => [rows, checked, wrong]),
    Array.from({ length: 4 }, () => [6000, 6000, 0]),
  )
  assert.equal(report.catchUp.kind, 'incremental')
  assert.ok(report.unknown.total > 0, 'commits were under way when the master died')
  assert.deepEqual(
    readdirSync(temp).filter((name) => name.startsWith('coterie')),
    [],
  )
})

test('an interrupted demo ends its processes and removes its folder', async (t) => {
  const { cli, temp } = runDemo(t, '--seed', '5')
  await cli.says(/master a and replicas/)
  const { code } = await cli.signal('SIGINT')
  assert.equal(code, 130)
  assert.deepEqual(
    readdirSync(temp).filter((name) => name.startsWith('coterie')),
    [],
  )
})

test('a site of the demo reports a row that is missing, another value, and a token that is not applied', async (t) => {
  const site = new SiteHandle({ name: 'x', path: join(withTempFolder(t), 'x') })
  atEnd(t, () => site.kill())
  site.start()
  const acked = new Map<number, string>()
  site.on('acks', (event) => {
    for (const [index, token] of event.acked) acked.set(index, token)
  })
  await site.ask({ type: 'serve', path: site.path, site: 'x', listen: 'tcp://127.0.0.1:0', sites: 1 })
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
