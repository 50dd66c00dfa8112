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

/** Each window by its port: `want` (what it asked for), `key` of the stream that it has, and when it was heard of. */
const windows = new Map();
/** The streams by key, each with `isOpen`. */
const streams = new Map();
/** The credentials of those who may not see all tenants. */
const confined = new Set();

function tell(port, what) {
  port.postMessage({ turn: windows.get(port)?.want.turn, ...what });
}

function portsOf(key) {
  return [...windows].filter(([, window]) => window.key === key).map(([port]) => port);
}

function isWanted({ tenant, namespace, group }, data) {
  // An event without a place concerns everybody.
  if (tenant === undefined || data.TenantId === undefined) return true;
  return data.TenantId === tenant && data.NamespaceId === namespace && (group === undefined || data.GroupId === group);
}

/** Gives a window its stream, or says that there is no place for it. */
function place(port, window) {
  const { authorization, path } = window.want;
  const isConfined = confined.has(authorization);
  // Its own reads tell it that it may not.
  if (isConfined && path === EVERYTHING) return;
  const wide = isConfined ? path : EVERYTHING;
  const key = JSON.stringify([authorization, wide]);
  if (!streams.has(key)) {
    if (streams.size >= MOST_STREAMS) {
      tell(port, { kind: 'full' });
      return;
    }
    streams.set(key, open(key, wide, authorization));
  }
  window.key = key;
  if (streams.get(key).isOpen) tell(port, { kind: 'open' });
}

function open(key, path, authorization) {
  const held = { isOpen: false };
  const tellAll = (what) => portsOf(key).forEach((port) => tell(port, what));
  held.stream = new EventStream(path, authorization, {
    open: () => {
      held.isOpen = true;
      tellAll({ kind: 'open' });
    },
    alive: () => tellAll({ kind: 'alive' }),
    event: (name, data) => {
      for (const port of portsOf(key)) if (isWanted(windows.get(port).want, data)) tell(port, { kind: 'event', name, data });
    },
    down: (error) => {
      held.isOpen = false;
      tellAll({ kind: 'down', error: plain(error) });
    },
    refused: (refusal) => {
      streams.delete(key);
      const ports = portsOf(key);
      for (const port of ports) windows.get(port).key = null;
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
  });
  return held;
}

/** An error as it can be sent. */
function plain(error) {
  if (error === null) return null;
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

function leave(port) {
  windows.delete(port);
  settle();
}

self.addEventListener('connect', ({ ports: [port] }) => {
  port.addEventListener('message', ({ data }) => {
    if (data.kind === 'leave') return leave(port);
    if (data.kind === 'hurry') {
      streams.get(windows.get(port)?.key)?.stream.hurry();
      return undefined;
    }
    const known = windows.get(port);
    if (known?.want.turn === data.turn) {
      known.heardAt = performance.now();
      tell(port, { kind: 'here' });
      return undefined;
    }
    const window = { want: data, key: null, heardAt: performance.now() };
    windows.set(port, window);
    place(port, window);
    // The stream that it had may be nobody's now; after its new one has begun, which may be the
    // same.
    settle();
    return undefined;
  });
  port.start();
});

setInterval(() => {
  for (const [port, { heardAt }] of windows) if (performance.now() - heardAt > LOST_MS) leave(port);
}, LOOK_MS);
