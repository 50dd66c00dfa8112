//! What operators look at: the state of groups with what is true at the moment of reading, a page
//! at a time, and the walk along all groups that counts them. Never in a serializable transaction.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::clock::{instant, moment, moment_columns, read_clock};
use super::columns::Micros;
use super::configuration::timeout_of;
use super::connection::ReadConnection;
use super::error::WorkError;
use super::options::StoreOptions;
use super::rows::row;
use super::state::Rhythm;
use super::wish_names::wished;
use crate::arbitration::{FailoverTimeout, Lease, Role, Wished, true_now};
use crate::ids::{Groups, Within};

/// A group with what is true now.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Its key.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The namespace.
    pub namespace: String,
    /// The group's id.
    pub group: String,
    /// A name for people.
    pub name: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// How long a heartbeat keeps a session live.
    pub timeout: FailoverTimeout,
    /// The term of the last grant of Primary.
    pub term: i64,
    /// Up to when a Primary said that it sent data.
    pub watermark: Option<DateTime<Utc>>,
    /// The session whose handover is being waited for.
    pub handover_from: Option<String>,
    /// Until when nobody but a session that says it acts is Primary; `None` where nothing is in
    /// doubt.
    pub in_doubt_until: Option<DateTime<Utc>>,
    /// The clock at the moment of reading.
    pub now: DateTime<Utc>,
    /// Its sessions: those with a role first, then the healthiest.
    pub sessions: Vec<SessionStatus>,
}

/// A session with what is true now.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// The role that is true now.
    pub role: Role,
    /// Since when it has the role that is stored.
    pub role_changed_at: DateTime<Utc>,
    /// Whether its lease has not run out.
    pub live: bool,
    /// Its latest heartbeat, if it has sent one.
    pub beat: Option<BeatStatus>,
    /// When it registered.
    pub registered_at: DateTime<Utc>,
    /// Who registered it, where that was noted.
    pub registered_by: Option<String>,
    /// Up to when it sent data while it was Primary.
    pub sent_until: Option<DateTime<Utc>>,
    /// What an operator wishes of it now.
    pub wish: Option<SessionWish>,
}

/// What an operator wishes of a session.
#[derive(Clone, Debug)]
pub struct SessionWish {
    /// What, and until when.
    pub wished: Wished,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// A session's latest heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct BeatStatus {
    /// Per cent of healthy streams.
    pub health: Decimal,
    /// When it arrived.
    pub received_at: DateTime<Utc>,
    /// How long its lease still lasts, in milliseconds; 0 once it has run out.
    pub lease_left_ms: i64,
    /// How long after the one before it came, in milliseconds; `None` where that says nothing.
    pub interval_ms: Option<i64>,
    /// What risks are told by.
    pub seen: Seen,
}

row! {
    /// A session with its group and its latest heartbeat; a group without sessions has one as well.
    struct StatusRow, status_columns! {
        group_key: Uuid = "g.group_key",
        tenant_id: String = "g.tenant_id",
        namespace_id: String = "g.namespace_id",
        group_id: String = "g.group_id",
        group_name: Option<String> = "g.name",
        description: Option<String> = "g.description",
        failover_timeout_ticks: i64 = "g.failover_timeout_ticks",
        term: i64 = "g.term",
        watermark_base_at: Option<DateTime<Utc>> = "g.watermark_base_at",
        handover_from: Option<String> = "CASE WHEN g.handover_until > m.now THEN g.handover_from END",
        in_doubt_until: Option<DateTime<Utc>> = "CASE WHEN d.in_doubt_until > m.now THEN d.in_doubt_until END",
        session_id: Option<String> = "s.session_id",
        session_name: Option<String> = "s.name",
        role: i16 = "s.role",
        role_changed_at: DateTime<Utc> = "s.role_changed_at",
        registered_at: DateTime<Utc> = "s.registered_at",
        registered_by: Option<String> = "s.registered_by",
        percent_healthy_streams: Option<Decimal> = "h.percent_healthy_streams",
        received_at: DateTime<Utc> = "h.received_at",
        lease_until: DateTime<Utc> = "h.lease_until",
        primary_sent_until: Option<DateTime<Utc>> = "h.primary_sent_until",
        heartbeat_time: DateTime<Utc> = "h.heartbeat_time",
        last_data_send_time: Option<DateTime<Utc>> = "h.last_data_send_time",
        data_still_ms: Option<i32> = "h.data_still_ms",
        rhythm: i32 = "h.rhythm",
        wish: Option<&'r str> = "w.wish",
        when_silent: Option<&'r str> = "w.when_silent",
        wished_at: Option<DateTime<Utc>> = "w.wished_at",
        wished_until: Option<DateTime<Utc>> = "w.wished_until",
    }
}

