//! The steps that an adapter takes, in their order, and the taking away of what they leave.
//!
//! In a group that adapters use, nothing is done unless its Primary lives. The session has the
//! score 0 there, which outranks nobody, and of equals the Primary stays. It is there for two
//! heartbeats and then says goodbye, so that nobody would wait for it whatever role it had.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use client_failover_wire::Role;
use client_failover_wire::ids::GroupId;
use client_failover_wire::{datetime, timespan};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::{FAILED, OperatorError, code_of};
use super::DEFAULT_TIMEOUT;
use super::adapter::{Adapter, Answer};
use super::reading::{self, property};
use super::report::{Fault, Report, Trouble};

/// The group that is used where none is named. Always the same: who may not delete groups leaves
/// one behind, and not one each time.
const OWN_GROUP: &str = "adapters-check";

/// The least timeout that an adapter takes.
const MIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A time that was never set, as an adapter sends it: without a zone.
const UNSET: &str = "0001-01-01T00:00:00";

/// The exit code where a group is not in the state that is needed.
const IN_CONFLICT: u8 = 5;

/// What may have to be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// It was asked for, and no answer has come.
    Perhaps,
    Something,
}

/// An adapter on its way through the steps.
pub struct Play<'a> {
    adapter: &'a Adapter,
    has_credentials: bool,
    group: String,
    /// Whether the group is the command's own.
    is_own: bool,
    /// The timeout of the adapter's configuration, where it was given.
    configured: Option<Duration>,
    session: String,
    /// What is being tried.
    step: &'static str,
    group_left: Left,
    session_left: Left,
    report: &'a mut Report,
}

