//! Keys of the service's own. The database keeps a hash of each; every replica keeps a copy of
//! those in memory.
//!
//! The copy is renewed when the database says that something changed, looked at every second, so
//! that a revocation is known everywhere within seconds. A copy that could not be confirmed for
//! `TRUSTED_FOR` is not believed: requests with keys are answered 503 then, as they would be
//! without the database anyway.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::{AuthError, Grade, Grant, Identity, Kind};
use crate::ids::GroupPattern;
use crate::metrics;
use crate::store::api_keys::{self, StoredKey};
use crate::store::{Store, StoreError};

pub mod issue;

/// What every key begins with, so that it is known for what it is wherever it turns up.
pub const PREFIX: &str = "cfk_";

/// How long a copy is believed that could not be confirmed since.
const TRUSTED_FOR: Duration = Duration::from_secs(4);

/// How often it is noted which keys were used.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// From how long before its end a key is warned about, and how often: at the start, and then daily.
const WARNED_BEFORE: Duration = Duration::from_secs(30 * 86_400);
const WARNED_EVERY: Duration = Duration::from_secs(86_400);

const UNKNOWN: AuthError = AuthError::Invalid("the API key is unknown, expired or revoked");

/// A new key: the text to hand out, which is nowhere kept, and the hash to keep.
pub fn generate() -> Result<(String, [u8; 32]), aws_lc_rs::error::Unspecified> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = hash(&key);
    Ok((key, hash))
}

/// Without salt or cost: nobody guesses 256 random bits.
fn hash(key: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    bytes
}

/// Whether the caller that a key stands for has that name.
pub fn is_name_of(name: &str, caller: &Identity) -> bool {
    caller.own_name() == Some(name)
}

/// This replica's copy of the keys.
pub struct ApiKeys {
    store: Store,
    copy: RwLock<Copy>,
    renewing: tokio::sync::Mutex<()>,
    use_noted_at: Mutex<Option<Instant>>,
    /// The callers that were warned about, and when that was.
    warned: Mutex<HashMap<Arc<str>, Instant>>,
}

#[derive(Default)]
struct Copy {
    keys: HashMap<[u8; 32], Arc<Key>>,
    revision: Option<i64>,
    /// When the look began that last confirmed it.
    confirmed_at: Option<Instant>,
    /// Keys that were used and have not been noted, from the copy before.
    used_before: Vec<i64>,
}

impl Copy {
    /// The keys that were used since this was last asked.
    fn take_used(&self) -> Vec<i64> {
        self.keys.values().filter(|key| key.used.swap(false, Ordering::Relaxed)).map(|key| key.key_id).collect()
    }

    /// Every caller whose last key ends, with that key and when. One that has another key which
    /// goes on is provided for.
    fn ends(&self) -> HashMap<&Arc<str>, (i64, Instant)> {
        let mut ends: HashMap<&Arc<str>, Option<(i64, Instant)>> = HashMap::new();
        for key in self.keys.values() {
            let end = key.until.map(|until| (key.key_id, until));
            ends.entry(&key.identity.name)
                .and_modify(|latest| {
                    *latest = match (*latest, end) {
                        (Some(latest), Some(end)) => Some(if end.1 > latest.1 { end } else { latest }),
                        _ => None,
                    }
                })
                .or_insert(end);
        }
        ends.into_iter().filter_map(|(caller, end)| Some((caller, end?))).collect()
    }
}

struct Key {
    key_id: i64,
    identity: Arc<Identity>,
    until: Option<Instant>,
    used: AtomicBool,
}

