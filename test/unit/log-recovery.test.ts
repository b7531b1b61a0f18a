// Opening a log after whatever happened to its files: what is torn is cut, what is damaged is refused, and no byte
// sequence brings back a record that was not there.

import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { crc32 } from '../../src/base/checksum.ts'
import { CoterieError } from '../../src/base/errors.ts'
import type { Lsn } from '../../src/base/lsn.ts'
import { Log } from '../../src/log/log.ts'
import { databaseSeed, encodeMark, markBytes, segmentMarkSeed } from '../../src/log/record-format.ts'
import {
  brief,
  changeFile,
  contentOf,
  copyFolder,
  databaseId,
  lsn,
  openLog,
  readAll,
  segmentFile,
  segmentFiles,
  store,
  testHost,
  Writer,
} from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const headerBytes = 4096
const segmentBytes = 16_384
/** Of the bytes that are changed one by one, `npm test` takes every fifth. */
const byteStep = process.env.COTERIE_TEST_ALL === '1' ? 1 : 5

/** Opens, reads everything from disk, and closes: what a restart finds. */
async function reopen(
  folder: string,
  options: { readonly durableAtLeast?: Lsn; readonly databaseId?: string } = {},
): Promise<{ records: string[]; recovery: Awaited<ReturnType<typeof Log.open>>['recovery']; log: Log }> {
  const host = testHost()
  host.files.skipSyncs = true
  const { log, recovery } = await Log.open({
    host,
    folder,
    databaseId,
    segmentBytes,
    tailBytes: 0,
    ...options,
  })
  const records = (await readAll(log, 100_000)).map(brief)
  await log.close()
  return { records, recovery, log }
}

/** Expects LOG_DAMAGED at a place, and that the attempt changed nothing. */
async function refusesToOpen(
  folder: string,
  expected: {
    readonly file: string
    readonly offset?: number
    readonly lsn: number
    readonly durableAtLeast?: Lsn
  },
): Promise<void> {
  const before = contentOf(folder)
  const { durableAtLeast } = expected
  await assert.rejects(reopen(folder, durableAtLeast === undefined ? {} : { durableAtLeast }), (error) => {
    assert.ok(error instanceof CoterieError, String(error))
    assert.equal(error.code, 'LOG_DAMAGED', error.message)
    assert.equal(basename(error.details.file as string), expected.file)
    if (expected.offset !== undefined) assert.equal(error.details.offset, expected.offset)
    assert.equal(error.details.lsn, expected.lsn)
    return true
  })
  assert.deepEqual(contentOf(folder), before, 'a refused log is left as it was')
}

interface Sample {
  /** What the files hold after a `kill -9`: no mark after the last flush. */
  readonly crashed: string
  readonly base: string
  /** Where each record starts and ends, by LSN. */
  readonly places: ReadonlyMap<number, { readonly offset: number; readonly end: number }>
  readonly records: readonly string[]
  readonly dataEnd: number
}

/** Four flushes of three records each in one segment; each flush after the first begins with a mark. */
async function sample(t: TestContext): Promise<Sample> {
  const base = withTempFolder(t)
  const folder = join(base, 'log')
  const { log } = await openLog(t, { folder })
  const writer = new Writer()
  await store(log, writer.reign('a'))
  for (let i = 0; i < 4; i++) await store(log, writer.commits(3))
  const places = new Map<number, { offset: number; end: number }>()
  for (let n = 1; n <= log.lastLsn; n++) {
    const { offset, end } = await log.locationOf(lsn(n))
    places.set(n, { offset, end })
  }
  const crashed = copyFolder(folder, join(base, 'crashed'))
  const dataEnd = places.get(log.lastLsn)?.end ?? 0
  return { crashed, base, places, records: (await readAll(log)).map(brief), dataEnd }
}

