// Groups of all tenants, of one or of a namespace: those at risk first, a page at a time as the
// service lists them.

import { clock, pathOf, read } from './api.js';
import { foreign, h, makeTable, reconcile, rowsOf, setAttribute, setText } from './dom.js';
import { makeLatest, MOST_LATEST } from './latest.js';
import { makeNamespaces } from './namespaces.js';
import { crumbs, groupHash, namespaceHash, tenantHash } from './places.js';
import { makeTiles } from './tiles.js';
import {
  age,
  count,
  doubtWords,
  handoverWords,
  historyWords,
  isHandingOver,
  isTakingOver,
  isToHandOver,
  NARROWINGS,
  parseTime,
  percent,
  PRIMARY,
  riskTone,
  riskWords,
  roleKind,
  roleWord,
  standbyWords,
  whole,
} from './words.js';

const PAGE = 50;
const DEBOUNCE_MS = 250;
const POLL_MS = 10_000;
/** A count that is old is asked for again soon, where there are not so many groups that counting takes its time. */
const COUNT_AGAIN_MS = 2_000;
const MOST_COUNTED_AGAIN = 5_000;
/** The most sessions with a bar of their own in a row. */
const MOST_BARS = 6;

/**
 * What the service can put groups in order by: what its columns are called, and the two ways, the
 * usual one first. Everything else differs with every heartbeat, and is in no row of a group.
 *
 * @type {Record<string, [string, 'ascending' | 'descending'][]>}
 */
const SORTS = {
  Group: [
    ['group', 'ascending'],
    ['-group', 'descending'],
  ],
  Condition: [['risk', 'descending']],
  Term: [
    ['-term', 'descending'],
    ['term', 'ascending'],
  ],
};
const MOST_URGENT_FIRST = 'risk';

/**
 * What the groups are narrowed to, by the address.
 *
 * @param {URLSearchParams} parameters
 */
function readOnly(parameters) {
  const only =
    parameters.get('risk') ?? ['handing_over', 'at_risk'].find((name) => parameters.get(name) === 'true') ?? '';
  return Object.hasOwn(NARROWINGS, only) ? only : '';
}

/**
 * As the address and the service have it.
 *
 * @param {string} only
 * @returns {Record<string, string>}
 */
function narrowed(only) {
  if (only === '') return {};
  return only === 'at_risk' || only === 'handing_over' ? { [only]: 'true' } : { risk: only };
}

/**
 * @param {import('./types').Route} route
 * @param {import('./types').Context} context
 */
