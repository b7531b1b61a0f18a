// Restoring a backup into a new folder.

import { CoterieError } from '../base/errors.ts'
import { anything, checkOptions, type OptionRules, text } from '../base/options.ts'
import { type BackupProgress, type BackupResult, restoreBackup } from '../database/backup.ts'
import type { Host } from '../env/host.ts'
import { describeHolder, environmentOf } from './open.ts'

export interface RestoreOptions {
  /** The id of the new site. Default: a random one. */
  readonly site?: string
  readonly onProgress?: (progress: BackupProgress) => void
  readonly host?: Host
}

const restoreRules: OptionRules = { site: text, onProgress: anything, host: anything }

/**
 * Makes a database in `location`, a new or empty folder, from a backup file. It has the database's identity and
 * history and a site id of its own: it can be opened alone, or attached to a master of that database.
 * Errors: BACKUP_INVALID, INVALID_STATE (there is a database already), NOT_A_DATABASE, DISK_FULL, IO_ERROR.
 */
export async function restore(
  file: string,
  location: string,
  options: RestoreOptions = {},
): Promise<BackupResult> {
  checkOptions('restore', options, restoreRules)
  const { host, storeEngine, inMemory } = environmentOf(location, options)
  if (inMemory) {
    throw new CoterieError(
      'OPTION_INVALID',
      'a backup is restored to a folder: :memory: is gone when it is closed',
    )
  }
  return await restoreBackup({
    host,
    storeEngine,
    file,
    location,
    site: options.site,
    holder: describeHolder(host),
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  })
}