impl<'a> Play<'a> {
    /// An adapter that has not begun.
    pub fn new(
        adapter: &'a Adapter,
        has_credentials: bool,
        group: Option<GroupId>,
        configured: Option<Duration>,
        report: &'a mut Report,
    ) -> Play<'a> {
        let is_own = group.is_none();
        let group = group.map_or_else(|| OWN_GROUP.to_owned(), |group| group.as_str().to_owned());
        let session = format!("adapters-check-{}", unlikely());
        Play {
            adapter,
            has_credentials,
            group,
            is_own,
            configured,
            session,
            step: "group",
            group_left: Left::Nothing,
            session_left: Left::Nothing,
            report,
        }
    }

    /// Takes all steps, up to the first that would not work.
    pub async fn all(&mut self) -> Result<(), OperatorError> {
        match self.steps().await {
            Ok(()) => Ok(()),
            Err(Trouble::WouldNotWork(fault)) => self.stop(fault),
            Err(Trouble::Failed(error)) => Err(error),
        }
    }

    /// Tells why the step that is being tried would not work.
    pub fn stop(&mut self, fault: Fault) -> Result<(), OperatorError> {
        self.report.fault(self.step, fault)
    }

    async fn steps(&mut self) -> Result<(), Trouble> {
        if !self.is_own {
            self.find_primary().await?;
        }
        let timeout = self.register_group().await?;
        match self.take_part(timeout).await {
            Err(Trouble::WouldNotWork(_)) if self.is_own && self.is_group_gone().await => {
                // Somebody who checks at the same time has deleted it.
                self.group = format!("{OWN_GROUP}-{}", unlikely());
                self.register_group().await?;
                self.take_part(timeout).await
            }
            done => done,
        }
    }

    /// In a group without a Primary the first heartbeat would be granted the role.
    async fn find_primary(&mut self) -> Result<(), Trouble> {
        self.step = "live Primary";
        let answer = self.ask(Method::GET, &["status"], None).await?;
        if !answer.status.is_success() {
            let mut fault = answer.fault("the question who is Primary in the group", self.has_credentials);
            if answer.status == StatusCode::NOT_FOUND {
                fault.to_do = "Name a group that is there, or leave --group out.".to_owned();
            }
            return Err(fault.into());
        }
        let status = serde_json::from_str::<Map<String, Value>>(&answer.text).unwrap_or_default();
        match property(&status, "Primary") {
            Some(Value::String(primary)) => {
                let said = format!("'{primary}' is Primary of the group, and a session with the score 0 cannot be");
                Ok(self.report.ok(self.step, said)?)
            }
            _ => Err(Fault {
                said: format!("the group '{}' has no live Primary: whoever heartbeats there might become it, so nothing was registered", self.group),
                to_do: "Start its adapters first, or leave --group out.".to_owned(),
                code: IN_CONFLICT,
            }
            .into()),
        }
    }

    /// Registers the group, and takes the timeout of one that has another.
    async fn register_group(&mut self) -> Result<Duration, Trouble> {
        self.step = "group";
        let wanted = self.configured.unwrap_or(DEFAULT_TIMEOUT);
        let ticks = i64::try_from(wanted.as_micros()).unwrap_or(i64::MAX).saturating_mul(10);
        let body = json!({"Id": self.group, "FailoverTimeout": timespan::format(ticks)});
        if self.is_own {
            self.group_left = Left::Perhaps;
        }
        let answer = self.adapter.send(Method::POST, &["groups", ""], Some(body)).await?;
        let timeout = match answer.status {
            status if status.is_success() => wanted,
            StatusCode::CONFLICT => self.find_timeout().await?,
            StatusCode::FORBIDDEN => {
                self.group_left = Left::Nothing;
                let mut fault = answer.fault("the registration of the group", self.has_credentials);
                fault.to_do = if self.is_own { "Grant the role client for that tenant and namespace, and leave clients-create-groups on. A caller that may act in some groups alone is tried with --group." } else { "An adapter registers its group at every start, also one that is there: grant the role client for it, and leave clients-create-groups on." }
                .to_owned();
                return Err(fault.into());
            }
            _ => {
                self.group_left = Left::Nothing;
                return Err(answer.fault("the registration of the group", self.has_credentials).into());
            }
        };
        // One of adapters is made only if it went away since its Primary was seen.
        if self.is_own || answer.status == StatusCode::CREATED {
            self.group_left = Left::Something;
        }
        let how = match answer.status {
            StatusCode::CONFLICT => "is there with a timeout of its own, which an adapter takes",
            _ => "is registered",
        };
        self.report.ok(self.step, format!("'{}' {how}", self.group))?;
        self.tell_form(&answer)?;
        self.tell_timeout(timeout)?;
        self.tell_clock(&answer, timeout)?;
        Ok(timeout)
    }

    /// An adapter reads nothing of a registration but its status, so either form serves it.
    fn tell_form(&mut self, answer: &Answer) -> Result<(), OperatorError> {
        match serde_json::from_str::<Value>(&answer.text) {
            Ok(Value::String(_)) if answer.status.is_success() => self.report.ok(
                "form",
                "registrations are answered as in the API's preview (tenant-api = preview): fine for adapters, which read the status alone",
            ),
            _ => Ok(()),
        }
    }

    async fn find_timeout(&mut self) -> Result<Duration, Trouble> {
        let answer = self.ask(Method::GET, &[], None).await?;
        if !answer.status.is_success() {
            return Err(answer.fault("the question for the group's timeout", self.has_credentials).into());
        }
        let group = serde_json::from_str::<Map<String, Value>>(&answer.text).unwrap_or_default();
        let ticks = property(&group, "FailoverTimeout").and_then(Value::as_str).and_then(timespan::parse);
        let timeout = ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
        let timeout = timeout.ok_or_else(|| Fault {
            said: "the group is there with another configuration, and does not say with which FailoverTimeout"
                .to_owned(),
            to_do: "See the log of the service.".to_owned(),
            code: FAILED,
        })?;
        Ok(Duration::from_micros(timeout / 10))
    }

    fn tell_timeout(&mut self, timeout: Duration) -> Result<(), OperatorError> {
        let shown = humantime::format_duration(timeout);
        if let Some(configured) = self.configured.filter(|configured| *configured != timeout && !self.is_own) {
            self.report.warn(
                "timeout",
                format!(
                    "the group's timeout is {shown}, and the adapter's configuration has {}",
                    humantime::format_duration(configured)
                ),
                "Give all adapters of a group the group's FailoverTimeout: one that heartbeats more seldom than every half of it loses its role.",
            )?;
        }
        // One that was left behind may have another.
        let told = if self.is_own { self.configured.unwrap_or(DEFAULT_TIMEOUT) } else { timeout };
        let (shown, half) = (humantime::format_duration(told), humantime::format_duration(told / 2));
        if told < MIN_TIMEOUT {
            return self.report.warn(
                "timeout",
                format!("the timeout is {shown}, and the least that an adapter takes is 15s"),
                "Set 15 seconds or more, in the group and in all of its adapters.",
            );
        }
        self.report.ok("timeout", format!("{shown}: an adapter heartbeats every {half}"))
    }

    fn tell_clock(&mut self, answer: &Answer, timeout: Duration) -> Result<(), OperatorError> {
        let Some(ahead) = answer.ahead() else {
            return self.report.warn(
                "clock",
                "the service does not say what time it has".to_owned(),
                "Compare the clocks of the machines by hand: one that is ahead loses data at a takeover.",
            );
        };
        let by = ahead.abs().to_std().unwrap_or_default();
        if by <= timeout / 2 {
            return self.report.ok("clock", "this machine and the service have the same time, as far as can be seen");
        }
        let shown = humantime::format_duration(Duration::from_secs(by.as_secs()));
        let where_to = if ahead > chrono::Duration::zero() { "ahead of" } else { "behind" };
        let said = format!("this machine's clock is {shown} {where_to} the service's");
        self.report.warn(
            "clock",
            said,
            "Set the clocks by NTP. If a Primary's clock is ahead of its standby's, the standby drops data that was never sent; if it is behind, data is sent twice.",
        )
    }

    /// Registers a session, heartbeats, and tries what is not there.
    async fn take_part(&mut self, timeout: Duration) -> Result<(), Trouble> {
        self.step = "session";
        let body = json!({"Id": self.session, "Name": "adapters check"});
        self.session_left = Left::Perhaps;
        let answer = self.ask(Method::POST, &["clientsessions"], Some(body)).await?;
        if !answer.status.is_success() {
            self.session_left = Left::Nothing;
            return Err(answer.fault("the registration of the session", self.has_credentials).into());
        }
        self.session_left = Left::Something;
        self.report.ok(self.step, format!("'{}' is registered", self.session))?;
        self.heartbeat("heartbeat", timeout).await?;
        self.heartbeat("next heartbeat", timeout).await?;
        self.step = "unknown session";
        let nobody = format!("{}-nobody", self.session);
        let answer = self.ask(Method::POST, &["clientsessions", &nobody, "heartbeat"], Some(beat())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(self.report.ok(self.step, "its heartbeat is answered 404: an adapter registers again after that")?),
            status => Err(Fault {
                said: format!("the heartbeat of a session that is not registered was answered {status}, not 404"),
                to_do: "404 is all that makes an adapter register again: without it the adapter is lost once its session is deleted.".to_owned(),
                code: if status.is_success() { FAILED } else { code_of(status) },
            }
            .into()),
        }
    }

    async fn heartbeat(&mut self, step: &'static str, timeout: Duration) -> Result<(), Trouble> {
        self.step = step;
        let session = self.session.clone();
        let answer = self.ask(Method::POST, &["clientsessions", &session, "heartbeat"], Some(beat())).await?;
        if !answer.status.is_success() {
            let mut fault = answer.fault("the heartbeat", self.has_credentials);
            if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
                fault.to_do = "The session was registered a moment ago, so heartbeats are not served there: this is no service for adapters of today, or one of the API's preview alone.".to_owned();
            }
            return Err(fault.into());
        }
        let told = reading::read(&answer.text).map_err(|said| Fault {
            said,
            to_do: "The service does not answer as the released API does: no setting of an adapter helps.".to_owned(),
            code: FAILED,
        })?;
        if told.role != Role::Secondary && !self.is_own {
            return Err(Fault {
                said: format!(
                    "the session was told that it is {}: the group's Primary has just gone away",
                    told.role.name()
                ),
                to_do: "The session is deleted at once, so that nobody waits for it. Look at the group.".to_owned(),
                code: IN_CONFLICT,
            }
            .into());
        }
        self.report.ok(self.step, format!("answered {}, as an adapter reads it", told.role.name()))?;
        if told.lacks_time {
            self.report.warn(
                self.step,
                "the answer has no LastDataProcessedTime: a hot standby drops nothing of what it buffers".to_owned(),
                "No setting of an adapter helps; a hot standby sends much again at a takeover.",
            )?;
        }
        if let (Some(sent_until), Some(now)) = (told.sent_until, answer.service_time())
            && sent_until - now > chrono::Duration::from_std(timeout / 2).unwrap_or(chrono::Duration::MAX)
        {
            self.report.warn(
                self.step,
                format!("data is said to be sent until {}, which is in the future", datetime::format(Some(sent_until))),
                "Set the Primary's clock: a hot standby drops what it believes to be sent.",
            )?;
        }
        Ok(())
    }

    /// Takes away what there is, and tells of it.
    pub async fn clean_up(&mut self) -> Result<(), OperatorError> {
        match std::mem::replace(&mut self.session_left, Left::Nothing) {
            Left::Nothing => {}
            left => self.say_goodbye(left).await?,
        }
        match std::mem::replace(&mut self.group_left, Left::Nothing) {
            Left::Nothing => Ok(()),
            left => self.delete_group(left).await,
        }
    }

    async fn say_goodbye(&mut self, left: Left) -> Result<(), OperatorError> {
        let answer = self.ask(Method::DELETE, &["clientsessions", &self.session], None).await;
        let mut fault = match answer {
            Ok(answer) if answer.status.is_success() => {
                return self.report.ok("goodbye", "the session is deleted");
            }
            _ if left == Left::Perhaps => return Ok(()),
            Ok(answer) => answer.fault("the deletion of the session", self.has_credentials),
            Err(fault) => fault,
        };
        fault.to_do = format!("Delete the session '{}' of the group '{}'.", self.session, self.group);
        self.report.fault("goodbye", fault)
    }

    async fn delete_group(&mut self, left: Left) -> Result<(), OperatorError> {
        const STEP: &str = "group's end";
        let said = match self.ask(Method::DELETE, &[], None).await {
            Ok(answer) => match answer.status {
                status if status.is_success() => return self.report.ok(STEP, "the group is deleted"),
                _ if left == Left::Perhaps => return Ok(()),
                StatusCode::FORBIDDEN => {
                    let said = format!(
                        "the group '{}' stays, empty: these credentials may not delete groups, and an adapter never does",
                        self.group
                    );
                    return self.report.ok(STEP, said);
                }
                StatusCode::NOT_FOUND => return self.report.ok(STEP, "the group was deleted by somebody else"),
                StatusCode::CONFLICT => return self.report.ok(STEP, "the group stays: somebody else is trying it"),
                _ => format!("the group '{}' stays: its deletion was answered {}", self.group, answer.told()),
            },
            Err(_) if left == Left::Perhaps => return Ok(()),
            Err(fault) => format!("the group '{}' may be there still: {}", self.group, fault.said),
        };
        self.report.warn(STEP, said, "Delete it; for an adapter it does not matter.")
    }

    async fn is_group_gone(&self) -> bool {
        self.ask(Method::GET, &[], None).await.is_ok_and(|answer| answer.status == StatusCode::NOT_FOUND)
    }

    /// Sends something to what stands below the group.
    async fn ask(&self, method: Method, below: &[&str], body: Option<Value>) -> Result<Answer, Fault> {
        self.adapter.send(method, &[&["groups", self.group.as_str()], below].concat(), body).await
    }
}

/// A heartbeat that is the last in every rank, and says nothing of data.
fn beat() -> Value {
    json!({"FailoverScore": 0, "LastDataProcessedTime": UNSET})
}

/// What nobody else has chosen for a name.
fn unlikely() -> String {
    // Each state is seeded by the system.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
