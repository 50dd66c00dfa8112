// Groups of all tenants or of a namespace: those at risk first, a page at a time as the service
// lists them.

import { clock, pathOf, read } from './api.js';
import { foreign, h, makeTable, reconcile, rowsOf, setAttribute, setText } from './dom.js';
import { handsOnNamespace } from './rights.js';
import {
  age,
  count,
  doubtWords,
  handoverWords,
  historyWords,
  isHandingOver,
  parseTime,
  percent,
  PRIMARY,
  reasonWord,
  riskWords,
  roleKind,
  roleWord,
  standbyWords,
  time,
  whole,
} from './words.js';

const PAGE = 50;
const NAMESPACES_PAGE = 100;
const DEBOUNCE_MS = 250;
const POLL_MS = 10_000;
/** A count that old is said to be old: it may be of another moment than the list. */
const OLD_COUNT_MS = 2_500;
/** So it is asked for again soon, where there are not so many groups that counting takes its time. */
const COUNT_AGAIN_MS = 2_000;
const MOST_COUNTED_AGAIN = 5_000;
/** The most sessions with a bar of their own in a row. */
const MOST_BARS = 6;
const MOST_CHANGES = 12;

/**
 * @param {string} tenant
 * @param {string} namespace
 * @param {string} group
 */
export function groupHash(tenant, namespace, group) {
  return `#/g/${[tenant, namespace, group].map(encodeURIComponent).join('/')}`;
}

/**
 * @param {string} tenant
 * @param {string} namespace
 */
export function namespaceHash(tenant, namespace) {
  return `#/n/${[tenant, namespace].map(encodeURIComponent).join('/')}`;
}

/**
 * @param {import('./types').Route} route
 * @param {import('./types').Context} context
 */
