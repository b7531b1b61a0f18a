// The parts of a datagram connection that do no input or output: which numbers have come, what is under way, messages
// from fragments, what goes next, and how fast.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { Arrivals } from '../../src/transport/udp/arrivals.ts'
import { udpBounds } from '../../src/transport/udp/bounds.ts'
import { Departures } from '../../src/transport/udp/departures.ts'
import type { FragmentFrame, Frame } from '../../src/transport/udp/frames.ts'
import { type Cargo, Outgoing } from '../../src/transport/udp/outgoing.ts'
import { Pacer, pacing } from '../../src/transport/udp/pacer.ts'
import { Reassembly } from '../../src/transport/udp/reassembly.ts'

test('a number is taken once, in any order, and not when it is older than the window', () => {
  const arrivals = new Arrivals(1024)
  const prng = new Prng(4)
  const seen = new Set<number>()
  let highest = 0
  for (let i = 0; i < 20_000; i++) {
    const number = Math.max(0, highest + prng.between(-1200, 40))
    const expected = number > 0 && number > highest - 1024 && !seen.has(number)
    assert.equal(arrivals.isNew(number), expected, `number ${number} at ${highest}`)
    if (!expected) continue
    arrivals.add(number)
    seen.add(number)
    highest = Math.max(highest, number)
  }
})

test('a leap beyond the window forgets all that was before', () => {
  const arrivals = new Arrivals(1024)
  for (let n = 1; n <= 1024; n++) arrivals.add(n)
  arrivals.add(5000)
  for (let n = 5000 - 1023; n < 5000; n++) assert.equal(arrivals.isNew(n), true)
  assert.equal(arrivals.isNew(5000), false)
  assert.equal(arrivals.isNew(5000 - 1024), false)
})

test('reports tell the sender what has arrived and what is lost, though some of them are lost too', () => {
  const prng = new Prng(8)
  const arrivals = new Arrivals()
  const departures = new Departures<number>()
  const arrived = new Set<number>()
  const confirmed = new Set<number>()
  const lost = new Set<number>()
  let now = 0
  for (let i = 0; i < 5000; i++) {
    now += 1
    const number = departures.nextNumber()
    departures.sent({ number, bytes: 100, sentMs: now, cargo: [number] })
    if (!prng.chance(0.2)) {
      arrivals.add(number)
      arrivals.echo(number, now)
      arrived.add(number)
    }
    if (i % 10 !== 9) continue
    const report = arrivals.report(now, 1)
    if (prng.chance(0.2)) continue
    const outcome = departures.reported(report, now, 1)
    for (const each of outcome?.arrivedCargo ?? []) confirmed.add(each)
    for (const each of outcome?.lostCargo ?? []) lost.add(each)
  }
  for (const number of confirmed) assert.ok(arrived.has(number))
  for (const number of lost) assert.ok(!arrived.has(number), `${number} has arrived`)
  assert.ok(confirmed.size + lost.size > 4900)
  assert.equal(departures.bytesUnderWay, departures.underWay * 100)
})

test('a report of what was never sent is refused', () => {
  const departures = new Departures<number>()
  const number = departures.nextNumber()
  departures.sent({ number, bytes: 1, sentMs: 0, cargo: [] })
  const report = { kind: 'report', heldMs: 0, room: 1, bitmap: new Uint8Array(0) } as const
  assert.equal(departures.reported({ ...report, highest: 2, echoed: 1 }, 1, 1), undefined)
  assert.equal(departures.reported({ ...report, highest: 1, echoed: 2 }, 1, 1), undefined)
  assert.equal(departures.reported({ ...report, highest: 1, echoed: 1 }, 1, 1)?.arrived, 1)
})

function fragmentsOf(outgoing: Outgoing): { frames: Frame[]; cargo: Cargo[] } {
  const all = { frames: [] as Frame[], cargo: [] as Cargo[] }
  for (;;) {
    const before = all.frames.length
    outgoing.fill(all.frames, all.cargo, 0)
    if (all.frames.length === before) return all
  }
}

test('messages of any length arrive whole when their fragments come in any order and twice', () => {
  const prng = new Prng(3)
  for (const [controlBytes, payloadBytes] of [
    [0, 5000],
    [5000, 0],
    [1169, 1],
    [1, 300_000],
    [2500, 2500],
  ] as const) {
    const control = prng.bytes(controlBytes)
    const payload = prng.bytes(payloadBytes)
    const outgoing = new Outgoing({ bodyBytes: 1170 })
    outgoing.add(control, payload)
    const { frames, cargo } = fragmentsOf(outgoing)
    const reassembly = new Reassembly({ messageBytesMax: 1_000_000 })
    const order = [...frames, ...frames].sort(() => prng.between(-1, 1))
    const whole = order
      .map((frame) => reassembly.add(frame as FragmentFrame, 0))
      .filter((step) => step.kind === 'whole')
    assert.equal(whole.length, 1)
    assert.ok(whole[0]?.kind === 'whole')
    assert.deepEqual(whole[0].message, { control, payload })
    assert.equal(reassembly.heldBytes, 0)
    assert.ok(!outgoing.isDone)
    for (const each of cargo) outgoing.confirmed(each)
    assert.ok(outgoing.isDone)
  }
})

