// The command line as a function: usage, help, exit codes, and every verb with --json, in this process.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { describe, type TestContext, test } from 'node:test'
import { CommandRun } from '../../src/cli/command.ts'
import { createProgram, runCommand } from '../../src/cli/program.ts'
import { open } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { coterieHere } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'

interface RunOptions {
  readonly input?: string | Uint8Array
  readonly interrupted?: AbortSignal
}

const run = coterieHere

async function ok(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(args, options)
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

async function json(args: readonly string[], options: RunOptions = {}): Promise<Record<string, unknown>> {
  return JSON.parse(await ok([...args, '--json'], options)) as Record<string, unknown>
}

const lines = (text: string): unknown[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown)

const verbs = [
  'serve',
  'attach',
  'promote',
  'takeover',
  'join',
  'transfer',
  'elect',
  'members',
  'top',
  'get',
  'put',
  'del',
  'scan',
  'load',
  'dump',
  'status',
  'stat',
  'verify',
  'log',
  'checkpoint',
  'archive',
  'backup',
  'restore',
  'demo',
  'bench',
]

describe('usage', () => {
  test('every verb has --help with an example, and --json', async () => {
    const program = await createProgram(
      new CommandRun({
        stdin: Readable.from([]),
        stdout: new PassThrough(),
        stderr: new PassThrough(),
        env: {},
        interrupted: new AbortController().signal,
      }),
    )
    assert.deepEqual(
      program.commands.map((command) => command.name()),
      verbs,
    )
    for (const verb of verbs) {
      const { code, stdout } = await run([verb, '--help'])
      assert.equal(code, 0)
      assert.match(stdout, new RegExp(`^Usage: coterie ${verb} `))
      assert.match(stdout, /\nExamples?:\n {2}\$ \S/)
      assert.match(stdout, /--json/)
    }
  })

  test('--help documents every exit code', async () => {
    const { code, stdout } = await run(['--help'])
    assert.equal(code, 0)
    for (const exitCode of [0, 1, 2, 3, 4, 5, 6, 7, 130])
      assert.match(stdout, new RegExp(`\n +${exitCode} {2}\\S`))
  })

  test('--version prints that of the package', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    assert.equal(await ok(['--version']), `${version}\n`)
  })

  const wrong: readonly (readonly [args: readonly string[], words: RegExp])[] = [
    [['frob'], /unknown command 'frob'/],
    [['scna', 'x'], /Did you mean scan\?/],
    [['get', 'x'], /missing required argument 'key'/],
    [['get', 'x', 'k', 'more'], /too many arguments/],
    [['get', 'x', 'k', '--frob'], /unknown option '--frob'/],
    [['scan', 'x', '--limit', 'many'], /--limit/],
    [['scan', 'x', '--limit', '-1'], /--limit/],
    [['scan', 'x', '--gt', 'a', '--gte', 'b'], /--gt and --gte/],
    [['scan', 'x', '--prefix', 'a', '--lt', 'b'], /--prefix/],
    [['scan', 'x', '--keys', '--values'], /--keys and --values/],
    [['put', 'x', 'k', 'v', '--acks', 'most'], /--acks/],
    [['put', 'x', 'k', 'v', '--durability', 'eventually'], /--durability/],
    [['put', 'x', 'zz', 'v', '--key-encoding', 'hex'], /the key is not/],
    [['put', 'x', '', 'v'], /a key cannot be empty/],
    [['load', 'x', '--batch', '0'], /--batch/],
    [['load', 'x', '--format', 'xml'], /--format/],
    [['load', 'x', '--key', 'city'], /--key names no field/],
    [['load', 'x', '--value', '{a}'], /need --key/],
    [['serve', 'x', '--max-lag-bytes', 'lots'], /--max-lag-bytes/],
    [['serve', 'x', '--listen', 'nowhere'], /nowhere/],
    [['serve', 'x', '--secret-file', '/no/such/file'], /--secret-file/],
    [['serve', 'x', '--key-file', '/no/such/file'], /--key-file/],
    [['attach', 'x', 'udp://h:1', '--key-file', '/dev/null'], /64 hexadecimal digits/],
    [['serve', 'x', '--listen', 'udp://127.0.0.1:0', '--multicast', 'everybody'], /multicast/],
    [['serve', 'x', '--tls-ca', 'a.pem'], /--tls-cert and --tls-key together/],
    [['serve', 'x', '--listen', 'tls://127.0.0.1:0'], /needs the option 'tls'/],
    [['serve', 'x', '--compression', 'gzip'], /--compression/],
    [['join', 'x', '--secret-file', '/no/such/file'], /--secret-file/],
    [['attach', 'x', 'h:1', '--secret-file', '/no/such/file'], /--secret-file/],
    [['attach', 'x', 'nowhere://'], /nowhere/],
    [['join', 'x', '--listen', 'nowhere'], /nowhere/],
    [['join', 'x', '--seed', 'nowhere'], /nowhere/],
    [['join', 'x', '--start', 'boss'], /--start/],
    [['join', 'x', '--priority', '-1'], /--priority/],
    [['join', 'x', '--heartbeat', '200ms'], /heartbeatMs/],
    [['join', 'x', '--listen', '0.0.0.0:0'], /advertise/],
    [['transfer', 'x'], /missing required argument 'site'/],
    [['transfer', 'x', 'b', '--timeout', 'soon'], /--timeout/],
    [['members', 'x', '--remove'], /--remove/],
    [['top', 'x', '--every', 'often'], /--every/],
    [['log', 'x', '--from', '0'], /--from/],
    [['demo', '--cities', '3'], /--cities/],
    [['demo', '--kills', '0'], /--kills/],
  ]

  test('what is wrong on the command line exits with 2 and says so in one line', async (t) => {
    const folder = withTempFolder(t)
    for (const [args, words] of wrong) {
      const placed = args.map((argument) => (argument === 'x' ? join(folder, 'x') : argument))
      const { code, stderr } = await run(placed)
      assert.equal(code, 2, `coterie ${args.join(' ')}: ${stderr}`)
      assert.match(stderr, /^coterie: [A-Z_]+: .*\n( {2}hint: .*\n)?$/)
      assert.match(stderr, words)
    }
  })

  test('with --json an error is one object on standard error', async () => {
    const { code, stdout, stderr } = await run(['get', 'x', '--json'])
    assert.equal(code, 2)
    assert.equal(stdout, '')
    const { error } = JSON.parse(stderr) as { error: Record<string, unknown> }
    assert.equal(error.code, 'USAGE')
    assert.deepEqual(Object.keys(error), ['code', 'message', 'hint', 'details'])
  })
})

