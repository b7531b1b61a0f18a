// What the models have, what we call it, and the step in which it comes. A test shows a row by naming its id in its
// title: `test('[A3] ...')`, or `[A3 D1]` for several. `npm run features` prints the rows with their tests.
//
// Ids are stable: a row that is split gets letters (`A4a`, `A4b`), and no id is ever given to something else.

export interface FeatureRow {
  readonly id: string
  readonly model: string
  readonly ours: string
  /** `now`: a test must show it. `later`: it belongs to a later step. */
  readonly step: 'now' | 'later'
}

export interface FeatureTable {
  readonly letter: string
  readonly title: string
  readonly rows: readonly FeatureRow[]
}

type Line = readonly [id: string, step: 'now' | 'later', model: string, ours: string]

const extremeDbHa: readonly Line[] = [
  [
    'A1',
    'now',
    '`mco_HA_attach_master(db, connection string, params, &reason, timeout)`',
    "`attachMaster(db, 'tcp://host:port', { signal, connectTimeoutMs, ... })` -> `Attachment { synced, stopped, stop(), db }`",
  ],
  [
    'A2',
    'now',
    'db NULL: creates the database',
    "`attachMaster({ path }, ...)`, also with `':memory:'`: the new database is `attachment.db`",
  ],
  [
    'A3',
    'now',
    'db open: it switches to replica mode and is synchronised',
    '`attachMaster(db, ...)`: reads go on, writes are refused with NOT_MASTER naming the master, readers keep their snapshots',
  ],
  ['A4a', 'now', 'connection strings: `host:port`', 'the addresses `host:port` and `tcp://host:port`'],
  [
    'A4b',
    'now',
    "connection strings: a pipe's name for PIPES",
    '`pipe:/tmp/test00` and a bare absolute path (pipe); `tls://host:port`',
  ],
  ['A4c', 'now', 'connection strings for UDP', '`udp://host:port`'],
  [
    'A5a',
    'now',
    'blocks: handshake, loads the state, waits for transactions',
    '`await attachment.synced` -> `{ kind, from, to, transactions, bytes, ms }`, kinds `equal` and `incremental`',
  ],
  ['A5b', 'now', 'the same, with the whole state to load', '`synced` with the kind `snapshot`'],
  [
    'A5c',
    'now',
    'the same, for a replica that was ahead of the master',
    '`synced` with the kind `rewound`; the lost transactions are kept in a file',
  ],
  [
    'A6',
    'now',
    'returns with a stop reason',
    '`await attachment.stopped` -> `{ reason, cause?, lsn, term }`: connection-lost, detached-by-master, handshake-refused, stopped, cancelled, became-master, apply-failed',
  ],
  ['A7a', 'now', 'an unrecoverable error ends it', 'the error is in `cause` of `stopped`'],
  ['A7b', 'now', 'ended by the master', '`master.detach(site)`'],
  ['A7c', 'now', 'local request (`mco_HA_replica_stop`)', '`attachment.stop()` finishes what was received'],
  ['A7d', 'now', '`mco_HA_cancel`', 'an aborted `signal` stops at once'],
  [
    'A8',
    'now',
    'after it returns: destroy the database, use it as master, or attach again',
    '`db.destroy()`, `db.serve()` and `attachMaster()`, all on the same open handle',
  ],
  [
    'A9a',
    'now',
    '`MCO_HAMODE_FORCE_MASTER`: sync, KILL_MASTER, detach, become master',
    '`attachMaster(db, ..., { takeOver: true })` and `db.takeOver()`: drain, hand over at an exact LSN, new term; nothing lost',
  ],
  [
    'A9b',
    'now',
    '`disable_writes_on_kill`',
    'a master that is replaced by one of a higher term ends its `serve()` with `replaced` and refuses writes',
  ],
  [
    'A10',
    'later',
    'Binary Schema Evolution',
    '`schemaVersion` and migrations of collections: a newer replica converts while it syncs and follows, then takes over',
  ],
  [
    'A11',
    'now',
    'return codes: OK, `MCO_E_HA_PROTOCOLERR`, `MCO_E_HA_IOERROR`, `MCO_E_NW_TIMEOUT`, other `MCO_E_NW_*`',
    'the codes PROTOCOL_INCOMPATIBLE, IO_ERROR, CONNECT_TIMEOUT, ADDRESS_INVALID, CONNECTION_CLOSED, HANDSHAKE_FAILED ...',
  ],
  [
    'A12',
    'now',
    '`mco_HA_attach_replica` (listen, one replica each call)',
    '`await db.serve({ listen, ... })` -> `Master { addresses, replicas, detach(), setQuorum(), stop(), stopped }`: the accept loop is inside',
  ],
  ['A13', 'now', '`max_number_of_replicas`, MAXREPLICAS', '`maxReplicas`, TOO_MANY_REPLICAS'],
  [
    'A14',
    'now',
    '`initial_timeout` 60 s, `commit_timeout`, `synch_timeout`, `detach_timeout`, `wait_data_timeout` 10 s, keep-alive',
    '`initialTimeoutMs`, `sendTimeoutMs`, `ackTimeoutMs`, `detachTimeoutMs`, `silenceTimeoutMs`; same defaults; keep-alives are automatic',
  ],
  ['A15a', 'now', 'synchronous (default)', '`acks`: the policies, for the group and for one commit'],
  [
    'A15b',
    'now',
    'asynchronous with a byte buffer',
    "`mode: 'async'`, `maxLagBytes` with `onFull: 'wait' | 'detach' | 'reject'`",
  ],
  ['A15c', 'now', 'window of n', '`window: n`, `flushWindow()`'],
  [
    'A15d',
    'now',
    '`FORCE_SYNC`',
    'a replica may ask to be synchronous under an asynchronous master (`sync: true`)',
  ],
  [
    'A16a',
    'now',
    'quorum: least connected replicas to accept writes (a gate)',
    '`quorum: n` and `setQuorum(n)` at run time, `NO_QUORUM { have, need }`',
  ],
  [
    'A16b',
    'now',
    '(the model lacks it)',
    'acks are counted for each commit; a commit without them is OUTCOME_UNKNOWN',
  ],
  ['A17', 'now', 'code 433: committed, a replica was detached', 'the receipt says `acks` and `detached`'],
  [
    'A18a',
    'now',
    'hot synchronisation, chunks and delay',
    "`initialSync: 'live'` (default) with `chunkRecords` 100, `chunkBytes` 100 KiB, `chunkDelayMs` 0: the master writes on meanwhile",
  ],
  ['A18b', 'now', 'static synchronisation', "`initialSync: 'blocking'`"],
  [
    'A18c',
    'now',
    'stateful synchronisation',
    'incremental from the log, as far back as `retain: { transactions, bytes, ms }` keeps it',
  ],
  [
    'A19',
    'now',
    '`EXPLICIT_WRITE_ACCESS`',
    'a database that was a replica stays read-only until `serve()`, `promote()` or `standalone()`',
  ],
  [
    'A20',
    'now',
    '16 replica notifications',
    'one typed event stream: `attachment.on(...)`, `for await (const event of attachment.events())`',
  ],
  ['A21', 'now', 'error handler on detach', "`master.on('detached', { site, code, cause })`"],
  [
    'A22',
    'now',
    'batch commit on the replica (`batch_commit_length`, `_bsize`, `_period`)',
    '`applyBatch: { transactions, bytes, delayMs }`',
  ],
  ['A23a', 'now', 'several channels', 'several `listen` addresses at once'],
  [
    'A23b',
    'now',
    'own transports by vtable',
    'the `Transport` interface, `registerTransport(scheme, transport)`, a conformance suite that any transport can run',
  ],
  ['A23c', 'now', 'transport TCP', 'replication over TCP'],
  ['A23d', 'now', 'transport pipes', 'replication over `pipe:`'],
  ['A23e', 'now', 'transport UDP', 'replication over `udp://`'],
  [
    'A24',
    'now',
    'multicast, reliable multicast with retries',
    "`udp://` with `multicast: 'group:port'`: one datagram stream to all, repair by re-request",
  ],
  [
    'A25',
    'now',
    'TLS, compression 0-9',
    "`tls: { ca, cert, key }`, mutual; `compression: 'none' | 'zstd' | 'deflate'`, negotiated",
  ],
  [
    'A26a',
    'now',
    'replica in the same process',
    'a master and its replica may be two handles of one process',
  ],
  ['A26b', 'now', 'replica in the same process, without a network', 'the `memory://` transport'],
  ['A26c', 'now', 'cascade', 'a replica may `serve()` in its turn'],
  ['A26d', 'now', 'partial replication', 'views with a filter'],
  [
    'A27a',
    'now',
    'per-channel byte counts',
    '`master.replicas[i]`: state, acked LSN, lag in records, bytes and ms, bytes in and out, round trip; `status()`',
  ],
  ['A27b', 'later', 'REST hook', 'status and metrics over HTTP'],
  [
    'A28',
    'later',
    'xSQL `auto` mode: try the masters in turn, else become master',
    "`db.join({ policy: 'first-up' })` beside elections",
  ],
  [
    'A29',
    'now',
    'Data Relay: iterate committed changes',
    '`for await (const change of db.changes({ from: lsn }))`, resumable',
  ],
]

