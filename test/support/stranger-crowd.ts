// A process of its own that connects to one address very often and says nothing: what it holds open does not count
// against the files of the process under test. It tells when all have connected, and then how many are still open.
//
//   argv: how many, and where: a port of the loopback or a path

import { connect } from 'node:net'

const [count = '0', place = ''] = process.argv.slice(2)
const total = Number(count)
const port = Number(place)
/** So many are on their way at once: more than that a listener's queue need not take. */
const atOnce = 200

let begun = 0
let open = 0
let ended = 0

function begin(): void {
  if (begun === total) return
  begun++
  const socket = Number.isNaN(port) ? connect(place) : connect(port, '127.0.0.1')
  let isOpen = false
  socket.once('connect', () => {
    isOpen = true
    open++
    begin()
  })
  socket.on('error', () => undefined)
  socket.once('close', () => {
    ended++
    if (isOpen) open--
    else begin()
    if (ended === total) process.send?.({ open: 0, isOver: true })
  })
  // Whoever does not read does not see the end.
  socket.resume()
}

for (let i = 0; i < atOnce; i++) begin()
const timer = setInterval(() => {
  process.send?.({ open, begun, isOver: ended === total })
  if (ended === total) clearInterval(timer)
}, 100)
process.on('disconnect', () => process.exit())
