// The twenty lines of README.md, to be run: `node --import tsx examples/readme.ts`. It makes `data` and `copy` in the
// working directory, and goes on with them when it is run again.
import { attachMaster, open } from '../src/index.ts'

await using db = await open('./data')
await using master = await db.serve({ listen: 'tcp://127.0.0.1:0', sites: 2, acks: 'quorum' })

const attachment = attachMaster({ path: './copy' }, master.addresses[0]!)
const { kind, to } = await attachment.synced
console.log(`the replica is in step (${kind}, up to record ${to})`)

await db.put('city:1', 'Jakarta') // on both disks when it resolves
const { result, lsn, token, acks } = await db.transact((tx) => {
  const runs = Number(tx.get('runs') ?? 0) + 1
  tx.put('runs', String(runs))
  return runs
})
console.log(`run ${result} is record ${lsn}, on ${acks} sites`)
console.log(await attachment.db.get('runs', { after: token }), await attachment.db.outcome(token))

for await (const [key, name] of db.entries({ gte: 'city:', lt: 'city;' })) console.log(key, name)
console.log(db.status().canLose)
await attachment.db.close()
