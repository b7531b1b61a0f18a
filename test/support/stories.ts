// Files of stories: commands one to a line, `----` ends them, and what follows up to an empty line is the log that they
// must produce. Lines that begin with `#` are for the reader.

/** Runs a file of stories with `tell`, which turns the commands of one into its log; returns it as it really is. */
export function runStories(text: string, tell: (commands: readonly string[]) => readonly string[]): string {
  const out: string[] = []
  let commands: string[] = []
  let isLog = false
  for (const line of text.split('\n')) {
    if (isLog) {
      if (line !== '') continue
      isLog = false
      out.push('')
      continue
    }
    out.push(line)
    if (line === '----') {
      out.push(...tell(commands))
      commands = []
      isLog = true
    } else if (line !== '' && !line.startsWith('#')) {
      commands.push(line)
    }
  }
  return `${out.join('\n').trimEnd()}\n`
}

/** `name=value`, with numbers and truths as such. */
export function optionsOf(words: readonly string[]): Record<string, never> {
  const options: Record<string, unknown> = {}
  for (const word of words) {
    const [name = '', value = ''] = word.split('=')
    if (value === 'true' || value === 'false') options[name] = value === 'true'
    else options[name] = /^\d+$/.test(value) ? Number(value) : value
  }
  return options as Record<string, never>
}
