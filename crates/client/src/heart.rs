//! The heart of a member: its heartbeats, and what becomes of its role between them.
//!
//! It has a thread and a runtime of its own, so that no work of the program can starve it. All
//! decisions about the role are those of [`Trust`]; here is only when to ask, whom, and who is
//! told.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover_wire::Role;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::lease::Tenure;
use super::{
    Answer, Change, ClientError, ClientSession, Heartbeat, HeartbeatNumber, Join, JoinError, Lease, MachineTime, Trust,
};

/// How long an answer is waited for as long as no service has said what the group's timeout is.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// The pauses after failures in the same time.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is asked once whoever wanted to join has heard why they cannot.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The shortest pause between two that are sent, whatever happens.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// How long a goodbye is waited for at least: nobody's lease depends on it.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether what is over is acted on still.
const LOOK: Duration = Duration::from_millis(50);
/// A stream that was open for less than this has failed.
const OPEN_AT_LEAST: Duration = Duration::from_secs(5);
/// The first pause of one that is about to be Primary between two heartbeats. Each is twice as
/// long.
const FIRST_PENDING_PAUSE: Duration = Duration::from_millis(5);
/// The pauses before a stream of events is opened again.
const STREAM_PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// What the program and the heart have in common.
pub(crate) struct Shared {
    pub state: watch::Sender<State>,
    pub said: Mutex<Said>,
    /// Told when something was said that must not wait.
    pub hurry: Notify,
    pub counted: Counted,
}

/// What a member knows of its role.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub role: Role,
    pub lease: Option<Lease>,
    /// The group's failover timeout, once it is known.
    pub timeout: Option<Duration>,
    /// Whether it is a member no more.
    pub has_left: bool,
}

impl State {
    /// The role at this instant: nobody is Primary on a lease that is over, also where its end has
    /// not been told yet.
    pub fn role_now(&self) -> Role {
        match self.role {
            Role::Primary if !self.lease.as_ref().is_some_and(Lease::is_good) => Role::Secondary,
            role => role,
        }
    }
}

/// What the program says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub health_percent: u8,
    pub data_sent_at: Option<DateTime<Utc>>,
}

/// What is counted, since the member joined.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub heartbeats: AtomicU64,
    pub answered: AtomicU64,
    pub refused: AtomicU64,
    pub lost: AtomicU64,
    pub registrations: AtomicU64,
    pub grants: AtomicU64,
    pub lapses: AtomicU64,
}

/// To end in order. What comes back is whether the service has heard the goodbye.
pub(crate) type Leave = oneshot::Sender<bool>;

/// Something that is under way. There is one at a time.
struct UnderWay {
    asked: Asked,
    answer: Pin<Box<dyn Future<Output = Came> + Send>>,
}

#[derive(Clone, Copy)]
enum Asked {
    Registration,
    Heartbeat { number: HeartbeatNumber, at: Instant, has_stopped: bool },
}

enum Came {
    Registered(Result<(), ClientError>),
    Answered(Result<Answer, ClientError>),
}

/// A change of a role in the group, as the stream of events has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleChanged {
    session_id: String,
    from: i64,
    to: i64,
}

pub(crate) struct Heart {
    /// The same session, by each of the addresses.
    sessions: Vec<ClientSession>,
    /// Which of them is asked.
    at: usize,
    join: Join,
    shared: Arc<Shared>,
    leaves: mpsc::UnboundedReceiver<Leave>,
    trust: Trust,
    timeout: Option<Duration>,
    is_registered: bool,
    /// Told of the first registration.
    joined: Option<oneshot::Sender<Result<(), JoinError>>>,
    term_seen: Option<i64>,
    /// The group's watermark, as of the last answer.
    data_sent_until: Option<DateTime<Utc>>,
    /// The right that is held.
    tenure: Option<Arc<Tenure>>,
    /// Those that are over and that somebody still acts on.
    ending: Vec<Arc<Tenure>>,
    rests: Arc<Notify>,
    under_way: Option<UnderWay>,
    /// When the next one is sent.
    next: Instant,
    /// Whether something has happened since the one that is under way was sent.
    is_stale: bool,
    /// The service waits to hear that this one has stopped.
    owes_word: bool,
    /// How often in a row nobody has answered as they should.
    failures: u32,
    /// How often in a row the service did not know the session.
    unknowns: u32,
    /// When something was sent last.
    sent_at: Instant,
    pending_pause: Duration,
    leaving: Vec<Leave>,
    has_ended: bool,
}

