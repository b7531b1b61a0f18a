// The network that tests cut: a cut that cut nothing would let every test of partitions pass.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Child, startChild } from '../support/child.ts'
import { type NetworkHosts, networkHosts } from '../support/network-hosts.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const port = 7000
const script = `// Sends datagrams as it is told, and tells what it gets.
import { createSocket } from 'node:dgram'
const socket = createSocket('udp4')
socket.on('message', (message) => process.send?.(message.toString()))
socket.bind(${port}, process.argv[2], () => process.send?.('bound'))
process.on('message', ({ text, to }: { text: string; to: string }) => socket.send(text, ${port}, to))
`

interface Talker {
  readonly child: Child
  readonly address: string
}

async function startTalker(t: TestContext, network: NetworkHosts, name: string): Promise<Talker> {
  const path = join(withTempFolder(t), 'talk.ts')
  writeFileSync(path, script)
  const { namespace, address } = network.host(name)
  const child = startChild(t, path, { namespace, args: [address] })
  assert.equal(await child.next({ what: 'binding' }), 'bound')
  return { child, address }
}

test('what is sent in the direction of a cut is gone, what is sent in any other arrives, and healing ends it', async (t) => {
  const made = networkHosts(t, ['a', 'b', 'c'])
  if ('refusal' in made) {
    t.skip(`no network of its own here: ${made.refusal}`)
    return
  }
  const { network } = made
  const a = await startTalker(t, network, 'a')
  const b = await startTalker(t, network, 'b')
  const c = await startTalker(t, network, 'c')
  const hears = async (to: Talker, from: Talker, text: string): Promise<void> => {
    from.child.send({ text, to: to.address })
    // Nothing that was sent before comes after it.
    assert.equal(await to.child.next({ what: `hearing '${text}'` }), text)
  }
  await hears(b, a, 'before')
  network.cut('a', 'b')
  a.child.send({ text: 'into the cut', to: b.address })
  await hears(a, b, 'against the cut')
  await hears(c, a, 'past the cut')
  network.heal()
  await hears(b, a, 'after the cut')
})

test('the hosts of a test are gone when it ends, and those of others are not touched', async (t) => {
  const other = networkHosts(t, ['a'])
  if ('refusal' in other) {
    t.skip(`no network of its own here: ${other.refusal}`)
    return
  }
  let namespace = ''
  await t.test('inner', (inner) => {
    const made = networkHosts(inner, ['a'])
    assert.ok('network' in made)
    namespace = made.network.host('a').namespace
    assert.match(namespaces(), new RegExp(namespace))
  })
  assert.doesNotMatch(namespaces(), new RegExp(namespace))
  assert.match(namespaces(), new RegExp(other.network.host('a').namespace))
})

function namespaces(): string {
  return execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
}