/** A copy of the sample, changed; the copy is gone after `use`. */
async function withChanged(
  { crashed, base }: Sample,
  change: (segment: string) => void,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = copyFolder(crashed, join(base, 'changed'))
  change(segmentFile(folder))
  await use(folder)
  rmSync(folder, { recursive: true })
}

describe('a torn tail', () => {
  it('is cut at every byte at which the file may end, and nothing before it is lost', async (t) => {
    const made = await sample(t)
    const twelfth = made.places.get(12) as { offset: number; end: number }
    // The file itself ends, or it goes on with the zeros that it was filled with.
    const endings = [
      (at: number) => (segment: string) => truncateSync(segment, at),
      (at: number) => (segment: string) => changeFile(segment, (bytes) => void bytes.fill(0, at)),
    ]
    for (let at = twelfth.offset; at < made.dataEnd; at++) {
      const lastLsn = at < twelfth.end ? 11 : 12
      const offset = lastLsn === 11 ? twelfth.offset : twelfth.end
      for (const ending of endings) {
        await withChanged(made, ending(at), async (folder) => {
          const { records, recovery } = await reopen(folder)
          assert.deepEqual(records, made.records.slice(0, lastLsn), `cut at ${at}`)
          if (at === offset) assert.equal(recovery.cut, undefined, 'an end between records is clean')
          else
            assert.deepEqual([recovery.cut?.offset, recovery.cut?.lsn], [offset, lastLsn + 1], `cut at ${at}`)
          if (at % 8 > 0) return
          const again = await reopen(folder)
          assert.equal(again.recovery.cut, undefined, 'what was cut is gone')
          assert.deepEqual(again.records, records)
        })
      }
    }
  })

  it('is cut whichever byte of the last, unattested record is wrong', async (t) => {
    const made = await sample(t)
    const place = made.places.get(13) as { offset: number; end: number }
    for (let at = place.offset; at < place.end; at++) {
      const change = (segment: string): void =>
        changeFile(segment, (bytes) => {
          bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
        })
      await withChanged(made, change, async (folder) => {
        const { records, recovery } = await reopen(folder)
        assert.deepEqual(records, made.records.slice(0, 12), `byte ${at}`)
        const file = segmentFile(folder)
        assert.deepEqual(recovery.cut, {
          file,
          offset: place.offset,
          lsn: 13,
          bytes: place.end - place.offset,
        })
        assert.ok(
          readFileSync(file)
            .subarray(place.offset, place.end)
            .every((byte, i) => byte === 0 || i < markBytes),
        )
      })
    }
  })

  it('does not bring back the records behind the cut when the missing one is written again', async (t) => {
    const made = await sample(t)
    const place = made.places.get(11) as { offset: number; end: number }
    const folder = copyFolder(made.crashed, join(made.base, 'again'))
    const { log: whole } = await openLog(t, { folder: copyFolder(made.crashed, join(made.base, 'whole')) })
    const eleventh = await whole.read({ from: lsn(11), to: lsn(11), bytesMax: 0 })
    changeFile(segmentFile(folder), (bytes) => {
      bytes.fill(0, place.offset, place.end)
    })
    const { log } = await openLog(t, { folder })
    assert.equal(log.lastLsn, 10)
    await store(log, eleventh)
    const { records } = await reopen(copyFolder(folder, join(made.base, 'copy')))
    assert.deepEqual(records, made.records.slice(0, 11))
  })

  it('is refused as damage if something else knows that it was durable', async (t) => {
    const made = await sample(t)
    const place = made.places.get(13) as { offset: number; end: number }
    const tear = (segment: string): void =>
      changeFile(segment, (bytes) => {
        bytes[place.end - 1] = (bytes[place.end - 1] as number) ^ 1
      })
    const file = basename(segmentFile(made.crashed))
    await withChanged(made, tear, async (folder) => {
      await refusesToOpen(folder, { file, offset: place.offset, lsn: 13, durableAtLeast: lsn(13) })
      const { records } = await reopen(folder, { durableAtLeast: lsn(12) })
      assert.equal(records.length, 12)
      await refusesToOpen(folder, { file, lsn: 13, durableAtLeast: lsn(13) })
    })
  })
})

