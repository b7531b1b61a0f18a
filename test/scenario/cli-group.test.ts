// A group as real processes of the command: join, status, transfer, members, top; a master that is killed; and what the
// command says of everything that does not fit.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { DatabaseStatus } from '../../src/index.ts'
import { coterie, coterieHere, type RunningCli, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const anyPort = 'tcp://127.0.0.1:0'
/** A busy machine must not look like a dead master: these tests say themselves who shall be it. */
const patient = ['--election-timeout', '5s', '--silence-timeout', '8s']

interface Joined {
  readonly site: string
  readonly path: string
  readonly address: string
  readonly cli: RunningCli
}

async function joined(
  t: TestContext,
  options: {
    site: string
    path: string
    listen?: string
    seeds?: readonly string[]
    more?: readonly string[]
  },
): Promise<Joined> {
  const { site, path, listen = anyPort, seeds = [], more = [] } = options
  const cli = startCoterie(t, [
    'join',
    path,
    ...['--site', site, '--listen', listen, ...patient],
    ...seeds.flatMap((seed) => ['--seed', seed]),
    ...more,
  ])
  const [, address = ''] = await cli.says(/listens on (tcp:\/\/[\d.]+:\d+)/)
  return { site, path, address, cli }
}

/** Three sites, all of them members, `a` the master. */
async function groupOfThree(t: TestContext, folder: string): Promise<[Joined, Joined, Joined]> {
  const a = await joined(t, { site: 'a', path: join(folder, 'a') })
  const b = await joined(t, { site: 'b', path: join(folder, 'b'), seeds: [a.address] })
  const c = await joined(t, { site: 'c', path: join(folder, 'c'), seeds: [a.address] })
  await whenStatus(c.path, 'three members are live', (group) => liveIn(group).length === 3)
  return [a, b, c]
}

type GroupStatus = NonNullable<DatabaseStatus['group']>

/** In a process of its own. */
async function ok(t: TestContext, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await coterie(t, args)
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

/** In this one, on the databases that other processes have open. */
async function okHere(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await coterieHere(args)
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

async function statusOf(path: string): Promise<DatabaseStatus> {
  return JSON.parse(await okHere(['status', path, '--json'])) as DatabaseStatus
}

async function whenStatus(path: string, what: string, holds: (group: GroupStatus) => boolean): Promise<void> {
  await waitUntil(
    async () => {
      const { group } = await statusOf(path)
      return group !== undefined && holds(group)
    },
    { what, everyMs: 50 },
  )
}

function liveIn(group: GroupStatus): string[] {
  const live = group.sites.filter((each) => each.isMember && ['master', 'replica'].includes(each.state))
  return live.map((each) => each.site)
}

interface Failed {
  readonly code: number | null
  readonly error: {
    readonly code: string
    readonly message: string
    readonly details: Record<string, unknown>
  }
}

async function failing(args: readonly string[]): Promise<Failed> {
  const { code, stderr } = await coterieHere([...args, '--json'])
  const [line = ''] = stderr.split('\n')
  assert.notEqual(line, '', `coterie ${args.join(' ')} ended with ${code} and without an error`)
  return { code, error: (JSON.parse(line) as { error: Failed['error'] }).error }
}

test('[E1 C8] join: three sites are a group, and status on any of them shows it and what could be lost', async (t) => {
  const folder = withTempFolder(t)
  const [a, b, c] = await groupOfThree(t, folder)
  for (const { path, site } of [a, b, c]) {
    // What a site knows of the others may be a second old.
    await whenStatus(path, 'nobody lags', (group) => group.sites.every(({ lagRecords }) => lagRecords === 0))
    const text = await okHere(['status', path])
    assert.match(text, new RegExp(`^site +${site}$`, 'm'))
    assert.match(text, /^site +role +state +lsn +lag +ack p99 +version +heard +address$/m)
    assert.match(text, /^a +master +live +\d+ +0 .*\d\.\d\.\d.* tcp:/m)
    for (const other of ['b', 'c']) assert.match(text, new RegExp(`^${other} +replica +live +\\d+ +0 `, 'm'))
    assert.match(text, /^can lose: 1 site, 0 commits$/m)
  }

  assert.match(await ok(t, ['put', a.path, 'city:1', 'Jakarta']), /on [23] sites\n$/)
  await waitUntil(async () => (await coterieHere(['get', b.path, 'city:1'])).stdout === 'Jakarta\n', {
    what: 'the commit is seen on b',
    everyMs: 50,
  })
  const refused = await failing(['put', b.path, 'k', 'v'])
  assert.equal(refused.code, 4)
  assert.equal(refused.error.code, 'NOT_MASTER')
  assert.equal(refused.error.details.master, a.address)

  const members = JSON.parse(await ok(t, ['members', c.path, '--json'])) as {
    members: { site: string; address: string }[]
    majority: number
  }
  assert.equal(members.majority, 2)
  assert.deepEqual(
    members.members.map(({ site, address }) => [site, address]),
    [a, b, c].map(({ site, address }) => [site, address]),
  )
  assert.match(await okHere(['members', c.path]), /^a +master +live +tcp:[\s\S]*majority: 2 of 3 members\n$/m)
  assert.match(await ok(t, ['top', b.path, '--once']), /^a +master[\s\S]*can lose: 1 site, 0 commits/m)
})

test('transfer hands over by name, and a killed master is replaced and comes back', async (t) => {
  const folder = withTempFolder(t)
  const [a, b, c] = await groupOfThree(t, folder)
  const result = JSON.parse(await ok(t, ['transfer', a.path, 'b', '--json'])) as Record<string, unknown>
  assert.equal(result.site, 'b')
  assert.equal(result.term, 2)
  await b.cli.says(/this site is master in term 2/)
  await a.cli.says(/this site is master no more: it was handed over \(b\)/)
  await okHere(['put', b.path, 'k', 'v'])

  const elected = /this site is master in term ([3-9])/
  await b.cli.kill()
  await Promise.race([a.cli.says(elected), c.cli.says(elected)])
  const [master, other] = elected.test(a.cli.stdout) ? [a, c] : [c, a]
  // It shows what is committed, and knows how far that goes as soon as its own first record is.
  await waitUntil(async () => (await coterieHere(['get', master.path, 'k'])).stdout === 'v\n', {
    what: 'the new master shows what was acknowledged',
    everyMs: 50,
  })
  await whenStatus(other.path, 'b is seen to be away', (group) => liveIn(group).length === 2)
  assert.match(
    await okHere(['status', other.path]),
    /^can lose: 0 sites; 2 of 3 members are heard, 2 are needed$/m,
  )

  // The folder knows the group: no seed is needed.
  const again = await joined(t, { site: 'b', path: b.path, listen: b.address })
  await again.cli.says(/the master is [ac], term/)
  await whenStatus(other.path, 'b is back', (group) => liveIn(group).length === 3)
  assert.match(await okHere(['status', other.path]), /^can lose: 1 site, 0 commits$/m)
})

test('a signal ends join with 0: a master hands over first, and each line of --json is an object', async (t) => {
  const folder = withTempFolder(t)
  const a = await joined(t, { site: 'a', path: join(folder, 'a') })
  const seeds = [a.address]
  const b = startCoterie(t, [
    'join',
    join(folder, 'b'),
    '--site',
    'b',
    '--seed',
    a.address,
    ...patient,
    '--json',
  ])
  const c = await joined(t, { site: 'c', path: join(folder, 'c'), seeds })
  await whenStatus(c.path, 'three members are live', (group) => liveIn(group).length === 3)
  const { code, stdout } = await a.cli.signal('SIGTERM')
  assert.equal(code, 0)
  assert.match(stdout, /handed over to [bc] in term 2[\s\S]*left at lsn/)
  assert.equal(existsSync(join(a.path, 'control.json')), false)
  await b.says(/"event":"newMaster".*"term":2/)
  const ended = await b.signal('SIGINT')
  assert.equal(ended.code, 0)
  const events = ended.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; time: string })
  assert.ok(events.every((event) => typeof event.event === 'string' && !Number.isNaN(Date.parse(event.time))))
  const names = events.map(({ event }) => event)
  for (const name of ['joining', 'newMaster', 'synced', 'memberAdded', 'stopped']) {
    assert.ok(names.includes(name), `${name} is among ${names}`)
  }
  assert.ok(names.indexOf('newMaster') < names.indexOf('synced'))
})

test('members --remove: the others go on without it, and its join ends with what the group said', async (t) => {
  const folder = withTempFolder(t)
  const [a, b, c] = await groupOfThree(t, folder)
  const onReplica = await failing(['members', b.path, '--remove', 'c'])
  assert.equal(onReplica.error.code, 'INVALID_STATE')
  assert.doesNotMatch(await ok(t, ['members', a.path, '--remove', 'c']), /^c /m)
  const { code, stderr } = await c.cli.ended
  assert.equal(code, 6, stderr)
  assert.match(stderr, /MEMBER_REMOVED/)
  assert.match(await okHere(['put', a.path, 'k', 'v']), /on 2 sites\n$/)
  const back = await coterie(t, ['join', c.path, '--seed', a.address])
  assert.equal(back.code, 6, back.stderr)
  assert.match(back.stderr, /MEMBER_REMOVED[\s\S]*another --site/)
  await b.cli.signal('SIGTERM')
  await whenStatus(a.path, 'nobody is master', (group) => group.master === undefined)
  const alone = await failing(['put', a.path, 'k', 'v'])
  assert.equal(alone.code, 4)
  assert.match(alone.error.code, /^(NO_MASTER|NO_QUORUM|NOT_MASTER)$/)
  assert.equal(await okHere(['get', a.path, 'k']), 'v\n', 'reads go on')
})

test('[B8c C7a] two sites: members says what they do alone, and elect holds an election', async (t) => {
  const folder = withTempFolder(t)
  const more = ['--two-sites', 'prefer:b', '--no-elections', '--election-timeout', '500ms']
  const a = await joined(t, { site: 'a', path: join(folder, 'a'), more })
  assert.match(await okHere(['members', a.path]), /two sites: prefer:b$/m)
  assert.match(await okHere(['members', a.path, '--two-sites', 'available']), /two sites: available$/m)
  const told = await coterieHere(['elect', a.path])
  assert.equal(told.code, 1)
  assert.match(told.stderr, /this site is master/)
  const b = await joined(t, { site: 'b', path: join(folder, 'b'), seeds: [a.address], more })
  await whenStatus(b.path, 'b is certain that either may go on alone', ({ members, majority }) => {
    return members.length === 2 && majority === 1
  })
  await a.cli.kill()
  await whenStatus(b.path, 'the master is missed', (group) => group.role === 'candidate')
  assert.match(await okHere(['elect', b.path]), /^b is master in term \d+$/m)
  const { group } = await statusOf(b.path)
  assert.deepEqual([group?.majority, group?.twoSites], [1, 'available'])
})

test('what does not fit is refused with its code, and nothing has changed', async (t) => {
  const folder = withTempFolder(t)
  const [a, b] = await groupOfThree(t, folder)
  const onReplica = await failing(['transfer', b.path, 'a'])
  assert.deepEqual([onReplica.code, onReplica.error.code], [1, 'INVALID_STATE'])
  assert.equal(onReplica.error.details.master, a.address)
  const unknown = await failing(['transfer', a.path, 'nobody'])
  assert.deepEqual([unknown.code, unknown.error.code], [4, 'TRANSFER_FAILED'])
  const itself = await failing(['transfer', a.path, 'a'])
  assert.equal(itself.error.code, 'INVALID_STATE')
  assert.match(await okHere(['put', a.path, 'still', 'here']), /on [23] sites/)

  const other = join(folder, 'other')
  await okHere(['put', other, 'mine', 'kept'])
  for (const args of [
    ['transfer', other, 'b'],
    ['members', other],
    ['members', other, '--remove', 'b'],
  ]) {
    const alone = await failing(args)
    assert.deepEqual([alone.code, alone.error.code], [1, 'INVALID_STATE'], args.join(' '))
  }
  const taken = await failing(['join', other, '--listen', a.address])
  assert.deepEqual([taken.code, taken.error.code], [6, 'ADDRESS_IN_USE'])
  const foreign = await coterie(t, ['join', other, '--seed', a.address])
  assert.equal(foreign.code, 6, foreign.stderr)
  assert.match(foreign.stderr, /FOREIGN_HISTORY[\s\S]*--replace/)
  assert.equal(await okHere(['get', other, 'mine']), 'kept\n')
  const locked = await failing(['join', a.path])
  assert.deepEqual([locked.code, locked.error.code], [3, 'LOCKED'])
  const everywhere = await failing(['join', join(folder, 'x'), '--listen', 'tcp://0.0.0.0:0'])
  assert.deepEqual([everywhere.code, everywhere.error.code], [2, 'OPTION_INVALID'])
})

test('a seed that nobody answers at is told, and tried again until there is somebody', async (t) => {
  const folder = withTempFolder(t)
  const first = await joined(t, { site: 'a', path: join(folder, 'a') })
  await first.cli.signal('SIGTERM')
  const b = await joined(t, {
    site: 'b',
    path: join(folder, 'b'),
    seeds: [first.address, 'tcp://no-such-host.invalid:1'],
  })
  await b.cli.says(/seed tcp:\/\/no-such-host\.invalid:1: [A-Z_]+: /)
  await joined(t, { site: 'a', path: first.path, listen: first.address })
  await b.cli.says(/synced (snapshot|incremental|equal)/, 60_000)
  assert.equal((await b.cli.signal('SIGINT')).code, 0)
})
