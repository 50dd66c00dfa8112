use super::Wish::{Excluded, Forced, SwitchAway, SwitchTo};
use super::*;

const FORCED: Wish = Forced(WhenSilent::Replace);
const HELD: Wish = Forced(WhenSilent::Hold);

impl Table {
    fn wishes(&mut self, s: usize, wish: Wish, now: i64) -> Result<(), Unwishable> {
        self.wishes_until(s, wish, None, now)
    }

    fn wishes_until(&mut self, s: usize, wish: Wish, until: Option<i64>, now: i64) -> Result<(), Unwishable> {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        super::wish(&mut self.group, s, Wished { wish, until: until.map(at) }, moment, &mut self.trace)
    }

    fn withdraws(&mut self, s: usize, now: i64) {
        let moment = Moment { now: at(now), outages: &self.outages, history: self.history };
        withdraw(&mut self.group, s, moment, &mut self.trace);
    }

    fn wish_list(&self) -> Vec<Option<Wish>> {
        (0..self.group.sessions.len()).map(|s| self.group.wish_of(s)).collect()
    }
}

#[test]
fn a_forced_session_takes_over_from_a_healthier_primary_which_yields_first() {
    let mut table = group(60).margin(5).primary(100, 60).secondary(10, 60);
    table.wishes(1, FORCED, 10).expect("it can be wished");
    assert_eq!(table.roles(), [Primary, Secondary], "nobody loses the lease that it has");
    assert_eq!(table.hears(1, says(10), 11).role, PendingPrimary);
    assert_eq!(table.hears(0, says(100), 12).role, Secondary);
    assert!(table.group.handover.is_some());
    assert_eq!(table.hears(1, says(10), 13).role, PendingPrimary, "the one that yielded may still act");
    table.hears(0, says(100).sent_at(14).acting_as(Secondary), 14);
    assert_eq!(table.hears(1, says(10), 15).role, Primary);
    assert_eq!(table.reasons(), [Reason::Override, Reason::Override, Reason::HandoverCompleted]);
    table.hears(0, says(100), 16);
    assert_eq!(table.roles(), [Secondary, Primary], "and stays it");
}

#[test]
fn at_most_one_is_forced_and_the_newer_one_is() {
    let mut table = group(60).primary(90, 60).secondary(90, 60).secondary(90, 60);
    table.wishes(1, FORCED, 1).expect("it can be wished");
    table.hears(1, says(90), 2);
    table.wishes(2, HELD, 3).expect("it can be wished");
    assert_eq!(table.wish_list(), [None, None, Some(HELD)]);
    assert_eq!(table.roles(), [Primary, Secondary, Secondary]);
    assert_eq!(table.reasons(), [Reason::Override, Reason::OverrideEnded]);
    let had = Wished { wish: FORCED, until: None };
    assert_eq!(how_ended(&table.group, 1, had, moment(at(3), &[])), WishEnd::Replaced);
}

#[test]
fn while_a_forced_one_is_silent_the_best_of_the_others_takes_its_place() {
    let mut table = group(60).primary(90, 60).secondary(50, 100).secondary(70, 100);
    table.wishes(0, FORCED, 1).expect("it can be wished");
    assert_eq!(table.hears(2, says(70), 60).role, Primary);
    assert_eq!(table.hears(0, says(1), 61).role, PendingPrimary, "and it is first again when it comes back");
}

#[test]
fn or_nobody_does_where_the_place_is_held_for_it() {
    let mut table = group(60).primary(90, 60).secondary(100, 100).secondary(70, 100);
    table.wishes(0, HELD, 1).expect("it can be wished");
    for now in 60..90 {
        assert_eq!(table.hears(1, says(100), now).role, Secondary);
    }
    assert_eq!(table.roles(), [Secondary, Secondary, Secondary]);
    assert_eq!(table.hears(0, says(1), 90).role, Primary);
    table.group.sessions[0].beat = None;
    table.group.sessions[0].role = Secondary;
    table.withdraws(0, 91);
    assert_eq!(table.hears(1, says(100), 92).role, Primary, "until it is taken back");
}