/// However it ends: nobody acts on its word any more, and nobody waits for it.
impl Drop for Heart {
    fn drop(&mut self) {
        self.has_ended = true;
        self.stop();
    }
}

impl Heart {
    pub fn new(
        join: Join,
        sessions: Vec<ClientSession>,
        shared: Arc<Shared>,
        leaves: mpsc::UnboundedReceiver<Leave>,
        joined: oneshot::Sender<Result<(), JoinError>>,
    ) -> Heart {
        Heart {
            sessions,
            at: 0,
            shared,
            leaves,
            // Nothing is believed without its own lease, so this one never counts.
            trust: Trust::new(Duration::ZERO),
            timeout: None,
            is_registered: false,
            joined: Some(joined),
            term_seen: None,
            data_sent_until: None,
            tenure: None,
            ending: Tenure::still_in_use(&join.key()),
            rests: Arc::new(Notify::new()),
            under_way: None,
            next: Instant::now(),
            is_stale: false,
            owes_word: false,
            failures: 0,
            unknowns: 0,
            sent_at: Instant::now(),
            pending_pause: FIRST_PENDING_PAUSE,
            leaving: Vec::new(),
            has_ended: false,
            join,
        }
    }

    /// Beats until nobody holds the member any more, or until it has left.
    pub async fn run(mut self) {
        let (told, mut events) = mpsc::channel(16);
        let listener = self.join.listens.then(|| tokio::spawn(listen(self.sessions.clone(), told)));
        let (rests, shared) = (self.rests.clone(), self.shared.clone());
        let mut is_held = true;
        while is_held || !self.leaving.is_empty() {
            if !self.leaving.is_empty() && !self.is_acting() {
                break;
            }
            // The first that is ready counts: what is told again and again is last, so that it
            // holds nothing up.
            tokio::select! {
                biased;
                () = lapsed(&self.trust) => self.lapse(),
                came = answered(&mut self.under_way) => self.take(came),
                leave = self.leaves.recv(), if is_held => match leave {
                    Some(leave) => {
                        self.leaving.push(leave);
                        self.stop();
                    }
                    None => is_held = false,
                },
                // Whoever leaves renews nothing: where the work does not end, the lease does.
                () = sleep_until(self.next), if self.under_way.is_none() && self.leaving.is_empty() => self.ask(),
                () = shared.hurry.notified() => self.hurry(),
                () = rests.notified() => if self.owes_word && !self.is_acting() {
                    self.hurry();
                },
                // One that an earlier member of the same name has begun tells nobody of its end.
                () = sleep(LOOK), if !self.ending.is_empty() => if self.owes_word && !self.is_acting() {
                    self.hurry();
                },
                Some(happened) = events.recv() => if happened.is_none_or(|change| self.concerns(&change)) {
                    self.hurry();
                },
            }
        }
        if let Some(listener) = listener {
            listener.abort();
        }
        self.stop();
        // Dropped without a word, nobody has said that the work has ended: the lease runs out.
        if !self.leaving.is_empty() {
            // One that is under way still is not heard any more.
            self.under_way = None;
            let is_heard = self.say_goodbye().await;
            for leave in self.leaving.drain(..) {
                let _ = leave.send(is_heard);
            }
        }
    }

    /// Sends what is due: a registration, where the service does not know this session, else a
    /// heartbeat.
    fn ask(&mut self) {
        let session = self.sessions[self.at].clone();
        let patience = self.patience();
        self.is_stale = false;
        self.sent_at = Instant::now();
        self.under_way = Some(if self.is_registered {
            self.lapse();
            let now = MachineTime::now();
            // What is acted on although it is over is neither a claim to be Primary nor a word that
            // this one has stopped.
            let acting_as = match (self.tenure.is_some(), self.is_acting()) {
                (true, _) => Some(Role::Primary),
                (false, true) => None,
                (false, false) => Some(self.trust.role(now)),
            };
            let said = *self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
            let heartbeat = Heartbeat {
                health_percent: said.health_percent,
                acting_as,
                term_seen: self.term_seen,
                sent_at: wall_clock(),
                data_sent_at: said.data_sent_at,
            };
            let has_stopped = acting_as.is_some_and(|role| role != Role::Primary);
            let asked = Asked::Heartbeat { number: self.trust.sent(now), at: self.sent_at, has_stopped };
            count(&self.shared.counted.heartbeats);
            let answer = async move {
                let answer = timeout(patience, session.heartbeat(&heartbeat)).await;
                Came::Answered(answer.unwrap_or_else(|_| Err(session.service().silent())))
            };
            UnderWay { asked, answer: Box::pin(answer) }
        } else {
            let (name, creates) = (self.join.display_name().to_owned(), self.join.creates);
            let answer = async move {
                let answer = timeout(patience.max(FIRST_PATIENCE), register(&session, &name, creates)).await;
                Came::Registered(answer.unwrap_or_else(|_| Err(session.service().silent())))
            };
            UnderWay { asked: Asked::Registration, answer: Box::pin(answer) }
        });
    }

