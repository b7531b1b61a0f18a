// Every byte of a session over TLS flipped, and the line cut there.

import { testTlsSessions } from './tls-sessions.ts'

testTlsSessions(1)
