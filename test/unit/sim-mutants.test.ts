import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { mutants, plantIn } from '../../src/sim/mutants.ts'

test('every planted bug still fits the source that it changes', () => {
  for (const mutant of mutants) {
    const source = readFileSync(join(projectFolder, 'src', mutant.file), 'utf8')
    assert.notEqual(plantIn(source, mutant), source, mutant.name)
  }
})

test('there are at least twenty planted bugs, each with a name of its own', () => {
  assert.ok(mutants.length >= 20, `${mutants.length} planted bugs`)
  assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length)
})

test('a planted bug that fits nowhere, or in two places, is refused', () => {
  const mutant = { name: 'x', why: 'y', file: 'z.ts', find: 'a', replace: 'b' }
  assert.throws(() => plantIn('c', mutant), /stands 0 times/)
  assert.throws(() => plantIn('a a', mutant), /stands 2 times/)
  assert.equal(plantIn('c a', { ...mutant, replace: '$&b' }), 'c $&b')
})