    fn take(&mut self, came: Came) {
        let Some(UnderWay { asked, .. }) = self.under_way.take() else { return };
        match (asked, came) {
            (Asked::Heartbeat { number, at, has_stopped }, Came::Answered(answer)) => match answer.and_then(whole) {
                Ok(answer) => self.take_answer(number, at, has_stopped, &answer),
                Err(error) => self.take_failure(&error),
            },
            (_, Came::Registered(Ok(()))) => {
                count(&self.shared.counted.registrations);
                self.is_registered = true;
                self.failures = 0;
                self.next = self.soon();
                if let Some(joined) = self.joined.take() {
                    let _ = joined.send(Ok(()));
                }
            }
            (_, Came::Registered(Err(error))) => {
                match self.joined.take() {
                    // Whoever joins is to hear what is wrong. Later, nobody waits for it.
                    Some(joined) if !error.is_passing() => {
                        let _ = joined.send(Err(error.into()));
                        self.next = Instant::now() + LONGEST_PAUSE;
                        return;
                    }
                    joined => self.joined = joined,
                }
                self.take_failure(&error);
            }
            (Asked::Registration, Came::Answered(_)) => {}
        }
    }

    fn take_answer(&mut self, number: HeartbeatNumber, sent_at: Instant, had_stopped: bool, answer: &Answer) {
        count(&self.shared.counted.answered);
        (self.failures, self.unknowns) = (0, 0);
        self.timeout = answer.timeout.or(self.timeout);
        self.term_seen = self.term_seen.max(answer.term);
        let kept = Answer { lease: answer.lease.map(|lease| self.join.margin.shorten(lease)), ..*answer };
        let changes = self.trust.answered(number, &kept, MachineTime::now());
        self.data_sent_until = answer.data_sent_until;
        self.apply(changes);
        if let (Some(tenure), Some(until)) = (self.tenure.clone(), self.trust.held_until())
            && !tenure.renew(until)
        {
            // It was over for a moment: whoever saw that waits for another.
            self.retire(tenure.clone());
            self.begin(tenure.term(), until);
        }
        self.publish();
        self.owes_word = !had_stopped && answer.role != Role::Primary;
        self.next = match answer.role {
            // Its successor waits for the word that it has stopped. While somebody acts still, that
            // word would be a lie: it is sent as soon as nobody does.
            _ if self.owes_word && !self.is_acting() => self.soon(),
            Role::PendingPrimary => {
                let pause = self.pending_pause.min(self.beat() / 4);
                self.pending_pause = self.pending_pause.saturating_mul(2);
                Instant::now() + pause
            }
            _ if self.is_stale => self.soon(),
            _ => sent_at + self.jittered_beat(),
        };
        if answer.role != Role::PendingPrimary {
            self.pending_pause = FIRST_PENDING_PAUSE;
        }
    }

