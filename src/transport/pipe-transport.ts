// Messages over a pipe of this machine, under `pipe:/path` or a bare absolute path: a Unix socket that only its owner
// may use, or a named pipe on Windows. Who may listen where is env/node/pipe-file.ts.

import { parseAddress } from './address.ts'
import {
  type StreamHost,
  type StreamKind,
  StreamTransport,
  type StreamTransportOptions,
} from './stream-transport.ts'
import type { Transport } from './transport.ts'

const pipe: StreamKind = {
  scheme: 'pipe',
  takes: ['secret', 'compression'],
  place: ({ host }) => ({ path: host }),
  addressOf: ({ host }) => parseAddress(host).text,
  remoteOf: (stream) => `pipe:${stream.remote}`,
}

export function pipeTransport(host: StreamHost, options: StreamTransportOptions = {}): Transport {
  return new StreamTransport(pipe, host, options)
}
