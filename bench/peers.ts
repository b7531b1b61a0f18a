// The same load on what a user would take instead, where it is installed: Redis, one master and two replicas, every
// commit a SET and a WAIT for one replica. Its WAIT says that a replica has received the write, not that it is on disk.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { sleep } from './load.ts'
import type { BenchOptions } from './options.ts'
import { RespClient, respCommand } from './resp-client.ts'
import type { Group } from './table.ts'
import { withWorkers } from './workers.ts'

const startTimeoutMs = 20_000

/** The version, or undefined where there is none. */
export function redisVersion(): string | undefined {
  const { status, stdout } = spawnSync('redis-server', ['--version'], { encoding: 'utf8' })
  return status === 0 ? (/v=(\S+)/.exec(stdout)?.[1] ?? 'of an unknown version') : undefined
}

export function benchRedis(
  kind: 'durable' | 'memory',
  version: string,
  options: BenchOptions,
): Promise<Group> {
  return withWorkers(options.folder, async (workers) => {
    const servers: RedisServer[] = []
    try {
      const master = await RedisServer.start(workers.path('redis-0'), kind, undefined)
      servers.push(master)
      for (const name of ['redis-1', 'redis-2']) {
        servers.push(await RedisServer.start(workers.path(name), kind, master.port))
      }
      await untilReplicasFollow(master.port)
      const worker = workers.start()
      const rows: Record<string, string | number>[] = []
      for (const committers of options.committers) {
        // One connection for each committer, and all on one: a user may do either, so the better one counts.
        for (const connections of committers === 1 ? [1] : [committers, 1]) {
          const { seconds, warmUpSeconds, keys, valueBytes } = options
          const ports = { master: master.port }
          const load = { ports, committers, connections, warmUpSeconds, seconds, keys, valueBytes }
          const result = await worker.call('peerLoad', load)
          rows.push({
            committers,
            connections,
            'commits/s': result.commits / result.seconds,
            'p50 ms': result.p50Ms,
            'p99 ms': result.p99Ms,
          })
        }
      }
      const how = kind === 'durable' ? 'appendfsync always' : 'no append-only file'
      return {
        name: `redis-${kind}`,
        title: `Peer: Redis ${version}, ${how}, WAIT 1, two replicas`,
        columns: ['committers', 'connections', 'commits/s', 'p50 ms', 'p99 ms'],
        rows,
        note: 'WAIT promises that one replica has received the write, not that it is on its disk.',
      }
    } finally {
      await Promise.all(servers.map((server) => server.kill()))
    }
  })
}

class RedisServer {
  readonly port: number
  readonly #child: ChildProcess
  readonly #exited: Promise<void>

  private constructor(child: ChildProcess, port: number) {
    this.port = port
    this.#child = child
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => resolve())
    })
  }

  static async start(
    folder: string,
    kind: 'durable' | 'memory',
    masterPort: number | undefined,
  ): Promise<RedisServer> {
    mkdirSync(folder)
    const port = await freePort()
    const files =
      kind === 'durable' ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no']
    const master = masterPort === undefined ? [] : ['--replicaof', `127.0.0.1 ${masterPort}`]
    const common = ['--bind', '127.0.0.1', '--port', String(port), '--dir', folder, '--save', '']
    const child = spawn('redis-server', [...common, ...files, ...master], { stdio: 'ignore' })
    const server = new RedisServer(child, port)
    try {
      await answers(port)
    } catch (error) {
      await server.kill()
      throw error
    }
    return server
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#exited
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

async function answers(port: number): Promise<void> {
  const until = performance.now() + startTimeoutMs
  for (;;) {
    try {
      const client = await RespClient.connect(port)
      const reply = await client.send(respCommand('PING'), 1).finally(() => client.close())
      if (reply === 'PONG') return
    } catch (error) {
      if (performance.now() > until)
        throw new Error(`redis-server does not answer on ${port}`, { cause: error })
    }
    await sleep(20)
  }
}

async function untilReplicasFollow(port: number): Promise<void> {
  const client = await RespClient.connect(port)
  try {
    const until = performance.now() + startTimeoutMs
    const ask = respCommand('SET', 'probe', '1') + respCommand('WAIT', '2', '100')
    while (Number(await client.send(ask, 2)) < 2) {
      if (performance.now() > until) throw new Error('the replicas of Redis do not follow')
    }
  } finally {
    client.close()
  }
}
