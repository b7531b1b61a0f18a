// Stories about the Base API as text: commands, then what they lead to, as in core-script.ts.
//
//   site NAME option=value      a site with these options of `replication()`
//   start NAME master|replica [data=text]                    sync NAME            stop NAME (close)
//   put NAME key=value [acks=none]                           get NAME key
//   elect NAME [sites=N] [votes=N]                           configure NAME option=value
//   run MS                      lets time pass               cut NAME / heal NAME
//   lose A>B TYPE [n]           loses the next messages of a type; `fail` instead: `send` returns false
//   delay A>B TYPE MS [n]       lets the next ones come so much later
//   divert A>B TYPE C           brings the next one of a type to C
//   repeat A>B TYPE [C]         delivers the last one of a type once more, at C if it is named
//   crash NAME / boot NAME      kills the process, starts it again
//   move NAME ADDRESS           the network finds it there from now on
//   show NAME                   prints positions
//   results TYPE ...            prints what messages of these types came to (of all types: anything but ok)
//   flags TYPE ...              prints the flags with which messages of these types are sent

import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import type { Database } from '../../src/group/database.ts'
import type { Replication } from '../../src/index.ts'
import { BaseCluster, type BaseMessage, type BaseSite } from './base-cluster.ts'
import { optionsOf, runStories } from './stories.ts'

interface Rule {
  readonly link: string
  readonly type: string
  readonly fate: Fate
  left: number
}

type Fate = number | 'lost' | 'failed' | { readonly to: string }

/** Runs a whole file of stories, each on sites of its own, and returns it with the logs as they really are. */
export function runBaseScript(text: string): string {
  return runStories(text, (commands) => new BaseScript().run(commands))
}

class BaseScript {
  readonly #cluster = new BaseCluster(1)
  readonly #log: string[] = []
  readonly #rules: Rule[] = []
  readonly #last: Map<string, BaseMessage> = new Map()
  #shownResults: readonly string[] = []
  #shownFlags: readonly string[] = []

  constructor() {
    this.#cluster.onSend = (message, to) => this.#fateOf(message, to)
    this.#cluster.onResult = (site, message, result) => {
      const isShown = this.#shownResults.includes(message.type)
      if (!isShown && (result.kind === 'ok' || this.#shownResults.length > 0)) return
      this.#say(`${site.name} <- ${message.from} ${message.type}: ${fieldsText(result)}`)
    }
    this.#cluster.onEvent = (site, event, detail) => {
      if (event === 'rejected') this.#say(`${site.name} rejects: ${errorText(detail)}`)
      else if (event !== 'newSite' && event !== 'syncProgress') {
        this.#say(`${site.name} ${event} ${fieldsText(detail as object)}`.trimEnd())
      }
    }
  }

  run(commands: readonly string[]): string[] {
    for (const command of commands) this.#command(command.trim().split(/\s+/))
    return this.#log
  }