export function overview(route, context) {
  const { tenant, namespace } = route;
  const sort = route.query.get('sort') ?? '';
  const query = {
    search: route.query.get('search') ?? '',
    only: readOnly(route.query),
    sort: Object.values(SORTS).some((ways) => ways.some(([name]) => name === sort)) ? sort : MOST_URGENT_FIRST,
    skip: Math.max(0, Number.parseInt(route.query.get('skip') ?? '0', 10) || 0),
  };
  /** @type {import('./types').StatusPage | null} */
  let page = null;
  /** Whether changes may have come that the stream did not bring. */
  let historyWanted = true;

  const path =
    tenant === undefined ? '#/' : namespace === undefined ? tenantHash(tenant) : namespaceHash(tenant, namespace);
  /** @type {(what: typeof query) => string} */
  const addressOf = ({ search: text, only, sort: order, skip }) => {
    const parameters = new URLSearchParams(narrowed(only));
    if (text) parameters.set('search', text);
    if (order !== MOST_URGENT_FIRST) parameters.set('sort', order);
    if (skip) parameters.set('skip', String(skip));
    return parameters.size === 0 ? path : `${path}?${parameters}`;
  };
  /** @type {(changes: Partial<typeof query>) => void} */
  const asked = (changes) => {
    Object.assign(query, { skip: 0 }, changes);
    // The address tells what is shown, without a step back for every letter.
    history.replaceState(null, '', addressOf(query));
    onlyAtRisk.checked = query.only === 'at_risk';
    showSort();
    tiles.update(page?.Counted ?? null, query.only);
    context.restart();
  };

  // The head.
  const place =
    tenant === undefined
      ? h('h1', { tabindex: -1 }, 'All tenants')
      : namespace === undefined
        ? h('h1', { tabindex: -1 }, foreign(tenant))
        : h('h1', { tabindex: -1 }, foreign(tenant), h('span', { class: 'slash' }, ' / '), foreign(namespace));
  /** Where the button that creates a group is put, for those who may. */
  const creates = h('span', {});
  let areHandsAsked = false;
  const reach = () => {
    if (areHandsAsked || tenant === undefined || namespace === undefined) return;
    areHandsAsked = true;
    const hands = import('./rights.js').then((rights) => rights.handsOnNamespace(tenant, namespace));
    hands.then(
      (button) => button && creates.replaceChildren(button),
      () => {
        areHandsAsked = false;
      },
    );
  };
  const tiles = makeTiles(
    (only) => asked({ only }),
    (only) => addressOf({ ...query, only, skip: 0 }),
  );
  tiles.update(null, query.only);
  const news = h('p', { class: 'news', role: 'status', hidden: true });

  // The search.
  /** @type {number | undefined} */
  let debounce;
  const search = h('input', {
    type: 'search',
    id: 'search',
    placeholder:
      namespace !== undefined
        ? 'Group, session or description'
        : tenant !== undefined
          ? 'Group, session, description or namespace'
          : 'Group, session, description, tenant or namespace',
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
    checked: query.only === 'at_risk',
    onchange: () => asked({ only: onlyAtRisk.checked ? 'at_risk' : '' }),
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
  /** @type {Map<string, HTMLTableCellElement>} */
  const heads = new Map();
  for (const [column, ways] of Object.entries(SORTS)) {
    const turn = () => {
      const place = ways.findIndex(([name]) => name === query.sort);
      // The other way, and from the last of them back to what is most urgent.
      asked({ sort: ways[place + 1]?.[0] ?? MOST_URGENT_FIRST });
    };
    const button = h('button', { type: 'button', class: 'sort', onclick: turn }, column);
    heads.set(column, h('th', { scope: 'col', role: 'columnheader', 'aria-sort': 'none' }, button));
  }
  const showSort = () => {
    for (const [column, head] of heads)
      setAttribute(head, 'aria-sort', SORTS[column].find(([name]) => name === query.sort)?.[1] ?? 'none');
  };
  showSort();
  const { table, body } = makeTable(
    { class: 'groups', 'aria-label': 'Groups' },
    columns.map((column) => heads.get(column) ?? column),
  );
  openRows(body);
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

  const isOfMany = namespace === undefined;
  const latest = makeLatest(isOfMany);
  const namespaces = isOfMany ? makeNamespaces(tenant) : null;

  const node = h(
    'div',
    { class: isOfMany ? 'overview with-namespaces' : 'overview' },
    h(
      'div',
      { class: 'head' },
      tenant !== undefined && crumbs(namespace === undefined ? undefined : tenant),
      h('div', { class: 'row' }, place, creates),
      news,
      tiles.node,
    ),
    namespaces?.node,
    h('section', { class: 'list', 'aria-label': 'Groups' }, searchForm, found, table, nothing, pager),
    latest.node,
  );

  const show = () => {
    if (page === null) return;
    const { Groups: groups, Total: total, AtRisk: atRisk } = page;
    reconcile(
      body,
      groups,
      (group) => JSON.stringify([group.TenantId, group.NamespaceId, group.GroupId]),
      () => makeRow(isOfMany, query),
    );
    const [from, to] = [query.skip + 1, query.skip + groups.length];
    const what = query.search ? ` found for “${query.search}”` : '';
    setText(
      found,
      query.only !== ''
        ? `${count(total, 'group')} ${NARROWINGS[query.only][1]}${what}.`
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
            ? `No group${query.only === '' ? '' : ` ${NARROWINGS[query.only][1]}`} has that in its names, its description or the ids of its sessions.`
            : query.only !== ''
              ? `There is no group ${NARROWINGS[query.only][1]}.`
              : 'There are no groups yet. The first heartbeat is a few requests away: see the API description.',
      );
    }
    tiles.update(page.Counted, query.only);
    const said = historyWords(page.DatabaseHistory, page.Counted?.InDoubt ?? 0, clock.now());
    setAttribute(news, 'hidden', said === null);
    setText(news, said ?? '');
    tick();
  };

  const tick = () => {
    const now = clock.now();
    for (const row of rowsOf(body).values()) row.tick(now);
    latest.tick(now);
  };

  return {
    node,
    title: tenant === undefined ? null : namespace === undefined ? tenant : `${tenant} / ${namespace}`,
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
        ...narrowed(query.only),
        sort: query.sort === MOST_URGENT_FIRST ? null : query.sort,
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
          query: { count: MOST_LATEST },
          signal,
        });
        latest.note(body);
      }
      return answer.tookMs;
    },
    /**
     * @param {string} name
     * @param {any} data
     */
    event(name, data) {
      if (name === 'RoleChanged') latest.note([data]);
      if (name === 'DatabaseHistoryChanged') {
        latest.forget(data);
        historyWanted = true;
      }
    },
    tick,
  };
}

