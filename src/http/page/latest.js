// The latest changes of roles: what has happened before somebody looked, and since.

import { foreign, h, reconcile, rowsOf, setAttribute, setText } from './dom.js';
import { groupHash } from './places.js';
import { reasonWord, roleWord, time } from './words.js';

/** How many are shown. */
export const MOST_LATEST = 12;

/**
 * The latest changes, those that came while somebody looked among them.
 *
 * @param {boolean} withPlace
 */
export function makeLatest(withPlace) {
  /** @typedef {import('./types').RoleChanged} RoleChanged */
  const list = h('ol', { class: 'changes' });
  const nothing = h('p', { class: 'nothing' }, 'No change of a role is known here.');
  /** @type {RoleChanged[]} */
  let kept = [];
  let isDue = false;
  const show = () => {
    isDue = false;
    setAttribute(nothing, 'hidden', kept.length > 0);
    reconcile(
      list,
      kept,
      (change) => change.Id,
      (change) => {
        const at = h('time', {});
        const node = h(
          'li',
          {},
          at,
          h(
            'span',
            {},
            h('a', { href: groupHash(change.TenantId, change.NamespaceId, change.GroupId) }, foreign(change.GroupId)),
            withPlace &&
              h('span', { class: 'where' }, ' in ', foreign(change.TenantId), ' / ', foreign(change.NamespaceId)),
            ': ',
            foreign(change.SessionId),
            ` ${roleWord(change.From)} → `,
            h('strong', {}, roleWord(change.To)),
            h('span', { class: 'why' }, `, ${reasonWord(change.Reason)}`),
          ),
        );
        return {
          node,
          update() {},
          tick: (/** @type {number | null} */ now) => setText(at, time(Date.parse(change.Time), now)),
        };
      },
    );
  };
  return {
    node: h(
      'section',
      { class: 'latest', 'aria-labelledby': 'latest' },
      h('h2', { id: 'latest' }, 'Latest changes'),
      nothing,
      list,
    ),
    /** @param {RoleChanged[]} changes */
    note(changes) {
      const known = new Map([...kept, ...changes].map((change) => [change.Id, change]));
      kept = [...known.values()].sort((a, b) => b.Id - a.Id).slice(0, MOST_LATEST);
      if (!isDue) requestAnimationFrame(show);
      isDue = true;
    },
    /**
     * What the database has lost has not happened.
     *
     * @param {import('./types').DatabaseHistoryChanged} change
     */
    forget({ LastIdBefore: last, Id: id }) {
      kept = kept.filter((change) => change.Id <= last || change.Id > id);
    },
    /** @param {number | null} now */
    tick(now) {
      for (const row of rowsOf(list).values()) row.tick(now);
    },
  };
}