export function overview(route, context) {
  const { tenant, namespace = '' } = route;
  const isEverywhere = tenant === undefined;
  const query = {
    search: route.query.get('search') ?? '',
    atRisk: route.query.get('at_risk') === 'true',
    skip: Math.max(0, Number.parseInt(route.query.get('skip') ?? '0', 10) || 0),
  };
  /** @type {import('./types').StatusPage | null} */
  let page = null;
  /** Whether changes may have come that the stream did not bring. */
  let historyWanted = true;

  /** @type {(changes: Partial<typeof query>) => void} */
  const asked = (changes) => {
    Object.assign(query, { skip: 0 }, changes);
    const parameters = new URLSearchParams();
    if (query.search) parameters.set('search', query.search);
    if (query.atRisk) parameters.set('at_risk', 'true');
    if (query.skip) parameters.set('skip', String(query.skip));
    const text = parameters.toString();
    const path = isEverywhere ? '#/' : namespaceHash(tenant, namespace);
    // The address tells what is shown, without a step back for every letter.
    history.replaceState(null, '', text ? `${path}?${text}` : path);
    context.restart();
  };

  // The head.
  const place = isEverywhere
    ? h('h1', { tabindex: -1 }, 'All tenants')
    : h('h1', { tabindex: -1 }, foreign(tenant), h('span', { class: 'slash' }, ' / '), foreign(namespace));
  /** Where the button that creates a group is put, for those who may. */
  const creates = h('span', {});
  let areHandsAsked = isEverywhere;
  const reach = () => {
    if (areHandsAsked || tenant === undefined) return;
    areHandsAsked = true;
    handsOnNamespace(tenant, namespace).then(
      (button) => button && creates.replaceChildren(button),
      () => {
        areHandsAsked = false;
      },
    );
  };
  const tiles = makeTiles();
  const news = h('p', { class: 'news', role: 'status', hidden: true });

  // The search.
  /** @type {number | undefined} */
  let debounce;
  const search = h('input', {
    type: 'search',
    id: 'search',
    placeholder: isEverywhere ? 'Group, name, tenant or namespace' : 'Group or name',
    maxlength: 260,
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
    value: query.search,
    oninput: () => {
      clearTimeout(debounce);
      debounce = setTimeout(() => asked({ search: search.value.toWellFormed().trim() }), DEBOUNCE_MS);
    },
  });
  const onlyAtRisk = h('input', {
    type: 'checkbox',
    id: 'only-at-risk',
    checked: query.atRisk,
    onchange: () => asked({ atRisk: onlyAtRisk.checked }),
  });
  const searchForm = h(
    'form',
    {
      class: 'search',
      role: 'search',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        clearTimeout(debounce);
        asked({ search: search.value.toWellFormed().trim() });
      },
    },
    h('label', { for: 'search' }, 'Search'),
    search,
    h('label', { class: 'choice' }, onlyAtRisk, ' Only at risk'),
  );

  // The groups.
  const columns = ['Group', 'Condition', 'Primary', 'Health', 'Standbys ready', 'Term', 'Data sent up to'];
  const { table, body } = makeTable({ class: 'groups', 'aria-label': 'Groups, those at risk first' }, columns);
  const found = h('p', { class: 'found', role: 'status' }, 'Reading…');
  const nothing = h('p', { class: 'nothing', hidden: true });
  /** @type {(label: string, by: number) => HTMLButtonElement} */
  const turn = (label, by) =>
    h(
      'button',
      {
        type: 'button',
        onclick: () => {
          asked({ skip: Math.max(0, query.skip + by) });
          place.scrollIntoView();
        },
      },
      label,
    );
  const [previous, next] = [turn('Previous', -PAGE), turn('Next', PAGE)];
  const range = h('span', { class: 'range' });
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages of groups', hidden: true }, previous, range, next);

  const changes = makeChanges(isEverywhere);
  const namespaces = isEverywhere ? makeNamespaces() : null;

  const node = h(
    'div',
    { class: isEverywhere ? 'overview with-namespaces' : 'overview' },
    h(
      'div',
      { class: 'head' },
      !isEverywhere &&
        h('nav', { class: 'crumbs', 'aria-label': 'Where this is' }, h('a', { href: '#/' }, 'All tenants')),
      h('div', { class: 'row' }, place, creates),
      news,
      tiles.node,
    ),
    namespaces?.node,
    h('section', { class: 'list', 'aria-label': 'Groups' }, searchForm, found, table, nothing, pager),
    changes.node,
  );

  const show = () => {
    if (page === null) return;
    const { Groups: groups, Total: total, AtRisk: atRisk } = page;
    reconcile(
      body,
      groups,
      (group) => JSON.stringify([group.TenantId, group.NamespaceId, group.GroupId]),
      () => makeRow(isEverywhere),
    );
    const [from, to] = [query.skip + 1, query.skip + groups.length];
    const what = query.search ? ` found for “${query.search}”` : '';
    setText(
      found,
      query.atRisk
        ? `${count(total, 'group')} at risk${what}.`
        : `${count(total, 'group')}${what}, ${whole(atRisk)} at risk.`,
    );
    setText(range, groups.length === 0 ? '' : `${whole(from)}–${whole(to)} of ${whole(total)}`);
    setAttribute(pager, 'hidden', total <= PAGE && query.skip === 0);
    previous.disabled = query.skip === 0;
    next.disabled = query.skip + PAGE >= total;
    setAttribute(table, 'hidden', groups.length === 0);
    setAttribute(nothing, 'hidden', groups.length !== 0);
    if (groups.length === 0) {
      setText(
        nothing,
        query.skip > 0
          ? 'There are no groups on this page any more.'
          : query.search
            ? 'No group has that in its names.'
            : query.atRisk
              ? 'No group is at risk.'
              : 'There are no groups yet. The first heartbeat is a few requests away: see the API description.',
      );
    }
    tiles.update(page.Counted);
    const said = historyWords(page.DatabaseHistory, page.Counted?.InDoubt ?? 0, clock.now());
    setAttribute(news, 'hidden', said === null);
    setText(news, said ?? '');
    tick();
  };

  const tick = () => {
    const now = clock.now();
    for (const row of rowsOf(body).values()) row.tick(now);
    changes.tick(now);
  };

  return {
    node,
    title: isEverywhere ? null : `${tenant} / ${namespace}`,
    everyMs: () =>
      page?.Counted && page.Counted.AgeMs > COUNT_AGAIN_MS / 4 && page.Total <= MOST_COUNTED_AGAIN
        ? COUNT_AGAIN_MS
        : POLL_MS,
    opened() {
      historyWanted = true;
    },
    /**
     * @param {AbortSignal} signal
     * @param {boolean} isStreamed
     */
    async read(signal, isStreamed) {
      const parameters = {
        search: query.search,
        at_risk: query.atRisk ? 'true' : null,
        skip: query.skip || null,
        count: PAGE,
      };
      const [answer] = await Promise.all([
        read(`${pathOf(tenant, namespace)}/status`, { query: parameters, signal }),
        namespaces?.read(signal),
      ]);
      /** @type {import('./types').StatusPage} */
      const { Groups: groups } = (page = answer.body);
      if (groups.length > 0) clock.note(groups[0].Time, answer.at);
      show();
      reach();
      // After what is looked at first; and again where the stream did not bring it.
      if (historyWanted || !isStreamed) {
        historyWanted = false;
        const { body } = await read(`${pathOf(tenant, namespace)}/transitions`, {
          query: { count: MOST_CHANGES },
          signal,
        });
        changes.note(body);
      }
      return answer.tookMs;
    },
    /**
     * @param {string} name
     * @param {any} data
     */
    event(name, data) {
      if (name === 'RoleChanged') changes.note([data]);
      if (name === 'DatabaseHistoryChanged') {
        changes.forget(data);
        historyWanted = true;
      }
    },
    tick,
  };
}

