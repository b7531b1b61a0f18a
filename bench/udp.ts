// How much goes through udp://, in this process and on loopback: through a good network, one that loses a fifth, and a
// narrow line that two share; what live records wait beside bulk; and what a datagram's cipher costs.
//
//   node --import tsx bench/udp.ts            all of it, about half a minute
//   node --import tsx bench/udp.ts line       only the parts whose name contains `line`

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { nodeHost } from '../src/env/node/node-host.ts'
import { attachMaster, type Database, open } from '../src/index.ts'
import { parseAddress } from '../src/transport/address.ts'
import type { LinkSettings } from '../src/transport/link-options.ts'
import type { Connection, Listener } from '../src/transport/transport.ts'
import { udpTransport } from '../src/transport/udp/udp-transport.ts'
import { openUdpProxy, type UdpProxyOptions } from '../test/support/udp-proxy.ts'

const key = randomBytes(32)
const transport = udpTransport(nodeHost())
const megabyte = 1_000_000

interface Far {
  readonly connection: Connection
  bytes: number
  onMessage: ((control: Uint8Array) => void) | undefined
}

interface Links {
  readonly near: Connection[]
  readonly far: Far[]
  readonly counts:
    | { readonly toServer: number; readonly dropped: number; readonly overflowed: number }
    | undefined
  close(): Promise<void>
}

function settings(keyed: boolean): LinkSettings {
  const identity = (): { site: string; databaseId: undefined } => ({ site: 'bench', databaseId: undefined })
  return keyed ? { identity, key } : { identity }
}

async function connect(options: {
  readonly count: number
  readonly keyed?: boolean
  readonly network?: UdpProxyOptions
}): Promise<Links> {
  const link = settings(options.keyed === true)
  const far: Far[] = []
  const listener: Listener = await transport.listen({
    address: parseAddress('udp://127.0.0.1:0'),
    link,
    onConnection(connection) {
      const each: Far = { connection, bytes: 0, onMessage: undefined }
      connection.handlers = {
        message: (control, payload) => {
          each.bytes += payload.length
          each.onMessage?.(control)
        },
        drain: () => undefined,
        closed: () => undefined,
      }
      connection.acceptFramesUpTo(34 * megabyte)
      far.push(each)
    },
  })
  const network =
    options.network === undefined ? undefined : await openUdpProxy(listener.address, options.network)
  const address = parseAddress(network?.proxy.address ?? listener.address)
  const near: Connection[] = []
  for (let i = 0; i < options.count; i++) {
    near.push(await transport.connect({ address, connectTimeoutMs: 10_000, link }))
    while (far.length <= i) await sleep(5)
  }
  const close = async (): Promise<void> => {
    for (const each of near) each.destroy()
    for (const each of far) each.connection.destroy()
    await listener.close()
    network?.close()
  }
  return { near, far, counts: network?.proxy.counts, close }
}