describe('damage', () => {
  it('to any byte of a record that a later mark attests is refused, and nothing is changed', async (t) => {
    const made = await sample(t)
    const place = made.places.get(6) as { offset: number; end: number }
    const file = basename(segmentFile(made.crashed))
    for (let at = place.offset; at < place.end; at++) {
      const change = (segment: string): void =>
        changeFile(segment, (bytes) => {
          bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
        })
      await withChanged(made, change, (folder) =>
        refusesToOpen(folder, { file, offset: place.offset, lsn: 6 }),
      )
    }
  })

  it('to every byte of the file is refused or cuts the last flush, and never gives a wrong record', async (t) => {
    const made = await sample(t)
    const lastMark = (made.places.get(11)?.offset as number) - markBytes
    for (let at = headerBytes; at < made.dataEnd + 8; at += byteStep) {
      const change = (segment: string): void =>
        changeFile(segment, (bytes) => {
          bytes[at] = (bytes[at] as number) ^ 0x10
        })
      await withChanged(made, change, async (folder) => {
        try {
          const { records } = await reopen(folder)
          assert.deepEqual(records, made.records.slice(0, records.length), `byte ${at}`)
          assert.ok(at >= lastMark && records.length >= 10, `byte ${at} was durable`)
        } catch (error) {
          assert.ok(error instanceof CoterieError && error.code === 'LOG_DAMAGED', String(error))
          assert.ok(at < lastMark, `byte ${at} was not attested`)
        }
      })
    }
  })

  it('is a sector of zeros, too', async (t) => {
    const made = await sample(t)
    const place = made.places.get(4) as { offset: number; end: number }
    const zero = (segment: string): void =>
      changeFile(segment, (bytes) => {
        bytes.fill(0, place.offset, place.end)
      })
    await withChanged(made, zero, (folder) =>
      refusesToOpen(folder, { file: basename(segmentFile(folder)), offset: place.offset, lsn: 4 }),
    )
  })

  it('of the last record is found out once the log was idle or closed', async (t) => {
    for (const how of ['idle', 'closed']) {
      const folder = join(withTempFolder(t), 'log')
      const { log, host } = await openLog(t, { folder })
      const writer = new Writer()
      await store(log, writer.reign('a'))
      await store(log, writer.commits(1))
      const { offset } = await log.locationOf(lsn(2))
      if (how === 'idle') {
        const writes = host.files.calls.length
        assert.equal(host.timers.fire(50), 1)
        assert.equal(host.files.calls.length, writes + 1, 'a mark is written, and not synced')
      }
      await log.close()
      changeFile(segmentFile(folder), (bytes) => {
        bytes[offset + 40] = (bytes[offset + 40] as number) ^ 1
      })
      await refusesToOpen(folder, { file: basename(segmentFile(folder)), offset, lsn: 2 })
    }
  })

  it('is a missing segment in the middle, a missing end that was durable, and an empty folder', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    for (let i = 0; i < 40; i++) await store(log, writer.commits(5, 200))
    await log.close()
    const names = segmentFiles(folder)
    assert.ok(names.length >= 4)
    const firstLsns = names.map((name) => Number(basename(name, '.seg')))
    for (const i of [1, names.length - 2]) {
      const copy = copyFolder(folder, join(base, `without-${i}`))
      rmSync(segmentFile(copy, i))
      await refusesToOpen(copy, { file: basename(names[i - 1] as string), lsn: firstLsns[i] as number })
    }
    const short = copyFolder(folder, join(base, 'short'))
    rmSync(segmentFile(short, -1))
    const missing = firstLsns.at(-1) as number
    await refusesToOpen(short, {
      file: basename(names.at(-2) as string),
      lsn: missing,
      durableAtLeast: lsn(missing),
    })
    const { recovery } = await reopen(short, { durableAtLeast: lsn(missing - 1) })
    assert.equal(recovery.lastLsn, missing - 1)
    const empty = join(base, 'empty')
    mkdirSync(empty)
    await refusesToOpen(empty, { file: 'empty', offset: 0, lsn: 1, durableAtLeast: lsn(1) })
  })

  it('is a segment of another history that has the same LSNs', async (t) => {
    const base = withTempFolder(t)
    const folders: string[] = []
    for (const site of ['a', 'b']) {
      const folder = join(base, site)
      const { log } = await openLog(t, { folder })
      const writer = new Writer()
      await store(log, writer.reign(site))
      for (let i = 0; i < 20; i++) await store(log, writer.commits(5, 200))
      await log.close()
      folders.push(folder)
    }
    const [ours, theirs] = folders as [string, string]
    const third = segmentFile(ours, 2)
    assert.equal(basename(third), basename(segmentFile(theirs, 2)))
    copyFileSync(segmentFile(theirs, 2), third)
    const file = basename(segmentFile(ours, 1))
    await refusesToOpen(ours, { file, lsn: Number(basename(third, '.seg')) })
  })

  it('in a segment that is not the last one is refused even without a mark', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    log.append(writer.reign('a'))
    // One append of many segments: marks say nothing about the records of the same flush.
    await store(log, writer.commits(300, 100))
    const { offset, file } = await log.locationOf(lsn(60))
    await log.close()
    changeFile(file, (bytes) => {
      bytes[offset + 50] = (bytes[offset + 50] as number) ^ 1
    })
    await refusesToOpen(folder, { file: basename(file), offset, lsn: 60 })
  })

  it('is a segment of another database', async (t) => {
    const made = await sample(t)
    await assert.rejects(
      reopen(made.crashed, { databaseId: 'another' }),
      (error) =>
        error instanceof CoterieError && error.code === 'LOG_DAMAGED' && /belongs to/.test(error.message),
    )
  })
})

