// Lets promises settle between two simulated events. The code under test uses promises and microtasks; all of those
// that one event sets off must have run before the next, or a run would not be the same twice.
//
// A turn of Node's own loop for each event would do, and costs more than most events do. Node has a function that runs
// what a callback leaves behind, microtasks until there are none and then rejections that nobody handles; timers and
// sockets end with it. Called between two events it costs 20 ns when there is nothing to run. It works only where no
// microtask is running, so the whole run is one synchronous call, from a message port's callback.

import { assert } from '../base/assert.ts'

type NodeProcess = { readonly _tickCallback?: () => void }

const drain = (process as NodeProcess)._tickCallback

/** Runs every microtask that there is, and those that they bring about. */
export function settle(): void {
  drain?.()
}

/** Runs a function outside all microtasks, in which `settle` works. */
export function runSettling<R>(run: () => R): Promise<R> {
  return new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel()
    port1.once('message', () => {
      port1.close()
      try {
        let settled = false
        queueMicrotask(() => {
          settled = true
        })
        settle()
        assert(settled, 'this version of Node lets microtasks run when asked')
        resolve(run())
      } catch (error) {
        reject(error as Error)
      }
    })
    port2.postMessage(undefined)
  })
}
