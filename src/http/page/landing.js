// For those who may not see all tenants: the way to what they may see.

import { foreign, h } from './dom.js';
import { namespaceHash, tenantHash } from './places.js';

/**
 * @param {{ tenant: string, namespace?: string }} place
 */
export function placeHash({ tenant, namespace }) {
  return namespace === undefined ? tenantHash(tenant) : namespaceHash(tenant, namespace);
}

/**
 * The places that somebody may see, to choose from.
 *
 * @param {import('./types').Fault} refusal
 * @param {{ tenant: string, namespace?: string }[]} places
 */
export function offerPlaces(refusal, places) {
  const title = h('h1', { id: 'places-title', tabindex: -1 }, 'Your places');
  const links = places.map(({ tenant, namespace }) =>
    h(
      'li',
      {},
      h(
        'a',
        { href: placeHash({ tenant, namespace }) },
        foreign(tenant),
        namespace !== undefined && h('span', { class: 'slash' }, ' / '),
        namespace !== undefined && foreign(namespace),
      ),
    ),
  );
  const node = h(
    'nav',
    { class: 'door', 'aria-labelledby': 'places-title' },
    title,
    h('p', { role: 'alert' }, refusal.message),
    h('ul', { class: 'own-places' }, links),
  );
  return { node, title: 'Your places', focus: () => title.focus() };
}
