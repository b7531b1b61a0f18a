// Attachments: what was said in one that is over is obeyed by nobody, however late it comes and whatever it says.

import { readU32 } from '../log/record-format.ts'
import { decodeMessage } from '../replication/message-codec.ts'
import type { BenchView, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'

/** In the envelope of a message. */
const sessionOffset = 4

/** An attachment that was asked for. */
interface Asked {
  readonly by: string
  /** The one over which it was asked for: who asked takes it from no other. */
  readonly connection: number
  /** Over these the Join has come: old ones too, where it was replayed. */
  readonly heardOver: Set<number>
}

function mayObey({ by, connection, heardOver }: Asked, site: string, over: number): boolean {
  return site === by ? over === connection : heardOver.has(over)
}

/** How many messages a site had taken, and how many of them had moved nothing. */
interface Taken {
  readonly site: SimSite
  readonly type: string
  readonly messages: number
  readonly futile: number
}

export class EndedSessionsAreIgnored implements SiteJudge {
  readonly name = 'ended sessions'
  readonly #asked: Map<number, Asked> = new Map()
  #delivered: Taken | undefined

  begin(bench: BenchView): void {
    const { network } = bench.world
    network.observers.push({
      sent: (link, message, connection): void => {
        const session = readU32(message.control, sessionOffset)
        if (session === 0 || this.#asked.has(session)) return
        this.#asked.set(session, { by: link.from, connection, heardOver: new Set() })
      },
      delivered: (link, message, connection): void => {
        const session = readU32(message.control, sessionOffset)
        const asked = this.#asked.get(session)
        if (asked === undefined || mayObey(asked, link.to, connection)) return
        const decoded = decodeMessage(message.control)
        if (!decoded.ok) return
        // A Join that comes again may well be answered: who did not ask for it there does not take the answer.
        if (decoded.message.type === 'join') {
          asked.heardOver.add(connection)
          return
        }
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
