//! Which rules a client broke, by what happened.
//!
//! It may be told to act by what it was answered, until that time since the heartbeat arrived: it
//! was sent before. That it acts is seen a moment later than it is done, so a moment is allowed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::record::{Event, PRIMARY, Told};
use super::rules::Rule;
use super::scenes::Scene;

/// A rule that was broken, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: Rule,
    /// Since the beginning of the scene.
    pub at: Duration,
    pub what: String,
}

/// What one scene came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The first breach of each rule.
    pub broken: Vec<Broken>,
    /// The rules that it was put to.
    pub tried: BTreeSet<Rule>,
    /// The ids that it registered with.
    pub sessions: BTreeSet<String>,
}

impl Verdict {
    fn breach(&mut self, rule: Rule, at: Duration, what: String) {
        self.tried.insert(rule);
        if self.broken.iter().all(|broken| broken.rule != rule) {
            self.broken.push(Broken { rule, at, what });
        }
    }
}

/// Heartbeats in one timeout that nobody needs.
const TOO_MANY: usize = 60;

struct Beat {
    n: usize,
    at: Duration,
    ended: Option<(Duration, End)>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Role(Told),
    Refused(u16),
    GivenUp,
}

/// Why it may not act now.
#[derive(Clone, Copy)]
enum Idle {
    NeverTold,
    Told(u8),
    Unknown,
    SaidSo,
}

/// Judges one scene. `timeout` is what the group had as it began; `moment` is what is allowed.
pub fn judge(scene: &Scene, events: &[(Duration, Event)], timeout: Duration, moment: Duration) -> Verdict {
    let mut verdict = Verdict::default();
    acts(scene, events, moment, &mut verdict);
    heartbeats(scene, &beats_of(events), end_of(events), timeout, moment, &mut verdict);
    registrations(events, timeout, moment, &mut verdict);
    what_it_says(events, moment, &mut verdict);
    goes_on(scene, events, timeout, moment, &mut verdict);
    verdict
}

/// When it was told to end, or ended.
fn end_of(events: &[(Duration, Event)]) -> Duration {
    let is_end = |(_, event): &&(Duration, Event)| matches!(event, Event::ToldToEnd | Event::Ended { .. });
    events.iter().find(is_end).map_or(Duration::MAX, |(at, _)| *at)
}

fn beats_of(events: &[(Duration, Event)]) -> Vec<Beat> {
    let mut beats: Vec<Beat> = Vec::new();
    for (at, event) in events {
        let (n, end) = match event {
            Event::Beat { n, .. } => {
                beats.push(Beat { n: *n, at: *at, ended: None });
                continue;
            }
            Event::Stray { .. } => {
                beats.push(Beat { n: 0, at: *at, ended: Some((*at, End::Refused(404))) });
                continue;
            }
            Event::Answered { n, told } => (n, End::Role(*told)),
            Event::Refused { n, status } => (n, End::Refused(*status)),
            Event::GivenUp { n } => (n, End::GivenUp),
            _ => continue,
        };
        if let Some(beat) = beats.iter_mut().find(|beat| beat.n == *n) {
            beat.ended.get_or_insert((*at, end));
        }
    }
    beats
}

