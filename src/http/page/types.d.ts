// What the page's scripts are checked against; nothing of this is shipped. What the service answers
// and tells has the types that are made from the description of the API (see .ci/page).

import type { GroupStatus, RoleChanged } from '#api';

export type {
  Counted,
  DatabaseHistory,
  DatabaseHistoryChanged,
  GroupStatus,
  Lifetime,
  NamespaceStatus,
  Risk,
  RoleChanged,
  SessionStatus,
  StatusPage,
} from '#api';

/** What a request is sent with. */
export interface RequestOptions {
  query?: Record<string, string | number | null | undefined>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  authorization?: string | null;
}

/** An answer, and when it was asked for and had, on the clock that nobody sets. */
export interface Answer<T> {
  body: T;
  askedAt: number;
  at: number;
  tookMs: number;
  total: number;
}

/** What the service says of itself, and of whoever asks. */
export interface About {
  Version: string;
  Commit: string | null;
  Replica: string;
  Rights: { TenantId: string; NamespaceId: string; Groups?: string[] | null; Role: string }[];
}

/** What an address of the page shows. */
export interface Route {
  kind: 'overview' | 'group';
  tenant?: string;
  namespace?: string;
  group?: string;
  query: URLSearchParams;
}

/** What a view may ask of the page around it. */
export interface Context {
  restart(): void;
  refresh(): void;
}

/** An object behind a child that `reconcile` made. */
export interface Row<T> {
  node: Element;
  update(item: T): void;
}

/** Who hears of a stream of events. */
export interface Listener {
  /** It is (again) open: what is shown is to be read anew. */
  open(): void;
  /** A sign that whatever is new has come. */
  alive(): void;
  event(name: string, data: any): void;
  /** It has broken, and will be tried again. */
  down(error: Fault | null): void;
  /** To try again would not help. */
  refused(refusal: Fault): void;
}

/** Of a stream that windows share. */
export interface SharedListener extends Listener {
  /** This browser has as many streams as it may. */
  full(): void;
  /** It cannot share one. */
  missing(): void;
}

/** What a window asks its worker for. */
export interface Want {
  kind: 'want';
  turn: number;
  authorization: string | null;
  path: string;
  tenant?: string;
  namespace?: string;
  group?: string;
}

/** What a window says to its worker. */
export type ToWorker = Want | { kind: 'leave' } | { kind: 'hurry' };

/** What a worker says to its window: of what it asked for in that turn. */
export type FromWorker = { turn?: number } & (
  | { kind: 'open' | 'alive' | 'full' | 'here' }
  | { kind: 'event'; name: string; data: any }
  | { kind: 'down'; error: Fault | null }
  | { kind: 'refused'; error: Fault }
);

/** What is known of how new that is which is shown. */
export interface Knowledge {
  isPaused: boolean;
  isStale: boolean;
  /** The service's clock; null before the first answer. */
  since: number | null;
  isJustResumed: boolean;
  error: Fault | null;
  isStreamed: boolean;
  stream: StreamState;
  streamError: Fault | null;
  hasRead: boolean;
}

export type StreamState = 'connecting' | 'open' | 'down' | 'full' | 'missing';

/** An error, which may have come from a worker as a copy. Those of an answer have its status. */
export interface Fault {
  message: string;
  status?: number;
  title?: string;
  challenge?: string;
  retryAfterMs?: number;
}

/** A time in which a session held Primary or PendingPrimary; null where the time shown begins or ends. */
export interface Holding {
  session: string;
  role: number;
  from: number;
  to: number;
  opened: RoleChanged | null;
  closed: RoleChanged | null;
}

/** A time in which nobody was Primary. */
export interface Gap {
  from: number;
  to: number;
  ended: RoleChanged | null;
  isOpen?: boolean;
  isHandover: boolean;
}

/** What a timeline shows. */
export interface Past {
  changes: RoleChanged[];
  lifetimes: import('#api').Lifetime[];
  state: GroupStatus | null;
  /** The sessions that are shown whatever they held. */
  names: string[];
  /** The sessions whose present role they have had since before, or all that time. */
  sessions: GroupStatus['Sessions'];
  since: number;
  until: number;
  knownFrom: number;
}

/** A bar of a timeline. */
export interface Bar {
  key: string;
  kind: string;
  isOpen?: boolean;
  change: RoleChanged | null;
  label: string;
  words(now: number): (string | Element)[];
  left: string;
  width: string;
}