const baseApi: readonly Line[] = [
  [
    'B1',
    'now',
    '`rep_set_transport(envid, send)`; flags ANYWHERE, NOBUFFER, PERMANENT, REREQUEST',
    '`db.replication({ site, send(control, rec, to, { lsn, permanent, noBuffer, anywhere, rerequest }) })`',
  ],
  ['B2', 'now', '`rep_start(cdata, MASTER | CLIENT)`', "`rep.start('master' | 'replica', { data })`"],
  [
    'B3',
    'now',
    '`rep_process_message(control, rec, envid, &ret_lsn)` and its nine results',
    '`await rep.processMessage(control, rec, from)` -> `{ kind, lsn?, data?, reason? }`',
  ],
  [
    'B4',
    'now',
    'EINVAL: no transport, not open, a Replication Manager application, invalid parameter',
    'INVALID_STATE or `TypeError`, each with its own sentence',
  ],
  [
    'B5',
    'now',
    'any caller may process, the same handle',
    'calls may overlap; the effect is as if one after the other, in the order of the calls',
  ],
  [
    'B6',
    'now',
    '`rep_elect(nsites, nvotes)`, UNAVAIL',
    '`await rep.elect({ sites, votes, signal })` -> `elected`, `other` or `unavailable` with its reason',
  ],
  [
    'B7',
    'now',
    '`rep_set_nsites, _priority, _limit, _request, _timeout, _clockskew, _config` and the getters',
    'one options object, one `configure()` at run time, `config` to read; durations in ms; heartbeats on',
  ],
  [
    'B8a',
    'now',
    '`rep_set_config`: AUTOINIT, DELAYCLIENT, INMEM, NOWAIT, AUTOROLLBACK',
    '`autoInit`, `delaySync`, `:memory:`, `autoRewind`; nothing ever waits for a site that synchronises: reads go on, or are refused with SYNCING',
  ],
  [
    'B8b',
    'now',
    '`rep_set_config`: LEASE, BULK; `rep_set_clockskew`',
    '`leases`, with `durationMs` and `clockSkew`; `bulk`',
  ],
  ['B8c', 'now', '`rep_set_config`: ELECTIONS, 2SITE_STRICT', '`elections`, `twoSites` of `db.join()`'],
  ['B9', 'now', '`rep_sync`', '`rep.sync()`'],
  ['B10', 'now', '`rep_set_view(fn)`', '`view: true | { filter(store) }`, kept in the database'],
  ['B11', 'now', '`rep_stat`, clear', '`rep.stats({ reset })`, a plain object with the fields worth having'],
  [
    'B12',
    'now',
    '`txn_applied(token, timeout)`, `set_commit_token`',
    "`receipt.token`; `db.outcome(token, { timeoutMs })` -> `'applied' | 'pending' | 'lost'`; `db.get(key, { after: token })`",
  ],
  [
    'B13',
    'now',
    'master leases',
    "`leases: { durationMs, clockSkew }`; `get(key, { consistency: 'linearizable' })`; a lease that has run out is an error",
  ],
  [
    'B14',
    'now',
    'events MASTER, CLIENT, NEWMASTER, ELECTED, STARTUPDONE, INIT_DONE, WOULD_ROLLBACK ...',
    'typed events `master`, `replica`, `newMaster`, `elected`, `synced`, `snapshotDone`, `rewound`; `newMaster` before `synced`',
  ],
  [
    'B15a',
    'now',
    'delayed sync, client-to-client sync, throttling, rerequest backoff, gap handling, internal init',
    'the same behaviours, under our words',
  ],
  ['B15b', 'now', 'bulk transfer', 'the same behaviour, under our words'],
  [
    'B15c',
    'now',
    'abbreviated init',
    'a replica that has lost its store, not its log, takes the rows alone again',
  ],
]

