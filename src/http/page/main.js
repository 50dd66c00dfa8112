// Which view is shown, how it is kept up to date, and what the page says about that.

import { clock, credentials, pathOf } from './api.js';
import { choosePlace, signIn } from './door.js';
import { announce, setAttribute, setText } from './dom.js';
import { group } from './group.js';
import { Live } from './live.js';
import { overview } from './overview.js';
import { date, reasonWord, time, timeOfDay, zone } from './words.js';

const main = document.getElementById('main');
const connection = document.getElementById('connection');
const banner = document.getElementById('banner');
const signOut = document.getElementById('sign-out');
const footerClock = document.getElementById('clock');

/** A break of the stream shorter than this is said in the corner alone. */
const PATIENCE_MS = 1_500;

let view = null;
let live = null;

/** `#/`, `#/n/{tenant}/{namespace}` or `#/g/{tenant}/{namespace}/{group}`, each with parameters after a `?`. */
export function parseRoute(hash) {
  const [path, parameters = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [kind, ...raw] = path.split('/');
  let ids;
  try {
    ids = raw.map(decodeURIComponent);
  } catch {
    // A hash that somebody has cut: it leads to the beginning.
    ids = [];
  }
  const query = new URLSearchParams(parameters);
  if (kind === 'n' && ids.length === 2) return { kind: 'overview', tenant: ids[0], namespace: ids[1], query };
  if (kind === 'g' && ids.length === 3) return { kind: 'group', tenant: ids[0], namespace: ids[1], group: ids[2], query };
  return { kind: 'overview', query };
}

function leave() {
  live?.stop();
  live = null;
  view = null;
}

function show({ isFirst = false } = {}) {
  leave();
  setAttribute(signOut, 'hidden', credentials.get() === null);
  const route = parseRoute(location.hash);
  const context = {
    restart: () => live?.restart(),
    refresh: () => live?.refresh(),
  };
  const mine = route.kind === 'group' ? group(route, context) : overview(route, context);
  view = mine;
  put(mine, isFirst ? null : () => main.querySelector('h1')?.focus());
  const path = pathOf(route.tenant, route.namespace, route.group);
  live = new Live(path, mine.read, mine.everyMs, {
    event: (name, data) => {
      if (name === 'RoleChanged') tell(data);
      mine.event(name, data);
    },
    state: (state, error) => {
      if (state === 'live') mine.opened?.();
      status.state = state;
      status.error = error ?? null;
      status.since ??= state === 'down' ? performance.now() : null;
      if (state !== 'down') status.since = null;
      sayStatus();
    },
    read: (error) => {
      status.readError = error;
      if (error === null) status.readAt = clock.now();
      sayStatus();
    },
    refused: (refusal) => {
      leave();
      status.state = 'off';
      status.readError = null;
      sayStatus();
      const door = refusal.status === 401 ? signIn(refusal, () => show()) : choosePlace(refusal, goTo);
      setAttribute(signOut, 'hidden', credentials.get() === null);
      put(door, door.focus);
    },
  });
  Object.assign(status, { state: 'connecting', error: null, readError: null, since: null });
  live.start();
}

function goTo(tenant, namespace) {
  const hash = `#/n/${encodeURIComponent(tenant)}/${encodeURIComponent(namespace)}`;
  if (location.hash === hash) show();
  else location.hash = hash;
}

function put(what, focus) {
  document.title = what.title === null ? 'Client failover' : `${what.title} – Client failover`;
  main.replaceChildren(what.node);
  window.scrollTo(0, 0);
  focus?.();
}

// What the page says about itself.

const status = { state: 'off', error: null, readError: null, readAt: null, since: null };

const STATES = { off: '', connecting: 'Connecting…', live: 'Live', down: 'Stream down', paused: 'Paused' };

function sayStatus() {
  const cannotRead = status.readError !== null;
  setText(connection, cannotRead && status.state !== 'connecting' ? 'Not up to date' : STATES[status.state]);
  setAttribute(connection, 'data-state', cannotRead ? 'down' : status.state);
  document.body.classList.toggle('stale', cannotRead);
  const text = bannerText(cannotRead);
  setAttribute(banner, 'hidden', text === null);
  if (text !== null) setText(banner, text);
}

function bannerText(cannotRead) {
  if (cannotRead) {
    const why = status.readError.status === undefined ? 'The service cannot be reached.' : `${status.readError.title ?? ''} ${status.readError.message}`.trim();
    const from = status.readAt === null ? '' : ` What is shown is from ${time(status.readAt, clock.now())}.`;
    return `${why} Trying again.${from}`;
  }
  const isLong = status.since !== null && performance.now() - status.since > PATIENCE_MS;
  if (status.state === 'down' && isLong) {
    const why = status.error?.status === undefined ? '' : ` ${status.error.message}`;
    return `The stream of changes is down.${why} Trying again; meanwhile the state is read every few seconds.`;
  }
  return null;
}

// Role changes for those who hear the page: one sentence for all that happened in a second.

let untold = [];
let tellTimer = null;

function tell(change) {
  if (change.To !== 1) return;
  untold.push(change);
  tellTimer ??= setTimeout(() => {
    const [first] = untold;
    announce(untold.length <= 2
      ? untold.map((each) => `${each.GroupId}: ${each.SessionId} is Primary now, ${reasonWord(each.Reason)}.`).join(' ')
      : `${untold.length} changes of Primary, the first in ${first.GroupId}.`);
    untold = [];
    tellTimer = null;
  }, 1_000);
}

// What moves by itself: ages and leases, each frame as far as the view wants it.

let tickedAt = -Infinity;

function frame() {
  const at = performance.now();
  if (at - tickedAt >= 1_000) {
    tickedAt = at;
    view?.tick?.();
    sayStatus();
    const now = clock.now();
    if (now !== null) setText(footerClock, `Service's clock: ${date(now)} ${timeOfDay(now)} (${zone(now)})`);
  }
  view?.frame?.();
  requestAnimationFrame(frame);
}

signOut.addEventListener('click', () => {
  credentials.forget();
  show();
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', () => show());
// A page that the browser keeps for the way back would keep its stream, and a browser has few connections to a server.
window.addEventListener('pagehide', () => leave());
window.addEventListener('pageshow', (event) => {
  if (event.persisted) show();
});
show({ isFirst: true });
requestAnimationFrame(frame);
