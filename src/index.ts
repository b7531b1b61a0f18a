// The public surface of Coterie. What is not exported here may change without notice.

export { AssertionFailure } from './base/assert.ts'
export {
  CoterieError,
  type ErrorCode,
  type ErrorEntry,
  errorCatalogue,
  isCoterieError,
} from './base/errors.ts'
export { limits } from './base/limits.ts'
export type { TwoSites } from './base/membership.ts'
export type { AckPolicy, Attest, Durability } from './base/policy.ts'
export type { BackupOptions, BackupProgress, BackupResult } from './database/backup.ts'
export type { Change, ChangesOptions, ChangeWrite } from './database/changes.ts'
export type { CommitOptions } from './database/commit-queue.ts'
export type { Encoding } from './database/encoding.ts'
export type { StoreFilter } from './database/kept-stores.ts'
export type { KeyRange } from './database/key-space.ts'
export type { BatchOperation, GetOptions, NamedStore, StoreEncodings } from './database/named-store.ts'
export type { Receipt } from './database/receipt.ts'
export type { LogRecord, RecordsOptions } from './database/records.ts'
export type { Retention } from './database/retention.ts'
export type { RowCursor } from './database/row-cursor.ts'
export type { Snapshot, SnapshotStore } from './database/snapshot.ts'
export type { StoreStat } from './database/store-stats.ts'
export type { Outcome } from './database/token.ts'
export type {
  Transaction,
  TransactionStore,
  TransactOptions,
  TransactResult,
} from './database/transaction.ts'
export type { Host } from './env/host.ts'
export type { AppSend, SendFlags, SiteAddress } from './group/app-network.ts'
export type { AttachOptions } from './group/attach-options.ts'
export type { Attachment, AttachmentEvent } from './group/attachment.ts'
export { Database, type Progress, type VerifyResult } from './group/database.ts'
export type {
  AttachmentEvents,
  DatabaseEvents,
  GroupEnd,
  GroupEvents,
  MasterEvents,
  ReplicationEvents,
  StopResult,
  SyncKind,
  SyncResult,
} from './group/events.ts'
export type { Group, GroupEvent } from './group/group.ts'
export type { GroupMaster, GroupSite, GroupStatus } from './group/group-status.ts'
export type { ElectResult } from './group/held-election.ts'
export type { JoinOptions } from './group/join-options.ts'
export type { LeaseOptions } from './group/lease-options.ts'
export type { Master, ServeEnd } from './group/master.ts'
export type { ProcessResult } from './group/message-results.ts'
export { attachMaster, type OpenOptions, open } from './group/open.ts'
export type { Replication } from './group/replication.ts'
export type {
  ElectOptions,
  ReplicationOptions,
  ReplicationSettings,
  StartOptions,
} from './group/replication-options.ts'
export type { ReplicationStats } from './group/replication-stats.ts'
export { type RestoreOptions, restore } from './group/restore.ts'
export type { ServeOptions } from './group/serve-options.ts'
export type { DatabaseStatus, ReplicaStatus, ViewStatus } from './group/status.ts'
export type { TakeOverOptions, TakeOverResult } from './group/taking-over.ts'
export type { TransferResult } from './group/transfer.ts'
export type { Transferred } from './group/transferring.ts'
export { registerTransport } from './group/transports.ts'
export type { ViewOption } from './group/views.ts'
export type { Address } from './transport/address.ts'
export type { LinkIdentity, LinkOptions, LinkSettings, TlsOptions } from './transport/link-options.ts'
export type {
  Connection,
  ConnectionHandlers,
  ConnectOptions,
  Listener,
  ListenOptions,
  SendHints,
  SharedChannel,
  Transport,
} from './transport/transport.ts'