describe('marks', () => {
  it('count wherever they stand behind the bad record, but not those of another segment or database', async (t) => {
    const made = await sample(t)
    const place = made.places.get(13) as { offset: number; end: number }
    const marks: readonly [seed: number, isEvidence: boolean][] = [
      [segmentMarkSeed(databaseId, lsn(1)), true],
      [segmentMarkSeed(databaseId, lsn(2)), false],
      [segmentMarkSeed('another', lsn(1)), false],
    ]
    for (const [markSeed, isEvidence] of marks) {
      for (const distance of [1, 77, 2000]) {
        const change = (segment: string): void =>
          changeFile(segment, (bytes) => {
            bytes[place.offset + 35] = (bytes[place.offset + 35] as number) ^ 1
            bytes.set(encodeMark({ durableLsn: lsn(13), markSeed, wallMs: 0 }), place.end + distance)
          })
        await withChanged(made, change, async (folder) => {
          if (isEvidence) await refusesToOpen(folder, { file: basename(segmentFile(folder)), lsn: 13 })
          else assert.equal((await reopen(folder)).records.length, 12)
        })
      }
    }
  })

  it('that name an earlier record are no evidence', async (t) => {
    const made = await sample(t)
    const place = made.places.get(13) as { offset: number; end: number }
    const change = (segment: string): void =>
      changeFile(segment, (bytes) => {
        bytes[place.offset + 35] = (bytes[place.offset + 35] as number) ^ 1
        const markSeed = segmentMarkSeed(databaseId, lsn(1))
        bytes.set(encodeMark({ durableLsn: lsn(12), markSeed, wallMs: 0 }), place.end)
      })
    await withChanged(made, change, async (folder) => assert.equal((await reopen(folder)).records.length, 12))
  })
})

