// The check of the floors, fed with snippets: each rule with what it must catch, and with what it must let pass.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { checkFloors } from '../../scripts/floor-rules.ts'
import { importsOf, resolveRelative, tokenize } from '../../scripts/tokens.ts'

const opening = '// What this file is and why.\n'

/** Messages for one file among others that exist and are fine; circles and dead files are tested apart. */
function messagesFor(file: string, code: string, others: readonly string[] = []): string[] {
  const sources = new Map(others.map((other) => [other, opening]))
  sources.set(file, opening + code)
  return checkFloors(sources, [...sources.keys()]).map(
    (violation) => `${violation.line}: ${violation.message}`,
  )
}

const caught: readonly [rule: string, file: string, code: string, message: RegExp, others?: string[]][] = [
  [
    'an upward import',
    'src/log/a.ts',
    "import { b } from '../store/b.ts'",
    /^2: .*point down/,
    ['src/store/b.ts'],
  ],
  [
    'an upward re-export',
    'src/base/a.ts',
    "export * from '../env/b.ts'",
    /^2: .*point down/,
    ['src/env/b.ts'],
  ],
  ['an upward type', 'src/base/a.ts', "import type { B } from '../env/b.ts'", /point down/, ['src/env/b.ts']],
  [
    'an upward dynamic import',
    'src/base/a.ts',
    "await import('../cli/b.ts')",
    /point down/,
    ['src/cli/b.ts'],
  ],
  [
    'an upward worker',
    'src/log/a.ts',
    "new URL('../group/b.js', import.meta.url)",
    /down/,
    ['src/group/b.ts'],
  ],
  ['index below itself', 'src/group/a.ts', "import '../index.ts'", /index is above group/, ['src/index.ts']],
  ['the simulator in the CLI', 'src/cli/a.ts', "import '../sim/b.ts'", /side by side/, ['src/sim/b.ts']],
  ['env in replication', 'src/replication/a.ts', "import '../env/b.ts'", /only base/, ['src/env/b.ts']],
  ['log in transport', 'src/transport/a.ts', "import '../log/b.ts'", /only base and env/, ['src/log/b.ts']],
  [
    'the real host in the log',
    'src/log/a.ts',
    "import '../env/node/b.ts'",
    /real host/,
    ['src/env/node/b.ts'],
  ],
  ['a missing file', 'src/log/a.ts', "import './gone.ts'", /not a file of src/],
  ['a computed import', 'src/store/a.ts', 'await import(name)', /computed import/],
  ['a node: module', 'src/log/a.ts', "import { open } from 'node:fs'", /node:fs/],
  ['a node: type', 'src/log/a.ts', "import type { Stats } from 'node:fs'", /node:fs/],
  ['more than node:zlib', 'src/base/checksum.ts', "import 'node:crypto'", /node:crypto/],
  ['a built-in without node:', 'src/log/a.ts', "import fs from 'fs'", /not in the table/],
  ['an unknown package', 'src/cli/a.ts', "import x from 'left-pad'", /not in the table/],
  ['a package elsewhere', 'src/log/a.ts', "import { ClassicLevel } from 'classic-level'", /for store/],
  [
    'a part of a package elsewhere',
    'src/log/a.ts',
    "import { stringify } from 'csv-stringify/sync'",
    /for cli/,
  ],
  ['a clock', 'src/log/a.ts', 'const now = Date.now()', /^2: Date\.now/],
  ['a clock over two lines', 'src/log/a.ts', 'const now = Date\n  .now()', /^2: Date\.now/],
  ['a clock through globalThis', 'src/log/a.ts', 'globalThis.performance?.now()', /performance\.now/],
  ['a clock in brackets', 'src/log/a.ts', "Date['now']()", /Date\.now/],
  ['a clock in a template', 'src/log/a.ts', `const text = \`at \${Date.now()} ms\``, /Date\.now/],
  ['a clock after a template', 'src/log/a.ts', `f(\`\${\`\${{}}\`}\`, Date.now())`, /Date\.now/],
  ['a new date', 'src/log/a.ts', 'const at = new Date()', /without an argument/],
  ['a new date without brackets', 'src/log/a.ts', 'const at = new Date', /without an argument/],
  ['a date as text', 'src/log/a.ts', 'const at = Date()', /without an argument/],
  ['a timer', 'src/group/a.ts', 'setTimeout(() => {}, 1)', /setTimeout/],
  ['a timer passed on', 'src/group/a.ts', 'const later = setImmediate', /setImmediate/],
  ['an interval', 'src/env/a.ts', 'setInterval(f, 1)', /setInterval/],
  ['a timer of a signal', 'src/group/a.ts', 'AbortSignal.timeout(5)', /AbortSignal\.timeout/],
  ['randomness', 'src/sim/a.ts', 'Math.random()', /Math\.random/],
  ['a random id', 'src/database/a.ts', 'crypto.randomUUID()', /crypto\.randomUUID/],
  ['the process clock', 'src/log/a.ts', 'process.hrtime.bigint()', /process\.hrtime/],
  ['an async function in the core', 'src/replication/a.ts', 'async function f() {}', /async: replication/],
  ['an await in the core', 'src/replication/a.ts', 'await f()', /await: replication/],
  ['a promise type in the core', 'src/replication/a.ts', 'let p: Promise<void>', /Promise: replication/],
  ['a microtask in the core', 'src/replication/a.ts', 'queueMicrotask(f)', /queueMicrotask: replication/],
  ['a folder that is no floor', 'src/util/a.ts', '', /not one of the floors/],
  ['a second file beside index.ts', 'src/other.ts', '', /not one of the floors/],
  ['a string that does not close', 'src/log/a.ts', "\nconst a = 'b", /^3: cannot be read: a string/],
]

