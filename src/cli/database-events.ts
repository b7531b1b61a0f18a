// Events of a database that concern the operator of `serve` and `attach` alike.

import type { EventLines } from './event-lines.ts'
import { formatCount } from './format.ts'
import type { ByteDatabase } from './local-port.ts'

export function printDatabaseEvents(db: ByteDatabase, lines: EventLines): void {
  db.on('rewound', (event) =>
    lines.print(
      'rewound',
      event,
      `rewound to lsn ${formatCount(event.to)}: ${formatCount(event.transactions)} transactions taken back` +
        (event.file === undefined ? '' : `, kept in ${event.file}`),
    ),
  )
  db.on('failed', (error) =>
    lines.print(
      'failed',
      { code: error.code, message: error.message },
      `failed: ${error.code}: ${error.message}`,
    ),
  )
  db.on('damaged', (error) =>
    lines.print(
      'damaged',
      { code: error.code, message: error.message },
      `damaged: ${error.code}: ${error.message}`,
    ),
  )
  db.on('stalled', (error) =>
    lines.print('stalled', { code: error.code, message: error.message }, `writes wait: ${error.message}`),
  )
  db.on('resumed', () => lines.print('resumed', {}, 'writes go on'))
}
