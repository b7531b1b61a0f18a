// What load reads and dump writes: NDJSON and CSV with hostile values, bad lines by number, and the loading itself.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { CoterieError } from '../../src/base/errors.ts'
import { CommandError } from '../../src/cli/exit-codes.ts'
import type { PortReceipt, PortWrite } from '../../src/cli/port.ts'
import { csvHeader, csvRow, readCsv } from '../../src/cli/records/csv.ts'
import { linesOf } from '../../src/cli/records/lines.ts'
import { type LoadOptions, loadRecords } from '../../src/cli/records/load.ts'
import { createMapping, type MappingOptions, parseTemplate } from '../../src/cli/records/mapping.ts'
import { ndjsonLine, readNdjson } from '../../src/cli/records/ndjson.ts'
import { BadRecord, type DumpRow, type LoadRecord, type ReadItem } from '../../src/cli/records/record.ts'

const utf8 = { keyEncoding: 'utf8', valueEncoding: 'utf8' } as const
const base64 = { keyEncoding: 'base64', valueEncoding: 'base64' } as const

type Shown = { line: number; bad: string } | { line: number; store?: string; key: string; value: string }

async function* chunked(content: string | Uint8Array, size = 1 << 20): AsyncGenerator<Uint8Array> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function gather(items: AsyncIterable<ReadItem>): Promise<Shown[]> {
  const shown: Shown[] = []
  for await (const { line, outcome } of items) {
    if (outcome instanceof BadRecord) {
      assert.equal(outcome.line, line)
      shown.push({ line, bad: outcome.message })
      continue
    }
    const store = outcome.store === undefined ? {} : { store: outcome.store }
    shown.push({
      line,
      ...store,
      key: Buffer.from(outcome.key).toString(),
      value: Buffer.from(outcome.value ?? []).toString(),
    })
  }
  return shown
}

const ndjson = (content: string | Uint8Array, options: Partial<MappingOptions> = {}): Promise<Shown[]> =>
  gather(readNdjson(chunked(content), createMapping({ ...utf8, ...options })))
const csv = (content: string | Uint8Array, options: Partial<MappingOptions> = {}): Promise<Shown[]> =>
  gather(readCsv(chunked(content), createMapping({ ...utf8, ...options })))

describe('lines', () => {
  test('come out whole, however the input is cut, with their ends and a byte order mark removed', async () => {
    const content = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from('é\r\n\nlast ✓')])
    for (let size = 1; size <= content.length; size++) {
      const lines: [number, string][] = []
      for await (const line of linesOf(chunked(content, size))) {
        lines.push([line.number, Buffer.from(line.bytes ?? []).toString()])
      }
      assert.deepEqual(lines, [
        [1, 'é'],
        [2, ''],
        [3, 'last ✓'],
      ])
    }
  })

  test('over the bound are skipped without being kept', async () => {
    const lines: (number | undefined)[] = []
    for await (const line of linesOf(chunked(`${'x'.repeat(5000)}\nshort\n`, 100), 1000))
      lines.push(line.bytes?.length)
    assert.deepEqual(lines, [undefined, 5])
  })
})

describe('NDJSON', () => {
  test('reads what dump writes, and JSON values', async () => {
    const content = [
      '{"key":"a","value":"1"}',
      '',
      '{"key":"b","value":{"x":[1,2]},"store":"s"}',
      '{"key64":"//8=","value64":""}',
    ].join('\n')
    const [a, b, c] = await ndjson(content)
    assert.deepEqual(a, { line: 1, key: 'a', value: '1' })
    assert.deepEqual(b, { line: 3, store: 's', key: 'b', value: '{"x":[1,2]}' })
    assert.equal(c?.line, 4)
  })

  test('[E2] reads the deletes of a file that keeps what a rewind took back', async () => {
    const content =
      '{"lsn":7,"term":2,"time":1,"type":"put","key":"a","value":"1"}\n{"type":"del","key":"b"}\n'
    const values: (string | undefined)[] = []
    for await (const { outcome } of readNdjson(chunked(content), createMapping(utf8))) {
      assert.ok(!(outcome instanceof BadRecord))
      values.push(outcome.value && Buffer.from(outcome.value).toString())
    }
    assert.deepEqual(values, ['1', undefined])
  })

  test('names what is wrong with a line', async () => {
    const table: readonly [string | Uint8Array, RegExp][] = [
      ['{', /^not JSON: /],
      ['[1]', /^not a JSON object$/],
      ['null', /^not a JSON object$/],
      ['{"value":"x"}', /^"key" is missing$/],
      ['{"key":"x"}', /^"value" is missing$/],
      ['{"key":7,"value":"x"}', /^"key" is not text$/],
      ['{"key":"","value":"x"}', /^the key is empty$/],
      [`{"key":"${'k'.repeat(40_000)}","value":"x"}`, /^the key has 40000 bytes/],
      ['{"key":"a","value64":"!"}', /^"value64" is not base64$/],
      ['{"key":"a","value":"x","value64":"AA=="}', /^both /],
      ['{"key":"a","value":"x","type":"move"}', /^"type" is neither/],
      ['{"key":"a","value":"x","store":1}', /^"store" is not text$/],
      [Uint8Array.of(0x22, 0xff, 0x22), /^not UTF-8$/],
    ]
    for (const [line, reason] of table) {
      const [item] = await ndjson(line)
      assert.ok(item !== undefined && 'bad' in item, String(line))
      assert.match(item.bad, reason)
    }
  })

  test('keeps a whole row as it stands, large numbers included', async () => {
    const row = '{"id":12345678901234567890,"__proto__":1}'
    assert.deepEqual(await ndjson(`${row}\n`, { keyTemplate: 'k:{__proto__}' }), [
      { line: 1, key: 'k:1', value: row },
    ])
  })
})

