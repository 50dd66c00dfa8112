// Keeps a view up to date: the stream says that something has changed, and then the state is read anew, a few times a
// second at most. Heartbeats are no events, so the state is also read every few seconds while somebody looks.

import { Refusal } from './api.js';
import { EventStream } from './stream.js';

const LEAST_MS = 350;
/** A service that takes long to answer is asked less often. */
const SHARE = 4;
/** A browser has few connections to a server: tabs in the background give theirs back. */
const HIDDEN_MS = 10_000;

export class Live {
  /**
   * `read(signal)` reads and shows the state, and returns how long the service took. `everyMs()` says how often that
   * is wanted. `on.event(name, data)`, `on.state(state, error)` with `connecting`, `live`, `down` or `paused`,
   * `on.read(error or null)`, and `on.refused(refusal)`.
   */
  constructor(path, read, everyMs, on) {
    this.readState = read;
    this.everyMs = everyMs;
    this.on = on;
    this.state = 'connecting';
    this.reading = null;
    this.wanted = false;
    this.tookMs = 0;
    this.readAt = -Infinity;
    this.timer = null;
    this.hiddenTimer = null;
    this.stream = new EventStream(path, {
      open: () => {
        this.say('live');
        this.refresh();
      },
      event: (name, data) => {
        on.event(name, data);
        this.refresh();
      },
      down: (error) => this.say('down', error),
      refused: (refusal) => on.refused(refusal),
    });
    this.visibility = () => this.visible();
    this.online = () => {
      this.stream.hurry();
      this.refresh();
    };
  }

  start() {
    document.addEventListener('visibilitychange', this.visibility);
    window.addEventListener('online', this.online);
    if (document.hidden) {
      // A tab that was opened in the background begins when somebody looks.
      this.say('paused');
      return;
    }
    this.say('connecting');
    this.stream.start();
    // Without waiting for the stream: it may be what does not work.
    this.refresh();
  }

  stop() {
    this.stopped = true;
    document.removeEventListener('visibilitychange', this.visibility);
    window.removeEventListener('online', this.online);
    clearTimeout(this.timer);
    clearTimeout(this.hiddenTimer);
    this.stream.stop();
    this.reading?.abort();
  }

  /** Reads the state soon: at once where it was not read a moment ago. */
  refresh() {
    this.wanted = true;
    this.schedule();
  }

  /** Reads it at once, and gives up on an answer that is on its way: something else is asked for now. */
  restart() {
    this.reading?.abort();
    this.reading = null;
    this.readAt = -Infinity;
    this.refresh();
  }

  say(state, error) {
    this.state = state;
    this.on.state(state, error);
  }

  schedule() {
    if (this.stopped || this.reading || document.hidden) return;
    clearTimeout(this.timer);
    const pause = this.wanted ? Math.max(LEAST_MS, this.tookMs * SHARE) : Math.max(this.everyMs(), this.tookMs * SHARE);
    this.timer = setTimeout(() => this.run(), Math.max(0, this.readAt + pause - performance.now()));
  }

  async run() {
    const abort = new AbortController();
    this.reading = abort;
    this.wanted = false;
    try {
      this.tookMs = await this.readState(abort.signal);
      if (abort.signal.aborted) return;
      this.on.read(null);
    } catch (error) {
      if (abort.signal.aborted || this.stopped) return;
      this.tookMs = 0;
      if (error instanceof Refusal && [401, 403].includes(error.status)) this.on.refused(error);
      else this.on.read(error);
    } finally {
      if (this.reading === abort) {
        this.reading = null;
        this.readAt = performance.now();
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
        this.say('paused');
      }, HIDDEN_MS);
      return;
    }
    if (this.state === 'paused') {
      this.say('connecting');
      this.stream.start();
    }
    this.stream.hurry();
    this.refresh();
  }
}