/** The counts of everything there, as the service takes them in the background. */
function makeTiles() {
  /** @typedef {import('./types').Counted} Counted */
  /** @type {[string, (counted: Counted) => string, ((counted: Counted) => string | false)?][]} */
  const kinds = [
    ['Groups', (c) => whole(c.Groups)],
    ['At risk', (c) => whole(c.AtRisk), (c) => c.AtRisk > 0 && 'bad'],
    ['No Primary', (c) => whole(c.NoPrimary), (c) => c.NoPrimary > 0 && 'bad'],
    ['No standby', (c) => whole(c.NoStandby), (c) => c.NoStandby > 0 && 'warn'],
    ['Unhealthy', (c) => whole(c.PrimaryUnhealthy), (c) => c.PrimaryUnhealthy > 0 && 'warn'],
    ['Flapping', (c) => whole(c.Flapping), (c) => c.Flapping > 0 && 'warn'],
    ['Sessions live', (c) => `${whole(c.LiveSessions)} of ${whole(c.RegisteredSessions)}`],
  ];
  // What is wrong with few installations takes no room on the others; a replica of an earlier
  // version does not count it.
  /** @type {[string, (counted: Counted) => number][]} */
  const seldomKinds = [
    ['Same id twice', (c) => c.SameIdTwice ?? 0],
    ['Data stands still', (c) => c.DataStandsStill ?? 0],
    ['Clock ahead', (c) => c.ClockAhead ?? 0],
    ['Seldom heartbeats', (c) => c.SeldomHeartbeats ?? 0],
    ['Many sessions', (c) => c.ManySessions ?? 0],
  ];
  const tiles = kinds.map(([label, value, tone]) => {
    const number = h('dd', {}, '–');
    return { node: h('div', { class: 'tile' }, h('dt', {}, label), number), number, value, tone };
  });
  const seldomTiles = seldomKinds.map(([label, value]) => {
    const number = h('dd', {});
    const node = h('div', { class: 'tile', 'data-tone': 'warn', hidden: true }, h('dt', {}, label), number);
    return { node, number, value };
  });
  const old = h('p', { class: 'old', hidden: true });
  return {
    node: h(
      'div',
      { class: 'counts' },
      h(
        'dl',
        { class: 'tiles' },
        tiles.map((tile) => tile.node),
        seldomTiles.map((tile) => tile.node),
      ),
      old,
    ),
    /** @param {Counted | null} counted */
    update(counted) {
      for (const { node, number, value, tone } of tiles) {
        setText(number, counted === null ? '–' : value(counted));
        setAttribute(node, 'data-tone', counted === null ? null : tone?.(counted));
      }
      for (const { node, number, value } of seldomTiles) {
        const groups = counted === null ? 0 : value(counted);
        setAttribute(node, 'hidden', groups === 0);
        setText(number, whole(groups));
      }
      const isOld = counted !== null && counted.AgeMs > OLD_COUNT_MS;
      setAttribute(old, 'hidden', !isOld);
      if (isOld) setText(old, `Counted ${age(counted.AgeMs)} ago.`);
    },
  };
}

