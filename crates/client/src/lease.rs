//! The right to act as Primary, as the work has it that needs it.
//!
//! The heart of a member writes the end of the right; the work reads it, on whatever thread it is.
//! Both sides are one atomic number each, so that looking costs less than what is done on it.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use super::MachineTime;

/// The right to act as Primary, for one term.
///
/// It is renewed for as long as the member stays Primary, and it never comes back once it has
/// ended: a member that becomes Primary again has another one. A clone is the same right.
///
/// What is done on it holds an [`Acting`], or is under its [`guard`](Lease::guard).
#[derive(Clone)]
pub struct Lease {
    tenure: Arc<Tenure>,
}

/// That somebody is acting, right now. Hold it while you act: as long as it is there, nobody is
/// told that this member has stopped.
#[must_use = "hold it while you act, and drop it when that is done"]
pub struct Acting {
    tenure: Arc<Tenure>,
}

/// The lease is over. Whatever was about to be done must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is over: this member is not Primary any more")]
pub struct LeaseEnded;

/// What the heart and the work share of one right.
pub(crate) struct Tenure {
    term: i64,
    data_sent_until: Option<DateTime<Utc>>,
    /// From this instant on there is no right any more ([`MachineTime`]).
    until: AtomicI64,
    /// How many are acting.
    acting: AtomicUsize,
    /// Told of each renewal, and of the end; whether it has ended.
    has_ended: watch::Sender<bool>,
    /// Told when nobody acts any more on a right that has ended.
    rests: Arc<Notify>,
}

impl Lease {
    pub(crate) fn new(tenure: Arc<Tenure>) -> Lease {
        Lease { tenure }
    }

    /// Whether both are one right, or neither is any.
    pub(crate) fn is_same(one: Option<&Lease>, other: Option<&Lease>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one.tenure, &other.tenure),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The right to act now. It costs the reading of a clock and a few atomic operations. What it
    /// gives can be sent to wherever the work is done.
    ///
    /// # Errors
    ///
    /// The lease is over.
    pub fn check(&self) -> Result<Acting, LeaseEnded> {
        if !self.is_good() {
            return Err(LeaseEnded);
        }
        // Counted before the end is looked at: whoever ends the right looks at them in the other
        // order, so one of the two sees the other.
        let acting = Acting::begin(&self.tenure);
        if self.is_good() { Ok(acting) } else { Err(LeaseEnded) }
    }

    /// Whether it is good at this instant, for those who only want to know. To act, take what
    /// [`check`](Lease::check) gives.
    pub fn is_good(&self) -> bool {
        self.tenure.is_good(MachineTime::now())
    }

    /// When it ends, unless it is renewed before: a margin before the service may give the role to
    /// another.
    pub fn until(&self) -> MachineTime {
        MachineTime(self.tenure.until.load(Ordering::SeqCst))
    }

    /// How long it lasts still, unless it is renewed; zero where it is over.
    pub fn remaining(&self) -> Duration {
        self.until().since(MachineTime::now())
    }

    /// The term that it is for. It rises with every new Primary: pass it on with what is done, and
    /// a receiver can refuse what comes from an older one.
    pub fn term(&self) -> i64 {
        self.tenure.term
    }

