// Assertions of invariants, on in production. A failure means that the program's own reasoning is wrong: the
// site stops and does not go on, because anything it did next could lose an acknowledged commit.

/** A broken invariant. Never caught to go on; the site that meets one stops. */
export class AssertionFailure extends Error {
  constructor(message: string) {
    super(`invariant broken: ${message}`)
    this.name = 'AssertionFailure'
  }
}

/** Stops unless `condition` holds. Pass a literal message: it is evaluated on every call. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message)
}

/** For the default branch of a switch over a discriminated union. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unreachable: ${JSON.stringify(value)}`)
}
