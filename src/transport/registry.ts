// The transports that a site has, by scheme. A build without one says so when an address asks for it, and names
// those that it has.

import { CoterieError } from '../base/errors.ts'
import type { Transport } from './transport.ts'

export class TransportRegistry {
  readonly #transports: Map<string, Transport> = new Map()
  readonly #others: ReadonlyMap<string, Transport>

  /** `others`: those of whoever uses it, which may come later. */
  constructor(
    transports: readonly Transport[] = [],
    others: ReadonlyMap<string, Transport> = new Map<string, Transport>(),
  ) {
    this.#others = others
    for (const transport of transports) this.register(transport)
  }

  get schemes(): string[] {
    return [...this.#transports.keys(), ...this.#others.keys()]
  }

  register(transport: Transport): void {
    if (this.#transports.has(transport.scheme)) {
      throw new TypeError(`there is a transport for ${transport.scheme}:// already`)
    }
    this.#transports.set(transport.scheme, transport)
  }

  /** Errors: ADDRESS_INVALID. */
  get(scheme: string): Transport {
    const transport = this.#transports.get(scheme) ?? this.#others.get(scheme)
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
