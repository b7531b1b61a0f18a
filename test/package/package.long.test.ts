// Packs the project as it would be published, installs it in another folder, and uses it there as a stranger would.
// Needs `dist/` (npm test builds it). Packing runs no scripts: a build here would pull `dist/` from under other tests.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'

const project = projectFolder
const work = mkdtempSync(join(tmpdir(), 'coterie-package-'))
const consumer = join(work, 'consumer')
let packed: string[] = []

after(() => rmSync(work, { recursive: true, force: true }))

before(() => {
  assert.ok(existsSync(join(project, 'dist/index.js')), 'dist/ is missing: run npm run build')
  const listing = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', work], project)
  const [archive] = JSON.parse(listing) as { filename: string; files: { path: string }[] }[]
  assert.ok(archive !== undefined)
  packed = archive.files.map((file) => file.path)
  mkdirSync(consumer)
  write('package.json', JSON.stringify({ name: 'consumer', private: true, type: 'module' }))
  run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', join(work, archive.filename)])
})

test('the package holds what it needs at run time and to be read, and no tests or tools', () => {
  for (const path of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/cli/main.js',
    'LICENSE',
    'CHANGELOG.md',
    'docs/errors.md',
  ]) {
    assert.ok(packed.includes(path), `${path} is not in the package`)
  }
  assert.deepEqual(
    packed.filter((path) => /^(test|scripts|bench|node_modules|\.ci)\//.test(path) || path.endsWith('.tgz')),
    [],
  )
})

test('no file of the package names a folder of the machine that built it', () => {
  const installed = join(consumer, 'node_modules/coterie')
  for (const path of packed.filter((path) => /\.(js|ts|json|md)$/.test(path))) {
    assert.ok(!readFileSync(join(installed, path), 'utf8').includes(project), path)
  }
})

test('[A23b] a stranger who writes a transport runs the suite that it must pass', () => {
  const whole = readFileSync(join(project, 'test/scenario/own-transport.test.ts'), 'utf8')
  const own = whole
    .slice(0, whole.indexOf("test('"))
    .replace("'../../src/index.ts'", "'coterie'")
    .replace("'../../src/testing/index.ts'", "'coterie/testing'")
    .replace(/^import .* from '\.\..*$/gm, '')
  assert.ok(own.includes('transportConformance({') && !own.includes('../'))
  write('own-transport.test.ts', own)
  const tsx = import.meta.resolve('tsx')
  const report = run('node', ['--import', tsx, '--test', '--test-reporter=tap', 'own-transport.test.ts'])
  assert.match(report, /^# fail 0$/m)
  assert.ok(Number(/^# pass (\d+)$/m.exec(report)?.[1]) >= 20, report)
})

test('a stranger imports it, and writes and reads a database', () => {
  write(
    'use.js',
    `import { attachMaster, CoterieError, open } from 'coterie'
     const db = await open('./data')
     await db.put('n', 'one')
     console.log(typeof attachMaster, typeof CoterieError, await db.get('n'))
     await db.close()`,
  )
  assert.equal(run('node', ['use.js']), 'function function one\n')
})

test('a stranger whose program is CommonJS requires it', () => {
  write(
    'use.cjs',
    "const { attachMaster, open } = require('coterie'); console.log(typeof open, typeof attachMaster)",
  )
  assert.equal(run('node', ['use.cjs']), 'function function\n')
})

test('its types resolve, and the compiler tells a misspelt option', () => {
  write(
    'use.ts',
    `import { attachMaster, open } from 'coterie'
     const db = await open('./data')
     const text: string | undefined = await db.get('n')
     const attachment = attachMaster(db, 'tcp://127.0.0.1:1', { connectTimeoutMs: 5 })
     const why: string = (await attachment.stopped).reason
     console.log(text, why)
     // @ts-expect-error the option is misspelt
     await open('./data', { durabilty: 'sync' })`,
  )
  const compilerOptions = {
    target: 'ES2022',
    lib: ['ES2022', 'ESNext.Disposable'],
    module: 'NodeNext',
    strict: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(project, 'node_modules/@types')],
  }
  write('tsconfig.json', JSON.stringify({ compilerOptions, include: ['use.ts'] }))
  assert.equal(run('node', [join(project, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json']), '')
})

test('npx coterie --help works where it is installed', () => {
  const help = run('npx', ['--no-install', 'coterie', '--help'])
  assert.match(help, /coterie/i)
  for (const verb of ['serve', 'attach', 'backup', 'verify']) assert.match(help, new RegExp(`\\b${verb}\\b`))
})

function write(name: string, content: string): void {
  writeFileSync(join(consumer, name), content)
}

/** Runs a program and returns its stdout; a failure carries all that it wrote. */
function run(program: string, args: readonly string[], cwd: string = consumer): string {
  // The npm that runs the tests hands its settings down; those of the project must not reach the stranger's folder. Nor
  // is a runner of tests that is started there one of this test.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(package|lifecycle|config_local_prefix)|^NODE_TEST_CONTEXT$/.test(name),
    ),
  )
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8' })
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${error ?? ''}\n${stdout}\n${stderr}`)
  return stdout
}
