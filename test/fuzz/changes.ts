// What is done to good bytes to make bad ones: a few of them set, put in or cut off.

import fc from 'fast-check'
import { concatBytes } from '../../src/base/bytes.ts'

interface Change {
  readonly at: number
  readonly value: number
  readonly how: 'set' | 'cut' | 'insert'
}

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat(1_000_000),
  value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
  how: fc.constantFrom('set' as const, 'set' as const, 'set' as const, 'cut' as const, 'insert' as const),
})

/** Few changes: most bytes stay good, so that what reads them gets far. */
export const changes: fc.Arbitrary<Change[]> = fc.array(change, { minLength: 1, maxLength: 4 })

export function changed(good: Uint8Array, by: readonly Change[]): Uint8Array {
  let bytes: Uint8Array = good.slice()
  for (const { at, value, how } of by) {
    const place = at % (bytes.length + 1)
    if (how === 'cut') bytes = bytes.slice(0, place)
    else if (how === 'insert') {
      bytes = concatBytes([bytes.subarray(0, place), Uint8Array.of(value), bytes.subarray(place)])
    } else if (place < bytes.length) bytes[place] = value
  }
  return bytes
}
