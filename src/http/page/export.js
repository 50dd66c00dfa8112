// A history as a file: read again from the service, page by page and whole, and made here.

import { read } from './api.js';
import { roleWord } from './words.js';

/** @typedef {import('./types').RoleChanged} RoleChanged */

const PAGE = 1_000;
/** The most changes of one file. */
const MOST = 200_000;

/**
 * All changes of a group's roles in that time, the earliest first; of more than a file has, the
 * latest.
 *
 * @param {string} path the group's
 * @param {number} since
 * @param {number} until
 * @returns {Promise<{ changes: RoleChanged[], isWhole: boolean }>}
 */
export async function readHistory(path, since, until) {
  /** @type {Map<number, RoleChanged>} */
  const found = new Map();
  let skip = 0;
  let isWhole = false;
  while (!isWhole && found.size < MOST) {
    const query = { since: new Date(since).toISOString(), until: new Date(until).toISOString(), skip, count: PAGE };
    const { body } = await read(`${path}/transitions`, { query });
    for (const change of body) found.set(change.Id, change);
    skip += body.length;
    isWhole = body.length < PAGE;
  }
  return { changes: [...found.values()].sort((a, b) => a.Id - b.Id), isWhole };
}

/** @type {[string, (change: RoleChanged) => string | number][]} */
const COLUMNS = [
  ['Id', (change) => change.Id],
  ['Time', (change) => change.Time],
  ['Tenant', (change) => change.TenantId],
  ['Namespace', (change) => change.NamespaceId],
  ['Group', (change) => change.GroupId],
  ['Session', (change) => change.SessionId],
  ['From', (change) => roleWord(change.From)],
  ['To', (change) => roleWord(change.To)],
  ['Term', (change) => change.Term],
  ['Reason', (change) => change.Reason],
  ['Actor', (change) => change.Actor],
];

/**
 * A field of a CSV file. Names come from strangers, and spreadsheets take a text for a formula that
 * begins so: it gets an apostrophe before it.
 *
 * @param {string | number} value
 */
export function csvField(value) {
  if (typeof value === 'number') return String(value);
  const harmless = /^[\s\0]*[=+\-@＝＋－＠]|^[\t\r\n]/u.test(value) ? `'${value}` : value;
  return `"${harmless.replaceAll('"', '""')}"`;
}

/**
 * As RFC 4180 has it, with times in UTC.
 *
 * @param {RoleChanged[]} changes
 */
export function toCsv(changes) {
  const rows = changes.map((change) => COLUMNS.map(([, value]) => csvField(value(change))).join(','));
  return [COLUMNS.map(([name]) => name).join(','), ...rows, ''].join('\r\n');
}

/**
 * As the service has them.
 *
 * @param {RoleChanged[]} changes
 */
export function toJson(changes) {
  return `${JSON.stringify(changes, null, 2)}\n`;
}

/**
 * Hands a text to the browser as a file.
 *
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  // The browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/**
 * A name that every system takes: of the group's id what is harmless in one.
 *
 * @param {string} group
 * @param {number} since
 * @param {number} until
 * @param {string} extension
 */
export function fileName(group, since, until, extension) {
  const id =
    group
      .replaceAll(/[^\p{L}\p{N}._-]+/gu, '_')
      .replace(/^\.+/, '')
      .slice(0, 80) || 'group';
  const day = (/** @type {number} */ ms) =>
    new Date(ms).toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
  return `${id}_${day(since)}Z_${day(until)}Z.${extension}`;
}