test('fragments that were lost go again, before anything else, until they are confirmed', () => {
  const outgoing = new Outgoing({ bodyBytes: 1170 })
  outgoing.add(new Uint8Array(0), new Uint8Array(4000))
  const { frames, cargo } = fragmentsOf(outgoing)
  assert.equal(frames.length, 4)
  for (const index of [1, 3]) outgoing.lost(cargo[index] as Cargo)
  outgoing.confirmed(cargo[3] as Cargo)
  outgoing.add(Uint8Array.of(1), new Uint8Array(0))
  const again = fragmentsOf(outgoing)
  assert.deepEqual(
    again.frames.map((frame) => (frame.kind === 'fragment' ? frame.index : frame.kind)),
    [1, 'message'],
  )
})

test('short messages share a datagram and go before long ones', () => {
  const outgoing = new Outgoing({ bodyBytes: 1170 })
  outgoing.add(new Uint8Array(0), new Uint8Array(100_000))
  for (let i = 0; i < 10; i++) outgoing.add(Uint8Array.of(i), new Uint8Array(50))
  const frames: Frame[] = []
  outgoing.fill(frames, [], 0)
  assert.equal(frames.filter((frame) => frame.kind === 'message').length, 10)
  assert.ok(frames.length <= 11)
})

test('long messages beyond what the other side would put together wait for those before them', () => {
  const outgoing = new Outgoing({ bodyBytes: 1170 })
  for (let i = 0; i < 100; i++) outgoing.add(new Uint8Array(0), new Uint8Array(100_000))
  const { cargo } = fragmentsOf(outgoing)
  const open = new Set(cargo.map(({ message }) => message))
  assert.ok(open.size <= udpBounds.unconfirmedMessages)
  assert.ok(open.size * 100_000 <= udpBounds.unconfirmedBytes)
  assert.equal(outgoing.hasMore, false)
  const [first] = open
  for (const each of cargo) if (each.message === first) outgoing.confirmed(each)
  assert.equal(outgoing.hasMore, true)
})

test('what a peer makes us hold is bounded in messages, in bytes, and in time', () => {
  const reassembly = new Reassembly({ messageBytesMax: 1_000_000 })
  const fragment = (message: number, payloadBytes: number): FragmentFrame => ({
    kind: 'fragment',
    message,
    controlBytes: 0,
    payloadBytes,
    unit: 100,
    index: 0,
    bytes: new Uint8Array(100),
  })
  assert.equal(reassembly.add(fragment(1, 1_000_001), 0).kind, 'tooLong')
  assert.equal(reassembly.add(fragment(1, 0xffff_ffff), 0).kind, 'tooLong')
  assert.equal(reassembly.heldBytes, 0)
  for (let message = 1; message < 1000; message++) reassembly.add(fragment(message, 1_000_000), 0)
  assert.equal(reassembly.count, udpBounds.reassembledMessages)
  assert.ok(reassembly.heldBytes < 100_000, 'a claim alone holds nothing')
  for (let index = 1; index < 10_000; index++) {
    for (let message = 1; message <= 10; message++) {
      reassembly.add({ ...fragment(message, 1_000_000), index }, index === 9999 ? 1 : 0)
    }
  }
  assert.ok(reassembly.heldBytes <= 2_000_000 + udpBounds.reassembledBytes, `${reassembly.heldBytes}`)
  reassembly.sweep(udpBounds.reassemblyIdleMs + 2)
  assert.equal(reassembly.heldBytes, 0)
  assert.equal(reassembly.count, 0)
})

test('fragments that contradict each other are dropped', () => {
  const reassembly = new Reassembly({ messageBytesMax: 10_000 })
  const base: FragmentFrame = {
    kind: 'fragment',
    message: 1,
    controlBytes: 10,
    payloadBytes: 190,
    unit: 100,
    index: 0,
    bytes: new Uint8Array(100),
  }
  assert.equal(reassembly.add(base, 0).kind, 'more')
  for (const other of [{ controlBytes: 11, payloadBytes: 189 }, { payloadBytes: 290 }, { unit: 64 }]) {
    assert.equal(reassembly.add({ ...base, ...other, index: 1 }, 0).kind, 'dropped')
  }
  assert.equal(reassembly.add({ ...base, index: 1 }, 0).kind, 'whole')
  assert.equal(reassembly.add({ ...base, index: 1 }, 0).kind, 'dropped')
})

