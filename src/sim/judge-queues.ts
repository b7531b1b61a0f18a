// Memory: nothing that a site holds for others, for its disk or for its store grows beyond what the load accounts for.
// The bounds here are those of the simulated load, far below those of production, so that a leak shows in minutes.

import type { BenchView, Sight, SiteJudge } from './sight.ts'

/** How many events pass between two looks: what grows without bound waits. */
const eventsBetween = 512
const commitsWaitingMax = 2000
const overlayWritesMax = 20_000
const bytesMax = 16 * 1024 * 1024

export class QueuesAreBounded implements SiteJudge {
  readonly name = 'queues'

  afterEvent(bench: BenchView): void {
    const { world } = bench
    if (world.events % eventsBetween !== 0) return
    for (const sight of bench.sights.values()) if (sight.isOpen) this.#judge(sight, bench)
    for (const side of world.network.sides) {
      this.#atMost(bench, `what ${side.link.from} has for ${side.link.to}`, side.bufferedBytes, bytesMax)
    }
  }

  #judge(sight: Sight, bench: BenchView): void {
    const { name, db } = sight.site
    const engine = db?.site.engine
    const parts = engine?.partsInUse
    if (engine === undefined || parts === undefined) return
    this.#atMost(bench, `commits that wait on ${name}`, engine.waitingCommits, commitsWaitingMax)
    this.#atMost(bench, `the log of ${name} that waits for its disk`, parts.log.pendingBytes, bytesMax)
    this.#atMost(bench, `writes of ${name} before its store`, parts.overlay.count, overlayWritesMax)
    this.#atMost(bench, `the overlay of ${name}`, parts.overlay.bytes, bytesMax)
  }

  #atMost(bench: BenchView, what: string, value: number, max: number): void {
    if (value > max) bench.violate(this, `${what}: ${value}, at most ${max}`)
  }
}