describe('on a database', () => {
  async function filled(t: TestContext): Promise<string> {
    const path = join(withTempFolder(t), 'data')
    await ok(['load', path], {
      input: [
        '{"key":"city:1","value":"Jakarta"}',
        '{"key":"city:2","value":"two \\"quotes\\", a comma\\nand a line"}',
        '{"key":"city:3","value64":"AP+A"}',
        '{"key":"user","value":{"name":"Ada"},"store":"people"}',
      ].join('\n'),
    })
    return path
  }

  test('put, get and del', async (t) => {
    const path = join(withTempFolder(t), 'data')
    const receipt = await json(['put', path, 'k', 'v'])
    assert.deepEqual(Object.keys(receipt), ['lsn', 'term', 'token', 'acks', 'detached'])
    assert.match(
      await ok(['put', path, 'stdin'], { input: 'from standard input' }),
      /^lsn \d+, term \d+, on 1 site\n$/,
    )
    assert.equal(await ok(['get', path, 'k']), 'v\n')
    assert.deepEqual(await json(['get', path, 'stdin']), { key: 'stdin', value: 'from standard input' })
    assert.equal(await ok(['get', path, 'stdin', '--raw']), 'from standard input')
    assert.deepEqual(await json(['status', path, '--outcome', String(receipt.token)]), {
      token: receipt.token,
      outcome: 'applied',
    })
    await ok(['del', path, 'k', 'stdin', 'never there'])
    const { code, stderr } = await run(['get', path, 'k'])
    assert.equal(code, 7)
    assert.equal(stderr, 'coterie: KEY_NOT_FOUND: no such key: k\n')
  })

  test('keys and values in each encoding', async (t) => {
    const path = join(withTempFolder(t), 'data')
    await ok([
      'put',
      path,
      '00ff',
      'ff00',
      '--key-encoding',
      'hex',
      '--value-encoding',
      'hex',
      '--store',
      's',
    ])
    assert.equal(
      await ok(['get', path, 'AP8=', '--key-encoding', 'base64', '--value-encoding', 'hex', '--store', 's']),
      'ff00\n',
    )
    const { code, stderr } = await run(['get', path, '00ff', '--key-encoding', 'hex', '--store', 's'])
    assert.equal(code, 2)
    assert.match(stderr, /not UTF-8[\s\S]*--raw/)
    await ok(['put', path, '[1,2]', '{ "a": 1 }', '--key-encoding', 'json', '--value-encoding', 'json'])
    assert.deepEqual(
      await json(['get', path, '[1, 2]', '--key-encoding', 'json', '--value-encoding', 'json']),
      {
        key: '[1, 2]',
        value: { a: 1 },
      },
    )
  })

  test('scan prints ranges, for people and as NDJSON', async (t) => {
    const path = await filled(t)
    assert.equal(
      await ok(['scan', path]),
      'city:1\tJakarta\ncity:2\ttwo "quotes", a comma\\nand a line\ncity:3\tbase64:AP+A\n',
    )
    const table: readonly (readonly [readonly string[], unknown[]])[] = [
      [['--limit', '1'], [{ key: 'city:1', value: 'Jakarta' }]],
      [['--gt', 'city:2'], [{ key: 'city:3', value64: 'AP+A' }]],
      [['--gte', 'city:2', '--lt', 'city:3', '--keys'], [{ key: 'city:2' }]],
      [['--lte', 'city:1', '--values'], [{ value: 'Jakarta' }]],
      [['--prefix', 'city:', '--reverse', '--limit', '1', '--keys'], [{ key: 'city:3' }]],
      [['--prefix', 'nothing'], []],
      [['--store', 'people'], [{ key: 'user', value: '{"name":"Ada"}' }]],
    ]
    for (const [options, expected] of table) {
      assert.deepEqual(lines(await ok(['scan', path, ...options, '--json'])), expected, options.join(' '))
    }
  })

  test('[D7e] dump and load give back the same database, in both formats', async (t) => {
    const path = await filled(t)
    const folder = withTempFolder(t)
    const digest = async (of: string): Promise<unknown> =>
      ((await json(['stat', of, '--digest'])).digest as { digest: string }).digest
    const ndjson = await ok(['dump', path])
    await ok(['load', join(folder, 'a')], { input: ndjson })
    assert.equal(await digest(join(folder, 'a')), await digest(path))
    const csv = join(folder, 'rows.csv')
    const refused = await run(['dump', path, csv])
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /--value-encoding base64/)
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('rows')),
      [],
    )
    const result = await json(['dump', path, csv, '--value-encoding', 'base64'])
    assert.equal(result.rows, 4)
    await ok(['load', join(folder, 'b'), csv, '--value-encoding', 'base64'])
    assert.equal(await digest(join(folder, 'b')), await digest(path))
    assert.equal(
      await ok(['dump', path, '--store', '', '--format', 'csv', '--value-encoding', 'hex']).then(
        (text) => text.split('\r\n')[0],
      ),
      'key,value',
    )
  })

  test('load tells the number of a bad line and how many are loaded; --skip-bad counts', async (t) => {
    const path = join(withTempFolder(t), 'data')
    const input = [
      '{"key":"a","value":"1"}',
      '{"key":"b","value":"2"}',
      'oops',
      '{"key":"c","value":"3"}',
      '{}',
    ].join('\n')
    const { code, stdout, stderr } = await run(['load', path], { input })
    assert.equal(code, 1)
    assert.equal(stdout, '')
    assert.match(
      stderr,
      /^coterie: LOAD_FAILED: line 3: not JSON: .*; 2 records loaded\n {2}hint: --skip-bad/,
    )
    assert.deepEqual(lines(await ok(['scan', path, '--keys', '--json'])), [{ key: 'a' }, { key: 'b' }])
    const skipping = await run(['load', path, '--skip-bad', '--json'], { input })
    assert.equal(skipping.code, 0)
    const result = JSON.parse(skipping.stdout) as Record<string, unknown>
    assert.deepEqual([result.loaded, result.skipped], [3, 2])
    assert.equal(lines(skipping.stderr).length, 2)
    assert.deepEqual((await json(['get', path, 'c'])).value, '3')
  })

  test('load makes keys and values from the fields of any rows', async (t) => {
    const folder = withTempFolder(t)
    const path = join(folder, 'data')
    writeFileSync(join(folder, 'cities.csv'), 'cityId,name,country\n7,"Zürich, ZH",CH\n8,Bern,CH\n')
    await ok([
      'load',
      path,
      join(folder, 'cities.csv'),
      '--key',
      'city:{country}:{cityId}',
      '--store',
      'cities',
    ])
    assert.deepEqual(JSON.parse(await ok(['get', path, 'city:CH:7', '--store', 'cities'])), {
      cityId: '7',
      name: 'Zürich, ZH',
      country: 'CH',
    })
  })

  test('[D7b D7g] stat, verify and status say what there is', async (t) => {
    const path = await filled(t)
    const stat = await json(['stat', path])
    assert.deepEqual(
      (stat.stores as { name: string; rows: number }[]).map(({ name, rows }) => [name, rows]),
      [
        ['', 3],
        ['people', 1],
      ],
    )
    const verified = await json(['verify', path])
    assert.equal(verified.ok, true)
    assert.equal((verified.store as { rows: number }).rows, 4)
    const status = await json(['status', path])
    assert.equal(status.role, 'standalone')
    const text = await ok(['status', path])
    assert.match(text, /^role +standalone$/m)
    assert.match(text, /^can lose: .*$/m)
    for (const verb of ['stat', 'verify']) assert.notEqual(await ok([verb, path]), '')
  })

  test('[D7b] verify of a damaged log exits with 1 and says where', async (t) => {
    const path = await filled(t)
    const folder = join(path, readdirSync(path).find((name) => name.startsWith('log-')) ?? '')
    const segment = join(folder, readdirSync(folder).sort()[0] ?? '')
    const bytes = readFileSync(segment)
    const at = bytes.indexOf('Jakarta')
    assert.ok(at > 0, 'the record is in the first segment')
    bytes[at] = 0x58
    writeFileSync(segment, bytes)
    const { code, stderr } = await run(['verify', path, '--json'])
    assert.equal(code, 1)
    const { error } = JSON.parse(stderr.split('\n')[0] ?? '') as {
      error: { code: string; details: Record<string, unknown> }
    }
    assert.equal(error.code, 'LOG_DAMAGED')
    assert.equal(typeof error.details.file, 'string')
    assert.equal(typeof error.details.offset, 'number')
  })

  test('[D7d] log prints the records, with bounds', async (t) => {
    const path = await filled(t)
    await ok(['put', path, 'later', 'x'])
    const records = lines(await ok(['log', path, '--json'])) as {
      lsn: number
      kind: string
      writes: unknown[]
    }[]
    assert.deepEqual(
      records.map((record) => record.lsn),
      records.map((_, i) => i + 1),
    )
    const last = records.at(-1)
    assert.deepEqual(last?.writes, [
      { type: 'put', store: '', key: Buffer.from('later').toString('base64'), valueBytes: 1 },
    ])
    assert.match(await ok(['log', path, '--from', String(last?.lsn)]), /put later\n$/)
    assert.equal(lines(await ok(['log', path, '--limit', '1', '--json'])).length, 1)
    assert.equal(lines(await ok(['log', path, '--to', '1', '--json'])).length, 1)
  })

  test('[D7a] checkpoint and archive say up to where', async (t) => {
    const path = await filled(t)
    assert.ok(Number((await json(['checkpoint', path])).lsn) >= 1)
    assert.equal(typeof (await json(['archive', path])).firstLsn, 'number')
    assert.match(await ok(['checkpoint', path]), /^lsn +\d/)
  })

  test('[D7f] backup and restore give the same rows', async (t) => {
    const path = await filled(t)
    const file = join(withTempFolder(t), 'a.backup')
    const copy = join(withTempFolder(t), 'copy')
    const backup = await json(['backup', path, file])
    assert.equal(backup.rows, 4)
    const restored = await json(['restore', file, copy])
    assert.equal(restored.digest, backup.digest)
    assert.equal(await ok(['dump', copy]), await ok(['dump', path]))
    writeFileSync(file, readFileSync(file).subarray(0, 40))
    const { code, stderr } = await run(['restore', file, join(copy, '..', 'other')])
    assert.equal(code, 1)
    assert.match(stderr, /BACKUP_INVALID/)
  })

  test('promote of a database alone makes it the master', async (t) => {
    const path = await filled(t)
    const promoted = await json(['promote', path])
    assert.equal(typeof promoted.term, 'number')
    assert.deepEqual(promoted.addresses, [])
  })

  test('a directory without a database is an error, and nothing is created there', async (t) => {
    const path = join(withTempFolder(t), 'none')
    for (const args of [
      ['get', path, 'k'],
      ['scan', path],
      ['dump', path],
      ['status', path],
      ['del', path, 'k'],
    ]) {
      const { code, stderr } = await run(args)
      assert.equal(code, 1)
      assert.match(stderr, /^coterie: NOT_A_DATABASE: /)
    }
    assert.equal(existsSync(path), false)
  })

  test('a database that this process holds open is LOCKED, with the pid', async (t) => {
    const path = join(withTempFolder(t), 'data')
    const db = await open(path)
    atEnd(t, () => db.close())
    const { code, stderr } = await run(['get', path, 'k', '--json'])
    assert.equal(code, 3)
    const { error } = JSON.parse(stderr) as { error: { code: string; details: { pid: number } } }
    assert.equal(error.code, 'LOCKED')
    assert.equal(error.details.pid, process.pid)
  })

  test('no stack reaches the user unless asked for', async (t) => {
    const path = join(withTempFolder(t), 'none')
    assert.doesNotMatch((await run(['get', path, 'k'])).stderr, /\n {4}at /)
    assert.match((await run(['get', path, 'k', '--debug'])).stderr, /\n {4}at /)
  })

  test('an interrupted load keeps what it has, says how much, and exits with 130', async (t) => {
    const path = join(withTempFolder(t), 'data')
    const abort = new AbortController()
    const stdin = new PassThrough()
    stdin.write('{"key":"a","value":"1"}\n')
    const stderr = new PassThrough()
    setTimeout(() => abort.abort(), 500)
    const code = await runCommand(['load', path, '--batch', '1'], {
      stdin,
      stdout: new PassThrough(),
      stderr,
      env: {},
      interrupted: abort.signal,
    })
    assert.equal(code, 130)
    assert.match(String(stderr.read()), /INTERRUPTED: interrupted; 1 record loaded/)
    assert.equal(await ok(['get', path, 'a']), '1\n')
  })

  test('bench measures and prints a table', async () => {
    const { rows } = (await json(['bench', '--duration', '20ms', '--durability', 'memory'])) as {
      rows: { what: string; perSecond: number }[]
    }
    assert.equal(rows.length, 5)
    assert.ok(rows.every((row) => row.perSecond > 0))
  })
})
