// What a commit waits for: the vocabulary that the database, the replication core and the operator share.

import type { Lsn } from './lsn.ts'

/**
 * Which replicas must attest a commit, after Berkeley DB's ack policies: none; any one; one that could become
 * master; a majority of the group, the master counted; all that could become master; all that are attached, and at
 * least a majority; all of the group; or so many replicas.
 */
export type AckPolicy = 'none' | 'one' | 'onePeer' | 'quorum' | 'allPeers' | 'allAvailable' | 'all' | number

/** Local durability: synced to stable storage; handed to the operating system; in this process's memory. */
export type Durability = 'sync' | 'written' | 'memory'

/** What an ack says of a record on the replica: it has arrived, it is on stable storage, its rows can be read. */
export type Attest = 'received' | 'durable' | 'applied'

/** A commit that asks for something else than its group does. */
export interface CommitException {
  readonly lsn: Lsn
  readonly acks: AckPolicy | undefined
  readonly durability: Durability
}
