//! Sites with the service in each of its settings, adapters that run at them, and the destination
//! of their data.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client_failover::http::TenantApi;
use futures_util::future::join_all;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;

use super::adapter::{Adapter, Balance, Command, Configuration, Event, Mode, Role, newest_item};
use crate::support::helpers::{TestDatabase, TestReplica, eventually, settings};

const ON_PREMISES: &str = "/api/v1/clientfailover/";
const BELOW_TENANT: &str = "/api/v1/Tenants/t/Namespaces/n/ClientFailover/";

/// Long enough for a busy machine, and no longer than a test may take.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// One with each setting and number of replicas, for all tests together: so many replicas of each
/// test's own would take each other's time.
static SERVICES: OnceCell<Vec<Service>> = OnceCell::const_new();

/// A service of one's own.
pub struct Service {
    // Ends first.
    pub replicas: Vec<TestReplica>,
    _database: TestDatabase,
    tenant_api: TenantApi,
}

impl Service {
    pub async fn start(tenant_api: TenantApi, replicas: usize) -> Service {
        let database = TestDatabase::new().await;
        let starts = (0..replicas).map(|_| {
            let mut settings = settings(database.connect_options());
            settings.http.paths.tenant_api = tenant_api;
            // A cold pair's score is less than it.
            settings.failover.rules.handover_margin = 20.into();
            TestReplica::start(settings)
        });
        Service { replicas: join_all(starts).await, _database: database, tenant_api }
    }

    /// Both of its bases.
    pub fn sites(&self) -> [Site; 2] {
        [("premises", ON_PREMISES), ("tenant", BELOW_TENANT)].map(|(name, base)| Site {
            // With connections of its own, which end with the test.
            replica: TestReplica::at(self.replicas[0].url.clone()),
            endpoints: self.replicas.iter().map(|replica| format!("{}{base}", replica.url)).collect(),
            // Both bases lead to the same groups, and other tests have theirs there.
            group: format!("LINE-{}", fastrand::u64(..)),
            name: format!("{name}, {:?}, {} replicas", self.tenant_api, self.replicas.len()),
            destination: Destination::default(),
        })
    }
}

/// Has something happen on both bases, in both settings, with one replica and with two that take
/// turns.
pub async fn at_every_site(scenario: impl AsyncFn(&Site)) {
    let start = async || {
        let kinds = [TenantApi::Preview, TenantApi::Released].map(|api| [(api, 1), (api, 2)]);
        join_all(kinds.into_iter().flatten().map(|(api, replicas)| Service::start(api, replicas))).await
    };
    let services = SERVICES.get_or_init(start).await;
    let sites: Vec<Site> = services.iter().flat_map(Service::sites).collect();
    join_all(sites.iter().map(|site| scenario(site))).await;
}

/// A group of adapters, by one base of a service.
pub struct Site {
    /// One of the replicas.
    pub replica: TestReplica,
    pub endpoints: Vec<String>,
    pub group: String,
    pub name: String,
    pub destination: Destination,
}

/// Where data arrives: from whom, in order.
#[derive(Clone, Default)]
pub struct Destination(Arc<Mutex<Vec<(String, i64)>>>);

impl Destination {
    fn take(&self, from: &str, items: impl Iterator<Item = i64>) {
        let mut arrived = self.0.lock().expect("nobody panics over it");
        arrived.extend(items.map(|item| (from.to_owned(), item)));
    }

    /// Who sent, one after another.
    pub fn senders(&self) -> Vec<String> {
        let arrived = self.0.lock().expect("nobody panics over it");
        let mut senders: Vec<String> = arrived.iter().map(|(from, _)| from.clone()).collect();
        senders.dedup();
        senders
    }

    pub fn items(&self) -> BTreeSet<i64> {
        self.0.lock().expect("nobody panics over it").iter().map(|(_, item)| *item).collect()
    }

    /// Waits until data of that adapter arrives that is made after this.
    pub async fn hears_from(&self, adapter: &Running) {
        let now = newest_item();
        eventually(&format!("{} sends", adapter.id), async || {
            let arrived = self.0.lock().expect("nobody panics over it");
            arrived.iter().rev().any(|(from, item)| *from == adapter.id && *item > now)
        })
        .await;
    }

