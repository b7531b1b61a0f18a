#!/usr/bin/env node
// The `coterie` command. The first SIGINT or SIGTERM asks the verb to end in good order; a second one ends the process
// at once.

import { exitCodes } from './exit-codes.ts'
import { runCommand } from './program.ts'

const interruption = new AbortController()
let signals = 0
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    signals++
    if (signals > 1) process.exit(exitCodes.interrupted)
    interruption.abort()
  })
}

process.exitCode = await runCommand(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  interrupted: interruption.signal,
})
// A verb that ends early may leave standard input open, and an open pipe would keep the process.
process.stdin.destroy()
