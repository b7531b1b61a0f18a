// How two that send over udp:// share a narrow line, in virtual time: many runs that differ in when the second begins
// and in how late the event loop is, so what is printed is the same on every machine.
//
//   node --import tsx bench/udp-line.ts            all of it, about a minute and a half
//   node --import tsx bench/udp-line.ts 40         only round trips of 40 ms

import { Prng } from '../src/base/prng.ts'
import { pairOnLine } from '../test/support/udp-line.ts'

const runs = 40
const bytes = 5_000_000

const asked = process.argv.slice(2).map(Number)
for (const roundTripMs of asked.length > 0 ? asked : [4, 20, 40, 80]) {
  for (const queueKib of [32, 64, 128]) {
    const outcomes = []
    for (let seed = 0; seed < runs; seed++) {
      const prng = new Prng(seed)
      // Half of them begin together, the worst that can be; the others up to a second apart.
      const offsetMs = prng.chance(0.5) ? 0 : 5 * prng.below(200)
      const line = {
        bytesPerSecond: 2_000_000,
        queueBytes: queueKib * 1024,
        latencyMs: roundTripMs / 2,
        seed,
        stallMsMax: prng.pick([0, 5, 20]),
        receiveBufferBytes: prng.pick([212_992, 4_194_304]),
      }
      outcomes.push(await pairOnLine(line, { bytes, offsetMs }))
    }
    const apart = sorted(outcomes.map((outcome) => outcome.apart))
    const lesser = sorted(outcomes.map((outcome) => outcome.lesserShare))
    const overflow = sorted(outcomes.map((outcome) => outcome.overflowShare))
    const within = apart.filter((each) => each < 0.4).length
    console.log(
      `${roundTripMs} ms, ${queueKib} KiB: apart ${percent(apart, 0.5)} % at the median, ${percent(apart, 0.9)} at 90 %, ${percent(apart, 1)} at most; ` +
        `${within} of ${runs} within 40 %; the lesser got ${percent(lesser, 0.5)} % at the median, ${percent(lesser, 0)} at least; ` +
        `${percent(overflow, 0.5)} % overflowed, ${percent(overflow, 1)} at most`,
    )
  }
}

function sorted(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b)
}

function percent(values: readonly number[], share: number): string {
  return ((values[Math.floor(share * (values.length - 1))] as number) * 100).toFixed(0)
}
