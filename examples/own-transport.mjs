// Replication over a network of the application's own - here the message ports between three worker threads - with
// elections that the application holds. The master's thread is ended; the others elect, and go on.
// `npm run build && node examples/own-transport.mjs`

import { MessageChannel, parentPort, Worker, workerData } from 'node:worker_threads'
import { open } from '../dist/index.js'

const names = ['a', 'b', 'c']

if (parentPort === null) await runAll()
else await runSite(workerData)

/** One site: a database, a port to each of the others, and what the application makes of what comes. */
async function runSite({ name, ports }) {
  const db = await open(':memory:', { site: name })
  const rep = await db.replication({
    site: name,
    sites: names.length,
    electionTimeoutMs: 200,
    heartbeatMs: 50,
    send(control, rec, to) {
      const receivers = to === 'all' ? Object.values(ports) : [ports[to]]
      for (const port of receivers) port.postMessage({ control, rec })
    },
  })
  for (const [from, port] of Object.entries(ports)) {
    port.on('message', async ({ control, rec }) => {
      const result = await rep.processMessage(control, rec, from)
      if (result.kind === 'holdElection' || result.kind === 'dupMaster') await elect()
    })
  }
  rep.on('master', ({ term }) => tell('inStep', { site: name, term }))
  rep.on('synced', () => tell('inStep', { site: rep.master, term: rep.term }))
  rep.on('elected', () => {
    rep.start('master').catch(() => undefined) // another term may have begun meanwhile
  })

  /** Until somebody is master: this site, because it won, or another one, which it then follows. */
  async function elect() {
    for (;;) {
      const result = await rep.elect().catch(() => undefined)
      if (result?.kind !== 'unavailable') return
    }
  }

  /** The application watches its master, and asks for an election when it is silent. */
  setInterval(() => {
    if (rep.role === 'replica' && rep.master === undefined) void elect()
  }, 100)

  parentPort.on('message', async ({ put, get, id }) => {
    try {
      if (put !== undefined) {
        const { lsn, acks } = await db.put(...put)
        tell('answer', { id, text: `LSN ${lsn} on ${acks} sites` })
      } else tell('answer', { id, text: `${db.getSync(get)}` })
    } catch (error) {
      tell('answer', { id, text: `${error.code}: ${error.message}` })
    }
  })
  // The first one founds the database; the others take what it has.
  await rep.start(name === 'a' ? 'master' : 'replica')

  function tell(kind, detail) {
    parentPort.postMessage({ kind, ...detail })
  }
}

/** The three threads, and what is asked of them. */
async function runAll() {
  const ports = Object.fromEntries(names.map((name) => [name, {}]))
  for (const [i, near] of names.entries()) {
    for (const far of names.slice(i + 1)) {
      const { port1, port2 } = new MessageChannel()
      ports[near][far] = port1
      ports[far][near] = port2
    }
  }
  const sites = new Map()
  const answers = new Map()
  let heard = () => {}
  for (const name of names) {
    const options = { workerData: { name, ports: ports[name] }, transferList: Object.values(ports[name]) }
    const worker = new Worker(new URL(import.meta.url), options)
    worker.on('message', (message) => {
      if (message.kind === 'answer') answers.get(message.id)(message.text)
      else if (message.kind === 'inStep') heard(name, message)
    })
    sites.set(name, worker)
  }

  const first = await newMaster(0)
  console.log(`${first.site} is master in term ${first.term}`)
  console.log(`${first.site}: put city ->`, await ask(first.site, { put: ['city', 'Jakarta'] }))
  const [other] = names.filter((name) => name !== first.site)
  console.log(`${other}: put city ->`, (await ask(other, { put: ['city', 'Bandung'] })).split(':')[0])

  const found = newMaster(first.term)
  const gone = sites.get(first.site)
  sites.delete(first.site)
  await gone.terminate()
  const second = await found
  console.log(`${first.site} is gone; ${second.site} is master in term ${second.term}`)
  console.log(`${second.site}: put river ->`, await ask(second.site, { put: ['river', 'Musi'] }))
  console.log(`${second.site}: get city ->`, await ask(second.site, { get: 'city' }))
  for (const worker of sites.values()) await worker.terminate()

  /** Resolves once all that are left are in step with a master of a term above `term`, or are it. */
  function newMaster(term) {
    const told = new Map()
    return new Promise((resolve) => {
      heard = (name, message) => {
        if (message.term > term) told.set(name, message)
        const terms = [...sites.keys()].map((each) => told.get(each)?.term)
        if (terms.every((each) => each === message.term)) resolve(message)
      }
    })
  }

  function ask(name, question) {
    const id = answers.size
    return new Promise((resolve) => {
      answers.set(id, resolve)
      sites.get(name).postMessage({ ...question, id })
    })
  }
}
