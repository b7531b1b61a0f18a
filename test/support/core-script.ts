// Stories about the replication core as text: commands, then what they lead to. Commands stand one to a line, `----`
// ends them, and what follows up to an empty line is the log that they must produce.
//
//   site NAME [db]              a site; with `db` it has the database already
//   serve NAME option=value     takes mastership (ServeOptions)     configure NAME option=value
//   promote NAME option=value   leaves whom it follows, then serves
//   relay NAME option=value     serves in its turn (RelayOptions)   unrelay NAME
//   follow NAME MASTER [flag]   attaches (FollowOptions)            leave NAME stop|cancel
//   write NAME text ...         proposes one batch; `acks=one` or `durability=memory` make the last record an exception
//   run MS                      lets time pass                      flush NAME
//   drop A>B TYPE [n]           loses the next messages of a type   replay A>B TYPE   repeats the last one of a type
//   cut A B / heal              parts sites                         congest A B on|off
//   crash A / restart A         disconnect A                        trim A LSN         slow A FACTOR
//   detach A SITE               stop A (serving)                    adopt A TERM [master]
//   found A [priority=N]        a group with A as its first member and master
//   join A [priority=N]         a site that joins it (core-group.ts is its driver)
//   transfer A B                A hands over to B                   takeover A B       A asks its master; B is its address
//   stepdown A                  gives up mastership                 remove A           A is to be no member any more
//   wipe A                      (while it is down) loses its disk   members A / group  prints members / who is what
//   show A / rows A             prints positions / the store        trace on|off       prints messages

import { utf8Decode } from '../../src/base/bytes.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import type { Members } from '../../src/base/membership.ts'
import type { CommitException } from '../../src/base/policy.ts'
import type { Effect, StepResult } from '../../src/replication/effects.ts'
import type { Message } from '../../src/replication/messages.ts'
import { CoreCluster } from './core-cluster.ts'
import { CoreGroup } from './core-group.ts'
import type { FakeSite } from './fake-site.ts'
import { optionsOf, runStories } from './stories.ts'

/** Runs a whole file of stories and returns it with the logs as they really are. */
export function runScript(text: string): string {
  const runner = new ScriptRunner()
  return runStories(text, (commands) => runner.run(commands))
}

class ScriptRunner {
  readonly #cluster = new CoreCluster({ seed: 1, syncMs: [1, 1] })
  #group: CoreGroup | undefined
  readonly #masters = new Map<string, string>()
  #log: string[] = []
  #isTracing = false
  #drops: { link: string; type: string; left: number }[] = []

  constructor() {
    const cluster = this.#cluster
    cluster.onEffect = (site, effect) => this.#effect(site, effect)
    cluster.onMessage = (from, to, message) => {
      if (this.#isTracing) this.#say(`${from.name}>${to.name} ${messageText(message)}`)
    }
    cluster.onResult = (site, message, result) => {
      if (result.kind === 'ok' || result.kind === 'isPerm') return
      if (this.#isTracing) this.#say(`${site.name} ${message.type}: ${resultText(result)}`)
    }
    cluster.drops = (from, to, message) => {
      const link = `${from.name}>${to.name}`
      const drop = this.#drops.find(
        (each) => each.link === link && each.type === message.type && each.left > 0,
      )
      if (drop === undefined) return false
      drop.left--
      this.#say(`${link} ${message.type} is lost`)
      return true
    }
  }

  run(commands: readonly string[]): string[] {
    this.#log = []
    for (const command of commands) this.#command(command.trim().split(/\s+/))
    return this.#log
  }

  #say(line: string): void {
    this.#log.push(`${String(Math.round(this.#cluster.now)).padStart(6)} ${line}`)
  }

  #command([verb = '', name = '', ...rest]: string[]): void {
    const cluster = this.#cluster
    const { now } = cluster
    switch (verb) {
      case 'site':
        cluster.add(name, rest[0] === 'db' ? { databaseId: rest[1] ?? 'db' } : {})
        return
      case 'serve':
        this.#refusable(name, () => cluster.serve(name, optionsOf(rest)))
        return
      case 'promote':
        cluster.get(name).step((core) => core.leave({ now, kind: 'cancel' }))
        this.#refusable(name, () => cluster.serve(name, optionsOf(rest)))
        return
      case 'relay':
        this.#refusable(name, () => cluster.get(name).serveInTurn(optionsOf(rest)))
        return
      case 'unrelay':
        cluster.get(name).step((core) => core.stopServingInTurn(now))
        return
      case 'configure':
        cluster.get(name).step((core) => core.configure({ ...optionsOf(rest), now }))
        return
      case 'follow':
        this.#follow(name, rest)
        return
      case 'leave':
        cluster.get(name).step((core) => core.leave({ now, kind: rest[0] === 'stop' ? 'stop' : 'cancel' }))
        return
      case 'takeover':
        cluster.get(name).step((core) => core.askTakeOver({ address: rest[0] ?? name, now }))
        return
      case 'write':
        this.#write(cluster.get(name), rest)
        return
      case 'run':
        cluster.run(Number(name))
        return
      case 'trace':
        this.#isTracing = name === 'on'
        return
      case 'show':
        this.#show(cluster.get(name))
        return
      case 'rows':
        this.#say(`${name} rows ${cluster.get(name).storeText()}`)
        return
      default:
        if (!this.#groupCommand(verb, name, rest)) this.#fault(verb, name, rest)
    }
  }

