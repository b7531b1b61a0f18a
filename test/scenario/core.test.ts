// Runs the stories in this folder (core-*.txt) and compares what happened with what they say. With COTERIE_REWRITE=1
// the files are written anew instead: keep the change only if you understand every line of it.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { runScript } from '../support/core-script.ts'

const folder = path.join(projectFolder, 'test/scenario')
const isRewriting = process.env.COTERIE_REWRITE === '1'

for (const file of readdirSync(folder).filter((name) => /^core-.*\.txt$/.test(name))) {
  test(`the story ${file} happens as it is told`, () => {
    const location = path.join(folder, file)
    const expected = readFileSync(location, 'utf8')
    const actual = runScript(expected)
    if (isRewriting) writeFileSync(location, actual)
    else assert.equal(actual, expected, 'run with COTERIE_REWRITE=1 and look at the difference')
  })
}