#[test]
fn a_place_that_is_held_takes_nothing_from_the_primary() {
    let mut table = group(60).primary(50, 100).secondary(90, 100).unheard();
    table.wishes(2, HELD, 1).expect("it can be wished");
    table.hears(1, says(90), 2);
    assert_eq!(table.hears(0, says(50), 3).role, Primary);
    assert!(table.trace.is_empty());
}

#[test]
fn an_excluded_primary_yields_and_does_not_come_back() {
    let mut table = group(60).primary(90, 60).secondary(10, 60);
    table.wishes(0, Excluded, 1).expect("it can be wished");
    assert_eq!(table.hears(0, says(90), 2).role, Secondary);
    assert_eq!(table.hears(1, says(10), 60).role, Primary);
    table.hears(0, says(90), 61);
    assert_eq!(table.hears(1, says(10), 62).role, Primary);
    table.withdraws(0, 63);
    assert_eq!(table.hears(0, says(90), 64).role, PendingPrimary);
    assert_eq!(table.hears(1, says(10), 65).role, Secondary);
}

#[test]
fn where_only_the_excluded_are_live_nobody_is_primary() {
    let mut table = group(60).primary(90, 60).secondary(10, 20);
    table.wishes(0, Excluded, 1).expect("it can be wished");
    assert_eq!(table.hears(0, says(90), 30).role, Secondary);
    assert_eq!(table.hears(0, says(90), 70).role, Secondary);
    assert_eq!(table.roles(), [Secondary, Secondary]);
    table.withdraws(0, 71);
    assert_eq!(table.hears(0, says(90), 72).role, Primary);
}

#[test]
fn who_was_to_take_over_and_is_excluded_is_not_any_more() {
    let mut table = group(60).primary(50, 60).pending(90, 60);
    table.wishes(1, Excluded, 1).expect("it can be wished");
    assert_eq!(table.roles(), [Primary, Secondary]);
    assert_eq!(table.reasons(), [Reason::Override]);
    assert_eq!(table.hears(1, says(90), 2).role, Secondary);
    assert_eq!(table.hears(0, says(50), 3).role, Primary);
}

#[test]
fn a_wish_ends_at_its_instant_and_not_before() {
    for (now, expected) in [(19, Secondary), (20, Primary)] {
        let mut table = group(60).secondary(90, 60).vacant_since(Vacancy::Lapsed);
        table.wishes_until(0, Excluded, Some(20), 1).expect("it can be wished");
        assert_eq!(table.hears(0, says(90), now).role, expected);
        assert_eq!(table.wish_list()[0].is_none(), now == 20);
    }
    let mut table = group(60).primary(90, 60).secondary(50, 60);
    table.wishes_until(1, FORCED, Some(20), 1).expect("it can be wished");
    table.hears(1, says(50), 2);
    table.lapses(20);
    assert_eq!(table.roles(), [Primary, Secondary]);
    assert_eq!(table.reasons(), [Reason::Override, Reason::OverrideEnded]);
    let had = Wished { wish: FORCED, until: Some(at(20)) };
    assert_eq!(how_ended(&table.group, 1, had, moment(at(20), &[])), WishEnd::Expired);
}

#[test]
fn a_switch_over_is_over_with_the_grant() {
    let mut table = group(60).primary(90, 60).secondary(90, 60);
    table.wishes_until(1, SwitchTo, Some(120), 1).expect("it is live");
    table.hears(0, says(90), 2);
    table.hears(0, says(90).sent_at(3).acting_as(Secondary), 3);
    assert_eq!(table.hears(1, says(90), 4).role, Primary);
    assert_eq!(table.wish_list(), [None, None]);
    let had = Wished { wish: SwitchTo, until: Some(at(120)) };
    assert_eq!(how_ended(&table.group, 1, had, moment(at(4), &[])), WishEnd::Done);
    table.hears(0, says(90), 5);
    assert_eq!(table.hears(1, says(90), 6).role, Primary, "of equals it stays");
}

#[test]
fn away_from_the_primary_is_to_the_best_of_the_others() {
    let mut table = group(60).primary(90, 60).secondary(50, 60).secondary(60, 60);
    table.wishes_until(0, SwitchAway, Some(120), 1).expect("others are live");
    assert_eq!(table.hears(0, says(90), 2).role, Secondary);
    assert_eq!(table.roles(), [Secondary, Secondary, PendingPrimary]);
    table.hears(0, says(90).sent_at(3).acting_as(Secondary), 3);
    assert_eq!(table.hears(2, says(60), 4).role, Primary);
    assert_eq!(table.wish_list(), [None, None, None]);
}

