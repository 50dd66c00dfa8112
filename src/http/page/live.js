// Keeps a view up to date, and knows how up to date it is.
//
// The stream says that something has changed, and then the state is read anew, a few times a second
// at most. Heartbeats are no events, so the state is also read every few seconds while somebody
// looks, and more often where the stream is silent. What is known is as new as the latest answer,
// or the latest sign of the stream that there was nothing new.

import { clock, Refusal } from './api.js';
import { SharedStream } from './shared.js';

const LEAST_MS = 350;
/** A service that takes long to answer is asked less often. */
const SHARE = 4;
/** How often the state is read without the stream. */
const WITHOUT_STREAM_MS = 2_000;
/** A browser has few connections to a server: tabs in the background give theirs back. */
const HIDDEN_MS = 10_000;
/** The stream says every two seconds that it is there. Is it silent for so long, the service is asked. */
const SILENT_MS = 2_750;
/** What is older than that is not called new. */
const STALE_MS = 3_800;
/** An answer that takes longer is given up. The service itself gives up before that, and says why. */
const READ_LIMIT_MS = 8_000;
/** Whoever comes back to a tab waits so long for an answer before that is worth a word. */
const RESUMED_MS = 1_500;
/** How often all that is looked at. */
const LOOK_MS = 250;
/** The clock that nobody sets may stand still while the machine sleeps; the other one does not. */
const SLEPT_MS = 2_500;

export class Live {
  /**
   * `read(signal, isStreamed)` reads and shows the state, and returns what `api.read` told of it.
   * `everyMs()` says how often that is wanted. `on.event(name, data)`, `on.opened()`,
   * `on.refused(refusal)`, and `on.said(knowledge)`, several times a second: see `know`.
   *
   * @param {import('./types').Route} place
   * @param {(signal: AbortSignal, isStreamed: boolean) => Promise<number>} read
   * @param {() => number} everyMs
   * @param {{
   *   event(name: string, data: any): void,
   *   opened(): void,
   *   refused(refusal: import('./types').Fault): void,
   *   said(knowledge: import('./types').Knowledge): void,
   * }} on
   */
  constructor(place, read, everyMs, on) {
    this.readState = read;
    this.everyMs = everyMs;
    this.on = on;
    /** @type {{ abort: AbortController, askedAt: number } | null} */
    this.reading = null;
    this.wanted = false;
    this.tookMs = 0;
    this.endedAt = -Infinity;
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {number | undefined} */
    this.hiddenTimer = undefined;
    /** @type {number | undefined} */
    this.looking = undefined;
    this.stopped = false;
    this.isPaused = false;
    this.startedAt = performance.now();
    /** When the service last answered for the state, and when the stream last said that there was nothing new. */
    this.readAt = -Infinity;
    this.aliveAt = -Infinity;
    /** @type {import('./types').Fault | null} */
    this.readError = null;
    /** @type {import('./types').StreamState} */
    this.streamState = 'connecting';
    /** @type {import('./types').Fault | null} */
    this.streamError = null;
    this.wasStreamed = false;
    this.drift = Date.now() - performance.now();
    /** @type {number | null} Since when nothing new is known, by the service's clock, while that is so. */
    this.staleSince = null;
    /** Whether the machine has slept since the latest answer; and what the service's clock showed before. */
    this.hasSlept = false;
    /** @type {number | null} */
    this.sleptSince = null;
    /** @type {import('./types').SharedListener} */
    const listener = {
      open: () => {
        this.streamState = 'open';
        this.streamError = null;
        this.aliveAt = performance.now();
        on.opened();
        this.refresh();
      },
      alive: () => {
        this.aliveAt = performance.now();
      },
      event: (name, data) => {
        on.event(name, data);
        this.refresh();
      },
      down: (error) => {
        this.streamState = 'down';
        this.streamError = error;
        this.aliveAt = -Infinity;
        // Whether it is the stream alone is told by an answer, or by none.
        this.refresh();
      },
      full: () => {
        this.streamState = 'full';
      },
      missing: () => {
        this.streamState = 'missing';
      },
      refused: (refusal) => on.refused(refusal),
    };
    this.stream = new SharedStream(place, listener);
    this.visibility = () => this.visible();
    this.online = () => {
      this.stream.hurry();
      this.refresh();
    };
  }

  start() {
    document.addEventListener('visibilitychange', this.visibility);
    window.addEventListener('online', this.online);
    this.looking = setInterval(() => this.look(), LOOK_MS);
    // A tab that was opened in the background begins when somebody looks.
    this.isPaused = document.hidden;
    if (!this.isPaused) {
      this.stream.start();
      // Without waiting for the stream: it may be what does not work.
      this.refresh();
    }
    this.look();
  }

  stop() {
    this.stopped = true;
    document.removeEventListener('visibilitychange', this.visibility);
    window.removeEventListener('online', this.online);
    clearInterval(this.looking);
    clearTimeout(this.timer);
    clearTimeout(this.hiddenTimer);
    this.stream.stop();
    this.reading?.abort.abort();
  }

  /** Reads the state soon: at once where it was not read a moment ago. */
  refresh() {
    this.wanted = true;
    this.schedule();
  }

