// How a site becomes a view: a replica that never votes, is never elected and never counted (Berkeley DB's rep_set_view).
// A full view has every store, a partial one those that a filter lets in (database/kept-stores.ts).
//
// It is in the state file before the site attaches as one, and from then on for ever: no role but that of a replica can
// be taken, whatever is called, and a partial view is attached with its filter only, so that what it does not keep is
// never taken for what is not there. Other data is another folder.
//
// A participant may become a full view: it has every store. A database that has records cannot become a partial one:
// nobody could tell the rows that were left out from those that were here before.

import { assert } from '../base/assert.ts'
import { CoterieError } from '../base/errors.ts'
import { noLsn } from '../base/lsn.ts'
import { memberOf } from '../base/membership.ts'
import { type OptionRule, objectOf } from '../base/options.ts'
import type { StoreFilter } from '../database/kept-stores.ts'
import type { SiteRole, SiteState, ViewState } from '../database/site-state.ts'
import type { Site } from './site.ts'

/**
 * `false`: no view, and an error where the database is one. `true`: a view with every store. With `filter`: with the stores
 * only that it answers true for, by their names, '' for the unnamed one. It is asked once a store and must answer the same each time that the program runs; the
 * database's own rows are always kept.
 */
export type ViewOption = boolean | { readonly filter: StoreFilter }

const filterRule = objectOf({
  filter: (value) => (typeof value === 'function' ? undefined : 'a function'),
})

export const viewRule: OptionRule = (value) => {
  if (value === true || value === false) return undefined
  const isFilter = filterRule(value) === undefined && (value as { filter?: unknown }).filter !== undefined
  return isFilter ? undefined : 'true, false or { filter(store) }'
}

/** Whether `becomeView` would have to be undone: what the site was before. */
export interface BecameView {
  readonly role: SiteRole
}

/**
 * Makes a site the view that the option asks for, on disk when it resolves; it takes no writes at that moment. Without
 * the option it stays what it is. Resolves to what it was, where it has become a view by this call.
 *
 * INVALID_STATE where it cannot be that: it is another kind of view, or none was asked for and it is a partial one; it
 * is a member of a group; it has records and would be a partial one. VIEW_FILTER_FAILED. Then nothing has changed.
 */
export async function becomeView(
  site: Site,
  option: ViewOption | undefined,
): Promise<BecameView | undefined> {
  const { keptStores, folder } = site.engine
  const kind = option === true ? 'full' : option === undefined || option === false ? undefined : 'partial'
  const { view } = site
  if (view !== undefined) {
    checkSame(view, option === false ? 'none' : kind)
    if (typeof option === 'object') keptStores.useFilter(option.filter)
    return undefined
  }
  if (kind === undefined) return undefined
  checkMayBecome(site, kind)
  const { role } = folder.state as SiteState
  if (typeof option === 'object') {
    keptStores.useFilter(option.filter)
    try {
      // Rows of a snapshot that broke off before: of every store.
      await site.discardStaged()
      await site.roles.becomeView({ kind: 'partial', ...keptStores.answers })
    } catch (error) {
      keptStores.forget()
      throw error
    }
  } else {
    await site.roles.becomeView({ kind: 'full', kept: [], declined: [] })
  }
  assert(site.view === kind, 'a view is one on disk before it attaches')
  return { role }
}

/** Undoes `becomeView`, on disk too, where no master has let the site in. */
export async function unbecomeView(site: Site, before: BecameView): Promise<void> {
  await site.roles.ceaseView(before.role)
  site.engine.keptStores.forget()
}

function checkSame(view: ViewState['kind'], asked: ViewState['kind'] | 'none' | undefined): void {
  if (asked === view || (asked === undefined && view === 'full')) return
  const is = view === 'full' ? 'a view of the whole database' : 'a partial view'
  const why =
    asked === undefined
      ? 'attach it with `view: { filter }`, because only the filter says which stores it keeps'
      : asked === 'none'
        ? 'and a view never becomes a participant again: take a new folder'
        : `and never becomes ${asked === 'full' ? 'a whole' : 'a partial'} one: take a new folder`
  throw new CoterieError('INVALID_STATE', `this site is ${is}: ${why}`, { details: { view } })
}

function checkMayBecome(site: Site, kind: ViewState['kind']): void {
  const { core } = site
  if (site.inGroup || memberOf(core.membership, site.site) !== undefined) {
    const message = `site ${site.site} is a member of a group, where it votes: it cannot become a view`
    throw new CoterieError('INVALID_STATE', message)
  }
  if (kind === 'partial' && core.lastLsn !== noLsn) {
    const message =
      'this database has records, and with them rows of every store: a partial view begins with a new folder'
    throw new CoterieError('INVALID_STATE', message)
  }
}

/** INVALID_STATE on a view, which can do nothing of what a voting site can. `what` completes "a view ...". */
export function assertNoView(site: Site, what: string): void {
  const { view } = site
  if (view === undefined) return
  throw new CoterieError('INVALID_STATE', `this site is a view: a view ${what}`, { details: { view } })
}
