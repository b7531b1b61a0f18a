// Runs the stories base-*.txt in this folder and compares what happened with what they say. With COTERIE_REWRITE=1 the
// files are written anew instead: keep the change only if you understand every line of it.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { runBaseScript } from '../support/base-script.ts'

const folder = path.join(projectFolder, 'test/scenario')
const isRewriting = process.env.COTERIE_REWRITE === '1'

for (const file of readdirSync(folder).filter((name) => /^base-.*\.txt$/.test(name))) {
  test(`[B1 B3 B6] the story ${file} happens as it is told`, async () => {
    const location = path.join(folder, file)
    const expected = readFileSync(location, 'utf8')
    const actual = await runSettling(() => runBaseScript(expected))
    if (isRewriting) writeFileSync(location, actual)
    else assert.equal(actual, expected, 'run with COTERIE_REWRITE=1 and look at the difference')
  })
}
