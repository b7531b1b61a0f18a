// Messages over TCP, under `tcp://host:port`. Neither encrypted nor, without a secret, authenticated.

import { CoterieError } from '../base/errors.ts'
import type { StreamPlace } from '../env/host.ts'
import { type Address, addressText } from './address.ts'
import {
  type StreamHost,
  type StreamKind,
  StreamTransport,
  type StreamTransportOptions,
} from './stream-transport.ts'
import type { Transport } from './transport.ts'

const tcp: StreamKind = {
  scheme: 'tcp',
  takes: ['secret', 'compression'],
  place: hostAndPort,
  addressOf: ({ host, port }) => addressText({ scheme: 'tcp', host, port }),
  remoteOf: (stream) => `tcp://${stream.remote}`,
}

export function tcpTransport(host: StreamHost, options: StreamTransportOptions = {}): Transport {
  return new StreamTransport(tcp, host, options)
}

/** Errors: ADDRESS_INVALID, where there is no port to connect to. */
export function hostAndPort({ host, port, text }: Address, to: 'listen' | 'connect'): StreamPlace {
  if (port === 0 && to === 'connect') {
    throw new CoterieError('ADDRESS_INVALID', `${text} has no port to connect to`)
  }
  return { host, port }
}
