//! Name and password (RFC 7617), from a users file with argon2id hashes.
//!
//! A verification costs tens of milliseconds on purpose. It runs off the threads that serve, few at
//! a time, and its success is remembered for a while: until the file says otherwise about this
//! user. A failure is remembered, too, for seconds. Addresses and names with many failures have to
//! wait; whoever has got in from an address before does not, and has verifications of their own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::cache::Cache;
use super::watched_file::{WatchedFile, toml_fault};
use super::{AuthError, AuthSetupError, Grant, Identity, Kind, network};

/// For how long a verified password is remembered. A user who is changed or removed is forgotten at
/// once.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);

/// The most requests that wait for a verification.
const MAX_WAITING: usize = 64;

/// The most that one verification may cost, so that no entry of the file can stop the service.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;

/// For how long a wrong password is remembered.
const WRONG_FOR: Duration = Duration::from_secs(10);

/// For how long it is remembered from where a user has got in.
const AT_HOME_FOR: Duration = Duration::from_secs(24 * 3_600);

/// How many failures of an address and for a name cost nothing, and the longest that they then
/// cost.
const FREE_OF_ADDRESS: u32 = 200;
const FREE_FOR_NAME: u32 = 100;

/// From how many failures of its own on an address waits for what others have done to a name: a
/// user who comes from elsewhere is not kept out by them.
const OWN_FAILURES: u32 = 3;

/// The most requests of one address that wait for a verification.
const MAX_WAITING_PER_ADDRESS: u32 = 16;

const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The most addresses and names whose failures are kept in mind.
const MAX_FAILURES: usize = 20_000;

const TOO_MANY: AuthError = AuthError::TooMany("too many passwords are being verified");
const WAIT: AuthError = AuthError::TooMany("too many wrong passwords came from this address or for this name");
const WRONG: AuthError = AuthError::Invalid("the user is unknown or the password is wrong");

/// The users of a file.
pub struct Users {
    file: WatchedFile<UserTable>,
    verified: Cache<Verified>,
    /// Passwords that did not fit that hash.
    wrong: Cache<(Arc<str>, Instant)>,
    /// From where which users have got in.
    at_home: Cache<Instant>,
    failures: Mutex<HashMap<Whose, Failures>>,
    waiting: Waiting,
    strangers: Verifications,
    residents: Verifications,
}

/// What failures are counted for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Whose {
    Address(IpAddr),
    Name(Box<str>),
}

/// How many requests of each address wait for a verification.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<IpAddr, u32>>>);

impl Waiting {
    /// Room for another, until what comes of this is dropped.
    fn enter(&self, address: Option<IpAddr>) -> Option<Waits> {
        if let Some(address) = address {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.entry(address).or_default();
            if *count >= MAX_WAITING_PER_ADDRESS {
                return None;
            }
            *count += 1;
        }
        Some(Waits { waiting: self.clone(), address })
    }
}

struct Waits {
    waiting: Waiting,
    address: Option<IpAddr>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&address);
            }
        }
    }
}

struct Failures {
    count: u32,
    /// No verification before that.
    until: Instant,
}

/// Verifications at once, and places to wait for one.
struct Verifications {
    turns: Arc<Semaphore>,
    room: Semaphore,
}

impl Verifications {
    fn new(at_once: usize) -> Verifications {
        Verifications { turns: Arc::new(Semaphore::new(at_once)), room: Semaphore::new(MAX_WAITING) }
    }
}

struct UserTable {
    users: BTreeMap<Arc<str>, User>,
    /// What the password of a user who is not there is checked against: it takes the same time, and
    /// never fits.
    decoy: Arc<str>,
}

#[derive(Clone)]
struct User {
    hash: Arc<str>,
    identity: Arc<Identity>,
}

/// A password that fitted that hash.
#[derive(Clone)]
struct Verified {
    name: Arc<str>,
    hash: Arc<str>,
    until: Instant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    users: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    password: String,
    grants: Vec<Grant>,
}

