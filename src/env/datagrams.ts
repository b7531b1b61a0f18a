// Datagrams: UDP, and multicast where the network has it. What is sent may be lost, doubled or reordered, and nobody is
// told; so `send` never fails, and an error of the system is reported to `failed`.

export interface Datagrams {
  /** A socket that everybody may send to. Errors: ADDRESS_IN_USE, ADDRESS_INVALID, IO_ERROR. */
  bind(options: DatagramBindOptions): Promise<DatagramSocket>
  /** A socket on a free port that hears one other only. Errors: ADDRESS_INVALID, CONNECT_FAILED. */
  connect(options: DatagramPeer): Promise<DatagramSocket>
  /** A socket that hears what is sent to a multicast group. Errors: those of `bind`. */
  join(options: DatagramJoinOptions): Promise<DatagramSocket>
}

export interface DatagramPeer {
  readonly host: string
  readonly port: number
}

export interface DatagramBindOptions extends DatagramPeer {
  /** What is sent to multicast groups leaves by the interface of `host`. Default false. */
  readonly sendsToGroups?: boolean
}

export interface DatagramJoinOptions {
  readonly group: DatagramPeer
  /** The address of the interface to listen on. */
  readonly interfaceHost: string
}

export interface DatagramSocket {
  /** Where it is bound. */
  readonly host: string
  readonly port: number
  /** What the system holds for it before it is read, as the system counts. */
  readonly receiveBufferBytes: number
  /** Set once, before the first await after the socket was received. */
  handlers: DatagramHandlers
  /** `to`: an address in numbers, for a socket that was bound. The bytes must not change any more. */
  send(datagram: Uint8Array, to?: DatagramPeer): void
  /** Idempotent. Nothing is reported after it. */
  close(): void
}

export interface DatagramHandlers {
  /** The bytes are the receiver's. */
  message(datagram: Uint8Array, host: string, port: number): void
  /** The system says that something cannot be sent or received; on a connected socket that nobody is there. */
  failed(error: Error): void
}
