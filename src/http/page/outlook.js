// What the service foresees, in words.

import { foreign, h } from './dom.js';
import { count, duration, PRIMARY, reasonWord, roleWord, whole } from './words.js';

/** @typedef {import('./types').Foresight} Foresight */
/** @typedef {(string | Node)[]} Words */

/** What is sooner or shorter than this is called at once, or nothing. */
const AT_ONCE_MS = 20;
/** How many that become Primary one after another are told of; the steps have all. */
const MOST_GRANTS = 3;

/**
 * Who becomes Primary one after another, and who is at the end.
 *
 * @param {string | null} primary
 * @param {Foresight} foresight
 */
function courseOf(primary, { Changes: changes, WithoutPrimaryMs: withoutMs }) {
  let holder = primary;
  const grants = [];
  for (const change of changes) {
    if (change.From === PRIMARY && change.SessionId === holder) holder = null;
    if (change.To === PRIMARY) {
      holder = change.SessionId;
      grants.push(change);
    }
  }
  // Who loses the role and has it again at once has it all the time, for all that anybody sees.
  const isSame = holder === primary && grants.every((change) => change.SessionId === primary);
  const stays = isSame && (withoutMs < 1 || primary === null);
  return { holder, withoutMs, grants: stays ? [] : grants, stays };
}

/** @param {number} ms */
const after = (ms) => (ms < AT_ONCE_MS ? 'at once' : `after ${duration(ms)}`);

/**
 * The one or the other, or both where that makes a difference.
 *
 * @param {string} attentive
 * @param {string} silent
 */
function either(attentive, silent) {
  return attentive === silent ? attentive : `${attentive} if clients acknowledge, otherwise ${silent}, or thereabouts`;
}

/**
 * A sentence or two for each that clients may do; one for both where it comes to the same.
 *
 * @param {import('./types').Outlook} outlook
 * @returns {Words[]}
 */
export function outlookSentences({ Primary: primary, IfSilent: ifSilent, IfAttentive: ifAttentive }) {
  const [attentive, silent] = [courseOf(primary, ifAttentive), courseOf(primary, ifSilent)];
  const shape = (/** @type {ReturnType<typeof courseOf>} */ { holder, grants, stays }) =>
    JSON.stringify([holder, stays, grants.map((change) => change.SessionId)]);
  if (shape(attentive) !== shape(silent)) {
    return [
      ...said(primary, attentive, attentive).map((words) => ['If clients acknowledge: ', ...words]),
      ...said(primary, silent, silent).map((words) => ['Otherwise: ', ...words]),
    ];
  }
  return said(primary, attentive, silent);
}

/**
 * @param {string | null} primary
 * @param {ReturnType<typeof courseOf>} attentive
 * @param {ReturnType<typeof courseOf>} silent
 * @returns {Words[]}
 */
function said(primary, attentive, silent) {
  const { holder, grants, stays } = silent;
  if (stays) {
    return holder === null
      ? [['Nobody is Primary, and that stays so for now.']]
      : [[foreign(holder), ' is Primary, and stays so.']];
  }
  /** @type {Words[]} */
  const sentences = grants
    .slice(0, MOST_GRANTS)
    .map(({ SessionId: session, AfterMs: afterMs }, place) => [
      place === 0 ? '' : 'Then ',
      foreign(session),
      session === primary ? ' is Primary again, ' : ' becomes Primary, ',
      ...(place > 0 || primary === null || session === primary ? [] : ['in the place of ', foreign(primary), ', ']),
      `${either(after(attentive.grants[place].AfterMs), after(afterMs))}.`,
    ]);
  if (holder === null) {
    sentences.push([
      ...(primary === null || grants.length > 0 ? [] : [foreign(primary), ' is Primary no longer. ']),
      'Nobody would be Primary from then on.',
    ]);
    return sentences;
  }
  const without = (/** @type {number} */ ms) => (ms < 1 ? 'no time' : duration(ms));
  sentences.push([`Nobody would be Primary for ${either(without(attentive.withoutMs), without(silent.withoutMs))}.`]);
  return sentences;
}

/**
 * What would happen, as it is shown: the sentences, and each step for who wants to know.
 *
 * @param {import('./types').Outlook} outlook
 */
export function outlookNodes(outlook) {
  const { IfSilent: silent, IfAttentive: attentive } = outlook;
  const hasSteps = silent.Changes.length + attentive.Changes.length > 0;
  return [
    ...outlookSentences(outlook).map((words) => h('p', {}, words)),
    hasSteps &&
      h(
        'details',
        { class: 'steps' },
        h('summary', {}, 'Step by step'),
        h(
          'p',
          { class: 'why' },
          'Foreseen, if nobody comes or goes and no health changes. Clients acknowledge that say in which role they act, and follow the events of their group.',
        ),
        steps('If clients acknowledge', attentive),
        steps('Otherwise', silent),
      ),
  ];
}

/**
 * @param {string} title
 * @param {Foresight} foresight
 */
function steps(title, { Changes: changes }) {
  return h(
    'div',
    {},
    h('h3', {}, title),
    changes.length === 0
      ? h('p', {}, 'No role changes.')
      : h(
          'ol',
          {},
          changes.map((change) =>
            h(
              'li',
              {},
              `${after(change.AfterMs)}: `,
              foreign(change.SessionId),
              ` ${roleWord(change.From)} → ${roleWord(change.To)}, ${reasonWord(change.Reason)}`,
            ),
          ),
        ),
  );
}

/**
 * What becomes of whom if a group is deleted.
 *
 * @param {import('./types').GroupOutlook} outlook
 * @returns {Words[]}
 */
export function deletionSentences({ Primary: primary, Sessions: sessions, LiveSessions: live }) {
  const which = live === 0 ? 'none' : live === sessions ? 'all' : whole(live);
  return [
    sessions === 0
      ? ['It has no sessions.']
      : sessions === 1
        ? [`Its only session would be deleted with it: it is ${live === 1 ? 'live' : 'silent'}.`]
        : [`Its ${count(sessions, 'session')} would be deleted with it, ${which} of them live.`],
    ...(primary === null
      ? []
      : [
          /** @type {Words} */ ([
            foreign(primary),
            ' is Primary: its next heartbeat is refused, it stops when its lease ends, and nobody takes its place.',
          ]),
        ]),
    ['Its history stays, for as long as the service keeps it.'],
  ];
}
