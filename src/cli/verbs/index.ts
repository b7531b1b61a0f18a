// All verbs, in the order of --help: daily work first.

import type { Command } from 'commander'
import type { CommandRun } from '../command.ts'
import { defineArchive } from './archive.ts'
import { defineAttach } from './attach.ts'
import { defineBackup } from './backup.ts'
import { defineBench } from './bench.ts'
import { defineCheckpoint } from './checkpoint.ts'
import { defineDel } from './del.ts'
import { defineDemo } from './demo.ts'
import { defineDump } from './dump.ts'
import { defineElect } from './elect.ts'
import { defineGet } from './get.ts'
import { defineJoin } from './join.ts'
import { defineLoad } from './load.ts'
import { defineLog } from './log.ts'
import { defineMembers } from './members.ts'
import { definePromote } from './promote.ts'
import { definePut } from './put.ts'
import { defineRestore } from './restore.ts'
import { defineScan } from './scan.ts'
import { defineServe } from './serve.ts'
import { defineStat } from './stat.ts'
import { defineStatus } from './status.ts'
import { defineTakeOver } from './takeover.ts'
import { defineTop } from './top.ts'
import { defineTransfer } from './transfer.ts'
import { defineVerify } from './verify.ts'

export type DefineVerb = (program: Command, run: CommandRun) => Command

export const verbs: readonly DefineVerb[] = [
  defineServe,
  defineAttach,
  definePromote,
  defineTakeOver,
  defineJoin,
  defineTransfer,
  defineElect,
  defineMembers,
  defineTop,
  defineGet,
  definePut,
  defineDel,
  defineScan,
  defineLoad,
  defineDump,
  defineStatus,
  defineStat,
  defineVerify,
  defineLog,
  defineCheckpoint,
  defineArchive,
  defineBackup,
  defineRestore,
  defineDemo,
  defineBench,
]
