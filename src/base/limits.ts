// Bounds that hold everywhere. Changing one changes what old peers accept: see docs/protocol.md, section "Limits".

export const limits = {
  /** A key as the log and store see it, without the name of its store. */
  keyBytesMax: 32_768,
  valueBytesMax: 16_777_216,
  /** All keys and values of one transaction, with their framing: one log record. */
  transactionBytesMax: 33_554_432,
  transactionWritesMax: 1_000_000,
  storeNameBytesMax: 200,
  siteIdBytesMax: 64,
  /** Of the secret that sites share (`secret`). */
  secretBytesMin: 16,
  /** Sites of a group. */
  membersMax: 64,
  /** Ids of removed sites that a group remembers. */
  removedMembersMax: 1000,
  /** The largest message that a site accepts before the handshake is done. */
  handshakeFrameBytesMax: 262_144,
  /** The largest message after it: one record of the largest size, and its envelope. */
  frameBytesMax: 34_603_008,
  /** Terms that a history keeps; older ones are forgotten (docs/log-format.md). */
  historyEntriesMax: 2048,
} as const
