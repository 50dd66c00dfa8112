//! The risks of groups by their names, and which of them count for somebody.

use clap::ValueEnum;

/// A risk, as it is named in arguments: like `no-primary`, or as the service names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Risk {
    /// Nobody is Primary, and no handover is under way
    #[value(alias = "NoPrimary")]
    NoPrimary,
    /// Nobody else is live
    #[value(alias = "NoStandby")]
    NoStandby,
    /// The Primary is below 90 per cent
    #[value(alias = "PrimaryUnhealthy")]
    PrimaryUnhealthy,
    /// The Primary changes hands all the time
    #[value(alias = "Flapping")]
    Flapping,
    /// Two clients seem to heartbeat as one session
    #[value(alias = "SameIdTwice")]
    SameIdTwice,
    /// The Primary reports no newer data
    #[value(alias = "DataStandsStill")]
    DataStandsStill,
    /// Times that a session says are ahead of the clock
    #[value(alias = "ClockAhead")]
    ClockAhead,
    /// A session heartbeats too seldom
    #[value(alias = "SeldomHeartbeats")]
    SeldomHeartbeats,
    /// More sessions are live than two pairs have
    #[value(alias = "ManySessions")]
    ManySessions,
    /// A client registers with a new id at each start
    #[value(alias = "NewIdEachStart")]
    NewIdEachStart,
}

impl Risk {
    /// As the service names it.
    pub fn name(self) -> &'static str {
        match self {
            Risk::NoPrimary => "NoPrimary",
            Risk::NoStandby => "NoStandby",
            Risk::PrimaryUnhealthy => "PrimaryUnhealthy",
            Risk::Flapping => "Flapping",
            Risk::SameIdTwice => "SameIdTwice",
            Risk::DataStandsStill => "DataStandsStill",
            Risk::ClockAhead => "ClockAhead",
            Risk::SeldomHeartbeats => "SeldomHeartbeats",
            Risk::ManySessions => "ManySessions",
            Risk::NewIdEachStart => "NewIdEachStart",
        }
    }
}

/// Which risks count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counting {
    /// All of them, also those that this program does not know yet.
    All,
    /// Some of them.
    Some(Counted),
}

/// Some of the risks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// These.
    Only(Vec<Risk>),
    /// All but these.
    AllBut(Vec<Risk>),
}

impl Counting {
    /// Only the ones, or all but the others.
    pub fn of(only: Option<&[Risk]>, but: &[Risk]) -> Counting {
        match (only, but) {
            (Some(only), _) => Counting::Some(Counted::Only(only.to_vec())),
            (None, []) => Counting::All,
            (None, but) => Counting::Some(Counted::AllBut(but.to_vec())),
        }
    }

    /// Whether one of these counts.
    pub fn includes_any(&self, risks: &[String]) -> bool {
        let named = |known: &[Risk], risk: &String| known.iter().any(|known| known.name() == risk);
        match self {
            Counting::All => !risks.is_empty(),
            Counting::Some(Counted::Only(only)) => risks.iter().any(|risk| named(only, risk)),
            Counting::Some(Counted::AllBut(but)) => risks.iter().any(|risk| !named(but, risk)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_counts_or_all_but_that() {
        let risks = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let only = Counting::of(Some(&[Risk::NoPrimary, Risk::Flapping]), &[]);
        let but = Counting::of(None, &[Risk::NoStandby]);
        for (found, all, by_only, by_but) in [
            (&[][..], false, false, false),
            (&["NoStandby"], true, false, false),
            (&["NoStandby", "Flapping"], true, true, true),
            (&["NoPrimary"], true, true, true),
            (&["OfANewerService"], true, false, true),
        ] {
            let found = risks(found);
            let told =
                [Counting::of(None, &[]), only.clone(), but.clone()].map(|counting| counting.includes_any(&found));
            assert_eq!(told, [all, by_only, by_but], "{found:?}");
        }
    }
}