/** @param {boolean} withPlace */
function makeRow(withPlace) {
  const link = h('a', {}, foreign(''));
  const name = h('span', { class: 'name' }, foreign(''));
  const where = withPlace ? h('a', { class: 'where' }, foreign(''), ' / ', foreign('')) : null;
  const condition = h('td', { role: 'cell', 'data-label': 'Condition', class: 'condition' });
  const primary = h('td', { role: 'cell', 'data-label': 'Primary', class: 'primary' });
  const health = h('td', { role: 'cell', 'data-label': 'Health' });
  const standbys = h('td', { role: 'cell', 'data-label': 'Standbys ready', class: 'number' });
  const term = h('td', { role: 'cell', 'data-label': 'Term', class: 'number' });
  const watermark = h('td', { role: 'cell', 'data-label': 'Data sent up to', class: 'number' });
  const node = h(
    'tr',
    { role: 'row' },
    h('th', { scope: 'row', role: 'rowheader' }, link, name, where),
    condition,
    primary,
    health,
    standbys,
    term,
    watermark,
  );
  /** @type {import('./types').GroupStatus | null} */
  let shown = null;
  /** @type {Element | null} */
  let since = null;
  /** @type {string | null | undefined} */
  let lastPrimary;
  return {
    node,
    /** @param {import('./types').GroupStatus} group */
    update(group) {
      const [tenant, namespace, id] = [group.TenantId, group.NamespaceId, group.GroupId];
      setAttribute(link, 'href', groupHash(tenant, namespace, id));
      setText(link.firstChild, id);
      setAttribute(name, 'hidden', !group.Name);
      setText(name.firstChild, group.Name ?? '');
      if (where) {
        setAttribute(where, 'href', namespaceHash(tenant, namespace));
        setText(where.firstChild, tenant);
        setText(where.lastChild, namespace);
      }
      condition.replaceChildren(conditionOf(group));
      setAttribute(
        node,
        'data-tone',
        group.Risks.length === 0 ? null : group.Risks.includes('NoPrimary') ? 'bad' : 'warn',
      );
      since = h('span', { class: 'since' });
      primary.replaceChildren(
        ...(group.Primary === null
          ? [nobody(group)]
          : [h('span', { class: 'role primary' }, foreign(group.Primary)), since]),
        ...(group.PendingPrimary === null
          ? []
          : [h('span', { class: 'role pending' }, foreign(group.PendingPrimary), ' is to take over')]),
      );
      if (lastPrimary !== undefined && lastPrimary !== group.Primary) flash(node);
      lastPrimary = group.Primary;
      health.replaceChildren(healthBars(group));
      setText(standbys, standbyWords(group));
      setText(term, whole(group.Term));
      shown = group;
    },
    /** @param {number | null} now */
    tick(now) {
      if (now === null || shown === null) return;
      const from = parseTime(shown.PrimarySince);
      if (from !== null) setText(since, `for ${age(now - from)}`);
      const sent = parseTime(shown.LastDataSendTime);
      setText(watermark, sent === null ? '–' : `${age(now - sent)} ago`);
    },
  };
}

/**
 * Instead of a Primary. Where nobody has registered nobody is missed.
 *
 * @param {import('./types').GroupStatus} group
 */
export function nobody(group) {
  if (isHandingOver(group)) return h('span', { class: 'since' }, 'handover from ', foreign(group.HandoverFrom ?? ''));
  return h('span', { class: group.RegisteredSessions === 0 ? 'since' : 'none' }, 'nobody');
}

/**
 * A glance that says: here something has changed.
 *
 * @param {HTMLElement} node
 */
export function flash(node) {
  node.classList.remove('changed');
  // The animation begins anew only if the browser has seen the node without it.
  void node.offsetWidth;
  node.classList.add('changed');
}

/**
 * Why a group is at risk, in words; or that it is not.
 *
 * @param {import('./types').GroupStatus} group
 */
export function conditionOf(group) {
  const inDoubt = doubtWords(group, clock.now());
  const doubt = inDoubt === null ? null : h('li', { class: 'badge', 'data-tone': 'warn', title: inDoubt }, 'In doubt');
  const handover = isHandingOver(group)
    ? h('li', { class: 'badge', 'data-tone': 'handover', title: handoverWords(group) }, 'Handover')
    : null;
  if (group.Risks.length > 0 || handover || doubt) {
    return h(
      'ul',
      { class: 'badges' },
      doubt,
      handover,
      group.Risks.map((risk) => {
        const [word, sentence] = riskWords(risk, group);
        return h('li', { class: 'badge', 'data-tone': risk === 'NoPrimary' ? 'bad' : 'warn', title: sentence }, word);
      }),
    );
  }
  return group.RegisteredSessions === 0
    ? h('span', { class: 'badge', 'data-tone': 'off', title: 'No session is registered.' }, 'Not in use')
    : h('span', { class: 'badge', 'data-tone': 'good' }, 'Fine');
}

/**
 * A bar for each session, as high as it is healthy.
 *
 * @param {import('./types').GroupStatus} group
 */
