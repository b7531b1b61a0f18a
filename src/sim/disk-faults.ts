// What happens to the disks of simulated sites: they are slow or full, calls fail, and what lies there is damaged or lost.
//
// What the model excludes is kept out here: at most a minority of the members ever has a disk that is damaged or lost.

import type { Prng } from '../base/prng.ts'
import { usualDiskSpeed } from '../env/simulated/simulated-machine.ts'
import type { FaultTools } from './fault-tools.ts'
import type { SimSite } from './site.ts'

const sectorBytes = 512
const lastRecordsBytes = 2048
/** More than a site syncs at a time. */
const lastSyncsBytes = 32_768

export class DiskFaults {
  readonly #tools: FaultTools
  readonly #prng: Prng
  /** Members whose disks may ever be damaged or lost. */
  readonly #suspectsMax: number
  #suspects = 0
  #saved: {
    readonly site: SimSite
    readonly path: string
    readonly at: number
    readonly bytes: Uint8Array
  }[] = []

  constructor(tools: FaultTools, options: { readonly suspectsMax: number }) {
    this.#tools = tools
    this.#prng = tools.prng
    this.#suspectsMax = options.suspectsMax
  }

  slowDisk(): boolean {
    const site = this.#tools.someSite()
    if (site === undefined) return false
    const syncMsMax = this.#prng.pick([5, 50, 500])
    const ms = this.#tools.duration()
    this.#tools.tell(`slow disk of ${site.name}: syncs up to ${syncMsMax} ms, for ${Math.round(ms)} ms`)
    site.machine.speed = {
      syncMsMin: syncMsMax / 10,
      syncMsMax,
      writeMsMax: syncMsMax / 5,
      nameMsMax: syncMsMax / 5,
      readMsMax: this.#prng.pick([0, 1, syncMsMax / 10]),
    }
    this.#tools.later(ms, () => {
      site.machine.speed = usualDiskSpeed
    })
    return true
  }

  failSync(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    site?.machine.disk.failSync({ nth: this.#prng.between(1, 4) })
    return site !== undefined
  }

  failWrite(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    site?.machine.disk.failWrite({ nth: this.#prng.between(1, 4) })
    return site !== undefined
  }

  fillDisk(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    const ms = this.#tools.duration()
    this.#tools.tell(`disk of ${site.name} full for ${Math.round(ms)} ms`)
    site.machine.disk.full = true
    this.#tools.later(ms, () => {
      site.machine.disk.full = false
    })
    return true
  }

  failStore(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    const location = site?.stores.locations[0]
    if (location === undefined) return false
    site?.stores.failWrite(location)
    return true
  }

  /** Only so many sites ever; then always the same. */
  #someSuspect(): SimSite | undefined {
    const prng = this.#prng
    const living = this.#tools.world.livingSites
    const known = living.filter((site) => site.isSuspect)
    if (known.length > 0 && (this.#suspects >= this.#suspectsMax || prng.chance(0.7))) return prng.pick(known)
    const isFull = this.#suspects >= this.#suspectsMax
    // Who is no member counts for nobody, and may lose what it likes.
    const site = this.#tools.someSite((each) => each.wasUp && !(isFull && each.isMember))
    if (site === undefined) return undefined
    if (site.isMember) this.#suspects++
    site.isSuspect = true
    return site
  }

  /**
   * Anywhere in a file, but for the end of a log that was not closed in order: what was synced last there looks like what
   * was never written to the end (docs/log-format.md says so). Of one that was closed every byte is known, and its last
   * records are looked for.
   */
  #place(site: SimSite): { readonly path: string; readonly bytes: number; readonly at: number } | undefined {
    const prng = this.#prng
    const { disk } = site.machine
    const files = disk.paths().filter(({ bytes }) => bytes > 0)
    if (files.length === 0) return undefined
    const segment = files.filter(({ path }) => path.endsWith('.seg')).at(-1)
    const file = site.wasClosed && segment !== undefined && prng.chance(0.7) ? segment : prng.pick(files)
    if (file !== segment) return { ...file, at: prng.below(file.bytes) }
    const { path, bytes } = file
    const used = disk.peek({ path, at: 0, length: bytes }).findLastIndex((byte) => byte !== 0) + 1
    if (site.wasClosed && used > 0)
      return { ...file, at: used - 1 - prng.below(Math.min(used, lastRecordsBytes)) }
    return used <= lastSyncsBytes ? undefined : { ...file, at: prng.below(used - lastSyncsBytes) }
  }

  /** As it runs, or once it has been stopped in order: then it knows how far its log went. */
  damage(how: 'bits' | 'zeros' | 'stale'): boolean {
    const site = this.#someSuspect()
    if (site === undefined) return false
    if (site.state !== 'up' || !this.#prng.chance(0.3)) return this.#damage(site, how)
    this.#tools.tell(`stop ${site.name} in order, to damage what lies there`)
    site.restarts = false
    site.stop()
    const ms = this.#prng.between(50, 500)
    this.#tools.later(ms, () => this.#damage(site, how))
    this.#tools.world.clock.after(ms + 1, () => {
      site.restarts = true
      if (site.state === 'stopping') site.crash('kill')
      site.start()
    })
    return true
  }

  #damage(site: SimSite, how: 'bits' | 'zeros' | 'stale'): boolean {
    const prng = this.#prng
    const { disk } = site.machine
    if (how === 'stale') {
      const ready = this.#saved.findIndex((each) => each.site === site)
      const sector = ready < 0 ? undefined : this.#saved.splice(ready, 1)[0]
      if (sector !== undefined) {
        const file = disk.paths().find(({ path }) => path === sector.path)
        if (file === undefined || file.bytes < sector.at + sector.bytes.length) return false
        this.#tools.tell(`stale sector of ${site.name}: ${sector.path} at ${sector.at}`)
        disk.overwrite(sector)
        return true
      }
    }
    const place = this.#place(site)
    if (place === undefined) return false
    const { path, bytes, at } = place
    const start = Math.floor(at / sectorBytes) * sectorBytes
    const length = Math.min(sectorBytes, bytes - start)
    if (how === 'stale') {
      // A whole state file of earlier is a site that has forgotten its vote, and nothing on the disk tells: no protocol
      // with one copy survives that, and none is asked to.
      if (path.endsWith('/state')) return false
      this.#saved.push({ site, path, at: start, bytes: disk.peek({ path, at: start, length }) })
      return false
    }
    this.#tools.tell(`${how === 'bits' ? 'bit rot' : 'zeroed sector'} on ${site.name}: ${path} at ${at}`)
    if (how === 'bits') disk.damage({ path, at, mask: 1 << prng.below(8) })
    else disk.overwrite({ path, at: start, bytes: new Uint8Array(length) })
    // Nobody looks at what lies there until the next start.
    if (site.host !== undefined && prng.chance(0.7)) this.#tools.crashFor(site, 'kill', prng.between(10, 500))
    return true
  }

  /** The store does not open any more; the log makes it anew, if it reaches back so far. */
  damageStore(): boolean {
    const site = this.#someSuspect()
    const location = site?.stores.locations.at(-1)
    if (site === undefined || location === undefined) return false
    this.#tools.tell(`damaged store on ${site.name}: ${location}`)
    site.stores.damage(location)
    this.#tools.crashFor(site, 'kill', this.#prng.between(10, 500))
    return true
  }

  /** The machine gets a new disk, and the process is started under the old id, as if nothing had been. */
  wipe(): boolean {
    const site = this.#someSuspect()
    if (site === undefined) return false
    this.#tools.tell(`wipe ${site.name}`)
    site.restarts = false
    site.crash('wipe')
    this.#tools.world.clock.after(this.#tools.duration(), () => {
      site.restarts = true
      site.start()
    })
    return true
  }
}
