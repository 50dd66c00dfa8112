// What operators may do on the page: each is one request, in a dialog that says what would come of
// it first. Loaded for those alone who may.

import { clock, pathOf } from './api.js';
import { ActDialog, stateChanged } from './dialog.js';
import { foreign, h, reconcile, setAttribute } from './dom.js';
import { deletionSentences, outlookNodes } from './outlook.js';
import { groupHash } from './places.js';
import { fits } from './rights.js';
import { timeIn } from './span.js';
import { duration, parseTime, PRIMARY, time, zone } from './words.js';

/** @typedef {import('./types').GroupStatus} GroupStatus */
/** @typedef {import('./types').SessionStatus} SessionStatus */
/** @typedef {import('./types').Caller} Caller */
/** @typedef {import('./types').Offer} Offer */
/** @typedef {import('./types').Outlook} Outlook */

/** For how long an answer waits for a switch-over: for longer than it is tried, within what the service allows. */
const WAIT_TIMEOUTS = 2;
const WAIT_MORE_S = 2;
const MOST_WAIT_S = 120;
const MINUTE_S = 60;
const HOUR_S = 3_600;
const DAY_S = 86_400;
const MOST_TIMEOUT_S = DAY_S;
const LEAST_TIMEOUT_S = 0.1;
const MAX_NAME = 260;
const MAX_DESCRIPTION = 4_096;

const TERMS = /** @type {[number, string][]} */ ([
  [15 * MINUTE_S, '15 minutes'],
  [HOUR_S, '1 hour'],
  [2 * HOUR_S, '2 hours'],
  [8 * HOUR_S, '8 hours'],
  [DAY_S, '1 day'],
  [7 * DAY_S, '7 days'],
]);

/** @param {{ Wish: string } | null} wish */
const isSwitchOver = (wish) => wish?.Wish === 'SwitchTo' || wish?.Wish === 'SwitchAway';

/** What can be done to one group and its sessions. */
export class GroupHands {
  /**
   * @param {string} tenant
   * @param {string} namespace
   * @param {string} id
   * @param {Caller} who
   */
  constructor(tenant, namespace, id, who) {
    this.path = pathOf(tenant, namespace, id);
    this.id = id;
    this.who = who;
    /** @type {GroupStatus | null} */
    this.state = null;
    /** @type {string} */
    this.roles = '';
    this.asked = () => {};
    /** @type {Element | null} */
    this.focused = null;
    /** @type {Element | null} */
    this.beside = null;
    /** @type {HTMLElement | null} */
    this.view = null;
    this.node = h('div', { class: 'hands', role: 'group', 'aria-label': 'What you may do', hidden: true });
    this.switchButton = button('Switch over…', () => this.switchOver(null));
    this.node.append(
      this.switchButton,
      button('Edit…', () => this.edit()),
      button('Delete group…', () => this.deleteGroup()),
    );
  }

  /**
   * Has a view have hands.
   *
   * @param {HTMLElement} view
   * @param {HTMLElement} place after which the buttons stand
   * @param {() => void} asked something was asked for: the state is to be read
   */
  attach(view, place, asked) {
    this.view = view;
    this.asked = asked;
    place.after(this.node);
    view.addEventListener('focusin', ({ target }) => {
      this.focused = target instanceof Element ? target : null;
      this.beside = this.focused?.closest('td') ?? null;
    });
  }

  /** What had the focus may be gone: then what is beside it has it, or the head. */
  keepFocus() {
    const gone = this.focused !== null && !this.focused.checkVisibility();
    const active = document.activeElement;
    if (!gone || (active !== document.body && active !== this.focused)) return;
    const beside = this.beside?.isConnected ? this.beside.querySelector('button') : null;
    (beside ?? this.view?.querySelector('h1'))?.focus();
  }