/** Sends `bytes` in messages of 64 KiB on each connection; how long each took. */
async function transfer(links: Links, bytes: number): Promise<number[]> {
  const chunk = new Uint8Array(65_536)
  const start = performance.now()
  return await Promise.all(
    links.near.map(async (near, i) => {
      let sent = 0
      const sendOn = (): void => {
        for (let room = true; room && sent < bytes; sent += chunk.length)
          room = near.send(Uint8Array.of(i), chunk)
      }
      near.handlers = { message: () => undefined, drain: sendOn, closed: () => undefined }
      sendOn()
      while ((links.far[i] as Far).bytes < bytes) await sleep(5)
      return performance.now() - start
    }),
  )
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function bulk(
  name: string,
  bytes: number,
  options: { readonly count?: number; readonly keyed?: boolean; readonly network?: UdpProxyOptions },
): Promise<void> {
  const links = await connect({ count: 1, ...options })
  const times = await transfer(links, bytes)
  const rates = times.map((ms) => (bytes / megabyte / (ms / 1000)).toFixed(2)).join(' and ')
  const sent = links.near.reduce((sum, each) => sum + each.bytesOut, 0) / (bytes * links.near.length)
  const { counts } = links
  const lost =
    counts === undefined
      ? ''
      : `; of ${counts.toServer} datagrams ${counts.dropped} lost, ${counts.overflowed} overflowed`
  console.log(`${name}: ${rates} MB/s, sent ${sent.toFixed(2)} times its size${lost}`)
  await links.close()
}

/** How late short messages come, one each 5 ms, alone and beside bulk. */
async function latency(
  name: string,
  options: { readonly bulkBytes: number; readonly network?: UdpProxyOptions },
): Promise<void> {
  const links = await connect({
    count: 1,
    ...(options.network === undefined ? {} : { network: options.network }),
  })
  const [near, far] = [links.near[0] as Connection, links.far[0] as Far]
  const late: number[] = []
  far.onMessage = (control) => {
    if (control.length !== 8) return
    late.push(performance.now() - new DataView(control.buffer, control.byteOffset).getFloat64(0))
  }
  const bulkDone = options.bulkBytes === 0 ? sleep(2000) : transfer(links, options.bulkBytes)
  let isDone = false
  const ended = bulkDone.then(() => {
    isDone = true
  })
  if (options.bulkBytes === 0)
    near.handlers = { message: () => undefined, drain: () => undefined, closed: () => undefined }
  let sent = 0
  for (; !isDone; sent++) {
    const control = new Uint8Array(8)
    new DataView(control.buffer).setFloat64(0, performance.now())
    near.send(control)
    await sleep(5)
  }
  await ended
  late.sort((a, b) => a - b)
  const at = (share: number): string => (late[Math.floor(late.length * share)] ?? Number.NaN).toFixed(1)
  console.log(`${name}: ${late.length} of ${sent}, after ${at(0.5)} ms at the median, ${at(0.99)} ms at 99 %`)
  await links.close()
}

async function commits(name: string, listen: string, keyed: boolean): Promise<void> {
  const db: Database = await open(':memory:', { site: 'a' })
  const protection = keyed ? { key } : {}
  const master = await db.serve({ listen, ...protection })
  const attachment = attachMaster({ path: ':memory:', site: 'b' }, master.addresses[0] as string, protection)
  await attachment.synced
  const times: number[] = []
  for (let i = 0; i < 2000; i++) {
    const start = performance.now()
    await db.put(`key ${i % 100}`, 'x'.repeat(100), { acks: 'one' })
    times.push(performance.now() - start)
  }
  times.sort((a, b) => a - b)
  const start = performance.now()
  await Promise.all(
    Array.from({ length: 20_000 }, (_, i) => db.put(`key ${i}`, 'x'.repeat(100), { acks: 'one' })),
  )
  const rate = 20_000 / ((performance.now() - start) / 1000)
  const at = (share: number): string => (times[Math.floor(times.length * share)] as number).toFixed(2)
  console.log(
    `${name}: one at a time ${at(0.5)} ms, 99 % ${at(0.99)} ms; 20,000 at once ${Math.round(rate)} a second`,
  )
  await attachment.stop()
  await master.stop()
  await attachment.db.close()
  await db.close()
}

async function snapshot(name: string, network: UdpProxyOptions): Promise<void> {
  const db: Database = await open(':memory:', { site: 'a' })
  for (let i = 0; i < 4; i++) {
    const rows = Array.from({ length: 1000 }, (_, j) => ({
      type: 'put' as const,
      key: `${i} ${j}`,
      value: 'v'.repeat(1000),
    }))
    await db.batch(rows)
  }
  const master = await db.serve({ listen: 'udp://127.0.0.1:0', key })
  const { proxy, close } = await openUdpProxy(master.addresses[0] as string, network)
  const start = performance.now()
  const attachment = attachMaster({ path: ':memory:', site: 'b' }, proxy.address, { key })
  const { bytes } = await attachment.synced
  const seconds = (performance.now() - start) / 1000
  const { bytesOut = 0 } = master.replicas[0] ?? {}
  const times = (bytesOut / bytes).toFixed(2)
  console.log(
    `${name}: ${(bytes / megabyte).toFixed(1)} MB in ${seconds.toFixed(1)} s, ${times} times its size was sent`,
  )
  await attachment.stop()
  await master.stop()
  await attachment.db.close()
  await db.close()
  close()
}

/** The best of five rounds, in turns: what else the machine does is not the cipher's. */
function ciphers(): void {
  const names = ['aes-256-gcm', 'chacha20-poly1305']
  const best = new Map<string, number>()
  for (let round = 0; round < 5; round++) {
    for (const name of names) {
      for (const size of [64, 1170]) {
        const micros = cipherMicros(name, size)
        best.set(`${name} ${size}`, Math.min(best.get(`${name} ${size}`) ?? Number.POSITIVE_INFINITY, micros))
      }
    }
  }
  for (const name of names) {
    const [short, full] = [64, 1170].map((size) => (best.get(`${name} ${size}`) as number).toFixed(1))
    console.log(`cipher ${name}, sealed and opened: ${short} us for 64 bytes, ${full} us for 1170 bytes`)
  }
}

function cipherMicros(name: string, size: number): number {
  // The overloads of both are the same, but not for a union of them.
  const algorithm = name as 'chacha20-poly1305'
  const [body, nonce, count] = [randomBytes(size), Buffer.alloc(12), 5000]
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    nonce.writeUInt32LE(i)
    const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: 16 })
    const sealed = cipher.update(body)
    cipher.final()
    const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: 16 })
    decipher.setAuthTag(cipher.getAuthTag())
    decipher.update(sealed)
    decipher.final()
  }
  return ((performance.now() - start) * 1000) / count
}

