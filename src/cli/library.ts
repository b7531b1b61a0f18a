// The database itself, loaded when a verb opens one. Most verbs reach a running process through its endpoint, and the
// command starts in half the time without it.

export function library(): Promise<typeof import('../index.ts')> {
  return import('../index.ts')
}
