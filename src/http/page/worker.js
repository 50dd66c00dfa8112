// The streams of all windows of the page in a browser: a browser has six connections to a server,
// and a stream holds one as long as it lasts. So the windows share one, of all that whoever signed
// in may see.

import { EventStream } from './stream.js';

/** With these a browser has connections left to read by. Needed are several only where somebody may not see all tenants. */
const MOST_STREAMS = 3;
/** A window that has not said for so long that it is there has crashed, or sleeps. */
const LOST_MS = 30_000;
const LOOK_MS = 10_000;

const EVERYTHING = 'api/v1/clientfailover';

/**
 * Each window by its port: what it asked for, the key of the stream that it has, and when it was
 * heard of.
 *
 * @typedef {{ want: import('./types').Want, key: string | null, heardAt: number }} Window
 * @type {Map<MessagePort, Window>}
 */
const windows = new Map();
/**
 * The streams by key.
 *
 * @type {Map<string, { isOpen: boolean, stream: EventStream }>}
 */
const streams = new Map();
/**
 * The credentials of those who may not see all tenants.
 *
 * @type {Set<string | null>}
 */
const confined = new Set();

/**
 * @param {MessagePort} port
 * @param {import('./types').FromWorker} what
 */
function tell(port, what) {
  port.postMessage({ turn: windows.get(port)?.want.turn, ...what });
}

/** @param {string} key */
function portsOf(key) {
  return [...windows].filter(([, window]) => window.key === key).map(([port]) => port);
}

/**
 * @param {import('./types').Want} want
 * @param {{ TenantId?: string, NamespaceId?: string, GroupId?: string }} data
 */
function isWanted({ tenant, namespace, group }, data) {
  // An event without a place concerns everybody.
  if (tenant === undefined || data.TenantId === undefined) return true;
  return (
    data.TenantId === tenant &&
    (namespace === undefined || data.NamespaceId === namespace) &&
    (group === undefined || data.GroupId === group)
  );
}

/**
 * Gives a window its stream, or says that there is no place for it.
 *
 * @param {MessagePort} port
 * @param {Window} window
 */
function place(port, window) {
  const { authorization, path } = window.want;
  const isConfined = confined.has(authorization);
  // Its own reads tell it that it may not.
  if (isConfined && path === EVERYTHING) return;
  const wide = isConfined ? path : EVERYTHING;
  const key = JSON.stringify([authorization, wide]);
  const held = streams.get(key) ?? (streams.size < MOST_STREAMS ? open(key, wide, authorization) : null);
  if (held === null) {
    tell(port, { kind: 'full' });
    return;
  }
  streams.set(key, held);
  window.key = key;
  if (held.isOpen) tell(port, { kind: 'open' });
}

/**
 * @param {string} key
 * @param {string} path
 * @param {string | null} authorization
 */
function open(key, path, authorization) {
  /** @type {(what: import('./types').FromWorker) => void} */
  const tellAll = (what) => portsOf(key).forEach((port) => tell(port, what));
  /** @type {import('./types').Listener} */
  const listener = {
    open: () => {
      held.isOpen = true;
      tellAll({ kind: 'open' });
    },
    alive: () => tellAll({ kind: 'alive' }),
    event: (name, data) => {
      for (const [port, window] of windows) {
        if (window.key === key && isWanted(window.want, data)) tell(port, { kind: 'event', name, data });
      }
    },
    down: (error) => {
      held.isOpen = false;
      tellAll({ kind: 'down', error: error === null ? null : plain(error) });
    },
    refused: (refusal) => {
      streams.delete(key);
      const ports = portsOf(key);
      for (const window of windows.values()) if (window.key === key) window.key = null;
      if (refusal.status === 403 && path === EVERYTHING) {
        confined.add(authorization);
        settle();
        return;
      }
      for (const port of ports) {
        tell(port, { kind: 'refused', error: plain(refusal) });
        windows.delete(port);
      }
    },
  };
  const held = { isOpen: false, stream: new EventStream(path, authorization, listener) };
  return held;
}

/**
 * An error as it can be sent.
 *
 * @param {import('./types').Fault} error
 * @returns {import('./types').Fault}
 */
function plain(error) {
  const { status, message, title, challenge, retryAfterMs } = error;
  return { status, message, title, challenge, retryAfterMs };
}

/** Ends the streams that nobody has any more, and gives their places to those who wait. */
function settle() {
  for (const [key, { stream }] of streams) {
    if (portsOf(key).length > 0) continue;
    stream.stop();
    streams.delete(key);
  }
  for (const [port, window] of windows) if (window.key === null) place(port, window);
}

/** @param {MessagePort} port */
function leave(port) {
  windows.delete(port);
  settle();
}

/**
 * A window asks for a stream, or says again that it is there.
 *
 * @param {MessagePort} port
 * @param {import('./types').Want} want
 */
function take(port, want) {
  const known = windows.get(port);
  if (known !== undefined && known.want.turn === want.turn) {
    known.heardAt = performance.now();
    tell(port, { kind: 'here' });
    return;
  }
  // Who may not see all tenants may not do so with the next token: that need not be asked again.
  if (want.before !== null && confined.delete(want.before)) confined.add(want.authorization);
  const window = { want, key: null, heardAt: performance.now() };
  windows.set(port, window);
  place(port, window);
  // The stream that it had may be nobody's now. Only after its new one has begun, which may be the
  // same.
  settle();
}

self.addEventListener('connect', (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  port.addEventListener('message', ({ data }) => {
    /** @type {import('./types').ToWorker} */
    const said = data;
    if (said.kind === 'leave') leave(port);
    else if (said.kind === 'hurry') streams.get(windows.get(port)?.key ?? '')?.stream.hurry();
    else take(port, said);
  });
  port.start();
});

setInterval(() => {
  for (const [port, { heardAt }] of windows) if (performance.now() - heardAt > LOST_MS) leave(port);
}, LOOK_MS);
