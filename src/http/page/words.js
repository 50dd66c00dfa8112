// What the service's numbers and codes are called on the page.

export const PRIMARY = 1;
export const PENDING = 2;

/**
 * A role as the API calls it. Of one whose lease has run out it is said that it is silent: its role
 * is Secondary, but it does not stand by.
 *
 * @param {number} role
 */
export function roleWord(role, live = true) {
  if (role === PRIMARY) return 'Primary';
  if (role === PENDING) return 'PendingPrimary';
  return live ? 'Secondary' : 'Silent';
}

/** @type {Record<number, string>} */
const KINDS = { [PRIMARY]: 'primary', [PENDING]: 'pending' };

/**
 * What the style sheet calls the role of a session.
 *
 * @param {import('./types').SessionStatus} session
 */
export function roleKind({ Role: role, Live: live }) {
  if (!live) return 'silent';
  return KINDS[role] ?? 'standby';
}

/** @type {Record<string, string>} */
const REASONS = {
  first_heartbeat: 'first heartbeat of the group',
  lease_lapsed: 'a lease ran out',
  healthier: 'healthier than the Primary',
  yielded: 'stepped down for a healthier one',
  handover_completed: 'handover completed',
  recovered: 'recovered before the handover',
  session_deleted: 'a session was deleted',
  superseded: 'another ranks higher',
  override: 'an operator wished it so',
  override_ended: 'an operator’s wish ended',
};

/**
 * How many could take over, of how many that are not Primary.
 *
 * @param {import('./types').GroupStatus} group
 */
export function standbyWords(group) {
  if (group.RegisteredSessions === 0) return '–';
  return `${whole(group.StandbysReady)} of ${whole(group.RegisteredSessions - (group.Primary === null ? 0 : 1))}`;
}

/**
 * A reason for people; one that is not known here is shown as it is.
 *
 * @param {string} reason
 */
export function reasonWord(reason) {
  return REASONS[reason] ?? reason.replaceAll('_', ' ');
}

/** @type {Record<string, string>} */
const ACTORS = { heartbeat: 'a heartbeat', sweep: 'the service', operator: 'an operator' };

/** @param {string} actor */
export function actorWord(actor) {
  return ACTORS[actor] ?? actor;
}

/**
 * Why a group is at risk: a short word, and the sentence.
 *
 * @param {import('./types').Risk} risk
 * @param {import('./types').GroupStatus} group
 */
export function riskWords(risk, group) {
  switch (risk) {
    case 'NoPrimary':
      return isTakingOver(group) ? ['Takeover', takeoverWords(group)] : ['No Primary', vacancyWords(group)];
    case 'NoStandby':
      return ['No standby', 'Nobody could take over if the Primary fell silent.'];
    case 'PrimaryUnhealthy':
      return ['Primary unhealthy', 'The Primary reports less than 90 % healthy streams.'];
    case 'Flapping':
      return group.HealthSwings
        ? [
            'Health swings',
            'Primary was granted at least four times in ten minutes, for the health of its sessions goes up and down, and whichever is healthier takes over. Look at what they report as their health.',
          ]
        : ['Flapping', 'Primary was granted at least four times in ten minutes.'];
    case 'SameIdTwice':
      return [
        'Same id twice',
        `The heartbeats of ${riskySessions(risk, group)} look like those of two clients with one id, and both are told its role. Stop one of them, or give it an id of its own.`,
      ];
    case 'DataStandsStill':
      return [
        'Data stands still',
        `The Primary, ${riskySessions(risk, group)}, heartbeats but reports no newer data${atMost(risk, group, 'DataStillMs', ' for ')}. Look at its source, and at where it sends.`,
      ];
    case 'ClockAhead':
      return [
        'Clock ahead',
        `Times that ${riskySessions(risk, group)} said are ahead of the service's clock${atMost(risk, group, 'ClockAheadMs', ' by ')}: standbys may drop data that nobody has sent. Set the clock of the host.`,
      ];
    case 'SeldomHeartbeats':
      return [
        'Seldom heartbeats',
        `Heartbeats of ${riskySessions(risk, group)} come${atMost(risk, group, 'HeartbeatIntervalMs', ' every ')} and not every half timeout, ${duration(group.Milliseconds / 2)}. Set the timeout in the client's configuration to the group's.`,
      ];
    case 'ManySessions':
      return [
        'Many sessions',
        `${count(group.LiveSessions, 'session')} are live, more than two pairs. Give each pair a group of its own, and delete what is left over.`,
      ];
    case 'NewIdEachStart':
      return [
        'New id each start',
        `${count(group.RegisteredSessions - group.LiveSessions, 'session')} are silent, and some took the place of another: a client registers with a new id at each start. Have it keep its id, and delete those that are left over.`,
      ];
    default:
      return [risk, risk];
  }
}

