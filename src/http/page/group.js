// One group: who holds which role, how long each lease still lasts, and who held the role when.

import { clock, pathOf, read, Refusal } from './api.js';
import { makeDeeds } from './deeds.js';
import { foreign, h, makeTable, reconcile, rowsOf, setAttribute, setText } from './dom.js';
import { makeFacts } from './facts.js';
import { conditionOf, flash } from './overview.js';
import { crumbs } from './places.js';
import { handsOnGroup } from './rights.js';
import { makeSpan } from './span.js';
import { makeTimeline } from './timeline.js';
import {
  actorWord,
  age,
  count,
  doubtWords,
  duration,
  handoverWords,
  isHandingOver,
  isToHandOver,
  parseTime,
  percent,
  reasonWord,
  riskWords,
  roleKind,
  roleWord,
  time,
  times,
  whole,
  zone,
  wishSentence,
} from './words.js';

/** @typedef {import('./types').RoleChanged} RoleChanged */
/** @typedef {import('./types').SessionStatus} SessionStatus */

/** The state is read every half timeout, as heartbeats come, within these bounds. */
const LEAST_POLL_MS = 1_000;
const MOST_POLL_MS = 5_000;
/** How many changes one request asks for, and how many are shown at all. */
const CHANGES_PAGE = 1_000;
const MOST_CHANGES = 4_000;
/** How many changes before a time in the past are read, to tell who held what as it began. */
const CHANGES_BEFORE = 200;
/** How many rows the table of changes has at first, and how many more at a time. */
const ROWS = 20;
const ROWS_ON_A_PHONE = 8;
const MORE_ROWS = 100;
/** Beyond so many sessions their leases move less often. */
const MANY_SESSIONS = 40;
const MANY_INTERVAL_MS = 250;
/** What the audit trail calls whoever was not asked who they are. */
const ANONYMOUS = 'anonymous';

/**
 * @param {import('./types').Route} route
 * @param {import('./types').Context} context
 */
