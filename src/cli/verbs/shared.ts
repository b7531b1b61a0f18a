// Options and steps that several verbs share.

import type { Command } from 'commander'
import type { VerbContext } from '../command.ts'
import { encodeText, type TextEncoding } from '../encoding.ts'
import { formatCount } from '../format.ts'
import { type OpenPortOptions, openPort } from '../open-port.ts'
import { ackPolicy, durationMs, oneOf, textEncoding } from '../options.ts'
import type { DatabasePort, PortReceipt, WriteOptions } from '../port.ts'

export interface StoreOption {
  readonly store?: string
}

export interface EncodingOptions {
  readonly keyEncoding: TextEncoding
  readonly valueEncoding: TextEncoding
}

export function storeOption(command: Command): void {
  command.option('--store <name>', 'the named store; default: the unnamed one')
}

export function keyEncodingOption(command: Command): void {
  command.option('--key-encoding <encoding>', 'of keys: utf8, hex, base64 or json', textEncoding, 'utf8')
}

export function encodingOptions(command: Command): void {
  keyEncodingOption(command)
  command.option('--value-encoding <encoding>', 'of values: utf8, hex, base64 or json', textEncoding, 'utf8')
}

export interface WriteVerbOptions {
  readonly acks?: string | number
  readonly durability?: string
  readonly ackTimeout?: number
}

export function writeOptions(command: Command): void {
  command
    .option(
      '--acks <policy>',
      'for this write: none, one, onePeer, quorum, allPeers, allAvailable, all, or a number',
      ackPolicy,
    )
    .option(
      '--durability <how>',
      'here: sync (default), written or memory',
      oneOf(['sync', 'written', 'memory']),
    )
    .option('--ack-timeout <time>', 'how long to wait for the acks, such as 500ms or 10s', durationMs)
}

export function toWriteOptions(options: WriteVerbOptions): WriteOptions {
  return { acks: options.acks, durability: options.durability, ackTimeoutMs: options.ackTimeout }
}

/** Opens, uses and closes the database at `path`, or reaches it through the process that has it open. */
export async function withPort<R>(
  context: VerbContext,
  path: string,
  options: OpenPortOptions,
  use: (port: DatabasePort) => Promise<R>,
): Promise<R> {
  const port = await openPort(path, context.host, options)
  try {
    return await use(port)
  } finally {
    await port.close()
  }
}

export function keyBytes(text: string, options: { readonly keyEncoding: TextEncoding }): Uint8Array {
  return encodeText(text, options.keyEncoding, 'the key')
}

export function receiptLine(receipt: PortReceipt): string {
  const sites = `${formatCount(receipt.acks)} ${receipt.acks === 1 ? 'site' : 'sites'}`
  const detached = receipt.detached.length === 0 ? '' : `; detached: ${receipt.detached.join(', ')}`
  return `lsn ${formatCount(receipt.lsn)}, term ${receipt.term}, on ${sites}${detached}`
}