impl Users {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Users, AuthSetupError> {
        // Half of the cores: the other half goes on answering heartbeats.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Users {
            file: WatchedFile::open(path, parse)?,
            verified: Cache::new(),
            wrong: Cache::new(),
            at_home: Cache::new(),
            failures: Mutex::default(),
            waiting: Waiting::default(),
            strangers: Verifications::new((cores / 4).max(1)),
            residents: Verifications::new((cores / 4).max(1)),
        })
    }

    /// Looks whether the file changed.
    pub fn reread_if_changed(&self) {
        self.file.reread_if_changed();
    }

    /// Whether there is a user of that name.
    pub fn has(&self, name: &str) -> bool {
        self.file.get().users.contains_key(name)
    }

    /// Who that is, if their password was verified a while ago and is still theirs.
    pub fn recall(&self, encoded: &str) -> Option<Arc<Identity>> {
        let verified = self.verified.find(self.verified.fingerprint(encoded.as_bytes()))?;
        if verified.until <= Instant::now() {
            return None;
        }
        let table = self.file.get();
        let user = table.users.get(&verified.name)?;
        (user.hash == verified.hash).then(|| user.identity.clone())
    }

    /// Who that is, who comes from there.
    pub async fn recognise(&self, encoded: &str, peer: Option<IpAddr>) -> Result<Arc<Identity>, AuthError> {
        let malformed = AuthError::Invalid("what follows 'Basic' is not base64 of a name, a colon and a password");
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or(malformed.clone())?;
        let (name, password) = decoded.split_once(':').ok_or(malformed)?;
        let table = self.file.get();
        let user = table.users.get_key_value(name).map(|(name, user)| (name.clone(), user.clone()));
        let hash = user.as_ref().map_or(&table.decoy, |(_, user)| &user.hash).clone();
        let fingerprint = self.wrong.fingerprint(encoded.as_bytes());
        if self.wrong.find(fingerprint).is_some_and(|(wrong, until)| wrong == hash && Instant::now() < until) {
            return Err(WRONG);
        }
        let address = peer.map(network);
        let home = self.at_home.fingerprint(format!("{address:?} {name}").as_bytes());
        let is_at_home = self.at_home.find(home).is_some_and(|until| Instant::now() < until);
        let by_name = Whose::Name(name.into());
        let by_address = address.map(Whose::Address);
        let has_to_wait = || !is_at_home && self.has_to_wait(by_address.as_ref(), &by_name);
        if has_to_wait() {
            return Err(WAIT);
        }
        let _waiting = self.waiting.enter(address).ok_or(TOO_MANY)?;
        let verifications = if is_at_home { &self.residents } else { &self.strangers };
        let Ok(_room) = verifications.room.try_acquire() else { return Err(TOO_MANY) };
        let Ok(turn) = verifications.turns.clone().acquire_owned().await else { return Err(TOO_MANY) };
        // Those before it in the line may have had the same password, or too many failures.
        if has_to_wait() {
            return Err(WAIT);
        }
        let fits = fits(password.to_owned(), hash.clone(), turn).await;
        let Some((name, user)) = user.filter(|_| fits) else {
            self.wrong.insert(fingerprint, (hash, Instant::now() + WRONG_FOR));
            self.note_failure(by_address.into_iter().chain([by_name]).collect());
            return Err(WRONG);
        };
        self.at_home.insert(home, Instant::now() + AT_HOME_FOR);
        // Spread out, so that those who came together need not all be verified again together.
        let until = Instant::now() + REMEMBERED_FOR.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.verified.insert(self.verified.fingerprint(encoded.as_bytes()), Verified { name, hash, until });
        Ok(user.identity)
    }

    fn has_to_wait(&self, address: Option<&Whose>, name: &Whose) -> bool {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let waits = |whose: &Whose| failures.get(whose).is_some_and(|failures| now < failures.until);
        match address {
            None => waits(name),
            Some(address) => {
                let own = failures.get(address).map_or(0, |failures| failures.count);
                waits(address) || (own >= OWN_FAILURES && waits(name))
            }
        }
    }

    /// Beyond those that cost nothing, each failure doubles the wait; who has waited ten times as
    /// long begins anew.
    fn note_failure(&self, whose: Vec<Whose>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_over = |failures: &Failures| now > failures.until + 10 * LONGEST_WAIT;
        if failures.len() + whose.len() > MAX_FAILURES {
            failures.retain(|_, failures| !is_over(failures));
        }
        for whose in whose {
            if failures.len() >= MAX_FAILURES && !failures.contains_key(&whose) {
                continue;
            }
            let free = if matches!(whose, Whose::Address(_)) { FREE_OF_ADDRESS } else { FREE_FOR_NAME };
            let entry = failures.entry(whose).or_insert(Failures { count: 0, until: now });
            if is_over(entry) {
                entry.count = 0;
            }
            entry.count += 1;
            let beyond = entry.count.saturating_sub(free);
            let wait = match beyond {
                0 => Duration::ZERO,
                beyond => Duration::from_secs(1 << (beyond - 1).min(10)).min(LONGEST_WAIT),
            };
            entry.until = now + wait;
        }
    }
}

