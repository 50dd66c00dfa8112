// This window's part of the stream that all windows of the page share.

import { credentials, pathOf } from './api.js';

/** How often a window says that it is there, and after what silence the worker is taken for dead. */
const HERE_MS = 4_000;
const DEAD_MS = 13_000;

/** Another version of the page speaks to a worker of its own. */
const NAME = 'client-failover stream 2';

// The one script that this page may start.
const script = new URL('worker.js', import.meta.url).href;
const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy('page-worker', {
  createScriptURL: () => script,
});

/** @type {MessagePort | null} */
let port = null;
let turn = 0;
/** @type {string | null} What a stream was asked for with last. */
let asked = null;
/** @type {SharedStream | null} */
let current = null;

function connect() {
  port?.close();
  const worker = new SharedWorker(policy ? policy.createScriptURL('') : script, { type: 'module', name: NAME });
  // A browser that has such workers, but not of modules.
  worker.addEventListener('error', () => current?.missing());
  port = worker.port;
  port.addEventListener('message', ({ data }) => current?.hear(data));
  port.start();
}

export class SharedStream {
  /**
   * @param {{ tenant?: string, namespace?: string, group?: string }} place
   * @param {import('./types').SharedListener} on
   */
  constructor({ tenant, namespace, group }, on) {
    this.place = { tenant, namespace, group };
    this.on = on;
    /** @type {number | null} */
    this.timer = null;
    this.heardAt = -Infinity;
  }

  /** `isRenewed`: with other credentials of the same person. */
  start({ isRenewed = false } = {}) {
    if (this.timer !== null) return;
    if (globalThis.SharedWorker === undefined) {
      this.on.missing();
      return;
    }
    current = this;
    if (port === null) connect();
    this.heardAt = performance.now();
    turn += 1;
    const { tenant, namespace } = this.place;
    const before = isRenewed ? asked : null;
    asked = credentials.get();
    const want = {
      kind: 'want',
      turn,
      authorization: asked,
      before,
      path: pathOf(tenant, namespace),
      ...this.place,
    };
    port?.postMessage(want);
    this.timer = setInterval(() => {
      if (performance.now() - this.heardAt > DEAD_MS) {
        this.heardAt = performance.now();
        connect();
      }
      port?.postMessage(want);
    }, HERE_MS);
  }

  stop() {
    if (this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
    if (current === this) current = null;
    port?.postMessage({ kind: 'leave' });
  }

  /** Tries at once where it would have waited. */
  hurry() {
    if (this.timer !== null) port?.postMessage({ kind: 'hurry' });
  }

  missing() {
    this.stop();
    this.on.missing();
  }

  /** @param {import('./types').FromWorker} message */
  hear(message) {
    this.heardAt = performance.now();
    // What was asked for before this.
    if (message.turn !== turn) return;
    switch (message.kind) {
      case 'open':
      case 'alive':
      case 'full':
        this.on[message.kind]();
        break;
      case 'event':
        this.on.event(message.name, message.data);
        break;
      case 'down':
        this.on.down(message.error);
        break;
      case 'refused':
        this.on.refused(message.error);
        break;
      default:
    }
  }
}
