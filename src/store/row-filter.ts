// Which rows a site keeps, as the applier asks it: all, but where a filter is given. The log is whole everywhere.

export interface RowFilter {
  /** Whether the store takes writes of this key. Throws where nobody can say: then nothing of the batch is written. */
  keeps(key: Uint8Array): boolean
  /** Resolves when the answers given so far are durable. No row is written that an answer let in or left out before. */
  settle(): Promise<void>
}
