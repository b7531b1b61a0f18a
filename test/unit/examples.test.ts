// Runs every example as a reader would, and holds README.md to those that it quotes: an example that does not run is
// worse than none.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { startChild } from '../support/child.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const examples = join(projectFolder, 'examples')

/** What each example prints: the words that show that it did what it says. */
const expected: Readonly<Record<string, readonly RegExp[]>> = {
  'readme.ts': [
    /^the replica is in step \((snapshot|incremental|equal), up to record \d+\)$/m,
    /^run 1 is record \d+, on 2 sites\n1 applied\ncity:1 Jakarta\ncan lose: 1 site, 0 commits$/m,
  ],
  'replicate.ts': [
    /^committed on 2 sites; the replica reads Jakarta$/m,
    /^a write on the replica is refused: NOT_MASTER$/m,
    /^it comes back by incremental, with 1 transaction$/m,
    /^the attachment ended: (connection-lost|detached-by-master)$/m,
    /^in term 2 on 2 sites \[ 'Jakarta', 'Bandung', 'Surabaya' \]$/m,
  ],
  'group.mjs': [
    /^a is master; on [23] sites; can lose: 1 site, 0 commits$/m,
    /^b: NOT_MASTER, write at a$/m,
    /^b is master in term 2$/m,
    /^without b: Jakarta, applied; can lose: 0 sites; 2 of 3 members are heard, 2 are needed$/m,
  ],
  'own-transport.mjs': [
    /^a is master in term 1\na: put city -> LSN 2 on [23] sites\nb: put city -> NOT_MASTER$/m,
    /^a is gone; ([bc]) is master in term \d+\n\1: put river -> LSN \d+ on 2 sites\n\1: get city -> Jakarta$/m,
  ],
  'changes.ts': [
    /^2: put city:Jakarta\n3: put city:Bandung\nstopped after LSN 3\n4: put city:Surabaya\n/m,
    /^5: put city:Medan\n5: del city:Jakarta$/m,
  ],
}

for (const [name, lines] of Object.entries(expected)) {
  if (name === 'readme.ts') continue
  test(`the example ${name} runs and prints what it promises`, async (t) => {
    const child = startChild(t, join(examples, name), { cwd: withTempFolder(t) })
    const exit = await child.exited
    assert.deepEqual({ ...exit, stderr: child.stderr }, { code: 0, signal: null, stderr: '' })
    for (const line of lines) assert.match(child.stdout, line)
  })
}

test('the README example prints what it promises, and goes on with its own data when it is run again', async (t) => {
  const cwd = withTempFolder(t)
  for (const run of [1, 2]) {
    const child = startChild(t, join(examples, 'readme.ts'), { cwd })
    assert.deepEqual({ ...(await child.exited), stderr: child.stderr }, { code: 0, signal: null, stderr: '' })
    assert.match(child.stdout, new RegExp(`^run ${run} is record \\d+, on 2 sites$`, 'm'))
    if (run === 1) for (const line of expected['readme.ts'] ?? []) assert.match(child.stdout, line)
  }
})

test('every example is among those that are run', () => {
  assert.deepEqual(new Set(readdirSync(examples)), new Set(Object.keys(expected)))
})

for (const [name, library, language] of [
  ['readme.ts', '../src/index.ts', 'ts'],
  ['group.mjs', '../dist/index.js', 'js'],
] as const) {
  test(`README.md quotes examples/${name}, but for the name of the package`, () => {
    const readme = readFileSync(join(projectFolder, 'README.md'), 'utf8')
    const source = readFileSync(join(examples, name), 'utf8')
    const code = source.slice(source.indexOf('\nimport ') + 1).replace(`'${library}'`, "'coterie'")
    assert.ok(
      readme.includes(`\`\`\`${language}\n${code}\`\`\`\n`),
      `README.md quotes another version of examples/${name}`,
    )
  })
}