  #groupCommand(verb: string, name: string, rest: readonly string[]): boolean {
    const cluster = this.#cluster
    const { now } = cluster
    // A group hears its master more often, and its sites ask nobody for long.
    this.#group ??= verb === 'found' ? this.#newGroup() : undefined
    const group = this.#group
    if (group === undefined) return false
    switch (verb) {
      case 'found':
        group.found(name, optionsOf(rest))
        return true
      case 'join':
        group.join(name, optionsOf(rest))
        return true
      case 'crash':
        group.crash(name)
        return true
      case 'restart':
        group.restart(name)
        return true
      case 'wipe':
        cluster.get(name).wipe()
        return true
      case 'remove':
        group.remove(name)
        return true
      case 'transfer':
        this.#refusable(name, () => group.handOver(cluster.get(name), rest[0] ?? ''))
        return true
      case 'stepdown':
        this.#refusable(name, () => cluster.get(name).step((core) => core.stepDown(now)))
        return true
      case 'members':
        this.#say(`${name} members ${membersText(cluster.get(name).core.membership)}`)
        return true
      case 'group':
        for (const site of group.sites) this.#say(siteText(site))
        return true
      default:
        return false
    }
  }

  #newGroup(): CoreGroup {
    const timings = { heartbeatMs: 100, initialTimeoutMs: 2_000, silenceTimeoutMs: 2_000 }
    Object.assign(this.#cluster.timings, timings)
    return new CoreGroup(this.#cluster)
  }

  #fault(verb: string, name: string, rest: readonly string[]): void {
    const cluster = this.#cluster
    const { now } = cluster
    const other = rest[0] ?? ''
    switch (verb) {
      case 'drop':
        this.#drops.push({ link: name, type: other, left: Number(rest[1] ?? 1) })
        return
      case 'replay': {
        const [from = '', to = ''] = name.split('>')
        cluster.replay(cluster.get(from), cluster.get(to), other)
        return
      }
      case 'cut':
        cluster.part(
          [cluster.get(name)],
          rest.map((each) => cluster.get(each)),
        )
        return
      case 'heal':
        cluster.heal()
        return
      case 'congest': {
        const replica = cluster.get(name).core.replicas.find((each) => each.site === other)
        if (replica === undefined) throw new Error(`${other} is not attached`)
        const congested = rest[1] === 'on'
        cluster.get(name).step((core) => core.congested({ peer: replica.peer, congested, now }))
        return
      }
      case 'crash':
        cluster.crash(name)
        return
      case 'restart':
        cluster.restart(name)
        return
      case 'disconnect':
        cluster.closeLinks(cluster.get(name))
        return
      case 'trim':
        cluster.get(name).trim(Number(other))
        return
      case 'slow':
        cluster.get(name).slowness = Number(other)
        return
      case 'detach':
        cluster.get(name).step((core) => core.detach({ site: other, now }))
        return
      case 'stop':
        cluster.get(name).step((core) => core.stopServing(now))
        return
      case 'flush':
        cluster.get(name).step((core) => core.flushWindow(now))
        return
      case 'adopt': {
        const term = Number(other) as Term
        const master = rest[1] === undefined ? {} : { master: rest[1] }
        cluster.get(name).step((core) => core.adoptTerm({ term, now, ...master }))
        return
      }
      default:
        throw new Error(`there is no command '${verb}'`)
    }
  }

  #refusable(name: string, call: () => void): void {
    try {
      call()
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'CoterieError') throw error
      this.#say(`${name} refuses: ${error.message}`)
    }
  }

  #follow(name: string, [master = '', ...flags]: string[]): void {
    const options = optionsOf(flags.map((flag) => (flag.includes('=') ? flag : `${flag}=true`)))
    this.#cluster.follow(name, master, options)
  }

  #write(site: FakeSite, words: readonly string[]): void {
    const texts = words.filter((word) => !/^(acks|durability)=/.test(word))
    const options = optionsOf(words.filter((word) => /^(acks|durability)=/.test(word)))
    const gate = site.core.gate()
    if (!gate.open) this.#say(`${site.name} gate ${fieldsText(gate)}`)
    if (site.core.role !== 'master') return
    if (Object.keys(options).length === 0) {
      site.write(texts)
      return
    }
    const lsn = (site.last.lsn + texts.length) as Lsn
    const exception = { lsn, acks: undefined, durability: 'sync', ...options } as CommitException
    site.write(texts, [exception])
  }

  #show(site: FakeSite): void {
    const { core } = site
    const { role, term, lastLsn, durableLsn, committedLsn, appliedLsn, permanentLsn } = core
    const facts = { term, last: lastLsn, durable: durableLsn, committed: committedLsn, applied: appliedLsn }
    this.#say(`${site.name} is ${role} ${fieldsText({ ...facts, permanent: permanentLsn })}`)
    for (const replica of core.replicas) {
      const { state, inStep, receivedLsn, durableLsn: durable, lagRecords, lagBytes } = replica
      const numbers = { received: receivedLsn, durable, lag: lagRecords, lagBytes }
      this.#say(`  ${replica.site} ${state}${inStep ? ' in step' : ''} ${fieldsText(numbers)}`)
    }
  }

  /** Who is master is told again and again; the log says it once. */
  #isNews(name: string, master: string): boolean {
    if (this.#masters.get(name) === master) return false
    this.#masters.set(name, master)
    return true
  }

  #effect(site: FakeSite, effect: Effect): void {
    const { name } = site
    switch (effect.kind) {
      case 'event':
        if (effect.event.kind === 'masterFound' && !this.#isNews(name, fieldsText(effect.event))) return
        this.#say(`${name} ${eventText(effect.event)}`)
        return
      case 'commit':
        this.#say(`${name} commit ${effect.committedLsn} permanent ${effect.permanentLsn}`)
        return
      case 'stopped':
        this.#say(
          `${name} stopped ${effect.reason}${effect.code ? ` ${effect.code}` : ''}: ${effect.message}`,
        )
        return
      case 'steppedDown':
        this.#say(`${name} stepped down for term ${effect.term}: ${effect.reason}`)
        return
      case 'elected':
        this.#say(`${name} is elected in term ${effect.term}${effect.handover ? ' by hand-over' : ''}`)
        return
      case 'retainLog':
      case 'readLog':
      case 'disconnect':
      case 'rewind':
        if (this.#isTracing) this.#say(`${name} does ${fieldsText(effect)}`)
        return
      default:
    }
  }
}

