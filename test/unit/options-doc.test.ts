// docs/options.md, and the settings of docs/base-api.md, against the options that the code declares: each has its row
// under its call, and no row is of an option that there is not.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'

function read(path: string): string {
  return readFileSync(join(projectFolder, path), 'utf8')
}

/** The fields of an interface, as its source declares them. */
function fieldsOf(path: string, name: string): string[] {
  const body = new RegExp(`export interface ${name} [^{]*\\{\\n(.*?)\\n\\}`, 's').exec(read(path))?.[1]
  assert.ok(body !== undefined, `${path} declares ${name}`)
  return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field]) => field as string)
}

/** The options in the first cells of the tables under a heading. */
function rowsOf(path: string, heading: string): string[] {
  const section = read(path)
    .split(/^## /m)
    .find((part) => part.startsWith(`${heading}\n`))
  assert.ok(section !== undefined, `${path} has ${heading}`)
  const rows = [...section.matchAll(/^\| (`[^|]+) \|/gm)].map(([, cell]) => cell as string)
  return rows.flatMap((cell) => [...cell.matchAll(/`(\w+)/g)].map(([, option]) => option as string))
}

const sorted = (names: readonly string[]): string[] => [...names].sort((a, b) => (a < b ? -1 : 1))

const pages: readonly (readonly [source: string, type: string, page: string, heading: string])[] = [
  ['src/group/open.ts', 'OpenOptions', 'docs/options.md', 'open'],
  ['src/transport/link-options.ts', 'LinkOptions', 'docs/options.md', 'links'],
  ['src/group/serve-options.ts', 'ServeOptions', 'docs/options.md', 'serve'],
  ['src/group/attach-options.ts', 'AttachOptions', 'docs/options.md', 'attachMaster'],
  ['src/group/join-options.ts', 'JoinOptions', 'docs/options.md', 'join'],
]

for (const [source, type, page, heading] of pages) {
  test(`${page} has every option of ${heading}, and no other`, () => {
    assert.deepEqual(sorted(rowsOf(page, heading)), sorted(fieldsOf(source, type)))
  })
}

test('docs/base-api.md has every setting of replication(), and no other', () => {
  const source = 'src/group/replication-options.ts'
  const own = fieldsOf(source, 'ReplicationOptions').filter((name) => name !== 'site' && name !== 'send')
  const declared = [...fieldsOf(source, 'ReplicationSettings'), ...own]
  const told = rowsOf('docs/base-api.md', 'Settings')
  assert.deepEqual(sorted(told), sorted(declared))
})

test('docs/base-api.md has every event of replication(), and no other', () => {
  const body = /export type ReplicationEvents = \{\n(.*?)\n\}/s.exec(read('src/group/events.ts'))?.[1] ?? ''
  const declared = [...body.matchAll(/^ {2}(\w+):/gm)].map(([, name]) => name as string)
  const section = /^## Events\n\n(.*?)\. `newMaster` comes/ms.exec(read('docs/base-api.md'))?.[1] ?? ''
  const told = [...section.matchAll(/`(\w+)`/g)].map(([, name]) => name as string)
  assert.deepEqual(sorted(told), sorted(declared))
})