  #say(line: string): void {
    this.#log.push(`${String(Math.round(this.#cluster.clock.now())).padStart(6)} ${line}`)
  }

  #fateOf(message: BaseMessage, to: string): Fate | undefined {
    const link = `${message.from}>${to}`
    this.#last.set(`${link} ${message.type}`, message)
    if (this.#shownFlags.includes(message.type)) this.#say(`${link} ${message.type} ${flagsText(message)}`)
    const rule = this.#rules.find((each) => each.link === link && each.type === message.type && each.left > 0)
    if (rule === undefined) return undefined
    rule.left--
    if (typeof rule.fate === 'object') this.#say(`${link} ${message.type} goes to ${rule.fate.to}`)
    if (typeof rule.fate === 'string') this.#say(`${link} ${message.type} is ${rule.fate}`)
    return rule.fate
  }

  #command([verb = '', name = '', ...rest]: string[]): void {
    const cluster = this.#cluster
    switch (verb) {
      case 'site':
        cluster.site(name, optionsOf(rest))
        return
      case 'run':
        cluster.run(Number(name))
        return
      case 'lose':
      case 'fail':
        this.#rules.push({
          link: name,
          type: rest[0] ?? '',
          fate: verb === 'lose' ? 'lost' : 'failed',
          left: Number(rest[1] ?? 1),
        })
        return
      case 'delay':
        this.#rules.push({
          link: name,
          type: rest[0] ?? '',
          fate: Number(rest[1]),
          left: Number(rest[2] ?? 1),
        })
        return
      case 'divert':
        this.#rules.push({ link: name, type: rest[0] ?? '', fate: { to: rest[1] ?? '' }, left: 1 })
        return
      case 'repeat': {
        const message = this.#last.get(`${name} ${rest[0]}`)
        if (message === undefined) throw new Error(`there was no ${rest[0]} on ${name}`)
        cluster.deliverIn(0, message, rest[1] ?? name.split('>')[1] ?? '')
        return
      }
      case 'cut':
        cluster.cut(name)
        return
      case 'heal':
        cluster.heal(name)
        return
      case 'move':
        this.#site(name).address = rest[0] ?? ''
        return
      case 'results':
        this.#shownResults = [name, ...rest]
        return
      case 'flags':
        this.#shownFlags = [name, ...rest]
        return
      default:
        this.#siteCommand(verb, this.#site(name), rest)
    }
  }

  #site(name: string): BaseSite {
    const site = this.#cluster.sites.get(name)
    if (site === undefined) throw new Error(`there is no site ${name}`)
    return site
  }

  #siteCommand(verb: string, site: BaseSite, rest: readonly string[]): void {
    const cluster = this.#cluster
    if (verb === 'boot') {
      cluster.boot(site)
      return
    }
    if (verb === 'crash') {
      cluster.crash(site)
      return
    }
    const { db, rep } = site
    if (db === undefined || rep === undefined) throw new Error(`${site.name} is down`)
    switch (verb) {
      case 'start': {
        const { data } = optionsOf(rest.slice(1)) as { data?: string }
        const options = data === undefined ? {} : { data: utf8Encode(String(data)) }
        this.#call(site, `starts as ${rest[0]}`, () => rep.start(rest[0] as 'master', options))
        return
      }
      case 'put': {
        const [key = '', value = ''] = (rest[0] ?? '').split('=')
        this.#call(site, `puts ${rest[0]}`, async () => {
          const { lsn, acks } = await db.put(key, value, optionsOf(rest.slice(1)))
          return { lsn, acks }
        })
        return
      }
      case 'get':
        this.#say(`${site.name} reads ${rest[0]} ${db.getSync(rest[0] ?? '') ?? 'nothing'}`)
        return
      case 'elect':
        this.#call(site, 'elects', () => rep.elect(optionsOf(rest)))
        return
      case 'stop':
        this.#call(site, 'closes', () => rep.close())
        return
      default:
        this.#syncCommand(verb, { site, db, rep, rest })
    }
  }

  #syncCommand(
    verb: string,
    on: {
      readonly site: BaseSite
      readonly db: Database
      readonly rep: Replication
      readonly rest: readonly string[]
    },
  ): void {
    const { site, rep, rest } = on
    try {
      if (verb === 'sync') rep.sync()
      else if (verb === 'configure') rep.configure(optionsOf(rest))
      else if (verb === 'show') {
        const { role, master, term, lastLsn, durableLsn, committedLsn } = rep.stats()
        const positions = `last ${lastLsn} durable ${durableLsn} committed ${committedLsn}`
        this.#say(`  ${site.name} is ${role} of ${master ?? 'nobody'}, term ${term}, ${positions}`)
      } else throw new TypeError(`there is no command '${verb}'`)
    } catch (error) {
      if (!isCoterieError(error)) throw error
      this.#say(`${site.name} ${verb}: ${errorText(error)}`)
    }
  }

  /** Makes a call on the site's machine, and says what came of it when that is known. */
  #call(site: BaseSite, what: string, call: () => Promise<unknown>): void {
    site.machine.host?.run(() => {
      call().then(
        (result) => {
          const came = typeof result === 'object' && result !== null ? ` -> ${fieldsText(result)}` : ''
          this.#say(`${site.name} ${what}${came}`)
        },
        (error: unknown) => this.#say(`${site.name} ${what} -> ${errorText(error)}`),
      )
    })
    this.#cluster.run(0)
  }
}

function fieldsText(fields: object | undefined): string {
  const parts: string[] = []
  for (const [name, value] of Object.entries(fields ?? {})) {
    if (value === undefined || name === 'ms') continue
    const text = value instanceof Uint8Array ? `'${utf8Decode(value)}'` : String(value)
    parts.push(name === 'kind' ? text : `${name}=${text}`)
  }
  return parts.join(' ')
}

function flagsText({ flags }: BaseMessage): string {
  const on = Object.entries(flags).filter(([, value]) => value !== false && value !== 0)
  return on.map(([name, value]) => (value === true ? name : `${name}=${value}`)).join(' ')
}

function errorText(error: unknown): string {
  if (isCoterieError(error)) return `${error.code}: ${error.message}`
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}