describe('CSV', () => {
  test('reads quotes, commas and line ends within fields, with the line where each row begins', async () => {
    const content = 'key,value\r\na,"1,""x"""\r\nb,"two\r\nlines"\r\n\r\nc,\r\nd,last'
    assert.deepEqual(await csv(content), [
      { line: 2, key: 'a', value: '1,"x"' },
      { line: 3, key: 'b', value: 'two\r\nlines' },
      { line: 6, key: 'c', value: '' },
      { line: 7, key: 'd', value: 'last' },
    ])
  })

  test('takes a byte order mark, any column names, and rows as JSON', async () => {
    const content = Buffer.concat([
      Buffer.from([0xef, 0xbb, 0xbf]),
      Buffer.from('cityId,name,__proto__\n7,Zürich,x\n'),
    ])
    assert.deepEqual(await csv(content, { keyTemplate: 'city:{cityId}' }), [
      { line: 2, key: 'city:7', value: '{"cityId":"7","name":"Zürich","__proto__":"x"}' },
    ])
  })

  test('names what is wrong with a row and goes on after it', async () => {
    const content = Buffer.concat([
      Buffer.from('key,value\na,1\nb\nc,3,4\n'),
      Buffer.from([0x64, 0x2c, 0xff, 0x0a]),
      Buffer.from(',5\ne,6\n'),
    ])
    assert.deepEqual(await csv(content), [
      { line: 2, key: 'a', value: '1' },
      { line: 3, bad: '1 columns; the header has 2' },
      { line: 4, bad: '3 columns; the header has 2' },
      { line: 5, bad: 'not UTF-8' },
      { line: 6, bad: 'the key is empty' },
      { line: 7, key: 'e', value: '6' },
    ])
  })

  test('a stray quote is a bad row by its number, and the rows around it are read', async () => {
    const items = await csv('key,value\na,1\nb,x"y\nc,3\n')
    assert.deepEqual(items[0], { line: 2, key: 'a', value: '1' })
    const bad = items.find((item) => 'bad' in item)
    assert.ok(bad !== undefined && 'bad' in bad)
    assert.equal(bad.line, 3)
    assert.match(bad.bad, /^a quote within a field/)
    assert.deepEqual(items.at(-1), { line: 4, key: 'c', value: '3' })
  })

  test('the numbers hold after bad rows, blank lines and fields of several lines', async () => {
    for (const end of ['\n', '\r\n']) {
      const content = ['key,value', 'a,1', 'b,x"y', '', '', 'c,"3', '', '4"', 'd,"5"6', 'e,7', 'f', ''].join(
        end,
      )
      const items = await csv(content)
      assert.deepEqual(
        items.map((item) => ('bad' in item ? [item.line, 'bad'] : [item.line, item.key])),
        [
          [2, 'a'],
          [3, 'bad'],
          [6, 'c'],
          [9, 'bad'],
          [10, 'e'],
          [11, 'bad'],
        ],
        JSON.stringify(end),
      )
    }
  })

  test('a quote that never closes is reported, and swallows nothing', async () => {
    const items = await csv('key,value\na,1\nb,"open\nc,3\n')
    assert.deepEqual(items[0], { line: 2, key: 'a', value: '1' })
    assert.deepEqual(items.slice(1), [
      { line: 3, bad: 'a quote is never closed' },
      { line: 4, key: 'c', value: '3' },
    ])
  })

  test('a header that names a column twice is refused at line 1', async () => {
    await assert.rejects(
      csv('key,key\na,b\n'),
      (error: unknown) => error instanceof BadRecord && error.line === 1,
    )
  })

  test('a dump refuses what CSV cannot hold and says what to do', () => {
    const row: DumpRow = { store: undefined, key: Buffer.from('a'), value: Uint8Array.of(0xff) }
    assert.throws(
      () => csvRow(row, { ...utf8, withStore: false }),
      (error: unknown) =>
        error instanceof CommandError && (error.hint ?? '').includes('--value-encoding base64'),
    )
    assert.equal(
      csvRow(row, { keyEncoding: 'utf8', valueEncoding: 'base64', withStore: true }),
      'a,/w==,\r\n',
    )
  })
})

