// A group as any of its sites shows it: who is there, how far each has got, and what could be lost.
//
// A site knows itself and, as master, its replicas exactly; of the others it knows what they last told (Hello, at most
// `helloMs` old while they are heard). Every figure of another site says how old it is.

import { majorityOf, memberOf, type TwoSites } from '../base/membership.ts'
import type { ReplicaView, SiteView } from '../replication/core-options.ts'
import type { JoinSettings } from './join-options.ts'
import type { Site } from './site.ts'

/** The master of a group, as this site knows it. */
export interface GroupMaster {
  readonly site: string
  readonly term: number
  readonly address: string
}

/** One site of the group, as this one knows it. */
export interface GroupSite {
  readonly site: string
  /** It is this very site. */
  readonly isSelf: boolean
  /** It votes. False for one that is on its way to become a member, or was removed. */
  readonly isMember: boolean
  /** `away`: there is no connection to it, or nothing was heard on it for a silence timeout. */
  readonly state: 'master' | 'replica' | 'syncing' | 'candidate' | 'alone' | 'away'
  readonly address: string
  readonly priority: number | undefined
  readonly version: string | undefined
  readonly term: number | undefined
  readonly lastLsn: number | undefined
  readonly durableLsn: number | undefined
  readonly appliedLsn: number | undefined
  readonly committedLsn: number | undefined
  /** Records of the master that are not durable there. */
  readonly lagRecords: number | undefined
  /** Known to the master only. */
  readonly lagMs: number | undefined
  /** 99 % of its commits (a master) or log syncs (others) took no longer. */
  readonly ackMs: number | undefined
  /** So long ago these figures were told; 0 for this site. */
  readonly heardMs: number | undefined
  readonly linked: boolean
}

export interface GroupStatus {
  readonly role: 'master' | 'replica' | 'candidate'
  readonly term: number
  readonly master: GroupMaster | undefined
  readonly members: readonly string[]
  /**
   * How many members an election and a quorum commit need now. Of two that go on alone one, as soon as this site is
   * certain that the other one knows it as well; until then both.
   */
  readonly majority: number
  readonly twoSites: TwoSites
  readonly sites: readonly GroupSite[]
  /** How many members can be lost now, whichever they are, and how many acknowledged commits with them. */
  readonly canLose: { readonly sites: number; readonly commits: number }
  /** For example `can lose: 1 site, 0 commits`. */
  readonly canLoseText: string
  /** The oldest figure that `canLose` was computed from is so old. */
  readonly ageMs: number
  readonly elections: number
  readonly electionsWon: number
  readonly stepDowns: number
  readonly handOvers: number
}

interface Own {
  readonly address: string
  readonly settings: JoinSettings
}

export function groupSites(site: Site, own: Own): GroupSite[] {
  const { core } = site
  const now = site.now()
  const views = new Map(core.sites.map((view) => [view.site, view]))
  const replicas = new Map(site.replicas.map((replica) => [replica.site, replica]))
  const ids = new Set<string>([
    ...(core.membership?.members ?? []).map((member) => member.site),
    site.site,
    ...[...views.values()].filter((view) => view.linked).map((view) => view.site),
    ...replicas.keys(),
  ])
  const masterLsn = masterLastLsn(site, views)
  return [...ids].sort().map((id) => {
    const isMember = memberOf(core.membership, id) !== undefined
    if (id === site.site) return ownSite(site, own, { isMember, masterLsn })
    const facts = { view: views.get(id), replica: replicas.get(id), now, masterLsn, isMember }
    return otherSite(site, own, id, facts)
  })
}

function masterLastLsn(site: Site, views: ReadonlyMap<string, SiteView>): number | undefined {
  const heard = site.core.heardMaster
  if (heard === undefined) return undefined
  return heard.site === site.site ? site.core.lastLsn : views.get(heard.site)?.last.lsn
}

function ownSite(
  site: Site,
  own: Own,
  facts: { isMember: boolean; masterLsn: number | undefined },
): GroupSite {
  const { core } = site
  const { masterLsn, isMember } = facts
  return {
    site: site.site,
    isSelf: true,
    isMember,
    state: ownState(site),
    address: own.address,
    priority: own.settings.priority,
    version: own.settings.version,
    term: core.term,
    lastLsn: core.lastLsn,
    durableLsn: core.durableLsn,
    appliedLsn: core.appliedLsn,
    committedLsn: core.committedLsn,
    lagRecords: masterLsn === undefined ? undefined : Math.max(0, masterLsn - core.durableLsn),
    lagMs: undefined,
    ackMs: site.ackMicros / 1000,
    heardMs: 0,
    linked: true,
  }
}

function ownState(site: Site): GroupSite['state'] {
  const { core } = site
  if (core.role === 'master') return site.isWriter ? 'master' : 'candidate'
  if (core.heardMaster === undefined) return core.isMember ? 'candidate' : 'alone'
  return core.isSynced ? 'replica' : 'syncing'
}