/// The state of these groups, in their order; one that is gone is left out.
pub async fn read_status(
    connection: &mut ReadConnection,
    keys: &[Uuid],
    options: &StoreOptions,
) -> Result<Vec<GroupStatus>, WorkError> {
    const READ: &str = concat!(
        "WITH moment AS MATERIALIZED (",
        moment!("$2"),
        ")
        SELECT ",
        status_columns!(),
        ", ",
        moment_columns!(),
        "
        FROM moment m
        CROSS JOIN unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, place)
        JOIN groups g ON g.group_key = k.group_key
        LEFT JOIN group_doubts d ON d.group_key = g.group_key
        LEFT JOIN sessions s ON s.group_key = g.group_key
        LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        LEFT JOIN session_wishes w ON w.group_key = s.group_key AND w.session_id = s.session_id
            AND (w.wished_until IS NULL OR w.wished_until > m.now)
        ORDER BY k.place, s.session_id"
    );
    let witness = connection.call_witness();
    let rows = sqlx::query(READ).bind(keys).bind(witness.asks()).fetch_all(connection).await?;
    let mut groups: Vec<GroupStatus> = Vec::with_capacity(keys.len());
    let Some(first) = rows.first() else { return Ok(groups) };
    let clock = read_clock(first, &witness, options)?;
    let at = clock.moment();
    for row in rows.iter().map(StatusRow::of) {
        let key = row.group_key()?;
        if groups.last().is_none_or(|group| group.key != key) {
            groups.push(read_group(row, key, clock.now)?);
        }
        let (Some(group), Some(id)) = (groups.last_mut(), row.session_id()?) else { continue };
        let sent_until = row.primary_sent_until()?;
        group.watermark = group.watermark.max(sent_until);
        let stored =
            Role::from_number(row.role()?).ok_or_else(|| WorkError::Inconsistent(format!("role of session '{id}'")))?;
        let beat = match row.percent_healthy_streams()? {
            None => None,
            Some(health) => Some((health, row.received_at()?, row.lease_until()?)),
        };
        let lease =
            beat.map(|(_, received_at, until)| Lease { received_at: instant(received_at), until: instant(until) });
        let now = true_now(stored, lease, at);
        let beat = match beat {
            None => None,
            Some((health, received_at, _)) => {
                let interval_us = i64::from(read_rhythm(row)?.interval_permille) * group.timeout.micros() / 1_000;
                Some(BeatStatus {
                    health,
                    received_at,
                    lease_left_ms: now.lease_left_us / 1_000,
                    interval_ms: (interval_us > 0).then_some(interval_us / 1_000),
                    seen: read_seen(row, now.role)?,
                })
            }
        };
        group.sessions.push(SessionStatus {
            id,
            name: row.session_name()?,
            role: now.role,
            role_changed_at: row.role_changed_at()?,
            live: now.is_live(),
            registered_at: row.registered_at()?,
            registered_by: row.registered_by()?,
            sent_until,
            beat,
            wish: read_wish(row)?,
        });
    }
    for group in &mut groups {
        let rank = |session: &SessionStatus| match session.role {
            Role::Primary => 0,
            Role::PendingPrimary => 1,
            Role::Secondary if session.live => 2,
            Role::Secondary => 3,
        };
        group.sessions.sort_by_key(|session| (rank(session), session.beat.map(|beat| std::cmp::Reverse(beat.health))));
    }
    Ok(groups)
}

