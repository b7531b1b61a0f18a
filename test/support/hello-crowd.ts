// A process of its own that shakes hands over UDP very often, as far as one comes without proving anything - a hello, the
// cookie, the hello with the cookie, the answer - and then says nothing. The listener knows clients by address, port and
// the hello's id, so each of a few sockets is many of them. It tells how many have come so far.
//
//   argv: how many, the port of the loopback, and the key in hex, or nothing

import { createSocket } from 'node:dgram'
import { nodeCiphers } from '../../src/env/node/node-ciphers.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { protocolRange } from '../../src/transport/preface.ts'
import { ClientHandshake } from '../../src/transport/udp/handshake.ts'
import { Secrets } from '../../src/transport/udp/secrets.ts'

const [count = '0', place = '', keyHex = ''] = process.argv.slice(2)
const total = Number(count)
const port = Number(place)
const key = keyHex === '' ? undefined : new Uint8Array(Buffer.from(keyHex, 'hex'))
const secrets = new Secrets(nodeCiphers, key)
const { random } = nodeHost()
/** Each with a port of its own, and one on its way at a time: what more would bring is lost in full buffers. */
const sockets = 100
const retryMs = 500

let begun = 0
let accepted = 0

/** One after the other from one port, until there are enough of all. */
function comeAgainAndAgain(): void {
  const socket = createSocket('udp4')
  let handshake: ClientHandshake | undefined
  const say = (): void => {
    if (handshake !== undefined) socket.send(handshake.hello)
  }
  const next = (): void => {
    handshake = undefined
    if (begun === total) return
    begun++
    handshake = new ClientHandshake({ secrets, random, protocol: protocolRange })
    say()
  }
  socket.on('error', () => undefined)
  socket.on('message', (datagram) => {
    const step = handshake?.received(datagram)
    if (step?.kind === 'again') say()
    if (step?.kind !== 'accepted') return
    accepted++
    next()
  })
  socket.connect(port, '127.0.0.1', next)
  setInterval(say, retryMs)
}

for (let i = 0; i < sockets; i++) comeAgainAndAgain()
setInterval(() => process.send?.({ accepted }), 50)
process.on('disconnect', () => process.exit())
