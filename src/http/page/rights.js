// Who is asking and who answers, and what they may do where: asked once, so that nothing is shown
// that would be refused. What is refused all the same the service says; nothing is decided here.
// Loaded after what is looked at first.

import { credentials, read, Refusal } from './api.js';

/** @typedef {import('./types').Caller} Caller */

/** @type {{ by: string | null, caller: Promise<Caller> } | null} */
let known = null;

/** Who is asking; asked anew where somebody else has signed in. */
function caller() {
  const by = credentials.get();
  if (known?.by !== by) {
    const asked = { by, caller: read('whoami').then((answer) => answer.body) };
    known = asked;
    asked.caller.catch(() => {
      if (known === asked) known = null;
    });
  }
  return /** @type {{ caller: Promise<Caller> }} */ (known).caller;
}

/**
 * What the service says of itself and of whoever asks; null where it does not: a replica of an
 * earlier version cannot, and whoever has not signed in is not told.
 *
 * @param {boolean} [isAnew] whether another replica may answer now, or another version
 * @returns {Promise<import('./types').Caller | null>}
 */
export async function about(isAnew = false) {
  try {
    if (isAnew) known = null;
    return await caller();
  } catch (error) {
    if (error instanceof Refusal || error instanceof TypeError) return null;
    throw error;
  }
}

/**
 * Whether the id of a group is one of those that a right is for: in a pattern `*` stands for
 * anything.
 *
 * @param {string[] | null | undefined} patterns
 * @param {string} id
 */
export function fits(patterns, id) {
  if (!patterns) return true;
  return patterns.some((pattern) => {
    const parts = pattern.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
    return new RegExp(`^${parts.join('.*')}$`, 'su').test(id);
  });
}

/**
 * The rights of one of these roles in a namespace.
 *
 * @param {Caller} who
 * @param {string[]} roles
 * @param {string} tenant
 * @param {string} namespace
 */
function rightsAt(who, roles, tenant, namespace) {
  return who.Rights.filter(
    ({ TenantId: t, NamespaceId: n, Role: role }) =>
      roles.includes(role) && (t === '*' || t === tenant) && (n === '*' || n === namespace),
  );
}

/**
 * What may be done to a group, if anything may: with what does it, which nobody loads who may not.
 *
 * @param {{ tenant: string, namespace: string, group: string }} place
 */
export async function handsOnGroup({ tenant, namespace, group }) {
  const who = await find();
  if (!who || !rightsAt(who, ['admin'], tenant, namespace).some((right) => fits(right.Groups, group))) return null;
  const { GroupHands } = await import('./actions.js');
  return new GroupHands(tenant, namespace, group, who);
}

/**
 * The button that creates a group in a namespace, for those who may.
 *
 * @param {string} tenant
 * @param {string} namespace
 */
export async function handsOnNamespace(tenant, namespace) {
  const who = await find();
  const rights = who ? rightsAt(who, who.ClientsCreateGroups ? ['admin', 'client'] : ['admin'], tenant, namespace) : [];
  if (!who || rights.length === 0) return null;
  const patterns = rights.every((right) => right.Groups) ? rights.flatMap((right) => right.Groups ?? []) : null;
  const { createButton } = await import('./actions.js');
  return createButton(tenant, namespace, patterns, who);
}

/** Who is asking; null where that cannot be told: by a replica of an earlier version, for one. */
async function find() {
  try {
    return await caller();
  } catch (error) {
    if (error instanceof Refusal) return null;
    throw error;
  }
}
