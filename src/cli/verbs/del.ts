// coterie del: removes keys, all in one transaction.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import type { TextEncoding } from '../encoding.ts'
import {
  keyBytes,
  keyEncodingOption,
  receiptLine,
  type StoreOption,
  storeOption,
  toWriteOptions,
  type WriteVerbOptions,
  withPort,
  writeOptions,
} from './shared.ts'

type DelOptions = StoreOption & WriteVerbOptions & { readonly keyEncoding: TextEncoding }

export function defineDel(program: Command, run: CommandRun): Command {
  return defineVerb<DelOptions>(program, run, {
    usage: 'del <path> <key...>',
    summary: 'remove keys in one transaction and print the receipt',
    description: 'A key that is not there is no error.',
    examples: [['coterie del ./data city:1 city:2', 'removes two keys']],
    options: (command) => {
      storeOption(command)
      keyEncodingOption(command)
      writeOptions(command)
    },
    action: async (context, [path = '', ...keys], options) => {
      const writes = keys.map((key) => ({
        store: options.store,
        key: keyBytes(key, options),
        value: undefined,
      }))
      const receipt = await withPort(context, path, { create: false }, (port) =>
        port.write(writes, toWriteOptions(options)),
      )
      await context.output.result(receipt, receiptLine(receipt))
      return undefined
    },
  })
}