    /// Waits until it ends at another instant than that: it has been renewed, or it has ended.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub async fn renewed(&self, since: MachineTime) -> Result<MachineTime, LeaseEnded> {
        let mut told = self.tenure.has_ended.subscribe();
        let _ = told.wait_for(|has_ended| *has_ended || self.until() != since).await;
        let (has_ended, until) = (*told.borrow(), self.until());
        // The end is written before it is told.
        if has_ended || until.0 == i64::MIN { Err(LeaseEnded) } else { Ok(until) }
    }

    /// Up to when a Primary had said that data was sent, as this right was granted: what is newer
    /// has to be sent. `None` where none has said anything.
    pub fn data_sent_until(&self) -> Option<DateTime<Utc>> {
        self.tenure.data_sent_until
    }

    /// Waits for its end. That is a notice, and it can be late: after the machine has slept, for
    /// one. Work that must not go on past the end is under [`guard`](Lease::guard), or looks at
    /// [`check`](Lease::check).
    pub async fn ended(&self) {
        let mut ended = self.tenure.has_ended.subscribe();
        // Its sender is the tenure, which is held here.
        let _ = ended.wait_for(|has_ended| *has_ended).await;
    }

    /// Does some work for as long as the lease lasts. At its end the work is dropped where it
    /// waits, and nothing more of it is done.
    ///
    /// Work that does not wait cannot be dropped: between two waits that are far apart, look at
    /// [`check`](Lease::check). And what it starts elsewhere (a task, a thread) goes on when it is
    /// dropped: give it an [`Acting`] of its own, and have it look.
    ///
    /// # Errors
    ///
    /// The lease was over before the work was done.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, LeaseEnded> {
        let _acting = self.check()?;
        // Dropped before `_acting` is, which says that nobody acts.
        let mut work = pin!(work);
        let mut ended = pin!(self.ended());
        std::future::poll_fn(|context| {
            // The end may be there before anybody is told of it.
            if ended.as_mut().poll(context).is_ready() || !self.tenure.is_good(MachineTime::now()) {
                return Poll::Ready(Err(LeaseEnded));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("term", &self.term()).field("remaining", &self.remaining()).finish()
    }
}

impl Acting {
    fn begin(tenure: &Arc<Tenure>) -> Acting {
        tenure.acting.fetch_add(1, Ordering::SeqCst);
        Acting { tenure: tenure.clone() }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let others = self.tenure.acting.fetch_sub(1, Ordering::SeqCst) - 1;
        if others == 0 && *self.tenure.has_ended.borrow() {
            self.tenure.rests.notify_one();
        }
    }
}

impl fmt::Debug for Acting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acting").field("term", &self.tenure.term).finish()
    }
}

impl Tenure {
    pub fn new(
        term: i64,
        data_sent_until: Option<DateTime<Utc>>,
        until: MachineTime,
        rests: Arc<Notify>,
    ) -> Arc<Tenure> {
        let (until, acting) = (AtomicI64::new(until.0), AtomicUsize::new(0));
        Arc::new(Tenure { term, data_sent_until, until, acting, has_ended: watch::Sender::new(false), rests })
    }

    pub fn term(&self) -> i64 {
        self.term
    }

    fn is_good(&self, now: MachineTime) -> bool {
        now.0 < self.until.load(Ordering::SeqCst)
    }

    /// Whether somebody is acting on it.
    pub fn is_in_use(&self) -> bool {
        self.acting.load(Ordering::SeqCst) > 0
    }

    /// Lets it last longer; whether it does. One that was over at any instant stays so: somebody
    /// may have seen it.
    pub fn renew(&self, until: MachineTime) -> bool {
        let longer = |before: i64| (MachineTime::now().0 < before).then_some(until.0);
        let is_renewed = self.until.fetch_update(Ordering::SeqCst, Ordering::SeqCst, longer).is_ok();
        if is_renewed {
            self.has_ended.send_replace(false);
        }
        is_renewed
    }

    /// Keeps it among those of its session until nobody knows of it.
    pub fn remember(self: &Arc<Tenure>, session: &str) {
        let mut known = known();
        known.retain(|(_, tenure)| tenure.strong_count() > 0);
        known.push((session.to_owned(), Arc::downgrade(self)));
    }

    /// Those of a session that somebody in this process still acts on.
    pub fn still_in_use(session: &str) -> Vec<Arc<Tenure>> {
        let known = known();
        let of_session = known.iter().filter(|(of, _)| of == session).filter_map(|(_, tenure)| tenure.upgrade());
        of_session.filter(|tenure| tenure.is_in_use()).collect()
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.until.store(i64::MIN, Ordering::SeqCst);
        self.has_ended.send_replace(true);
    }
}

