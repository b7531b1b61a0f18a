// Some places of a session over TLS; tls-sessions.long.test.ts has more of them.

import { testTlsSessions } from './tls-sessions.ts'

testTlsSessions(61)
