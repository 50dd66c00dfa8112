// What is true of a group as a whole, in a few words.

import { foreign, h, setText } from './dom.js';
import { nobody } from './overview.js';
import { age, duration, parseTime, standbyWords, time, whole } from './words.js';

export function makeFacts() {
  const fact = (/** @type {string} */ label) => {
    const value = h('dd', {});
    return { node: h('div', {}, h('dt', {}, label), value), value };
  };
  const primary = fact('Primary');
  const pending = fact('PendingPrimary');
  const term = fact('Term');
  const standbys = fact('Standbys ready');
  const sent = fact('Data sent up to');
  const timeout = fact('Failover timeout');
  const since = h('span', { class: 'since' });
  const ago = h('span', { class: 'since' });
  const sentAt = h('span', {});
  sent.value.append(sentAt, ' ', ago);
  return {
    node: h(
      'dl',
      { class: 'facts' },
      [primary, pending, term, standbys, sent, timeout].map((each) => each.node),
    ),
    /** @param {import('./types').GroupStatus} state */
    update(state) {
      primary.value.replaceChildren(
        ...(state.Primary === null
          ? [nobody(state)]
          : [h('span', { class: 'role primary' }, foreign(state.Primary)), ' ', since]),
      );
      const handover =
        state.HandoverFrom === null ? null : h('span', { class: 'since' }, ' waits for ', foreign(state.HandoverFrom));
      pending.value.replaceChildren(
        ...(state.PendingPrimary === null
          ? ['–']
          : [h('span', { class: 'role pending' }, foreign(state.PendingPrimary)), ...(handover ? [handover] : [])]),
      );
      setText(term.value, whole(state.Term));
      setText(standbys.value, standbyWords(state));
      setText(timeout.value, duration(state.Milliseconds));
    },
    /**
     * @param {import('./types').GroupStatus} state
     * @param {number} now
     */
    tick(state, now) {
      const from = parseTime(state.PrimarySince);
      if (from !== null) setText(since, `since ${time(from, now)}, for ${age(now - from)}`);
      const at = parseTime(state.LastDataSendTime);
      setText(sentAt, at === null ? 'not known' : time(at, now));
      setText(ago, at === null ? '' : `${age(now - at)} ago`);
    },
  };
}
