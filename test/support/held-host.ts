// A host whose log does not become durable while a test holds it: syncs of log files wait until they are released.

import type { Files, Host, OpenFile } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'

export interface HeldHost {
  readonly host: Host
  /** From now on nothing that is written to a log becomes durable. */
  hold(): void
  /** What waits is synced now, and what comes later at once. */
  release(): void
}

export function heldHost(): HeldHost {
  const real = nodeHost()
  let held: (() => void)[] | undefined
  const open = async (path: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile> => {
    const file = await real.files.open(path, mode)
    const sync = (done: (error: Error | null) => void): void => {
      if (held === undefined || !path.includes('log-')) file.sync(done)
      else held.push(() => file.sync(done))
    }
    return overridden(file, { sync })
  }
  return {
    host: { ...real, files: overridden<Files>(real.files, { open }) },
    hold: () => {
      held ??= []
    },
    release: () => {
      const waiting = held ?? []
      held = undefined
      for (const sync of waiting) sync()
    },
  }
}

/** The object with some of its methods replaced. */
export function overridden<T extends object>(target: T, methods: Partial<T>): T {
  return new Proxy(target, {
    get(inner, name) {
      const own: unknown = Reflect.get(methods, name)
      if (own !== undefined) return own
      const member: unknown = Reflect.get(inner, name, inner)
      return typeof member === 'function' ? member.bind(inner) : member
    },
  })
}