/**
 * How loud a risk is: what is planned or over in a moment is no alarm.
 *
 * @param {import('./types').Risk} risk
 * @param {import('./types').GroupStatus} group
 */
export function riskTone(risk, group) {
  if (risk !== 'NoPrimary') return 'warn';
  return isTakingOver(group) ? 'handover' : 'bad';
}

/**
 * The sessions that a risk is told by; of very many, only those that are listed are known.
 *
 * @param {import('./types').Risk} risk
 * @param {import('./types').GroupStatus} group
 */
function riskySessions(risk, group) {
  const ids = group.Sessions.filter((session) => session.Risks.includes(risk)).map((session) => session.SessionId);
  return ids.length === 0 ? 'a session' : ids.join(', ');
}

/**
 * The most of a measure that any of them has, in words; nothing where that is not known.
 *
 * @param {import('./types').Risk} risk
 * @param {import('./types').GroupStatus} group
 * @param {'DataStillMs' | 'ClockAheadMs' | 'HeartbeatIntervalMs'} measure
 * @param {string} before
 */
function atMost(risk, group, measure, before) {
  const known = group.Sessions.filter((session) => session.Risks.includes(risk)).map(
    (session) => session[measure] ?? 0,
  );
  const most = Math.max(0, ...known);
  return most === 0 ? '' : `${before}${age(most)}`;
}

/**
 * Whether nobody is Primary because one has stepped down, and another takes over as soon as that is
 * safe.
 *
 * @param {import('./types').GroupStatus} group
 */
export function isHandingOver(group) {
  return group.Primary === null && group.HandoverFrom !== null && group.LiveSessions > 0;
}

/**
 * Whether nobody is Primary for this moment alone: a live session is chosen, and is told with its
 * next heartbeat.
 *
 * @param {import('./types').GroupStatus} group
 */
export function isTakingOver(group) {
  return (
    group.Primary === null &&
    group.PendingPrimary !== null &&
    !isHandingOver(group) &&
    !group.InDoubtUntil &&
    group.VacantByWish === null
  );
}

/** @param {import('./types').GroupStatus} group */
function takeoverWords({ PendingPrimary: to }) {
  return `Nobody acts for a moment: ${to} is chosen, and is told that it is Primary with its next heartbeat.`;
}

/**
 * Whether a Primary acts that another is about to take over from, because it is healthier or
 * because an operator wishes it so.
 *
 * @param {import('./types').GroupStatus} group
 */
export function isToHandOver(group) {
  return group.Primary !== null && group.PendingPrimary !== null;
}

/** @param {import('./types').GroupStatus} group */
export function handoverWords({ Primary: primary, HandoverFrom: from, PendingPrimary: to }) {
  if (primary !== null) return `${to} is to take over from ${primary}, which steps down with its next heartbeat.`;
  return `A handover from ${from}${to === null ? '' : ` to ${to}`} is under way: nobody is granted Primary until it is safe.`;
}

