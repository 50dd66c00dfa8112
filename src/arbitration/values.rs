//! The values that roles are decided on. Each is valid by its type.

use rust_decimal::Decimal;

/// An instant of the database's clock: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub i64);

impl Instant {
    /// The instant one failover timeout later.
    pub fn plus(self, timeout: FailoverTimeout) -> Instant {
        Instant(self.0.saturating_add(timeout.micros()))
    }
}

/// An instant of one client's own clock, in microseconds since 1970-01-01 UTC. It is compared with
/// earlier instants of the same client: no decision rests on a client's clock being right. With the
/// database's it is compared only to bound for how long a wrong one is remembered, and to refuse a
/// leap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientInstant(pub i64);

/// A group's failover timeout in ticks of 100 ns, from 100 ms to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailoverTimeout(i64);

impl FailoverTimeout {
    /// Ticks in a millisecond.
    pub const TICKS_PER_MS: i64 = 10_000;
    /// The shortest timeout, 100 ms, in ticks.
    pub const MIN_TICKS: i64 = 100 * Self::TICKS_PER_MS;
    /// The longest timeout, 24 h, in ticks.
    pub const MAX_TICKS: i64 = 24 * 3_600_000 * Self::TICKS_PER_MS;
    /// What a group has that names none: one minute.
    pub const DEFAULT: FailoverTimeout = FailoverTimeout(60_000 * Self::TICKS_PER_MS);

    /// The timeout of so many ticks; `None` outside the bounds.
    pub fn from_ticks(ticks: i64) -> Option<FailoverTimeout> {
        (Self::MIN_TICKS..=Self::MAX_TICKS).contains(&ticks).then_some(FailoverTimeout(ticks))
    }

    /// The duration in ticks of 100 ns.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// The duration in whole microseconds, rounded up: a lease must not end before the client's
    /// trust in it.
    pub fn micros(self) -> i64 {
        (self.0 + 9) / 10
    }

    /// The duration in whole milliseconds, cut: a client must not trust its lease for longer than
    /// it has it.
    pub fn whole_ms(self) -> i64 {
        self.0 / Self::TICKS_PER_MS
    }
}

/// Per cent of a client's streams that are healthy, exactly as reported: 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Health(Decimal);

impl Health {
    /// By how much shares that add up to 100 may exceed it when they are added up as doubles.
    const ROUNDING: Decimal = Decimal::from_parts(1, 0, 0, false, 6);

    /// The health of so many per cent; `None` outside 0 to 100. What exceeds 100 by a millionth at
    /// most is 100.
    pub fn new(percent: Decimal) -> Option<Health> {
        let is_rounded_up = percent > Decimal::ONE_HUNDRED && percent - Decimal::ONE_HUNDRED <= Health::ROUNDING;
        let percent = if is_rounded_up { Decimal::ONE_HUNDRED } else { percent };
        (Decimal::ZERO..=Decimal::ONE_HUNDRED)
            .contains(&percent)
            // Zero has a sign in a decimal, and minus zero would be shown.
            .then_some(Health(percent.abs()))
    }

    /// The per cent as reported.
    pub fn percent(self) -> Decimal {
        self.0
    }
}

/// What a session is allowed to do. The numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Role {
    /// Everybody else, and everybody new.
    Secondary = 0,
    /// Holds the lease to send data; at most one in a group.
    Primary = 1,
    /// Chosen to take over; waits for the Primary to yield or lapse. At most one in a group.
    PendingPrimary = 2,
}

impl Role {
    /// The role of that number, if it is one.
    pub fn from_number(number: i16) -> Option<Role> {
        match number {
            0 => Some(Role::Secondary),
            1 => Some(Role::Primary),
            2 => Some(Role::PendingPrimary),
            _ => None,
        }
    }

    /// The number on the wire and in the database.
    pub fn number(self) -> i16 {
        self as i16
    }
}

/// How often Primary has been granted in the groups at a path to a session that did not hold it:
/// rises by one with each grant, never falls, is never reused, not even by another group at the
/// same path. Whoever receives the data can refuse a sender with an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub i64);

/// The number of a history of the database among those that it knows; 0 for none that was ever
/// noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(pub i64);

/// A history of the database that began without all of the one before: grants that clients were
/// told of may be missing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Its number.
    pub id: HistoryId,
    /// When it was noticed. Whatever was lost was answered before that.
    pub noticed_at: Instant,
    /// A term that nobody was given before.
    pub base: Term,
}
