//! The fleet: groups of sessions in a database of the benchmark's own, as they are after a first
//! heartbeat each.

use std::io::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use client_failover::arbitration::FailoverTimeout;
use client_failover::ids::{GroupId, GroupPath, NamespaceId, NamespacePath, TenantId};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::BenchError;

const TENANT: &str = "bench";
const NAMESPACE: &str = "fleet";

/// What the names of groups begin with whose clients fall silent.
const SOON_SILENT: &str = "silent";

/// Groups that one statement inserts.
const SEED_PAGE: u64 = 5_000;

/// How long a lease is: nothing is to lapse while it is measured.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// As long as a lease of those is that are to lapse.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The form of the API that heartbeats are sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was published first.
    First,
    /// As adapters speak it.
    Released,
}

/// So many groups of so many sessions.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    groups: u64,
    sessions_per_group: u64,
    /// What the names of its groups begin with.
    name: &'static str,
    timeout: Duration,
    /// From one place to the next in the order of sending; has no factor in common with the number
    /// of sessions.
    step: u64,
    form: Form,
}

/// One session of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FleetSession {
    /// The number of its group.
    pub group: u64,
    /// Its number in the group; 0 is Primary.
    pub number: u64,
}

/// By how much lapses were late, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lags {
    /// How many Primaries lost their role.
    pub lapsed: u64,
    /// Half of them no later.
    pub p50_ms: f64,
    /// 99 of 100 no later.
    pub p99_ms: f64,
    /// The last.
    pub max_ms: f64,
}

impl Fleet {
    /// A fleet with at least one session.
    pub fn new(groups: u64, sessions_per_group: u64) -> Fleet {
        Fleet::of(groups, sessions_per_group, "g", TIMEOUT)
    }

    /// A fleet beside the other whose leases are short.
    pub fn soon_silent(groups: u64, sessions_per_group: u64) -> Fleet {
        Fleet::of(groups, sessions_per_group, SOON_SILENT, SHORT_TIMEOUT)
    }

    fn of(groups: u64, sessions_per_group: u64, name: &'static str, timeout: Duration) -> Fleet {
        let (groups, sessions_per_group) = (groups.max(1), sessions_per_group.max(1));
        let sessions = groups * sessions_per_group;
        // By the golden section: neighbours in time are nowhere near each other in the tables.
        let begin = (sessions as f64 * 0.618) as u64 | 1;
        let step = (begin..).find(|step| greatest_common_divisor(*step, sessions) == 1).unwrap_or(1);
        Fleet { groups, sessions_per_group, name, timeout, step, form: Form::First }
    }

    /// The same fleet, whose heartbeats have that form.
    pub fn in_form(self, form: Form) -> Fleet {
        Fleet { form, ..self }
    }

    /// How many groups there are.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// How many sessions each of them has.
    pub fn sessions_per_group(&self) -> u64 {
        self.sessions_per_group
    }

    /// How many sessions there are in all.
    pub fn sessions(&self) -> u64 {
        self.groups * self.sessions_per_group
    }

    /// The session at a place in the order of sending: each comes once before any comes again.
    pub fn session(&self, place: u64) -> FleetSession {
        let sessions = self.sessions();
        let number = (u128::from(place) * u128::from(self.step) % u128::from(sessions)) as u64;
        FleetSession { group: number / self.sessions_per_group, number: number % self.sessions_per_group }
    }

    /// The whole request of a heartbeat, as an adapter sends it.
    pub fn write_heartbeat(&self, session: FleetSession, request: &mut Vec<u8>) {
        let FleetSession { group, number } = session;
        let name = self.name;
        let now = wall_clock().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let (below, body) = match self.form {
            Form::First => (
                "",
                format!(
                    "{{\"PercentHealthyStreams\":99.5,\"HeartbeatTime\":\"{now}\",\"LastDataSendTime\":\"{now}\"}}"
                ),
            ),
            Form::Released => ("/heartbeat", format!("{{\"FailoverScore\":99.5,\"LastDataProcessedTime\":\"{now}\"}}")),
        };
        // Writing to memory does not fail.
        let _ = write!(
            request,
            "POST /api/v1/tenants/{TENANT}/namespaces/{NAMESPACE}/clientfailover/groups/{name}{group}/clientsessions/s{number}{below} \
             HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
    }

    /// Writes the fleet into empty tables: the first session of each group is Primary, and all have
    /// a lease.
    ///
    /// Beside it, as many groups again that only the peer uses: the service could not name them by
    /// a path.
    pub async fn seed(&self, connection: &mut PgConnection, seeded: impl FnMut(u64)) -> Result<(), BenchError> {
        self.write(connection, seeded).await?;
        // The statistics that a fleet which has run for a while would have.
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *connection).await?;
        sqlx::raw_sql("CHECKPOINT").execute(connection).await?;
        Ok(())
    }

