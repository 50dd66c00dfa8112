//! What is asked for of one client session: that it registers, heartbeats, and goes.

use serde_json::json;

use super::log::{self, changes_of, log_changes, log_deed};
use super::outcome::{Creation, Registered, Removal};
use super::wanted::{Speaker, WantedSession};
use super::wishes::wisher_of;
use super::{
    Caller, Change, Failover, FailoverError, HeartbeatMessage, Recognition, hidden_in, no_such_group, no_such_session,
    record,
};
use crate::arbitration::{self, Answer, By};
use crate::ids::{GroupPath, SessionId, TenantId};
use crate::store::audit::Action;
use crate::store::clock::read_moment;
use crate::store::registrant::Registrant;
use crate::store::state::{self, Actor, StoredGroup};
use crate::store::{LostCommit, StoreError, groups};

impl Failover {
    /// Registers a client session: Secondary, without a lease. The same again changes nothing and
    /// succeeds.
    pub async fn register(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: SessionId,
        wanted: WantedSession,
    ) -> Result<Registered, FailoverError> {
        let limit = self.options.session_limit;
        let full = self.full_of_sessions(&path.parent.tenant).await?;
        let (session, wanted, full) = (&session, &wanted, &full);
        let (creation, sessions_before) = self
            .store
            .serializable("register_session", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    read_moment(connection, self.store.options()).await?;
                    let key = path.key();
                    if groups::find_configuration(connection, key).await?.is_none() {
                        return Err(no_such_group(path).into());
                    }
                    match groups::find_session(connection, key, session).await? {
                        Some(found) if wanted.agrees_with(&found) => return Ok((Creation::FoundTheSame, 0)),
                        Some(_) => {
                            let (group, session) = (path.group.clone(), session.clone());
                            return Err(FailoverError::SessionDiffers { group, session }.into());
                        }
                        None => {}
                    }
                    if let Some(hidden) = hidden_in("id of the client session", session.as_str()) {
                        return Err(hidden.into());
                    }
                    let sessions = groups::count_sessions(connection, key).await?;
                    if sessions >= i64::from(limit) {
                        let silent = groups::count_silent_sessions(connection, key).await?;
                        return Err(FailoverError::TooManySessions { group: path.group.clone(), limit, silent }.into());
                    }
                    if let Some(full) = full {
                        return Err(full.clone().into());
                    }
                    let configuration = wanted.configuration();
                    groups::insert_session(connection, path, session, &configuration, &caller.identity).await?;
                    Ok((Creation::Created, sessions))
                })
            })
            .await?;
        let deed = (creation == Creation::Created).then_some(log::SESSION_REGISTERED);
        log_deed(deed, caller, &path.label(), Some(session));
        // Boxed: it is rare, and every registration would carry its size.
        let is_new_id_again = Box::pin(self.is_new_id_again(caller, path, sessions_before)).await;
        Ok(Registered { creation, is_new_id_again })
    }

    /// Deletes a client session, with its role and its lease. If it was its goodbye, no timeout is
    /// waited for; else nobody is granted Primary before the session has stopped acting. One that
    /// is excluded stays registered through its own goodbye, and excluded.
    ///
    /// Where sessions are bound, only its registrant's or an admin's.
    pub async fn delete_session(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
        speaker: Speaker,
    ) -> Result<Removal, FailoverError> {
        let (changes, done) = self
            .store
            .serializable("delete_session", LostCommit::Report, |connection, _| {
                Box::pin(async move {
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    stored.wisher = Some(wisher_of(caller));
                    let (i, by) = self.deletable(caller, path, session, speaker, &stored)?;
                    let was_live = stored.group.is_live(i, clock.moment());
                    let role = stored.group.sessions[i].role;
                    arbitration::remove(&mut stored.group, i, by, clock.moment(), &mut stored.trace);
                    let mut stored = [stored];
                    state::save(connection, &clock, &mut stored, Actor::Operator).await?;
                    if stored[0].group.sessions[i].wish.is_some() {
                        groups::forget_heartbeat(connection, path, session).await?;
                    } else {
                        groups::delete_session(connection, path, session).await?;
                    }
                    // That a client which has ended says so is nothing to ask about later.
                    let action = match (was_live, speaker) {
                        (true, _) => Some(Action::LiveSessionDeleted),
                        (false, Speaker::Operator) => Some(Action::SilentSessionDeleted),
                        (false, Speaker::Client) => None,
                    };
                    if let Some(action) = action {
                        let before = Some(json!({"Role": role.number(), "By": by_text(by)}));
                        let change = Change { before, after: None };
                        record(connection, caller, action, path, Some(session), change).await?;
                    }
                    Ok((changes_of(&path.label(), &stored[0]), Removal::of(was_live)))
                })
            })
            .await?;
        log_changes(&changes);
        log_deed(Some(log::SESSION_DELETED), caller, &path.label(), Some(session));
        Ok(done)
    }

    /// The place of a session that they may delete, and who deletes it.
    pub(super) fn deletable(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
        speaker: Speaker,
        stored: &StoredGroup,
    ) -> Result<(usize, By), FailoverError> {
        let i = stored.find_session(session.as_str()).ok_or_else(|| no_such_session(path, session))?;
        let registrant = stored.registrant(i, &caller.identity);
        if self.options.bind_sessions {
            caller.rights.delete_bound(registrant, &path.group, session)?;
        }
        let by = match (speaker, caller.recognition) {
            (Speaker::Client, Recognition::Nameless) => By::Itself,
            (Speaker::Client, Recognition::ByName) if registrant == Registrant::Caller => By::Itself,
            (Speaker::Client | Speaker::Operator, _) => By::Another,
        };
        Ok((i, by))
    }

    /// One heartbeat: answered with the session's role once that is committed.
    ///
    /// Where sessions are bound, only its registrant's counts.
    pub async fn heartbeat(
        &self,
        caller: &Caller,
        path: GroupPath,
        session: SessionId,
        message: HeartbeatMessage,
    ) -> Result<Answer, FailoverError> {
        self.heartbeats.send(path, session, message, caller, self.options.bind_sessions).await
    }

    /// The refusal, where the tenant has as many sessions as it may have. Counted when it is near
    /// to that and otherwise not at each registration, so those of a moment may exceed it.
    async fn full_of_sessions(&self, tenant: &TenantId) -> Result<Option<FailoverError>, StoreError> {
        let Some(limit) = self.options.tenant_session_limit else { return Ok(None) };
        if self.room.take(tenant) {
            return Ok(None);
        }
        let count = self.store.read("count_tenant_sessions", |connection, _| {
            Box::pin(groups::count_tenant_sessions(connection, tenant, limit))
        });
        let room = u64::from(limit).saturating_sub(count.await?);
        self.room.note(tenant, room);
        Ok((room == 0).then(|| FailoverError::TooManySessionsOfTenant { tenant: tenant.clone(), limit }))
    }
}

fn by_text(by: By) -> &'static str {
    match by {
        By::Itself => "client",
        By::Another => "operator",
    }
}
