// How the links of `serve`, `attach` and `join` are protected and packed: options of the command line, and the files that
// they name. What is secret comes from files alone: a command line can be read by everybody on the machine.

import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { LinkOptions } from '../index.ts'
import { CommandError } from './exit-codes.ts'
import { oneOf } from './options.ts'

export interface LinkingOptions {
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly secretFile?: string
  readonly keyFile?: string
  readonly multicast?: string
  readonly compression?: 'none' | 'deflate' | 'zstd'
}

export function linkingOptions(command: Command): void {
  command
    .option('--tls-ca <file>', 'for tls:// addresses: the authorities to believe, as PEM')
    .option('--tls-cert <file>', 'the certificate of this site; it must name its --site')
    .option('--tls-key <file>', 'the key of that certificate')
    .option('--secret-file <file>', 'a secret that all sites share: who does not know it is not let in')
    .option('--key-file <file>', 'for udp:// addresses: a key that all sites share, of 64 hexadecimal digits')
    .option('--multicast <group:port>', 'for udp:// addresses: where live records go once for all replicas')
    .option(
      '--compression <format>',
      'where the other side offers it, too: none (default), deflate or zstd',
      oneOf(['none', 'deflate', 'zstd']),
    )
}

/** Reads the files. Errors: USAGE. */
export function toLinkOptions(options: LinkingOptions): LinkOptions {
  const { tlsCa, tlsCert, tlsKey, secretFile, keyFile, multicast, compression } = options
  const tls = tlsOf({ '--tls-ca': tlsCa, '--tls-cert': tlsCert, '--tls-key': tlsKey })
  return {
    ...(tls === undefined ? {} : { tls }),
    ...(secretFile === undefined
      ? {}
      : { secret: contentOf('--secret-file', secretFile).replace(/\r?\n$/, '') }),
    ...(keyFile === undefined ? {} : { key: keyOf(keyFile) }),
    ...(multicast === undefined ? {} : { multicast }),
    ...(compression === undefined ? {} : { compression }),
  }
}

function tlsOf(
  files: Readonly<Record<'--tls-ca' | '--tls-cert' | '--tls-key', string | undefined>>,
): LinkOptions['tls'] {
  const { '--tls-ca': ca, '--tls-cert': cert, '--tls-key': key } = files
  if (ca === undefined && cert === undefined && key === undefined) return undefined
  if (ca === undefined || cert === undefined || key === undefined) {
    throw new CommandError('USAGE', 'TLS needs --tls-ca, --tls-cert and --tls-key together')
  }
  return {
    ca: contentOf('--tls-ca', ca),
    cert: contentOf('--tls-cert', cert),
    key: contentOf('--tls-key', key),
  }
}

function keyOf(path: string): Uint8Array {
  const digits = contentOf('--key-file', path).trim()
  if (/^[0-9a-f]{64}$/i.test(digits)) return Uint8Array.from(Buffer.from(digits, 'hex'))
  throw new CommandError(
    'USAGE',
    `--key-file ${path} has no 64 hexadecimal digits: openssl rand -hex 32 makes them`,
  )
}

function contentOf(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CommandError('USAGE', `${option} ${path} cannot be read: ${(error as Error).message}`)
  }
}