function otherSite(
  site: Site,
  own: Own,
  id: string,
  facts: {
    readonly view: SiteView | undefined
    readonly replica: ReplicaView | undefined
    readonly now: number
    readonly masterLsn: number | undefined
    readonly isMember: boolean
  },
): GroupSite {
  const { view, replica, now, masterLsn, isMember } = facts
  const heardAt = Math.max(view?.heardAt ?? 0, replica?.heardAt ?? 0)
  const isConnected = view?.linked === true || replica !== undefined
  const { silenceTimeoutMs, electionTimeoutMs } = own.settings.timings
  // At a master a member without an attachment has nothing of what is written now.
  const isGone = site.isWriter && isMember && replica === undefined
  const isHeard = isConnected && now - heardAt <= (isGone ? electionTimeoutMs : silenceTimeoutMs)
  const durableLsn = replica?.durableLsn ?? view?.durableLsn
  const lag = masterLsn === undefined || durableLsn === undefined ? undefined : masterLsn - durableLsn
  return {
    site: id,
    isSelf: false,
    isMember,
    state: isHeard ? otherState(view, replica) : 'away',
    address: view?.address ?? memberOf(site.core.membership, id)?.address ?? replica?.member?.address ?? '',
    priority: view?.priority,
    version: view?.version,
    term: view?.term,
    lastLsn: replica?.receivedLsn ?? view?.last.lsn,
    durableLsn,
    appliedLsn: replica?.appliedLsn ?? view?.appliedLsn,
    committedLsn: view?.committedLsn,
    lagRecords: replica?.lagRecords ?? (lag === undefined ? undefined : Math.max(0, lag)),
    lagMs: replica?.lagMs,
    ackMs: view === undefined ? undefined : view.ackMicros / 1000,
    heardMs: heardAt === 0 ? undefined : now - heardAt,
    linked: view?.linked === true,
  }
}

function otherState(view: SiteView | undefined, replica: ReplicaView | undefined): GroupSite['state'] {
  if (replica !== undefined) return replica.inStep ? 'replica' : 'syncing'
  return view?.activity ?? 'alone'
}

export function groupStatus(
  site: Site,
  own: Own & { readonly role: GroupStatus['role']; readonly master: GroupMaster | undefined },
): GroupStatus {
  const { core } = site
  const sites = groupSites(site, own)
  const { counters, membership } = core
  const loss = whatCanBeLost(site, sites)
  return {
    role: own.role,
    term: core.term,
    master: own.master,
    members: membership?.members.map((member) => member.site) ?? [],
    majority: needOf(site),
    twoSites: membership?.twoSites ?? 'strict',
    sites,
    ...loss,
    elections: counters.elections,
    electionsWon: counters.electionsWon,
    stepDowns: counters.stepDowns,
    handOvers: counters.handOvers,
  }
}

/** So many members go on without the others. */
function needOf({ core }: Site): number {
  if (core.membership === undefined) return 0
  return core.goesOnAlone ? 1 : majorityOf(core.membership)
}

type Loss = Pick<GroupStatus, 'canLose' | 'canLoseText' | 'ageMs'>

/**
 * So many members can go, whichever they are, that the rest still is a majority and one of the rest has every
 * acknowledged commit. Commits are those that every figure used here is new enough to speak of.
 */
function whatCanBeLost(site: Site, sites: readonly GroupSite[]): Loss {
  const { membership } = site.core
  const members = sites.filter((each) => each.isMember)
  if (membership === undefined || members.length === 0) {
    return {
      canLose: { sites: 0, commits: 0 },
      canLoseText: 'can lose: 0 sites; there is no group yet',
      ageMs: 0,
    }
  }
  const alive = members.filter((each) => each.state !== 'away')
  const ageMs = Math.round(Math.max(0, ...alive.map((each) => each.heardMs ?? 0)))
  const committedLsn = site.isWriter
    ? site.core.committedLsn
    : Math.min(...alive.map((each) => each.committedLsn ?? 0))
  const has = (each: GroupSite): boolean => (each.durableLsn ?? 0) >= committedLsn
  const holders = alive.filter(has).length
  const need = needOf(site)
  const spare = Math.min(alive.length - need, holders - 1)
  if (spare > 0) {
    const text = `can lose: ${spare} ${spare === 1 ? 'site' : 'sites'}, 0 commits`
    return { canLose: { sites: spare, commits: 0 }, canLoseText: text, ageMs }
  }
  const why =
    alive.length <= need
      ? `${alive.length} of ${members.length} members are heard, ${need} are needed`
      : `one site alone has the last commits`
  const best = alive.filter((each) => !has(each)).map((each) => each.durableLsn ?? 0)
  const commits = holders > 1 || members.length === 1 ? 0 : committedLsn - Math.max(0, ...best)
  return { canLose: { sites: 0, commits }, canLoseText: `can lose: 0 sites; ${why}`, ageMs }
}
