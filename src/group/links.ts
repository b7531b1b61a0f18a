// How a site reaches others and is reached: the transports that there are, and how links over them are protected.

import type { CoterieError } from '../base/errors.ts'
import { parseAddress } from '../transport/address.ts'
import { checkDeclared, checkWishes, linkFor } from '../transport/link-check.ts'
import type { LinkOptions, LinkSettings } from '../transport/link-options.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { Connection, Listener } from '../transport/transport.ts'
import type { Site } from './site.ts'

export class Links {
  readonly #site: Site
  readonly #transports: TransportRegistry
  readonly #settings: LinkSettings

  constructor(options: {
    readonly site: Site
    readonly transports: TransportRegistry
    readonly link: LinkOptions
  }) {
    const { site, transports, link } = options
    this.#site = site
    this.#transports = transports
    this.#settings = {
      ...link,
      identity: () => ({ site: site.site, databaseId: site.core.databaseId }),
    }
  }

  /** On all of these, or on none. Whoever connects may ask to join. Errors: those of `Transport.listen`. */
  async listen(addresses: readonly string[]): Promise<Listener[]> {
    const parsed = addresses.map(parseAddress)
    const found = parsed.map((address) => ({ address, transport: this.#transports.get(address.scheme) }))
    checkWishes(
      this.#settings,
      found.map(({ transport }) => transport),
    )
    const listeners: Listener[] = []
    try {
      for (const { address, transport } of found) {
        const onRefused = (error: CoterieError, remote?: string): void =>
          this.#site.peers.refused(error, remote)
        const link = linkFor(
          this.#settings,
          transport.takes,
          found.map((each) => each.transport.takes),
        )
        checkDeclared(link, transport)
        const onConnection = (connection: Connection): void => this.#site.peers.accept(connection)
        listeners.push(await transport.listen({ address, link, onConnection, onRefused }))
      }
    } catch (error) {
      await Promise.all(listeners.map((listener) => listener.close()))
      throw error
    }
    return listeners
  }

  /** ADDRESS_INVALID if it is no address, or there is no transport for it. */
  check(address: string): void {
    this.#transports.get(parseAddress(address).scheme)
  }

  /** As `check`, and OPTION_INVALID where the address takes nothing of what is asked of links. */
  checkUse(address: string): void {
    checkWishes(this.#settings, [this.#transports.get(parseAddress(address).scheme)])
  }

  /** Errors: ADDRESS_INVALID, and those of `Transport.connect`. */
  async connect(options: {
    readonly address: string
    readonly connectTimeoutMs: number
    readonly signal: AbortSignal
  }): Promise<Connection> {
    const { connectTimeoutMs, signal } = options
    const address = parseAddress(options.address)
    const transport = this.#transports.get(address.scheme)
    checkDeclared(this.#settings, transport)
    return await transport.connect({ address, connectTimeoutMs, signal, link: this.#settings })
  }
}