/// Each act against what it was told until then.
fn acts(scene: &Scene, events: &[(Duration, Event)], moment: Duration, verdict: &mut Verdict) {
    let mut arrived: Vec<Duration> = vec![Duration::ZERO];
    // The newest heartbeat whose answer counts, and until when it may act by it.
    let (mut newest, mut until, mut since) = (0, Duration::ZERO, Duration::ZERO);
    let mut idle = Idle::NeverTold;
    let mut old_answer: Option<Duration> = None;
    let mut said_idle = 0;
    let mut continued: Option<Duration> = None;
    let mut goodbye: Option<Duration> = None;
    for (at, event) in events {
        match event {
            Event::Beat { n, role, .. } => {
                arrived.push(*at);
                if role.is_some_and(|role| role != PRIMARY) {
                    said_idle = *n;
                    if until > *at {
                        (until, since, idle) = (Duration::ZERO, *at, Idle::SaidSo);
                    }
                }
            }
            Event::Answered { n, .. } if *n < newest || *n < said_idle => old_answer = Some(*at),
            Event::Answered { n, told } => {
                newest = *n;
                if told.role == PRIMARY {
                    until = arrived.get(*n).map_or(Duration::ZERO, |arrived| *arrived + told.lease);
                    continued = None;
                } else {
                    (until, since, idle) = (Duration::ZERO, *at, Idle::Told(told.role));
                }
            }
            Event::Refused { n, status: 404 } if *n >= newest => {
                (newest, until, since, idle) = (*n, Duration::ZERO, *at, Idle::Unknown);
            }
            Event::Stray { .. } => (until, since, idle) = (Duration::ZERO, *at, Idle::Unknown),
            Event::Registered { status: 200, .. } => goodbye = None,
            Event::Continued => continued = Some(*at),
            Event::Goodbye => goodbye = Some(*at),
            Event::Acted if goodbye.is_some_and(|goodbye| *at > goodbye + moment / 4) => {
                verdict.breach(Rule::SaysGoodbyeLast, *at, "it acted after it had deleted its session".to_owned());
            }
            Event::Acted if *at > until + moment && *at > since + moment => {
                let (rule, what) = match (until, idle) {
                    _ if until > Duration::ZERO && continued.is_some() => (
                        Rule::LooksAtTheClock,
                        format!("it acted after it had been stopped until {}", seconds(continued.unwrap_or_default())),
                    ),
                    _ if until > Duration::ZERO => {
                        (Rule::StopsAtTheEnd, format!("it acted {} after the end of its lease", seconds(*at - until)))
                    }
                    (_, Idle::NeverTold) => (Rule::StandsBy, "it acted before it was ever Primary".to_owned()),
                    (_, Idle::Told(role)) if old_answer.is_some_and(|old| old >= since) => (
                        Rule::IgnoresOldAnswers,
                        format!("it acted by an answer that came after it was told the role {role}"),
                    ),
                    (_, Idle::Told(role)) => {
                        let rule = if scene.name == "standby" { Rule::StandsBy } else { Rule::StopsWhenTold };
                        (rule, format!("it acted {} after it was told the role {role}", seconds(*at - since)))
                    }
                    (_, Idle::Unknown) => {
                        (Rule::StopsWhenUnknown, format!("it acted {} after 404", seconds(*at - since)))
                    }
                    (_, Idle::SaidSo) => (Rule::SaysWhatIsSo, "it acted after it had said that it does not".to_owned()),
                };
                verdict.breach(rule, *at, what);
            }
            _ => {}
        }
    }
    verdict.tried.insert(match scene.name {
        "standby" => Rule::StandsBy,
        "demoted" | "handover" => Rule::StopsWhenTold,
        "unknown" | "deleted" => Rule::StopsWhenUnknown,
        "crossed" => Rule::IgnoresOldAnswers,
        "paused" => Rule::LooksAtTheClock,
        "primary" | "refused" | "timeout" => Rule::Acts,
        _ => Rule::StopsAtTheEnd,
    });
    if goodbye.is_some() {
        verdict.tried.insert(Rule::SaysGoodbyeLast);
    }
}

fn heartbeats(
    scene: &Scene,
    beats: &[Beat],
    end: Duration,
    timeout: Duration,
    moment: Duration,
    verdict: &mut Verdict,
) {
    verdict.tried.extend([Rule::Beats, Rule::BeatsInMeasure, Rule::OneAtATime]);
    let mut told = timeout;
    for (place, beat) in beats.iter().enumerate() {
        let next = beats.get(place + 1).map_or(end, |next| next.at).min(end);
        if let Some((_, End::Role(answer))) = beat.ended {
            told = answer.timeout;
        }
        // One that is not answered is waited for, and the next is due at the next beat.
        let (from, allowed) = match beat.ended {
            Some((_, End::Refused(404))) => continue,
            Some((at, End::Role(_))) => (beat.at.max(at.saturating_sub(told / 2)), told / 2),
            Some((_, End::Refused(_))) => (beat.at, told / 2),
            _ => (beat.at, told),
        };
        let is_paused = scene.pauses_after.is_some_and(|n| beat.n >= n);
        if next > from + allowed + moment && !is_paused {
            let what = format!(
                "the heartbeat after that of {} was not there {} later; half of the timeout is {}",
                seconds(beat.at),
                seconds(allowed + moment),
                seconds(told / 2)
            );
            verdict.breach(Rule::Beats, from + allowed, what);
        }
        // After half a timeout it may give up waiting, and need not tell anybody.
        if let Some(next) = beats.get(place + 1)
            && next.at + moment < beat.at + told / 2
            && beat.ended.is_none_or(|(ended, _)| ended > next.at + moment / 2)
        {
            let what = format!("heartbeat {} came while {} was under way", next.n, beat.n);
            verdict.breach(Rule::OneAtATime, next.at, what);
        }
        let until = beat.at + timeout;
        let count = beats[place..].iter().take_while(|later| later.at < until).count();
        if count > TOO_MANY {
            let what = format!("{count} heartbeats in one timeout");
            verdict.breach(Rule::BeatsInMeasure, beat.at, what);
        }
    }
    if beats.is_empty() {
        verdict.breach(Rule::Beats, Duration::ZERO, "it sent no heartbeat".to_owned());
    }
}

