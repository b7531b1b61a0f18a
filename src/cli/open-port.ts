// Opens the database at a path for one verb: directly, or through the process that has it open.

import { isCoterieError } from '../base/errors.ts'
import type { Host } from '../env/host.ts'
import { ControlClient } from './control/control-client.ts'
import { library } from './library.ts'
import { type ByteDatabase, LocalPort, viewEncodings } from './local-port.ts'
import type { DatabasePort } from './port.ts'

export interface OpenPortOptions {
  /** Make a database where there is none. */
  readonly create: boolean
}

/** A process that has just locked the directory may need a moment to offer its endpoint. */
const lockedTries = 5
const lockedPauseMs = 100

/** LOCKED if a process has it open that offers no endpoint. */
export async function openPort(path: string, host: Host, options: OpenPortOptions): Promise<DatabasePort> {
  for (let tries = 1; ; tries++) {
    const remote = await ControlClient.connect(path, host)
    if (remote !== undefined) return remote
    try {
      const { open } = await library()
      const db: ByteDatabase = await open<Uint8Array, Uint8Array>(path, {
        ...viewEncodings,
        create: options.create,
      })
      return new LocalPort(db)
    } catch (error) {
      if (!isCoterieError(error, 'LOCKED') || tries >= lockedTries) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, lockedPauseMs))
  }
}