fn read_wish(row: StatusRow<'_>) -> Result<Option<SessionWish>, WorkError> {
    let wished = wished(row.wish()?, row.when_silent()?, row.wished_until()?);
    let (Some(wished), Some(at)) = (wished, row.wished_at()?) else { return Ok(None) };
    Ok(Some(SessionWish { wished, at }))
}

fn read_rhythm(row: StatusRow<'_>) -> Result<Rhythm, WorkError> {
    Ok(Rhythm::unpacked(row.rhythm()?, row.data_still_ms()?))
}

/// What is seen of a session with a heartbeat.
fn read_seen(row: StatusRow<'_>, role: Role) -> Result<Seen, WorkError> {
    let rhythm = read_rhythm(row)?;
    let still_ms = rhythm.data_still_ms.filter(|_| role == Role::Primary);
    let said = row.last_data_send_time()?.max(Some(row.heartbeat_time()?));
    let received_at = instant(row.received_at()?);
    Ok(Seen {
        signs_of_two: rhythm.signs_of_two,
        late_in_a_row: rhythm.late_in_a_row,
        still_us: still_ms.map(|ms| i64::from(ms) * 1_000),
        ahead_us: said.map_or(0, |said| instant(said).0.saturating_sub(received_at.0).max(0)),
    })
}

fn read_group(row: StatusRow<'_>, key: Uuid, now: DateTime<Utc>) -> Result<GroupStatus, WorkError> {
    Ok(GroupStatus {
        key,
        tenant: row.tenant_id()?,
        namespace: row.namespace_id()?,
        group: row.group_id()?,
        name: row.group_name()?,
        description: row.description()?,
        timeout: timeout_of(row.failover_timeout_ticks()?)?,
        term: row.term()?,
        watermark: row.watermark_base_at()?,
        handover_from: row.handover_from()?,
        in_doubt_until: row.in_doubt_until()?,
        now,
        sessions: Vec::new(),
    })
}

/// Which groups are searched: by a part of what they are called, in any case, and where they are.
#[derive(Clone, Debug, Default)]
pub struct GroupSearch {
    /// Only those there.
    pub within: Within,
    /// Only such groups of it.
    pub groups: Groups,
    /// Only those whose id, name, description, tenant or namespace holds this text, or the id of
    /// one of their sessions.
    pub text: Option<String>,
}

/// What groups can be put in order by: what stands in their own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// By id, then by where they are.
    Id,
    /// By id backwards.
    IdDescending,
    /// By term, the lowest first.
    Term,
    /// By term, the highest first.
    TermDescending,
}

/// How many groups are found by the ids of their sessions at most.
const MAX_BY_SESSION: i64 = 10_000;

/// Where groups are looked for: by the index of paths, or by that of tenants.
macro_rules! groups_within {
    () => {
        "($1::text IS NULL OR tenant_id = $1)
            AND ($2::text IS NULL OR (namespace_id = $2 AND hashtextextended(tenant_id || '/' || namespace_id, 0)
                = hashtextextended($1 || '/' || $2, 0)))"
    };
}

/// What stands before each of the statements on groups, and the condition that is common to them.
macro_rules! groups_where {
    ($select:literal, $rest:expr) => {
        concat!(
            $select,
            " FROM groups g WHERE ",
            groups_within!(),
            " AND ($3::text IS NULL OR strpos(lower(group_id), $3) > 0 OR strpos(lower(coalesce(name, '')), $3) > 0
                    OR strpos(lower(coalesce(description, '')), $3) > 0
                    OR ($1::text IS NULL AND strpos(lower(tenant_id), $3) > 0)
                    OR ($2::text IS NULL AND strpos(lower(namespace_id), $3) > 0)
                    OR g.group_key = ANY($5::uuid[]))
                AND ($4::text[] IS NULL OR group_id LIKE ANY($4))",
            $rest
        )
    };
}

