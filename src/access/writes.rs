//! How often callers and tenants may change what is stored. Heartbeats have limits of their own and
//! are never counted here: each change leaves rows that are kept for months, and a heartbeat leaves
//! none.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::rates::Rates;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A client session is registered.
    Registration,
    /// A group is created, or its configuration replaced.
    GroupChange,
    /// A group or a client session is deleted.
    Deletion,
    /// Whatever is none of these, keys among it.
    Other,
}

impl Write {
    const ALL: [Write; 4] = [Write::Registration, Write::GroupChange, Write::Deletion, Write::Other];

    /// As the settings call it.
    fn text(self) -> &'static str {
        match self {
            Write::Registration => "registrations",
            Write::GroupChange => "changes",
            Write::Deletion => "deletions",
            Write::Other => "other",
        }
    }
}

/// How many changes of each kind there may be in an hour; `None` for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRates([Option<u32>; 4]);

impl WriteRates {
    /// What a tenant usually may: a fleet registers all of its sessions at once and more, and in
    /// the long run is bounded.
    pub const OF_TENANTS: WriteRates = WriteRates([Some(40_000), Some(12_000), Some(40_000), Some(4_000)]);

    /// What a caller usually may: half of that.
    pub const OF_CALLERS: WriteRates = WriteRates([Some(20_000), Some(6_000), Some(20_000), Some(2_000)]);

    /// Any number of each.
    pub const UNBOUNDED: WriteRates = WriteRates([None; 4]);

    /// These with some that a text gives: `registrations=1000`, `other=none`. `None` if it is none
    /// of that.
    #[must_use]
    pub fn with(mut self, text: &str) -> Option<WriteRates> {
        let (kind, count) = text.split_once('=')?;
        let write = Write::ALL.into_iter().find(|write| write.text() == kind.trim())?;
        self.0[write as usize] = match count.trim() {
            "none" => None,
            count => Some(count.parse().ok().filter(|count| *count >= 1)?),
        };
        Some(self)
    }
}

/// Somebody changes too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWrites {
    write: Write,
    whose: &'static str,
    per_hour: u32,
    /// In how long the next one may come.
    pub wait: Duration,
}

impl fmt::Display for TooManyWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.write {
            Write::Registration => "registrations of client sessions",
            Write::GroupChange => "groups created or changed",
            Write::Deletion => "deletions",
            Write::Other => "other changes",
        };
        write!(f, "{} had its {} {what} of an hour, on this replica", self.whose, self.per_hour)
    }
}

/// The changes of a replica, counted.
pub struct Writes {
    of_callers: Side,
    of_tenants: Side,
}

struct Side {
    whose: &'static str,
    rates: [Option<(u32, Rates)>; 4],
}

impl Side {
    fn new(whose: &'static str, WriteRates(rates): WriteRates) -> Side {
        Side { whose, rates: rates.map(|rate| rate.map(|count| (count, Rates::per_hour(count)))) }
    }

    fn count(&self, write: Write, who: &str, now: Instant) -> Result<(), TooManyWrites> {
        let Some((per_hour, rates)) = &self.rates[write as usize] else { return Ok(()) };
        let Side { whose, .. } = *self;
        rates.take(who, now).map_err(|wait| TooManyWrites { write, whose, per_hour: *per_hour, wait })
    }
}

impl Writes {
    /// None yet.
    pub fn new(of_callers: WriteRates, of_tenants: WriteRates) -> Writes {
        Writes { of_callers: Side::new("this caller", of_callers), of_tenants: Side::new("this tenant", of_tenants) }
    }

    /// Counts one, before anything is done for it: what is refused costs the database nothing.
    pub fn count(&self, write: Write, caller: &str, tenant: Option<&str>, now: Instant) -> Result<(), TooManyWrites> {
        self.of_callers.count(write, caller, now)?;
        match tenant {
            Some(tenant) => self.of_tenants.count(write, tenant, now),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_the_kind_and_leaves_the_others_as_they_are() {
        let rates = WriteRates::OF_TENANTS.with("changes=7").and_then(|rates| rates.with("other=none"));
        assert_eq!(rates, Some(WriteRates([Some(40_000), Some(7), Some(40_000), None])));
        for bad in ["changes", "changes=", "changes=0", "changes=-1", "changes=many", "=1", "heartbeats=1"] {
            assert_eq!(WriteRates::OF_TENANTS.with(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_kind_is_counted_by_itself_for_callers_and_for_tenants() {
        let rates = |text: &str| WriteRates::UNBOUNDED.with(text).expect("it is good");
        let writes = Writes::new(rates("changes=2"), rates("changes=3"));
        let now = Instant::now();
        let taken = |write, caller, tenant| writes.count(write, caller, Some(tenant), now).map_err(|error| error.whose);
        assert_eq!([0; 3].map(|_| taken(Write::GroupChange, "a", "t")), [Ok(()), Ok(()), Err("this caller")]);
        assert_eq!([0; 2].map(|_| taken(Write::GroupChange, "b", "t")), [Ok(()), Err("this tenant")]);
        assert_eq!(taken(Write::GroupChange, "c", "u"), Ok(()));
        assert_eq!(taken(Write::Deletion, "a", "t"), Ok(()));
    }
}
