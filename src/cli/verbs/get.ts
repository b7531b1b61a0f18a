// coterie get: one value.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { decodeText, jsonField } from '../encoding.ts'
import { CommandError } from '../exit-codes.ts'
import { printable } from '../format.ts'
import {
  type EncodingOptions,
  encodingOptions,
  keyBytes,
  type StoreOption,
  storeOption,
  withPort,
} from './shared.ts'

interface GetOptions extends StoreOption, EncodingOptions {
  readonly raw?: boolean
}

export function defineGet(program: Command, run: CommandRun): Command {
  return defineVerb<GetOptions>(program, run, {
    usage: 'get <path> <key>',
    summary: 'print the value of a key',
    description: 'Exits with 7 if there is no such key.',
    examples: [
      ['coterie get ./data city:1', 'prints the value as text'],
      ['coterie get ./data photo:7 --raw > photo.jpg', 'prints the bytes as they are, with no line end'],
    ],
    options: (command) => {
      storeOption(command)
      encodingOptions(command)
      command.option('--raw', 'the bytes of the value and nothing else')
    },
    action: async (context, [path = '', key = ''], options) => {
      const bytes = keyBytes(key, options)
      const value = await withPort(context, path, { create: false }, (port) => port.get(bytes, options))
      if (value === undefined) {
        throw new CommandError('KEY_NOT_FOUND', `no such key: ${printable(key)}`, { details: { key } })
      }
      if (options.raw === true) {
        await context.output.bytes(value)
        return undefined
      }
      const text = decodeText(value, options.valueEncoding)
      if (text === undefined && !context.output.json) {
        throw new CommandError(
          'USAGE',
          `the value is not ${options.valueEncoding === 'json' ? 'JSON' : 'UTF-8'}`,
          {
            hint: '--raw prints its bytes, --value-encoding hex or base64 shows them',
          },
        )
      }
      await context.output.result({ key, ...jsonField('value', value, options.valueEncoding) }, text ?? '')
      return undefined
    },
  })
}
