// The transports that this version has, by the scheme of their addresses. UDP will be registered here.

import type { Host } from '../env/host.ts'
import { memoryTransport } from '../transport/memory-transport.ts'
import { pipeTransport } from '../transport/pipe-transport.ts'
import { TransportRegistry } from '../transport/registry.ts'
import { tcpTransport } from '../transport/tcp-transport.ts'
import { tlsTransport } from '../transport/tls-transport.ts'

const registries = new WeakMap<Host['streams'], TransportRegistry>()

export function transportsOf(host: Host): TransportRegistry {
  let registry = registries.get(host.streams)
  if (registry === undefined) {
    registry = new TransportRegistry()
    registry.register(tcpTransport(host))
    registry.register(tlsTransport(host))
    registry.register(pipeTransport(host))
    registry.register(memoryTransport(host))
    registries.set(host.streams, registry)
  }
  return registry
}
