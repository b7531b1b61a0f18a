// A flat result of the library as lines for people: numbers with thousands separators, sizes with units.

import { formatBytes, formatCount, formatMs, formatPairs } from '../format.ts'

export function resultPairs(result: Readonly<Record<string, unknown>>): string {
  return formatPairs(Object.entries(result).map(([name, value]) => [name, shown(name, value)]))
}

function shown(name: string, value: unknown): string {
  if (typeof value === 'number') {
    if (name === 'bytes' || name.endsWith('Bytes')) return formatBytes(value)
    if (name === 'ms' || name.endsWith('Ms')) return formatMs(value)
    return formatCount(value)
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
