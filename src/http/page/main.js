// Which view is shown, how it is kept up to date, and what the page says about that.

import { clock, credentials } from './api.js';
import { announce, byId, h, setAttribute, setText } from './dom.js';
import { Live } from './live.js';
import { overview } from './overview.js';
import { date, reasonWord, time, timeOfDay, times, zone } from './words.js';

const main = byId('main');
const connection = byId('connection');
const banner = byId('banner');
const signOut = byId('sign-out');
const footerClock = byId('clock');
const timesSwitch = byId('times');

/** A break of the stream shorter than this is said in the corner alone. */
const TIMEOUT_MS = 1_500;

/** @type {any} */
let view = null;
/** @type {Live | null} */
let live = null;
/** When ages were last written. */
let tickedAt = -Infinity;
/** How often something else was shown. */
let turns = 0;
/** @type {string | null} The credentials that were let in last. */
let worked = null;
/** @type {typeof import('./head.js') | null} */
let head = null;

/**
 * `#/`, `#/t/{tenant}`, `#/n/{tenant}/{namespace}` or `#/g/{tenant}/{namespace}/{group}`, each with
 * parameters after a `?`.
 *
 * @param {string} hash
 * @returns {import('./types').Route}
 */
export function parseRoute(hash) {
  const [path, parameters = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [kind, ...raw] = path.split('/');
  /** @type {string[]} */
  let ids = [];
  try {
    ids = raw.map(decodeURIComponent);
  } catch {
    // A hash that somebody has cut: it leads to the beginning.
  }
  const query = new URLSearchParams(parameters);
  if (kind === 't' && ids.length === 1) return { kind: 'overview', tenant: ids[0], query };
  if (kind === 'n' && ids.length === 2) return { kind: 'overview', tenant: ids[0], namespace: ids[1], query };
  if (kind === 'g' && ids.length === 3)
    return { kind: 'group', tenant: ids[0], namespace: ids[1], group: ids[2], query };
  return { kind: 'overview', query };
}

function leave() {
  turns += 1;
  live?.stop();
  live = null;
  view = null;
  sayStatus(null);
}

/** @param {{ isFirst?: boolean, came?: string | null }} [how] `came`: what went wrong on the way back from the issuer */
async function show({ isFirst = false, came = null } = {}) {
  leave();
  const turn = turns;
  const isKnown = credentials.get() !== null;
  setAttribute(signOut, 'hidden', !isKnown);
  const route = parseRoute(location.hash);
  const context = {
    restart: () => live?.restart(),
    refresh: () => live?.refresh(),
  };
  /** @type {any} */
  const mine = route.kind === 'group' ? (await loaded(loadGroup))?.group(route, context) : overview(route, context);
  // Somebody has gone elsewhere meanwhile.
  if (turn !== turns) return;
  view = mine;
  put(mine, isFirst ? null : () => main.querySelector('h1')?.focus());
  let wasOpened = false;
  /** @type {(signal: AbortSignal, isStreamed: boolean) => Promise<number>} */
  const readMine = async (signal, isStreamed) => {
    const tookMs = await mine.read(signal, isStreamed);
    // After what is looked at first, and with credentials that are known to be good.
    loadHead().then(
      (head) => head.know(),
      () => {},
    );
    // So that it is there when a group is opened.
    void loadGroup().catch(() => {});
    return tookMs;
  };
  live = new Live(route, readMine, mine.everyMs, {
    event: (name, data) => {
      if (name === 'RoleChanged') tell(data);
      mine.event(name, data);
    },
    opened: () => {
      // It may be another replica that answers now, or another version.
      if (wasOpened) void head?.know(true);
      wasOpened = true;
      mine.opened?.();
    },
    said: sayStatus,
    refused: (refusal) => {
      leave();
      if (refusal.status === 401) void comeToTheDoor(refusal, isKnown ? null : came);
      else void land(refusal, route);
    },
  });
  live.start();
}

/** What shows a group is loaded apart: the overview is what is looked at first. */
function loadGroup() {
  return import('./group.js');
}

/** So is the head of the page. What did not come is asked for again with the next read. */
async function loadHead() {
  const loaded = await import('./head.js');
  if (head === null) {
    head = loaded;
    head.keep(() => live?.renew());
  }
  return head;
}

/**
 * A part of the page that is loaded apart; null where somebody has gone elsewhere meanwhile.
 *
 * @template T
 * @param {() => Promise<T>} load
 * @returns {Promise<T | null>}
 */
async function loaded(load) {
  const turn = turns;
  for (;;) {
    try {
      const part = await load();
      return turn === turns ? part : null;
    } catch (error) {
      if (turn !== turns) return null;
      // A file that did not come is asked for again; anything else is a fault of the page.
      if (!(error instanceof TypeError)) throw error;
      put({ node: h('p', { role: 'status' }, 'The service cannot be reached. Trying again.'), title: null }, null);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
}

/** @param {{ node: Element, title: string | null, focus: () => void }} door */
function putDoor(door) {
  setAttribute(signOut, 'hidden', credentials.get() === null);
  put(door, door.focus);
}

/**
 * Somebody is not known, or no longer. The machine may have slept, or the tab was in the
 * background, while the token was to be renewed: then that is done now. Not so for a token that
 * never counted: the next one would not, either.
 *
 * @param {import('./types').Fault} refusal
 * @param {string | null} came what went wrong on the way back from the issuer of tokens
 */
async function comeToTheDoor(refusal, came) {
  const parts = await loaded(() => Promise.all([import('./door.js'), import('./sign_in.js')]));
  if (parts === null) return;
  const [{ signIn }, { hasEnded, renew }] = parts;
  const turn = turns;
  const isRenewed = (hasEnded() || credentials.get() === worked) && (await renew());
  // Somebody has gone elsewhere meanwhile.
  if (turn !== turns) return;
  if (isRenewed) {
    show();
    return;
  }
  const door = signIn(refusal, () => show(), came);
  head?.forget();
  putDoor(door);
}

/** Whoever comes back from the issuer of tokens, which adds to the address. */
async function enter() {
  const signIn = location.search === '' ? null : await loaded(() => import('./sign_in.js'));
  const answer = signIn?.takeAnswer() ?? null;
  if (signIn === null || answer === null) {
    show({ isFirst: true });
    return;
  }
  put({ node: h('p', { role: 'status' }, 'Signing in…'), title: 'Sign in' }, null);
  show({ came: await signIn.finish(answer) });
}

/**
 * Somebody may not see what they asked for. Whoever has one place and came without a wish lands
 * there; others are shown what is theirs, or asked for it where that is not told.
 *
 * @param {import('./types').Fault} refusal
 * @param {import('./types').Route} route
 */
async function land(refusal, route) {
  const parts = await loaded(() =>
    Promise.all([loadHead(), import('./door.js'), import('./landing.js'), import('./rights.js')]),
  );
  if (parts === null) return;
  const [{ sayServed }, { choosePlace }, { offerPlaces, placeHash, placesOf }, { about }] = parts;
  const turn = turns;
  const asking = await about();
  // Somebody has gone elsewhere meanwhile.
  if (turn !== turns) return;
  sayServed(asking);
  const places = asking === null ? [] : placesOf(asking);
  if (places.length === 1 && route.tenant === undefined) {
    history.replaceState(null, '', placeHash(places[0]));
    show();
  } else if (places.length > 0) putDoor(offerPlaces(refusal, places));
  else putDoor(choosePlace(refusal, goTo));
}

/**
 * @param {string} tenant
 * @param {string} namespace
 */
function goTo(tenant, namespace) {
  const hash = `#/n/${encodeURIComponent(tenant)}/${encodeURIComponent(namespace)}`;
  if (location.hash === hash) show();
  else location.hash = hash;
}

/**
 * @param {{ node: Element, title: string | null }} what
 * @param {(() => void) | null} focus
 */
function put(what, focus) {
  document.title = what.title === null ? 'Client failover' : `${what.title} – Client failover`;
  main.replaceChildren(what.node);
  window.scrollTo(0, 0);
  focus?.();
}

// What the page says about itself.

/**
 * What is known of how new that is which is shown; null where nothing is.
 *
 * @type {import('./types').Knowledge | null}
 */
let known = null;
/**
 * Since when the stream has not been there, on the clock that nobody sets.
 *
 * @type {number | null}
 */
let downSince = null;

const STREAMS = {
  connecting: 'Connecting…',
  down: 'Stream down',
  open: 'Stream silent',
  full: 'Read every 2 s',
  missing: 'Read every 2 s',
};

/** @param {import('./types').Knowledge | null} knowledge */
function sayStatus(knowledge) {
  const wasStale = known?.isStale ?? false;
  known = knowledge;
  const isStale = known?.isStale ?? false;
  if (known?.hasRead && !isStale) {
    worked = credentials.get();
    void head?.know();
  }
  const isDown = known !== null && !known.isPaused && !known.isStreamed && known.stream !== 'connecting';
  downSince = isDown ? (downSince ?? performance.now()) : null;
  const [state, text] =
    known === null
      ? ['off', '']
      : known.isPaused
        ? ['paused', 'Paused']
        : isStale
          ? ['down', known.isJustResumed ? STREAMS.connecting : 'Not up to date']
          : !known.hasRead
            ? ['connecting', STREAMS.connecting]
            : known.isStreamed
              ? ['live', 'Live']
              : [known.stream === 'full' || known.stream === 'missing' ? 'live' : known.stream, STREAMS[known.stream]];
  setText(connection, text);
  setAttribute(connection, 'data-state', state);
  document.body.classList.toggle('stale', isStale);
  if (isStale) view?.forget?.();
  else if (wasStale) tickedAt = -Infinity;
  const said = known === null || (isStale && known.isJustResumed) ? null : bannerText(known);
  setAttribute(banner, 'hidden', said === null);
  if (said !== null) setText(banner, said);
}

/** @param {import('./types').Knowledge | null} knowledge */
function bannerText(knowledge) {
  if (knowledge === null) return null;
  if (knowledge.isStale) {
    const { error, since } = knowledge;
    const why =
      error === null
        ? 'The service does not answer.'
        : error.status !== undefined
          ? `${error.title ?? ''} ${error.message}`.trim()
          : error instanceof TypeError
            ? 'The service cannot be reached.'
            : error.message;
    const from =
      since === null
        ? ''
        : ` Nothing new is known since ${time(since, clock.now() ?? since)}: what is greyed may have changed.`;
    return `${why} Trying again.${from}`;
  }
  if (downSince === null || performance.now() - downSince < TIMEOUT_MS) return null;
  const meanwhile = 'meanwhile the state is read every two seconds.';
  switch (knowledge.stream) {
    case 'full':
      return `The other windows of this page hold all the streams that one browser may have: ${meanwhile}`;
    case 'missing':
      return `This browser cannot share a stream between windows: ${meanwhile}`;
    case 'open':
      return `The stream of changes is silent. Something on the way may hold it back; ${meanwhile}`;
    default:
      return `The stream of changes is down.${knowledge.streamError?.status === undefined ? '' : ` ${knowledge.streamError.message}`} Trying again; ${meanwhile}`;
  }
}

// Times: in UTC, or as the reader's clock has them.

function sayTimes() {
  setText(timesSwitch, times.isUtc ? 'Times: UTC' : `Times: local (${zone(Date.now())})`);
  setAttribute(timesSwitch, 'title', times.isUtc ? 'Show times in the zone of this browser' : 'Show times in UTC');
  tickedAt = -Infinity;
  // What is written with an answer alone has times, too.
  view?.rezone?.();
  live?.restart();
}

timesSwitch.addEventListener('click', () => {
  times.choose(!times.isUtc);
  sayTimes();
});
window.addEventListener('storage', (event) => {
  if (event.key !== times.STORED) return;
  times.recall();
  sayTimes();
});

// Role changes for those who hear the page: one sentence for all that happened in a second.

/** @type {import('./types').RoleChanged[]} */
let untold = [];
/** @type {number | null} */
let tellTimer = null;

/** @param {import('./types').RoleChanged} change */
function tell(change) {
  if (change.To !== 1) return;
  untold.push(change);
  tellTimer ??= setTimeout(() => {
    const [first] = untold;
    announce(
      untold.length <= 2
        ? untold
            .map((each) => `${each.GroupId}: ${each.SessionId} is Primary now, ${reasonWord(each.Reason)}.`)
            .join(' ')
        : `${untold.length} changes of Primary, the first in ${first.GroupId}.`,
    );
    untold = [];
    tellTimer = null;
  }, 1_000);
}

// What moves by itself: ages and leases, each frame as far as the view wants it.

function frame() {
  const at = performance.now();
  // What is not known does not move.
  const isStill = known === null || known.isStale;
  if (at - tickedAt >= 1_000) {
    tickedAt = at;
    if (!isStill) view?.tick?.();
    const now = clock.now();
    setText(
      footerClock,
      isStill || now === null ? '' : `Service's clock: ${date(now)} ${timeOfDay(now)} (${zone(now)})`,
    );
  }
  if (!isStill) view?.frame?.();
  requestAnimationFrame(frame);
}

signOut.addEventListener('click', () => {
  credentials.forget();
  head?.forget();
  show();
});
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', () => show());
// A page that the browser keeps for the way back would keep its stream, and a browser has few
// connections to a server.
window.addEventListener('pagehide', () => leave());
window.addEventListener('pageshow', (event) => {
  if (event.persisted) show();
});
sayTimes();
enter();
requestAnimationFrame(frame);