/// All rights of this process that somebody may act on. Whoever joins again under the same name
/// answers for what was begun before.
fn known() -> MutexGuard<'static, Vec<(String, Weak<Tenure>)>> {
    static KNOWN: Mutex<Vec<(String, Weak<Tenure>)>> = Mutex::new(Vec::new());
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(lasts: Duration) -> (Arc<Tenure>, Lease, Arc<Notify>) {
        let rests = Arc::new(Notify::new());
        let tenure = Tenure::new(3, None, MachineTime::now().plus(lasts), rests.clone());
        (tenure.clone(), Lease::new(tenure), rests)
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn it_is_good_until_its_end_and_never_again() {
        let (tenure, lease, _) = tenure(LONG);
        assert_eq!(lease.check().map(drop), Ok(()));
        assert_eq!(lease.term(), 3);
        assert!(lease.remaining() > Duration::from_secs(3_000));
        tenure.end();
        assert_eq!(lease.check().map(drop), Err(LeaseEnded));
        assert!(!tenure.renew(MachineTime::now().plus(LONG)));
        assert_eq!(lease.check().map(drop), Err(LeaseEnded), "what has ended does not come back");
        assert_eq!(lease.remaining(), Duration::ZERO);
    }

    #[test]
    fn it_ends_by_its_clock_although_nobody_says_so() {
        let (tenure, lease, _) = tenure(Duration::ZERO);
        assert_eq!(lease.check().map(drop), Err(LeaseEnded));
        assert!(!tenure.renew(MachineTime::now().plus(LONG)), "somebody has seen that it is over");
    }

    #[tokio::test]
    async fn whoever_acts_is_waited_for() {
        let (tenure, lease, rests) = tenure(LONG);
        let acting = lease.check().expect("it is good");
        tenure.end();
        assert!(tenure.is_in_use(), "it is not over for whoever began before");
        drop(acting);
        assert!(!tenure.is_in_use());
        rests.notified().await;
    }

    #[test]
    fn whoever_joins_again_answers_for_what_was_begun_before() {
        let (tenure, lease, _) = tenure(LONG);
        tenure.remember("one");
        let acting = lease.check().expect("it is good");
        tenure.end();
        drop((tenure, lease));
        assert_eq!(Tenure::still_in_use("one").len(), 1);
        assert_eq!(Tenure::still_in_use("another").len(), 0);
        drop(acting);
        assert_eq!(Tenure::still_in_use("one").len(), 0);
    }

    #[tokio::test]
    async fn work_is_dropped_at_the_end_before_it_is_said_that_nobody_acts() {
        struct Work<'t>(&'t Tenure);
        impl Drop for Work<'_> {
            fn drop(&mut self) {
                assert!(self.0.is_in_use(), "the work is still there");
            }
        }
        let (tenure, lease, rests) = tenure(LONG);
        let work = Work(&tenure);
        let guarded = lease.guard(async move {
            let _work = work;
            std::future::pending::<()>().await;
        });
        let end = async {
            tokio::task::yield_now().await;
            assert!(tenure.is_in_use());
            tenure.end();
        };
        assert_eq!(tokio::join!(guarded, end).0, Err(LeaseEnded));
        rests.notified().await;
        assert!(!tenure.is_in_use());
        assert_eq!(lease.guard(async { 1 }).await, Err(LeaseEnded));
    }

    #[test]
    #[ignore = "measures: --release -- --ignored --nocapture"]
    fn what_a_check_costs() {
        const CHECKS: u32 = 5_000_000;
        let (_tenure, lease, _) = tenure(LONG);
        let began = std::time::Instant::now();
        for _ in 0..CHECKS {
            drop(std::hint::black_box(&lease).check().expect("it is good"));
        }
        let all = began.elapsed();
        let began = std::time::Instant::now();
        for _ in 0..CHECKS {
            std::hint::black_box(MachineTime::now());
        }
        let clock = began.elapsed();
        println!("a check: {:?}, of which {:?} for each of two looks at the clock", all / CHECKS, clock / CHECKS);
    }

    #[tokio::test]
    async fn work_that_is_done_in_time_gives_what_it_gives() {
        let (_tenure, lease, _) = tenure(LONG);
        assert_eq!(lease.guard(async { 7 }).await, Ok(7));
    }
}