const replicationManager: readonly Line[] = [
  [
    'C1',
    'now',
    '`repmgr_start(MASTER | CLIENT | ELECTION)`',
    "`await db.join({ site, listen, seeds, start: 'election' | 'master' | 'replica' })` -> `Group`",
  ],
  [
    'C2',
    'now',
    '`DB_SITE`: local, group creator, bootstrap helper, peer, remove; membership kept in the database; ADDING, PRESENT, DELETING',
    '`group.members`, `addMember()`, `removeMember()`, `join({ seeds })`; an interrupted change ends as if done or not begun',
  ],
  [
    'C3',
    'now',
    'ack policies ALL, ALL_AVAILABLE, ALL_PEERS, NONE, ONE, ONE_PEER, QUORUM; PERM_FAILED',
    '`acks` in a group that runs itself; per-commit result instead of an event that names no transaction',
  ],
  [
    'C4',
    'later',
    'timeouts ACK, CHECKPOINT_DELAY, CONNECTION_RETRY, ELECTION, ELECTION_RETRY, FULL_ELECTION, HEARTBEAT_MONITOR, HEARTBEAT_SEND, LEASE, WRITE_FORWARD',
    'the same, in ms',
  ],
  [
    'C5',
    'later',
    '`repmgr_channel`, `send_msg`, `send_request`, `msg_dispatch`',
    "`group.channel(site | 'master')`: `send(bytes)`, `request(bytes, { timeoutMs })`; `group.on('message')`",
  ],
  [
    'C6',
    'later',
    'write forwarding',
    '`forwardWrites: true`: writes run on a replica and commit at the master, exactly once, also across a failover',
  ],
  [
    'C7a',
    'now',
    'preferred master; 2SITE_STRICT',
    "`twoSites: 'strict' | 'available' | { preferredMaster: site }`",
  ],
  ['C7b', 'later', 'a site that votes and has no data', 'a `witness`'],
  [
    'C8',
    'now',
    'site list, max ack LSN, events CONNECT_*, SITE_ADDED ..., DUPMASTER, MASTER_FAILURE, ELECTION_FAILED, INQUEUE_FULL',
    '`group.sites`, events of the same meaning',
  ],
  ['C9', 'later', 'incoming queue bound 100 MB', '`limits.inboundBytes`'],
  ['C10a', 'now', 'TLS', '`tls`: certificates on both sides, which name the sites'],
  ['C10b', 'later', 'socket approval', '`approve(socket)`'],
  [
    'C11',
    'later',
    'autotakeover between processes; several processes in one environment',
    'several processes of a host on one database',
  ],
  ['C12', 'later', '`db_replicate`', '`coterie serve` and `coterie attach`'],
]

