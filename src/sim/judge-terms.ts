// Terms and votes: one master in each term, and what a site has told of its term and its vote was on its disk before,
// and is never taken back - not after a crash either.

import type { RecordPlace } from '../base/batch.ts'
import { readU32 } from '../log/record-format.ts'
import { decodeMessage } from '../replication/message-codec.ts'
import type { Message as CoreMessage } from '../replication/messages.ts'
import type { Message } from './network-link.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'

export class OneMasterPerTerm implements SiteJudge {
  readonly name = 'one master per term'
  readonly #masters: Map<number, { readonly site: SimSite; readonly start: number }> = new Map()
  readonly #reigns: Map<number, string> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, start } = sight
    if (now.reign !== undefined) {
      const { term } = now.reign
      const master = this.#masters.get(term)
      if (master === undefined) this.#masters.set(term, { site, start })
      else if (master.site !== site) {
        bench.violate(this, `${master.site.name} and ${site.name} are masters of term ${term}`)
      } else if (master.start !== start) {
        bench.violate(this, `${site.name} is master of term ${term} again after it was restarted`)
      }
    }
    if (sight.before.last.term === now.last.term && !sight.isNew) return
    for (const { term, firstLsn, site: master } of site.db?.site.core.history ?? []) {
      const reign = `${master} from LSN ${firstLsn} on`
      const known = this.#reigns.get(term)
      if (known === undefined) this.#reigns.set(term, reign)
      else if (known !== reign) {
        bench.violate(this, `term ${term} is of ${known}, and in the log of ${site.name} of ${reign}`)
      }
    }
  }
}

/** In the envelope of a message. */
const termOffset = 8

/** What is judged for more than its term: a hand-over gives a vote too. */
const pledges: readonly CoreMessage['type'][] = ['vote', 'voteRequest', 'handover', 'ack']

interface Told {
  term: number
  /** Whom it granted its vote, by term. */
  readonly votes: Map<number, string>
  /** Whom it acknowledged records to, by term. */
  readonly acks: Map<number, string>
  /** What its disk was seen to hold. */
  durableTerm: number
  durableVote: string | undefined
}

export class TermsAndVotes implements SiteJudge {
  readonly name = 'terms and votes'
  readonly #told: Map<SimSite, Told> = new Map()
  /** Where the logs of those who asked for votes ended, by site and term. */
  readonly #candidates: Map<string, RecordPlace> = new Map()

