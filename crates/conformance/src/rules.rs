//! What a client has to keep, each with a name.

/// A rule for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Registers,
    RegistersAgain,
    Beats,
    BeatsInMeasure,
    OneAtATime,
    Acts,
    StandsBy,
    GoesOn,
    StopsAtTheEnd,
    StopsWhenTold,
    StopsWhenUnknown,
    IgnoresOldAnswers,
    LooksAtTheClock,
    SaysWhatIsSo,
    RemembersTheTerm,
    SaysGoodbyeLast,
    StaysUp,
}

impl Rule {
    /// In the order in which they are told.
    pub const ALL: [Rule; 17] = [
        Rule::Registers,
        Rule::RegistersAgain,
        Rule::Beats,
        Rule::BeatsInMeasure,
        Rule::OneAtATime,
        Rule::Acts,
        Rule::StandsBy,
        Rule::GoesOn,
        Rule::StopsAtTheEnd,
        Rule::StopsWhenTold,
        Rule::StopsWhenUnknown,
        Rule::IgnoresOldAnswers,
        Rule::LooksAtTheClock,
        Rule::SaysWhatIsSo,
        Rule::RemembersTheTerm,
        Rule::SaysGoodbyeLast,
        Rule::StaysUp,
    ];

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Registers => "registers",
            Rule::RegistersAgain => "registers-again",
            Rule::Beats => "beats",
            Rule::BeatsInMeasure => "beats-in-measure",
            Rule::OneAtATime => "one-at-a-time",
            Rule::Acts => "acts",
            Rule::StandsBy => "stands-by",
            Rule::GoesOn => "goes-on",
            Rule::StopsAtTheEnd => "stops-at-the-end",
            Rule::StopsWhenTold => "stops-when-told",
            Rule::StopsWhenUnknown => "stops-when-unknown",
            Rule::IgnoresOldAnswers => "ignores-old-answers",
            Rule::LooksAtTheClock => "looks-at-the-clock",
            Rule::SaysWhatIsSo => "says-what-is-so",
            Rule::RemembersTheTerm => "remembers-the-term",
            Rule::SaysGoodbyeLast => "says-goodbye-last",
            Rule::StaysUp => "stays-up",
        }
    }

    /// What it asks of a client.
    pub fn says(self) -> &'static str {
        match self {
            Rule::Registers => "registers its session, with the same id at each start",
            Rule::RegistersAgain => "after 404 registers again, and creates the group again if that is gone",
            Rule::Beats => "sends a heartbeat every half timeout, of the timeout that it was told last",
            Rule::BeatsInMeasure => "does not heartbeat again and again without need",
            Rule::OneAtATime => "has one heartbeat under way at a time",
            Rule::Acts => "acts when it is Primary",
            Rule::StandsBy => "acts only after it was told Primary",
            Rule::GoesOn => "acts on while its lease lasts, although an answer is missing or an error",
            Rule::StopsAtTheEnd => "stops when its lease is over, counted from the sending of the heartbeat",
            Rule::StopsWhenTold => "stops at once when it is told another role",
            Rule::StopsWhenUnknown => "stops at once on 404",
            Rule::IgnoresOldAnswers => "ignores an answer that comes after that to a later heartbeat",
            Rule::LooksAtTheClock => "looks at a clock before it acts: it may have been stopped in between",
            Rule::SaysWhatIsSo => "says in Failover-Role what is so: nothing is done after it said that it stands by",
            Rule::RemembersTheTerm => "says in Failover-Term the highest term that it was told",
            Rule::SaysGoodbyeLast => "deletes its session only after it has stopped",
            Rule::StaysUp => "does not end by itself, whatever it is answered",
        }
    }
}
