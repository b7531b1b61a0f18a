// Option values, figures for people, and exit codes, table by table.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CoterieError, type ErrorCode, errorCatalogue } from '../../src/base/errors.ts'
import { decodeText, encodeText, fromBase64, jsonField, toBase64 } from '../../src/cli/encoding.ts'
import { CommandError, exitCodeMeanings, exitCodeOf, exitCodes } from '../../src/cli/exit-codes.ts'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatMs,
  formatPairs,
  formatTable,
  printable,
} from '../../src/cli/format.ts'
import { ackPolicy, byteSize, durationMs, oneOf, wholeNumber } from '../../src/cli/options.ts'

const accepted: readonly [parse: (text: string) => unknown, text: string, value: unknown][] = [
  [wholeNumber(), '0', 0],
  [wholeNumber(), '1_000', 1000],
  [wholeNumber(), '12,345,678', 12_345_678],
  [wholeNumber(1, 5), '5', 5],
  [byteSize, '65536', 65_536],
  [byteSize, '64MiB', 67_108_864],
  [byteSize, '1.5 GB', 1_500_000_000],
  [byteSize, '10k', 10_000],
  [durationMs, '250', 250],
  [durationMs, '250ms', 250],
  [durationMs, '1.5s', 1500],
  [durationMs, '5m', 300_000],
  [ackPolicy, 'quorum', 'quorum'],
  [ackPolicy, 'ALLPEERS', 'allPeers'],
  [ackPolicy, '2', 2],
  [oneOf(['a', 'b']), 'b', 'b'],
]

const refused: readonly [parse: (text: string) => unknown, text: string][] = [
  [wholeNumber(), '-1'],
  [wholeNumber(), '1.5'],
  [wholeNumber(), '1e3'],
  [wholeNumber(), ''],
  [wholeNumber(), '12,34'],
  [wholeNumber(), '99999999999999999999'],
  [wholeNumber(1, 5), '6'],
  [wholeNumber(1, 5), '0'],
  [byteSize, '64 parsecs'],
  [byteSize, '-1'],
  [byteSize, ''],
  [byteSize, 'MiB'],
  [durationMs, '1 fortnight'],
  [durationMs, '-5s'],
  [ackPolicy, 'most'],
  [ackPolicy, '-1'],
  [oneOf(['a', 'b']), 'A'],
]

test('option values that make sense are taken', () => {
  for (const [parse, text, value] of accepted) assert.deepEqual(parse(text), value, text)
})

test('option values that make none are refused, never coerced', () => {
  for (const [parse, text] of refused) {
    assert.throws(() => parse(text), { code: 'commander.invalidArgument' }, JSON.stringify(text))
  }
})

test('figures look the same whatever the locale', () => {
  assert.deepEqual([0, 999, 1000, 1_204_567].map(formatCount), ['0', '999', '1,000', '1,204,567'])
  assert.deepEqual([0, 999, 1500, 123_456_789, 2e12].map(formatBytes), [
    '0 B',
    '999 B',
    '1.5 kB',
    '123 MB',
    '2.0 TB',
  ])
  assert.deepEqual([0.25, 31, 9999, 61_000].map(formatMs), ['0.3 ms', '31 ms', '9,999 ms', '1 min 01 s'])
  assert.deepEqual([0, 59.4, 60, 3725].map(formatDuration), ['0 s', '59 s', '1 min 00 s', '1 h 02 min'])
})

test('tables align their columns and end no line with blanks', () => {
  const table = formatTable(
    [{ title: 'site' }, { title: 'lag', align: 'right' }, { title: 'note' }],
    [
      ['a', '1,204', ''],
      ['long-name', '7', 'slow'],
    ],
  )
  assert.equal(table, 'site         lag  note\na          1,204\nlong-name      7  slow')
  assert.equal(
    formatPairs([
      ['role', 'master'],
      ['lastLsn', '7'],
    ]),
    'role     master\nlastLsn  7',
  )
})

test('control characters of a key cannot reach the terminal', () => {
  assert.equal(printable('a\u001b[31m\n\t\r\u0000é\u2028'), 'a\\u001b[31m\\n\\t\\r\\u0000é\\u2028')
})

test('keys and values go through each encoding and back', () => {
  for (const [encoding, text, hex] of [
    ['utf8', 'Zürich ✓', '5ac3bc7269636820e29c93'],
    ['hex', '00ff', '00ff'],
    ['base64', 'AP8=', '00ff'],
    ['json', '{"a":[1,null]}', '7b2261223a5b312c6e756c6c5d7d'],
  ] as const) {
    const bytes = encodeText(text, encoding, 'the key')
    assert.equal(Buffer.from(bytes).toString('hex'), hex)
    assert.equal(decodeText(bytes, encoding), text)
  }
  assert.equal(Buffer.from(encodeText('{ "a" : 1 }', 'json', 'the key')).toString(), '{"a":1}')
})

test('text that is not of its encoding is a usage error that names the argument', () => {
  for (const [encoding, text] of [
    ['hex', 'abc'],
    ['hex', 'zz'],
    ['base64', 'A'],
    ['base64', 'AP8'],
    ['base64', 'AP9='],
    ['json', '{'],
  ] as const) {
    assert.throws(
      () => encodeText(text, encoding, 'the key'),
      (error: unknown) =>
        error instanceof CommandError &&
        error.exitCode === exitCodes.usage &&
        error.message.startsWith('the key'),
    )
  }
})

test('bytes that utf8 cannot give back are never shown as text', () => {
  for (const bytes of [Uint8Array.of(0xff), Uint8Array.of(0xc3), Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)]) {
    assert.equal(decodeText(bytes, 'utf8'), undefined)
    const field = jsonField('value', bytes, 'utf8')
    assert.deepEqual(Object.keys(field), ['value64'])
    assert.deepEqual(fromBase64(field.value64 as string), bytes)
    assert.equal(field.value64, toBase64(bytes))
  }
})

test('every code of the catalogue has a documented exit code', () => {
  const documented = new Set<number>(exitCodeMeanings.map(([code]) => code))
  for (const code of Object.keys(errorCatalogue) as ErrorCode[]) {
    const exitCode = exitCodeOf(new CoterieError(code, 'x'))
    assert.ok(exitCode > 0 && documented.has(exitCode), `${code} gives ${exitCode}`)
  }
  assert.deepEqual([...documented], Object.values(exitCodes))
})

test('exit codes tell scripts apart what they must treat apart', () => {
  const table: readonly [unknown, number][] = [
    [new CoterieError('LOCKED', 'x'), 3],
    [new CoterieError('NOT_MASTER', 'x'), 4],
    [new CoterieError('NO_QUORUM', 'x'), 4],
    [new CoterieError('OUTCOME_UNKNOWN', 'x'), 5],
    [new CoterieError('CONNECT_FAILED', 'x'), 6],
    [new CoterieError('FOREIGN_HISTORY', 'x'), 6],
    [new CoterieError('ADDRESS_INVALID', 'x'), 2],
    [new CoterieError('LOG_DAMAGED', 'x'), 1],
    [new CoterieError('ABORTED', 'x'), 130],
    [new CommandError('KEY_NOT_FOUND', 'x'), 7],
    [new CommandError('DATA_LOST', 'x'), 1],
    [new CommandError('LOAD_FAILED', 'x', { exitCode: 4 }), 4],
    [new Error('x'), 1],
    ['thrown text', 1],
  ]
  for (const [error, code] of table) assert.equal(exitCodeOf(error), code, String(error))
})
