// The part of `fs-native-extensions` that is used; the package brings no types of its own.

declare module 'fs-native-extensions' {
  /** Takes an exclusive lock on the whole file without waiting; false if another open file has it. */
  export function tryLock(fd: number): boolean
  export function unlock(fd: number): void
}