  /**
   * The group is in another state, or is not there any more.
   *
   * @param {GroupStatus | null} state
   * @param {HTMLTableElement} table
   * @param {Map<unknown, { node: Element }>} rows of its sessions
   */
  update(state, table, rows) {
    this.state = state;
    setAttribute(this.node, 'hidden', state === null);
    const roles = JSON.stringify([
      state?.Milliseconds,
      state?.Sessions.map((session) => [session.SessionId, session.Role, session.Live, session.Wish]),
    ]);
    if (roles !== this.roles) stateChanged();
    this.roles = roles;
    if (state === null) return;
    setAttribute(this.switchButton, 'hidden', !state.Sessions.some((session) => canTakeOver(this.state, session)));
    const head = table.tHead?.rows[0];
    if (head && head.querySelector('.acts') === null)
      head.append(h('th', { scope: 'col', role: 'columnheader', class: 'acts' }, 'Actions'));
    for (const session of state.Sessions) {
      const row = rows.get(session.SessionId)?.node;
      if (!row) continue;
      let cell = row.querySelector('td.acts');
      if (cell === null) {
        cell = h('td', { role: 'cell', 'data-label': 'Actions', class: 'acts' }, h('div', { class: 'row' }));
        row.append(cell);
      }
      this.showActs(/** @type {Element} */ (cell.firstElementChild), session);
    }
  }

  /**
   * The buttons of a session: those of what would not be refused.
   *
   * @param {Element} cell
   * @param {SessionStatus} session
   */
  showActs(cell, session) {
    const id = session.SessionId;
    const wish = session.Wish?.Wish;
    /** @type {[string, boolean, string, () => void][]} */
    const acts = [
      ['Make Primary…', canTakeOver(this.state, session), `Switch over to ${id}`, () => this.switchOver(id)],
      ['Force…', wish !== 'Forced', `Force ${id}`, () => this.force(id)],
      ['Keep out…', wish !== 'Excluded', `Keep ${id} out`, () => this.keepOut(id)],
      ['Delete…', !session.Live, `Delete session ${id}`, () => this.deleteSession(id)],
    ];
    reconcile(
      cell,
      acts.filter(([, isShown]) => isShown),
      ([text]) => text,
      ([text, , label, act]) => {
        const node = button(text, act, 'quiet');
        setAttribute(node, 'aria-label', label);
        return { node, update() {} };
      },
    );
  }

  /**
   * The button that ends what is wished of a session.
   *
   * @param {string} session
   */
  withdrawal(session) {
    const node = button('Withdraw…', () => this.withdraw(session), 'quiet');
    setAttribute(node, 'aria-label', `Withdraw what is wished of ${session}`);
    return node;
  }

  /** @param {Offer} offer */
  open(offer) {
    if (this.view === null) return;
    new ActDialog({ after: () => this.asked(), ...offer }, this.who).open(this.view);
  }

  /** @param {string | null} to */
  switchOver(to) {
    const others = (this.state?.Sessions ?? []).filter((session) => canTakeOver(this.state, session));
    const choice = h(
      'select',
      { id: 'act-to' },
      this.state?.Primary && h('option', { value: '' }, 'the best of the others'),
      others.map(({ SessionId: id }) => h('option', { value: id, selected: id === to }, id)),
    );
    const timeoutS = (this.state?.Milliseconds ?? 0) / 1_000;
    const wait = Math.min(MOST_WAIT_S, Math.ceil(WAIT_TIMEOUTS * timeoutS) + WAIT_MORE_S);
    this.open({
      title: ['Switch ', foreign(this.id), ' over'],
      intro: [
        'Another session becomes Primary, once. Nobody loses a lease: the Primary yields with its next heartbeat.',
      ],
      verb: 'Switch over',
      fields: [field('To', choice)],
      plan: () => ({
        request: {
          method: 'POST',
          path: `${this.path}/switchover`,
          query: { wait },
          body: choice.value === '' ? {} : { To: choice.value },
        },
      }),
      foresee: (outlook) => [...outlookNodes(outlook), comesBack(outlook)],
      meanwhile: `It is asked for. Until it has come about, for ${duration(wait * 1_000)} at most, this waits for it; you may close it.`,
      done: switchedOver,
    });
  }

