// Certificates made when a test needs them, by a writer of X.509 that knows just enough: DER by hand, Ed25519 keys. No key
// and no certificate is part of the project.

import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Identity {
  readonly cert: string
  readonly key: string
}

export interface CertificateOptions {
  /** Its common name. */
  readonly name: string
  /** DNS names among its alternative names. Default: none. */
  readonly dns?: readonly string[]
  /** IPv4 addresses among them. Default: 127.0.0.1. */
  readonly ips?: readonly string[]
  /** From now, in days. Default -1 and 1. */
  readonly fromDays?: number
  readonly toDays?: number
}

const dayMs = 86_400_000

/** One who signs certificates. */
export class Authority {
  readonly cert: string
  readonly #name: string
  readonly #key: KeyObject

  constructor(name = 'an authority of the tests') {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    this.#name = name
    this.#key = privateKey
    const extensions = [
      extension('551d13', sequence(boolean(true))),
      extension('551d0f', der(0x03, Buffer.of(1, 0x06))),
    ]
    this.cert = certificate({ issuer: name, options: { name }, publicKey, signer: privateKey, extensions })
  }

  issue(options: CertificateOptions): Identity {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    const names = [
      ...(options.dns ?? []).map((name) => der(0x82, Buffer.from(name, 'latin1'))),
      ...(options.ips ?? ['127.0.0.1']).map((ip) => der(0x87, Buffer.from(ip.split('.').map(Number)))),
    ]
    const extensions = names.length === 0 ? [] : [extension('551d11', sequence(...names))]
    const cert = certificate({ issuer: this.#name, options, publicKey, signer: this.#key, extensions })
    return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
  }
}

function certificate(parts: {
  readonly issuer: string
  readonly options: CertificateOptions
  readonly publicKey: KeyObject
  readonly signer: KeyObject
  readonly extensions: readonly Buffer[]
}): string {
  const { issuer, options, publicKey, signer, extensions } = parts
  const algorithm = sequence(objectId('2b6570'))
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.of(2))),
    der(0x02, Buffer.concat([Buffer.of(1), randomBytes(15)])),
    algorithm,
    commonName(issuer),
    sequence(time(options.fromDays ?? -1), time(options.toDays ?? 1)),
    commonName(options.name),
    publicKey.export({ type: 'spki', format: 'der' }),
    ...(extensions.length === 0 ? [] : [der(0xa3, sequence(...extensions))]),
  )
  const signature = sign(null, toBeSigned, createPrivateKey(signer.export({ type: 'pkcs8', format: 'pem' })))
  const whole = sequence(toBeSigned, algorithm, der(0x03, Buffer.concat([Buffer.of(0), signature])))
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.of(tag, ...head), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function objectId(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'))
}

function boolean(value: boolean): Buffer {
  return der(0x01, Buffer.of(value ? 0xff : 0))
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(objectId(id), boolean(true), der(0x04, value))
}

function commonName(name: string): Buffer {
  return sequence(der(0x31, sequence(objectId('550403'), der(0x0c, Buffer.from(name)))))
}

function time(days: number): Buffer {
  const text = new Date(Date.now() + days * dayMs).toISOString().replace(/[-:T]/g, '').slice(0, 14)
  return der(0x18, Buffer.from(`${text}Z`))
}

/** The options by which the command runs as a site over TLS, with files that are made for it in `folder`. */
export function tlsArguments(folder: string): (site: string) => string[] {
  const authority = new Authority()
  const file = (name: string, content: string): string => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }
  const ca = file('ca.pem', authority.cert)
  return (site) => {
    const { cert, key } = authority.issue({ name: site })
    const files = ['--tls-cert', file(`${site}.pem`, cert), '--tls-key', file(`${site}.key`, key)]
    return ['--site', site, '--tls-ca', ca, ...files]
  }
}