describe('dump and load give back the same bytes', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom(
      '"',
      '""',
      ',',
      '\r',
      '\n',
      '\r\n',
      '\u2028',
      '\ufeffx',
      ' x ',
      "'",
      '=1+1',
      '\u0000',
      '{}',
      '\\n',
    ),
  )
  const anyBytes = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    text.map((each) => new Uint8Array(Buffer.from(each))),
  )
  const record = fc.record({
    store: fc.option(fc.constantFrom('s', 'ü,"', 'a b'), { nil: undefined }),
    key: anyBytes.filter((bytes) => bytes.length > 0),
    value: anyBytes,
  })

  const check = async (records: readonly LoadRecord[], items: AsyncIterable<ReadItem>): Promise<void> => {
    const read: ReadItem['outcome'][] = []
    for await (const item of items) read.push(item.outcome)
    assert.deepEqual(
      read.map((each) => (each instanceof BadRecord ? each.message : plain(each))),
      records.map(plain),
    )
  }
  const plain = ({ store, key, value }: LoadRecord): unknown => [
    store,
    Buffer.from(key).toString('hex'),
    value === undefined ? undefined : Buffer.from(value).toString('hex'),
  ]

  test('[D7e] through NDJSON, whatever the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { maxLength: 8 }),
        fc.integer({ min: 1, max: 64 }),
        async (records, cut) => {
          const content = records.map((each) => ndjsonLine(each, utf8)).join('')
          await check(records, readNdjson(chunked(content, cut), createMapping(utf8)))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('[D7e] through CSV, text as it is and all else by base64', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { maxLength: 8 }),
        fc.integer({ min: 1, max: 64 }),
        async (records, cut) => {
          const encodings = records.every(({ key, value }) => isUtf8(key) && isUtf8(value)) ? utf8 : base64
          const options = { ...encodings, withStore: true }
          const content = csvHeader(options) + records.map((each) => csvRow(each, options)).join('')
          await check(records, readCsv(chunked(content, cut), createMapping(encodings)))
        },
      ),
      { numRuns: 300 },
    )
  })

  function isUtf8(bytes: Uint8Array): boolean {
    const again = Buffer.from(new TextDecoder().decode(bytes))
    return again.equals(bytes)
  }
})

describe('templates', () => {
  test('take fields, nested fields, numbers and doubled braces', () => {
    const row = { a: { b: 7 }, 'x.y': 'dotted', name: 'N', ok: true }
    assert.equal(parseTemplate('{{{a.b}}}:{x.y}/{ name }{ok}', '--key')(row), '{7}:dotted/Ntrue')
  })

  test('without a field, or with a lone brace, are usage errors', () => {
    for (const template of ['', 'city', 'city:{', 'a}b', '{a}{', '{}']) {
      assert.throws(() => parseTemplate(template, '--key'), { code: 'USAGE' }, template)
    }
  })

  test('a row without the field, or with an object there, is a bad line', async () => {
    const options = { keyTemplate: '{id}' }
    assert.deepEqual(await ndjson('{"x":1}\n{"id":null}\n{"id":{}}', options), [
      { line: 1, bad: 'the field "id" is missing' },
      { line: 2, bad: 'the field "id" is missing' },
      { line: 3, bad: 'the field "id" is neither text nor a number' },
    ])
  })

  test('choose the value: a template, or some of the fields', async () => {
    const row = '{"id":1,"name":"N","x":[1]}'
    const value = async (options: Partial<MappingOptions>): Promise<unknown> => {
      const [item] = await ndjson(row, { keyTemplate: '{id}', ...options })
      return item !== undefined && 'value' in item ? item.value : item
    }
    assert.equal(await value({ valueTemplate: '<{name}>' }), '<N>')
    assert.equal(await value({ valueFields: ['name', 'x'] }), '{"name":"N","x":[1]}')
    assert.throws(() => createMapping({ ...utf8, valueTemplate: '{a}' }), { code: 'USAGE' })
    assert.throws(
      () => createMapping({ ...utf8, keyTemplate: '{a}', valueTemplate: '{a}', valueFields: ['a'] }),
      {
        code: 'USAGE',
      },
    )
  })
})

