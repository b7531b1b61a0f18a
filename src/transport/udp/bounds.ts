// Every bound and every wait of the datagram transport in one place. docs/udp.md says why they are what they are.

export const udpBounds = {
  /** The payload of a UDP packet. 1,200 pass wherever IPv6 does, tunnels included. */
  datagramBytes: 1200,
  /** Messages up to here, control and payload, go before longer ones. */
  urgentBytes: 8192,

  // What one peer can make this side hold
  /** Numbers that are told apart; what is older than that is dropped. */
  replayWindow: 4096,
  /** Numbers behind the highest that a report speaks of: so many datagrams may be under way. */
  reportWindow: 2048,
  /** Messages whose fragments are being put together. */
  reassembledMessages: 256,
  /** Their bytes and what holding them costs, beyond twice the bound on one message. */
  reassembledBytes: 4_194_304,
  /** An incomplete message to which nothing was added for so long is given up. */
  reassemblyIdleMs: 10_000,
  /** Numbers of complete messages that are remembered, so that a late fragment does not begin them anew. */
  completedMessages: 1024,
  /** Whole messages that wait because the receiver has paused: beyond it the other side is told to stop ... */
  inboxBytes: 1_048_576,
  /** ... and beyond this what still comes is dropped. One message of any size may come on top. */
  inboxBytesMax: 4_194_304,

  // Sending
  /** Bytes of long messages that are sent and not yet confirmed: the next long one waits; one may exceed it alone. */
  unconfirmedBytes: 2_097_152,
  unconfirmedMessages: 32,
  /** Datagrams that leave in one turn of the event loop. */
  burst: 48,

  // Handshake
  /** How long a cookie is good for: its slot and the next one. */
  cookieSlotMs: 10_000,
  helloRetryMinMs: 100,
  helloRetryMaxMs: 1600,
  /** An accepted hello that nobody follows up. */
  halfOpenMs: 5000,

  // Multicast
  /** The longest message that goes by a channel; a longer one goes to each by itself. */
  sharedBytes: 65_536,
  /** A channel speaks so often, so that those who hear it can say so ... */
  channelProbeMs: 500,
  /** ... and whoever has not said so for so long gets everything by itself again. */
  channelHeardMs: 2000,
  /** What may leave by a channel at once; it fills again by the pace of its slowest hearer. */
  channelBurstBytes: 131_072,

  // The life of a connection
  /** A report follows so many datagrams ... */
  reportEvery: 24,
  /** ... or the first that was not reported, after so long. */
  reportMs: 10,
  keepAliveMs: 2000,
  silenceMs: 10_000,
  /** A stopped sender asks so often whether it may go on. */
  probeMs: 200,
  byeRetryMs: 50,
  byeTries: 12,
} as const