describe('segment files', () => {
  it('that have neither header nor records are removed if they are the last, and reported', async (t) => {
    const made = await sample(t)
    for (const content of [
      Buffer.alloc(0),
      Buffer.alloc(100),
      Buffer.alloc(9000),
      Buffer.alloc(9000, 0x5a),
    ]) {
      const folder = copyFolder(made.crashed, join(made.base, 'torn'))
      const torn = join(folder, '0000000000000014.seg')
      writeFileSync(torn, content)
      const { records, recovery } = await reopen(folder)
      assert.deepEqual(records, made.records)
      assert.deepEqual(recovery.removedFiles, [torn])
      assert.equal(segmentFiles(folder).length, 1)
      rmSync(folder, { recursive: true })
    }
  })

  it('whose header is damaged are refused if they hold records, or come before others', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    await store(log, writer.commits(300, 100))
    const crashed = copyFolder(folder, join(base, 'crashed'))
    const count = segmentFiles(crashed).length
    assert.ok(count >= 3)
    for (const i of [0, 1, count - 1]) {
      for (const at of [0, 9, 13, 17, 25, 33, 60, 4000]) {
        const copy = copyFolder(crashed, join(base, 'copy'))
        changeFile(segmentFile(copy, i), (bytes) => {
          bytes[at] = (bytes[at] as number) ^ 4
        })
        const name = basename(segmentFile(copy, i))
        await refusesToOpen(copy, { file: name, offset: 0, lsn: Number(name.slice(0, 16)) })
        rmSync(copy, { recursive: true })
      }
    }
  })

  it('of a later format are refused as such, and so are records of a later kind', async (t) => {
    const made = await sample(t)
    const unsupported = (error: unknown): boolean =>
      error instanceof CoterieError && error.code === 'FORMAT_UNSUPPORTED'
    const newer = (segment: string): void =>
      changeFile(segment, (bytes) => {
        bytes.writeUInt32LE(2, 8)
        bytes.writeUInt32LE(crc32(bytes.subarray(20, headerBytes), crc32(bytes.subarray(0, 16))), 16)
      })
    await withChanged(made, newer, async (folder) => {
      const before = contentOf(folder)
      await assert.rejects(reopen(folder), unsupported)
      assert.deepEqual(contentOf(folder), before)
    })
    const { offset, end } = made.places.get(13) as { offset: number; end: number }
    const newKind = (segment: string): void =>
      changeFile(segment, (bytes) => {
        bytes[offset + 30] = 77
        bytes.writeUInt32LE(crc32(bytes.subarray(offset + 4, end), databaseSeed(databaseId)), offset)
      })
    await withChanged(made, newKind, async (folder) => {
      const before = contentOf(folder)
      await assert.rejects(reopen(folder), unsupported)
      assert.deepEqual(contentOf(folder), before)
    })
  })

  it('that were being prepared when the process died are of no account', async (t) => {
    const made = await sample(t)
    writeFileSync(join(made.crashed, 'prepared'), Buffer.alloc(5000, 1))
    const { records, recovery } = await reopen(made.crashed)
    assert.deepEqual(records, made.records)
    assert.deepEqual(recovery.removedFiles, [])
    assert.deepEqual(readdirSync(made.crashed), ['0000000000000001.seg'])
  })

  it('that were kept as spares are not used for a new log: what they hold may be newer than it', async (t) => {
    const made = await sample(t)
    const folder = join(made.base, 'new')
    mkdirSync(folder)
    writeFileSync(join(folder, 'spare-1'), readFileSync(segmentFile(made.crashed)))
    const { recovery } = await reopen(folder)
    assert.equal(recovery.created, true)
    assert.deepEqual(readdirSync(folder), ['0000000000000001.seg'])
    const content = readFileSync(segmentFile(folder)).subarray(headerBytes)
    assert.ok(content.every((byte) => byte === 0))
  })

  it('without a header, alone and named as if the log began elsewhere, are refused', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    mkdirSync(folder)
    writeFileSync(join(folder, '0000000000000500.seg'), Buffer.alloc(5000))
    await refusesToOpen(folder, { file: '0000000000000500.seg', offset: 0, lsn: 500 })
    rmSync(join(folder, '0000000000000500.seg'))
    writeFileSync(join(folder, '0000000000000001.seg'), Buffer.alloc(5000))
    const { recovery } = await reopen(folder)
    assert.equal(recovery.created, true)
    assert.equal(recovery.removedFiles.length, 1)
  })
})

