// Bounds of single fields in messages.

import { limits } from '../base/limits.ts'

/** Bounds of single fields, part of the protocol. */
export const messageLimits: {
  readonly envelopeBytes: number
  readonly codeBytesMax: number
  readonly messageBytesMax: number
  readonly addressBytesMax: number
  readonly storeKeyBytesMax: number
  readonly siteDataBytesMax: number
  readonly termMax: number
  readonly routeSitesMax: number
} = {
  envelopeBytes: 12,
  codeBytesMax: 64,
  messageBytesMax: 1_024,
  addressBytesMax: 512,
  /** What the application says of its site. */
  siteDataBytesMax: 1_024,
  /** A key of the store, with the name of its store before it. */
  storeKeyBytesMax: limits.keyBytesMax + limits.storeNameBytesMax + 16,
  /** Terms beyond this are refused: a broken peer must not use them up. */
  termMax: 0xffff_0000,
  /** Sites between a master and who is attached to the last of them. */
  routeSitesMax: 16,
}