async fn fits(password: String, hash: Arc<str>, turn: OwnedSemaphorePermit) -> bool {
    let verification = tokio::task::spawn_blocking(move || {
        // Held by the work and not by the one who waits for it, who may go away.
        let _turn = turn;
        PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    });
    verification.await.unwrap_or(false)
}

/// The hash of a password, as the users file has it.
pub fn hash_password(password: &str) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

fn parse(text: &str) -> Result<UserTable, String> {
    let file: UsersFile = toml::from_str(text).map_err(|error| toml_fault(text, &error))?;
    let mut users = BTreeMap::new();
    for (name, Entry { password, grants }) in file.users {
        if let Some(fault) = name_fault(&name).or_else(|| grants.iter().find_map(Grant::fault)) {
            return Err(format!("user '{name}': {fault}"));
        }
        check_hash(&password).map_err(|fault| format!("user '{name}': {fault}"))?;
        let identity = Arc::new(Identity { name: format!("basic:{name}").into(), kind: Kind::User, grants });
        users.insert(name.into(), User { hash: password.into(), identity });
    }
    let decoy = match users.values().next() {
        // With the costs of a real one. That its password is some user's does no harm: nobody is
        // found by it.
        Some(User { hash, .. }) => hash.clone(),
        None => hash_password("").map_err(|error| error.to_string())?.into(),
    };
    Ok(UserTable { users, decoy })
}

/// What makes a user's name impossible to send.
pub fn name_fault(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("the name is empty"),
        _ if name.contains(':') => Some("a name cannot hold a colon"),
        _ if name.chars().any(char::is_control) => Some("a name cannot hold a control character"),
        _ => None,
    }
}

