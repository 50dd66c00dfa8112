// Sign-in with the issuer of tokens (OpenID Connect, authorization code with PKCE): the way there,
// the way back, and how it goes on before a token ends. The service does the exchange, so the page
// speaks to nobody else.

import { bearer, credentials, read, Refusal, request } from './api.js';

const BEGUN = 'client-failover.sign-in';

/** How often it is looked whether a token is about to end. A tab in the background may look once a minute only. */
const LOOK_MS = 5_000;
/** It is renewed when so much of its time is left, and no sooner than that. */
const LEFT_SHARE = 0.25;
const LEFT_MS = 300_000;
/** Where it cannot be renewed, its end is said so long before. */
const SAID_MS = 120_000;

/** The most that is shown of what an issuer says. */
const MOST_SAID = 300;

/**
 * Where people sign in; null where they do not do so with an issuer.
 *
 * @returns {Promise<import('./types').SignInOffer | null>}
 */
export async function findOffer() {
  const answer = await read('page/sign-in', { authorization: null });
  return answer.body.OpenIdConnect;
}

/** Whether this browser can do it here: over plain HTTP it has no digest. */
export function canBegin() {
  return globalThis.crypto?.subtle !== undefined;
}

/** @param {Uint8Array} bytes */
function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

function secret() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * Leaves the page for the issuer's.
 *
 * @param {import('./types').SignInOffer} offer
 */
export async function begin(offer) {
  const verifier = secret();
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier));
  /** @type {import('./types').SignInBegun} */
  const begun = {
    state: secret(),
    verifier,
    redirectUri: location.origin + location.pathname,
    issuer: offer.Issuer,
    namesIssuer: offer.NamesIssuer,
    hash: location.hash,
  };
  sessionStorage.setItem(BEGUN, JSON.stringify(begun));
  const url = new URL(offer.AuthorizationEndpoint);
  const parameters = {
    response_type: 'code',
    client_id: offer.ClientId,
    redirect_uri: begun.redirectUri,
    scope: offer.Scope,
    state: begun.state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: 'S256',
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  location.assign(url);
}

/**
 * What the issuer sent somebody back with; null where nobody comes from there. It is taken out of
 * the address at once, and what it is believed by out of the storage: it counts once.
 *
 * @returns {import('./types').SignInAnswer | null}
 */
export function takeAnswer() {
  const given = new URLSearchParams(location.search);
  if (!['code', 'state', 'error'].some((name) => given.has(name))) return null;
  /** @type {import('./types').SignInBegun | null} */
  const begun = JSON.parse(sessionStorage.getItem(BEGUN) ?? 'null');
  sessionStorage.removeItem(BEGUN);
  // Whoever makes somebody follow a link can write anything into it, and have it shown or be signed
  // in as somebody else. Only the issuer knows the state.
  const isOurs = begun !== null && single(given, 'state') === begun.state;
  const clean = new URL(location.href);
  clean.search = '';
  if (isOurs) clean.hash = begun.hash;
  history.replaceState(null, '', clean);
  if (!isOurs) return { problem: 'This is not the answer to a sign-in that began in this tab. Sign in again.' };
  const issuer = given.has('iss') ? single(given, 'iss') : null;
  if (issuer === null ? begun.namesIssuer : issuer !== begun.issuer) {
    return { problem: 'The answer is not from the issuer that was asked. Sign in again.' };
  }
  if (given.has('error')) {
    const said = [single(given, 'error'), single(given, 'error_description')].filter(Boolean).join(': ');
    // Within a sentence of ours, which it must not turn round or break.
    const shown = said.replaceAll(/[\p{Cc}\p{Cf}]/gu, '').slice(0, MOST_SAID);
    return { problem: `The issuer did not sign you in. It says “${shown}”. Try again, or ask whoever runs it.` };
  }
  const code = single(given, 'code');
  if (!code) return { problem: 'The issuer sent no code. Sign in again.' };
  return { code, begun };
}

/**
 * A parameter that is there once.
 *
 * @param {URLSearchParams} given
 * @param {string} name
 */
function single(given, name) {
  const values = given.getAll(name);
  return values.length === 1 ? values[0] : '';
}

/**
 * Exchanges what somebody came back with for what requests are sent with.
 *
 * @param {import('./types').SignInAnswer} answer
 * @returns {Promise<string | null>} what went wrong
 */
export async function finish(answer) {
  if ('problem' in answer) return answer.problem;
  const { code, begun } = answer;
  try {
    keep(await exchange({ Code: code, Verifier: begun.verifier, RedirectUri: begun.redirectUri }), null);
    return null;
  } catch (error) {
    return `You were not signed in. ${problemText(error)}`;
  }
}

/** @param {unknown} error */
export function problemText(error) {
  if (!(error instanceof Refusal)) return 'The service cannot be reached. Try again.';
  return `${error.message} ${error.resolution}`.trim();
}

/**
 * @param {Record<string, string>} proof
 * @returns {Promise<import('./types').Tokens>}
 */
async function exchange(proof) {
  const response = await request('page/sign-in', { method: 'POST', body: proof, authorization: null });
  return response.json();
}

/**
 * @param {import('./types').Tokens} tokens
 * @param {string | null} refreshToken what it was had for, which may count again
 */
function keep({ AccessToken: token, ExpiresInMs: lifetime, RefreshToken: next }, refreshToken) {
  const from = Date.now();
  credentials.set(bearer(token), {
    from,
    until: lifetime === null ? null : from + lifetime,
    refreshToken: next ?? refreshToken,
  });
}

/** @type {Promise<boolean> | null} */
let renewing = null;

/** Whether there is a new token in the place of the one that ends. */
export function renew() {
  renewing ??= renewNow().finally(() => {
    renewing = null;
  });
  return renewing;
}

async function renewNow() {
  const [before, life] = [credentials.get(), credentials.life()];
  if (before === null || !life?.refreshToken) return false;
  try {
    const tokens = await exchange({ RefreshToken: life.refreshToken });
    // Meanwhile somebody may have signed out.
    if (credentials.get() !== before) return false;
    keep(tokens, life.refreshToken);
    return true;
  } catch (error) {
    const isOver = error instanceof Refusal && error.status < 500 && error.status !== 429;
    if (isOver && credentials.get() === before) credentials.set(before, { ...life, refreshToken: null });
    return false;
  }
}

/** Whether what is sent is past its end, as far as the browser can tell. */
export function hasEnded() {
  const until = credentials.life()?.until ?? null;
  return until !== null && until <= Date.now();
}

/**
 * Renews tokens before they end, for as long as the page is there. `renewed` is told of each new
 * one; `endsAt` when the present one ends without another, by the browser's clock, once that is
 * near, and null where it is not.
 *
 * @param {{ renewed(): void, endsAt(until: number | null): void }} on
 */
export function keepSignedIn(on) {
  const look = async () => {
    const life = credentials.life();
    const until = life?.until ?? null;
    if (life === null || until === null) {
      on.endsAt(null);
      return;
    }
    const left = until - Date.now();
    const isDue = left < Math.min(LEFT_MS, (until - life.from) * LEFT_SHARE);
    if (isDue && life.refreshToken && (await renew())) on.renewed();
    else on.endsAt(left < SAID_MS && (isDue || !life.refreshToken) ? until : null);
  };
  setInterval(look, LOOK_MS);
}
