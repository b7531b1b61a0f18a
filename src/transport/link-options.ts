// How links are protected and packed: what every face takes, and every transport is given. A transport takes what
// concerns it, and refuses with OPTION_INVALID what it would have to ignore: nobody is to believe a link protected
// that is not.

import { utf8Encode } from '../base/bytes.ts'
import { limits } from '../base/limits.ts'
import { eitherOf, listOf, type OptionRules, objectOf, oneOf, text, truth } from '../base/options.ts'
import type { StreamTls } from '../env/host.ts'

/** Node's own options, and what is to be believed of the other side. */
export interface TlsOptions extends StreamTls {
  /** The name that the other side's certificate must bear. Default: the host of its address. */
  readonly serverName?: string
  /**
   * A site may only take part under an id that its certificate names (its common name, or a DNS name among its
   * alternative names). Default true.
   */
  readonly bindSite?: boolean
}

export interface LinkOptions {
  /** For `tls://`. */
  readonly tls?: TlsOptions
  /** For `tcp://`, `pipe:` and, beside certificates, `tls://`: whoever does not prove to know it is not listened to. At least 16 bytes. */
  readonly secret?: string | Uint8Array
  /** For `udp://`: 32 bytes that all sites share; every datagram is encrypted and authenticated. */
  readonly key?: Uint8Array
  /** For `udp://`: without `key`, also beyond loopback. Default false. */
  readonly insecure?: boolean
  /** For `udp://`: `group:port`, such as `239.1.2.3:4711`, to which live records are sent once for all replicas. Default: none. */
  readonly multicast?: string
  /** What is offered; used where the other side offers it, too. Default `none`. */
  readonly compression?: 'none' | 'deflate' | 'zstd'
}

const bytes = (value: unknown): string | undefined =>
  value instanceof Uint8Array && value.length > 0 ? undefined : 'bytes'
const longEnough = (value: unknown): string | undefined => {
  const length =
    typeof value === 'string' ? utf8Encode(value).length : (bytes(value) ?? (value as Uint8Array).length)
  return typeof length === 'number' && length >= limits.secretBytesMin
    ? undefined
    : `text or bytes (a Uint8Array) of at least ${limits.secretBytesMin} bytes`
}
const pem = eitherOf(text, bytes)
const tlsRules: OptionRules = {
  ca: eitherOf(pem, listOf(pem)),
  cert: pem,
  key: pem,
  passphrase: text,
  minVersion: oneOf('TLSv1.2', 'TLSv1.3'),
  ciphers: text,
  serverName: text,
  bindSite: truth,
}
const wholeTls = (value: unknown): string | undefined => {
  const reason = objectOf(tlsRules)(value)
  if (reason !== undefined) return reason
  const missing = ['ca', 'cert', 'key'].find((name) => (value as Record<string, unknown>)[name] === undefined)
  return missing === undefined ? undefined : `an object with '${missing}'`
}

export const linkRules: OptionRules = {
  tls: wholeTls,
  secret: longEnough,
  key: (value) => (bytes(value) === undefined ? undefined : 'bytes (a Uint8Array); for udp:// 32 of them'),
  insecure: truth,
  multicast: text,
  compression: oneOf('none', 'deflate', 'zstd'),
}

/** The link options among those of a call. */
export function linkOptionsOf(options: LinkOptions): LinkOptions {
  const { tls, secret, key, insecure, multicast, compression } = options
  return {
    ...(tls === undefined ? {} : { tls }),
    ...(secret === undefined ? {} : { secret }),
    ...(key === undefined ? {} : { key }),
    ...(insecure === undefined ? {} : { insecure }),
    ...(multicast === undefined ? {} : { multicast }),
    ...(compression === undefined ? {} : { compression }),
  }
}

/** Who is at this end of a link. */
export interface LinkIdentity {
  readonly site: string
  /** Undefined while there is no database yet. */
  readonly databaseId: string | undefined
}

/** What a transport is given. */
export interface LinkSettings extends LinkOptions {
  /** As it is when a link is made. */
  readonly identity: () => LinkIdentity
}
