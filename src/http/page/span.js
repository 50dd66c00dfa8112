// Which part of a history is shown: the last hour or so, which moves with the present, or from one
// time to another.

import { h, setAttribute } from './dom.js';
import { date, duration, offset, time, timeOfDay, zone } from './words.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const SPANS = [
  { name: '5m', ms: 5 * MINUTE, words: '5 min', long: 'five minutes' },
  { name: '1h', ms: HOUR, words: '1 h', long: 'hour' },
  { name: '6h', ms: 6 * HOUR, words: '6 h', long: 'six hours' },
  { name: '24h', ms: DAY, words: '24 h', long: '24 hours' },
  { name: '7d', ms: 7 * DAY, words: '7 d', long: 'seven days' },
  { name: '30d', ms: 30 * DAY, words: '30 d', long: 'thirty days' },
  { name: '90d', ms: 90 * DAY, words: '90 d', long: 'ninety days' },
];
const DEFAULT_SPAN = '1h';

/** The shortest that is shown, and the longest. */
const LEAST_MS = 10_000;
const MOST_MS = 3 * 365 * DAY;

/**
 * A time as a field of a form has it, in the zone that times are shown in.
 *
 * @param {number} ms
 */
function fieldOf(ms) {
  return `${date(ms)}T${timeOfDay(ms)}`;
}

/**
 * What somebody has entered; null where that is no time.
 *
 * @param {string} text
 */
export function timeIn(text) {
  // Read as UTC, and then moved by what the zone is ahead there.
  const utc = Date.parse(`${text}Z`);
  return Number.isNaN(utc) ? null : utc - offset(utc - offset(utc));
}

/**
 * `endsAt()` is the present, or the end of what there is; `changed(parameters)` is told when
 * something else is to be shown, with what the address has for it.
 *
 * @param {URLSearchParams} query
 * @param {() => number} endsAt
 * @param {(parameters: string) => void} changed
 */
export function makeSpan(query, endsAt, changed) {
  /** How much is shown, and up to when; null where it moves with the present. */
  let ms = SPANS.find((span) => span.name === DEFAULT_SPAN)?.ms ?? HOUR;
  /** @type {number | null} */
  let to = null;

  const given = query.get('span') ?? DEFAULT_SPAN;
  const named = SPANS.find((span) => span.name === given);
  if (named) ms = named.ms;
  else if (/^\d{1,9}s$/.test(given)) ms = bounded(Number.parseInt(given, 10) * 1_000);
  const [givenFrom, givenTo] = ['from', 'to'].map((name) => Date.parse(query.get(name) ?? ''));
  if (givenTo > givenFrom) [ms, to] = [bounded(givenTo - givenFrom), givenTo];

  const radios = SPANS.map(({ name: value, ms: length, words }) => {
    const input = h('input', { type: 'radio', name: 'span', value, onchange: () => choose(length, null) });
    return { input, length, node: h('label', {}, input, h('span', {}, words)) };
  });
  const spans = h(
    'fieldset',
    { class: 'spans' },
    h('legend', { class: 'unseen' }, 'Shown time'),
    radios.map((radio) => radio.node),
  );
  /** @type {(name: string, sign: string, onclick: () => void) => HTMLButtonElement} */
  const button = (name, sign, onclick) =>
    h('button', { type: 'button', class: 'quiet', 'aria-label': name, title: name, onclick }, sign);
  const [zoomIn, zoomOut] = [button('Zoom in', '+', () => zoom(1 / 2)), button('Zoom out', '−', () => zoom(2))];
  const [earlier, later] = [button('Earlier', '‹', () => move(-1 / 2)), button('Later', '›', () => move(1 / 2))];
  /** @type {(id: string) => HTMLInputElement} */
  const field = (id) => h('input', { type: 'datetime-local', id, step: 1, required: true });
  const [fromField, toField] = [field('from'), field('to')];
  const problem = h('p', { class: 'problem', role: 'alert' });
  const zoneWord = h('span', { class: 'since' });
  const form = h(
    'form',
    {
      class: 'from-to',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const [from, until] = [timeIn(fromField.value), timeIn(toField.value)];
        const isRight = from !== null && until !== null && until - from >= LEAST_MS && until - from <= MOST_MS;
        problem.textContent = isRight
          ? ''
          : `It must end at least ${duration(LEAST_MS)} after it begins, and within ${duration(MOST_MS)}.`;
        if (isRight) choose(until - from, until);
      },
    },
    h('label', { for: 'from' }, 'From'),
    fromField,
    h('label', { for: 'to' }, 'to'),
    toField,
    zoneWord,
    h('button', { type: 'submit', class: 'quiet' }, 'Show'),
    problem,
  );
  const range = h('details', { class: 'range-chooser' }, h('summary', {}, 'From – to'), form);
  range.addEventListener('toggle', () => range.open && showFields());

  const node = h(
    'div',
    { class: 'span-chooser' },
    spans,
    h('div', { class: 'zoom' }, earlier, zoomOut, zoomIn, later),
    range,
  );
  show();

  /** @param {number} length */
  function bounded(length) {
    return Math.min(MOST_MS, Math.max(LEAST_MS, Math.round(length)));
  }

  /**
   * @param {number} length
   * @param {number | null} until
   */
  function choose(length, until) {
    ms = bounded(length);
    // What ends now moves on with the present.
    to = until !== null && until < endsAt() - 1_000 ? until : null;
    show();
    changed(parameters());
  }

  /** @param {number} factor */
  function zoom(factor) {
    const length = bounded(ms * factor);
    // About the middle; of what moves with the present, the end stays.
    choose(length, to === null ? null : to - ms / 2 + length / 2);
  }

  /** @param {number} part */
  function move(part) {
    choose(ms, (to ?? endsAt()) + ms * part);
  }

  function parameters() {
    if (to !== null)
      return new URLSearchParams({ from: new Date(to - ms).toISOString(), to: new Date(to).toISOString() }).toString();
    return `span=${SPANS.find((span) => span.ms === ms)?.name ?? `${Math.round(ms / 1_000)}s`}`;
  }

  function show() {
    for (const { input, length } of radios) input.checked = to === null && length === ms;
    // One that nothing is chosen of takes the focus all the same.
    zoomIn.disabled = ms <= LEAST_MS;
    zoomOut.disabled = ms >= MOST_MS;
    later.disabled = to === null;
    setAttribute(range, 'data-chosen', to !== null);
    if (range.open) showFields();
  }

  function showFields() {
    const until = to ?? endsAt();
    fromField.value = fieldOf(until - ms);
    toField.value = fieldOf(until);
    zoneWord.textContent = zone(until);
  }

  return {
    node,
    /** How much is shown. */
    ms: () => ms,
    /** Up to when; null where that moves with the present. */
    to: () => to,
    /** From when. */
    since: () => (to ?? endsAt()) - ms,
    /** Up to when. */
    until: () => to ?? endsAt(),
    /** In words, after "No role changed". */
    words() {
      if (to !== null) return `from ${time(to - ms, endsAt())} to ${time(to, endsAt())}`;
      return `in the last ${SPANS.find((span) => span.ms === ms)?.long ?? duration(ms)}`;
    },
    /** Times are shown in another zone. */
    rezone: () => range.open && showFields(),
  };
}
