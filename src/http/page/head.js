// The head of the page: who is signed in and when that ends, and which version and which replica
// answers. Loaded after what is looked at first.

import { credentials } from './api.js';
import { announce, byId, foreign, setAttribute, setText } from './dom.js';
import { about } from './rights.js';
import { keepSignedIn } from './sign_in.js';

const MINUTE_MS = 60_000;

const who = byId('who');
const served = byId('served');

/** @type {string | null | undefined} By which credentials somebody was asked for. */
let askedBy = undefined;
/** @type {string | null} */
let name = null;
/** @type {number | null} When the sign-in ends without another, by the browser's clock; null where that is far off. */
let until = null;

/**
 * Asks the service, once for each who signs in. Called when something else has been answered.
 *
 * @param {boolean} [isAnew] whether another replica may answer now, or another version
 */
export async function know(isAnew = false) {
  const by = credentials.get();
  if (askedBy === by && !isAnew) return;
  askedBy = by;
  // It is only told. What may be done is decided by the service, request by request.
  const what = await about(isAnew);
  if (askedBy !== by) return;
  name = what === null || what.Kind === 'Anonymous' ? null : what.Name;
  sayWho();
  sayServed(what);
}

export function forget() {
  askedBy = undefined;
  name = null;
  until = null;
  sayWho();
  sayServed(null);
}

/**
 * Renews what somebody has signed in with, for as long as the page is there.
 *
 * @param {() => void} renewed
 */
export function keep(renewed) {
  keepSignedIn({ renewed, endsAt });
}

/** @param {number | null} end */
function endsAt(end) {
  if (end === null && until === null) return;
  if (end !== null && until === null) announce(`Your sign-in ends ${inTime(end)}. Then sign in again.`);
  until = end;
  sayWho();
}

function sayWho() {
  setAttribute(who, 'hidden', name === null && until === null);
  who.replaceChildren(
    ...(name === null ? [] : ['Signed in as ', foreign(name)]),
    ...(until === null ? [] : [name === null ? `Your sign-in ends ${inTime(until)}` : `, ends ${inTime(until)}`]),
  );
}

/** @param {import('./types').Caller | null} what */
export function sayServed(what) {
  setAttribute(served, 'hidden', what === null);
  if (what === null) return;
  setText(served, `${what.Version} · ${what.Replica}`);
  const commit = what.Commit ? `, built from ${what.Commit}` : '';
  setAttribute(served, 'title', `Version ${what.Version}${commit}, answered by the replica ${what.Replica}`);
}

/** @param {number} end */
function inTime(end) {
  const minutes = Math.ceil((end - Date.now()) / MINUTE_MS);
  if (minutes <= 0) return 'now';
  return minutes === 1 ? 'within a minute' : `in ${minutes} minutes`;
}
