// The same closed loop against Redis: a SET and a WAIT for one replica are one commit. Committers share connections:
// one each, or all of them one, where the SETs of a round go out together and one WAIT serves them.

import { Histogram } from './histogram.ts'
import { sleep } from './load.ts'
import { RespClient, respCommand } from './resp-client.ts'
import { Draw, makeKeys, makeValues } from './rows.ts'
import type { LoadResult, PeerLoadOptions } from './worker-calls.ts'

const waitForOne = respCommand('WAIT', '1', '0')

export async function runPeerLoad(
  options: PeerLoadOptions,
): Promise<Pick<LoadResult, 'commits' | 'seconds' | 'p50Ms' | 'p99Ms'>> {
  const keys = makeKeys(options.keys)
  const values = makeValues(options.valueBytes)
  const draw = new Draw(options.keys, options.committers)
  const clients = await Promise.all(
    Array.from({ length: options.connections }, () => RespClient.connect(options.ports.master)),
  )
  const commitsAtOnce = Math.max(1, Math.floor(options.committers / options.connections))
  let histogram = new Histogram()
  let running = true
  let turn = 0
  const loop = async (client: RespClient): Promise<void> => {
    while (running) {
      let commands = ''
      for (let i = 0; i < commitsAtOnce; i++) {
        commands += respCommand('SET', keys[draw.next()] as string, values[turn++ & 1023] as string)
      }
      const startedAt = performance.now()
      const replicas = await client.send(commands + waitForOne, commitsAtOnce + 1)
      const ms = performance.now() - startedAt
      if (Number(replicas) < 1) throw new Error(`WAIT answered ${replicas}`)
      for (let i = 0; i < commitsAtOnce; i++) histogram.add(ms)
    }
  }
  const loops = Promise.all(clients.map((client) => loop(client)))
  const failed = loops.then(() => undefined)
  await Promise.race([failed, sleep(options.warmUpSeconds * 1000)])
  histogram = new Histogram()
  const startedAt = performance.now()
  await Promise.race([failed, sleep(options.seconds * 1000)])
  const seconds = (performance.now() - startedAt) / 1000
  const measured = histogram
  histogram = new Histogram()
  const commits = measured.count
  running = false
  await loops
  for (const client of clients) client.close()
  return { commits, seconds, p50Ms: measured.percentile(0.5), p99Ms: measured.percentile(0.99) }
}
