// Rows: what a store shows at an LSN is what the records up to there make, on every site, however it got there -
// applied, rewound, or taken from a snapshot.

import type { Lsn } from '../base/lsn.ts'
import type { Overlay } from '../store/overlay.ts'
import type { Ledger, RowsSum } from './ledger.ts'
import { addToSum, isKept, nameOfKept, rowSumOf } from './ledger.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'

export class RowsFollowTheLog implements SiteJudge {
  readonly name = 'rows'
  /** Values never change, and stores share them over time. */
  readonly #rowSums: WeakMap<Uint8Array, number> = new WeakMap()
  /** The first sum that was seen at a record, and where. */
  readonly #seen: Map<
    string,
    RowsSum & { readonly site: string; readonly lsn: number; readonly crc: number }
  > = new Map()
  /** Of the partial views that were seen; undefined: every store. */
  readonly #filters: Map<string, readonly string[] | undefined> = new Map([
    [nameOf(0, 0, undefined), undefined],
  ])
  #compared = 0

  moved(sight: Sight, bench: BenchView): void {
    const { now, before, isNew, site } = sight
    const isSame =
      now.appliedLsn === before.appliedLsn &&
      now.appliedCrc === before.appliedCrc &&
      now.generation === before.generation
    if ((isSame && !isNew) || now.appliedLsn === 0) return
    const path = site.db?.site.engine.folder.storePath(now.generation)
    const content = path === undefined ? undefined : site.stores.contentOf(path)
    if (content?.meta === undefined || content.meta.appliedLsn < content.meta.readableLsn) return
    const { appliedLsn: lsn, appliedCrc: crc } = content.meta
    const found = this.#sumOf(content.rows)
    const name = nameOf(lsn, crc, site.keptStores)
    const seen = this.#seen.get(name)
    if (seen === undefined) {
      this.#seen.set(name, { ...found, site: site.name, lsn, crc })
      if (site.keptStores !== undefined) this.#filters.set(nameOf(0, 0, site.keptStores), site.keptStores)
      if (bench.ledger.permanentCrc(lsn) === crc) {
        this.#compare(bench, { ...found, site: site.name, lsn }, bench.ledger.rowsAt(lsn, site.keptStores))
      }
    } else this.#compare(bench, { ...found, site: site.name, lsn }, seen, seen.site)
  }

  #sumOf(rows: ReadonlyMap<string, Uint8Array>): RowsSum {
    let sum = 0
    for (const [key, value] of rows) {
      let rowSum = this.#rowSums.get(value)
      if (rowSum === undefined) {
        rowSum = rowSumOf(key, value)
        this.#rowSums.set(value, rowSum)
      }
      sum = addToSum(sum, rowSum)
    }
    return { rows: rows.size, sum }
  }

  #compare(
    bench: BenchView,
    found: RowsSum & { readonly site: string; readonly lsn: number },
    expected: RowsSum | undefined,
    where = 'the log',
  ): void {
    if (expected === undefined || (expected.rows === found.rows && expected.sum === found.sum)) return
    bench.violate(
      this,
      `${found.site} has ${found.rows} rows (${found.sum}) at LSN ${found.lsn}, ${where} has ${expected.rows} (${expected.sum})`,
    )
  }

  /** What was seen before its record was known to be permanent. */
  afterEvent(bench: BenchView): void {
    const { ledger } = bench
    for (; this.#compared < ledger.permanentLsn; this.#compared++)
      this.#compareAt(bench, ledger, this.#compared + 1)
  }

  #compareAt(bench: BenchView, ledger: Ledger, lsn: number): void {
    for (const kept of this.#filters.values()) {
      const seen = this.#seen.get(nameOf(lsn, ledger.permanentCrc(lsn), kept))
      if (seen !== undefined) this.#compare(bench, seen, ledger.rowsAt(lsn, kept))
    }
  }
}

/** What is kept of the state at a record. */
function nameOf(lsn: number, crc: number | undefined, kept: readonly string[] | undefined): string {
  return `${lsn}/${crc}/${nameOfKept(kept)}`
}

/** What readers of a site see, rows and what stands in front of them, is what some prefix of the log makes. */
export class ReadersSeeAPrefix implements SiteJudge {
  readonly name = 'what readers see'
  readonly #rowSums: WeakMap<Uint8Array, number> = new WeakMap()

  moved(sight: Sight, bench: BenchView): void {
    const { now, before, isNew, site } = sight
    const { ledger } = bench
    const isSame = now.committedLsn === before.committedLsn && now.appliedLsn === before.appliedLsn
    const parts = site.db?.site.engine.partsInUse
    if ((isSame && !isNew) || parts === undefined || !parts.readable) return
    if (now.committedLsn > ledger.permanentLsn) return
    if (ledger.permanentCrc(now.appliedLsn) !== now.appliedCrc) return
    const rows = site.stores.contentOf(site.db?.site.engine.folder.storePath(now.generation) ?? '')?.rows
    if (rows === undefined) return
    const readableLsn = Math.max(now.committedLsn, now.appliedLsn) as Lsn
    const { keptStores } = site
    const seen = this.#seen(bench, { rows, overlay: parts.overlay, readableLsn, keptStores })
    for (let lsn = now.appliedLsn; lsn <= Math.max(now.appliedLsn, now.committedLsn); lsn++) {
      const expected = ledger.rowsAt(lsn, keptStores)
      if (expected?.rows === seen.rows && expected.sum === seen.sum) return
    }
    bench.violate(
      this,
      `${site.name} shows what is no state from LSN ${now.appliedLsn} (applied) to ${now.committedLsn} (committed)`,
    )
  }

  #seen(
    bench: BenchView,
    from: {
      rows: ReadonlyMap<string, Uint8Array>
      overlay: Overlay
      readableLsn: Lsn
      keptStores: readonly string[] | undefined
    },
  ): RowsSum {
    let sum = 0
    let count = 0
    for (const key of bench.ledger.keys) {
      if (!isKept(key, from.keptStores)) continue
      const version = from.overlay.getAt(key, from.readableLsn)
      const value = version === undefined ? from.rows.get(key) : version.value
      if (value === undefined) continue
      let rowSum = this.#rowSums.get(value)
      if (rowSum === undefined) {
        rowSum = rowSumOf(key, value)
        this.#rowSums.set(value, rowSum)
      }
      count++
      sum = addToSum(sum, rowSum)
    }
    return { rows: count, sum }
  }
}
