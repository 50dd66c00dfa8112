// Who held the role when, as bars over time.

import { foreign, h, reconcile, setAttribute, setText } from './dom.js';
import {
  date,
  duration,
  offset,
  parseTime,
  PENDING,
  PRIMARY,
  reasonWord,
  roleWord,
  time,
  timeOfDay,
  whole,
} from './words.js';

/** @typedef {import('./types').RoleChanged} RoleChanged */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How many lanes are drawn until somebody asks for all. */
const MOST_LANES = 40;
/** A group's last role ends a moment before the group does. */
const SLIVER_MS = 2_000;

const STEPS = [
  1_000,
  5_000,
  10_000,
  30_000,
  MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
];

/**
 * The times in which sessions held Primary or PendingPrimary, from the changes (the latest first),
 * and from the sessions as they are now: one that has not changed in all that time has held what it
 * holds. `opened` and `closed` are the changes at the ends; null where the time shown begins or
 * ends.
 *
 * @param {import('./types').Past} past
 */
export function holdings({ changes, sessions, since, until, knownFrom }) {
  /** @type {Map<string, { role: number, from: number, opened: RoleChanged | null }>} */
  const open = new Map();
  /** @type {import('./types').Holding[]} */
  const found = [];
  /** @type {(session: string, at: number, change: RoleChanged | null) => void} */
  const close = (session, at, change) => {
    const before = open.get(session);
    if (before && (before.role === PRIMARY || before.role === PENDING) && at > before.from) {
      found.push({ session, role: before.role, from: before.from, to: at, opened: before.opened, closed: change });
    }
  };
  for (const change of changes.toReversed()) {
    const at = Date.parse(change.Time);
    if (at < since) {
      open.set(change.SessionId, { role: change.To, from: since, opened: change });
      continue;
    }
    if (!open.has(change.SessionId)) open.set(change.SessionId, { role: change.From, from: knownFrom, opened: null });
    close(change.SessionId, at, change);
    open.set(change.SessionId, { role: change.To, from: at, opened: change });
  }
  for (const session of sessions) {
    if (open.has(session.SessionId)) continue;
    open.set(session.SessionId, {
      role: session.Role,
      from: Math.max(knownFrom, Date.parse(session.RoleSince)),
      opened: null,
    });
  }
  for (const session of open.keys()) close(session, until, null);
  return found;
}

/**
 * The times in which nobody was Primary. Nobody is missed before a group existed, after it was
 * deleted, and before its first Primary. `state` is the group as it is now, or null; `lifetimes`
 * are those of its path, the latest first.
 *
 * @param {import('./types').Holding[]} held
 * @param {import('./types').Past} past
 */
export function vacancies(held, { changes, lifetimes, state, knownFrom, until }) {
  const holders = held.filter((one) => one.role === PRIMARY).sort((a, b) => a.from - b.from);
  return lifetimes.toReversed().flatMap((lifetime) => gapsWithin(lifetime, holders, changes, state, knownFrom, until));
}

/**
 * @param {import('./types').Lifetime} lifetime
 * @param {import('./types').Holding[]} holders
 * @param {RoleChanged[]} changes
 * @param {import('./types').GroupStatus | null} state
 * @param {number} knownFrom
 * @param {number} until
 */
