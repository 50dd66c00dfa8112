// What answers: the service's version, and which of its replicas; and who is asking, as far as a
// way to what is theirs needs it.

import { read, Refusal } from './api.js';

/** @typedef {import('./types').About} About */

/**
 * What the service says of itself and of whoever asks; null where it does not: a replica of an
 * earlier version cannot, and whoever has not signed in is not told.
 *
 * @returns {Promise<About | null>}
 */
export async function about() {
  try {
    return (await read('whoami')).body;
  } catch (error) {
    if (error instanceof Refusal || error instanceof TypeError) return null;
    throw error;
  }
}

/** Roles that may look at groups. One for metrics alone may not. */
const LOOKING = ['viewer', 'client', 'admin'];

/**
 * The places that somebody may look at, the wide ones first: without a namespace a whole tenant,
 * and none of those below it.
 *
 * @param {Pick<About, 'Rights'>} who
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