/** @param {import('./types').GroupStatus} group */
function vacancyWords({ LiveSessions: live, RegisteredSessions: all, VacantByWish: wish }) {
  if (wish === 'Held') return 'Nobody acts: an operator holds the place for a session that is silent.';
  if (wish === 'Excluded') return 'Nobody acts: an operator has excluded all sessions that are live.';
  if (live > 0)
    return `Nobody acts, though ${whole(live)} of ${count(all, 'session')} ${live === 1 ? 'is' : 'are'} live.`;
  return `Nobody acts: ${all === 1 ? 'its only session is' : 'all its sessions are'} silent.`;
}

/**
 * What an operator wishes of a session, as a sentence.
 *
 * @param {import('./types').SessionStatus} session
 * @param {number | null} now
 */
export function wishSentence({ SessionId: id, Wish: wish }, now) {
  if (wish === null) return '';
  const until = parseTime(wish.Until);
  const end = until === null ? 'until that is withdrawn' : `until ${time(until, now)}`;
  return `${WISHES[wish.Wish]?.(id) ?? `${id}: ${wish.Wish}`}, ${end}.`;
}

/** @type {Record<string, (id: string) => string>} */
const WISHES = {
  Forced: (id) => `An operator has forced ${id}: it is Primary before all others while it is live`,
  Excluded: (id) => `An operator has excluded ${id}: it is not Primary`,
  SwitchTo: (id) => `An operator switches over to ${id}`,
  SwitchAway: (id) => `An operator switches over from ${id} to another`,
};

/** @type {Record<string, string>} */
const HISTORIES = {
  another_server: 'it is on another server',
  another_database: 'it is another database',
  another_timeline: 'a standby was promoted, or a backup restored',
  came_back: 'one came back that the service had left',
  went_back: 'an older state was restored',
};
/** For so long a new history of the database is worth a word. */
const NEWS_MS = 24 * 3_600_000;

/**
 * What is said of a new history of the database; null where there is nothing to say.
 *
 * @param {import('./types').DatabaseHistory | null} history
 * @param {number} inDoubt
 * @param {number | null} now
 */
export function historyWords(history, inDoubt, now) {
  if (!history || (history.AgeMs > NEWS_MS && inDoubt === 0)) return null;
  const why = HISTORIES[history.Reason] ?? history.Reason.replaceAll('_', ' ');
  const since = `The database has a new history since ${time(Date.parse(history.Time), now)}: ${why}.`;
  if (history.IsTrusted) return `${since} Nothing was lost by it, as the service is told by its settings.`;
  const lost =
    history.LastSignAt === null
      ? ''
      : ` What was answered after ${time(Date.parse(history.LastSignAt), now)} may be lost.`;
  const doubt =
    inDoubt === 0
      ? ''
      : ` ${count(inDoubt, 'group')} ${inDoubt === 1 ? 'is' : 'are'} in doubt: where no client says that it acts, nobody is Primary until nobody else can.`;
  return since + lost + doubt;
}

/**
 * Why nobody may be Primary for a while; null where nothing is in doubt.
 *
 * @param {import('./types').GroupStatus} group
 * @param {number | null} now
 */
export function doubtWords({ InDoubtUntil: until }, now) {
  if (!until) return null;
  return `In doubt until ${time(Date.parse(until), now)}: the database has a new history, and somebody may act on a lease that was lost with the one before. Until then only a client that says it acts is Primary.`;
}

/**
 * What a list of groups can be narrowed to, as a tile calls it, and after the word "groups".
 *
 * @type {Record<string, [string, string]>}
 */
export const NARROWINGS = {
  at_risk: ['At risk', 'at risk'],
  handing_over: ['Handover', 'in a handover'],
  NoPrimary: ['No Primary', 'without a Primary'],
  NoStandby: ['No standby', 'without a standby'],
  PrimaryUnhealthy: ['Unhealthy', 'with an unhealthy Primary'],
  Flapping: ['Flapping', 'whose Primary changes hands all the time'],
  SameIdTwice: ['Same id twice', 'with the same id twice'],
  DataStandsStill: ['Data stands still', 'whose data stands still'],
  ClockAhead: ['Clock ahead', 'with a clock that is ahead'],
  SeldomHeartbeats: ['Seldom heartbeats', 'with seldom heartbeats'],
  ManySessions: ['Many sessions', 'with many sessions'],
  NewIdEachStart: ['New id each start', 'with clients of a new id at each start'],
};