const database: readonly Line[] = [
  ['D1a', 'now', 'key-value access', '`get`, `getMany`, `has`, `put`, `del`, `batch`'],
  [
    'D1b',
    'now',
    'ordered access, cursors, bulk',
    '`entries/keys/values({ gt, gte, lt, lte, reverse, limit })`, `clear(range)`',
  ],
  ['D2', 'now', 'named databases', "`db.store('name', { keyEncoding, valueEncoding })`"],
  [
    'D3',
    'later',
    'secondary indexes; schema classes with indexes',
    "`db.collection('users', { schema, key, indexes })`: any Standard Schema validates; unique and multi indexes",
  ],
  ['D4a', 'now', 'transactions, isolation', '`transact`; serialisable; sync and async functions'],
  [
    'D4b',
    'now',
    'commit durability SYNC, WRITE_NOSYNC, NOSYNC',
    "`durability: 'sync' | 'written' | 'memory'`",
  ],
  ['D5', 'now', 'snapshots (MVCC)', '`db.snapshot()`'],
  ['D6', 'now', 'in-memory', "`open(':memory:')`"],
  ['D7a', 'now', 'checkpoint and archive utilities', '`coterie checkpoint`, `coterie archive`'],
  ['D7b', 'now', 'recover and verify utilities', '`coterie verify`: it says where the damage is'],
  ['D7c', 'later', 'recover utility', '`coterie repair`: damaged records are fetched again from a peer'],
  ['D7d', 'now', 'printlog utility', '`coterie log`'],
  ['D7e', 'now', 'dump and load utilities', '`coterie dump`, `coterie load`'],
  ['D7f', 'now', 'hotbackup utility', '`coterie backup`, `coterie restore`'],
  ['D7g', 'now', 'stat utility', '`coterie stat`'],
  [
    'D8a',
    'now',
    'on-disk format versions',
    'versioned formats, frozen fixtures; a version that is not known is refused',
  ],
  ['D8b', 'later', 'upgrade utility', 'upgrade on open'],
]

const oursAlone: readonly Line[] = [
  ['E1', 'now', '-', 'a status line that says what could be lost now'],
  ['E2', 'now', '-', 'a divergent tail kept as a file, not discarded'],
  ['E3', 'now', '-', 'a simulator that runs whole groups'],
  ['E4', 'later', '-', 'an `abstract-level` face and its public test suite'],
  ['E5', 'later', '-', 'a live partial replica in a browser tab'],
  ['E6', 'later', '-', 'point-in-time restore'],
  ['E7', 'later', '-', 'metrics, traces and a dashboard'],
  ['E8', 'now', '-', 'a `kill -9` demo that counts'],
]

function table(letter: string, title: string, lines: readonly Line[]): FeatureTable {
  return { letter, title, rows: lines.map(([id, step, model, ours]) => ({ id, step, model, ours })) }
}

export const featureTables: readonly FeatureTable[] = [
  table('A', 'eXtremeDB HA', extremeDbHa),
  table('B', 'Berkeley DB, Base API', baseApi),
  table('C', 'Berkeley DB, Replication Manager', replicationManager),
  table('D', 'The database itself', database),
  table('E', 'What none of them has', oursAlone),
]
