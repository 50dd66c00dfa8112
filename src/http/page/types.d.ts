// What the page's scripts are checked against; nothing of this is shipped. What the service answers
// and tells has the types that are made from the description of the API (see .ci/page).

import type { GroupStatus, OutlookBody, RoleChanged, Whoami } from '#api';

export type {
  Counted,
  DatabaseHistory,
  DatabaseHistoryChanged,
  GroupStatus,
  Foresight,
  Lifetime,
  NamespaceStatus,
  Risk,
  RoleChanged,
  SessionStatus,
  StatusPage,
} from '#api';

/** What a request is sent with. */
export interface RequestOptions {
  method?: string;
  /** Sent as JSON. */
  body?: unknown;
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

/** Of credentials that an issuer gave: when they end, by the browser's clock, and what others are had for. */
export interface Life {
  from: number;
  until: number | null;
  refreshToken: string | null;
}

/** Where people sign in with the issuer of tokens, and as which client of it. */
export interface SignInOffer {
  Issuer: string;
  /** Whether its answers say that they are its own. */
  NamesIssuer: boolean;
  ClientId: string;
  Scope: string;
  AuthorizationEndpoint: string;
}

/** What an issuer gave. */
export interface Tokens {
  AccessToken: string;
  ExpiresInMs: number | null;
  RefreshToken: string | null;
}

/** A sign-in that has begun: what the issuer's answer is believed by, and where it leads back to. */
export interface SignInBegun {
  state: string;
  verifier: string;
  redirectUri: string;
  issuer: string;
  namesIssuer: boolean;
  hash: string;
}

/** What somebody comes back from the issuer with: what is exchanged for a token, or what went wrong. */
export type SignInAnswer = { code: string; begun: SignInBegun } | { problem: string };

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
  /** What the same person asked with before. */
  before: string | null;
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

/** Who is asking, and what they have been granted. */
export type Caller = Whoami;

/** What is wished now, what would come of it, and what came of a switch-over that was waited for. */
export type Outlook = OutlookBody & {
  Outcome?: { Primary: string; TookMs: number; WithoutPrimaryMs: number } | null;
};

/** What becomes of whom if a group is deleted. */
export interface GroupOutlook {
  Time: string;
  Primary: string | null;
  Sessions: number;
  LiveSessions: number;
}

/** Something that was done to a group. */
export interface Deed {
  Id: number;
  Time: string;
  Event: string;
  By: string | null;
  SessionId: string | null;
  Wish: { Wish: string; Until: string | null } | null;
  Ended: string | null;
  Milliseconds: number | null;
}

/** What a group is to be configured by. */
export interface WantedConfiguration {
  Name: string | null;
  Description: string | null;
  Milliseconds?: number;
}

/** A request that changes something. */
export interface PlannedRequest {
  method: 'POST' | 'PUT' | 'DELETE';
  path: string;
  query?: Record<string, string | number | null>;
  body?: unknown;
}

/** Something that somebody may do, as a dialog offers it. */
export interface Offer {
  title: (string | Node)[];
  intro?: (string | Node)[];
  /** What the button that does it says. */
  verb: string;
  tone?: 'bad';
  fields?: Node[];
  /**
   * The request for what is entered, and what is missing until it may be sent; or why there is none
   * yet.
   */
  plan(): { request: PlannedRequest; missing?: string } | { problem: string };
  /** Whether the service can say what would come of it. */
  canForesee?: boolean;
  /** What would come of it. */
  foresee?(outlook: any): (Node | false)[];
  /** What is said while it is done. */
  meanwhile?: string;
  /** What came of it. */
  done(answer: any): (Node | false)[];
  /** It was asked for, whatever came of it. */
  after?(): void;
}
