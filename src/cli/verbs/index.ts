// All verbs, in the order of --help: daily work first. Each is loaded when it is asked for: a command runs one of them, and
// starts faster without the others.

import type { Command } from 'commander'
import type { CommandRun } from '../command.ts'

export type DefineVerb = (program: Command, run: CommandRun) => Command

const verbs: Readonly<Record<string, () => Promise<DefineVerb>>> = {
  serve: async () => (await import('./serve.ts')).defineServe,
  attach: async () => (await import('./attach.ts')).defineAttach,
  promote: async () => (await import('./promote.ts')).definePromote,
  takeover: async () => (await import('./takeover.ts')).defineTakeOver,
  join: async () => (await import('./join.ts')).defineJoin,
  transfer: async () => (await import('./transfer.ts')).defineTransfer,
  elect: async () => (await import('./elect.ts')).defineElect,
  members: async () => (await import('./members.ts')).defineMembers,
  top: async () => (await import('./top.ts')).defineTop,
  get: async () => (await import('./get.ts')).defineGet,
  put: async () => (await import('./put.ts')).definePut,
  del: async () => (await import('./del.ts')).defineDel,
  scan: async () => (await import('./scan.ts')).defineScan,
  load: async () => (await import('./load.ts')).defineLoad,
  dump: async () => (await import('./dump.ts')).defineDump,
  status: async () => (await import('./status.ts')).defineStatus,
  stat: async () => (await import('./stat.ts')).defineStat,
  verify: async () => (await import('./verify.ts')).defineVerify,
  log: async () => (await import('./log.ts')).defineLog,
  checkpoint: async () => (await import('./checkpoint.ts')).defineCheckpoint,
  archive: async () => (await import('./archive.ts')).defineArchive,
  backup: async () => (await import('./backup.ts')).defineBackup,
  restore: async () => (await import('./restore.ts')).defineRestore,
  demo: async () => (await import('./demo.ts')).defineDemo,
  bench: async () => (await import('./bench.ts')).defineBench,
}

/** The verb of this name alone, or all of them where there is none. */
export async function loadVerbs(name: string | undefined): Promise<DefineVerb[]> {
  const load = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined
  return await Promise.all((load === undefined ? Object.values(verbs) : [load]).map((each) => each()))
}