  /** @param {string} session */
  force(session) {
    const term = termFields();
    const silent = [
      choice('act-silent', 'Replace', 'the best of the others takes its place', true),
      choice('act-silent', 'Hold', 'nobody is Primary', false),
    ];
    const isHeld = () => silent[1].querySelector('input')?.checked === true;
    this.open({
      title: ['Force ', foreign(session)],
      intro: ['It is Primary before all others while it is live, whatever their health.'],
      verb: 'Force',
      fields: [h('fieldset', {}, h('legend', {}, 'While it is silent'), silent), ...term.nodes],
      plan: () => this.wishPlan(session, term, { Wish: 'Forced', WhenSilent: isHeld() ? 'Hold' : 'Replace' }),
      foresee: outlookNodes,
      done: (answer) => wished(answer, session, ' is forced'),
    });
  }

  /** @param {string} session */
  keepOut(session) {
    const term = termFields();
    this.open({
      title: ['Keep ', foreign(session), ' out'],
      intro: ['It is not Primary, whatever its health: for maintenance, say. It heartbeats as ever.'],
      verb: 'Keep out',
      fields: term.nodes,
      plan: () => this.wishPlan(session, term, { Wish: 'Excluded' }),
      foresee: outlookNodes,
      done: (answer) => wished(answer, session, ' is kept out'),
    });
  }

  /**
   * @param {string} session
   * @param {ReturnType<typeof termFields>} term
   * @param {Record<string, string>} wish
   * @returns {ReturnType<Offer['plan']>}
   */
  wishPlan(session, term, wish) {
    const lasts = term.read();
    if ('problem' in lasts) return lasts;
    return { request: { method: 'POST', path: `${this.sessionPath(session)}/wish`, body: { ...wish, ...lasts } } };
  }

  /** @param {string} session */
  sessionPath(session) {
    return `${this.path}/clientsessions/${encodeURIComponent(session)}`;
  }

  /** @param {string} session */
  withdraw(session) {
    const wish = this.state?.Sessions.find((each) => each.SessionId === session)?.Wish ?? null;
    const path = isSwitchOver(wish) ? `${this.path}/switchover` : `${this.sessionPath(session)}/wish`;
    this.open({
      title: isSwitchOver(wish) ? ['Take the switch-over back'] : ['Withdraw what is wished of ', foreign(session)],
      verb: 'Withdraw',
      plan: () => ({ request: { method: 'DELETE', path } }),
      foresee: outlookNodes,
      done: (answer) => [h('p', {}, 'It is withdrawn.'), ...outlookNodes(answer)],
    });
  }

  /** @param {string} session */
  deleteSession(session) {
    this.open({
      title: ['Delete session ', foreign(session)],
      intro: ['Its registration is deleted, and what is wished of it. A client that comes back has to register again.'],
      verb: 'Delete session',
      tone: 'bad',
      // Not as a goodbye of its client, which may yet act.
      plan: () => ({
        request: { method: 'DELETE', path: this.sessionPath(session), query: { by: 'operator' } },
      }),
      foresee: outlookNodes,
      done: () => [h('p', {}, foreign(session), ' is deleted.')],
    });
  }

  edit() {
    const before = this.state;
    if (before === null) return;
    const fields = configurationFields(before.Name ?? '', before.Description ?? '', before.Milliseconds / 1_000);
    this.open({
      title: ['Edit ', foreign(this.id)],
      verb: 'Save',
      fields: fields.nodes,
      plan: () => {
        const read = fields.read();
        return 'problem' in read ? read : { request: { method: 'PUT', path: this.path, body: read.wanted } };
      },
      foresee: outlookNodes,
      done: () => [h('p', {}, foreign(this.id), ' is changed.')],
    });
  }

  deleteGroup() {
    const typed = h('input', { id: 'act-id', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });
    this.open({
      title: ['Delete group ', foreign(this.id)],
      verb: 'Delete group',
      tone: 'bad',
      fields: [field(['To delete it, type its id: ', foreign(this.id)], typed)],
      plan: () => ({
        request: {
          method: 'DELETE',
          path: this.path,
          // Where nobody was live when this was looked at, somebody who came since keeps it.
          query: { force: (this.state?.LiveSessions ?? 0) > 0 ? 'true' : null },
        },
        missing: typed.value === this.id ? undefined : 'Type the id of the group, so that it is not another one.',
      }),
      foresee: (outlook) => deletionSentences(outlook).map((words) => h('p', {}, words)),
      done: () => [h('p', {}, foreign(this.id), ' is deleted.')],
    });
  }
}

