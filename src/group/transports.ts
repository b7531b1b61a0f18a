// The transports that there are, by the scheme of their addresses: those of this version, and those that a program has
// registered for all of its databases.

import type { Host } from '../env/host.ts'
import { linkRules } from '../transport/link-options.ts'
import { memoryTransport } from '../transport/memory-transport.ts'
import { pipeTransport } from '../transport/pipe-transport.ts'
import { TransportRegistry } from '../transport/registry.ts'
import { tcpTransport } from '../transport/tcp-transport.ts'
import { tlsTransport } from '../transport/tls-transport.ts'
import type { Transport } from '../transport/transport.ts'
import { udpTransport } from '../transport/udp/udp-transport.ts'

/** Of this version, or of a later one. */
const ownSchemes: ReadonlySet<string> = new Set(['tcp', 'tls', 'pipe', 'memory', 'udp'])
const registered = new Map<string, Transport>()

/**
 * From now on every database of this process serves, attaches and joins under addresses `scheme://...` by this
 * transport. `coterie/testing` has the tests that it must pass; `takes` says which link options it heeds: protection
 * of which it heeds none is refused. Throws a TypeError for a scheme that there is already, or
 * that is not the transport's.
 */
export function registerTransport(scheme: string, transport: Transport): void {
  if (typeof scheme !== 'string' || !/^[a-z][a-z0-9+-]*$/.test(scheme)) {
    throw new TypeError(`'${scheme}' is no scheme: a lower-case letter, then letters, digits, + and -`)
  }
  if (ownSchemes.has(scheme) || registered.has(scheme)) {
    throw new TypeError(`there is a transport for ${scheme}:// already`)
  }
  if (typeof transport?.listen !== 'function' || typeof transport.connect !== 'function') {
    throw new TypeError(`the transport for ${scheme}:// must have the functions listen() and connect()`)
  }
  const { takes = [] } = transport
  if (!Array.isArray(takes) || !takes.every((each) => Object.hasOwn(linkRules, each))) {
    const names = Object.keys(linkRules).join(', ')
    throw new TypeError(`'takes' of the transport for ${scheme}:// must be a list of link options: ${names}`)
  }
  if (transport.scheme !== scheme) {
    throw new TypeError(`the transport is for ${transport.scheme}://, not for ${scheme}://`)
  }
  registered.set(scheme, transport)
}

const registries = new WeakMap<Host['streams'], TransportRegistry>()

export function transportsOf(host: Host): TransportRegistry {
  let registry = registries.get(host.streams)
  if (registry === undefined) {
    registry = new TransportRegistry([], registered)
    registry.register(tcpTransport(host))
    registry.register(tlsTransport(host))
    registry.register(pipeTransport(host))
    registry.register(udpTransport(host))
    registry.register(memoryTransport(host))
    registries.set(host.streams, registry)
  }
  return registry
}
