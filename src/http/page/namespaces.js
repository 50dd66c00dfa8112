// Tenants and their namespaces, with how many groups each has.

import { pathOf, read } from './api.js';
import { foreign, h, reconcile, setAttribute, setText } from './dom.js';
import { namespaceHash, tenantHash } from './places.js';
import { count, whole } from './words.js';

const NAMESPACES_PAGE = 100;
const DEBOUNCE_MS = 250;

/**
 * The namespaces of all tenants, or of one.
 *
 * @param {string} [tenant]
 */
export function makeNamespaces(tenant) {
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
    placeholder: tenant === undefined ? 'Tenant or namespace' : 'Namespace',
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
      const { body, total } = await read(`${pathOf(tenant)}/namespaces`, { query: parameters, signal });
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
              'span',
              { class: 'place' },
              tenant === undefined && [
                h('a', { href: tenantHash(each.TenantId) }, foreign(each.TenantId)),
                h('span', { class: 'slash' }, ' / '),
              ],
              h('a', { href: namespaceHash(each.TenantId, each.NamespaceId) }, foreign(each.NamespaceId)),
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
