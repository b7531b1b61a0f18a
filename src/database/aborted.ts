// The one way in which a caller's signal ends a wait.
//
// The wait ends, not what was waited for: whoever starts something that an abort should undo listens by itself.

import { CoterieError } from '../base/errors.ts'

/** Settles as the promise does, or with ABORTED if the signal comes first. */
export function aborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  return new Promise((resolve, reject) => {
    const abort = (): void =>
      reject(new CoterieError('ABORTED', 'the wait was aborted', { cause: signal.reason }))
    const settle = (): void => signal.removeEventListener('abort', abort)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(settle)
  })
}
