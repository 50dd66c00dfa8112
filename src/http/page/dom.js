// Elements and their text. Ids and names come from strangers: everything becomes a text node or an
// attribute that runs nothing, never markup.

/** A new element. Properties that begin with "on" are listeners; null and false are left out. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text that somebody else chose: what is written from right to left stays within it. */
export function foreign(text, className) {
  return h('bdi', { class: className }, text);
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Changes a text only where it is another: a screen reader hears of changes. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const kept = new WeakMap();

/** The objects behind the children that `reconcile` made. */
export function rowsOf(parent) {
  return kept.get(parent) ?? new Map();
}

/**
 * Makes the children of `parent` those of the items, in their order. What is there already is kept
 * and updated, so that focus and selection stay. `create` gives an object with `node` and
 * `update(item)`.
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
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  for (const [key, row] of known) if (!next.has(key)) row.node.remove();
  let place = parent.firstChild;
  for (const row of next.values()) {
    if (row.node === place) place = place.nextSibling;
    else parent.insertBefore(row.node, place);
  }
  kept.set(parent, next);
  // What is moved loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Says something to those who hear the page instead of seeing it. */
export function announce(text) {
  const announcer = document.getElementById('announcer');
  // The same text twice would not be said twice.
  announcer.textContent = announcer.textContent === text ? `${text}\u00a0` : text;
}
