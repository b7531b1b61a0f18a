// Addresses of sites. A bare `host:port` is TCP and an absolute path is a pipe; everything else names its scheme.
// Parsing says only what an address means; whether this build has a transport for it is the registry's to say.

import { CoterieError } from '../base/errors.ts'

export interface Address {
  readonly scheme: string
  /** The host without brackets; for `pipe` the path; for `memory` the name. */
  readonly host: string
  /** 0 where the scheme has no ports, and for "any free port" when listening. */
  readonly port: number
  /** The address in full, always with its scheme. */
  readonly text: string
}

/** Whose addresses have a port. */
export const schemesWithPorts: ReadonlySet<string> = new Set(['tcp', 'tls', 'udp'])

/** Errors: ADDRESS_INVALID. */
export function parseAddress(text: string): Address {
  if (text.startsWith('/') || text.startsWith('\\\\')) return pipeAddress(text, text)
  if (/^pipe:/i.test(text)) return pipeAddress(text, text.slice('pipe:'.length).replace(/^\/\/(?=\/)/, ''))
  const match = /^([a-z][a-z0-9+-]*):\/\/(.*)$/is.exec(text)
  const scheme = match?.[1]?.toLowerCase() ?? 'tcp'
  const rest = match?.[2] ?? text
  if (!/^[!-~]+$/.test(rest) || /[/?#@\\]/.test(rest)) {
    throw invalid(text, rest === '' ? 'it is empty' : 'it has a character that no host has')
  }
  const ported = /^(?:\[([0-9a-f:.]+(?:%[\w.-]+)?)\]|([^:[\]]+)):([0-9]{1,5})$/i.exec(rest)
  if (ported !== null) {
    const host = ported[1] ?? ported[2] ?? ''
    const port = Number(ported[3])
    if (port > 65_535) throw invalid(text, 'its port is above 65535')
    return { scheme, host, port, text: addressText({ scheme, host, port }) }
  }
  if (schemesWithPorts.has(scheme)) {
    throw invalid(text, 'it is not host:port (an IPv6 host stands in brackets)')
  }
  return { scheme, host: rest, port: 0, text: `${scheme}://${rest}` }
}

/** The full text of a host and port under a scheme. */
export function addressText(parts: {
  readonly scheme: string
  readonly host: string
  readonly port: number
}): string {
  const host = parts.host.includes(':') ? `[${parts.host}]` : parts.host
  return `${parts.scheme}://${host}:${parts.port}`
}

function pipeAddress(text: string, path: string): Address {
  if (!/^(\/|\\\\)./.test(path) || path.includes('\0')) throw invalid(text, 'a pipe is an absolute path')
  return { scheme: 'pipe', host: path, port: 0, text: `pipe:${path}` }
}

function invalid(text: string, reason: string): CoterieError {
  return new CoterieError('ADDRESS_INVALID', `the address ${JSON.stringify(text)} is not valid: ${reason}`, {
    details: { address: text },
  })
}
