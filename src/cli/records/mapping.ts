// How a parsed row (a JSON object, or the columns of a CSV row) becomes a key and a value.
//
// Two ways. Without --key, the row must be of the shape that `dump` writes: key (or key64), value (or value64), and
// store if it is not the default one; or a delete, `"type": "del"` with a key, as the files have them that keep what a
// rewind took back. With --key 'city:{cityId}', any row: the key comes from the template, the value
// is the row itself as JSON, or --value 'template', or --value-fields a,b.

import { utf8Encode } from '../../base/bytes.ts'
import { encodeText, fromBase64, type TextEncoding } from '../encoding.ts'
import { CommandError, usageError } from '../exit-codes.ts'
import { type LoadRecord, whyRefused } from './record.ts'

export type Row = Readonly<Record<string, unknown>>

export interface MappingOptions {
  /** The store of rows that do not name one. */
  readonly store?: string | undefined
  readonly keyTemplate?: string | undefined
  readonly valueTemplate?: string | undefined
  readonly valueFields?: readonly string[] | undefined
  readonly keyEncoding: TextEncoding
  readonly valueEncoding: TextEncoding
}

/**
 * Returns the record, or a sentence that says why there is none. `text` is the row's own JSON where it has one: kept as
 * it stands, because parsing and writing it again would round large numbers.
 */
export type Mapping = (row: Row, text?: Uint8Array) => LoadRecord | string

export function createMapping(options: MappingOptions): Mapping {
  const convert = options.keyTemplate === undefined ? plainMapping(options) : templateMapping(options)
  return (row, text) => {
    try {
      const record = convert(row, text)
      return whyRefused(record) ?? record
    } catch (error) {
      if (error instanceof MappingFailure || error instanceof CommandError) return error.message
      throw error
    }
  }
}

class MappingFailure extends Error {}

function plainMapping(options: MappingOptions): (row: Row, text?: Uint8Array) => LoadRecord {
  if (options.valueTemplate !== undefined || options.valueFields !== undefined) {
    throw usageError('--value and --value-fields need --key', "for example --key 'city:{cityId}'")
  }
  return (row) => {
    const store = row.store
    if (store !== undefined && typeof store !== 'string') throw new MappingFailure('"store" is not text')
    const type = row.type ?? 'put'
    if (type !== 'put' && type !== 'del') throw new MappingFailure('"type" is neither "put" nor "del"')
    return {
      // An empty column is how CSV writes the default store.
      store: store === undefined || store === '' ? options.store : store,
      key: bytesOf(row, 'key', options.keyEncoding),
      value: type === 'del' ? undefined : bytesOf(row, 'value', options.valueEncoding),
    }
  }
}

function bytesOf(row: Row, name: 'key' | 'value', encoding: TextEncoding): Uint8Array {
  const binaryName = `${name}64`
  const plain = row[name]
  const binary = row[binaryName]
  if (binary !== undefined) {
    if (plain !== undefined) throw new MappingFailure(`both "${name}" and "${binaryName}" are given`)
    const bytes = typeof binary === 'string' ? fromBase64(binary) : undefined
    if (bytes === undefined) throw new MappingFailure(`"${binaryName}" is not base64`)
    return bytes
  }
  if (plain === undefined) throw new MappingFailure(`"${name}" is missing`)
  if (encoding === 'json') return jsonBytes(plain)
  if (typeof plain === 'string') return encodeText(plain, encoding, `"${name}"`)
  if (name === 'key') throw new MappingFailure('"key" is not text')
  return jsonBytes(plain)
}

function templateMapping(options: MappingOptions): (row: Row, text: Uint8Array | undefined) => LoadRecord {
  if (options.valueTemplate !== undefined && options.valueFields !== undefined) {
    throw usageError('--value and --value-fields exclude each other')
  }
  const key = parseTemplate(options.keyTemplate ?? '', '--key')
  const value =
    options.valueTemplate === undefined ? undefined : parseTemplate(options.valueTemplate, '--value')
  const fields = options.valueFields
  const valueFrom = (row: Row, text: Uint8Array | undefined): Uint8Array => {
    if (value !== undefined) return utf8Encode(value(row))
    return fields === undefined ? (text ?? jsonBytes(row)) : jsonBytes(pick(row, fields))
  }
  return (row, text) => ({
    store: options.store,
    key: encodeText(key(row), options.keyEncoding, 'the key'),
    value: valueFrom(row, text),
  })
}

function pick(row: Row, fields: readonly string[]): Row {
  const picked = emptyRow()
  for (const field of fields) {
    const value = fieldOf(row, field)
    if (value === undefined) throw new MappingFailure(`the field "${field}" is missing`)
    picked[field] = value
  }
  return picked
}

/** Without a prototype: a column may have any name, `__proto__` included. */
export function emptyRow(): Record<string, unknown> {
  return Object.create(null) as Record<string, unknown>
}

/** `city:{country}:{cityId}`; `{a.b}` reaches into objects; `{{` and `}}` stand for braces. */
export function parseTemplate(template: string, option: string): (row: Row) => string {
  const parts: (string | { readonly field: string })[] = []
  const pattern = /\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+/g
  for (const match of template.matchAll(pattern)) {
    const [text, field] = match
    if (field !== undefined) parts.push({ field: field.trim() })
    else if (text === '{{' || text === '}}') parts.push(text.charAt(0))
    else if (text === '{' || text === '}')
      throw usageError(`${option}: a brace at ${match.index + 1} has no partner`)
    else parts.push(text)
  }
  if (!parts.some((part) => typeof part !== 'string')) {
    throw usageError(`${option} names no field`, "for example --key 'city:{cityId}'")
  }
  return (row) => {
    let text = ''
    for (const part of parts) text += typeof part === 'string' ? part : fieldText(row, part.field)
    return text
  }
}

function fieldText(row: Row, field: string): string {
  const value = fieldOf(row, field)
  if (value === undefined || value === null) throw new MappingFailure(`the field "${field}" is missing`)
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new MappingFailure(`the field "${field}" is neither text nor a number`)
}

function fieldOf(row: Row, field: string): unknown {
  if (Object.hasOwn(row, field)) return row[field]
  let value: unknown = row
  for (const step of field.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Row)[step]
  }
  return value
}

function jsonBytes(value: unknown): Uint8Array {
  return utf8Encode(JSON.stringify(value))
}