/// The hash itself is never shown.
fn check_hash(hash: &str) -> Result<(), &'static str> {
    const WANTED: &str = "password is not an argon2id hash: make one with 'client-failover users hash'";
    let hash = PasswordHash::new(hash).map_err(|_| WANTED)?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Err(WANTED);
    }
    let params = Params::try_from(&hash).map_err(|_| WANTED)?;
    if params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES {
        Ok(())
    } else {
        Err("password is an argon2id hash that costs more than 256 MiB or 16 passes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_refused_for_each_thing_that_can_be_wrong_with_it() {
        let good = hash_password("swordfish").unwrap();
        let entry = |hash: &str, grants: &str| format!("[users.a]\npassword = \"{hash}\"\ngrants = [{grants}]\n");
        let grant = "{ tenant = \"t\", role = \"client\" }";
        assert_eq!(parse(&entry(&good, grant)).map(|table| table.users.len()), Ok(1));
        assert_eq!(parse("").map(|table| table.users.len()), Ok(0));
        for (text, named) in [
            (entry("swordfish", grant), "argon2id"),
            (entry(&good.replace("argon2id", "argon2i"), grant), "argon2id"),
            (entry(&good.replace("m=19456", "m=1048576"), grant), "256 MiB"),
            (entry(&good, "{ tenant = \"\", role = \"client\" }"), "empty"),
            (entry(&good, "{ tenant = \"t\", role = \"king\" }"), "line 3"),
            (entry(&good, "{ tenant = \"t\", rolle = \"client\" }"), "line 3"),
            (format!("[users.\"a:b\"]\npassword = \"{good}\"\ngrants = []\n"), "colon"),
            (format!("[user.a]\npassword = \"{good}\"\ngrants = []\n"), "line 1"),
        ] {
            let wrong = parse(&text).err().expect("it is wrong");
            assert!(wrong.contains(named), "{named}: {wrong}");
            assert!(!wrong.contains("swordfish") && !wrong.contains("$argon2"), "{wrong}");
        }
    }
    fn users() -> Users {
        let file = tempfile::NamedTempFile::new().expect("a file can be made");
        let hash = hash_password("swordfish").unwrap();
        let entry = format!("[users.a]\npassword = \"{hash}\"\ngrants = [{{ tenant = \"t\", role = \"client\" }}]\n");
        std::fs::write(file.path(), entry).expect("it can be written");
        Users::open(file.path()).expect("it is a users file")
    }

    fn address(last: u8) -> Whose {
        Whose::Address(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn failures_of_an_address_and_for_a_name_make_those_wait_and_nobody_else() {
        let users = users();
        let (here, there) = (address(1), address(2));
        let (name, other) = (Whose::Name("a".into()), Whose::Name("b".into()));
        let fail = |times: u32, address: &Whose, name: &Whose| {
            (0..times).for_each(|_| users.note_failure(vec![address.clone(), name.clone()]));
        };
        // Of one address for ever other names.
        for n in 0..FREE_OF_ADDRESS {
            fail(1, &here, &Whose::Name(n.to_string().into()));
        }
        assert!(!users.has_to_wait(Some(&here), &other));
        fail(1, &here, &Whose::Name("one more".into()));
        assert!(users.has_to_wait(Some(&here), &other) && !users.has_to_wait(Some(&there), &other));
        // For one name from ever other addresses: whoever has failed there waits, and a user who
        // comes from elsewhere does not.
        for n in 0..=FREE_FOR_NAME {
            users.note_failure(vec![Whose::Address(IpAddr::from([10, 0, 0, n as u8])), name.clone()]);
        }
        assert!(!users.has_to_wait(Some(&there), &name));
        fail(OWN_FAILURES, &there, &other);
        assert!(users.has_to_wait(Some(&there), &name) && !users.has_to_wait(Some(&there), &other));
        assert!(users.has_to_wait(None, &name));
        // Each failure doubles the wait, up to a minute.
        let wait = |whose: &Whose| users.failures.lock().unwrap()[whose].until - Instant::now();
        let first = wait(&here);
        fail(2, &here, &Whose::Name("and two".into()));
        assert!(wait(&here) > first * 2, "{:?} {first:?}", wait(&here));
        fail(100, &here, &Whose::Name("and a hundred".into()));
        assert!(wait(&here) <= LONGEST_WAIT && wait(&here) > LONGEST_WAIT / 2);
    }

    #[tokio::test]
    async fn a_wrong_password_is_verified_once_in_a_while_however_often_it_comes() {
        let users = users();
        let wrong = STANDARD.encode("a:wrong");
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..5 {
            assert_eq!(users.recognise(&wrong, peer).await.err(), Some(WRONG));
        }
        assert_eq!(users.failures.lock().unwrap()[&address(1)].count, 1);
    }

    #[tokio::test]
    async fn whoever_has_got_in_from_an_address_has_verifications_of_their_own_and_no_wait() {
        let users = users();
        let right = STANDARD.encode("a:swordfish");
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        users.recognise(&right, peer).await.expect("it is the password");
        for _ in 0..=FREE_OF_ADDRESS {
            users.note_failure(vec![address(1), Whose::Name("a".into())]);
        }
        // Strangers have all verifications that strangers have, and all places in the line for
        // them.
        let count = u32::try_from(users.strangers.turns.available_permits()).unwrap();
        let _verifying = users.strangers.turns.clone().acquire_many_owned(count).await.unwrap();
        let _in_line = users.strangers.room.acquire_many(MAX_WAITING as u32).await.unwrap();
        users.recognise(&right, peer).await.expect("it is the password");
        let elsewhere = Some(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(users.recognise(&right, elsewhere).await.err(), Some(TOO_MANY));
    }

    #[test]
    fn an_address_has_so_many_places_in_the_line() {
        let waiting = Waiting::default();
        let enter = |last| waiting.enter(Some(IpAddr::from([192, 0, 2, last])));
        let taken: Vec<Waits> = (0..MAX_WAITING_PER_ADDRESS).filter_map(|_| enter(1)).collect();
        assert_eq!(taken.len(), MAX_WAITING_PER_ADDRESS as usize);
        assert!(enter(1).is_none() && enter(2).is_some());
        drop(taken);
        assert!(enter(1).is_some() && waiting.0.lock().unwrap().is_empty());
    }
}