for (const [rule, file, code, message, others] of caught) {
  test(`the floors catch ${rule}`, () => {
    const messages = messagesFor(file, code, others)
    assert.equal(messages.length, 1, messages.join('\n'))
    assert.match(messages[0] as string, message)
  })
}

const passes: readonly [what: string, file: string, code: string, others?: string[]][] = [
  ['a downward import', 'src/store/a.ts', "import { b } from '../log/b.ts'", ['src/log/b.ts']],
  ['an import of a neighbour', 'src/log/a.ts', "import { b } from './b.ts'", ['src/log/b.ts']],
  ['the interfaces of the host', 'src/transport/a.ts', "import '../env/host.ts'", ['src/env/host.ts']],
  ['the real host in group/', 'src/group/a.ts', "import '../env/node/b.ts'", ['src/env/node/b.ts']],
  ['the public surface in the CLI', 'src/cli/a.ts', "import '../index.ts'", ['src/index.ts']],
  ['node: modules in env/node', 'src/env/node/a.ts', "import 'node:fs'\nsetTimeout(f, Date.now())"],
  ['node: modules in the CLI', 'src/cli/records/a.ts', "import 'node:fs'\nsetTimeout(f, 1)"],
  ['node:zlib for the checksum', 'src/base/checksum.ts', "import { crc32 } from 'node:zlib'"],
  ['a package in its place', 'src/store/a.ts', "import { ClassicLevel } from 'classic-level'"],
  ['names in comments', 'src/log/a.ts', "// Date.now()\n/* import 'node:fs'\n setTimeout */"],
  ['names in strings', 'src/log/a.ts', "const a = \"Date.now()\"; const b = 'it\\'s setTimeout'"],
  ['names in templates', 'src/log/a.ts', `const a = \`Date.now() \\\` \${b} setTimeout { }\``],
  ['names in regular expressions', 'src/log/a.ts', 'const a = /[/"]setTimeout`/.test(b)'],
  ['divisions', 'src/log/a.ts', 'const a = b / 2 / (c) / d[0] / 1.5e3'],
  ['a date of a given time', 'src/log/a.ts', 'const a: Date = new Date(host.clock.wall())'],
  ['another thing with now', 'src/log/a.ts', 'const a = clock.now(); const b = Date.parse(c)'],
  ['an option named async', 'src/replication/a.ts', "const a = { async: true, mode: 'async' }; a.async"],
  ['promises outside the core', 'src/group/a.ts', 'async function f() { await Promise.resolve() }'],
]

for (const [what, file, code, others] of passes) {
  test(`the floors let ${what} pass`, () => {
    assert.deepEqual(messagesFor(file, code, others), [])
  })
}

