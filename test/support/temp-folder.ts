// A folder of its own for each test, removed when the test ends.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { atEnd } from './at-end.ts'

/** The path of a new, empty folder. Use `atEnd` for what must be closed before the folder goes. */
export function withTempFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'coterie-test-'))
  atEnd(t, () => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }))
  return folder
}
