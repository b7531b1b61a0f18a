// Messages over TLS, under `tls://host:port`, with certificates on both sides. What is to be believed of a certificate is
// judged in env/node/node-tls.ts; which site it lets take part, in group/claims.ts.

import { addressText } from './address.ts'
import {
  type StreamHost,
  type StreamKind,
  StreamTransport,
  type StreamTransportOptions,
} from './stream-transport.ts'
import { hostAndPort } from './tcp-transport.ts'
import type { Transport } from './transport.ts'

const tls: StreamKind = {
  scheme: 'tls',
  takes: ['tls', 'secret', 'compression'],
  isTls: true,
  place: hostAndPort,
  addressOf: ({ host, port }) => addressText({ scheme: 'tls', host, port }),
  remoteOf: (stream) => `tls://${stream.remote}`,
}

export function tlsTransport(host: StreamHost, options: StreamTransportOptions = {}): Transport {
  return new StreamTransport(tls, host, options)
}