/**
 * A click anywhere in a row goes where its link leads, and the arrow keys from one group to the
 * next. The links stay what they are, for other windows and for whoever has no pointer.
 *
 * @param {HTMLElement} body
 */
function openRows(body) {
  const links = () => /** @type {HTMLAnchorElement[]} */ ([...body.querySelectorAll('th > a:first-child')]);
  body.addEventListener('click', (event) => {
    if (!(event.target instanceof Element) || event.target.closest('a, button')) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    // Whoever has marked some text wants to copy it.
    if (getSelection()?.isCollapsed === false) return;
    /** @type {HTMLAnchorElement | null | undefined} */
    const link = event.target.closest('tr')?.querySelector('th > a');
    link?.click();
  });
  body.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step === 0) return;
    const all = links();
    const row = document.activeElement?.closest('tr') ?? null;
    const to = all[all.findIndex((link) => link.closest('tr') === row) + step];
    if (!to) return;
    event.preventDefault();
    to.focus();
  });
}

/**
 * The session by which a group is found; none where its own names tell it.
 *
 * @param {import('./types').GroupStatus} group
 * @param {string} text
 */
function foundSession(group, text) {
  if (text === '') return null;
  const wanted = text.toLowerCase();
  const names = [group.GroupId, group.Name ?? '', group.TenantId, group.NamespaceId];
  if (names.some((name) => name.toLowerCase().includes(wanted))) return null;
  return group.Sessions.find((session) => session.SessionId.toLowerCase().includes(wanted))?.SessionId ?? null;
}

/**
 * @param {boolean} withPlace
 * @param {{ search: string }} query
 */
function makeRow(withPlace, query) {
  const link = h('a', {}, foreign(''));
  const name = h('span', { class: 'name' }, foreign(''));
  const where = withPlace ? h('a', { class: 'where' }, foreign(''), ' / ', foreign('')) : null;
  const session = h('span', { class: 'name', hidden: true }, 'session ', foreign(''));
  const condition = h('td', { role: 'cell', 'data-label': 'Condition', class: 'condition' });
  const primary = h('td', { role: 'cell', 'data-label': 'Primary', class: 'primary' });
  const health = h('td', { role: 'cell', 'data-label': 'Health' });
  const standbys = h('td', { role: 'cell', 'data-label': 'Standbys ready', class: 'number' });
  const term = h('td', { role: 'cell', 'data-label': 'Term', class: 'number' });
  const watermark = h('td', { role: 'cell', 'data-label': 'Data sent up to', class: 'number' });
  const node = h(
    'tr',
    { role: 'row' },
    h('th', { scope: 'row', role: 'rowheader' }, link, name, where, session),
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
      const found = foundSession(group, query.search);
      setAttribute(session, 'hidden', found === null);
      setText(session.lastChild, found ?? '');
      condition.replaceChildren(conditionOf(group));
      const tones = group.Risks.map((risk) => riskTone(risk, group));
      setAttribute(node, 'data-tone', tones.includes('bad') ? 'bad' : tones.includes('warn') ? 'warn' : null);
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
  if (isTakingOver(group)) return h('span', { class: 'since' }, 'nobody for a moment');
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
  const handover =
    isHandingOver(group) || isToHandOver(group)
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
        return h('li', { class: 'badge', 'data-tone': riskTone(risk, group), title: sentence }, word);
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
