// What is asked before anything is shown: who somebody is, and which place they may see.

import { basic, bearer, credentials } from './api.js';
import { h } from './dom.js';

const LAST_PLACE = 'client-failover.place';

/**
 * The form for credentials of the kinds that the service named when it refused.
 *
 * @param {import('./types').Fault} refusal
 * @param {() => void} done
 */
export function signIn(refusal, done) {
  const takesSecrets = /\bbearer\b/i.test(refusal.challenge ?? '');
  const takesPasswords = /\bx?basic\b/i.test(refusal.challenge ?? '');
  const wasGiven = credentials.get() !== null;
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

  const problem = h('p', { class: 'problem', role: 'alert' }, wasGiven ? refusal.message : null);
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
  const form = h(
    'form',
    { class: 'door', onsubmit: submit, 'aria-labelledby': 'door-title' },
    h('h1', { id: 'door-title', tabindex: -1 }, 'Sign in'),
    canAsk &&
      h('p', {}, 'The service asks who you are. What you enter is kept in this tab until you sign out or close it.'),
    !canAsk && h('p', {}, 'The service asks for a client certificate. Install yours in the browser, then try again.'),
    problem,
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
