// Ids that a site or a database gets once, at its creation, and keeps for ever.

import { toHex, utf8Encode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Random } from '../env/host.ts'

/** 16 hexadecimal digits. */
export function newSiteId(random: Random): string {
  return toHex(random.bytes(8))
}

/** 32 hexadecimal digits. */
export function newDatabaseId(random: Random): string {
  return toHex(random.bytes(16))
}

/** Tells the folder of a site from another one that claims its id. 16 hexadecimal digits. */
export function newIncarnation(random: Random): string {
  return toHex(random.bytes(8))
}

/** OPTION_INVALID unless `site` can be a site's id. */
export function checkSiteId(site: string): string {
  if (site === '' || utf8Encode(site).length > limits.siteIdBytesMax) {
    throw new CoterieError('OPTION_INVALID', `'site' must be an id of 1 to ${limits.siteIdBytesMax} bytes`, {
      details: { option: 'site' },
    })
  }
  return site
}
