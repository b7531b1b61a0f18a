// Tables as the bench prints them, and their numbers.

/** One group of measurements: what is printed and what goes into the JSON file. */
export interface Group {
  readonly name: string
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly Readonly<Record<string, string | number>>[]
  /** What a reader must know to read the table. */
  readonly note?: string
  /** What the rows are made of, for the JSON file. */
  readonly samples?: Readonly<Record<string, readonly number[]>>
}

export function printGroup(group: Group): string {
  const lines = group.rows.map((row) => group.columns.map((column) => formatCell(row[column])))
  const widths = group.columns.map((column, index) =>
    Math.max(column.length, ...lines.map((line) => (line[index] ?? '').length)),
  )
  const align = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => {
        const width = widths[index] ?? 0
        return index === 0 ? cell.padEnd(width) : cell.padStart(width)
      })
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '-'.repeat(width)).join('  ')
  const note = group.note === undefined ? [] : [group.note]
  return [`${group.title}`, align(group.columns), rule, ...lines.map(align), ...note, ''].join('\n')
}

/** Three significant digits below a thousand, whole numbers with separators above. */
function formatCell(value: string | number | undefined): string {
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(3)))
}