    /// Nothing was said about the role, unless it is that there is no such session.
    fn take_failure(&mut self, error: &ClientError) {
        let counted = &self.shared.counted;
        count(if matches!(error, ClientError::Refused(_)) { &counted.refused } else { &counted.lost });
        let session = self.sessions[self.at].id().to_string();
        let (now, beat) = (Instant::now(), self.beat());
        if error.is_not_found() && self.is_registered {
            tracing::warn!(session, "the service does not know this session: it registers again");
            let changes = self.trust.unknown(MachineTime::now());
            self.apply(changes);
            self.publish();
            self.is_registered = false;
            self.unknowns = self.unknowns.saturating_add(1);
            // Where one knows it and another does not, they would send this one to and fro.
            self.next = if self.unknowns > 1 { now + beat } else { self.soon() };
            return;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => tracing::warn!(session, %error, "the service did not answer as it should"),
            failures => tracing::debug!(session, %error, failures, "the service did not answer as it should"),
        }
        // Whatever ails this one need not ail another.
        self.at = (self.at + 1) % self.sessions.len();
        let rounds = self.failures / u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let is_late = now.duration_since(self.sent_at) > beat / 4;
        let pause = match (error.retry_after(), rounds) {
            // Asked to wait: until the next beat at most, as it was due.
            (Some(after), 1..) => after.min((self.sent_at + beat).duration_since(now)),
            // Others have not been asked yet, or the waiting was pause enough.
            (_, 0) => Duration::ZERO,
            (None, 1) if is_late => Duration::ZERO,
            (None, _) => jittered(beat.mul_f64((0.1 * f64::from(rounds)).min(1.0))),
        };
        let pause = if error.is_passing() { pause } else { beat };
        // A lease that is held is worth another question before it ends.
        let held = self.trust.held_until().map(|until| until.since(MachineTime::now()) / 3);
        let pause = held.map_or(pause, |left| pause.min(left));
        self.next = now + pause.max(SHORTEST_PAUSE);
    }

    fn lapse(&mut self) {
        let changes = self.trust.lapse(MachineTime::now());
        if !changes.is_empty() {
            count(&self.shared.counted.lapses);
        }
        self.apply(changes);
        self.publish();
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                // Nothing is begun any more.
                Change::Began { .. } if !self.leaving.is_empty() => {}
                Change::Began { lease, .. } => {
                    let term = lease.term.unwrap_or_default();
                    count(&self.shared.counted.grants);
                    tracing::info!(session = %self.sessions[self.at].id(), term, "is Primary");
                    self.begin(term, lease.until);
                }
                Change::Ended { why, .. } => {
                    if let Some(tenure) = self.tenure.take() {
                        tracing::info!(session = %self.sessions[self.at].id(), term = tenure.term(), ?why, "is not Primary any more");
                        self.retire(tenure);
                    }
                }
            }
        }
    }

    fn begin(&mut self, term: i64, until: MachineTime) {
        let tenure = Tenure::new(term, self.data_sent_until, until, self.rests.clone());
        tenure.remember(&self.join.key());
        self.tenure = Some(tenure);
    }

    fn retire(&mut self, tenure: Arc<Tenure>) {
        tenure.end();
        self.ending.retain(|tenure| tenure.is_in_use());
        if tenure.is_in_use() {
            self.ending.push(tenure);
        }
    }

    /// Nobody may act from here on.
    fn stop(&mut self) {
        if let Some(tenure) = self.tenure.take() {
            self.retire(tenure);
        }
        self.publish();
    }

    fn publish(&self) {
        let lease = self.tenure.clone().map(Lease::new);
        let role = match (&lease, self.trust.role(MachineTime::now())) {
            (Some(_), _) => Role::Primary,
            (None, Role::PendingPrimary) => Role::PendingPrimary,
            (None, _) => Role::Secondary,
        };
        let (timeout, has_left) = (self.timeout, !self.leaving.is_empty() || self.has_ended);
        self.shared.state.send_if_modified(|state| {
            let is_same = state.role == role
                && state.timeout == timeout
                && state.has_left == has_left
                && Lease::is_same(state.lease.as_ref(), lease.as_ref());
            *state = State { role, lease, timeout, has_left };
            !is_same
        });
    }

    /// Whether somebody may be acting: on the right that is held, or still on one that is over.
    fn is_acting(&mut self) -> bool {
        self.ending.retain(|tenure| tenure.is_in_use());
        self.tenure.is_some() || !self.ending.is_empty()
    }

    /// Sends the next heartbeat now, or as soon as the one that is under way is answered.
    fn hurry(&mut self) {
        self.is_stale = true;
        self.pending_pause = FIRST_PENDING_PAUSE;
        if self.is_registered && self.failures == 0 {
            self.next = self.soon();
        }
    }

    /// As soon as may be after what was sent last.
    fn soon(&self) -> Instant {
        Instant::now().max(self.sent_at + SHORTEST_PAUSE)
    }

    /// Whether the service would say something else than it did last, now that this has happened.
    fn concerns(&self, change: &RoleChanged) -> bool {
        let role = self.shared.state.borrow().role;
        if change.session_id == self.sessions[self.at].id().as_str() {
            return change.to != role.number();
        }
        match role {
            Role::Primary => change.to == Role::PendingPrimary.number(),
            Role::PendingPrimary | Role::Secondary => change.from == Role::Primary.number(),
        }
    }

    /// Deletes the session, so that nobody waits for the end of its lease; whether that was heard.
    /// Where nobody can be reached, the lease runs out.
    async fn say_goodbye(&self) -> bool {
        let patience = self.patience().max(GOODBYE_PATIENCE);
        for attempt in 0..2 * self.sessions.len() {
            let session = &self.sessions[(self.at + attempt) % self.sessions.len()];
            match timeout(patience, session.goodbye()).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) if !error.is_passing() => return error.is_not_found(),
                _ => sleep(jittered(self.beat() / 10)).await,
            }
        }
        false
    }

    /// Half a failover timeout.
    fn beat(&self) -> Duration {
        self.timeout.unwrap_or(FIRST_TIMEOUT) / 2
    }

    /// Less than that by up to a tenth, so that not all beat at once.
    fn jittered_beat(&self) -> Duration {
        self.beat().mul_f64(1.0 - fastrand::f64() / 10.0)
    }

    /// How long an answer is waited for: so that another can be asked for within the same lease.
    /// Where all were silent, they are slow, and waited for longer.
    fn patience(&self) -> Duration {
        let others = self.sessions.len() > 1;
        let share = match usize::try_from(self.failures).unwrap_or(usize::MAX) {
            failures if failures >= self.sessions.len() => 0.4,
            _ if others => 0.2,
            _ => 0.3,
        };
        self.timeout.map_or(FIRST_PATIENCE, |timeout| timeout.mul_f64(share))
    }
}