/// A search, with what was found of it among sessions.
#[derive(Debug)]
pub struct FoundSearch<'s> {
    search: &'s GroupSearch,
    by_session: Vec<Uuid>,
}

impl GroupSearch {
    /// Looks among the ids of sessions: once for all the statements on groups that come after it.
    pub async fn among_sessions(&self, connection: &mut ReadConnection) -> Result<FoundSearch<'_>, WorkError> {
        let Some(text) = &self.text else { return Ok(FoundSearch { search: self, by_session: Vec::new() }) };
        // One walk along the sessions that are asked for, and no index: one over them all would
        // lock them for longer than a migration may.
        let query = match self.within {
            Within::AllTenants => sqlx::query_scalar(
                "SELECT DISTINCT group_key FROM sessions WHERE strpos(lower(session_id), $1) > 0 LIMIT $2",
            )
            .bind(text.to_lowercase())
            .bind(MAX_BY_SESSION),
            Within::Tenant(_) | Within::Namespace(_) => sqlx::query_scalar(concat!(
                "SELECT g.group_key FROM groups g WHERE ",
                groups_within!(),
                " AND EXISTS (SELECT FROM sessions s WHERE s.group_key = g.group_key AND strpos(lower(s.session_id), $3) > 0)
                LIMIT $4"
            ))
            .bind(self.within.tenant().map(str::to_owned))
            .bind(self.within.namespace().map(str::to_owned))
            .bind(text.to_lowercase())
            .bind(MAX_BY_SESSION),
        };
        Ok(FoundSearch { search: self, by_session: query.persistent(false).fetch_all(connection).await? })
    }
}

impl FoundSearch<'_> {
    fn bind<'q, O>(
        &self,
        query: sqlx::query::QueryAs<'q, sqlx::Postgres, O, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::QueryAs<'q, sqlx::Postgres, O, sqlx::postgres::PgArguments> {
        let GroupSearch { within, groups, text } = self.search;
        // Planned anew each time: a plan for any search and any number of keys would be a bad one
        // for most.
        query
            .persistent(false)
            .bind(within.tenant().map(str::to_owned))
            .bind(within.namespace().map(str::to_owned))
            .bind(text.as_ref().map(|text| text.to_lowercase()))
            .bind(groups.as_likes())
            .bind(self.by_session.clone())
    }
}

/// How many groups are found.
pub async fn count_found(connection: &mut ReadConnection, search: &FoundSearch<'_>) -> Result<i64, WorkError> {
    let query = sqlx::query_as(groups_where!("SELECT count(*)", ""));
    let (count,): (i64,) = search.bind(query).fetch_one(connection).await?;
    Ok(count)
}

/// Those of the groups that are found, in the order given.
pub async fn keep_found(
    connection: &mut ReadConnection,
    search: &FoundSearch<'_>,
    keys: &[Uuid],
) -> Result<Vec<Uuid>, WorkError> {
    let query = sqlx::query_as(concat!(
        "SELECT found.group_key FROM (",
        groups_where!("SELECT g.group_key", " AND g.group_key = ANY($6)"),
        ") found JOIN unnest($6) WITH ORDINALITY AS k (group_key, place) ON k.group_key = found.group_key ORDER BY k.place"
    ));
    let found: Vec<(Uuid,)> = search.bind(query).bind(keys).fetch_all(connection).await?;
    Ok(found.into_iter().map(|(key,)| key).collect())
}

/// The groups that are found, without those given, by where they are and by id.
pub async fn find_others(
    connection: &mut ReadConnection,
    search: &FoundSearch<'_>,
    without: &[Uuid],
    skip: i64,
    limit: i64,
) -> Result<Vec<Uuid>, WorkError> {
    let query = sqlx::query_as(groups_where!(
        "SELECT g.group_key",
        " AND NOT EXISTS (SELECT FROM unnest($6::uuid[]) w (group_key) WHERE w.group_key = g.group_key)
        ORDER BY hashtextextended(tenant_id || '/' || namespace_id, 0), group_id OFFSET $7 LIMIT $8"
    ));
    let found: Vec<(Uuid,)> = search.bind(query).bind(without).bind(skip).bind(limit).fetch_all(connection).await?;
    Ok(found.into_iter().map(|(key,)| key).collect())
}