/**
 * The button that creates a group in a namespace.
 *
 * @param {string} tenant
 * @param {string} namespace
 * @param {string[] | null} patterns of the groups that somebody may create; null for all
 * @param {Caller} who
 */
export function createButton(tenant, namespace, patterns, who) {
  /** @type {HTMLButtonElement} */
  const opener = button('Create a group…', () => {
    const view = opener.closest('.overview');
    if (view) new ActDialog(creation(tenant, namespace, patterns), who).open(view);
  });
  return opener;
}

/**
 * @param {string} tenant
 * @param {string} namespace
 * @param {string[] | null} patterns
 * @returns {Offer}
 */
function creation(tenant, namespace, patterns) {
  const id = h('input', {
    id: 'act-id',
    maxlength: MAX_NAME,
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  const fields = configurationFields('', '', null);
  return {
    title: ['Create a group in ', foreign(tenant), ' / ', foreign(namespace)],
    verb: 'Create',
    fields: [field('Id', id), ...fields.nodes],
    canForesee: false,
    plan: () => {
      const read = fields.read();
      if (id.value === '') return { problem: 'Enter an id, by which clients name it.' };
      if (!fits(patterns, id.value))
        return { problem: `Groups that you may create have ids like ${patterns?.join(', ')}.` };
      if ('problem' in read) return read;
      return {
        request: {
          method: 'POST',
          path: `${pathOf(tenant, namespace)}/groups`,
          body: { Id: id.value, ...read.wanted },
        },
      };
    },
    foresee: () => [h('p', {}, 'Nobody is Primary there until a client registers and sends a heartbeat.')],
    done: () => [
      h('p', {}, foreign(id.value), ' is created.'),
      h('p', {}, h('a', { href: groupHash(tenant, namespace, id.value) }, 'Go to ', foreign(id.value))),
    ],
  };
}

/**
 * Whether a switch-over to a session would come about.
 *
 * @param {GroupStatus | null} state
 * @param {SessionStatus} session
 */
function canTakeOver(state, session) {
  const isForced = state?.Sessions.some((each) => each.Wish?.Wish === 'Forced') ?? false;
  return session.Live && session.Role !== PRIMARY && session.Wish?.Wish !== 'Excluded' && !isForced;
}

/**
 * That a switch-over would not last, where that is so.
 *
 * @param {Outlook} outlook
 */
function comesBack({ Primary: primary, IfSilent: { Changes: changes } }) {
  const grants = changes.filter((change) => change.To === PRIMARY);
  if (grants.length < 2 || primary === null || grants.at(-1)?.SessionId !== primary) return false;
  return h('p', {}, foreign(primary), ' is healthier, and would be Primary again: keep it out if that is not wanted.');
}

/**
 * @param {import('./types').Outlook} answer
 * @returns {Node[]}
 */
function switchedOver(answer) {
  const { Outcome: outcome, Wish: wish } = answer;
  if (outcome) {
    const { Primary: primary, TookMs: tookMs, WithoutPrimaryMs: withoutMs } = outcome;
    return [
      h('p', {}, h('strong', {}, foreign(primary), ' is Primary.')),
      h('p', {}, `It took ${duration(tookMs)}. Nobody was Primary for ${duration(withoutMs)} of that.`),
    ];
  }
  const until = parseTime(wish?.Until);
  const now = clock.now();
  return [
    h(
      'p',
      {},
      until !== null && now !== null && until > now
        ? `It has not come about yet. It is tried until ${time(until, now)}; the page of the group shows it until then.`
        : 'It has not come about in time, and was given up. See below who is Primary.',
    ),
  ];
}

/**
 * @param {Outlook} answer
 * @param {string} session
 * @param {string} is
 */
function wished(answer, session, is) {
  const until = parseTime(answer.Wish?.Until);
  const end = until === null ? 'until that is withdrawn' : `until ${time(until, clock.now())}`;
  return [h('p', {}, h('strong', {}, foreign(session), `${is}, ${end}.`)), ...outlookNodes(answer)];
}

/**
 * @param {string} text
 * @param {() => void} onclick
 * @param {string} [kind]
 */
function button(text, onclick, kind) {
  return h('button', { type: 'button', class: kind, 'aria-haspopup': 'dialog', onclick }, text);
}

/**
 * @param {string | (string | Node)[]} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
function field(label, input, hint) {
  return h(
    'div',
    { class: 'part' },
    h('label', { for: input.id }, label),
    input,
    hint && h('p', { class: 'why' }, hint),
  );
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} text
 * @param {boolean} checked
 */
function choice(name, value, text, checked) {
  return h('label', { class: 'choice' }, h('input', { type: 'radio', name, value, checked }), ` ${text}`);
}

/** How long something is to last. */
function termFields() {
  const term = h(
    'select',
    { id: 'act-term', onchange: () => setAttribute(untilPart, 'hidden', term.value !== 'until') },
    TERMS.map(([seconds, words]) => h('option', { value: seconds, selected: seconds === 2 * HOUR_S }, words)),
    h('option', { value: 'until' }, 'until a time'),
    h('option', { value: 'withdrawn' }, 'until it is withdrawn'),
  );
  const until = h('input', { id: 'act-until', type: 'datetime-local' });
  const untilPart = field(`Until (${zone(clock.now() ?? Date.now())})`, until);
  untilPart.hidden = true;
  return {
    nodes: [field('For', term), untilPart],
    /** @returns {{ For?: string, Until?: string } | { problem: string }} */
    read() {
      if (term.value === 'withdrawn') return {};
      if (term.value !== 'until') return { For: timeSpan(Number(term.value)) };
      const at = timeIn(until.value);
      if (at === null) return { problem: 'Enter until when.' };
      if (at <= (clock.now() ?? 0)) return { problem: 'That is over: enter a time to come.' };
      return { Until: new Date(at).toISOString() };
    },
  };
}

/**
 * A duration as the interface has it.
 *
 * @param {number} seconds
 */
function timeSpan(seconds) {
  const two = (/** @type {number} */ number) => String(Math.floor(number)).padStart(2, '0');
  const days = Math.floor(seconds / DAY_S);
  const rest = seconds % DAY_S;
  return `${days > 0 ? `${days}.` : ''}${two(rest / HOUR_S)}:${two((rest % HOUR_S) / 60)}:${two(rest % 60)}`;
}

/**
 * What a group is configured by.
 *
 * @param {string} name
 * @param {string} description
 * @param {number | null} timeoutS null for the service's default
 */
function configurationFields(name, description, timeoutS) {
  const nameInput = h('input', { id: 'act-name', maxlength: MAX_NAME, autocomplete: 'off', value: name });
  const descriptionInput = h('textarea', { id: 'act-description', maxlength: MAX_DESCRIPTION, rows: 3 }, description);
  const timeout = h('input', {
    id: 'act-timeout',
    type: 'number',
    min: LEAST_TIMEOUT_S,
    max: MOST_TIMEOUT_S,
    step: 'any',
    inputmode: 'decimal',
    value: timeoutS,
  });
  const hint = `Clients send a heartbeat every half of it${timeoutS === null ? '; left empty, it is the default' : ''}.`;
  return {
    nodes: [
      field('Name', nameInput),
      field('Description', descriptionInput),
      field('Failover timeout in seconds', timeout, hint),
    ],
    /** @returns {{ wanted: import('./types').WantedConfiguration } | { problem: string }} */
    read() {
      const wanted = { Name: nameInput.value || null, Description: descriptionInput.value || null };
      if (timeout.value === '' && timeoutS === null && timeout.validity.valid) return { wanted };
      const seconds = Number(timeout.value);
      if (!timeout.validity.valid || timeout.value === '' || seconds < LEAST_TIMEOUT_S || seconds > MOST_TIMEOUT_S)
        return { problem: 'The timeout is from 0.1 seconds to 86,400, which is a day.' };
      // Without what a product of such numbers has behind its last digit.
      return { wanted: { ...wanted, Milliseconds: Number((seconds * 1_000).toFixed(4)) } };
    },
  };
}
