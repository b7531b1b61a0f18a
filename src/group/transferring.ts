// A hand-over from the master's side, as one promise: it resolves at the point of no return, when this site has given up
// its reign for good, and rejects if it came to nothing; then the master goes on as if nothing had been asked.

import { CoterieError } from '../base/errors.ts'
import type { Site } from './site.ts'

/** What a master knows when it has handed over: the other site's term begins after `lsn`. */
export interface Transferred {
  readonly site: string
  readonly term: number
  readonly lsn: number
}

/** TRANSFER_FAILED: nothing has changed. INVALID_STATE while another hand-over is under way. */
export async function transferTo(
  site: Site,
  options: { readonly heir: string; readonly timeoutMs?: number | undefined },
): Promise<Transferred> {
  const { heir, timeoutMs } = options
  const { timers } = site.engine.host
  // In a turn of its own: whoever was let in to write in this one has written by then.
  await new Promise<void>((resolve) => {
    timers.soon(resolve)
  })
  const watch = watchHandOver(site, heir)
  try {
    site.handOver(heir)
  } catch (error) {
    watch.end()
    throw error
  }
  const timer =
    timeoutMs === undefined
      ? undefined
      : timers.after(timeoutMs, () =>
          site.cancelHandOver(`site ${heir} did not catch up within ${timeoutMs} ms`),
        )
  try {
    return await watch.done
  } finally {
    timer?.cancel()
    watch.end()
  }
}

function watchHandOver(site: Site, heir: string): { done: Promise<Transferred>; end: () => void } {
  const offs: (() => void)[] = []
  const done = new Promise<Transferred>((resolve, reject) => {
    offs.push(
      site.events.on('core', (event) => {
        if (event.kind === 'handedOver' && event.site === heir) {
          resolve({ site: heir, term: event.term, lsn: event.lsn })
        } else if (event.kind === 'handOverFailed' && event.site === heir) {
          reject(new CoterieError(event.code, event.message))
        }
      }),
      site.events.on('steppedDown', ({ reason }) => {
        if (reason === 'handed-over') return
        reject(new CoterieError('TRANSFER_FAILED', 'this site was master no more before it could hand over'))
      }),
      site.events.on('failed', reject),
    )
  })
  // Where `handOver` itself throws nobody waits for it.
  done.catch(() => undefined)
  return {
    done,
    end: () => {
      for (const off of offs) off()
    },
  }
}
