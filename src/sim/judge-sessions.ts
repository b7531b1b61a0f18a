// Attachments: what was said in one that is over is obeyed by nobody, however late it comes and whatever it says.

import { readU32 } from '../log/record-format.ts'
import { decodeMessage } from '../replication/message-codec.ts'
import type { BenchView, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'

/** In the envelope of a message. */
const sessionOffset = 4

/** How many messages a site had taken, and how many of them had moved nothing. */
interface Taken {
  readonly site: SimSite
  readonly type: string
  readonly messages: number
  readonly futile: number
}

export class EndedSessionsAreIgnored implements SiteJudge {
  readonly name = 'ended sessions'
  /** The connection over which each attachment was asked for: there is no other for it. */
  readonly #connections: Map<number, number> = new Map()
  #delivered: Taken | undefined

  begin(bench: BenchView): void {
    const { network } = bench.world
    network.observers.push({
      sent: (_link, message, connection): void => {
        const session = readU32(message.control, sessionOffset)
        if (session !== 0 && !this.#connections.has(session)) this.#connections.set(session, connection)
      },
      delivered: (link, message, connection): void => {
        const session = readU32(message.control, sessionOffset)
        if (session === 0 || this.#connections.get(session) === connection) return
        const decoded = decodeMessage(message.control)
        // A Join that comes again may well be answered: who did not ask for it does not take the answer.
        if (!decoded.ok || decoded.message.type === 'join') return
        const site = bench.world.site(link.to)
        if (site !== undefined) this.#delivered = taken(site, decoded.message.type)
      },
    })
  }

  afterEvent(bench: BenchView): void {
    const before = this.#delivered
    this.#delivered = undefined
    const now = before && taken(before.site, before.type)
    if (before === undefined || now === undefined || now.messages === before.messages) return
    if (now.futile === before.futile) {
      bench.violate(this, `${now.site.name} obeyed a message (${now.type}) of an attachment that is over`)
    }
  }
}

function taken(site: SimSite, type: string): Taken | undefined {
  const counters = site.db?.site.core.counters
  if (counters === undefined) return undefined
  const { messagesIn, messagesIgnored, messagesInvalid } = counters
  return { site, type, messages: messagesIn, futile: messagesIgnored + messagesInvalid }
}
