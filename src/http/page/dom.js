// Elements and their text. Ids and names come from strangers: everything becomes a text node or an
// attribute that runs nothing, never markup.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * A new element. Properties that begin with "on" are listeners; null and false are left out.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} properties
 * @param {(Child | Child[])[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  for (const child of children.flat())
    if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/**
 * A table under the names of its columns, and the body that its rows go into. The roles are said,
 * because on a narrow screen none of it is laid out as a table.
 *
 * @param {Record<string, any>} properties
 * @param {(string | HTMLTableCellElement)[]} columns a name, or a head that somebody has made
 */
export function makeTable(properties, columns) {
  const body = h('tbody', { role: 'rowgroup' });
  const heads = columns.map((column) =>
    typeof column === 'string' ? h('th', { scope: 'col', role: 'columnheader' }, column) : column,
  );
  const head = h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads));
  return { table: h('table', { role: 'table', ...properties }, head, body), body };
}

/**
 * Text that somebody else chose: what is written from right to left stays within it.
 *
 * @param {string} text
 * @param {string} [className]
 */
export function foreign(text, className) {
  return h('bdi', { class: className }, text);
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/**
 * Changes a text only where it is another: a screen reader hears of changes.
 *
 * @param {Node | null} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element !== null && element.textContent !== text) element.textContent = text;
}

/** @type {WeakMap<Element, Map<unknown, any>>} */
const kept = new WeakMap();

/**
 * The objects behind the children that `reconcile` made.
 *
 * @param {Element} parent
 * @returns {Map<unknown, any>}
 */
export function rowsOf(parent) {
  return kept.get(parent) ?? new Map();
}

/**
 * Makes the children of `parent` those of the items, in their order. What is there already is kept
 * and updated, so that focus and selection stay. `create` gives an object with `node` and
 * `update(item)`.
 *
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => unknown} keyOf
 * @param {(item: T) => import('./types').Row<T>} create
 */
export function reconcile(parent, items, keyOf, create) {
  const known = rowsOf(parent);
  const next = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (next.has(key)) continue;
    const row = known.get(key) ?? create(item);
    row.update(item);
    next.set(key, row);
  }
  const active = document.activeElement;
  const focused = active instanceof HTMLElement && parent.contains(active) ? active : null;
  for (const [key, row] of known) if (!next.has(key)) row.node.remove();
  let place = parent.firstChild;
  for (const row of next.values()) {
    if (place !== null && row.node === place) place = place.nextSibling;
    else parent.insertBefore(row.node, place);
  }
  kept.set(parent, next);
  // What is moved loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/**
 * An element that the page's one document always has.
 *
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`The page has no element ${id}.`);
  return element;
}

/**
 * Says something to those who hear the page instead of seeing it.
 *
 * @param {string} text
 */
export function announce(text) {
  const announcer = byId('announcer');
  // The same text twice would not be said twice.
  announcer.textContent = announcer.textContent === text ? `${text}\u00a0` : text;
}
