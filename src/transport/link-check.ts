// Whether a transport can keep what the link options promise. Nobody is to believe a link protected that is not: where
// options of protection are given, a transport must take one of them, or it refuses.

import { CoterieError } from '../base/errors.ts'
import type { LinkOptions } from './link-options.ts'

export type LinkOption = keyof LinkOptions

const protections: readonly LinkOption[] = ['tls', 'secret', 'key']

/** Errors: OPTION_INVALID. */
export function checkLink(
  link: LinkOptions | undefined,
  transport: { readonly scheme: string; readonly takes: readonly LinkOption[] },
): void {
  const { scheme, takes } = transport
  const given = protections.filter((option) => link?.[option] !== undefined)
  if (given.length === 0 || given.some((option) => takes.includes(option))) return
  const [first] = given
  throw new CoterieError(
    'OPTION_INVALID',
    `${scheme}: has no use for '${first}', so it would protect nothing`,
    {
      details: { option: first, scheme },
    },
  )
}

/** As `checkLink`, for a transport of whoever uses it: one without `takes` decides alone. */
export function checkDeclared(
  link: LinkOptions,
  { scheme, takes }: { readonly scheme: string; readonly takes?: readonly LinkOption[] },
): void {
  if (takes !== undefined) checkLink(link, { scheme, takes })
}

/** The other options of links, where they ask for something. */
const wishes: readonly { readonly option: LinkOption; readonly isAsked: (link: LinkOptions) => boolean }[] = [
  { option: 'insecure', isAsked: ({ insecure }) => insecure === true },
  { option: 'multicast', isAsked: ({ multicast }) => multicast !== undefined },
  { option: 'compression', isAsked: ({ compression = 'none' }) => compression !== 'none' },
]

/** OPTION_INVALID where no address of a call takes what was asked for. A transport without `takes` decides alone. */
export function checkWishes(
  link: LinkOptions,
  transports: readonly { readonly scheme: string; readonly takes?: readonly LinkOption[] }[],
): void {
  for (const { option, isAsked } of wishes) {
    if (!isAsked(link) || transports.some(({ takes }) => takes?.includes(option) ?? true)) continue
    const schemes = transports.map(({ scheme }) => `${scheme}:`).join(', ')
    throw new CoterieError('OPTION_INVALID', `${schemes} has no use for '${option}'`, { details: { option } })
  }
}

/**
 * The options for one of several transports that a call listens on: what is not for this one, and is for another one of
 * them, is left out. What is for none stays, and is refused.
 */
export function linkFor<Link extends LinkOptions>(
  link: Link,
  takes: readonly LinkOption[] | undefined,
  others: readonly (readonly LinkOption[] | undefined)[],
): Link {
  if (takes === undefined) return link
  const left = { ...link }
  for (const option of protections) {
    if (!takes.includes(option) && others.some((other) => other?.includes(option))) delete left[option]
  }
  return left
}
