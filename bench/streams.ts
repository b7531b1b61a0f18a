// How many messages a second one connection carries over loopback: 100,000 messages of 200 bytes, timed from the first
// send to the last arrival, both ends in this process.
//
//   node --import tsx bench/streams.ts                      five runs over TCP, their median, JSON
//   node --import tsx bench/streams.ts runs=9 count=200000
//   node --import tsx bench/streams.ts compression=deflate

import { nodeHost } from '../src/env/node/node-host.ts'
import { parseAddress } from '../src/transport/address.ts'
import type { LinkSettings } from '../src/transport/link-options.ts'
import { tcpTransport } from '../src/transport/tcp-transport.ts'
import type { Connection } from '../src/transport/transport.ts'

const given = new Map(process.argv.slice(2).map((word) => word.split('=', 2) as [string, string]))
const runs = Number(given.get('runs') ?? 5)
const count = Number(given.get('count') ?? 100_000)
const compression = given.get('compression') === 'deflate' ? 'deflate' : 'none'
const link: LinkSettings = { compression, identity: () => ({ site: 'bench', databaseId: undefined }) }
const controlBytes = 40
const payloadBytes = 160

interface Run {
  readonly rate: number
  /** Of this process, for both ends: steadier than the rate where others work on the machine, too. */
  readonly cpuUs: number
}

async function measure(): Promise<Run> {
  const transport = tcpTransport(nodeHost())
  let received = 0
  let done: () => void = () => undefined
  const finished = new Promise<void>((resolve) => {
    done = resolve
  })
  let far: Connection | undefined
  const listener = await transport.listen({
    address: parseAddress('127.0.0.1:0'),
    link,
    onConnection(connection) {
      far = connection
      connection.handlers = {
        message() {
          received++
          if (received === count) done()
        },
        drain: () => undefined,
        closed: () => undefined,
      }
    },
  })
  const near = await transport.connect({
    address: parseAddress(listener.address),
    link,
    connectTimeoutMs: 5000,
  })
  const payload = new Uint8Array(payloadBytes)
  let sent = 0
  const sendOn = (): void => {
    while (sent < count) {
      // As the core does: the control is made anew for each message, the payload is what it is.
      const control = new Uint8Array(controlBytes)
      control[0] = ++sent
      if (!near.send(control, payload)) return
    }
  }
  near.handlers = { message: () => undefined, drain: sendOn, closed: () => undefined }
  const start = performance.now()
  const cpu = process.cpuUsage()
  sendOn()
  await finished
  const seconds = (performance.now() - start) / 1000
  near.destroy()
  far?.destroy()
  await listener.close()
  const { user, system } = process.cpuUsage(cpu)
  return { rate: count / seconds, cpuUs: (user + system) / count }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0
}

const done: Run[] = []
// The first run compiles.
await measure()
for (let run = 0; run < runs; run++) done.push(await measure())
console.log(
  JSON.stringify({
    count,
    compression,
    messageBytes: controlBytes + payloadBytes,
    rates: done.map(({ rate }) => Math.round(rate)),
    medianRate: Math.round(median(done.map(({ rate }) => rate))),
    medianCpuUs: Number(median(done.map(({ cpuUs }) => cpuUs)).toFixed(3)),
  }),
)
