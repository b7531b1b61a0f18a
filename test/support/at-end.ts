// What a test must undo when it ends, last thing first: a child is dead before the folder it writes to is removed.
// The runner's own `t.after` goes in the order of the calls, which would remove the folder first.

import type { TestContext } from 'node:test'

type Undo = () => void | Promise<void>

const undoOf = new WeakMap<TestContext, Undo[]>()

/** Runs `undo` when the test ends, also when it fails. All are run, and the first error is thrown at the end. */
export function atEnd(t: TestContext, undo: Undo): void {
  const known = undoOf.get(t)
  if (known !== undefined) {
    known.push(undo)
    return
  }
  const stack = [undo]
  undoOf.set(t, stack)
  t.after(async () => {
    const errors: unknown[] = []
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      try {
        await next()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  })
}
