// The addresses of what the page shows, and the way back up from it.

import { foreign, h } from './dom.js';

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

/** @param {string} tenant */
export function tenantHash(tenant) {
  return `#/t/${encodeURIComponent(tenant)}`;
}

/**
 * The way from all tenants down to what is shown, without that itself.
 *
 * @param {string} [tenant] where a namespace is shown, or a group
 * @param {string} [namespace] where a group is shown
 */
export function crumbs(tenant, namespace) {
  return h(
    'nav',
    { class: 'crumbs', 'aria-label': 'Where this is' },
    h('a', { href: '#/' }, 'All tenants'),
    tenant !== undefined && [' › ', h('a', { href: tenantHash(tenant) }, foreign(tenant))],
    tenant !== undefined &&
      namespace !== undefined && [' › ', h('a', { href: namespaceHash(tenant, namespace) }, foreign(namespace))],
  );
}
