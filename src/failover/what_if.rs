//! What would come of a deletion or of another timeout: decided on the present state, and said.
//!
//! Writes nothing. What is refused here is what would be refused if it were done.

use chrono::{DateTime, Utc};

use super::wanted::{Deletion, Speaker, WantedGroup};
use super::wishes::{Foresight, Outlook};
use super::{Caller, Failover, FailoverError, may_be_created};
use crate::arbitration::{self, Clients, Course, Role};
use crate::ids::{GroupPath, SessionId};
use crate::store::clock::{Clock, read_moment};
use crate::store::{LostCommit, StoreError, groups, state};

/// What the deletion of a group would end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The clock at that moment.
    pub now: DateTime<Utc>,
    /// Who is Primary.
    pub primary: Option<String>,
    /// How many sessions would be deleted with it.
    pub sessions: usize,
    /// How many of them are live.
    pub live: usize,
}

impl Failover {
    /// What would come of the deletion of a client session.
    pub async fn foresee_session_deletion(
        &self,
        caller: &Caller,
        path: &GroupPath,
        session: &SessionId,
        speaker: Speaker,
    ) -> Result<Outlook, FailoverError> {
        let (primary, stored, clock) = self
            .store
            .serializable("what_if", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    let (i, by) = self.deletable(caller, path, session, speaker, &stored)?;
                    arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
                    let primary = stored.group.holder(Role::Primary);
                    arbitration::remove(&mut stored.group, i, by, clock.moment(), &mut stored.trace);
                    Ok((primary, stored, clock))
                })
            })
            .await?;
        let primary = primary.map(|p| stored.session_ids[p].clone());
        let courses = Course::both(stored.group.timeout);
        let mut outlook = self.play(stored, None, clock, courses).await?;
        outlook.session = Some(session.as_str().to_owned());
        outlook.primary = primary;
        Ok(outlook)
    }

    /// What would come of a group's creation, or of another configuration of it. Clients that are
    /// silent are taken to heartbeat as often as the timeout before asks for, since they do not
    /// hear of the change.
    pub async fn foresee_group_change(
        &self,
        caller: &Caller,
        path: GroupPath,
        wanted: WantedGroup,
    ) -> Result<Outlook, FailoverError> {
        let full = self.full_tenant(&path.parent.tenant).await?;
        let (path, wanted, full) = (&path, &wanted, &full);
        let (now, found) = self
            .store
            .serializable("what_if", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    let Some(found) = groups::find_configuration(connection, path.key()).await? else {
                        may_be_created(path, full)?;
                        caller.rights.create(&caller.identity, &path.group).map_err(FailoverError::from)?;
                        return Ok((read_moment(connection, self.store.options()).await?.now, None));
                    };
                    let configuration = wanted.in_place_of(&found);
                    if configuration != found {
                        caller.rights.change(&path.group).map_err(FailoverError::from)?;
                    }
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
                    Ok((clock.now, Some((stored, clock, configuration.timeout))))
                })
            })
            .await?;
        let Some((mut stored, clock, timeout)) = found else { return Ok(Outlook::of_nobody(now)) };
        let before = stored.group.timeout;
        stored.group.timeout = timeout;
        let courses = [Course::of(Clients::Silent, before), Course::of(Clients::Attentive, timeout)];
        self.play(stored, None, clock, courses).await
    }

    /// What the deletion of a group would end.
    pub async fn foresee_group_deletion(&self, path: &GroupPath, deletion: Deletion) -> Result<Ending, FailoverError> {
        let (stored, clock, live) = self
            .store
            .serializable("what_if", LostCommit::Repeat, |connection, _| {
                Box::pin(async move {
                    let (clock, mut stored) = self.load_group(connection, path).await?;
                    let live = deletion.allows(path, &stored, &clock)?;
                    arbitration::lapse(&mut stored.group, clock.moment(), &mut stored.trace);
                    Ok((stored, clock, live))
                })
            })
            .await?;
        let primary = stored.group.holder(Role::Primary).map(|p| stored.session_ids[p].clone());
        Ok(Ending { now: clock.now, primary, sessions: stored.session_ids.len(), live })
    }

    /// Plays it on, not while the database waits, nor where others wait for this thread: a group
    /// may be large.
    pub(super) async fn play(
        &self,
        stored: state::StoredGroup,
        s: Option<usize>,
        clock: Clock,
        courses: [Course; 2],
    ) -> Result<Outlook, FailoverError> {
        let rules = self.options.rules;
        let played = tokio::task::spawn_blocking(move || Outlook::of(&stored, s, &clock, &rules, courses));
        played.await.map_err(|error| StoreError::Inconsistent(error.to_string()).into())
    }
}

impl Outlook {
    /// Of a group without sessions.
    fn of_nobody(now: DateTime<Utc>) -> Outlook {
        let nothing = Foresight { changes: Vec::new(), without_primary_ms: 0 };
        Outlook { now, session: None, wished: None, primary: None, if_silent: nothing.clone(), if_attentive: nothing }
    }
}
