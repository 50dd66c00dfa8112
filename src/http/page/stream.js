// A stream of server-sent events. EventSource cannot send credentials, so it is read by hand; what
// it does well is done here too: it comes back by itself and resumes after the last event it had.

import { Refusal, request } from './api.js';

/** How often the service is asked to say that it has nothing to say. */
const KEEP_ALIVE_S = 2;
/** Three of those are missing: a connection that is held open by somebody else looks like that. */
const SILENCE_MS = 6_500;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** How a sign of a service begins that cannot read what is new. */
const KNOWS_NOTHING = ': nothing new';

export class EventStream {
  /**
   * @param {string} path
   * @param {string | null} authorization
   * @param {import('./types').Listener} on
   */
  constructor(path, authorization, on) {
    this.path = path;
    this.authorization = authorization;
    this.on = on;
    /** @type {string | null} */
    this.lastEventId = null;
    this.pauseMs = FIRST_PAUSE_MS;
    /** @type {AbortController | null} */
    this.abort = null;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.stopped = false;
    this.connect();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.abort?.abort();
  }

  /** Tries at once where it would have waited: the network is back, or somebody looks. */
  hurry() {
    if (this.stopped || this.timer === undefined) return;
    clearTimeout(this.timer);
    this.connect();
  }

  async connect() {
    this.timer = undefined;
    const abort = new AbortController();
    this.abort = abort;
    /** @type {number | undefined} */
    let watchdog;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    /** @type {any} */
    let error = null;
    try {
      watch();
      /** @type {Record<string, string>} */
      const headers = { Accept: 'text/event-stream' };
      if (this.lastEventId !== null) headers['Last-Event-ID'] = this.lastEventId;
      const { authorization } = this;
      const response = await request(`${this.path}/events`, {
        query: { 'keep-alive': KEEP_ALIVE_S },
        headers,
        signal: abort.signal,
        authorization,
      });
      if (response.body === null) throw new Error('The answer has no body.');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let isOpen = false;
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done || abort.signal.aborted) break;
        watch();
        if (!isOpen) {
          isOpen = true;
          this.pauseMs = FIRST_PAUSE_MS;
          this.on.open();
        }
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) this.take(block);
      }
    } catch (caught) {
      error = caught;
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
    if (this.stopped || this.abort !== abort) return;
    if (error instanceof Refusal && [401, 403].includes(error.status)) {
      this.stopped = true;
      this.on.refused(error);
      return;
    }
    this.on.down(error);
    const pause = Math.max(error?.retryAfterMs ?? 0, this.pauseMs * (0.75 + Math.random() / 2));
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    this.timer = setTimeout(() => this.connect(), pause);
  }

  /** @param {string} block */
  take(block) {
    if (!block.startsWith(KNOWS_NOTHING)) this.on.alive();
    let name = 'message';
    let data = '';
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon <= 0) continue;
      const field = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, '');
      if (field === 'id') this.lastEventId = value;
      else if (field === 'event') name = value;
      else if (field === 'data') data += value;
    }
    if (data === '') return;
    try {
      this.on.event(name, JSON.parse(data));
    } catch (error) {
      // One bad event must not end the stream.
      console.error(error);
    }
  }
}
