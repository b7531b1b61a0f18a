// A group of three sites that elects its own master; in one process here, where each would have a machine of its own.
// After `npm run build`, in an empty directory, where it makes `a`, `b` and `c`: `node <path of>/examples/group.mjs`.
import { open } from '../dist/index.js'

const sites = []
for (const site of ['a', 'b', 'c']) {
  const db = await open(`./${site}`, { site })
  const seeds = sites.map((other) => other.group.address) // the first has none, and founds the group
  const group = await db.join({ listen: 'tcp://127.0.0.1:0', seeds })
  await group.ready // a master is known, and this site has its data
  sites.push({ site, db, group })
}
const [a, b, c] = sites
while (c.group.members.length < 3) await new Promise((resolve) => c.group.on('memberAdded', resolve))

const { token, acks } = await a.db.put('city:1', 'Jakarta') // on two of three disks when it resolves
console.log(`${a.group.master.site} is master; on ${acks} sites; ${a.db.status().canLose}`)
await b.db
  .put('city:1', 'Batavia')
  .catch(({ code, details }) => console.log(`b: ${code}, write at ${details.site}`))

const { site, term } = await a.group.transfer('b') // writes wait some milliseconds, nothing is lost
console.log(`${site} is master in term ${term}`)

const next = new Promise((resolve) => {
  for (const { group, db } of [a, c]) group.on('master', () => resolve(db))
})
await b.db.close() // hands over to another site; had it died, the others would have elected one
const master = await next
await master.put('city:2', 'Bandung')
console.log(
  `without b: ${await master.get('city:1')}, ${await master.outcome(token)}; ${master.status().canLose}`,
)

await Promise.all([a, c].map(({ db }) => db.close()))
