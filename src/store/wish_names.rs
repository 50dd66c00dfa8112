//! What rows, events and the log call a wish, and how one is read from its columns.

use chrono::{DateTime, Utc};

use crate::arbitration::{Instant, WhenSilent, Wish, WishEnd, Wished};

/// The name that rows, events and the log have for a wish.
pub fn wish_text(wish: Wish) -> &'static str {
    match wish {
        Wish::Forced(_) => "forced",
        Wish::Excluded => "excluded",
        Wish::SwitchTo => "switch_to",
        Wish::SwitchAway => "switch_away",
    }
}

/// What happens while a forced session is silent, where that is of account.
pub fn when_silent_text(wish: Wish) -> Option<&'static str> {
    match wish {
        Wish::Forced(WhenSilent::Replace) => Some("replace"),
        Wish::Forced(WhenSilent::Hold) => Some("hold"),
        Wish::Excluded | Wish::SwitchTo | Wish::SwitchAway => None,
    }
}

/// The name of how a wish ended.
pub fn wish_end_text(end: WishEnd) -> &'static str {
    match end {
        WishEnd::Done => "done",
        WishEnd::Expired => "expired",
        WishEnd::Withdrawn => "withdrawn",
        WishEnd::Replaced => "replaced",
    }
}

/// A wish, as two columns have it.
pub fn wish_from(wish: &str, when_silent: Option<&str>) -> Option<Wish> {
    const ALL: [Wish; 5] = [
        Wish::Forced(WhenSilent::Replace),
        Wish::Forced(WhenSilent::Hold),
        Wish::Excluded,
        Wish::SwitchTo,
        Wish::SwitchAway,
    ];
    ALL.into_iter().find(|known| wish_text(*known) == wish && when_silent_text(*known) == when_silent)
}

/// A wish as three columns have it, if there is one.
pub fn wished(wish: Option<&str>, when_silent: Option<&str>, until: Option<DateTime<Utc>>) -> Option<Wished> {
    let until = until.map(|until| Instant(until.timestamp_micros()));
    Some(Wished { wish: wish_from(wish?, when_silent)?, until })
}
