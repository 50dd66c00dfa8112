//! The bounds of a group's failover timeout, in the ticks of a [time span](crate::timespan).

use std::ops::RangeInclusive;

/// Ticks of 100 ns in a millisecond.
pub const TICKS_PER_MS: i64 = 10_000;

/// From 100 ms to 24 h.
pub const BOUNDS_TICKS: RangeInclusive<i64> = 100 * TICKS_PER_MS..=24 * 3_600_000 * TICKS_PER_MS;

/// What a group has that names none: one minute.
pub const DEFAULT_TICKS: i64 = 60_000 * TICKS_PER_MS;