test('the floors report an import circle once, at its first file', () => {
  const sources = new Map([
    ['src/log/b.ts', `${opening}import './c.ts'`],
    ['src/log/c.ts', `${opening}import type { A } from './a.ts'`],
    ['src/log/a.ts', `${opening}\nimport './b.ts'`],
  ])
  assert.deepEqual(checkFloors(sources, ['src/log/a.ts']), [
    {
      file: 'src/log/a.ts',
      line: 3,
      message: 'an import circle: src/log/a.ts -> src/log/b.ts -> src/log/c.ts -> src/log/a.ts',
    },
  ])
})

test('the floors report files that no entry point leads to, also when such files import each other', () => {
  const sources = new Map([
    ['src/index.ts', `${opening}export { a } from './log/a.ts'`],
    ['src/log/a.ts', opening],
    ['src/log/b.ts', `${opening}import './c.ts'`],
    ['src/log/c.ts', opening],
    ['src/log/ambient.d.ts', opening],
    ['src/cli/main.ts', `#!/usr/bin/env node\n${opening}`],
  ])
  const dead = checkFloors(sources).map(({ file, message }) => `${file} ${message.split(':')[0]}`)
  assert.deepEqual(dead, ['src/log/b.ts a dead file', 'src/log/c.ts a dead file'])
  assert.deepEqual(checkFloors(sources, ['src/log/b.ts']), [])
})

test('the floors want a comment at the top of each file', () => {
  const sources = new Map([['src/index.ts', 'export const a = 1 // late\n']])
  const [violation] = checkFloors(sources)
  assert.match(violation?.message ?? '', /open with a comment/)
})

test('the tokenizer keeps line numbers across comments, templates and nested substitutions', () => {
  const source = `/* a\n b */ first\n\`x\n\${ { y: \`\n\` } }\n\` last = // '\n/re\`/.x`
  const lines = tokenize(source).tokens.map(({ text, line }) => `${line} ${text.replaceAll('\n', '~')}`)
  assert.deepEqual(lines, [
    '2 first',
    '3 x~',
    '4 {',
    '4 y',
    '4 :',
    '4 ~',
    '5 }',
    '5 ~',
    '6 last',
    '6 =',
    '7 /re`/',
    '7 .',
    '7 x',
  ])
})

for (const [what, source] of [
  ['comment', '/* a'],
  ['string', 'a = "b\n"'],
  ['template', `\`a \${b`],
  ['template', '`a'],
  ['regular expression', 'a = /[/]'],
] as const) {
  test(`the tokenizer refuses a ${what} that does not close: ${JSON.stringify(source)}`, () => {
    assert.throws(() => tokenize(source), new SyntaxError(`line 1: a ${what} does not close`))
  })
}

test('imports are found in all their forms, and import.meta and members named import are none', () => {
  const source = [
    "import a, { type b } from './a.ts'",
    "export { c } from './c.ts'",
    "import './d.ts'",
    "type E = import('./e.ts').E",
    'import.meta.url; x.import("no"); Array.from("no")',
    'import(name)',
  ].join('\n')
  assert.deepEqual(importsOf(tokenize(source).tokens), [
    { specifier: './a.ts', line: 1 },
    { specifier: './c.ts', line: 2 },
    { specifier: './d.ts', line: 3 },
    { specifier: './e.ts', line: 4 },
    { specifier: undefined, line: 6 },
  ])
  assert.equal(resolveRelative('src/env/node/a.ts', '../../base/b.js'), 'src/base/b.ts')
})

test('the check of the real tree prints one line per violation and a total that its exit code agrees with', () => {
  const script = join(projectFolder, 'scripts/floors.ts')
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', script], {
    encoding: 'utf8',
  })
  const lines = stdout.trimEnd().split('\n')
  const total = /^floors: (\d+) files, (\d+) violations?$/.exec(lines.at(-1) ?? '')
  assert.ok(total !== null, stdout + stderr)
  assert.equal(lines.length - 1, Number(total[2]))
  assert.equal(status, total[2] === '0' ? 0 : 1)
  for (const line of lines.slice(0, -1)) assert.match(line, /^src\/\S+\.ts:\d+: \S/)
})
