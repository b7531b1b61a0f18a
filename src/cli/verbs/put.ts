// coterie put: one value, from the command line or from standard input.

import type { Command } from 'commander'
import { limits } from '../../base/limits.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { encodeText } from '../encoding.ts'
import { usageError } from '../exit-codes.ts'
import { formatCount } from '../format.ts'
import {
  type EncodingOptions,
  encodingOptions,
  keyBytes,
  receiptLine,
  type StoreOption,
  storeOption,
  toWriteOptions,
  type WriteVerbOptions,
  withPort,
  writeOptions,
} from './shared.ts'

type PutOptions = StoreOption & EncodingOptions & WriteVerbOptions

export function definePut(program: Command, run: CommandRun): Command {
  return defineVerb<PutOptions>(program, run, {
    usage: 'put <path> <key> [value]',
    summary: 'write a value and print the receipt',
    description:
      'Without a value, or with -, the bytes of standard input are the value. Creates the database.',
    examples: [
      ['coterie put ./data city:1 Jakarta', 'writes text'],
      ['coterie put ./data photo:7 < photo.jpg', 'writes the bytes of a file'],
    ],
    options: (command) => {
      storeOption(command)
      encodingOptions(command)
      writeOptions(command)
    },
    action: async (context, [path = '', keyText = '', valueText], options) => {
      const key = keyBytes(keyText, options)
      const value =
        valueText === undefined || valueText === '-'
          ? await readAll(context)
          : encodeText(valueText, options.valueEncoding, 'the value')
      const writes = [{ store: options.store, key, value }]
      const receipt = await withPort(context, path, { create: true }, (port) =>
        port.write(writes, toWriteOptions(options)),
      )
      await context.output.result(receipt, receiptLine(receipt))
      return undefined
    },
  })
}

async function readAll(context: VerbContext): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of context.io.stdin.iterator({ signal: context.signal } as object)) {
    chunks.push(chunk as Uint8Array)
    bytes += (chunk as Uint8Array).length
    if (bytes > limits.valueBytesMax) {
      throw usageError(`the value on standard input is over ${formatCount(limits.valueBytesMax)} bytes`)
    }
  }
  return Buffer.concat(chunks)
}
