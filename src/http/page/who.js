// Who is signed in, in the head of the page, and when that ends.

import { credentials } from './api.js';
import { announce, foreign, setAttribute } from './dom.js';
import { caller } from './rights.js';

const MINUTE_MS = 60_000;

export class Who {
  /** @param {HTMLElement} node */
  constructor(node) {
    this.node = node;
    /** @type {string | null | undefined} By which credentials somebody was asked for. */
    this.by = undefined;
    /** @type {string | null} */
    this.name = null;
    /** @type {number | null} */
    this.until = null;
  }

  /** Asks the service, once for each who signs in. Called when something else has been answered. */
  async know() {
    const by = credentials.get();
    if (this.by === by) return;
    this.by = by;
    try {
      const { Name: name, Kind: kind } = await caller();
      if (this.by !== by) return;
      this.name = kind === 'Anonymous' ? null : name;
    } catch {
      // It is only told. What may be done is decided by the service, request by request.
      if (this.by === by) this.name = null;
    }
    this.show();
  }

  forget() {
    this.by = undefined;
    this.name = null;
    this.until = null;
    this.show();
  }

  /**
   * When the sign-in ends without another, by the browser's clock; null where that is far off.
   *
   * @param {number | null} until
   */
  endsAt(until) {
    if (until === null && this.until === null) return;
    if (until !== null && this.until === null) announce(`Your sign-in ends ${inTime(until)}. Then sign in again.`);
    this.until = until;
    this.show();
  }

  show() {
    const [name, until] = [this.name, this.until];
    setAttribute(this.node, 'hidden', name === null && until === null);
    this.node.replaceChildren(
      ...(name === null ? [] : ['Signed in as ', foreign(name)]),
      ...(until === null ? [] : [name === null ? `Your sign-in ends ${inTime(until)}` : `, ends ${inTime(until)}`]),
    );
  }
}

/** @param {number} until */
function inTime(until) {
  const minutes = Math.ceil((until - Date.now()) / MINUTE_MS);
  if (minutes <= 0) return 'now';
  return minutes === 1 ? 'within a minute' : `in ${minutes} minutes`;
}
