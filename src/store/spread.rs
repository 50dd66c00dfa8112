//! Groups that are spread over several servers (Citus): where they are, and what that asks of a
//! transaction.
//!
//! The tables with a group's key are cut into *places* (shards) by it, each on one node. A
//! transaction touches the groups of one place, so that all of it is one serializable transaction
//! of that node, and every statement of it names the keys of its groups: then each is one message
//! to one node. Nothing is told by where a row lies (`ctid`), which is true in one place only.
//!
//! The clock, the signs of life, outages and whatever names no group stay with the coordinator, to
//! which the service connects. See `docs/decisions/0019-beyond-one-postgresql.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::Store;
use super::connection::{Connection, ReadConnection};
use super::error::{StoreError, WorkError, check_count};
use super::options::LOCK_TIMEOUT;

/// What the nodes are told, because it has to hold there as well: some of what sessions of the
/// coordinator begin with. They are told with the first statement that goes to them, and so without
/// a message more.
///
/// One message each: of several statements in one, the nodes would be told all, the BEGIN among
/// them.
pub(super) async fn set_for_nodes(connection: &mut Connection) -> Result<(), WorkError> {
    let settings = [("lock_timeout", LOCK_TIMEOUT), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")];
    for (name, value) in settings {
        let set = format!("SET LOCAL {name} = '{value}'");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// How many places are kept in mind, and for how long: the cluster may be given other places
/// meanwhile. A wrong one costs time, and nothing else: every group is whole at its place, and a
/// transaction of two places is one at each.
const MAX_PLACES: usize = 200_000;
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Where groups are, as far as that was asked.
#[derive(Default)]
pub(super) struct Places(Mutex<Known>);

#[derive(Default)]
struct Known {
    places: HashMap<Uuid, i64>,
    since: Option<Instant>,
}

impl Places {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the keys whose place is not known.
    fn unknown(&self, keys: &[Uuid]) -> Vec<Uuid> {
        let mut known = self.known();
        if known.places.len() >= MAX_PLACES || known.since.is_none_or(|since| since.elapsed() >= KNOWN_FOR) {
            *known = Known { places: HashMap::new(), since: Some(Instant::now()) };
        }
        keys.iter().filter(|key| !known.places.contains_key(key)).copied().collect()
    }
}

impl Store {
    /// Looks whether each node is as it was noted, at first and after a decision that met one that
    /// is not: then the database is in another history, which the sign of life that follows notes.
    /// Not with each sign: nodes are asked on connections that are made for it.
    pub(super) async fn note_nodes_in_question(&self) -> Result<(), StoreError> {
        if !self.life().takes_question_of_nodes() {
            return Ok(());
        }
        let store = self.background().for_signs_of_life();
        let noted = store.autocommit("note_nodes", |connection, _| {
            Box::pin(async move { Ok(sqlx::raw_sql("SELECT note_nodes()").execute(connection).await.map(drop)?) })
        });
        let noted = noted.await;
        if noted.is_err() {
            self.life().question_nodes();
        }
        noted
    }

    /// Whether the database's groups are spread over several places, as far as its connections have
    /// shown.
    pub fn is_spread(&self) -> bool {
        self.line.admission().is_spread()
    }

    /// Cuts up by the places of their groups what a transaction each is to be made of. All is of
    /// one place where the database is one, or does not say.
    pub async fn by_place<T>(&self, all: Vec<T>, key_of: impl Fn(&T) -> Uuid) -> Vec<Vec<T>> {
        if !self.is_spread() || all.len() < 2 {
            return vec![all];
        }
        let mut keys: Vec<Uuid> = all.iter().map(&key_of).collect();
        keys.sort_unstable();
        keys.dedup();
        let unknown = self.places.unknown(&keys);
        if !unknown.is_empty() {
            let asked = &unknown;
            let store = self.background();
            let places = store.read("find_places", |connection, _| Box::pin(find_places(connection, asked)));
            match places.await {
                Ok(places) => self.places.known().places.extend(std::iter::zip(unknown.iter().copied(), places)),
                // Whatever is wrong, the transaction finds it too.
                Err(_) => return vec![all],
            }
        }
        let known = self.places.known();
        let mut parts: BTreeMap<Option<i64>, Vec<T>> = BTreeMap::new();
        for one in all {
            parts.entry(known.places.get(&key_of(&one)).copied()).or_default().push(one);
        }
        parts.into_values().collect()
    }
}

async fn find_places(connection: &mut ReadConnection, keys: &[Uuid]) -> Result<Vec<i64>, WorkError> {
    const FIND: &str =
        "SELECT place_of_group(group_key) FROM unnest($1::uuid[]) WITH ORDINALITY AS k (group_key, n) ORDER BY n";
    let places: Vec<i64> = sqlx::query_scalar(FIND).bind(keys).fetch_all(connection).await?;
    check_count("places", keys.len(), places.len() as u64)?;
    Ok(places)
}