impl ApiKeys {
    /// An empty copy over that store, which need not be reachable yet.
    pub fn open(store: Store) -> ApiKeys {
        ApiKeys {
            store,
            copy: RwLock::default(),
            renewing: tokio::sync::Mutex::default(),
            use_noted_at: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// Who that is, if the copy is fresh and has the key.
    pub fn recall(&self, key: &str) -> Option<Arc<Identity>> {
        let now = Instant::now();
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        copy.confirmed_at.filter(|at| now.duration_since(*at) < TRUSTED_FOR)?;
        let found = copy.keys.get(&hash(key))?;
        if found.until.is_some_and(|until| until <= now) {
            return None;
        }
        if !found.used.load(Ordering::Relaxed) {
            found.used.store(true, Ordering::Relaxed);
        }
        Some(found.identity.clone())
    }

    /// Who that is. A key that the copy does not have may have been made a moment ago, so the
    /// database is asked.
    pub async fn recognise(&self, key: &str) -> Result<Arc<Identity>, AuthError> {
        if self.renew(Instant::now()).await.is_err() {
            return Err(AuthError::Unavailable("API keys cannot be checked while the database is away"));
        }
        self.recall(key).ok_or(UNKNOWN)
    }

    /// Confirms the copy, and notes now and then which keys were used.
    pub async fn keep_up(&self) {
        if let Err(error) = self.renew(Instant::now()).await {
            tracing::debug!(%error, "the API keys could not be looked at");
            return;
        }
        self.tell_of_ends(Instant::now());
        let used = self.used_keys();
        if used.is_empty() {
            return;
        }
        if let Err(error) = api_keys::note_use(&self.store, &used).await {
            tracing::debug!(%error, "the use of API keys could not be noted");
        }
    }

    /// Shows when the next caller is left without a key, and warns of those for whom that is soon.
    fn tell_of_ends(&self, now: Instant) {
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        let ends = copy.ends();
        let left = |end: Instant| end.saturating_duration_since(now);
        // Those that ended since the copy was made are none any more.
        let to_come = || ends.iter().filter(|(_, (_, end))| *end > now);
        metrics::next_key_ends(to_come().map(|(_, (_, end))| *end).min().map(Instant::into_std));
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.retain(|caller, _| ends.contains_key(caller));
        for (caller, (key, end)) in to_come().filter(|(_, (_, end))| left(*end) <= WARNED_BEFORE) {
            if warned.get(*caller).is_some_and(|at| now.duration_since(*at) < WARNED_EVERY) {
                continue;
            }
            warned.insert((*caller).clone(), now);
            let ends_in = humantime::format_duration(Duration::from_secs(left(*end).as_secs())).to_string();
            tracing::warn!(key, %caller, ends_in, "an API key ends soon: make another with --replaces");
        }
    }

    /// The keys that were used since this was last asked; empty more often than it is time to note
    /// them.
    fn used_keys(&self) -> Vec<i64> {
        let mut noted_at = self.use_noted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if noted_at.is_some_and(|at| at.elapsed() < USE_NOTED_EVERY) {
            return Vec::new();
        }
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        let mut used = std::mem::take(&mut copy.used_before);
        used.extend(copy.take_used());
        if !used.is_empty() {
            *noted_at = Some(Instant::now());
        }
        used
    }

    /// Brings the copy to what is in the database at some time after `asked_at`. Whoever waits for
    /// another's look takes its outcome if that began late enough: any number of requests cost one
    /// look at a time.
    async fn renew(&self, asked_at: Instant) -> Result<(), StoreError> {
        let _one = self.renewing.lock().await;
        let (revision, confirmed_at) = {
            let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
            (copy.revision, copy.confirmed_at)
        };
        if confirmed_at.is_some_and(|at| at >= asked_at) {
            return Ok(());
        }
        let began_at = Instant::now();
        // The revision first: what changes after it is found by the next look.
        let found = api_keys::find_revision(&self.store).await?;
        let keys = if revision == Some(found) { None } else { Some(api_keys::find_valid(&self.store).await?) };
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys {
            let used = copy.take_used();
            copy.used_before.extend(used);
            copy.keys = keys.into_iter().filter_map(|stored| read_key(stored, began_at)).collect();
            copy.revision = Some(found);
        }
        copy.confirmed_at = Some(began_at);
        Ok(())
    }
}

/// A key whose row makes no sense is none.
fn read_key(stored: StoredKey, now: Instant) -> Option<([u8; 32], Arc<Key>)> {
    let groups = stored.groups.map(|patterns| patterns.into_iter().map(GroupPattern::from).collect());
    let grade = Grade::from_text(&stored.role)?;
    let grant = Grant { tenant: stored.tenant_id, namespaces: stored.namespaces, groups, grade };
    if grant.fault().is_some() {
        return None;
    }
    let identity = Arc::new(Identity {
        name: format!("key:{}:{}", stored.identity_id, stored.identity_name).into(),
        kind: Kind::ApiKey,
        grants: vec![grant],
    });
    // By the database's clock; counted from before it was read, so never too long.
    let until = stored.valid_for_s.map(|left| now + Duration::from_secs_f64(left.clamp(0.0, 1e9)));
    let key = Key { key_id: stored.key_id, identity, until, used: AtomicBool::new(false) };
    Some((stored.key_hash.try_into().ok()?, Arc::new(key)))
}