describe('recovery', () => {
  it('finds everything after a kill, calls it durable, and goes on', async (t) => {
    const made = await sample(t)
    const { log, recovery, host } = await openLog(t, { folder: made.crashed })
    assert.deepEqual(recovery, {
      created: false,
      firstLsn: 1,
      lastLsn: 13,
      segments: 1,
      records: 13,
      removedFiles: [],
    })
    assert.equal(log.durableLsn, 13)
    const synced = host.files.calls.filter((call) => call.name === 'sync' || call.name === 'syncFolder')
    const paths = synced.map((call) => call.path)
    assert.ok(
      paths.includes(segmentFile(made.crashed)),
      'the records are synced before they are called durable',
    )
    assert.ok(paths.includes(made.crashed), 'and so are the names of the files')
    const writer = new Writer(log.last)
    await store(log, writer.commits(2))
    await log.close()
    assert.equal((await reopen(made.crashed)).records.length, 15)
  })

  it('writes again what no mark attests, before it syncs', async (t) => {
    const made = await sample(t)
    const { host } = await openLog(t, { folder: made.crashed })
    const lastMark = (made.places.get(11)?.offset as number) - markBytes
    const changes = host.files.calls.filter((call) => call.name === 'write' || call.name === 'sync')
    assert.deepEqual(
      changes.map(({ name, at, bytes }) => [name, at, bytes]),
      [
        ['write', lastMark, made.dataEnd - lastMark],
        ['sync', 0, 0],
      ],
    )
  })

  it('fails if its sync fails', async (t) => {
    const made = await sample(t)
    const host = testHost()
    host.files.fault = (call) => (call.name === 'sync' ? { error: new Error('EIO') } : undefined)
    await assert.rejects(
      Log.open({ host, folder: made.crashed, databaseId, segmentBytes }),
      (error) => error instanceof CoterieError && error.code === 'IO_ERROR',
    )
  })

  it('takes an end of zeros for a clean end, whether the log was closed or not', async (t) => {
    const made = await sample(t)
    const first = await reopen(made.crashed)
    const second = await reopen(made.crashed)
    assert.deepEqual([first.recovery.cut, second.recovery.cut], [undefined, undefined])
    assert.ok(statSync(segmentFile(made.crashed)).size > made.dataEnd + markBytes)
  })

  it('begins a new log behind a snapshot, and only where there is none', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const host = testHost()
    assert.equal(await Log.exists({ host, folder }), false)
    const place = { lsn: lsn(1000), term: 4, crc: 12_345 } as Log['last']
    const history = [{ term: 4, firstLsn: 700, site: 'b' }] as unknown as Log['history']
    const { log } = await openLog(t, { folder, start: { place, history }, durableAtLeast: lsn(1000) })
    assert.deepEqual([log.firstLsn, log.lastLsn, log.durableLsn], [1001, 1000, 1000])
    assert.deepEqual(await log.placeOf(lsn(1000)), place)
    const writer = new Writer(place)
    await store(log, writer.commits(2))
    await store(log, writer.reign('c'))
    await log.close()
    assert.equal(await Log.exists({ host, folder }), true)
    const { log: again } = await openLog(t, { folder })
    assert.deepEqual([again.firstLsn, again.lastLsn], [1001, 1003])
    assert.deepEqual(again.history, [...history, { term: 5, firstLsn: 1003, site: 'c' }])
    assert.deepEqual(await again.placeOf(lsn(1000)), place)
    await again.close()
    await assert.rejects(
      Log.open({ host, folder, databaseId, start: { place, history } }),
      (error) => error instanceof CoterieError && error.code === 'INVALID_STATE',
    )
  })
})
