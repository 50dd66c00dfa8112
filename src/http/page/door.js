// What is asked before anything is shown: who somebody is, and which place they may see.

import { basic, bearer, credentials } from './api.js';
import { h } from './dom.js';
import { begin, canBegin, findOffer, hasEnded, problemText } from './sign_in.js';

const LAST_PLACE = 'client-failover.place';

/**
 * The form for credentials of the kinds that the service named when it refused.
 *
 * @param {import('./types').Fault} refusal
 * @param {() => void} done
 * @param {string | null} [came] what went wrong on the way back from the issuer of tokens
 */
export function signIn(refusal, done, came = null) {
  const takesSecrets = /\bbearer\b/i.test(refusal.challenge ?? '');
  const takesPasswords = /\bx?basic\b/i.test(refusal.challenge ?? '');
  const wasGiven = credentials.get() !== null;
  const why = hasEnded() ? 'Your sign-in has ended. Sign in again to go on.' : refusal.message;
  credentials.forget();

  const secret = h('input', {
    id: 'secret',
    name: 'secret',
    type: 'password',
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  const name = h('input', {
    id: 'name',
    name: 'username',
    autocomplete: 'username',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  const password = h('input', { id: 'password', name: 'password', type: 'password', autocomplete: 'current-password' });
  const parts = {
    secret: h('div', { class: 'part' }, h('label', { for: 'secret' }, 'API key or token'), secret),
    password: h(
      'div',
      { class: 'part' },
      h('label', { for: 'name' }, 'Name'),
      name,
      h('label', { for: 'password' }, 'Password'),
      password,
    ),
  };
  /** @type {keyof typeof parts} */
  let way = takesSecrets ? 'secret' : 'password';
  /** @type {(value: keyof typeof parts, text: string) => HTMLElement} */
  const choice = (value, text) =>
    h(
      'label',
      { class: 'choice' },
      h('input', { type: 'radio', name: 'way', value, checked: value === way, onchange: () => choose(value) }),
      ` ${text}`,
    );
  // Only the one is part of the form: a password manager is not to take the one for the other.
  const part = h('div', {});
  /** @type {(value: keyof typeof parts) => void} */
  const choose = (value) => {
    way = value;
    part.replaceChildren(parts[way]);
  };
  choose(way);

  const problem = h('p', { class: 'problem', role: 'alert' }, came ?? (wasGiven ? why : null));
  /** @type {(event: Event) => void} */
  const submit = (event) => {
    event.preventDefault();
    const empty = way === 'secret' ? !secret.value.trim() && secret : !name.value && name;
    if (empty) {
      problem.textContent = way === 'secret' ? 'Enter a key or a token.' : 'Enter a name.';
      empty.focus();
      return;
    }
    credentials.set(way === 'secret' ? bearer(secret.value) : basic(name.value, password.value));
    done();
  };
  const canAsk = takesSecrets || takesPasswords;
  const byIssuer = h('div', { class: 'part', hidden: true });
  /** @param {Element} leave */
  const offered = (leave) => {
    byIssuer.replaceChildren(leave, h('p', { class: 'or' }, 'or with'));
    byIssuer.hidden = false;
    // It is what most people want; not so whoever has begun to type.
    const isUntouched = document.activeElement === secret && secret.value === '';
    if (isUntouched && leave instanceof HTMLElement) leave.focus();
  };
  if (takesSecrets) offerIssuer(offered, problem);
  const form = h(
    'form',
    { class: 'door', onsubmit: submit, 'aria-labelledby': 'door-title' },
    h('h1', { id: 'door-title', tabindex: -1 }, 'Sign in'),
    canAsk &&
      h('p', {}, 'The service asks who you are. What you enter is kept in this tab until you sign out or close it.'),
    !canAsk && h('p', {}, 'The service asks for a client certificate. Install yours in the browser, then try again.'),
    problem,
    byIssuer,
    takesSecrets &&
      takesPasswords &&
      h(
        'fieldset',
        {},
        h('legend', {}, 'With'),
        choice('secret', 'API key or token'),
        choice('password', 'Name and password'),
      ),
    canAsk && part,
    canAsk ? h('button', { type: 'submit' }, 'Sign in') : h('button', { type: 'button', onclick: done }, 'Try again'),
  );
  return {
    node: form,
    title: 'Sign in',
    focus: () => (canAsk ? (way === 'secret' ? secret : name) : form.querySelector('h1'))?.focus(),
  };
}

/**
 * The way to the issuer of tokens, where there is one for people: found out while the form is
 * there.
 *
 * @param {(leave: Element) => void} offered
 * @param {Element} problem
 */
async function offerIssuer(offered, problem) {
  try {
    const offer = await findOffer();
    if (offer === null) return;
    const { host } = new URL(offer.Issuer);
    if (!canBegin()) {
      offered(h('p', {}, `To sign in with ${host}, open this page by https. It was opened without.`));
      return;
    }
    const leave = async () => {
      button.disabled = true;
      problem.textContent = '';
      try {
        await begin(offer);
      } catch (error) {
        problem.textContent = `The issuer's page cannot be opened: ${/** @type {Error} */ (error).message}`;
        button.disabled = false;
      }
    };
    const button = h('button', { type: 'button', class: 'leave', onclick: leave }, `Sign in with ${host}`);
    offered(button);
  } catch (error) {
    offered(h('p', {}, `The way to sign in with the issuer of tokens cannot be had now. ${problemText(error)}`));
  }
}

/**
 * For those who may not see all tenants, or not the one they asked for: which place they want.
 *
 * @param {import('./types').Fault} refusal
 * @param {(tenant: string, namespace: string) => void} go
 */
export function choosePlace(refusal, go) {
  let last = { tenant: '', namespace: '' };
  try {
    last = { ...last, ...JSON.parse(sessionStorage.getItem(LAST_PLACE) ?? '{}') };
  } catch {
    // Somebody else wrote it; it is only a convenience.
  }
  const tenant = h('input', {
    id: 'tenant',
    name: 'tenant',
    required: true,
    maxlength: 260,
    value: last.tenant,
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  const namespace = h('input', {
    id: 'namespace',
    name: 'namespace',
    required: true,
    maxlength: 260,
    value: last.namespace,
    autocomplete: 'off',
    spellcheck: 'false',
    autocapitalize: 'off',
  });
  /** @type {(event: Event) => void} */
  const submit = (event) => {
    event.preventDefault();
    const place = { tenant: tenant.value.trim(), namespace: namespace.value.trim() };
    sessionStorage.setItem(LAST_PLACE, JSON.stringify(place));
    go(place.tenant, place.namespace);
  };
  const form = h(
    'form',
    { class: 'door', onsubmit: submit, 'aria-labelledby': 'door-title' },
    h('h1', { id: 'door-title', tabindex: -1 }, 'Which namespace?'),
    h('p', { role: 'alert' }, refusal.message),
    h('p', {}, 'Enter a tenant and a namespace that you may see.'),
    h(
      'div',
      { class: 'part' },
      h('label', { for: 'tenant' }, 'Tenant'),
      tenant,
      h('label', { for: 'namespace' }, 'Namespace'),
      namespace,
    ),
    h('button', { type: 'submit' }, 'Show'),
  );
  return { node: form, title: 'Which namespace?', focus: () => tenant.focus() };
}
