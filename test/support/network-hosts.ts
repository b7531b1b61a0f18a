// Hosts of a network of their own, for tests that cut it: a Linux network namespace for each host, joined by a bridge
// in one more. The machine's own network gets no interface and no address.
//
// A cut is of one direction between two hosts. It gives the sender a wrong hardware address for the receiver: its
// frames leave and nobody takes them. So nothing is refused and no connection ends; it is silent, as a real cut is.
// What was sent before still arrives. Where the machine does not allow all this, the test gets the reason to skip with.

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import { atEnd } from './at-end.ts'

export interface NetworkHost {
  readonly name: string
  readonly namespace: string
  readonly address: string
}

interface Wired extends NetworkHost {
  hardwareAddress: string
}

const device = 'eth0'
/** Of no interface. */
const nowhere = '02:00:00:00:00:99'

/** Hosts of these short names, gone when the test ends; or why there can be none here. */
export function networkHosts(
  t: TestContext,
  names: readonly string[],
): { readonly network: NetworkHosts } | { readonly refusal: string } {
  if (process.platform !== 'linux') {
    return { refusal: `network namespaces are of Linux, and this is ${process.platform}` }
  }
  try {
    return { network: new NetworkHosts(t, names) }
  } catch (error) {
    if (!(error instanceof IpError)) throw error
    return { refusal: error.message }
  }
}

/** `ip` is not there or has refused. */
class IpError extends Error {}

function ip(...args: readonly string[]): string {
  try {
    return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { message, stderr } = error as Error & { readonly stderr?: string }
    throw new IpError(`'ip ${args.join(' ')}': ${stderr?.trim() || message}`, { cause: error })
  }
}

export class NetworkHosts {
  readonly #t: TestContext
  readonly #prefix = `coterie-${process.pid}-${randomBytes(4).toString('hex')}`
  readonly #hub: string
  readonly #hosts: readonly Wired[]
  readonly #cuts = new Set<string>()

  constructor(t: TestContext, names: readonly string[]) {
    this.#t = t
    this.#hub = this.#namespace('hub')
    ip('-n', this.#hub, 'link', 'add', 'br0', 'type', 'bridge')
    ip('-n', this.#hub, 'link', 'set', 'br0', 'up')
    this.#hosts = names.map((name, index) => this.#wire(name, `10.0.0.${index + 1}`))
    // None is ever asked for on the wire: what a host has said of another before does not end a cut.
    for (const from of this.#hosts) {
      for (const to of this.#hosts) if (to !== from) this.#point(from, to, to.hardwareAddress)
    }
    for (const { namespace } of this.#hosts) ip('netns', 'exec', namespace, process.execPath, '--version')
  }

  #namespace(name: string): string {
    const namespace = `${this.#prefix}-${name}`
    ip('netns', 'add', namespace)
    atEnd(this.#t, () => {
      ip('netns', 'del', namespace)
    })
    return namespace
  }

  #wire(name: string, address: string): Wired {
    const namespace = this.#namespace(name)
    const port = `to-${name}`
    ip('-n', namespace, 'link', 'add', device, 'type', 'veth', 'peer', 'name', port, 'netns', this.#hub)
    ip('-n', this.#hub, 'link', 'set', port, 'master', 'br0', 'up')
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', device)
    ip('-n', namespace, 'link', 'set', device, 'up')
    const [link] = JSON.parse(ip('-json', '-n', namespace, 'link', 'show', device)) as { address: string }[]
    return { name, namespace, address, hardwareAddress: link?.address ?? '' }
  }

  #point(from: NetworkHost, to: NetworkHost, hardwareAddress: string): void {
    const entry = [to.address, 'lladdr', hardwareAddress, 'nud', 'permanent', 'dev', device]
    ip('-n', from.namespace, 'neighbour', 'replace', ...entry)
  }

  host(name: string): NetworkHost {
    return this.#find(name)
  }

  #find(name: string): Wired {
    const found = this.#hosts.find((host) => host.name === name)
    if (found === undefined) throw new Error(`there is no host ${name}`)
    return found
  }

  /** Nothing that the first host sends reaches the second any more. */
  cut(from: string, to: string): void {
    this.#point(this.#find(from), this.#find(to), nowhere)
    this.#cuts.add(`${from} ${to}`)
  }

  /** Ends all cuts. */
  heal(): void {
    for (const cut of this.#cuts) {
      const [from = '', to = ''] = cut.split(' ')
      this.#point(this.#find(from), this.#find(to), this.#find(to).hardwareAddress)
      this.#cuts.delete(cut)
    }
  }
}
