// What was done to a group in the time shown, and by whom: its configuration, wishes, deletions.

import { read, Refusal } from './api.js';
import { foreign, h, makeTable, reconcile, rowsOf, setAttribute, setText } from './dom.js';
import { count, duration, parseTime, time } from './words.js';

/** @typedef {import('./types').Deed} Deed */

/** How many are asked for, and how many are shown at first. */
const MOST = 200;
const ROWS = 8;

/** What the audit trail calls the service itself. */
const NAMELESS = /** @type {Record<string, string>} */ ({ service: 'the service' });

const WISHES = /** @type {Record<string, string>} */ ({
  Forced: 'forced',
  Excluded: 'kept out',
  SwitchTo: 'switched over to',
  SwitchAway: 'switched over from',
});

const ENDS = /** @type {Record<string, string>} */ ({
  done: 'it has come about',
  expired: 'its time is over',
  withdrawn: 'withdrawn',
  replaced: 'another has taken its place',
});

/** Events after which there is something new. */
const TOLD = ['WishSet', 'WishEnded', 'GroupCreated', 'GroupChanged', 'GroupDeleted', 'SessionDeleted', 'EventsMissed'];

/**
 * @param {Deed} deed
 * @param {number | null} now
 * @returns {string}
 */
function what({ Event: event, Wish: wish, Ended: ended, Milliseconds: milliseconds }, now) {
  if (wish !== null) {
    const name = WISHES[wish.Wish] ?? wish.Wish;
    if (ended !== null) return `No longer ${name}: ${ENDS[ended] ?? ended}`;
    const until = parseTime(wish.Until);
    return `To be ${name}, ${until === null ? 'until that is withdrawn' : `until ${time(until, now)}`}`;
  }
  const timeout = milliseconds === null ? '' : `, failover timeout ${duration(milliseconds)}`;
  switch (event) {
    case 'GroupCreated':
      return `Group created${timeout}`;
    case 'GroupChanged':
      return `Group changed${timeout}`;
    case 'GroupDeleted':
      return 'Group deleted';
    case 'SessionDeleted':
      return 'Session deleted';
    default:
      return event;
  }
}

/** @param {string} path of the group */
export function makeDeeds(path) {
  /** @type {Deed[]} */
  let deeds = [];
  let isWanted = true;
  let isWhole = false;
  const { table, body } = makeTable({ class: 'history', 'aria-labelledby': 'deeds' }, [
    'Time',
    'What',
    'Session',
    'By',
  ]);
  const more = h(
    'button',
    {
      type: 'button',
      hidden: true,
      onclick: () => {
        isWhole = true;
        show(null);
      },
    },
    'Show all',
  );
  const node = h(
    'section',
    { class: 'deeds', 'aria-labelledby': 'deeds', hidden: true },
    h('h2', { id: 'deeds' }, 'What was done'),
    table,
    more,
  );

  /** @param {number | null} now */
  const show = (now) => {
    reconcile(body, isWhole ? deeds : deeds.slice(0, ROWS), (deed) => deed.Id, makeRow);
    setAttribute(more, 'hidden', isWhole || deeds.length <= ROWS);
    setText(more, `Show all ${count(deeds.length, 'deed')}`);
    setAttribute(node, 'hidden', deeds.length === 0);
    if (now !== null) tick(now);
  };
  const tick = (/** @type {number} */ now) => {
    for (const row of rowsOf(body).values()) row.tick(now);
  };

  return {
    node,
    tick,
    /**
     * Something has happened.
     *
     * @param {string} event
     */
    hear(event) {
      if (TOLD.includes(event)) isWanted = true;
    },
    /**
     * @param {AbortSignal} signal
     * @param {boolean} isNew whether another time is shown, or something may have been missed
     * @param {number} since
     * @param {number | null} to null for the present
     */
    async read(signal, isNew, since, to) {
      if (!isNew && !isWanted) return;
      isWanted = false;
      try {
        const query = {
          since: new Date(since).toISOString(),
          until: to === null ? null : new Date(to).toISOString(),
          count: MOST,
        };
        deeds = (await read(`${path}/deeds`, { query, signal })).body;
      } catch (error) {
        // A replica of an earlier version, or a group of which nothing is known.
        if (!(error instanceof Refusal) || error.status !== 404) {
          isWanted = true;
          throw error;
        }
        deeds = [];
      }
      show(null);
    },
  };
}

/** @param {Deed} deed */
function makeRow(deed) {
  const at = h('time', { datetime: deed.Time });
  const words = h('td', { role: 'cell', 'data-label': 'What' });
  const by = deed.By === null ? '–' : (NAMELESS[deed.By] ?? foreign(deed.By));
  return {
    node: h(
      'tr',
      { role: 'row' },
      h('th', { scope: 'row', role: 'rowheader' }, at),
      words,
      h('td', { role: 'cell', 'data-label': 'Session' }, deed.SessionId === null ? '–' : foreign(deed.SessionId)),
      h('td', { role: 'cell', 'data-label': 'By' }, by),
    ),
    update() {},
    tick(/** @type {number} */ now) {
      setText(at, time(Date.parse(deed.Time), now, true));
      setText(words, what(deed, now));
    },
  };
}