/**
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${whole(number)} ${noun}${number === 1 ? '' : 's'}`;
}

const WHOLE = new Intl.NumberFormat('en', { useGrouping: true });

/** @param {number} number */
export function whole(number) {
  return WHOLE.format(number);
}

/** @type {[number, string, number, string][]} */
const UNITS = [
  [86_400, 'd', 3_600, 'h'],
  [3_600, 'h', 60, 'min'],
  [60, 'min', 1, 's'],
];

/**
 * A duration in the two largest units that matter.
 *
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10 && !Number.isInteger(seconds)) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  for (const [size, unit, smallerSize, smallerUnit] of UNITS) {
    if (seconds < size) continue;
    const large = Math.floor(seconds / size);
    const small = Math.floor((seconds % size) / smallerSize);
    return small === 0 || large >= 100 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallerUnit}`;
  }
  return `${Math.floor(seconds)} s`;
}

/**
 * The age of something, without a fraction that would change all the time.
 *
 * @param {number} ms
 */
export function age(ms) {
  return ms < 10_000 ? `${Math.max(0, Math.floor(ms / 1_000))} s` : duration(ms);
}

/** @type {(number: number) => string} */
const two = (number) => String(number).padStart(2, '0');

/**
 * Whether times are those of UTC, and not of the reader's zone: kept in this browser, for all
 * windows of the page.
 */
export const times = {
  STORED: 'client-failover.times',
  isUtc: false,
  /** What was chosen last, here or in another window. */
  recall() {
    try {
      this.isUtc = localStorage.getItem(this.STORED) === 'UTC';
    } catch {
      // A browser that keeps nothing: the choice lasts as long as the window.
    }
  },
  /** @param {boolean} isUtc */
  choose(isUtc) {
    this.isUtc = isUtc;
    try {
      localStorage.setItem(this.STORED, isUtc ? 'UTC' : 'local');
    } catch {
      // See above.
    }
  },
};
times.recall();

/**
 * By how much the times that are shown are ahead of UTC.
 *
 * @param {number} ms
 */
export function offset(ms) {
  return times.isUtc ? 0 : -new Date(ms).getTimezoneOffset() * 60_000;
}

/**
 * A time of day, in UTC or in the reader's zone.
 *
 * @param {number} ms
 */
export function timeOfDay(ms, withMillis = false) {
  const at = new Date(ms + offset(ms));
  const text = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
  return withMillis ? `${text}.${String(at.getUTCMilliseconds()).padStart(3, '0')}` : text;
}

/** @param {number} ms */
export function date(ms) {
  const at = new Date(ms + offset(ms));
  return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
}

/**
 * A time, with its date where that is not today's.
 *
 * @param {number} ms
 * @param {number | null} now
 */
export function time(ms, now, withMillis = false) {
  const today = now !== null && date(ms) === date(now);
  return today ? timeOfDay(ms, withMillis) : `${date(ms)} ${timeOfDay(ms, withMillis)}`;
}

/**
 * The zone that times are shown in, as an offset.
 *
 * @param {number} ms
 */
export function zone(ms) {
  const minutes = offset(ms) / 60_000;
  if (minutes === 0) return 'UTC';
  const sign = minutes < 0 ? '−' : '+';
  return `UTC${sign}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

/**
 * Year 1 stands for "none" in this interface.
 *
 * @param {string | null | undefined} text
 */
export function parseTime(text) {
  return !text || text.startsWith('0001-01-01') ? null : Date.parse(text);
}

/**
 * Per cent, with a digit where it says more.
 *
 * @param {number} value
 */
export function percent(value) {
  return `${Number.isInteger(value) ? value : value.toFixed(1)} %`;
}