export function group(route, context) {
  const { tenant = '', namespace = '', group: id = '' } = route;
  const path = pathOf(tenant, namespace, id);

  /** @type {import('./types').GroupStatus | null} */
  let state = null;
  let isGone = false;
  /** When the state that is shown was true, on the clock that nobody sets. */
  let stateAt = 0;
  /** @type {RoleChanged[]} */
  let changes = [];
  /**
   * When a group of this id existed, the latest first; null before that was read.
   *
   * @type {import('./types').Lifetime[] | null}
   */
  let lifetimes = null;
  /**
   * The term and the roles that were read last: without the stream a change is noticed by them.
   *
   * @type {string | null}
   */
  let rolesRead = null;
  /**
   * From when on all changes are known; null before they were read.
   *
   * @type {number | null}
   */
  let knownFrom = null;
  let changesWanted = true;
  const rows = window.matchMedia('(max-width: 40rem)').matches ? ROWS_ON_A_PHONE : ROWS;
  let rowsShown = rows;

  // The head.
  const title = h('h1', { tabindex: -1 }, foreign(id));
  const name = h('p', { class: 'name', hidden: true }, foreign(''));
  const description = h('p', { class: 'description', hidden: true }, foreign(''));
  const condition = h('div', { class: 'condition' });
  const risks = h('ul', { class: 'risks', hidden: true });
  const facts = makeFacts();
  const wishes = h('ul', { class: 'wishes', hidden: true });
  /**
   * What acts on it, for those who may.
   *
   * @type {import('./actions.js').GroupHands | null | undefined}
   */
  let hands;

  // The sessions.
  const columns = ['Session', 'Role', 'Health', 'Latest heartbeat', 'Lease'];
  const { table, body } = makeTable({ class: 'sessions', 'aria-labelledby': 'sessions' }, columns);
  const noSessions = h('p', { class: 'nothing', hidden: true }, 'No session is registered.');

  // What was.
  const span = makeSpan(route.query, () => endsAt(), choose);
  const timeline = makeTimeline((change) => showChange(change));
  const cut = h('p', { class: 'nothing', hidden: true });
  const changeColumns = ['Time', 'Session', 'Change', 'Why', 'By', 'Term'];
  const { table: changeTable, body: changeBody } = makeTable(
    { class: 'history', 'aria-labelledby': 'changes' },
    changeColumns,
  );
  const noChanges = h('p', { class: 'nothing', hidden: true });
  const more = h(
    'button',
    {
      type: 'button',
      hidden: true,
      onclick: () => {
        rowsShown += MORE_ROWS;
        showChanges();
      },
    },
    'Show more',
  );
  const zoneNote = h('p', { class: 'nothing' });
  const exported = h('span', { class: 'since', role: 'status' });

  const deeds = makeDeeds(path);

  const gone = h('p', { class: 'problem', role: 'alert', hidden: true });
  const present = h(
    'div',
    { class: 'present', hidden: true },
    h('section', { 'aria-labelledby': 'sessions' }, h('h2', { id: 'sessions' }, 'Sessions'), table, noSessions),
  );
  const past = h(
    'div',
    { class: 'past', hidden: true },
    h(
      'section',
      { 'aria-labelledby': 'timeline' },
      h('div', { class: 'row' }, h('h2', { id: 'timeline' }, 'Who held the role'), span.node),
      timeline.node,
      cut,
    ),
    h(
      'section',
      { 'aria-labelledby': 'changes' },
      h(
        'div',
        { class: 'row' },
        h('h2', { id: 'changes' }, 'Changes'),
        h('button', { type: 'button', class: 'quiet', onclick: () => exportAs('csv') }, 'Export CSV'),
        h('button', { type: 'button', class: 'quiet', onclick: () => exportAs('json') }, 'Export JSON'),
        exported,
      ),
      noChanges,
      changeTable,
      more,
      zoneNote,
    ),
    deeds.node,
  );
  const node = h(
    'div',
    { class: 'group' },
    h(
      'div',
      { class: 'head' },
      crumbs(tenant, namespace),
      h('div', { class: 'row' }, title, condition),
      name,
      description,
      risks,
      wishes,
      facts.node,
    ),
    gone,
    present,
    past,
  );

  /** @param {string} parameters */
  function choose(parameters) {
    changesWanted = true;
    rowsShown = rows;
    history.replaceState(null, '', `${location.hash.split('?')[0]}?${parameters}`);
    context.restart();
  }

  /**
   * Saves what is shown as a file: all of it, also where the table has a part.
   *
   * @param {'csv' | 'json'} form
   */
  async function exportAs(form) {
    const [since, until] = [span.since(), span.until()];
    setText(exported, 'Reading…');
    try {
      const { fileName, readHistory, save, toCsv, toJson } = await import('./export.js');
      const { changes: all, isWhole } = await readHistory(path, since, until);
      const [type, text] = form === 'csv' ? ['text/csv;charset=utf-8', toCsv(all)] : ['application/json', toJson(all)];
      save(fileName(id, since, until, form), type, text);
      setText(exported, `${isWhole ? '' : 'The latest '}${count(all.length, 'change')} saved.`);
    } catch (error) {
      setText(exported, `Nothing was saved: ${/** @type {Error} */ (error).message}`);
    }
  }

  /**
   * An answer, or null where there is nothing of that.
   *
   * @param {string} what
   * @param {import('./types').RequestOptions} options
   */
  async function find(what, options) {
    try {
      return await read(what, options);
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 404) throw error;
      return null;
    }
  }

  /** @param {AbortSignal} signal */
  async function readState(signal) {
    const answer = await find(`${path}/status`, { signal });
    const wasGone = isGone;
    isGone = answer === null;
    /** @type {import('./types').GroupStatus | null} */
    const found = answer?.body ?? null;
    state = found;
    // What came to be or ceased to be is told by its lifetimes.
    if (isGone !== wasGone) changesWanted = true;
    if (answer === null || found === null) return 0;
    stateAt = answer.at;
    clock.note(found.Time, answer.at);
    return answer.tookMs;
  }

  /** The end of the time shown: now, or the end of a group that was deleted. */
  const endsAt = () => (isGone ? parseTime(lifetimes?.[0]?.Deleted) : null) ?? clock.now() ?? Date.now();

  /**
   * All changes of the shown time, or the latest of them where there are very many.
   *
   * @param {AbortSignal} signal
   */
  async function readChanges(signal) {
    lifetimes = (await find(`${path}/lifetimes`, { signal }))?.body ?? [];
    const since = span.since();
    const to = span.to();
    /** @type {Map<number, RoleChanged>} */
    const found = new Map();
    let isWhole = false;
    while (!isWhole && found.size < MOST_CHANGES) {
      const until = to === null ? null : new Date(to).toISOString();
      const query = { since: new Date(since).toISOString(), until, skip: found.size || null, count: CHANGES_PAGE };
      const body = (await find(`${path}/transitions`, { query, signal }))?.body ?? [];
      for (const change of body) found.set(change.Id, change);
      isWhole = body.length < CHANGES_PAGE;
    }
    if (to === null) {
      // Those that came by the stream meanwhile are kept.
      for (const change of changes) if (Date.parse(change.Time) >= since) found.set(change.Id, change);
    } else if (isWhole) {
      // Who holds what now says nothing of a time in the past: what came before it does.
      const query = { until: new Date(since).toISOString(), count: CHANGES_BEFORE };
      for (const change of (await find(`${path}/transitions`, { query, signal }))?.body ?? [])
        found.set(change.Id, change);
    }
    changes = [...found.values()].sort((a, b) => b.Id - a.Id);
    knownFrom = isWhole ? since : Date.parse(changes[changes.length - 1].Time);
    changesWanted = false;
    setAttribute(cut, 'hidden', isWhole);
    if (!isWhole) setText(cut, `Only the latest ${whole(changes.length)} changes are shown.`);
  }

  function showState() {
    const shown = state;
    setAttribute(gone, 'hidden', shown !== null);
    if (shown === null) gone.replaceChildren(...goneWords());
    setAttribute(present, 'hidden', shown === null);
    setAttribute(facts.node, 'hidden', shown === null);
    setAttribute(past, 'hidden', knownFrom === null || isUnknown());
    condition.replaceChildren(...(shown === null ? [] : [conditionOf(shown)]));
    setAttribute(name, 'hidden', !shown?.Name);
    setAttribute(description, 'hidden', !shown?.Description);
    if (shown === null) {
      hands?.update(null, table, rowsOf(body));
      setAttribute(risks, 'hidden', true);
      setAttribute(wishes, 'hidden', true);
      hands?.keepFocus();
      return;
    }
    setText(description.firstChild, shown.Description ?? '');
    setText(name.firstChild, shown.Name ?? '');
    const inDoubt = doubtWords(shown, clock.now());
    const sentences = [
      ...(inDoubt === null ? [] : [inDoubt]),
      ...(isHandingOver(shown) || isToHandOver(shown) ? [handoverWords(shown)] : []),
      ...shown.Risks.map((risk) => riskWords(risk, shown)[1]),
    ];
    setAttribute(risks, 'hidden', sentences.length === 0);
    if (risks.textContent !== sentences.join(''))
      risks.replaceChildren(...sentences.map((sentence) => h('li', {}, sentence)));
    facts.update(shown);
    reconcile(body, shown.Sessions, (session) => session.SessionId, makeSession);
    for (const row of rowsOf(body).values()) row.read(shown, stateAt);
    hands?.update(shown, table, rowsOf(body));
    showWishes(shown);
    hands?.keepFocus();
    setAttribute(table, 'hidden', shown.Sessions.length === 0);
    setAttribute(noSessions, 'hidden', shown.Sessions.length !== 0);
  }

  /** @param {import('./types').GroupStatus} shown */
  function showWishes(shown) {
    const wished = shown.Sessions.filter((session) => session.Wish !== null);
    reconcile(
      wishes,
      wished,
      (session) => `${session.SessionId} ${hands ? 'to be withdrawn' : ''}`,
      ({ SessionId: id }) => {
        const words = h('span', {});
        return {
          node: h('li', {}, words, hands && [' ', hands.withdrawal(id)]),
          update: (session) => setText(words, wishSentence(session, clock.now())),
        };
      },
    );
    setAttribute(wishes, 'hidden', wished.length === 0);
  }

  /** Finds out whether there is something to act with: once, and again where that failed. */
  async function reach() {
    if (hands !== undefined) return;
    hands = null;
    try {
      hands = await handsOnGroup({ tenant, namespace, group: id });
    } catch {
      // Asked again with the next read.
      hands = undefined;
    }
    hands?.attach(node, facts.node, () => context.refresh());
    if (hands) showState();
  }

  /** Whether there is no such group, and none is known to have been. */
  const isUnknown = () => isGone && lifetimes !== null && lifetimes.length === 0 && changes.length === 0;

  function goneWords() {
    if (isUnknown()) return ['There is no such group, and nothing is known of one: is its name right?'];
    const at = parseTime(lifetimes?.[0]?.Deleted);
    if (at === null) return ['There is no such group now. What is known of its past is below.'];
    const by = lifetimes?.[0]?.DeletedBy ?? null;
    return [
      `This group was deleted at ${time(at, clock.now())}`,
      ...(by === null || by === ANONYMOUS ? [] : [' by ', foreign(by)]),
      '. What is known of its past is below.',
    ];
  }

  function showChanges() {
    const now = clock.now();
    const [since, to] = [span.since(), span.to() ?? Infinity];
    const isShown = (/** @type {number} */ at) => now === null || (at >= since && at < to);
    const known = changes.filter((change) => isShown(Date.parse(change.Time)));
    reconcile(changeBody, known.slice(0, rowsShown), (change) => change.Id, makeChange);
    setAttribute(more, 'hidden', known.length <= rowsShown);
    setText(more, `Show more (${whole(known.length - rowsShown)} left)`);
    setAttribute(changeTable, 'hidden', known.length === 0);
    setAttribute(noChanges, 'hidden', known.length !== 0);
    setText(noChanges, `No role changed ${span.words()}${isGone && span.to() === null ? ' of the group' : ''}.`);
    const whose = times.isUtc ? 'in UTC' : `in this browser's zone, ${zone(now ?? Date.now())}`;
    if (now !== null) setText(zoneNote, `Times are the service's, shown ${whose}.`);
    showTimeline();
  }

  function showTimeline() {
    if (knownFrom === null || lifetimes === null || (state === null && !isGone)) return;
    const [since, until] = [span.since(), span.until()];
    const isPast = span.to() !== null;
    timeline.show({
      changes,
      lifetimes,
      state: isPast ? null : state,
      names: (state?.Sessions ?? []).map((session) => session.SessionId),
      // Of a session that has changed since nothing is told by what it is now.
      sessions: (state?.Sessions ?? []).filter((session) => !isPast || Date.parse(session.RoleSince) <= since),
      since,
      until,
      knownFrom: Math.max(knownFrom, since),
    });
  }

  /**
   * From a bar to its row in the table.
   *
   * @param {RoleChanged} change
   */
  function showChange(change) {
    const place = changes.findIndex((each) => each.Id === change.Id);
    if (place < 0) return;
    if (place >= rowsShown) {
      rowsShown = place + 1;
      showChanges();
    }
    const row = rowsOf(changeBody).get(change.Id)?.node;
    if (!row) return;
    row.scrollIntoView({ block: 'center' });
    row.focus({ preventScroll: true });
    flash(row);
  }

  let framedAt = 0;
  return {
    node,
    title: id,
    everyMs: () =>
      state === null ? MOST_POLL_MS : Math.min(MOST_POLL_MS, Math.max(LEAST_POLL_MS, state.Milliseconds / 2)),
    /** The stream is open, perhaps again: what it could not bring is read. */
    opened() {
      changesWanted = true;
    },
    /**
     * @param {AbortSignal} signal
     * @param {boolean} isStreamed
     */
    async read(signal, isStreamed) {
      const tookMs = await readState(signal);
      const roles = JSON.stringify([
        state?.Term,
        state?.Sessions.map((session) => [session.SessionId, session.Role, session.RoleSince]),
      ]);
      if (!isStreamed && rolesRead !== null && roles !== rolesRead) changesWanted = true;
      rolesRead = roles;
      const isNew = changesWanted;
      if (isNew) await readChanges(signal);
      await deeds.read(signal, isNew, span.since(), span.to());
      showState();
      void reach();
      if (isNew) showChanges();
      else showTimeline();
      tick();
      return tookMs;
    },
    /**
     * @param {string} eventName
     * @param {any} data
     */
    event(eventName, data) {
      deeds.hear(eventName);
      if (['GroupCreated', 'GroupDeleted', 'EventsMissed'].includes(eventName)) changesWanted = true;
      if (eventName === 'DatabaseHistoryChanged') {
        // What the database has lost has not happened.
        changes = changes.filter((change) => change.Id <= data.LastIdBefore || change.Id > data.Id);
        changesWanted = true;
      }
      // What is past does not change.
      if (eventName !== 'RoleChanged' || span.to() !== null) return;
      if (!changes.some((change) => change.Id === data.Id)) {
        changes = [data, ...changes].sort((a, b) => b.Id - a.Id);
        // A page that is left open beside a group that keeps changing.
        if (changes.length > MOST_CHANGES) {
          changes.length = MOST_CHANGES;
          knownFrom = Math.max(knownFrom ?? 0, Date.parse(changes[MOST_CHANGES - 1].Time));
        }
        requestAnimationFrame(showChanges);
      }
    },
    tick,
    /** Times are shown in another zone. */
    rezone() {
      span.rezone();
      showChanges();
    },
    /** Nothing new is known: whatever depends on the time that has passed is not known either. */
    forget() {
      for (const row of rowsOf(body).values()) row.forget();
    },
    frame() {
      if (state === null || document.hidden) return;
      const at = performance.now();
      const isCalm =
        state.Sessions.length > MANY_SESSIONS || window.matchMedia('(prefers-reduced-motion: reduce)').matches;
      if (isCalm && at - framedAt < MANY_INTERVAL_MS) return;
      framedAt = at;
      // A lease that seems over: the service knows whether a heartbeat has come.
      for (const row of rowsOf(body).values()) if (row.frame(at)) context.refresh();
    },
  };

  function tick() {
    const now = clock.now();
    if (now === null) return;
    if (state !== null) facts.tick(state, now);
    for (const row of rowsOf(body).values()) row.tick(now, performance.now());
    for (const row of rowsOf(changeBody).values()) row.tick(now);
    deeds.tick(now);
    showTimeline();
  }
}