    /// Writes the fleet and no more.
    pub async fn write(&self, connection: &mut PgConnection, mut seeded: impl FnMut(u64)) -> Result<(), BenchError> {
        for first in (0..self.groups).step_by(SEED_PAGE as usize) {
            let numbers = first..self.groups.min(first + SEED_PAGE);
            let names: Vec<String> = numbers.clone().map(|number| format!("{}{number}", self.name)).collect();
            let keys = names.iter().map(|name| key(name)).collect::<Result<Vec<Uuid>, BenchError>>()?;
            self.insert(connection, &keys, &names).await?;
            seeded(numbers.end);
        }
        Ok(())
    }

    /// As many groups for the peer, with keys that it can compute from a number:
    /// `md5(number::text)::uuid`.
    pub async fn seed_for_peer(&self, connection: &mut PgConnection) -> Result<(), BenchError> {
        for first in (0..self.groups).step_by(SEED_PAGE as usize) {
            let last = self.groups.min(first + SEED_PAGE) - 1;
            let keys: Vec<Uuid> =
                sqlx::query_scalar("SELECT md5(n::text)::uuid FROM generate_series($1::bigint, $2::bigint) n")
                    .bind(first as i64)
                    .bind(last as i64)
                    .fetch_all(&mut *connection)
                    .await?;
            let names: Vec<String> = (first..=last).map(|number| format!("peer{number}")).collect();
            self.insert(connection, &keys, &names).await?;
        }
        sqlx::raw_sql("VACUUM ANALYZE").execute(connection).await?;
        Ok(())
    }

    async fn insert(&self, connection: &mut PgConnection, keys: &[Uuid], names: &[String]) -> Result<(), BenchError> {
        sqlx::query(
            "INSERT INTO groups (group_key, tenant_id, namespace_id, group_id, failover_timeout_ticks, term)
             SELECT key, $3, $4, name, $5, 1 FROM unnest($1::uuid[], $2::text[]) AS n (key, name)",
        )
        .bind(keys)
        .bind(names)
        .bind(TENANT)
        .bind(NAMESPACE)
        .bind(self.timeout.as_millis() as i64 * FailoverTimeout::TICKS_PER_MS)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO sessions (group_key, session_id, role)
             SELECT key, 's' || number, CASE number WHEN 0 THEN 1 ELSE 0 END
             FROM unnest($1::uuid[]) key, generate_series(0, $2::bigint - 1) number",
        )
        .bind(keys)
        .bind(self.sessions_per_group as i64)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO heartbeats (group_key, session_id, percent_healthy_streams, heartbeat_time, received_at,
                 lease_until, heard_until)
             SELECT key, 's' || number, 99.5, now(), now(), now() + make_interval(secs => $3), now()
             FROM unnest($1::uuid[]) key, generate_series(0, $2::bigint - 1) number",
        )
        .bind(keys)
        .bind(self.sessions_per_group as i64)
        .bind(self.timeout.as_secs_f64())
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// How long after the ends of their leases the Primaries that fell silent had lost their role in
/// the tables.
pub async fn lags_of_lapses(connection: &mut PgConnection) -> Result<Lags, BenchError> {
    let (lapsed, ms): (i64, Option<Vec<f64>>) = sqlx::query_as(
        "SELECT count(*), percentile_disc(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY ms)
         FROM role_transitions t JOIN heartbeats h USING (group_key, session_id)
         CROSS JOIN LATERAL (SELECT extract(epoch FROM t.recorded_at - h.lease_until)::float8 * 1000 AS ms) lag
         WHERE t.reason = 'lease_lapsed' AND t.from_role = 1 AND t.group_id LIKE $1",
    )
    .bind(format!("{SOON_SILENT}%"))
    .fetch_one(connection)
    .await?;
    let [p50_ms, p99_ms, max_ms] = ms.and_then(|ms| ms.try_into().ok()).unwrap_or_default();
    Ok(Lags { lapsed: lapsed.unsigned_abs(), p50_ms, p99_ms, max_ms })
}

/// The namespace that holds the fleet.
pub fn namespace() -> Result<NamespacePath, BenchError> {
    Ok(NamespacePath { tenant: TenantId::parse(TENANT)?, namespace: NamespaceId::parse(NAMESPACE)? })
}

fn key(group: &str) -> Result<Uuid, BenchError> {
    let path = GroupPath { parent: namespace()?, group: GroupId::parse(group)? };
    Ok(path.key().0)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A client's own clock, which decides nothing.
#[expect(clippy::disallowed_methods, reason = "it is a client's clock here")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_session_comes_once_before_any_comes_again() {
        for (groups, sessions_per_group) in [(1, 1), (1, 2), (500, 2), (333, 3)] {
            let fleet = Fleet::new(groups, sessions_per_group);
            let seen: HashSet<FleetSession> = (0..fleet.sessions()).map(|place| fleet.session(place)).collect();
            assert_eq!(seen.len() as u64, fleet.sessions());
        }
    }
}
