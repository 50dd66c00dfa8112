// A dialog in which somebody acts: what is asked for, what would come of it, the request as a
// command for a shell, and what came of it. It asks the service what would happen before anything
// is done, again whenever something else is asked for.

import { request, Refusal } from './api.js';
import { curlOf } from './curl.js';
import { h, setAttribute, setText } from './dom.js';

/** @typedef {import('./types').PlannedRequest} PlannedRequest */
/** @typedef {import('./types').Offer} Offer */

const DEBOUNCE_MS = 250;
/** What is foreseen is given up after that; what is done is not. */
const FORESEE_LIMIT_MS = 10_000;

/** One dialog is open at a time. */
const TITLE = 'act-title';

/** @type {ActDialog | null} */
let current = null;

export class ActDialog {
  /**
   * @param {Offer} offer
   * @param {import('./types').Caller} who
   */
  constructor(offer, who) {
    this.offer = offer;
    this.who = who;
    /** @type {'asking' | 'foreseen' | 'acting' | 'failed' | 'done'} */
    this.state = 'asking';
    /** @type {AbortController | null} */
    this.foreseeing = null;
    /** @type {number | undefined} */
    this.timer = undefined;

    this.problem = h('p', { class: 'problem', role: 'alert' });
    this.outlook = h('div', { class: 'outlook', role: 'status' });
    this.command = h('pre', { tabindex: 0, role: 'group', 'aria-label': 'The request as a command for a shell' });
    this.copied = h('span', { class: 'why', role: 'status' });
    this.request = h(
      'details',
      { class: 'request' },
      h('summary', {}, 'The request, for a shell'),
      this.command,
      h(
        'div',
        { class: 'row' },
        h('button', { type: 'button', class: 'quiet', onclick: () => this.copy() }, 'Copy'),
        this.copied,
      ),
    );
    this.intro = h('p', { class: 'intro', hidden: !offer.intro }, offer.intro ?? []);
    this.confirm = h('button', { type: 'submit' }, offer.verb);
    this.cancel = h('button', { type: 'button', class: 'cancel', onclick: () => this.node.close() }, 'Cancel');
    const fields = {
      class: 'fields',
      oninput: () => this.changed(DEBOUNCE_MS),
      // Some choices are told by this event alone; with a text it would come with the click that
      // goes elsewhere.
      onchange: (/** @type {Event} */ { target }) => target instanceof HTMLSelectElement && this.changed(),
    };
    this.fields = h('div', fields, offer.fields ?? []);
    this.form = h(
      'form',
      {
        novalidate: true,
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          this.act();
        },
      },
      h('h2', { id: TITLE, tabindex: -1 }, offer.title),
      this.intro,
      this.fields,
      this.outlook,
      this.problem,
      this.request,
      h('div', { class: 'buttons' }, this.cancel, this.confirm),
    );
    /** @type {HTMLDialogElement} */
    this.node = h(
      'dialog',
      { class: 'act', 'aria-labelledby': TITLE, 'data-tone': offer.tone, onclose: () => this.closed() },
      this.form,
    );
  }

  /**
   * Shows it above a view, of which it is a part: it goes with it.
   *
   * @param {Element} view
   */
  open(view) {
    current?.node.close();
    current = this;
    this.view = view;
    this.place = document.activeElement?.closest('td, li, .hands');
    view.append(this.node);
    this.node.showModal();
    const first = this.fields.querySelector('input, select, textarea');
    if (first instanceof HTMLElement) first.focus();
    else this.cancel.focus();
    this.changed(0);
  }

  closed() {
    this.forgo();
    if (current === this) current = null;
    this.node.remove();
    // The browser gives the focus back to what opened it, unless that is gone meanwhile: then it
    // goes to what is beside it.
    const active = document.activeElement;
    if (active !== null && active !== document.body) return;
    const beside = this.place?.isConnected ? this.place.querySelector('button') : null;
    (beside ?? this.view?.querySelector('h1'))?.focus();
  }

  /** What is foreseen is not waited for any more. */
  forgo() {
    this.foreseeing?.abort();
    this.foreseeing = null;
    clearTimeout(this.timer);
  }

  /** Something else is asked for: what would come of it is asked anew, before it can be done. */
  changed(afterMs = 0) {
    if (this.state === 'acting' || this.state === 'done') return;
    this.forgo();
    this.setState('asking');
    const plan = this.offer.plan();
    setText(this.command, 'problem' in plan ? '' : curlOf(plan.request, this.who.Kind));
    setAttribute(this.request, 'hidden', 'problem' in plan);
    if ('problem' in plan) {
      // While somebody types, what is not yet right is no error.
      setText(this.problem, '');
      this.outlook.replaceChildren(h('p', { class: 'why' }, plan.problem));
      return;
    }
    this.timer = setTimeout(() => this.foresee(plan.request, plan.missing), afterMs);
  }

  /**
   * @param {PlannedRequest} planned
   * @param {string | undefined} missing
   */
  async foresee(planned, missing) {
    const abort = new AbortController();
    this.foreseeing = abort;
    const limit = setTimeout(() => abort.abort(), FORESEE_LIMIT_MS);
    try {
      const outlook = this.offer.canForesee === false ? null : await ask(planned, abort.signal);
      if (this.foreseeing !== abort) return;
      setText(this.problem, '');
      this.say(this.offer.foresee?.(outlook) ?? []);
      if (missing === undefined) this.setState('foreseen');
    } catch (error) {
      if (this.foreseeing !== abort) return;
      this.outlook.replaceChildren();
      setText(this.problem, abort.signal.aborted ? 'The service does not answer.' : problemWords(error));
      this.setState('asking');
    } finally {
      clearTimeout(limit);
    }
  }

  async act() {
    const plan = this.offer.plan();
    const missing = 'problem' in plan ? plan.problem : plan.missing;
    if (missing !== undefined || 'problem' in plan) {
      setText(this.problem, missing ?? '');
      return;
    }
    if (this.state !== 'foreseen' && this.state !== 'failed') return;
    this.forgo();
    this.setState('acting');
    // What has been asked for is done, whether or not this stays open.
    setText(this.cancel, 'Close');
    this.say([h('p', {}, this.offer.meanwhile ?? 'The service is asked…')]);
    try {
      const response = await request(plan.request.path, plan.request);
      const text = await response.text();
      this.say(this.offer.done(text === '' ? null : JSON.parse(text)));
      this.setState('done');
      this.offer.after?.();
    } catch (error) {
      // What is answered with nothing may have been done all the same.
      const isUnknown = !(error instanceof Refusal) || error.status >= 500;
      this.outlook.replaceChildren();
      setText(
        this.problem,
        `${problemWords(error)}${isUnknown ? ' Whether it was done is not known: look before you ask again.' : ''}`,
      );
      setText(this.cancel, 'Cancel');
      this.setState('failed');
      this.offer.after?.();
    }
  }

  /** @param {(Node | false)[]} nodes */
  say(nodes) {
    const next = h('div', {}, nodes);
    // What is the same is not said a second time.
    if (next.textContent === this.outlook.textContent) return;
    const wasOpen = this.outlook.querySelector('details')?.open ?? false;
    this.outlook.replaceChildren(...next.childNodes);
    const details = this.outlook.querySelector('details');
    if (details) details.open = wasOpen;
  }

  /** @param {ActDialog['state']} state */
  setState(state) {
    this.state = state;
    // It keeps the focus while it cannot be pressed: so it is not disabled.
    setAttribute(this.confirm, 'aria-disabled', state === 'foreseen' || state === 'failed' ? null : 'true');
    setAttribute(this.node, 'data-state', state);
    if (state !== 'done') return;
    for (const part of [this.confirm, this.intro, this.fields, this.request]) setAttribute(part, 'hidden', true);
    setText(this.problem, '');
    setText(this.cancel, 'Close');
    if (this.node.open) this.cancel.focus();
  }

  async copy() {
    const text = this.command.textContent ?? '';
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Only pages of secure origins have the clipboard. What is selected can be copied everywhere.
      getSelection()?.selectAllChildren(this.command);
      if (!document.execCommand('copy')) {
        setText(this.copied, 'It is selected: copy it.');
        return;
      }
    }
    setText(this.copied, 'Copied.');
  }
}

/**
 * Something has changed in what is shown: what an open dialog foresees may be another thing now.
 * Until that is known it can be done all the same, as far as it could be.
 */
export function stateChanged() {
  if (current?.state !== 'foreseen' && current?.state !== 'asking') return;
  const plan = current.offer.plan();
  if ('problem' in plan) return;
  current.forgo();
  void current.foresee(plan.request, plan.missing);
}

/**
 * What would come of a request, which is not done.
 *
 * @param {PlannedRequest} planned
 * @param {AbortSignal} signal
 */
async function ask({ path, method, query, body }, signal) {
  const { wait: _, ...rest } = query ?? {};
  const response = await request(path, { method, body, query: { ...rest, 'dry-run': 'true' }, signal });
  return response.json();
}

/** @param {unknown} error */
function problemWords(error) {
  if (error instanceof Refusal) return [error.title, error.message, error.resolution].filter(Boolean).join(' ');
  return error instanceof TypeError ? 'The service cannot be reached.' : String(error);
}