/// The groups that are found, in an order of their own; of these alone, where some are given.
pub async fn find_in_order(
    connection: &mut ReadConnection,
    search: &FoundSearch<'_>,
    order: GroupOrder,
    of: Option<&[Uuid]>,
    skip: i64,
    limit: i64,
) -> Result<Vec<Uuid>, WorkError> {
    // Only the first so many are kept while all are looked at: no sort of them all.
    macro_rules! in_order {
        ($order:literal) => {
            groups_where!(
                "SELECT g.group_key",
                concat!(" AND ($6::uuid[] IS NULL OR g.group_key = ANY($6)) ORDER BY ", $order, " OFFSET $7 LIMIT $8")
            )
        };
    }
    let query = sqlx::query_as(match order {
        GroupOrder::Id => in_order!("group_id, tenant_id, namespace_id"),
        GroupOrder::IdDescending => in_order!("group_id DESC, tenant_id DESC, namespace_id DESC"),
        GroupOrder::Term => in_order!("term, group_id, tenant_id, namespace_id"),
        GroupOrder::TermDescending => in_order!("term DESC, group_id, tenant_id, namespace_id"),
    });
    let found: Vec<(Uuid,)> = search.bind(query).bind(of).bind(skip).bind(limit).fetch_all(connection).await?;
    Ok(found.into_iter().map(|(key,)| key).collect())
}

/// The groups in which Primary changed hands or fell vacant after an event, the latest first.
pub async fn find_changed_since(
    connection: &mut ReadConnection,
    event_id: i64,
    limit: i64,
) -> Result<Vec<Uuid>, WorkError> {
    let query = "SELECT group_key FROM (
            SELECT group_key, transition_id FROM role_transitions
            WHERE transition_id > $1 AND (from_role = 1 OR to_role = 1) ORDER BY transition_id DESC LIMIT $2
        ) latest GROUP BY group_key ORDER BY max(transition_id) DESC";
    Ok(sqlx::query_scalar(query).bind(event_id).bind(limit).fetch_all(connection).await?)
}

/// What is seen of a live session; or the most that is seen of any of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How much its heartbeats look like those of two clients.
    pub signs_of_two: i32,
    /// How many of them were late in a row.
    pub late_in_a_row: i32,
    /// Of the Primary: for how long it has reported no newer data, in microseconds; `None` where it
    /// never reported any.
    pub still_us: Option<i64>,
    /// By how much a time that it says is ahead of the clock, in microseconds.
    pub ahead_us: i64,
}

/// What a census notes of a group.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct CensusRow {
    /// Its key.
    pub group_key: Uuid,
    /// The tenant.
    pub tenant_id: String,
    /// The namespace.
    pub namespace_id: String,
    /// Its id.
    pub group_id: String,
    /// Its timeout.
    pub failover_timeout_ticks: i64,
    /// Registered sessions.
    pub sessions: i64,
    /// For each live session the part of its lease that is over: 0 for under a quarter, to 3 for
    /// more than three quarters.
    pub lease_ages: Vec<i16>,
    /// The health of its Primary, if it has one.
    pub primary_health: Option<f64>,
    /// Whether the end of a handover is being waited for.
    pub is_handing_over: bool,
    /// Whether somebody may act on a lease that was lost with a history of the database.
    pub is_in_doubt: bool,
    /// Of its live sessions the most of each of what is [`Seen`].
    pub signs_of_two: i32,
    /// See there.
    pub late_in_a_row: i32,
    /// See there; in milliseconds.
    pub still_ms: Option<i32>,
    /// See there; in seconds.
    pub ahead_s: f64,
    /// How many of its silent sessions took the place of one that had fallen silent before; 0 where
    /// few are silent, and where groups are spread over several servers.
    pub new_ids: i64,
}