    /// That everything has arrived that the source made from then until now.
    #[track_caller]
    pub fn assert_complete_from(&self, first: i64) {
        let items = self.items();
        let last = items.last().copied().unwrap_or_default();
        let missing: Vec<i64> = (first..=last).filter(|item| !items.contains(item)).collect();
        assert!(last > first && missing.is_empty(), "of {first} to {last} there are lost: {missing:?}");
    }
}

/// An adapter that runs.
pub struct Running {
    pub id: String,
    /// The first item of the source that it certainly knows.
    pub first_item: i64,
    events: Arc<Mutex<Vec<Event>>>,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<Option<Role>>,
}

impl Site {
    pub fn configuration(&self, id: &str, mode: Mode) -> Configuration {
        Configuration {
            endpoints: self.endpoints.clone(),
            balance: Balance::EachTimeTheNext,
            group: self.group.clone(),
            id: id.to_owned(),
            timeout: TIMEOUT,
            mode,
            score: 100.0,
            saved: Role::Secondary,
        }
    }

    /// One that starts, and has been answered its role.
    pub async fn start(&self, id: &str, mode: Mode) -> Running {
        let adapter = self.run(self.configuration(id, mode));
        adapter.hears().await;
        adapter
    }

    /// Two that are there: the first sends, and the second stands by.
    pub async fn pair(&self, mode: Mode) -> (Running, Running) {
        let first = self.start("HOST-A1.OpcUa", mode).await;
        self.destination.hears_from(&first).await;
        let second = self.start("HOST-B1.OpcUa", mode).await;
        assert!(!second.acts(), "{}", self.name);
        (first, second)
    }

    pub fn run(&self, configuration: Configuration) -> Running {
        Running::start(configuration, self.destination.clone())
    }
}

impl Running {
    pub fn start(configuration: Configuration, destination: Destination) -> Running {
        let id = configuration.id.clone();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (noted, from) = (events.clone(), id.clone());
        let note = move |event: Event| {
            if let Event::Delivered(items) = &event {
                destination.take(&from, items.clone());
            }
            if !matches!(event, Event::Ran) {
                noted.lock().expect("nobody panics over it").push(event);
            }
        };
        let adapter = Adapter::new(configuration, note);
        let first_item = newest_item() + 1;
        let (commands, told) = mpsc::unbounded_channel();
        Running { id, first_item, events, commands, task: tokio::spawn(adapter.run(told)) }
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("nobody panics over it").clone()
    }

    /// The role that it acts in.
    pub fn role(&self) -> Role {
        let role = |event: &Event| match event {
            Event::Started(role) | Event::Took(role) => Some(*role),
            _ => None,
        };
        self.events().iter().rev().find_map(role).unwrap_or(Role::Secondary)
    }

    pub fn acts(&self) -> bool {
        self.role() == Role::Primary
    }

    fn answered(&self) -> usize {
        let is_answer = |event: &&Event| matches!(event, Event::Took(_));
        self.events().iter().filter(is_answer).count()
    }

    /// Waits for the next answer that gives it a role.
    pub async fn hears(&self) {
        let before = self.answered();
        eventually(&format!("{} is answered", self.id), async || self.answered() > before).await;
    }

    pub async fn takes(&self, role: Role) {
        eventually(&format!("{} is {role:?}", self.id), async || self.role() == role).await;
    }

    pub fn set_score(&self, score: f64) {
        self.commands.send(Command::Score(score)).expect("it runs");
    }

    /// Stops it cleanly; the role that it saved.
    pub async fn stop(self) -> Role {
        self.commands.send(Command::Stop).expect("it runs");
        self.task.await.expect("it does not panic").expect("it was told to stop")
    }

    /// Ends it without a word.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }

    /// The items that it dropped because somebody else is said to have sent them.
    pub fn trimmed(&self) -> BTreeSet<i64> {
        let trimmed = |event: Event| match event {
            Event::Trimmed(items) => Some(items),
            _ => None,
        };
        self.events().into_iter().filter_map(trimmed).flatten().collect()
    }

    /// The scores that it has reported.
    pub fn scores(&self) -> Vec<f64> {
        let score = |event: Event| match event {
            Event::Sent { score, .. } => Some(score),
            _ => None,
        };
        self.events().into_iter().filter_map(score).collect()
    }
}