function membersText(members: Members | undefined): string {
  if (members === undefined) return 'none'
  const removed = members.removed.length === 0 ? '' : ` removed ${members.removed.join(' ')}`
  return `${members.members.map((each) => each.site).join(' ')}${removed}`
}

function siteText(site: FakeSite): string {
  if (!site.isUp) return `  ${site.name} is down`
  const { role, term, lastLsn, committedLsn, knownMaster } = site.core
  const follows = role === 'replica' ? ` of ${knownMaster?.site ?? '?'}` : ''
  return `  ${site.name} is ${role}${follows} term ${term} last ${lastLsn} committed ${committedLsn}`
}

function fieldsText(fields: object): string {
  const parts: string[] = []
  for (const [name, value] of Object.entries(fields)) {
    if (name === 'peer' || value === undefined) continue
    if (value instanceof Uint8Array && value.length === 0) continue
    parts.push(name === 'kind' ? String(value) : `${name}=${valueText(value)}`)
  }
  return parts.join(' ')
}

function valueText(value: unknown): string {
  if (value instanceof Uint8Array) return `'${utf8Decode(value)}'`
  if (typeof value !== 'object' || value === null) {
    return typeof value === 'number' ? String(Math.round(value)) : String(value)
  }
  if ('members' in value && 'removed' in value) return `(${membersText(value as Members)})`
  if ('lsn' in value && 'term' in value) return `${String(value.term)}:${String(value.lsn)}`
  return `(${fieldsText(value)})`
}

function eventText(event: object): string {
  return fieldsText(event)
}

function resultText(result: StepResult): string {
  return fieldsText(result)
}

function messageText(message: Message): string {
  const { type, session: _session, ...fields } = message
  const shown: Record<string, unknown> = { ...fields }
  for (const noise of [
    'crc',
    'stamp',
    'heartbeatMs',
    'silenceTimeoutMs',
    'sites',
    'attest',
    'rowsEstimate',
    'incarnation',
    'tiebreak',
    'ackMicros',
  ]) {
    delete shown[noise]
  }
  for (const [name, value] of Object.entries(shown)) {
    if (value === false || value === '' || (name === 'leaseMs' && value === 0)) delete shown[name]
    if (Array.isArray(value)) {
      shown[name] = value.map((reign) => `${reign.term}@${reign.firstLsn}`).join(',') || undefined
    }
    if (name === 'resume' && value !== undefined) shown[name] = 'yes'
  }
  return `${type} ${fieldsText(shown)}`
}