  /** Reads it at once, and gives up on an answer that is on its way: something else is asked for now. */
  restart() {
    this.reading?.abort.abort();
    this.reading = null;
    this.endedAt = -Infinity;
    this.refresh();
  }

  /** There are other credentials of the same person: the stream goes on with them, before the old ones end. */
  renew() {
    if (this.stopped || this.isPaused) return;
    this.stream.stop();
    this.stream.start({ isRenewed: true });
  }

  /** Whether all that is new comes by the stream. */
  isStreamed() {
    return this.streamState === 'open' && performance.now() - this.aliveAt < SILENT_MS;
  }

  /**
   * What is known of how new that is which is shown: `isPaused`; `isStale`, with `since` (the
   * service's clock, or null before the first answer), `error` of the latest read, and
   * `isJustResumed`; `hasRead`; and of the stream `isStreamed`, `stream` and `streamError`.
   *
   * @returns {import('./types').Knowledge}
   */
  know() {
    const now = performance.now();
    const newest = Math.max(this.readAt, this.aliveAt);
    const hangs = this.reading !== null && now - this.reading.askedAt > STALE_MS;
    const isOld = now - newest > STALE_MS && (newest !== -Infinity || now - this.startedAt > STALE_MS);
    const cannotRead = this.readError !== null || hangs;
    const isStale = !this.isPaused && (cannotRead || isOld || this.hasSlept);
    const since = this.hasSlept ? this.sleptSince : clock.at(cannotRead ? this.readAt : newest);
    // A stream that fell silent first and a read that fails then would tell two moments of one
    // silence.
    this.staleSince = isStale ? (this.staleSince ?? since) : null;
    const told = isStale ? this.staleSince : since;
    return {
      isPaused: this.isPaused,
      isStale,
      since: told === null || told === -Infinity ? null : told,
      // Only just looked at again: that is said when it lasts.
      isJustResumed: this.readError === null && now - this.startedAt < RESUMED_MS,
      error: this.readError,
      isStreamed: this.isStreamed(),
      stream: this.streamState,
      streamError: this.streamError,
      hasRead: this.readAt !== -Infinity,
    };
  }

  look() {
    const drift = Date.now() - performance.now();
    const slept = Math.abs(drift - this.drift) > SLEPT_MS;
    this.drift = drift;
    if (slept && this.readAt !== -Infinity) this.wake();
    const isStreamed = this.isStreamed();
    // It has fallen silent: what it does not say is read.
    if (this.wasStreamed && !isStreamed) this.refresh();
    this.wasStreamed = isStreamed;
    this.on.said(this.know());
  }

  /** The machine slept, or its clock was set. Nothing that counts on elapsed time is true any more. */
  wake() {
    if (!this.hasSlept) this.sleptSince = clock.at(Math.max(this.readAt, this.aliveAt));
    this.hasSlept = true;
    clock.forget();
    this.aliveAt = -Infinity;
    this.stream.hurry();
    this.restart();
  }

  schedule() {
    if (this.stopped || this.reading || document.hidden) return;
    clearTimeout(this.timer);
    const isUnsure = this.readError !== null || !this.isStreamed();
    const pause = this.wanted
      ? Math.max(LEAST_MS, this.tookMs * SHARE)
      : isUnsure
        ? Math.max(Math.min(WITHOUT_STREAM_MS, this.everyMs()), this.tookMs)
        : Math.max(this.everyMs(), this.tookMs * SHARE);
    this.timer = setTimeout(() => this.run(), Math.max(0, this.endedAt + pause - performance.now()));
  }

  async run() {
    const reading = { abort: new AbortController(), askedAt: performance.now() };
    const { signal } = reading.abort;
    this.reading = reading;
    this.wanted = false;
    let isTooLate = false;
    const limit = setTimeout(() => {
      isTooLate = true;
      reading.abort.abort();
    }, READ_LIMIT_MS);
    try {
      this.tookMs = await this.readState(signal, this.isStreamed());
      if (signal.aborted) throw signal.reason;
      this.readAt = reading.askedAt;
      this.readError = null;
      this.hasSlept = false;
    } catch (error) {
      if (this.stopped || (signal.aborted && !isTooLate)) return;
      this.tookMs = 0;
      if (error instanceof Refusal && [401, 403].includes(error.status)) this.on.refused(error);
      else this.readError = isTooLate ? new Error('The service does not answer.') : /** @type {Error} */ (error);
    } finally {
      clearTimeout(limit);
      if (this.reading === reading) {
        this.reading = null;
        this.endedAt = performance.now();
        if (!this.stopped) this.look();
        this.schedule();
      }
    }
  }

  visible() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) {
      clearTimeout(this.timer);
      this.hiddenTimer = setTimeout(() => {
        this.stream.stop();
        this.streamState = 'connecting';
        this.aliveAt = -Infinity;
        this.isPaused = true;
        this.look();
      }, HIDDEN_MS);
      return;
    }
    if (this.isPaused) {
      this.isPaused = false;
      this.startedAt = performance.now();
      this.stream.start();
    }
    this.stream.hurry();
    this.refresh();
    // Before anybody sees what is old.
    this.look();
  }
}