fn registrations(events: &[(Duration, Event)], timeout: Duration, moment: Duration, verdict: &mut Verdict) {
    verdict.tried.insert(Rule::Registers);
    let (mut unknown_since, mut goodbye): (Option<Duration>, Option<Duration>) = (None, None);
    let mut has_beaten = false;
    for (at, event) in events {
        match event {
            Event::Registered { session, status } => {
                verdict.sessions.insert(session.clone());
                if *status == 200 {
                    (unknown_since, goodbye) = (None, None);
                }
            }
            Event::Beat { .. } => has_beaten = true,
            Event::Stray { .. } if goodbye.is_some_and(|goodbye| *at > goodbye + moment) => {
                let what = "it heartbeats on after it had deleted its session".to_owned();
                verdict.breach(Rule::SaysGoodbyeLast, *at, what);
            }
            Event::Refused { status: 404, .. } | Event::Stray { .. } => {
                unknown_since.get_or_insert(*at);
                // Whoever begins with a heartbeat learns by it that there is no such session.
                if has_beaten {
                    verdict.tried.insert(Rule::RegistersAgain);
                }
            }
            Event::Goodbye => goodbye = Some(*at),
            Event::ToldToEnd => {
                if let Some(since) = unknown_since.filter(|since| *at > *since + 2 * timeout + moment) {
                    let what = format!("it was not registered again {} after 404", seconds(*at - since));
                    verdict.breach(Rule::RegistersAgain, since + 2 * timeout, what);
                }
                unknown_since = None;
            }
            _ => {}
        }
    }
}

/// What it says of itself against what it was told.
fn what_it_says(events: &[(Duration, Event)], moment: Duration, verdict: &mut Verdict) {
    let (mut highest, mut is_first) = (0, true);
    let mut may_say_primary_until = Duration::ZERO;
    let mut arrived: Vec<Duration> = vec![Duration::ZERO];
    for (at, event) in events {
        match event {
            Event::Beat { role, term, .. } => {
                arrived.push(*at);
                if let Some(role) = role {
                    verdict.tried.insert(Rule::SaysWhatIsSo);
                    if *role == PRIMARY && *at > may_say_primary_until + moment {
                        let when = if is_first { "with its first heartbeat" } else { "although its lease was over" };
                        verdict.breach(Rule::SaysWhatIsSo, *at, format!("it said that it is Primary {when}"));
                    }
                }
                if let Some(term) = term {
                    verdict.tried.insert(Rule::RemembersTheTerm);
                    if *term < highest {
                        let what = format!("it said the term {term}, and had been told {highest}");
                        verdict.breach(Rule::RemembersTheTerm, *at, what);
                    }
                }
                is_first = false;
            }
            Event::Answered { n, told } => {
                highest = highest.max(told.term);
                may_say_primary_until = match told.role {
                    PRIMARY => arrived.get(*n).map_or(Duration::ZERO, |arrived| *arrived + told.lease),
                    _ => may_say_primary_until.min(*at),
                };
            }
            Event::Refused { status: 404, .. } | Event::Stray { .. } => {
                may_say_primary_until = may_say_primary_until.min(*at);
            }
            _ => {}
        }
    }
}

/// Whether it acts at all, and for as long as it may.
fn goes_on(scene: &Scene, events: &[(Duration, Event)], timeout: Duration, moment: Duration, verdict: &mut Verdict) {
    let end = end_of(events);
    verdict.tried.insert(Rule::StaysUp);
    let was_asked = events.iter().any(|(_, event)| *event == Event::ToldToEnd);
    if let Some((at, Event::Ended { how })) = events.iter().find(|(_, event)| matches!(event, Event::Ended { .. }))
        && !was_asked
    {
        verdict.breach(Rule::StaysUp, *at, format!("it ended by itself: {how}"));
    }
    let first = events.iter().find_map(|(at, event)| match event {
        Event::Answered { told, .. } if told.role == PRIMARY => Some(*at),
        _ => None,
    });
    let Some(first) = first else { return };
    verdict.tried.insert(Rule::Acts);
    let acted: Vec<Duration> = events
        .iter()
        .filter(|(_, event)| *event == Event::Acted)
        .map(|(at, _)| *at)
        .filter(|at| *at >= first)
        .collect();
    let Some(began) = acted.first().copied().filter(|began| *began <= first + timeout) else {
        let what = format!("it was Primary from {} on, and did not act within a timeout", seconds(first));
        verdict.breach(Rule::Acts, first, what);
        return;
    };
    // Until when it is Primary, by answers that it has certainly had.
    let until = match scene.name {
        _ if scene.stays_primary => end,
        "silence" | "broken-off" => {
            let last = beats_of(events).into_iter().filter_map(|beat| match beat.ended {
                Some((_, End::Role(told))) if told.role == PRIMARY => Some(beat.at + told.lease),
                _ => None,
            });
            // Half of it: a program may need the rest to end in order.
            last.max().unwrap_or_default().saturating_sub(timeout / 2)
        }
        _ => return,
    };
    verdict.tried.insert(Rule::GoesOn);
    let longest = timeout.mul_f64(0.4) + moment;
    let mut before = began;
    for at in acted.into_iter().chain([until]).filter(|at| *at <= until) {
        if at > before + longest {
            let what =
                format!("it did not act between {} and {}, although it was Primary", seconds(before), seconds(at));
            verdict.breach(Rule::GoesOn, before + longest, what);
        }
        before = at;
    }
}

pub fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
