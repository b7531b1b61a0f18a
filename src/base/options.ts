// Checking of options that come from a caller: an unknown name or a value out of range is refused before anything
// is done, by name, so that a misspelt option is never silently a default.

import { CoterieError } from './errors.ts'

/** What an option may be: returns what it should be, or undefined if it is. */
export type OptionRule = (value: unknown) => string | undefined

/** The options of a call, by name. */
export type OptionRules = Readonly<Record<string, OptionRule>>

export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER): OptionRule {
  const bound = max === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${max}`
  return (value) =>
    Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
      ? undefined
      : `a whole number of at least ${min}${bound}`
}

export const truth: OptionRule = (value) => (typeof value === 'boolean' ? undefined : 'true or false')

export const text: OptionRule = (value) => (typeof value === 'string' && value !== '' ? undefined : 'text')

export const anything: OptionRule = () => undefined

export const abortSignal: OptionRule = (value) =>
  value instanceof AbortSignal ? undefined : 'an AbortSignal'

export function oneOf(...allowed: readonly unknown[]): OptionRule {
  return (value) =>
    allowed.includes(value) ? undefined : `one of ${allowed.map((each) => JSON.stringify(each)).join(', ')}`
}

export function eitherOf(...rules: readonly OptionRule[]): OptionRule {
  return (value) => {
    const reasons = rules.map((rule) => rule(value))
    return reasons.includes(undefined) ? undefined : reasons.join(', or ')
  }
}

export function listOf(rule: OptionRule): OptionRule {
  return (value) =>
    Array.isArray(value) && value.length > 0 && value.every((each) => rule(each) === undefined)
      ? undefined
      : `a list of ${String(rule(undefined))}`
}

export function objectOf(rules: OptionRules): OptionRule {
  return (value) => {
    if (typeof value !== 'object' || value === null) return 'an object'
    for (const [name, each] of Object.entries(value)) {
      const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
      if (rule === undefined) return `an object without '${name}'`
      const reason = each === undefined ? undefined : rule(each)
      if (reason !== undefined) return `an object whose '${name}' is ${reason}`
    }
    return undefined
  }
}

/** Throws OPTION_UNKNOWN or OPTION_INVALID, naming the call and the option. */
export function checkOptions(call: string, options: unknown, rules: OptionRules): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(`${call}: the options must be an object`)
  }
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) {
      throw new CoterieError('OPTION_UNKNOWN', `${call} has no option '${name}'`, {
        details: { option: name },
      })
    }
    const reason = value === undefined ? undefined : rule(value)
    if (reason !== undefined) {
      throw new CoterieError('OPTION_INVALID', `${call}: '${name}' must be ${reason}`, {
        details: { option: name },
      })
    }
  }
}

/** What options say together that no rule of one of them can. */
export function invalidOption(option: string, message: string): CoterieError {
  return new CoterieError('OPTION_INVALID', message, { details: { option } })
}