#[test]
fn a_switch_away_leaves_the_role_where_nobody_is_left_to_take_it() {
    let mut table = group(60).primary(90, 60).secondary(50, 30);
    table.wishes_until(0, SwitchAway, Some(120), 1).expect("another is live");
    assert_eq!(table.hears(0, says(90), 31).role, Primary);
    assert!(table.trace.is_empty());
}

#[test]
fn a_switch_over_that_would_not_come_about_is_refused() {
    let mut table = group(60).primary(90, 60).secondary(90, 20).secondary(90, 60).unheard();
    assert_eq!(table.wishes(1, SwitchTo, 20), Err(Unwishable::NotLive));
    assert_eq!(table.wishes(3, SwitchTo, 20), Err(Unwishable::NotLive));
    assert_eq!(table.wishes(2, SwitchAway, 20), Err(Unwishable::NoPrimary));
    table.wishes(2, Excluded, 20).expect("it can be wished");
    assert_eq!(table.wishes(2, SwitchTo, 20), Err(Unwishable::IsExcluded));
    assert_eq!(table.wishes(0, SwitchAway, 20), Err(Unwishable::NobodyElse));
    table.withdraws(2, 21);
    table.wishes(0, FORCED, 22).expect("it can be wished");
    assert_eq!(table.wishes(2, SwitchTo, 23), Err(Unwishable::AnotherIsForced(0)));
    assert_eq!(table.wishes(0, SwitchAway, 23), Err(Unwishable::IsForced));
    assert_eq!(table.wish_list(), [Some(FORCED), None, None, None], "what is refused changes nothing");
}

#[test]
fn who_is_primary_already_need_not_be_switched_to() {
    let mut table = group(60).primary(90, 60).secondary(90, 60);
    table.wishes(1, SwitchTo, 1).expect("it is live");
    table.wishes(0, SwitchTo, 2).expect("it is Primary");
    assert_eq!(table.wish_list(), [None, None], "and the other is not to take over any more");
    table.wishes(0, FORCED, 3).expect("it can be wished");
    table.wishes(0, SwitchTo, 4).expect("it is Primary");
    assert_eq!(table.wish_list(), [Some(FORCED), None]);
}

#[test]
fn a_wish_goes_with_its_session() {
    let mut table = group(60).secondary(90, 100).secondary(50, 100).vacant_since(Vacancy::Lapsed);
    table.wishes(0, HELD, 1).expect("it can be wished");
    table.loses(0, By::Another, 2);
    assert_eq!(table.hears(0, says(50), 3).role, Primary);
}

#[test]
fn who_acts_while_it_is_in_doubt_is_believed_and_yields_after() {
    let mut table = group(60).secondary(90, 60).secondary(50, 60).vacant_since(Vacancy::Lapsed);
    table.wishes(0, Excluded, 1).expect("it can be wished");
    let mut table = table.in_another_history(10, 100);
    assert_eq!(table.hears(0, says(90).sent_at(11).acting_as(Primary), 11).role, Primary);
    assert_eq!(table.hears(0, says(90).sent_at(80).acting_as(Primary), 80).role, Secondary);
}

#[test]
fn to_switch_away_from_one_that_is_excluded_ends_no_exclusion() {
    let mut table = group(60).primary(90, 60).secondary(50, 60);
    table.wishes(0, Excluded, 1).expect("it can be wished");
    table.wishes_until(0, SwitchAway, Some(120), 2).expect("another is live");
    assert_eq!(table.wish_list(), [Some(Excluded), None]);
}

#[test]
fn a_wish_that_is_over_already_takes_no_other_s_place() {
    let mut table = group(60).primary(90, 60).secondary(50, 60);
    table.wishes(0, FORCED, 1).expect("it can be wished");
    table.wishes_until(1, FORCED, Some(5), 10).expect("nothing speaks against it");
    assert_eq!(table.wish_list(), [Some(FORCED), None]);
}