describe('the load', () => {
  class FakePort {
    readonly batches: number[] = []
    underWay = 0
    underWayMax = 0
    failAt = Number.POSITIVE_INFINITY

    async write(writes: readonly PortWrite[]): Promise<PortReceipt> {
      this.underWay++
      this.underWayMax = Math.max(this.underWayMax, this.underWay)
      await new Promise((resolve) => setImmediate(resolve))
      this.underWay--
      if (this.batches.length >= this.failAt) throw new CoterieError('NOT_MASTER', 'this is a replica')
      this.batches.push(writes.length)
      return { lsn: this.batches.length, term: 1, token: 't', acks: 1, detached: [] }
    }
  }

  const optionsOf = (change: Partial<LoadOptions> = {}): LoadOptions => ({
    batch: 10,
    inFlight: 3,
    skipBad: false,
    write: {},
    signal: new AbortController().signal,
    onProgress: () => undefined,
    onSkipped: () => undefined,
    ...change,
  })
  const rows = (count: number, badAt: readonly number[] = []): AsyncIterable<ReadItem> => {
    const lines = Array.from({ length: count }, (_, i) =>
      badAt.includes(i + 1) ? 'bad' : `{"key":"${i}","value":"v"}`,
    )
    return readNdjson(chunked(`${lines.join('\n')}\n`), createMapping(utf8))
  }

  test('gathers rows into transactions, several of them under way at once', async () => {
    const port = new FakePort()
    const result = await loadRecords(port, rows(95), optionsOf())
    assert.deepEqual(result, { loaded: 95, skipped: 0, transactions: 10, lsn: 10 })
    assert.deepEqual(port.batches, [...Array.from({ length: 9 }, () => 10), 5])
    assert.equal(port.underWayMax, 3)
  })

  test('ends at a bad line with its number, after all before it are committed', async () => {
    const port = new FakePort()
    await assert.rejects(loadRecords(port, rows(95, [38]), optionsOf()), (error: unknown) => {
      assert.ok(error instanceof CommandError)
      assert.equal(error.exitCode, 1)
      assert.match(error.message, /^line 38: not JSON: .*; 37 records loaded$/)
      assert.deepEqual({ ...error.details, reason: '' }, { line: 38, reason: '', loaded: 37, skipped: 0 })
      return true
    })
    assert.equal(
      port.batches.reduce((sum, each) => sum + each, 0),
      37,
    )
  })

  test('with skipBad goes on and counts', async () => {
    const lines: number[] = []
    const options = optionsOf({ skipBad: true, onSkipped: (bad) => lines.push(bad.line) })
    const result = await loadRecords(new FakePort(), rows(50, [1, 20, 50]), options)
    assert.deepEqual(result, { loaded: 47, skipped: 3, transactions: 5, lsn: 5 })
    assert.deepEqual(lines, [1, 20, 50])
  })

  test('a commit that fails ends it with the code of the failure and the count', async () => {
    const port = new FakePort()
    port.failAt = 2
    await assert.rejects(loadRecords(port, rows(95), optionsOf()), (error: unknown) => {
      assert.ok(error instanceof CommandError)
      assert.equal(error.exitCode, 4)
      assert.equal(error.details.code, 'NOT_MASTER')
      assert.equal(error.details.loaded, 20)
      return true
    })
  })

  test('an interruption ends it with what is loaded', async () => {
    const abort = new AbortController()
    const options = optionsOf({
      signal: abort.signal,
      onProgress: (_bytes, loaded) => {
        if (loaded >= 20) abort.abort()
      },
    })
    await assert.rejects(loadRecords(new FakePort(), rows(500), options), (error: unknown) => {
      assert.ok(error instanceof CommandError)
      assert.equal(error.exitCode, 130)
      const loaded = Number(error.details.loaded)
      assert.ok(loaded >= 20 && loaded < 500, `${loaded}`)
      return true
    })
  })

  test('a transaction is bounded in bytes as well as in rows', async () => {
    const large = 'x'.repeat(1_500_000)
    const content = Array.from({ length: 7 }, (_, i) => `{"key":"${i}","value":"${large}"}`).join('\n')
    const port = new FakePort()
    await loadRecords(port, readNdjson(chunked(content), createMapping(utf8)), optionsOf())
    assert.deepEqual(port.batches, [2, 2, 2, 1])
  })
})
