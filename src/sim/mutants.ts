// Planted bugs, as data: each is one change of one source file that breaks a promise. `npm run sim:mutants` makes a copy
// of the sources for each, runs seeds on it, and fails if one survives: then the generator or a judge is too weak, and
// that is what must be mended. Production code knows nothing of this.
//
// A change that no longer fits its source is an error, so that no planted bug can vanish unnoticed.

import type { RunKind } from './stage.ts'

export interface Mutant {
  readonly name: string
  /** The runs that it is looked for in. Default: groups alone. */
  readonly kind?: RunKind
  /** Which promise it breaks, and what real systems did the same. */
  readonly why: string
  /** Under `src/`. */
  readonly file: string
  /** Stands in the file exactly once. */
  readonly find: string
  readonly replace: string
}

/** The source with the bug in it. Throws where the change does not fit. */
export function plantIn(source: string, { name, file, find, replace }: Mutant): string {
  const places = source.split(find).length - 1
  if (places !== 1) {
    throw new Error(`the planted bug ${name}: its text stands ${places} times in src/${file}, not once`)
  }
  return source.replace(find, () => replace)
}

export const mutants: readonly Mutant[] = [
  // ---- the log
  {
    name: 'ack-before-sync',
    why: 'a record counts as durable when its sync begins, not when it ends',
    file: 'log/log-writer.ts',
    find: `    flush.segment.file.sync((error) => {
      if (error === null) this.#land(flush)
      else this.poisonBy(error)`,
    replace: `    this.#land(flush)
    flush.segment.file.sync((error) => {
      if (error !== null) this.poisonBy(error)`,
  },
  {
    name: 'sync-retried',
    why: 'a failed sync is tried again and believed when it succeeds (fsyncgate)',
    file: 'log/log-writer.ts',
    find: `      if (error === null) this.#land(flush)
      else this.poisonBy(error)`,
    replace: `      if (error === null) this.#land(flush)
      else this.#sync(flush)`,
  },
  {
    name: 'write-error-swallowed',
    why: 'a write that failed goes on as if it had not',
    file: 'log/log-writer.ts',
    find: `        this.#failed(error, () => this.#write(flush))`,
    replace: `        this.#sync(flush)`,
  },
  {
    name: 'segment-name-not-synced',
    why: 'a new segment is written before its name is durable (ALICE)',
    file: 'log/log-folder.ts',
    find: `this.#spares.splice(this.#spares.indexOf(spare.path), 1)
    await this.sync()`,
    replace: 'this.#spares.splice(this.#spares.indexOf(spare.path), 1)',
  },
  {
    name: 'recovered-tail-not-rewritten',
    why: 'after a failed sync recovery trusts what the system says is clean',
    file: 'log/recovery.ts',
    find: `    await copyRange(file, file, walk.attestedEnd, dataEnd)
`,
    replace: '',
  },
  {
    name: 'damage-cut-as-torn',
    why: 'a record that was durable and does not verify is cut off in silence (PAR, ZooKeeper)',
    file: 'log/recovery.ts',
    find: 'if (durableAtLeast >= lsn || markedLsn >= lsn) {',
    replace: 'if (durableAtLeast > lsn + 1_000_000) {',
  },
  {
    name: 'history-kept-over-truncation',
    why: 'a log that was cut still claims the reigns that were cut off',
    file: 'log/truncation.ts',
    find: `  state.history = historyUpTo(state.history, lsn)
`,
    replace: '',
  },
  {
    name: 'truncation-too-short',
    why: 'one record of the divergent tail is left in the log',
    file: 'base/history.ts',
    find: 'return Math.min(endOfEntry(a, i), endOfEntry(b, j)) as Lsn',
    replace: 'return Math.min(endOfEntry(a, i) + 1, endOfEntry(b, j)) as Lsn',
  },
  {
    name: 'truncation-below-commit-point',
    why: 'a record more than diverges is taken back, committed or not',
    file: 'base/history.ts',
    find: 'return Math.min(endOfEntry(a, i), endOfEntry(b, j)) as Lsn',
    replace: 'return Math.max(0, Math.min(endOfEntry(a, i), endOfEntry(b, j)) - 1) as Lsn',
  },
  // ---- the store
  {
    name: 'applied-lsn-outside-transaction',
    why: 'the applied LSN is written before the rows that it speaks of (etcd 3.5)',
    file: 'store/applier.ts',
    find: `    await this.#store.write({
      writes: rows,
      meta,`,
    replace: `    await this.#store.write({ writes: [], meta })
    await this.#store.write({
      writes: rows,`,
  },
  {
    name: 'rows-before-applied-lsn',
    why: 'the rows are written before the applied LSN: a crash in between applies them twice',
    file: 'store/applier.ts',
    find: `    await this.#store.write({
      writes: rows,
      meta,`,
    replace: `    await this.#store.write({ writes: rows })
    await this.#store.write({
      writes: [],
      meta,`,
  },
  {
    name: 'row-cache-not-refreshed',
    why: 'a row that was read before it changed is read from the cache after',
    file: 'store/applier.ts',
    find: `        this.#options.cache?.applied(writes)
`,
    replace: '',
  },
  {
    name: 'trim-before-checkpoint',
    why: 'log goes before the store that replaces it is durable',
    file: 'database/engine.ts',
    find: `      reached = parts.appliedLsn
      await parts.store.flush()
`,
    replace: `      reached = parts.appliedLsn
`,
  },
  {
    name: 'log-trimmed-under-snapshot',
    why: 'the log that a replica needs after its snapshot is let go (etcd, rqlite)',
    file: 'database/engine.ts',
    find: 'replicator.retainFrom() ?? Number.MAX_SAFE_INTEGER,',
    replace: 'Number.MAX_SAFE_INTEGER,',
  },
  {
    name: 'snapshot-not-flushed',
    why: 'a snapshot is installed before its rows are durable',
    file: 'group/snapshot-staging.ts',
    find: `    await store.flush()
    await store.close()`,
    replace: '    await store.close()',
  },
  // ---- reading and committing on one site
  {
    name: 'dirty-read',
    why: 'a read outside a transaction shows what is not committed',
    file: 'database/engine.ts',
    find: 'return Math.max(this.#committedLsn, parts.appliedLsn) as Lsn',
    replace: 'return Math.max(Number.MAX_SAFE_INTEGER, parts.appliedLsn) as Lsn',
  },
  {
    name: 'overlay-kept-over-rewind',
    why: 'reads find what a rewind has taken back',
    file: 'database/engine.ts',
    find: `      overlay.clear()
      cache.clear()`,
    replace: '      cache.clear()',
  },
  {
    name: 'commit-resolves-early',
    why: 'a commit is acknowledged when the record before it may be',
    file: 'database/commit-queue.ts',
    find: 'if (waiter.lsn > committedLsn) break',
    replace: 'if (waiter.lsn > committedLsn + 1) break',
  },
  {
    name: 'unknown-told-as-failed',
    why: 'a commit whose master fell is said to have failed, and takes effect (MongoDB, Berkeley DB JE)',
    file: 'database/commit-queue.ts',
    find: `    this.#reign = undefined
    this.rejectAll('OUTCOME_UNKNOWN', why)`,
    replace: `    this.#reign = undefined
    this.rejectAll('NOT_MASTER', why)`,
  },
  {
    name: 'outcome-before-commit',
    why: 'a token is said to be applied while its record may still be rolled back',
    file: 'database/token.ts',
    find: `    if (!decided) return 'pending'
`,
    replace: '',
  },
  {
    name: 'lost-not-kept',
    why: 'transactions that were rolled back are not reported',
    file: 'database/lost-file.ts',
    find: '  if (transactions === 0) return undefined',
    replace: '  if (transactions >= 0) return undefined',
  },
  {
    name: 'lost-first-left-out',
    why: 'the first of the transactions that were rolled back is not reported',
    file: 'database/lost-file.ts',
    find: 'Math.max(lsnPlus(after, 1), log.firstLsn)',
    replace: 'Math.max(lsnPlus(after, 2), log.firstLsn)',
  },
  {
    name: 'state-not-synced',
    why: 'term and vote are written, but not synced, before they are told',
    file: 'database/site-state.ts',
    find: '  await files.replace(',
    replace: `  const replace = async (name: string, bytes: Uint8Array): Promise<void> => {
    const file = await files.open(name + '.tmp', 'create')
    await new Promise<void>((resolve) => file.write([bytes], 0, () => resolve()))
    await file.close()
    await files.rename(name + '.tmp', name)
  }
  await replace(`,
  },
  // ---- replication
  {
    name: 'old-term-counted',
    why: 'a record of an earlier term is committed by counting (Raft, figure 8)',
    file: 'replication/commitment.ts',
    find: `    const reignLsn = this.#reignLsn
    if (reignLsn === undefined) return false`,
    replace: '    const reignLsn = 0',
  },
  {
    name: 'quorum-one-short',
    why: 'one ack less than a majority is enough',
    file: 'replication/acks.ts',
    find: 'return Math.floor(sites / 2)',
    replace: 'return Math.floor(sites / 2) - 1',
  },
  {
    name: 'own-sync-not-waited-for',
    why: 'the master counts itself before its own sync',
    file: 'replication/commitment.ts',
    find: "if (durability === 'sync') return positions.ownDurableLsn",
    replace: "if (durability === 'sync') return positions.lastLsn",
  },
  {
    name: 'received-told-as-durable',
    why: 'a replica acknowledges as durable what it has only received (NATS JetStream)',
    file: 'replication/ack-sender.ts',
    find: 'return { receivedLsn: last.lsn, durableLsn, appliedLsn }',
    replace:
      'return { receivedLsn: last.lsn, durableLsn: last.lsn, appliedLsn: appliedLsn && durableLsn && appliedLsn }',
  },
  {
    name: 'old-session-obeyed',
    why: 'what a master said in an earlier attachment, replayed, is taken for the present one',
    file: 'replication/message-dispatch.ts',
    find: 'if (replica !== undefined && replica.peer === from && replica.session === message.session) {',
    replace: 'if (replica !== undefined && replica.peer === from) {',
  },
  {
    name: 'duplicate-taken-twice',
    why: 'records that are here already are taken again',
    file: 'replication/record-intake.ts',
    find: 'if (message.lastLsn <= last.lsn) {',
    replace: 'if (message.lastLsn < 0) {',
  },
  {
    name: 'gap-request-ignored',
    why: 'records that were lost on the way are never sent again',
    file: 'replication/feed.ts',
    find: '    this.#state.counters.repairs++',
    replace: '    if (this.#state.counters.repairs++ >= 0) return',
  },
  {
    name: 'gap-not-asked-for',
    why: 'a replica does not notice that records are missing',
    file: 'replication/record-intake.ts',
    find: '    if (now < this.#retry.dueAt) return undefined',
    replace: '    if (now < this.#retry.dueAt + 1_000_000_000) return undefined',
  },
  {
    name: 'diverged-tail-kept',
    why: 'a replica whose log has parted goes on as if it had not',
    file: 'replication/sync-up.ts',
    find: '  if (agreed === joiner.last.lsn) {',
    replace: '  if (agreed >= noLsn) {',
  },
  {
    name: 'trim-at-acks-of-the-fastest',
    why: 'log is kept for what was sent, not for what was received',
    file: 'replication/progress.ts',
    find: '    this.retainLsn = (this.#receivedLsn + 1) as Lsn',
    replace: '    this.retainLsn = (this.#sentMaxLsn + 1) as Lsn',
  },
  // ---- elections
  {
    name: 'persist-not-waited-for',
    why: 'term and vote are told while they are on their way to the disk',
    file: 'group/effect-loop.ts',
    find: `    this.#barrier = true
    const { term,`,
    replace: '    const { term,',
  },
  {
    name: 'vote-forgotten',
    why: 'a vote is given and not kept: after a restart the site votes again',
    file: 'group/effect-loop.ts',
    find: 'const promised = { term, termMaster, vote, promiseMs }',
    replace: 'const promised = { term, termMaster, vote: undefined && vote, promiseMs }',
  },
  {
    name: 'two-votes-in-a-term',
    why: 'a site votes for whoever asks',
    file: 'replication/election.ts',
    find: 'if (chosen !== undefined && chosen !== request.site) return',
    replace: 'if (chosen === request.site + request.site) return',
  },
  {
    name: 'logs-not-compared',
    why: 'whoever comes first is elected, whatever its log lacks',
    file: 'replication/election.ts',
    find: 'return a.term - b.term || a.lsn - b.lsn',
    replace: 'return 0 * (a.lsn - b.lsn)',
  },
  {
    name: 'lsn-before-term',
    why: 'the longer log wins, whatever the term of its last record',
    file: 'replication/election.ts',
    find: 'return a.term - b.term || a.lsn - b.lsn',
    replace: 'return a.lsn - b.lsn || a.term - b.term',
  },
  {
    name: 'majority-of-those-who-answer',
    why: 'who has more votes than refusals is elected',
    file: 'replication/election.ts',
    find: '    if (have < (this.#isAlone ? 1 : this.#electorate.majority)) return',
    replace: '    if (have * 2 <= this.#answered.size) return',
  },
  {
    name: 'step-down-forgotten',
    why: 'a master that hears no majority goes on (OSDI 2018: the isolated leader)',
    file: 'replication/roles.ts',
    find: 'if (this.#master?.hasLostMajority === true && this.#group?.election.isAutomatic !== false)',
    replace: 'if (this.#master?.hasLostMajority === undefined && this.#master !== undefined)',
  },
  {
    name: 'votes-of-earlier-terms',
    why: 'votes that were given in an earlier term are counted in this one',
    file: 'replication/election.ts',
    find: `    this.#votes.clear()
    this.#answered.clear()
    // On disk`,
    replace: `    this.#answered.clear()
    // On disk`,
  },
  {
    name: 'given-vote-not-kept',
    why: 'a master gives its vote with its place, and votes for another in the same term',
    file: 'replication/hand-overs.ts',
    find: 'state.raiseTerm(term, grouped ? undefined : site, site)',
    replace: 'state.raiseTerm(term, grouped ? undefined : site, undefined)',
  },
  {
    name: 'majority-not-asked',
    why: 'a master answers a read-only transaction without asking whether it still reigns (etcd)',
    file: 'replication/reign-check.ts',
    find: 'if (round === undefined || !voters.areMajority((site) => round.heard.has(site))) return',
    replace: 'if (round === undefined) return',
  },
  // ---- leases
  {
    name: 'lease-without-margin',
    why: 'a voter keeps its promise for as long as the lease by its own clock, which may run faster than the master’s',
    file: 'replication/lease-promise.ts',
    find: 'return Math.ceil(durationMs * clockSkew) + 1',
    replace: 'return Math.ceil(durationMs / clockSkew) + 1',
  },
  {
    name: 'lease-from-the-ack',
    why: 'a lease counts from when it was granted, not from when it was asked for',
    file: 'replication/lease.ts',
    find: 'const until = sentAt + lengthMs(',
    replace: 'const until = this.#state.now + lengthMs(',
  },
  {
    name: 'lease-of-one',
    why: 'one voter that has promised is enough for a lease',
    file: 'replication/lease.ts',
    find: 'return this.#voters.areMajority((site) => (this.#until.get(site) ?? 0) > now)',
    replace: 'return [...this.#until.values()].some((until) => until > now)',
  },
  {
    name: 'promise-broken',
    why: 'a voter that has promised a master votes for another all the same',
    file: 'replication/election.ts',
    find: 'if (!request.handover && state.promise.binds(request.site, state.now)) {',
    replace: 'if (!request.handover && state.promise.binds(request.site, state.now - 1e9)) {',
  },
  {
    name: 'promise-not-to-oneself',
    why: 'a site that has promised a master stands for election all the same, and votes for itself',
    file: 'replication/election.ts',
    find: 'return promise.binds(site, now + inMs)',
    replace: 'return promise.binds(site, now + inMs - 1e9)',
  },
  {
    name: 'promise-forgotten',
    why: 'a voter that was started again does not wait for what it promised before',
    file: 'replication/lease-promise.ts',
    find: 'if (this.#keptMs > 0) this.#until = now + this.#keptMs',
    replace: 'if (this.#keptMs > 1e9) this.#until = now + this.#keptMs',
  },
  // ---- the group
  {
    name: 'second-group-founded',
    why: 'a new site that reaches nobody founds a group of its own beside the one that there is',
    file: 'group/founding.ts',
    find: 'const haveAnswered = seeds.every((seed) => seed.site !== undefined && isHere.has(seed.site))',
    replace: 'const haveAnswered = seeds.length >= 0 && isHere.size > 0',
  },
  {
    name: 'heir-not-ready',
    why: 'the reign is handed over to a site that has not got all records yet',
    file: 'replication/handing-over.ts',
    find: `    progress.durableLsn === lastLsn &&
`,
    replace: '',
  },
  {
    name: 'members-two-at-a-time',
    why: 'the members change again before the last change is permanent (the single-server bug of Raft)',
    file: 'group/membership-keeper.ts',
    find: 'return core.hasPermanentInReign && core.permanentLsn >= core.membership.lsn',
    replace: 'return true',
  },
  // ---- sites that serve in their turn
  {
    name: 'relay-passes-on-at-once',
    kind: 'below',
    why: 'what goes below is on the disk of the one in the middle, and may yet be taken back',
    file: 'replication/relayed-log.ts',
    find: 'return Math.min(this.#state.permanentLsn, this.#state.durableLsn) as Lsn',
    replace: 'return this.#state.durableLsn',
  },
  {
    name: 'relay-before-its-own-disk',
    kind: 'below',
    why: 'what goes below is permanent, and not yet on the disk of the one in the middle',
    file: 'replication/relayed-log.ts',
    find: 'return Math.min(this.#state.permanentLsn, this.#state.durableLsn) as Lsn',
    replace: 'return Math.min(this.#state.permanentLsn, this.#state.last.lsn) as Lsn',
  },
  {
    name: 'relay-keeps-undone-batches',
    kind: 'below',
    why: 'records that were undone in the middle are sent below in place of those that took theirs',
    file: 'replication/relay.ts',
    find: `    this.#log.rewound(place)
    this.serving.feed.forget()`,
    replace: '    this.#log.rewound(place)',
  },
  {
    name: 'relay-undoes-what-may-count',
    kind: 'below',
    why: 'a site with more than the one in the middle knows to be permanent is told to undo it',
    file: 'replication/relay.ts',
    find: 'if (join.last.lsn <= last.lsn) return undefined',
    replace: 'if (join.last.lsn >= 0) return undefined',
  },
  {
    name: 'relay-hides-its-route',
    kind: 'below',
    why: 'nobody below learns whom the log comes through: sites that follow each other in a circle do for ever',
    file: 'replication/relay.ts',
    find: 'const above = source?.via ?? noSites',
    replace: 'const above = noSites',
  },
  {
    name: 'relay-trims-what-is-needed',
    kind: 'below',
    why: 'a site that is no master keeps no log for those that it serves',
    file: 'group/site.ts',
    find: '    return this.#retainFrom',
    replace: '    return this.isWriter ? this.#retainFrom : undefined',
  },
  {
    name: 'relay-speaks-for-the-old-master',
    kind: 'below',
    why: 'a new term is known below before its master is, and the old master taken for it',
    file: 'replication/replica.ts',
    find: `      return term > this.#term ? ignore('the master of the new term is not known yet') : undefined`,
    replace: `      if (term > this.#term) this.#adopt(term, before.site)
      return undefined`,
  },
  {
    name: 'reign-by-hand-not-committed',
    kind: 'served',
    why: 'a master that was started again reads as the newest what was committed before its last writes',
    file: 'group/site.ts',
    find: 'if (!core.mayBeDeposed && reignLsn !== undefined && engine.committedLsn >= reignLsn) return undefined',
    replace: 'if (!core.mayBeDeposed) return undefined',
  },
  // ---- views
  {
    name: 'view-counted',
    kind: 'served',
    why: 'the ack of a view makes up a quorum',
    file: 'replication/voters.ts',
    find: '    if (join.view) return false',
    replace: '',
  },
  {
    name: 'view-keeps-every-record',
    kind: 'below',
    why: 'a partial view stores the rows of records that its filter keeps out',
    file: 'store/applier.ts',
    find: 'if (filter === undefined || filter.keeps(key)) batch.write(key, value)',
    replace: 'if (filter === undefined || filter.keeps(key) || key.length > 0) batch.write(key, value)',
  },
  {
    name: 'view-keeps-every-row',
    kind: 'below',
    why: 'a partial view stores the rows of snapshots that its filter keeps out',
    file: 'group/snapshot-staging.ts',
    find: 'if (rowFilter === undefined || rowFilter.keeps(key)) writes.push({ key, value })',
    replace:
      'if (rowFilter === undefined || rowFilter.keeps(key) || key.length > 0) writes.push({ key, value })',
  },
  {
    name: 'view-forgets-its-answers',
    kind: 'below',
    why: 'rows are stored before the disk knows that their store is kept',
    file: 'store/applier.ts',
    find: `    if (filter !== undefined) await filter.settle()
`,
    replace: '',
  },
  // ---- two sites of which one goes on alone
  {
    name: 'pair-alone-before-both-know',
    kind: 'pair',
    why: 'one of two goes on alone by a record that the other one may not have',
    file: 'replication/core-state.ts',
    find: 'return mayGoOnAlone(membership) && membership !== undefined && membership.lsn <= this.#permanentLsn',
    replace: 'return mayGoOnAlone(membership)',
  },
  {
    name: 'pair-halves-forgotten',
    kind: 'pair',
    why: 'both that go on alone take terms of the same half',
    file: 'replication/electorate.ts',
    find: 'remainder: own < other.site ? 0 : 1',
    replace: 'remainder: own < other.site ? 0 : 0',
  },
  {
    name: 'pair-strict-alone',
    kind: 'pair',
    why: 'a strict master whose replica is away asks nobody for a quorum',
    file: 'replication/acks.ts',
    find: 'return group.goesOnAlone === true ? Math.min(group.attached, majority) : majority',
    replace: 'return Math.min(group.attached, majority)',
  },
  {
    name: 'pair-alone-while-followed',
    kind: 'pair',
    why: 'a master that may go on alone does not wait for the one that is there',
    file: 'replication/acks.ts',
    find: 'return group.goesOnAlone === true ? Math.min(group.attached, majority) : majority',
    replace: 'return group.goesOnAlone === true ? 0 : majority',
  },
  {
    name: 'pair-alone-is-permanent',
    kind: 'pair',
    why: 'what one of two has committed alone passes for what no later master lacks',
    file: 'replication/master.ts',
    find: 'sitesKnown: sites ?? 1 + this.attachments.knownSites,',
    replace: 'sitesKnown: goesOnAlone ? 1 : (sites ?? 1 + this.attachments.knownSites),',
  },
  {
    name: 'pair-alone-though-heard',
    kind: 'pair',
    why: 'one of two goes on alone while the other one is there',
    file: 'replication/election.ts',
    find: 'else if (pair !== undefined && !this.#greetings.wasHeard(pair.other, this.#beganAt)) this.#goAlone(pair)',
    replace: 'else if (pair !== undefined) this.#goAlone(pair)',
  },
  {
    name: 'pair-committed-not-kept',
    kind: 'pair',
    why: 'only what was never committed is written down before it is undone',
    file: 'group/rewinding.ts',
    find: 'const lost = await keepLost(engine.folder, engine.parts.log, agreedLsn)',
    replace:
      'const lost = await keepLost(engine.folder, engine.parts.log, Math.max(agreedLsn, engine.committedLsn) as Lsn)',
  },
  {
    name: 'pair-undo-not-told',
    kind: 'pair',
    why: 'commits are taken back, and nobody hears of it',
    file: 'group/rewinding.ts',
    find: "site.events.emit('rewound', { to, lost })",
    replace: "if (lost === undefined) site.events.emit('rewound', { to, lost })",
  },
  {
    name: 'pair-store-ahead-of-its-log',
    kind: 'pair',
    why: 'a rewind cuts the log while the disk of the store has the rows of what goes',
    file: 'database/engine.ts',
    find: `      await parts.store.flush()
      await log.truncateAfter(to)`,
    replace: '      await log.truncateAfter(to)',
  },
  {
    name: 'pair-newest-alone',
    kind: 'pair',
    why: 'one of two that is alone says that what it reads is the newest',
    file: 'replication/voters.ts',
    find: 'if (elections) return membership === undefined || this.#isMajority(membership, isHeard)',
    replace:
      'if (elections) return membership === undefined || this.goesOnAlone || this.#isMajority(membership, isHeard)',
  },
  {
    name: 'preferred-follows-blindly',
    kind: 'pair',
    why: 'the preferred master undoes what it has committed for what the other one has',
    file: 'replication/preference.ts',
    find: 'return accept.agreedLsn < state.committedLsn',
    replace: 'return accept.agreedLsn > state.committedLsn',
  },
  {
    name: 'preferred-insists-at-once',
    kind: 'pair',
    why: 'the preferred master takes the reign before it has what the other one has committed meanwhile',
    file: 'replication/preference.ts',
    find: `  if (accept.plan !== 'rewind' && accept.plan !== 'snapshot') return false
  return accept.agreedLsn < state.committedLsn`,
    replace: '  return accept.agreedLsn < accept.committedLsn',
  },
  {
    name: 'preferred-never-asks',
    kind: 'pair',
    why: 'the preferred master follows for good when it has been away',
    file: 'replication/preference.ts',
    find: 'if (group.election.priority === 0 || now < this.#askAt) return',
    replace: 'if (group.election.priority >= 0 || now < this.#askAt) return',
  },
]