function gapsWithin(lifetime, holders, changes, state, knownFrom, until) {
  const [created, deleted] = [parseTime(lifetime.Created), parseTime(lifetime.Deleted)];
  const begins = Math.max(created ?? -Infinity, knownFrom);
  const ends = Math.min(deleted ?? Infinity, until);
  if (begins >= ends) return [];
  // What was before the time shown says who held it as that began.
  /** @type {(at: number) => boolean} */
  const isWithin = (at) => at >= (created ?? -Infinity) && at <= ends;
  const mine = holders.filter((each) => each.to > begins && each.from < ends);
  const isNow = deleted === null && state !== null;
  const isBeginning = (created !== null && created >= knownFrom) || mine[0]?.opened?.Reason === 'first_heartbeat';
  const wasHeld = isNow ? state.Term > 0 : changes.some((change) => isWithin(Date.parse(change.Time)));
  if (isBeginning ? mine.length === 0 : !wasHeld) return [];
  let covered = isBeginning ? mine[0].from : begins;
  /** @type {RoleChanged | null} */
  let last = null;
  /** @type {import('./types').Gap[]} */
  const gaps = [];
  for (const each of mine) {
    if (each.from > covered)
      gaps.push({ from: covered, to: each.from, ended: each.opened, isHandover: isHandover(last, each.opened) });
    if (each.to >= covered) [covered, last] = [each.to, each.closed];
  }
  // A group that nobody is registered in is not in use.
  if (isNow && ends > covered && state.RegisteredSessions > 0) {
    gaps.push({
      from: covered,
      to: ends,
      ended: null,
      isOpen: true,
      // One that is over but for the next heartbeat of whoever takes over still is one.
      isHandover:
        (state.HandoverFrom !== null && state.LiveSessions > 0) || (state.PendingPrimary !== null && isStepDown(last)),
    });
  }
  if (!isNow && ends - covered > SLIVER_MS) gaps.push({ from: covered, to: ends, ended: null, isHandover: false });
  return gaps;
}

/**
 * Whether one stepped down for another, and the other was granted as soon as that was safe.
 *
 * @param {RoleChanged | null} closed
 * @param {RoleChanged | null} opened
 */
function isHandover(closed, opened) {
  return isStepDown(closed) && ['handover_completed', 'recovered'].includes(opened?.Reason ?? '');
}

/** @param {RoleChanged | null} closed */
function isStepDown(closed) {
  return ['yielded', 'override'].includes(closed?.Reason ?? '');
}

/**
 * @param {number} since
 * @param {number} until
 * @param {number} most
 */
function ticks(since, until, most) {
  const step = STEPS.find((each) => (until - since) / each <= most) ?? STEPS[STEPS.length - 1];
  // Whole hours and days are those of the times that are shown.
  const zone = -offset(until);
  const marks = [];
  for (let at = Math.ceil((since - zone) / step) * step + zone; at < until; at += step) {
    const clock = timeOfDay(at);
    marks.push({
      at,
      text:
        step >= DAY || (step >= 6 * HOUR && clock === '00:00:00')
          ? date(at).slice(5)
          : step < MINUTE
            ? clock
            : clock.slice(0, 5),
    });
  }
  return marks;
}

