// A request as a command for a shell.

import { urlOf } from './api.js';

/** What would make a text look other than it is. A JSON text may have each of these escaped. */
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** How each kind of caller says who they are; the credential itself is never written. */
const CREDENTIALS = /** @type {Record<string, string[]>} */ ({
  Anonymous: [],
  Certificate: ['--cert "$CERTIFICATE" --key "$KEY"'],
});

/**
 * The command that does what a request does.
 *
 * @param {import('./types').PlannedRequest} request
 * @param {string} kind
 */
export function curlOf({ method, path, query, body }, kind) {
  const parts = [`curl -X ${method} ${quote(urlOf(path, query).href)}`];
  parts.push(...(CREDENTIALS[kind] ?? ['-H "Authorization: $AUTHORIZATION"']));
  if (body !== undefined) {
    const text = JSON.stringify(body).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
    parts.push(`-H 'Content-Type: application/json'`, `-d ${quote(text)}`);
  }
  return parts.join(' \\\n  ');
}

/**
 * A word of a shell, whatever it holds.
 *
 * @param {string} text
 */
export function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
