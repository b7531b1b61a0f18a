// A tokenizer for TypeScript that is just good enough to tell code from comments, strings, templates and regular
// expressions. The checks of this folder need no more, and the compiler's own scanner is not a stable export.
//
// It tells a division from a regular expression by the token before the slash. Where that guess is wrong the text
// does not close before the end of its line, and the tokenizer throws: it never skips code in silence.

export interface Token {
  readonly kind: 'name' | 'number' | 'string' | 'template' | 'regex' | 'punctuation'
  /** As in the source; for strings and template parts without the quotes. */
  readonly text: string
  readonly line: number
}

export interface Tokens {
  readonly tokens: readonly Token[]
  /** Whether a comment comes before all code (a `#!` line may stand above it). */
  readonly opensWithComment: boolean
}

/** After these a slash opens a regular expression, although they look like names. */
const operatorWords = new Set(
  'await case delete do else in instanceof new of return throw typeof void yield'.split(' '),
)
const nameStart = /[\p{ID_Start}$_#@\\]/u
const namePart = /[\p{ID_Continue}$\\]/u

/** Throws a SyntaxError that names the line where a string, a comment or a regular expression does not close. */
export function tokenize(source: string): Tokens {
  const tokenizer = new Tokenizer(source)
  tokenizer.run()
  return { tokens: tokenizer.tokens, opensWithComment: tokenizer.opensWithComment }
}

class Tokenizer {
  readonly tokens: Token[] = []
  opensWithComment = false
  readonly #source: string
  #at = 0
  #line = 1
  /** One entry per open brace; true for the `${` of a template. */
  readonly #braces: boolean[] = []

  constructor(source: string) {
    this.#source = source
  }

  run(): void {
    if (this.#source.startsWith('#!')) this.#at = this.#lineEnd()
    while (this.#at < this.#source.length) this.#step()
    if (this.#braces.includes(true)) throw this.#unclosed('template')
  }

  #step(): void {
    const char = this.#source[this.#at] as string
    const next = this.#source[this.#at + 1]
    if (char === '\n') {
      this.#line++
      this.#at++
    } else if (/\s/.test(char) || char === '\ufeff') this.#at++
    else if (char === '/' && (next === '/' || next === '*')) this.#comment(next)
    else if (char === "'" || char === '"') this.#push('string', this.#quoted(char), 1)
    else if (char === '`') this.#template()
    else if (char === '}' && this.#braces.pop() === true) this.#template()
    else if (char === '/' && this.#regexMayStart()) this.#push('regex', this.#regex(), 0)
    else if (/[0-9]/.test(char) || (char === '.' && /[0-9]/.test(next ?? ''))) this.#number()
    else if (nameStart.test(char)) this.#name()
    else {
      if (char === '{') this.#braces.push(false)
      this.#push('punctuation', this.#at + 1, 0)
    }
  }

  /** Takes the source up to `end`, less `quotes` characters on each side. */
  #push(kind: Token['kind'], end: number, quotes: number): void {
    this.tokens.push({
      kind,
      text: this.#source.slice(this.#at + quotes, end - quotes),
      line: this.#line,
    })
    this.#at = end
  }

  #comment(opener: '/' | '*'): void {
    if (this.tokens.length === 0) this.opensWithComment = true
    if (opener === '/') {
      this.#at = this.#lineEnd()
      return
    }
    const end = this.#source.indexOf('*/', this.#at + 2)
    if (end < 0) throw this.#unclosed('comment')
    this.#countLines(this.#at, end)
    this.#at = end + 2
  }

  #quoted(quote: string): number {
    for (let i = this.#at + 1; i < this.#source.length; i++) {
      const char = this.#source[i]
      if (char === '\\') i++
      else if (char === quote) return i + 1
      else if (char === '\n') break
    }
    throw this.#unclosed('string')
  }

  /** One part of a template: from a backtick or the `}` of a substitution to the next backtick or `${`. */
  #template(): void {
    for (let i = this.#at + 1; i < this.#source.length; i++) {
      const char = this.#source[i]
      if (char === '\\') i++
      else if (char === '`' || (char === '$' && this.#source[i + 1] === '{')) {
        const text = this.#source.slice(this.#at + 1, i)
        this.tokens.push({ kind: 'template', text, line: this.#line })
        this.#countLines(this.#at, i)
        if (char === '$') this.#braces.push(true)
        this.#at = char === '$' ? i + 2 : i + 1
        return
      }
    }
    throw this.#unclosed('template')
  }

  #regexMayStart(): boolean {
    const before = this.tokens.at(-1)
    if (before === undefined) return true
    if (before.kind === 'name') return operatorWords.has(before.text)
    return before.kind === 'punctuation' && !/[)\]}]/.test(before.text)
  }

  #regex(): number {
    let inClass = false
    for (let i = this.#at + 1; i < this.#source.length; i++) {
      const char = this.#source[i]
      if (char === '\n') break
      if (char === '\\') i++
      else if (char === '[') inClass = true
      else if (char === ']') inClass = false
      else if (char === '/' && !inClass) {
        let end = i + 1
        while (/[a-z]/.test(this.#source[end] ?? '')) end++
        return end
      }
    }
    throw this.#unclosed('regular expression')
  }

  #number(): void {
    let end = this.#at + 1
    while (/[\w.]/.test(this.#source[end] ?? '')) end++
    this.#push('number', end, 0)
  }

  #name(): void {
    let end = this.#at + 1
    while (namePart.test(this.#source[end] ?? '')) end++
    this.#push('name', end, 0)
  }

  #lineEnd(): number {
    const end = this.#source.indexOf('\n', this.#at)
    return end < 0 ? this.#source.length : end
  }

  #countLines(from: number, to: number): void {
    for (let i = from; i < to; i++) if (this.#source[i] === '\n') this.#line++
  }

  #unclosed(what: string): SyntaxError {
    return new SyntaxError(`line ${this.#line}: a ${what} does not close`)
  }
}

export interface ImportedName {
  /** As written: `./file.ts`, `node:fs`, `package`. Undefined where it is computed at run time. */
  readonly specifier: string | undefined
  readonly line: number
}

/** What a file imports: static and dynamic imports, re-exports, and files named by `new URL(..., import.meta.url)`. */
export function importsOf(tokens: readonly Token[]): ImportedName[] {
  const found: ImportedName[] = []
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'name' || tokens[i - 1]?.text === '.') continue
    const [next, afterNext] = [tokens[i + 1], tokens[i + 2]]
    if (token.text === 'import' && next?.text === '(') {
      const known = afterNext?.kind === 'string'
      found.push({ specifier: known ? afterNext.text : undefined, line: token.line })
    } else if ((token.text === 'import' || token.text === 'from') && next?.kind === 'string') {
      found.push({ specifier: next.text, line: token.line })
    } else if (token.text === 'URL' && tokens[i - 1]?.text === 'new' && afterNext?.kind === 'string') {
      if (tokens[i + 4]?.text === 'import' && afterNext.text.startsWith('.')) {
        found.push({ specifier: afterNext.text, line: token.line })
      }
    }
  }
  return found
}

/** The path, from the root, that a relative specifier names in the file at `from`. `.js` stands for `.ts`. */
export function resolveRelative(from: string, specifier: string): string {
  const parts = from.split('/').slice(0, -1)
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/').replace(/\.js$/, '.ts')
}