  begin(bench: BenchView): void {
    const { world } = bench
    world.network.observers.push({
      sent: (link, message): void => {
        const site = world.site(link.from)
        if (site !== undefined && !site.isSuspect) this.#sent(bench, site, link.to, message)
      },
    })
  }

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before } = sight
    if (site.isSuspect) return
    if (!sight.isNew && now.term < before.term) {
      bench.violate(this, `the term of ${site.name} fell from ${before.term} to ${now.term}`)
    }
    const told = this.#told.get(site)
    if (sight.isNew && told !== undefined && now.term < told.term) {
      bench.violate(this, `${site.name} was restarted in term ${now.term} and had told of ${told.term}`)
    }
  }

  /** Names of types by their numbers. Most messages are of no account here, and need not be read to the end. */
  readonly #types: Map<number, CoreMessage['type']> = new Map()

  #isOfAccount(site: SimSite, control: Uint8Array): boolean {
    const told = this.#told.get(site)
    const type = this.#types.get(control[0] as number)
    if (told === undefined || type === undefined || readU32(control, termOffset) !== told.term) return true
    return told.term > told.durableTerm || pledges.includes(type)
  }

  #sent(bench: BenchView, site: SimSite, to: string, message: Message): void {
    if (!this.#isOfAccount(site, message.control)) return
    const result = decodeMessage(message.control)
    if (!result.ok) {
      bench.violate(this, `${site.name} sent what is no message`)
      return
    }
    const sent = result.message
    this.#types.set(message.control[0] as number, sent.type)
    // A site that has no data yet speaks in the term of the database that it is about to copy.
    if (sent.term === 0 || site.db?.site.core.databaseId === undefined) return
    let told = this.#told.get(site)
    if (told === undefined) {
      told = { term: 0, votes: new Map(), acks: new Map(), durableTerm: 0, durableVote: undefined }
      this.#told.set(site, told)
    }
    if (sent.term < told.term && !isOfItsTime(sent)) {
      bench.violate(this, `${site.name} told of term ${sent.term} after ${told.term} (${sent.type})`)
    }
    told.term = Math.max(told.term, sent.term)
    if (sent.term > told.durableTerm) {
      this.#readDisk(bench, site, told)
      if (sent.term > told.durableTerm) {
        const { durableTerm } = told
        bench.violate(
          this,
          `${site.name} told of term ${sent.term} (${sent.type}), and ${durableTerm} is on its disk`,
        )
      }
    }
    if (sent.type === 'voteRequest') {
      this.#candidates.set(`${site.name}/${sent.term}`, sent.last)
      this.#voted(bench, { site, to: site.name, told, term: sent.term })
    }
    if (sent.type === 'vote' && sent.granted) {
      this.#voted(bench, { site, to, told, term: sent.forTerm })
      this.#judgeChoice(bench, { site, to, term: sent.forTerm })
    }
    if (sent.type === 'handover') this.#voted(bench, { site, to, told, term: sent.term })
    // Whoever follows by hand may go from its master to a site that passes the same log on, where it counts for nothing.
    if (sent.type === 'ack' && !sent.busy && site.follows === undefined)
      this.#once(bench, { site, to, term: sent.term, of: told.acks })
  }

  #voted(bench: BenchView, vote: { site: SimSite; to: string; told: Told; term: number }): void {
    const { site, to, told, term } = vote
    this.#once(bench, { site, to, term, of: told.votes })
    if (told.durableTerm === term && told.durableVote === to) return
    this.#readDisk(bench, site, told)
    if (told.durableTerm > term || told.durableVote === to) return
    const known = told.durableVote ?? 'nobody'
    bench.violate(this, `${site.name} gave ${to} its vote in term ${term}, and ${known} is on its disk`)
  }

  /** Nobody votes for a log that ends before its own: in an earlier term, or in the same one at a lower LSN. */
  #judgeChoice(bench: BenchView, vote: { site: SimSite; to: string; term: number }): void {
    const { site, to, term } = vote
    const theirs = this.#candidates.get(`${to}/${term}`)
    const ours = site.db?.site.core.last
    if (theirs === undefined || ours === undefined) return
    // Asked once more, it says again what it has said, and may have records of the reign by then.
    if (ours.term >= term) return
    if (theirs.term > ours.term || (theirs.term === ours.term && theirs.lsn >= ours.lsn)) return
    bench.violate(
      this,
      `${site.name}, whose log ends at LSN ${ours.lsn} of term ${ours.term}, voted for ${to}, whose log ends at LSN ${theirs.lsn} of term ${theirs.term}`,
    )
  }

  /** In one term a site votes for one, and acknowledges to one. */
  #once(
    bench: BenchView,
    choice: { site: SimSite; to: string; term: number; of: Map<number, string> },
  ): void {
    const { site, to, term, of } = choice
    const known = of.get(term)
    if (known === undefined) of.set(term, to)
    else if (known !== to) {
      bench.violate(this, `${site.name} stood by ${known} and by ${to} in term ${term}`)
    }
  }

  #readDisk(bench: BenchView, site: SimSite, told: Told): void {
    const state = bench.sights.get(site)?.disk.state
    told.durableTerm = state?.term ?? 0
    told.durableVote = state?.vote
  }
}

/** It speaks of an attachment that began in an earlier term, as it may. */
function isOfItsTime(message: CoreMessage): boolean {
  return message.session !== 0
}
