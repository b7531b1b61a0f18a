// The transports that a site has, by scheme. A build without one says so when an address asks for it, and names
// those that it has.

import { CoterieError } from '../base/errors.ts'
import type { Transport } from './transport.ts'

export class TransportRegistry {
  readonly #transports: Map<string, Transport> = new Map()

  constructor(transports: readonly Transport[] = []) {
    for (const transport of transports) this.register(transport)
  }

  get schemes(): string[] {
    return [...this.#transports.keys()]
  }

  register(transport: Transport): void {
    if (this.#transports.has(transport.scheme)) {
      throw new TypeError(`there is a transport for ${transport.scheme}:// already`)
    }
    this.#transports.set(transport.scheme, transport)
  }

  /** Errors: ADDRESS_INVALID. */
  get(scheme: string): Transport {
    const transport = this.#transports.get(scheme)
    if (transport !== undefined) return transport
    const known = this.schemes.map((name) => `${name}://`).join(', ')
    throw new CoterieError(
      'ADDRESS_INVALID',
      `there is no transport for ${scheme}://; there is ${known || 'none'}`,
      {
        details: { scheme, schemes: this.schemes },
      },
    )
  }
}