const line = { bytesPerSecond: 2 * megabyte, queueBytes: 65_536 }
const parts: readonly (readonly [name: string, run: (name: string) => Promise<void> | void])[] = [
  ['cipher', ciphers],
  ['loopback', (name) => bulk(name, 60 * megabyte, {})],
  ['loopback with a key', (name) => bulk(name, 60 * megabyte, { keyed: true })],
  ['20 % loss', (name) => bulk(name, 8 * megabyte, { network: { faults: { dropChance: 0.2 } } })],
  [
    '20 % loss, 40 ms round trip',
    (name) => bulk(name, 8 * megabyte, { network: { faults: { dropChance: 0.2, latencyMs: 20 } } }),
  ],
  ['line of 2 MB/s', (name) => bulk(name, 6 * megabyte, { network: { line } })],
  ['two on a line of 2 MB/s', (name) => bulk(name, 5 * megabyte, { count: 2, network: { line } })],
  [
    'two on a line of 2 MB/s, 40 ms round trip',
    (name) => bulk(name, 5 * megabyte, { count: 2, network: { line, faults: { latencyMs: 20 } } }),
  ],
  [
    'two on a line of 2 MB/s, 20 % loss',
    (name) => bulk(name, 4 * megabyte, { count: 2, network: { line, faults: { dropChance: 0.2 } } }),
  ],
  ['short messages alone', (name) => latency(name, { bulkBytes: 0, network: { line } })],
  [
    'short messages beside bulk on the line',
    (name) => latency(name, { bulkBytes: 5 * megabyte, network: { line } }),
  ],
  ['commits over tcp', (name) => commits(name, 'tcp://127.0.0.1:0', false)],
  ['commits over udp', (name) => commits(name, 'udp://127.0.0.1:0', false)],
  ['commits over udp with a key', (name) => commits(name, 'udp://127.0.0.1:0', true)],
  [
    'snapshot over the line',
    (name) => snapshot(name, { line: { bytesPerSecond: 2 * megabyte, queueBytes: 65_536 } }),
  ],
  [
    'snapshot over a line of 0.3 MB/s',
    (name) => snapshot(name, { line: { bytesPerSecond: 300_000, queueBytes: 32_768 } }),
  ],
  ['snapshot through 20 % loss', (name) => snapshot(name, { faults: { dropChance: 0.2 } })],
]
const wanted = process.argv[2] ?? ''
for (const [name, run] of parts) if (name.includes(wanted)) await run(name)
process.exit(0)
