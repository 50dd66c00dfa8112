// Requests to the service: credentials, its errors, and its clock.

const STORED = 'client-failover.authorization';
const STORED_LIFE = 'client-failover.authorization-life';

/** What is sent as Authorization. Kept for this tab only, and never in a URL. */
export const credentials = {
  get: () => sessionStorage.getItem(STORED),
  /**
   * When it ends, and how it goes on; null for what somebody has typed.
   *
   * @returns {import('./types').Life | null}
   */
  life: () => JSON.parse(sessionStorage.getItem(STORED_LIFE) ?? 'null'),
  /**
   * @param {string} header
   * @param {import('./types').Life | null} [life]
   */
  set(header, life = null) {
    sessionStorage.setItem(STORED, header);
    if (life === null) sessionStorage.removeItem(STORED_LIFE);
    else sessionStorage.setItem(STORED_LIFE, JSON.stringify(life));
  },
  forget() {
    sessionStorage.removeItem(STORED);
    sessionStorage.removeItem(STORED_LIFE);
  },
};

/**
 * An API key or a token.
 *
 * @param {string} secret
 */
export function bearer(secret) {
  return `Bearer ${secret.trim()}`;
}

/**
 * @param {string} name
 * @param {string} password
 */
export function basic(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

/** An answer that is an error, with the texts of its body. */
export class Refusal extends Error {
  /**
   * @param {Response} response
   * @param {{ Error?: string, Reason?: string, Resolution?: string } | null} body
   */
  constructor(response, body) {
    super(body?.Reason ?? `The service answered ${response.status}.`);
    this.name = 'Refusal';
    this.status = response.status;
    this.title = body?.Error ?? 'The request failed.';
    this.resolution = body?.Resolution ?? '';
    this.challenge = response.headers.get('WWW-Authenticate') ?? '';
    this.retryAfterMs = Number(response.headers.get('Retry-After') ?? 0) * 1000;
  }
}

/** Below the page's own address, wherever a proxy has put it. Told by this file's, for a worker has no document. */
const root = new URL('..', import.meta.url);

/**
 * @param {string} [tenant]
 * @param {string} [namespace]
 * @param {string} [group]
 */
export function pathOf(tenant, namespace, group) {
  if (tenant === undefined) return 'api/v1/clientfailover';
  const ofTenant = `api/v1/tenants/${encodeURIComponent(tenant)}`;
  if (namespace === undefined) return `${ofTenant}/clientfailover`;
  const place = `${ofTenant}/namespaces/${encodeURIComponent(namespace)}/clientfailover`;
  return group === undefined ? place : `${place}/groups/${encodeURIComponent(group)}`;
}

/**
 * The address of a request.
 *
 * @param {string} path
 * @param {import('./types').RequestOptions['query']} [query]
 */
export function urlOf(path, query = {}) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') url.searchParams.set(name, String(value));
  }
  // URLSearchParams writes a space as '+', which stands for itself in this interface.
  url.search = url.search.replaceAll('+', '%20');
  return url;
}

/**
 * A request; throws a Refusal for every answer that is not a success. With this tab's credentials
 * unless others are given.
 *
 * @param {string} path
 * @param {import('./types').RequestOptions} [options]
 */
export async function request(path, options = {}) {
  const { method = 'GET', query, headers = {}, body: sent, signal, authorization = credentials.get() } = options;
  const url = urlOf(path, query);
  // By X-Requested-With the service knows that the page asks for a password itself, and the browser
  // is not to.
  /** @type {Record<string, string>} */
  const all = { 'X-Requested-With': 'page', ...headers };
  if (authorization) all.Authorization = authorization;
  if (sent !== undefined) all['Content-Type'] = 'application/json';
  const response = await fetch(url, {
    method,
    headers: all,
    body: sent === undefined ? undefined : JSON.stringify(sent),
    signal,
    cache: 'no-store',
    redirect: 'error',
  });
  if (response.ok) return response;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // It came from a proxy, or was cut off: the status says enough.
  }
  throw new Refusal(response, body);
}

/**
 * An answer's JSON, and when it was asked for and had, on the clock that nobody sets.
 *
 * @param {string} path
 * @param {import('./types').RequestOptions} [options]
 * @returns {Promise<import('./types').Answer<any>>}
 */
export async function read(path, options) {
  const askedAt = performance.now();
  const response = await request(path, options);
  const body = await response.json();
  const hadAt = performance.now();
  // The instant to which what it says belongs, as well as can be told.
  return {
    body,
    askedAt,
    at: (askedAt + hadAt) / 2,
    tookMs: hadAt - askedAt,
    total: Number(response.headers.get('Total-Count')),
  };
}

/** The service's clock. The browser's may be wrong, and decides nothing here. */
export const clock = {
  /** @type {number | null} */
  offset: null,
  /**
   * @param {string} time
   * @param {number} at
   */
  note(time, at) {
    const ms = Date.parse(time);
    if (!Number.isNaN(ms)) this.offset = ms - at;
  },
  /** Milliseconds since 1970; null before the first answer. */
  now() {
    return this.at(performance.now());
  },
  /**
   * What it showed at a moment of the clock that nobody sets.
   *
   * @param {number} moment
   */
  at(moment) {
    return this.offset === null ? null : moment + this.offset;
  },
  /** The machine slept: how far the clocks have drifted apart is not known until the next answer. */
  forget() {
    this.offset = null;
  },
};
