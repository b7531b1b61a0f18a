// Groups that elect their master, for tests, in this process and over real TCP. A site can be cut off, stopped as by a
// crash, and brought back on its folder; what a test opens here is closed when it ends.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import {
  type Database,
  type Group,
  type GroupEvent,
  type GroupEvents,
  isCoterieError,
  type JoinOptions,
  type OpenOptions,
  type Receipt,
} from '../../src/index.ts'
import { CutHost } from './cut-host.ts'
import { loopback } from './loopback.ts'
import { openAt } from './sites.ts'
import { withTempFolder } from './temp-folder.ts'
import { waitUntil } from './wait-until.ts'

export interface GroupSite {
  readonly id: string
  readonly db: Database
  readonly group: Group
  readonly net: CutHost
  /** Everything that its group has told, in order. */
  readonly events: GroupEvent[]
  /** Where its data is; `:memory:` leaves nothing. */
  readonly location: string
}

/** For tests of something else than elections: a machine that is busy must not look like a dead master. */
export const patient = { electionTimeoutMs: 3000, silenceTimeoutMs: 6000 } as const
/** Generous by intent: it only decides how long a failing test takes. */
const readyTimeoutMs = 60_000

export type SiteOptions = Partial<JoinOptions> & {
  readonly location?: string
  readonly open?: OpenOptions
}

/** Three times the default: what stands still for a moment is not to be taken for dead. */
const unhurriedMs = 1000

/** For `listen`: no other process of the tests is there. */
export const anyPort: string = `tcp://${loopback}:0`

/** Opens a site and joins it; both end with the test. */
export async function joinSite(t: TestContext, id: string, options: SiteOptions = {}): Promise<GroupSite> {
  const { location = ':memory:', open = {}, ...join } = options
  const net = new CutHost()
  const db = await openAt(t, location, { site: id, host: net.host, ...open })
  const group = await db.join({ listen: anyPort, electionTimeoutMs: unhurriedMs, ...join })
  const events: GroupEvent[] = []
  group.onAny((type, detail) => events.push({ type, detail } as GroupEvent))
  return { id, db, group, net, events, location }
}

/** A group of these sites; the first one founds it. With `folders`, each has a folder of its own. */
export async function groupOf(
  t: TestContext,
  ids: readonly string[],
  options: SiteOptions & { readonly folders?: boolean } = {},
): Promise<GroupSite[]> {
  const { folders = false, ...each } = options
  const place = folders ? withTempFolder(t) : undefined
  const sites: GroupSite[] = []
  for (const id of ids) {
    const location = place === undefined ? ':memory:' : join(place, id)
    if (place !== undefined) mkdirSync(location)
    const seeds = sites.slice(0, 1).map((site) => site.group.address)
    sites.push(await joinSite(t, id, { location, seeds, ...each }))
  }
  await whenMembers(sites, ids)
  await whenReady(...sites.map((site) => site.group))
  return sites
}

/** `ready` of all of these. It would wait for ever; this fails, and says what each of them knows. */
export async function whenReady(...groups: readonly Group[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const known = groups.map((group) => JSON.stringify(group.status())).join('\n')
      reject(
        new Error(`waited ${readyTimeoutMs} ms until the group was ready; what its sites know:\n${known}`),
      )
    }, readyTimeoutMs)
  })
  try {
    await Promise.race([Promise.all(groups.map((group) => group.ready)), late])
  } finally {
    clearTimeout(timer)
  }
}

/** All of `sites` know just these members. */
export async function whenMembers(sites: readonly GroupSite[], ids: readonly string[]): Promise<void> {
  const wanted = [...ids].sort().join(' ')
  const known = (site: GroupSite): string =>
    site.group.members
      .map((member) => member.site)
      .sort()
      .join(' ')
  await waitUntil(() => sites.every((site) => known(site) === wanted), {
    what: () => `all know the members ${wanted}; they know ${sites.map(known).join(', ')}`,
  })
}

/** One of `sites` is master, and all the others follow it. */
export async function settledMaster(sites: readonly GroupSite[]): Promise<GroupSite> {
  let master: GroupSite | undefined
  await waitUntil(
    () => {
      master = sites.find((site) => site.group.role === 'master')
      if (master === undefined) return false
      return sites.every((site) => site === master || site.group.master?.site === master?.id)
    },
    { what: `one of ${sites.map((site) => site.id).join(' ')} is master, and the others follow it` },
  )
  return master as GroupSite
}

/** Writes at whoever is master, again and again until it is acknowledged. */
export async function writeAnywhere(
  sites: readonly GroupSite[],
  key: string,
  value: string,
): Promise<Receipt> {
  let receipt: Receipt | undefined
  await waitUntil(
    async () => {
      for (const site of sites) {
        try {
          receipt = await site.db.put(key, value, { ackTimeoutMs: 2000 })
          return true
        } catch (error) {
          if (!isCoterieError(error)) throw error
        }
      }
      return false
    },
    { what: `one of ${sites.map((site) => site.id).join(' ')} takes a write` },
  )
  return receipt as Receipt
}

/** Every site has all that the first one has, and the same. */
export async function whenEqual(sites: readonly GroupSite[]): Promise<void> {
  const [first] = sites
  assert.ok(first !== undefined)
  await waitUntil(
    () => {
      const { lastLsn } = first.db.status()
      return sites.every(({ db }) => db.status().appliedLsn === lastLsn)
    },
    { what: 'all sites have applied the same log' },
  )
  const digests = await Promise.all(sites.map(async ({ db }) => (await db.digest()).digest))
  assert.equal(new Set(digests).size, 1, 'equal logs give equal stores')
}

/** As a crash: nothing is finished, nothing is told, the connections are gone. The folder can be opened again. */
export async function crash(site: GroupSite): Promise<void> {
  site.db.site.engine.fail(new Error('the test has stopped this site'))
  await site.db.close()
}

export function eventsOf<Name extends keyof GroupEvents>(site: GroupSite, name: Name): GroupEvents[Name][] {
  const details: GroupEvents[Name][] = []
  for (const { type, detail } of site.events) if (type === name) details.push(detail as GroupEvents[Name])
  return details
}

/**
 * Addresses that were free a moment ago, for sites that must know where others will listen. All were held at once, so no
 * two are equal, and no other process of the tests can take one meanwhile.
 */
export async function freeAddresses(count: number): Promise<string[]> {
  const servers = await Promise.all(Array.from({ length: count }, listening))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports.map((port) => `tcp://${loopback}:${port}`)
}

function listening(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, loopback, () => resolve(server))
  })
}

/** A group of three loses its master without a word, elects another, and takes the old one back. */
export async function losesItsMaster(
  t: TestContext,
  optionsOf: (id: string) => Partial<JoinOptions>,
): Promise<void> {
  const sites: GroupSite[] = []
  for (const id of ['a', 'b', 'c']) {
    const seeds = sites.slice(0, 1).map((site) => site.group.address)
    const fast = { electionTimeoutMs: 800, heartbeatMs: 100 }
    sites.push(await joinSite(t, id, { ...optionsOf(id), ...fast, seeds }))
  }
  await whenMembers(sites, ['a', 'b', 'c'])
  const old = await settledMaster(sites)
  await old.db.put('before', 'the cut')
  await whenEqual(sites)
  old.net.cut()
  await waitUntil(() => old.group.role === 'candidate', { what: 'the old master has stepped down' })
  await writeAnywhere(
    sites.filter((site) => site !== old),
    'after',
    'the cut',
  )
  old.net.heal()
  await settledMaster(sites)
  await whenEqual(sites)
  assert.equal(await old.db.get('after'), 'the cut')
}