/** A link in a model: a rate, a shortest way, a queue, and a chance of loss. */
interface ModelLink {
  readonly bytesPerSecond: number
  readonly roundTripMs: number
  readonly queueBytes: number
  readonly lossChance?: number
}

/** Runs pacers that always have something to send; returns what each got through, and what overflowed. */
function runModel(
  link: ModelLink,
  pacers: readonly Pacer[],
  span: { readonly fromMs: number; readonly toMs: number },
): { readonly carried: number[]; readonly offered: number; readonly overflowed: number } {
  const prng = new Prng(11)
  const carried = pacers.map(() => 0)
  const reports: { atMs: number; flow: number; sentMs: number; arrived: boolean }[] = []
  const bytes = 1200
  let overflowed = 0
  let offered = 0
  let freeAtMs = 0
  const underWay = pacers.map(() => 0)
  for (let now = span.fromMs; now < span.toMs; now++) {
    const byFlow = pacers.map(() => ({ arrived: 0, lost: 0, roundTripMs: undefined as number | undefined }))
    while ((reports[0]?.atMs ?? Number.POSITIVE_INFINITY) <= now) {
      const report = reports.shift()
      const flow = byFlow[report?.flow ?? 0]
      if (report === undefined || flow === undefined) break
      underWay[report.flow] = (underWay[report.flow] as number) - bytes
      if (report.arrived) {
        flow.arrived++
        flow.roundTripMs = report.atMs - report.sentMs
      } else flow.lost++
    }
    byFlow.forEach((flow, i) => {
      if (flow.arrived + flow.lost === 0) return
      pacers[i]?.reported({ nowMs: now, ...flow, arrivedBytes: flow.arrived * bytes })
      carried[i] = (carried[i] as number) + flow.arrived * bytes
    })
    const turn = pacers.map((_, i) => (i + now) % pacers.length)
    for (const flow of turn) {
      const pacer = pacers[flow] as Pacer
      while (pacer.waitMs(now) === 0 && (underWay[flow] as number) < pacer.flightBytesMax) {
        pacer.sent(bytes, now)
        underWay[flow] = (underWay[flow] as number) + bytes
        offered++
        freeAtMs = Math.max(freeAtMs, now)
        const hasRoom = ((freeAtMs - now) * link.bytesPerSecond) / 1000 <= link.queueBytes
        if (hasRoom) freeAtMs += (bytes / link.bytesPerSecond) * 1000
        else overflowed++
        const arrived = hasRoom && !prng.chance(link.lossChance ?? 0)
        reports.push({ atMs: Math.ceil(freeAtMs + link.roundTripMs), flow, sentMs: now, arrived })
      }
      pacer.heldBack()
    }
    reports.sort((a, b) => a.atMs - b.atMs)
  }
  return { carried, offered, overflowed }
}

test('a link is filled, and its queue does not overflow', () => {
  const link = { bytesPerSecond: 2_000_000, roundTripMs: 10, queueBytes: 100_000 }
  const { carried, offered, overflowed } = runModel(link, [new Pacer(0)], { fromMs: 0, toMs: 10_000 })
  assert.ok((carried[0] as number) > 0.8 * 20_000_000, `carried ${carried[0]}`)
  assert.ok(overflowed < 0.03 * offered, `${overflowed} of ${offered} overflowed`)
})

test('20 % of random loss does not starve it', () => {
  const link = { bytesPerSecond: 2_000_000, roundTripMs: 10, queueBytes: 100_000, lossChance: 0.2 }
  const { carried } = runModel(link, [new Pacer(0)], { fromMs: 0, toMs: 10_000 })
  assert.ok((carried[0] as number) > 0.5 * 20_000_000, `carried ${carried[0]}`)
})

test('two share a link fairly, also when one comes later', () => {
  const link = { bytesPerSecond: 2_000_000, roundTripMs: 10, queueBytes: 100_000 }
  const first = new Pacer(0)
  runModel(link, [first], { fromMs: 0, toMs: 3000 })
  const { carried } = runModel(link, [first, new Pacer(3000)], { fromMs: 3000, toMs: 23_000 })
  const [a, b] = carried as [number, number]
  assert.ok(Math.min(a, b) > 0.5 * Math.max(a, b), `${a} and ${b}`)
})

test('a link that is gone brings it down to its floor, and not below', () => {
  const pacer = new Pacer(0)
  for (let i = 0; i < 100; i++) pacer.unanswered()
  assert.equal(pacer.bytesPerSecond, pacing.minBytesPerSecond)
})