function healthBars(group) {
  const sessions = group.Sessions.slice(0, MOST_BARS);
  const words = sessions.map(
    (session) =>
      `${session.SessionId}: ${roleWord(session.Role, session.Live)}${session.Live ? `, ${percent(session.PercentHealthyStreams ?? 0)}` : ''}`,
  );
  const more = group.RegisteredSessions - sessions.length;
  const bars = sessions.map((session) => {
    const bar = h('span', { class: 'bar', 'data-role': roleKind(session) });
    bar.style.setProperty('--health', String(session.Live ? (session.PercentHealthyStreams ?? 0) / 100 : 0));
    return bar;
  });
  const primary = sessions.find((session) => session.Role === PRIMARY);
  return h(
    'div',
    { class: 'health', title: words.join('\n') },
    h(
      'span',
      { class: 'bars', 'aria-hidden': 'true' },
      bars,
      more > 0 && h('span', { class: 'more' }, `+${whole(more)}`),
    ),
    h('span', { class: 'percent', 'aria-hidden': 'true' }, primary ? percent(primary.PercentHealthyStreams ?? 0) : ''),
    h('span', { class: 'unseen' }, words.join('; ') + (more > 0 ? `; and ${whole(more)} more` : '')),
  );
}

/**
 * The latest changes, those that came while somebody looked among them.
 *
 * @param {boolean} withPlace
 */
function makeChanges(withPlace) {
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
      kept = [...known.values()].sort((a, b) => b.Id - a.Id).slice(0, MOST_CHANGES);
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

/** Tenants and their namespaces. */
function makeNamespaces() {
  const query = { search: '', skip: 0 };
  const list = h('ul', { class: 'namespaces' });
  const range = h('span', { class: 'range' });
  const load = async () => {
    try {
      await api.read();
    } catch {
      // What goes wrong is said when the groups are read.
    }
  };
  /** @type {number | undefined} */
  let debounce;
  const search = h('input', {
    type: 'search',
    id: 'search-namespaces',
    placeholder: 'Tenant or namespace',
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
    maxlength: 260,
    oninput: () => {
      clearTimeout(debounce);
      debounce = setTimeout(() => {
        Object.assign(query, { search: search.value.toWellFormed().trim(), skip: 0 });
        load();
      }, DEBOUNCE_MS);
    },
  });
  const find = h('div', { class: 'search', hidden: true }, h('label', { for: 'search-namespaces' }, 'Find'), search);
  /** @type {(label: string, by: number) => HTMLButtonElement} */
  const turn = (label, by) =>
    h(
      'button',
      {
        type: 'button',
        onclick: () => {
          query.skip = Math.max(0, query.skip + by);
          load();
        },
      },
      label,
    );
  const [previous, next] = [turn('Previous', -NAMESPACES_PAGE), turn('Next', NAMESPACES_PAGE)];
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages of namespaces', hidden: true }, previous, range, next);
  const nothing = h('p', { class: 'nothing', hidden: true }, 'None yet.');
  const node = h(
    'details',
    { class: 'places', open: window.matchMedia('(min-width: 68rem)').matches },
    h('summary', {}, h('h2', {}, 'Namespaces')),
    find,
    list,
    nothing,
    pager,
  );
  const api = {
    node,
    /** @param {AbortSignal} [signal] */
    async read(signal) {
      const parameters = { search: query.search, skip: query.skip || null, count: NAMESPACES_PAGE };
      const { body, total } = await read(`${pathOf()}/namespaces`, { query: parameters, signal });
      /** @type {import('./types').NamespaceStatus[]} */
      const found = body;
      reconcile(
        list,
        found,
        (each) => JSON.stringify([each.TenantId, each.NamespaceId]),
        (each) => {
          const atRisk = h('span', { class: 'badge', 'data-tone': 'warn' });
          const groups = h('span', { class: 'count' });
          const node = h(
            'li',
            {},
            h(
              'a',
              { href: namespaceHash(each.TenantId, each.NamespaceId) },
              foreign(each.TenantId),
              h('span', { class: 'slash' }, ' / '),
              foreign(each.NamespaceId),
            ),
            groups,
            atRisk,
          );
          return {
            node,
            /** @param {import('./types').NamespaceStatus} counted */
            update(counted) {
              setText(groups, count(counted.Groups, 'group'));
              setAttribute(atRisk, 'hidden', counted.GroupsAtRisk === 0);
              setText(atRisk, `${whole(counted.GroupsAtRisk)} at risk`);
            },
          };
        },
      );
      setAttribute(find, 'hidden', total <= 12 && query.search === '');
      setAttribute(nothing, 'hidden', body.length > 0);
      setAttribute(pager, 'hidden', total <= NAMESPACES_PAGE);
      setText(range, `${whole(query.skip + 1)}–${whole(query.skip + body.length)} of ${whole(total)}`);
      previous.disabled = query.skip === 0;
      next.disabled = query.skip + NAMESPACES_PAGE >= total;
    },
  };
  return api;
}