impl CensusRow {
    /// What is seen of its live sessions.
    pub fn seen(&self) -> Seen {
        let micros = |seconds: f64| (seconds * 1e6) as i64;
        Seen {
            signs_of_two: self.signs_of_two,
            late_in_a_row: self.late_in_a_row,
            still_us: self.still_ms.map(|ms| i64::from(ms) * 1_000),
            ahead_us: micros(self.ahead_s),
        }
    }
}

/// What is [`Seen`], of the live sessions of a group, by that clock.
macro_rules! seen_columns {
    ($now:literal) => {
        concat!(
            ", coalesce(max(m.rhythm % 100) FILTER (WHERE m.ends > ",
            $now,
            "), 0) AS signs_of_two,
            coalesce(max(m.rhythm / 100 % 10) FILTER (WHERE m.ends > ",
            $now,
            "), 0) AS late_in_a_row,
            max(m.data_still_ms) FILTER (WHERE m.role = 1 AND m.ends > ",
            $now,
            ") AS still_ms,
            coalesce(greatest(0, date_part('epoch', max(greatest(m.heartbeat_time, m.last_data_send_time) - m.received_at)
                FILTER (WHERE m.ends > ",
            $now,
            "))), 0) AS ahead_s"
        )
    };
}

/// How many of a group's silent sessions were registered within the hour after another of the same
/// registrant had fallen silent: as `failover::new_ids` counts them, and the view `group_risks`.
/// Looked at only where enough are silent.
macro_rules! new_ids_column {
    () => {
        "
    , CASE WHEN count(m.session_id) FILTER (WHERE m.ends IS NULL OR m.ends <= statement_timestamp()) > 3 THEN (
        SELECT count(*)
        FROM (
            SELECT e.is_begin AND h.session_id IS NOT NULL AS is_start,
                bool_or(NOT e.is_begin) OVER (PARTITION BY s.registered_by ORDER BY e.at
                    RANGE BETWEEN interval '1 hour' PRECEDING AND interval '1 microsecond' PRECEDING) AS took_a_place
            FROM sessions s
            LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
            CROSS JOIN LATERAL (VALUES (true, s.registered_at), (false, greatest(h.received_at, s.registered_at)))
                AS e (is_begin, at)
            WHERE s.group_key = g.group_key AND coalesce(h.lease_until <= statement_timestamp(), true)
        ) starts
        WHERE is_start AND took_a_place
    ) ELSE 0 END AS new_ids"
    };
}

/// The next groups in order of key, with what is counted of them.
pub async fn read_census_page(
    connection: &mut ReadConnection,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CensusRow>, WorkError> {
    if connection.is_spread() {
        return read_census_page_spread(connection, after, limit).await;
    }
    // Short statements that hold no snapshot for long, each one walk along the keys of three tables
    // at once. The last key of the page bounds each walk by itself: looked up group by group, they
    // would cost twice as much. Outages only extend a lease, so the function that judges by them is
    // called for those that would be over.
    const READ: &str = concat!(
        "
        WITH page AS MATERIALIZED (
            SELECT group_key AS last FROM (SELECT group_key FROM groups WHERE group_key > $1 ORDER BY group_key LIMIT $2) keys
            ORDER BY group_key DESC LIMIT 1
        ), latest AS MATERIALIZED (
            SELECT history_id, noticed_at FROM service_histories WHERE base > 0 ORDER BY history_id DESC LIMIT 1
        )
        SELECT g.group_key, g.tenant_id, g.namespace_id, g.group_id, g.failover_timeout_ticks, count(m.session_id) AS sessions,
            coalesce(array_agg(trunc(least(3, 4 * date_part('epoch', statement_timestamp() - m.received_at)
                    / nullif(date_part('epoch', m.ends - m.received_at), 0)))::smallint)
                FILTER (WHERE m.ends > statement_timestamp()), '{}') AS lease_ages,
            (max(m.percent_healthy_streams) FILTER (WHERE m.role = 1 AND m.ends > statement_timestamp()))::float8
                AS primary_health,
            coalesce(g.handover_until > statement_timestamp(), false) AS is_handing_over,
            -- As in group_doubts, with the leases that are read here anyway.
            coalesce(CASE
                WHEN g.history_id < (SELECT history_id FROM latest) THEN greatest(g.in_doubt_until, (SELECT noticed_at FROM latest)
                    + greatest(failover_timeout(g.failover_timeout_ticks), max(m.lease_until - m.received_at)))
                ELSE g.in_doubt_until
            END > statement_timestamp(), false) AS is_in_doubt",
        seen_columns!("statement_timestamp()"),
        new_ids_column!(),
        "
        FROM groups g
        LEFT JOIN (
            SELECT s.group_key, s.session_id, s.role, h.percent_healthy_streams, h.received_at, h.lease_until,
                h.heartbeat_time, h.last_data_send_time, h.data_still_ms, h.rhythm,
                CASE
                    WHEN h.lease_until > statement_timestamp()
                        OR h.received_at >= (SELECT max(recovered_at) FROM service_outages) THEN h.lease_until
                    ELSE lease_end(h.lease_until, h.lease_until - h.received_at)
                END AS ends
            FROM sessions s
            LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
                AND h.group_key > $1 AND h.group_key <= (SELECT last FROM page)
            WHERE s.group_key > $1 AND s.group_key <= (SELECT last FROM page)
        ) m ON m.group_key = g.group_key
        WHERE g.group_key > $1 AND g.group_key <= (SELECT last FROM page)
        GROUP BY g.group_key ORDER BY g.group_key"
    );
    Ok(sqlx::query_as(READ).bind(after).bind(limit).fetch_all(connection).await?)
}

/// A group that was granted a Primary several times of late.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Flapping {
    /// Its key.
    pub group_key: Uuid,
    /// Whether at least half of it came of health: the Primary stepped down for a healthier one.
    pub by_health: bool,
}

/// The groups that were granted a Primary at least so often in the last so many seconds, at most
/// `limit` of them.
pub async fn find_flapping(
    connection: &mut ReadConnection,
    grants: i64,
    seconds: f64,
    limit: i64,
) -> Result<Vec<Flapping>, WorkError> {
    let query = "SELECT group_key, count(*) FILTER (WHERE reason = 'yielded') * 2 >= count(*) FILTER (WHERE to_role = 1) AS by_health
        FROM role_transitions
        WHERE recorded_at > clock_timestamp() - make_interval(secs => $2) AND (to_role = 1 OR from_role = 1)
        GROUP BY group_key HAVING count(*) FILTER (WHERE to_role = 1) >= $1 LIMIT $3";
    Ok(sqlx::query_as(query).bind(grants).bind(seconds).bind(limit).fetch_all(connection).await?)
}

/// The reason of the history that a database begins with.
pub const FIRST_HISTORY: &str = "first";

/// A history of the database, as its row tells it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct History {
    /// What it is told from others by.
    pub history: Uuid,
    /// When it was noticed.
    pub noticed_at: DateTime<Utc>,
    /// The last sign of life of the one before it that the database has; `None` for the first.
    pub last_sign_at: Option<DateTime<Utc>>,
    /// What it was noticed by.
    pub reason: String,
    /// The id of its event, above which those of the events in it are; 0 where nothing was fenced
    /// off.
    pub base: i64,
    /// Whether nothing was fenced off because an operator says that promotions lose nothing.
    pub is_trusted: bool,
    /// How long ago it was noticed, in milliseconds.
    pub age_ms: i64,
}

/// The histories of the database, the latest first.
pub async fn read_histories(connection: &mut ReadConnection, limit: i64) -> Result<Vec<History>, WorkError> {
    let read = "SELECT history, noticed_at, last_sign_at, reason, base, is_trusted,
            greatest(0, (extract(epoch FROM statement_timestamp() - noticed_at) * 1000)::bigint) AS age_ms
        FROM service_histories
        ORDER BY history_id DESC LIMIT $1";
    Ok(sqlx::query_as(read).bind(limit).fetch_all(connection).await?)
}

/// How many outages were ever recorded.
pub async fn count_outages(connection: &mut ReadConnection) -> Result<i64, WorkError> {
    let count = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM service_outages_outage_id_seq";
    Ok(sqlx::query_scalar(count).fetch_one(connection).await?)
}

/// What is counted of the next groups in order of key: see [`read_census_page`].
///
/// By the coordinator's clock and the latest outage that counted for every lease: the function that
/// judges by all of them is not where the rows are, and the difference is over within a timeout.
async fn read_census_page_spread(
    connection: &mut ReadConnection,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CensusRow>, WorkError> {
    const PAGE: &str = "SELECT group_key FROM groups WHERE group_key > $1 ORDER BY group_key LIMIT $2";
    const MOMENT: &str = "
        SELECT clock_timestamp() AS now, began_at, recovered_at, history_id, noticed_at FROM (VALUES (1)) one (row) LEFT JOIN (
            SELECT began_at, recovered_at FROM service_outages
            WHERE recovered_at - began_at > counts_from ORDER BY outage_id DESC LIMIT 1
        ) latest ON true LEFT JOIN (
            SELECT history_id, noticed_at FROM service_histories WHERE base > 0 ORDER BY history_id DESC LIMIT 1
        ) history ON true";
    const READ: &str = concat!(
        "
        SELECT g.group_key, g.tenant_id, g.namespace_id, g.group_id, g.failover_timeout_ticks, count(m.session_id) AS sessions,
            coalesce(array_agg(trunc(least(3, 4 * date_part('epoch', $3 - m.received_at)
                    / nullif(date_part('epoch', m.ends - m.received_at), 0)))::smallint)
                FILTER (WHERE m.ends > $3), '{}') AS lease_ages,
            (max(m.percent_healthy_streams) FILTER (WHERE m.role = 1 AND m.ends > $3))::float8 AS primary_health,
            coalesce(g.handover_until > $3, false) AS is_handing_over,
            coalesce(CASE
                WHEN g.history_id < $6 THEN greatest(g.in_doubt_until, $7
                    + greatest(g.failover_timeout_ticks / 10 * interval '1 us', max(m.lease_until - m.received_at)))
                ELSE g.in_doubt_until
            END > $3, false) AS is_in_doubt",
        seen_columns!("$3"),
        ", 0::bigint AS new_ids
        FROM groups g
        LEFT JOIN (
            SELECT s.group_key, s.session_id, s.role, h.percent_healthy_streams, h.received_at, h.lease_until,
                h.heartbeat_time, h.last_data_send_time, h.data_still_ms, h.rhythm,
                CASE
                    WHEN h.received_at < $5 AND h.lease_until > $4
                        THEN greatest(h.lease_until, $5 + (h.lease_until - h.received_at))
                    ELSE h.lease_until
                END AS ends
            FROM sessions s
            LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
                AND h.group_key > $1 AND h.group_key <= $2
            WHERE s.group_key > $1 AND s.group_key <= $2
        ) m ON m.group_key = g.group_key
        WHERE g.group_key > $1 AND g.group_key <= $2
        GROUP BY g.group_key ORDER BY g.group_key"
    );
    let page: Vec<Uuid> = sqlx::query_scalar(PAGE).bind(after).bind(limit).fetch_all(&mut *connection).await?;
    let Some(last) = page.last() else { return Ok(Vec::new()) };
    #[derive(sqlx::FromRow)]
    struct Latest {
        now: Micros,
        began_at: Option<Micros>,
        recovered_at: Option<Micros>,
        history_id: Option<i64>,
        noticed_at: Option<Micros>,
    }
    let latest: Latest = sqlx::query_as(MOMENT).fetch_one(&mut *connection).await?;
    let read = sqlx::query_as(READ).bind(after).bind(last);
    let read = read.bind(latest.now).bind(latest.began_at).bind(latest.recovered_at);
    Ok(read.bind(latest.history_id).bind(latest.noticed_at).fetch_all(connection).await?)
}
