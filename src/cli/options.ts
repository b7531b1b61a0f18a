// Parsers of option values. Each throws commander's own InvalidArgumentError, so that a bad value is a usage error
// which names the option; nothing is coerced in silence (`--limit 1e3x`, `--limit -1`).

import { InvalidArgumentError } from 'commander'
import type { TwoSites } from '../index.ts'
import { type TextEncoding, textEncodings } from './encoding.ts'

/** A whole number from `min` to `max`; thousands may be parted by `_` or `,`. */
export function wholeNumber(min = 0, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const plain = text.replace(/(?<=\d)[_,](?=\d{3})/g, '')
    const value = /^\d+$/.test(plain) ? Number(plain) : Number.NaN
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      const bound = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`
      throw new InvalidArgumentError(`Expected a whole number ${bound}.`)
    }
    return value
  }
}

const sizeUnits: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1000,
  kb: 1000,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
}

/** Bytes: `1048576`, `64MiB`, `1.5 GB`. */
export function byteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const factor = sizeUnits[(match?.[2] ?? '?').toLowerCase()]
  const value = match === null || factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor)
  if (!Number.isSafeInteger(value))
    throw new InvalidArgumentError('Expected bytes, such as 65536, 64MiB or 1.5GB.')
  return value
}

const durationUnits: Readonly<Record<string, number>> = { '': 1, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Milliseconds: `250`, `250ms`, `10s`, `5m`. */
export function durationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const factor = durationUnits[(match?.[2] ?? '?').toLowerCase()]
  const value = match === null || factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor)
  if (!Number.isSafeInteger(value))
    throw new InvalidArgumentError('Expected a time, such as 250ms, 10s or 5m.')
  return value
}

/** What two sites do while one of them is away: `strict`, `available` or `prefer:<site>`. */
export function twoSitesMode(text: string): TwoSites {
  if (text === 'strict' || text === 'available') return text
  const [, site] = /^prefer:(.+)$/s.exec(text) ?? []
  if (site !== undefined) return { preferredMaster: site }
  throw new InvalidArgumentError('Expected strict, available or prefer:<site>.')
}

export function twoSitesText(twoSites: TwoSites): string {
  return typeof twoSites === 'string' ? twoSites : `prefer:${twoSites.preferredMaster}`
}

export const ackPolicyNames = ['none', 'one', 'onePeer', 'quorum', 'allPeers', 'allAvailable', 'all'] as const
export type AckPolicyOption = (typeof ackPolicyNames)[number] | number

export function ackPolicy(text: string): AckPolicyOption {
  const name = ackPolicyNames.find((candidate) => candidate.toLowerCase() === text.toLowerCase())
  if (name !== undefined) return name
  if (/^\d{1,4}$/.test(text)) return Number(text)
  throw new InvalidArgumentError(`Expected ${ackPolicyNames.join(', ')} or a number of sites.`)
}

export function textEncoding(text: string): TextEncoding {
  return oneOf(textEncodings)(text)
}

export function oneOf<const T extends readonly string[]>(choices: T): (text: string) => T[number] {
  return (text) => {
    const choice = choices.find((candidate) => candidate === text)
    if (choice === undefined) throw new InvalidArgumentError(`Expected one of ${choices.join(', ')}.`)
    return choice
  }
}

/** For options that may be given more than once. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}
