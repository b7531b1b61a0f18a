// The small `state` file beside the log: who this site is, the highest term it has seen, which of its folders are
// in use. Replaced atomically and synced before anything that depends on it is done or told.
//
// It is one line of JSON and one line with its checksum: an operator can read it, and a damaged one is refused
// (STATE_DAMAGED), never guessed.

import { utf8Decode, utf8Encode } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import { asError, CoterieError } from '../base/errors.ts'
import type { Files } from '../env/host.ts'

/** What the site last was. A `replica` stays read-only until it is promoted, served or set standalone. */
export type SiteRole = 'standalone' | 'master' | 'replica'

/**
 * A site that never votes, is never elected and never counted. Once one, always one: what it leaves undone as a view
 * nobody could tell from what it has done.
 */
export interface ViewState {
  /** `full`: it keeps every store. `partial`: those that its filter has let in. */
  readonly kind: 'full' | 'partial'
  /** Of a partial view: what the filter has answered. Invariant: on disk before a row is stored, or left out, by it. */
  readonly kept: readonly string[]
  readonly declined: readonly string[]
}

export interface SiteState {
  /** 2 where it is a view: an older program would take it for a whole participant. */
  readonly format: 1 | 2
  /** Undefined on a site that has no data yet: a replica before its first snapshot. */
  readonly databaseId: string | undefined
  readonly site: string
  /** The highest term that this site has seen. Invariant: never falls; on disk before it is told. */
  readonly term: number
  /** Who is master in that term, where this site has taken sides: it follows one master in each term. */
  readonly termMaster: string | undefined
  /** Whom this site has voted for in `term`: it votes once in each. Invariant: on disk before the vote is told. */
  readonly vote: string | undefined
  /** A lease that this site may have granted as a voter: so long after a start it votes for nobody. 0: none. */
  readonly promiseMs: number
  /** 16 hexadecimal digits, drawn when the folder was made: a site that comes back without its data has others. */
  readonly incarnation: string
  /** A member of a group that elects its master: it writes only after it has joined that again. */
  readonly inGroup: boolean
  /** Undefined: no view. Invariant: on disk before it attaches as one. */
  readonly view: ViewState | undefined
  readonly role: SiteRole
  /** Size of the group it last served, where the operator fixed one. */
  readonly sites: number | undefined
  /** Address of the last known master, for NOT_MASTER. */
  readonly master: string | undefined
  /** Number of the folders in use, `store-N` and `log-N`. A snapshot is installed by changing this number. */
  readonly generation: number
  /** Number of the folder that a snapshot is being received into; may be resumed. */
  readonly staging: number | undefined
  /** Older folders that are kept because their data was foreign; never removed by the program. */
  readonly aside: readonly number[]
  /** Where the log ended at an orderly close; gone from the file before the next write. */
  readonly cleanEnd: { readonly lsn: number; readonly crc: number } | undefined
  readonly createdMs: number
}

/** Reads the state. Undefined if there is no file. */
export async function readSiteState(files: Files, path: string): Promise<SiteState | undefined> {
  const content = await files.readAll(path)
  if (content === undefined) return undefined
  const damaged = (why: string, cause?: unknown): CoterieError =>
    new CoterieError('STATE_DAMAGED', `${path}: ${why}`, { cause, details: { file: path } })
  let lines: string[]
  try {
    lines = utf8Decode(content).split('\n')
  } catch (cause) {
    throw damaged('not text', cause)
  }
  const [json = '', checksum = ''] = lines
  if (crc32(utf8Encode(json)).toString(16) !== checksum) throw damaged('the checksum does not match')
  let state: Partial<SiteState>
  try {
    state = JSON.parse(json) as Partial<SiteState>
  } catch (cause) {
    throw damaged(asError(cause).message, cause)
  }
  if (state.format !== 1 && state.format !== 2) {
    throw new CoterieError('FORMAT_UNSUPPORTED', `${path}: format ${String(state.format)} is not known`)
  }
  return withDefaults(state as EarlierState)
}

type Newer = 'vote' | 'promiseMs' | 'incarnation' | 'inGroup' | 'view'

/** A file of an earlier version may lack some fields. */
type EarlierState = Omit<SiteState, Newer> & Partial<Pick<SiteState, Newer>>

/** The incarnation must be the same at every read, so it is derived. */
function withDefaults(state: EarlierState): SiteState {
  const { site, createdMs } = state
  const incarnation = state.incarnation ?? hexSum(`${site}:${createdMs}`) + hexSum(`${createdMs}:${site}`)
  const { vote, promiseMs = 0, inGroup = false, view } = state
  return { ...state, vote, promiseMs, incarnation, inGroup, view }
}

function hexSum(text: string): string {
  return crc32(utf8Encode(text)).toString(16).padStart(8, '0')
}

/** Durable when it resolves. */
export async function writeSiteState(files: Files, path: string, state: SiteState): Promise<void> {
  const json = JSON.stringify({ ...state, format: state.view === undefined ? 1 : 2 })
  await files.replace(path, utf8Encode(`${json}\n${crc32(utf8Encode(json)).toString(16)}\n`))
}
