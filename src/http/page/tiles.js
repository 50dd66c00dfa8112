// The counts of everything there, as the service takes them in the background. Those of groups that
// need a look lead to them.

import { h, setAttribute, setText } from './dom.js';
import { age, NARROWINGS, whole } from './words.js';

/** A count that old is said to be old: it may be of another moment than the list. */
const OLD_COUNT_MS = 2_500;

/** @typedef {import('./types').Counted} Counted */

/**
 * What the list is narrowed to by a tile, how many groups that are, and how loud that is; the empty
 * one is of all groups.
 *
 * @type {[string, (counted: Counted) => number, string?][]}
 */
const KINDS = [
  ['', (c) => c.Groups],
  ['at_risk', (c) => c.AtRisk, 'bad'],
  ['NoPrimary', (c) => c.NoPrimary, 'bad'],
  ['NoStandby', (c) => c.NoStandby, 'warn'],
  ['PrimaryUnhealthy', (c) => c.PrimaryUnhealthy, 'warn'],
  ['Flapping', (c) => c.Flapping, 'warn'],
];

/**
 * What is so with few installations takes no room on the others; a replica of an earlier version
 * does not count it.
 *
 * @type {[string, (counted: Counted) => number, string][]}
 */
const SELDOM_KINDS = [
  ['handing_over', (c) => c.HandingOver ?? 0, 'handover'],
  ['SameIdTwice', (c) => c.SameIdTwice ?? 0, 'warn'],
  ['DataStandsStill', (c) => c.DataStandsStill ?? 0, 'warn'],
  ['ClockAhead', (c) => c.ClockAhead ?? 0, 'warn'],
  ['SeldomHeartbeats', (c) => c.SeldomHeartbeats ?? 0, 'warn'],
  ['ManySessions', (c) => c.ManySessions ?? 0, 'warn'],
  ['NewIdEachStart', (c) => c.NewIdEachStart ?? 0, 'warn'],
];

/**
 * `narrow` shows the groups of a tile alone, or all of them; `addressOf` is what that has as its
 * address.
 *
 * @param {(only: string) => void} narrow
 * @param {(only: string) => string} addressOf
 */
export function makeTiles(narrow, addressOf) {
  let chosen = '';
  /** @type {(only: string) => { node: HTMLElement, link: HTMLElement, number: HTMLElement }} */
  const makeTile = (only) => {
    const number = h('dd', {}, '–');
    const link = h(
      'a',
      {
        onclick: (/** @type {MouseEvent} */ event) => {
          // In another window it is a link like any other.
          if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
          event.preventDefault();
          narrow(only === chosen ? '' : only);
        },
      },
      only === '' ? 'Groups' : NARROWINGS[only][0],
    );
    return { node: h('div', { class: 'tile' }, h('dt', {}, link), number), link, number };
  };
  const tiles = KINDS.map(([only, count, tone]) => ({ ...makeTile(only), only, count, tone, isSeldom: false }));
  const seldomTiles = SELDOM_KINDS.map(([only, count, tone]) => ({
    ...makeTile(only),
    only,
    count,
    tone,
    isSeldom: true,
  }));
  const all = [...tiles, ...seldomTiles];
  const sessions = h('dd', {}, '–');
  const old = h('p', { class: 'old', hidden: true });
  return {
    node: h(
      'div',
      { class: 'counts' },
      h(
        'dl',
        { class: 'tiles' },
        tiles.map((tile) => tile.node),
        h('div', { class: 'tile' }, h('dt', {}, 'Sessions live'), sessions),
        seldomTiles.map((tile) => tile.node),
      ),
      old,
    ),
    /**
     * @param {Counted | null} counted
     * @param {string} only what the list is narrowed to
     */
    update(counted, only) {
      chosen = only;
      for (const tile of all) {
        const groups = counted === null ? null : tile.count(counted);
        setText(tile.number, groups === null ? '–' : whole(groups));
        setAttribute(tile.node, 'data-tone', groups !== null && groups > 0 && tile.tone);
        setAttribute(tile.node, 'hidden', tile.isSeldom && !groups && tile.only !== only);
        setAttribute(tile.link, 'href', addressOf(tile.only === only ? '' : tile.only));
        setAttribute(tile.link, 'aria-current', tile.only === only && 'true');
      }
      setText(
        sessions,
        counted === null ? '–' : `${whole(counted.LiveSessions)} of ${whole(counted.RegisteredSessions)}`,
      );
      const isOld = counted !== null && counted.AgeMs > OLD_COUNT_MS;
      setAttribute(old, 'hidden', !isOld);
      if (isOld) setText(old, `Counted ${age(counted.AgeMs)} ago.`);
    },
  };
}
