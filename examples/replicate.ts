// A master and a replica in one process, each with a folder of its own. The replica goes away and comes back; then the
// master goes away and the replica takes its place. `node --import tsx examples/replicate.ts`
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { attachMaster, isCoterieError, open } from '../src/index.ts'

const folder = await mkdtemp(join(tmpdir(), 'coterie-example-'))
const group = { listen: 'tcp://127.0.0.1:0', sites: 2, acks: 'quorum' } as const

const first = await open(join(folder, 'first'))
const firstMaster = await first.serve(group)
const attachment = attachMaster({ path: join(folder, 'second') }, firstMaster.addresses[0]!)
console.log('a new replica comes into step by', (await attachment.synced).kind)
const second = attachment.db

const { token, acks } = await first.put('city:1', 'Jakarta')
console.log(`committed on ${acks} sites; the replica reads`, await second.get('city:1', { after: token }))
await second.put('city:1', 'Batavia').catch((error: unknown) => {
  if (!isCoterieError(error, 'NOT_MASTER')) throw error
  console.log('a write on the replica is refused:', error.code)
})

// The replica goes. With two sites and acks 'quorum' both must have a commit; this one asks for less.
await attachment.stop()
await first.put('city:2', 'Bandung', { acks: 'none' })
const again = attachMaster(second, firstMaster.addresses[0]!)
const { kind, transactions } = await again.synced
console.log(`it comes back by ${kind}, with ${transactions} transaction`)

// The master goes, and the operator makes the replica master. With more than one replica: the one that has the most.
await first.close()
console.log('the attachment ended:', (await again.stopped).reason)
const { term } = await second.promote()
await using secondMaster = await second.serve(group)
const former = attachMaster({ path: join(folder, 'first') }, secondMaster.addresses[0]!)
await former.synced
const receipt = await second.put('city:3', 'Surabaya')
await former.db.get('city:3', { after: receipt.token }) // a replica shows a commit a moment after it was acknowledged
console.log(`in term ${term} on ${receipt.acks} sites`, await former.db.values({ gte: 'city:' }).all())

await former.db.close()
await second.close()
await rm(folder, { recursive: true })
