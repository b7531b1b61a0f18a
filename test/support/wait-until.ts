// Waits for a condition instead of for a time: tests say what they wait for, and fail with those words.

export interface WaitOptions {
  /** Ends the sentence "waited 60000 ms until ..."; a function is asked when the wait is over. */
  readonly what: string | (() => string)
  /** Generous by intent: it only decides how long a failing test takes. Default 60,000. */
  readonly timeoutMs?: number
  /** Between two looks. Default 5; more where a look costs a process. */
  readonly everyMs?: number
}

/** Polls until `condition` is true; an error that it throws ends the wait at once. */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  { what, timeoutMs = 60_000, everyMs = 5 }: WaitOptions,
): Promise<void> {
  const start = performance.now()
  while (!(await condition())) {
    if (performance.now() - start > timeoutMs) {
      throw new Error(`waited ${timeoutMs} ms until ${typeof what === 'string' ? what : what()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