/** @param {(change: RoleChanged) => void} follow */
export function makeTimeline(follow) {
  /**
   * What each button stands for.
   *
   * @type {WeakMap<Element, import('./types').Bar>}
   */
  const barOf = new WeakMap();
  const lanes = h('div', { class: 'lanes' });
  const axis = h('div', { class: 'axis', 'aria-hidden': 'true' });
  const tip = h('div', { class: 'tip', role: 'tooltip', id: 'tip', hidden: true });
  const legend = h(
    'p',
    { class: 'legend', 'aria-hidden': 'true' },
    h('span', { class: 'swatch primary' }),
    'Primary ',
    h('span', { class: 'swatch pending' }),
    'PendingPrimary ',
    h('span', { class: 'swatch handover' }),
    'handover ',
    h('span', { class: 'swatch vacant' }),
    'nobody',
  );
  const hidden = h('span', {});
  const more = h(
    'p',
    { class: 'nothing', hidden: true },
    hidden,
    ' ',
    h(
      'button',
      {
        type: 'button',
        class: 'quiet',
        onclick: () => {
          isWhole = true;
          redraw();
        },
      },
      'Show all',
    ),
  );
  let isWhole = false;
  /** @type {import('./types').Past | null} */
  let latest = null;
  const redraw = () => {
    if (latest !== null) show(latest);
  };
  const node = h(
    'div',
    {
      class: 'timeline',
      role: 'group',
      'aria-label':
        'Bars over time: arrow keys go from one to the next, Enter to its row in the table of changes below',
    },
    lanes,
    axis,
    tip,
    legend,
    more,
  );
  let now = 0;
  /** @type {string | null} */
  let current = null;

  const bars = () => [...lanes.querySelectorAll('button')];

  /** @type {(button: Element) => void} */
  const openTip = (button) => {
    tip.replaceChildren(...(barOf.get(button)?.words(now) ?? []).map((line) => h('div', {}, line)));
    setAttribute(tip, 'hidden', false);
    const [box, own] = [node.getBoundingClientRect(), button.getBoundingClientRect()];
    const middle = (Math.max(own.left, box.left) + Math.min(own.right, box.right)) / 2 - box.left;
    const left = Math.min(Math.max(0, middle - tip.offsetWidth / 2), Math.max(0, box.width - tip.offsetWidth));
    tip.style.left = `${left}px`;
    tip.style.top = `${own.bottom - box.top + 6}px`;
  };
  /** @type {(event: Event) => Element | null} */
  const barAt = (event) => (event.target instanceof Element ? event.target.closest('.held') : null);
  const closeTip = () => setAttribute(tip, 'hidden', true);

  // One stop for the Tab key, however many bars there are.
  /** @type {(button: Element | undefined) => void} */
  const settle = (button) => {
    current = (button && barOf.get(button)?.key) ?? null;
    for (const each of bars()) setAttribute(each, 'tabindex', each === button ? 0 : -1);
  };
  lanes.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') return closeTip();
    const all = bars();
    const place = all.findIndex((each) => each === document.activeElement);
    const lane = document.activeElement?.closest('.lane');
    const inLane = (/** @type {number} */ step) => {
      const all = [...lanes.querySelectorAll('.lane')].filter((each) => each.querySelector('button'));
      return all[all.findIndex((each) => each === lane) + step]?.querySelector('button');
    };
    /** @type {Record<string, HTMLButtonElement | null | undefined>} */
    const places = {
      ArrowLeft: all[place - 1],
      ArrowRight: all[place + 1],
      ArrowUp: inLane(-1),
      ArrowDown: inLane(1),
      Home: all[0],
      End: all.at(-1),
    };
    const to = places[event.key];
    if (!to) return undefined;
    event.preventDefault();
    settle(to);
    to.focus();
    return undefined;
  });
  // What the pointer points at and what has the focus is explained, and stays so while the pointer
  // is on the words.
  node.addEventListener('pointerover', (event) => {
    const button = barAt(event);
    if (button) openTip(button);
    else if (!tip.contains(/** @type {Node} */ (event.target))) closeTip();
  });
  node.addEventListener('pointerleave', closeTip);
  node.addEventListener('focusin', (event) => {
    const button = barAt(event);
    if (!button) return;
    settle(button);
    openTip(button);
  });
  node.addEventListener('focusout', closeTip);
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && node.isConnected) closeTip();
  });

  const makeBar = () => {
    /** @type {HTMLButtonElement} */
    const button = h('button', {
      type: 'button',
      tabindex: -1,
      'aria-describedby': 'tip',
      onclick: () => {
        const change = barOf.get(button)?.change;
        if (change) follow(change);
      },
    });
    return {
      node: button,
      /** @param {import('./types').Bar} bar */
      update(bar) {
        barOf.set(button, bar);
        setAttribute(button, 'class', `held ${bar.kind}`);
        setAttribute(button, 'data-open', bar.isOpen);
        button.style.left = `${bar.left}%`;
        button.style.width = `${bar.width}%`;
        setAttribute(button, 'aria-label', bar.label);
      },
    };
  };

  const makeLane = () => {
    const label = h('span', { class: 'who' }, foreign(''));
    const track = h('div', { class: 'track' });
    return {
      node: h('div', { class: 'lane' }, label, track),
      /** @param {{ key: string, label: string, isVacancy: boolean, bars: import('./types').Bar[] }} lane */
      update(lane) {
        setText(label.firstChild, lane.label);
        label.classList.toggle('nobody', lane.isVacancy);
        setAttribute(label, 'title', lane.label);
        reconcile(track, lane.bars, (bar) => bar.key, makeBar);
      },
    };
  };

  /** @param {import('./types').Past} what */
  function show(what) {
    latest = what;
    const { since, until } = what;
    now = until;
    const length = until - since;
    const held = holdings(what);
    /** @type {(from: number, to: number) => { left: string, width: string }} */
    const place = (from, to) => ({
      left: Math.max(0, ((from - since) / length) * 100).toFixed(3),
      width: (((to - Math.max(from, since)) / length) * 100).toFixed(3),
    });
    /** @type {Map<string, import('./types').Bar[]>} */
    const bySession = new Map();
    for (const each of held) {
      const kind = each.role === PRIMARY ? 'primary' : 'pending';
      const list = bySession.get(each.session) ?? [];
      bySession.set(each.session, list);
      list.push({
        key: `${each.opened?.Id ?? 'since'} ${kind}`,
        kind,
        isOpen: each.closed === null,
        change: each.opened ?? each.closed,
        label: `${each.session} ${roleWord(each.role)} ${spoken(each, until)}`,
        words: (/** @type {number} */ at) => words(each, at),
        ...place(each.from, each.to),
      });
    }
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const names = new Set([...bySession.keys(), ...what.names]);
    // Where not all are drawn, those who held something are.
    /** @type {(session: string) => number} */
    const rank = (session) => (bySession.has(session) ? 0 : 1);
    const chosen = [...names]
      .sort((a, b) => rank(a) - rank(b) || compare(a, b))
      .slice(0, isWhole ? names.size : MOST_LANES);
    const shown = chosen.sort(compare).map((session) => ({
      key: `session ${session}`,
      label: session,
      isVacancy: false,
      bars: bySession.get(session) ?? [],
    }));
    const gaps = vacancies(held, what).map((gap) => ({
      key: `${gap.ended?.Id ?? `until ${gap.isOpen ? 'now' : gap.to}`}`,
      kind: gap.isHandover ? 'handover' : 'vacant',
      isOpen: gap.isOpen,
      change: gap.ended,
      label: `${gap.isHandover ? 'Handover' : 'Nobody Primary'} ${spoken({ from: gap.from, to: gap.to, closed: gap.isOpen ? null : gap }, until)}`,
      words: (/** @type {number} */ at) => [
        gap.isHandover ? 'A handover: nobody was Primary until it was safe' : 'Nobody was Primary',
        between(gap.from, gap.to, gap.isOpen, at),
      ],
      ...place(gap.from, gap.to),
    }));
    if (gaps.length > 0) shown.push({ key: 'nobody', label: 'nobody', isVacancy: true, bars: gaps });
    reconcile(lanes, shown, (lane) => lane.key, makeLane);
    const left = names.size - chosen.length;
    setAttribute(more, 'hidden', left === 0);
    setText(hidden, `${whole(left)} more ${left === 1 ? 'session is' : 'sessions are'} not shown here.`);
    const known = bars();
    if (!known.some((button) => button === document.activeElement))
      settle(known.find((button) => barOf.get(button)?.key === current) ?? known.at(-1));
    const most = node.clientWidth < 520 ? 4 : 8;
    const marks = ticks(since, until, most).map((mark) => ({ ...mark, left: ((mark.at - since) / length) * 100 }));
    reconcile(
      axis,
      marks,
      (mark) => mark.at,
      () => {
        const text = h('span', {});
        return {
          node: text,
          update(mark) {
            setText(text, mark.text);
            text.style.left = `${mark.left}%`;
          },
        };
      },
    );
  }

  return { node, show };
}

/**
 * @param {number} from
 * @param {number} to
 * @param {boolean | undefined} isOpen
 * @param {number} now
 */
function between(from, to, isOpen, now) {
  const length = duration(to - from);
  return isOpen
    ? `${time(from, now)} – now (${length})`
    : `${time(from, now, to - from < 10_000)} – ${time(to, now, to - from < 10_000)} (${length})`;
}

/**
 * @param {{ from: number, to: number, closed: unknown }} each
 * @param {number} now
 */
function spoken(each, now) {
  return each.closed === null
    ? `since ${time(each.from, now)}`
    : `from ${time(each.from, now)} to ${time(each.to, now)}`;
}

/**
 * @param {import('./types').Holding} each
 * @param {number} now
 */
function words(each, now) {
  return [
    h(
      'strong',
      {},
      foreign(each.session),
      ` ${roleWord(each.role)}`,
      each.opened && each.role === PRIMARY ? `, term ${each.opened.Term}` : '',
    ),
    between(each.from, each.to, each.closed === null, now),
    each.opened ? `began: ${reasonWord(each.opened.Reason)}` : 'began before the time shown',
    ...(each.closed ? [`ended: ${reasonWord(each.closed.Reason)}`] : []),
  ];
}