/** @param {SessionStatus} first */
function makeSession(first) {
  const id = foreign('');
  const name = h('span', { class: 'name' }, foreign(''));
  const role = h('span', { class: 'role' });
  const since = h('span', { class: 'since' });
  const health = h('span', { class: 'percent' });
  const healthBar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', {}));
  const beat = h('td', { role: 'cell', 'data-label': 'Latest heartbeat', class: 'number' });
  const left = h('span', { class: 'left' });
  const leftBar = h('span', { class: 'meter lease', 'aria-hidden': 'true' }, h('span', {}));
  const node = h(
    'tr',
    { role: 'row' },
    h('th', { scope: 'row', role: 'rowheader' }, id, name),
    h('td', { role: 'cell', 'data-label': 'Role' }, role, ' ', since),
    h('td', { role: 'cell', 'data-label': 'Health' }, h('span', { class: 'gauge' }, healthBar, health)),
    beat,
    h('td', { role: 'cell', 'data-label': 'Lease' }, h('span', { class: 'gauge' }, leftBar, left)),
  );
  let session = first;
  let timeoutMs = 1;
  let readAt = 0;
  let isAsked = false;
  /** @type {number | undefined} */
  let lastRole;
  return {
    node,
    /** @param {SessionStatus} next */
    update(next) {
      session = next;
      setText(id, session.SessionId);
      setAttribute(name, 'hidden', !session.Name);
      setText(name.firstChild, session.Name ?? '');
      const kind = roleKind(session);
      setAttribute(role, 'class', `role ${kind}`);
      setText(role, roleWord(session.Role, session.Live));
      setAttribute(node, 'data-role', kind);
      if (lastRole !== undefined && lastRole !== session.Role) flash(node);
      lastRole = session.Role;
      const percents = session.PercentHealthyStreams;
      // What it said when it was last heard of says nothing of now.
      setText(health, percents === null ? '–' : `${session.Live ? '' : 'last '}${percent(percents)}`);
      healthBar.style.setProperty('--part', String(percents !== null && session.Live ? percents / 100 : 0));
      setAttribute(healthBar, 'data-tone', percents !== null && percents < 90 ? 'warn' : null);
    },
    /**
     * @param {import('./types').GroupStatus} state
     * @param {number} at
     */
    read(state, at) {
      timeoutMs = state.Milliseconds;
      readAt = at;
      isAsked = false;
      this.frame(performance.now());
    },
    /**
     * @param {number} now
     * @param {number} at
     */
    tick(now, at) {
      const from = parseTime(session.RoleSince);
      setText(since, from === null || !session.Live ? '' : `for ${age(now - from)}`);
      setText(beat, session.HeartbeatAgeMs === null ? 'none yet' : `${age(session.HeartbeatAgeMs + at - readAt)} ago`);
    },
    forget() {
      setText(since, '');
      setText(beat, 'not known');
      setText(left, 'not known');
      leftBar.style.setProperty('--part', '0');
    },
    /**
     * Moves the lease; true if it has just come to its end.
     *
     * @param {number} at
     */
    frame(at) {
      if (!session.Live) {
        leftBar.style.setProperty('--part', '0');
        setText(left, session.LeaseLeftMs === null ? 'none yet' : 'run out');
        return false;
      }
      const leftMs = Math.max(0, (session.LeaseLeftMs ?? 0) - (at - readAt));
      leftBar.style.setProperty('--part', Math.min(1, leftMs / timeoutMs).toFixed(4));
      setAttribute(leftBar, 'data-tone', leftMs < timeoutMs / 4 ? 'warn' : null);
      setText(left, leftMs < 60_000 ? `${(Math.ceil(leftMs / 100) / 10).toFixed(1)} s` : duration(leftMs));
      if (leftMs > 0 || isAsked) return false;
      isAsked = true;
      return true;
    },
  };
}

/** @param {RoleChanged} change */
function makeChange(change) {
  const at = h('time', { datetime: change.Time });
  const node = h(
    'tr',
    { role: 'row', tabindex: -1 },
    h('th', { scope: 'row', role: 'rowheader' }, at),
    h('td', { role: 'cell', 'data-label': 'Session' }, foreign(change.SessionId)),
    h(
      'td',
      { role: 'cell', 'data-label': 'Change' },
      h('span', {}, `${roleWord(change.From)} → `, h('strong', {}, roleWord(change.To))),
    ),
    h('td', { role: 'cell', 'data-label': 'Why' }, reasonWord(change.Reason)),
    h('td', { role: 'cell', 'data-label': 'By' }, actorWord(change.Actor)),
    h('td', { role: 'cell', 'data-label': 'Term', class: 'number' }, whole(change.Term)),
  );
  return {
    node,
    update() {},
    tick: (/** @type {number} */ now) => setText(at, time(Date.parse(change.Time), now, true)),
  };
}
