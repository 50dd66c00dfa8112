// For those who may not see all tenants: the way to what they may see.

import { foreign, h } from './dom.js';
import { namespaceHash, tenantHash } from './places.js';

/** Roles that may look at groups. One for metrics alone may not. */
const LOOKING = ['viewer', 'client', 'admin'];

/**
 * The places that somebody may look at, the wide ones first: without a namespace a whole tenant,
 * and none of those below it.
 *
 * @param {Pick<import('./types').Caller, 'Rights'>} who
 * @returns {{ tenant: string, namespace?: string }[]}
 */
export function placesOf({ Rights: rights }) {
  const mine = rights.filter(({ Role: role, TenantId: tenant }) => LOOKING.includes(role) && tenant !== '*');
  const whole = new Set(
    mine
      .filter(({ NamespaceId: namespace, Groups: groups }) => namespace === '*' && !groups)
      .map(({ TenantId: tenant }) => tenant),
  );
  const parts = mine.filter(({ TenantId: tenant, NamespaceId: namespace }) => namespace !== '*' && !whole.has(tenant));
  /** @type {Map<string, { tenant: string, namespace?: string }>} */
  const places = new Map();
  for (const tenant of whole) places.set(JSON.stringify([tenant]), { tenant });
  for (const { TenantId: tenant, NamespaceId: namespace } of parts)
    places.set(JSON.stringify([tenant, namespace]), { tenant, namespace });
  return [...places.values()];
}

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