/// What came; never, where nothing is under way.
async fn answered(under_way: &mut Option<UnderWay>) -> Came {
    match under_way {
        Some(under_way) => under_way.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of the right; for ever, if there is none.
async fn lapsed(trust: &Trust) {
    let Some(until) = trust.held_until() else { return std::future::pending().await };
    loop {
        let left = until.since(MachineTime::now());
        if left.is_zero() {
            return;
        }
        // The runtime's clock stands still while the machine sleeps: the other one is looked at
        // again and again.
        sleep(left.min(Duration::from_millis(500))).await;
    }
}

async fn register(session: &ClientSession, name: &str, creates: Option<Duration>) -> Result<(), ClientError> {
    match (session.register(name).await, creates) {
        (Err(error), Some(timeout)) if error.is_not_found() => {
            session.create_group(timeout).await?;
            session.register(name).await
        }
        (done, _) => done,
    }
}

/// An answer that says all that is needed to act on it.
fn whole(answer: Answer) -> Result<Answer, ClientError> {
    if answer.role == Role::Primary && (answer.lease.is_none() || answer.term.is_none()) {
        return Err(ClientError::Unintelligible("it does not say for how long, or in which term".to_owned()));
    }
    Ok(answer)
}

/// Follows the roles of the group, at one address after the other. `None` is told where something
/// may have been missed.
async fn listen(sessions: Vec<ClientSession>, tell: mpsc::Sender<Option<RoleChanged>>) {
    let mut failures = 0;
    let mut last = None;
    for at in (0..sessions.len()).cycle() {
        let session = &sessions[at];
        if let Ok(mut stream) = session.events(last).await {
            let opened = Instant::now();
            // Where many happen at once, one heartbeat answers them all.
            if last.is_none() {
                let _ = tell.try_send(None);
            }
            while let Ok(Some(block)) = stream.next(session.service()).await {
                last = block.id.or(last);
                if block.name == "RoleChanged"
                    && let Ok(change) = serde_json::from_str::<RoleChanged>(&block.data)
                {
                    let _ = tell.try_send(Some(change));
                }
            }
            if opened.elapsed() >= OPEN_AT_LEAST {
                failures = 0;
            }
        }
        sleep(jittered(STREAM_PAUSES[failures])).await;
        failures = (failures + 1).min(STREAM_PAUSES.len() - 1);
    }
}

/// Up to a fifth shorter.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - fastrand::f64() / 5.0)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[expect(clippy::disallowed_methods, reason = "a member is a client: the times it reports are its own")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}
