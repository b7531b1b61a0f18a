// kill -9 against a group that elects its own master, under load (loaded-group.ts). In each round some of its sites
// are killed and brought back, or frozen.
//
// Which kind of round comes, and the waits, follow from the seed; who is master then, and what it is doing, does not.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { acknowledgedMin, LoadedGroup, type LoadedMember } from './loaded-group.ts'

export type GroupRoundKind =
  | 'master'
  | 'replica'
  | 'masterAgain'
  | 'majority'
  | 'everyone'
  /** It stands still until another reigns, and then goes on as if nothing had been. */
  | 'masterFrozen'

export async function groupKillRounds(
  t: TestContext,
  rounds: readonly GroupRoundKind[],
  seed: number,
): Promise<void> {
  const group = new LoadedGroup(t, { seed })
  await group.run(rounds, (kind) => killRound(group, kind))
  t.diagnostic(`${group.totals.kills} kills, ${group.summary}`)
}

async function killRound(group: LoadedGroup, kind: GroupRoundKind): Promise<void> {
  const master = await group.whenAgreed()
  await group.whenAcknowledged(acknowledgedMin)
  await group.rest({ mostMs: 300 })
  const replicas = group.members.filter((member) => member !== master)
  const [one] = replicas
  assert.ok(one !== undefined)
  if (kind === 'everyone') await bounce(group, group.members)
  else if (kind === 'majority') await bounce(group, [master, one])
  else if (kind === 'masterFrozen') await freeze(group, master)
  else if (kind === 'replica') await bounce(group, [group.random.pick(replicas)])
  else {
    await failOver(group, master)
    if (kind === 'masterAgain') {
      // The second master dies as soon as there is a third who could be it.
      await group.back(master)
      await failOver(group, await group.whenAgreed())
    }
  }
  for (const member of group.members) if (member.site.hasEnded) await group.back(member)
  await group.whenAgreed()
  await group.whenAcknowledged(acknowledgedMin)
}

async function failOver(group: LoadedGroup, master: LoadedMember): Promise<void> {
  await group.kill(master)
  const began = performance.now()
  await group.whenAcknowledged(1)
  group.totals.failoversMs.push(performance.now() - began)
  await group.rest({ mostMs: 300 })
}

async function freeze(group: LoadedGroup, master: LoadedMember): Promise<void> {
  master.site.freeze()
  await group.whenAcknowledged(acknowledgedMin)
  master.site.thaw()
  // It may not have noticed yet what has happened; whatever it acknowledges now is checked like all the rest.
  await group.rest({ mostMs: 300 })
}

async function bounce(group: LoadedGroup, victims: readonly LoadedMember[]): Promise<void> {
  await Promise.all(victims.map((member) => group.kill(member)))
  await group.rest({ mostMs: 500 })
}
