// What the machine gives, measured in the same run as everything else: a figure without it says little.

import { closeSync, fdatasync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { median } from './histogram.ts'
import type { Workers } from './workers.ts'

export interface Machine {
  readonly cores: number
  readonly cpu: string
  readonly node: string
  /** A 4 KiB write into a file of written zeros, and its sync. */
  readonly fdatasyncP50Ms: number
  /** 64 bytes to another process and back, over TCP. */
  readonly roundTripP50Ms: number
}

const rounds = 400
const writeBytes = 4096

export async function measureMachine(workers: Workers): Promise<Machine> {
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    node: process.version,
    fdatasyncP50Ms: await measureSync(join(workers.folder, 'sync-probe')),
    roundTripP50Ms: await measureRoundTrip(workers),
  }
}

export function machineLine(machine: Machine): string {
  const { cores, cpu, node, fdatasyncP50Ms, roundTripP50Ms } = machine
  const measured = `fdatasync p50 ${fdatasyncP50Ms.toFixed(3)} ms, loopback round trip p50 ${roundTripP50Ms.toFixed(3)} ms`
  return `${cores} cores (${cpu}), Node ${node}, ${measured}`
}

async function measureSync(path: string): Promise<number> {
  const file = openSync(path, 'w')
  try {
    const block = Buffer.alloc(writeBytes, 1)
    for (let i = 0; i < rounds; i++) writeSync(file, Buffer.alloc(writeBytes), 0, writeBytes, i * writeBytes)
    fdatasyncSync(file)
    const times: number[] = []
    for (let i = 0; i < rounds; i++) {
      const startedAt = performance.now()
      writeSync(file, block, 0, writeBytes, i * writeBytes)
      await new Promise<void>((resolve, reject) => {
        fdatasync(file, (error) => (error === null ? resolve() : reject(error)))
      })
      times.push(performance.now() - startedAt)
    }
    return median(times)
  } finally {
    closeSync(file)
  }
}

async function measureRoundTrip(workers: Workers): Promise<number> {
  const { port } = await workers.start().call('echo')
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  try {
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    const times: number[] = []
    const message = Buffer.alloc(64, 1)
    for (let i = 0; i < rounds; i++) {
      const startedAt = performance.now()
      const answered = new Promise((resolve) => {
        socket.once('data', resolve)
      })
      socket.write(message)
      await answered
      times.push(performance.now() - startedAt)
    }
    return median(times)
  } finally {
    socket.destroy()
  }
}
