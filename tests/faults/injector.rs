//! What is done to the system: a schedule from a seed, and each kind of fault.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::checker::ON_ITS_WAY_US;
use super::client::Command;
use super::clock::Stamp;
use super::member_process::{Place, Takes, processes_of};
use super::record::{Fault, FaultKind, WishMade};
use super::world::{MEMBERS_LEAST_TIMEOUT_MS, NewSession, Of, Operated, World};
use crate::support::proxy::{Gate, Proxy};

use FaultKind::*;

mod bad_days;

/// All kinds, and how often each is chosen.
pub const EVERYTHING: &[(FaultKind, u32)] = &[
    (ClientKilled, 10),
    (ClientPaused, 10),
    (ClientClockStepped, 6),
    (ClientHealthChanged, 10),
    (ClientSaidGoodbye, 6),
    (AgentKilled, 8),
    (AgentPaused, 8),
    (SessionDeleted, 5),
    (GroupRecreated, 3),
    (TimeoutChanged, 6),
    (Wished, 10),
    (ReplicaKilled, 4),
    (ReplicaPaused, 4),
    (ReplicaRestarted, 3),
    (RollingRestart, 1),
    (DatabaseKilled, 2),
    (DatabaseRestarted, 1),
    (CommitsHang, 2),
    (CommitWaitsCancelled, 2),
    (DiskStalled, 2),
    (DiskFull, 2),
    (TablesLocked, 2),
    (ChangesLocked, 2),
    (TablesRewritten, 1),
    (RowHeld, 3),
    (SerializableLeftOpen, 2),
    (DatabaseClockStepped, 3),
    (PasswordChanged, 2),
    (ConnectionsFew, 2),
    (HostDark, 2),
    (StandbyPromoted, 1),
    (StandbyPromotedWithLoss, 2),
    (BackendsTerminated, 6),
    (ClientConnectionsCut, 6),
    (ClientConnectionsHeld, 5),
    (AnswersSwallowed, 6),
    (RequestsDelivedLate, 6),
    (DatabaseConnectionsCut, 5),
    (DatabaseConnectionsHeld, 4),
    (DatabaseAnswersSwallowed, 5),
    (DatabaseSlow, 4),
];

/// Which faults come how often.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pub kinds: &'a [(FaultKind, u32)],
    /// The mean time between two.
    pub every: Duration,
    pub lasts: Duration,
}

/// Injects faults as planned, several at once where they do not touch the same thing, and returns
/// when the last has been undone.
pub async fn inject(world: &Arc<World>, plan: &Plan<'_>) {
    let mut random = Rng::with_seed(world.scale.seed);
    let mut under_way = JoinSet::new();
    let end = Instant::now() + plan.lasts;
    while Instant::now() < end {
        sleep(plan.every.mul_f64(0.3 + 1.4 * random.f64())).await;
        let kind = choose(plan.kinds, &mut random);
        // Each has random numbers of its own, so that what one draws does not shift the schedule.
        let own = Rng::with_seed(random.u64(..));
        let world = world.clone();
        under_way.spawn(async move {
            let from = Stamp::now().wall;
            if let Some(client) = cause(&world, kind, own).await {
                world.note(Fault { kind, client: client.0, from, until: Stamp::now().wall });
            }
        });
        while let Some(ended) = under_way.try_join_next() {
            ended.expect("a fault is undone");
        }
    }
    while let Some(ended) = under_way.join_next().await {
        ended.expect("a fault is undone");
    }
}

fn choose(kinds: &[(FaultKind, u32)], random: &mut Rng) -> FaultKind {
    let mut left = random.u32(0..kinds.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in kinds {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return *kind,
        }
    }
    unreachable!("the weights add up")
}

/// To whom it was done: a client's group and session, or the service.
struct Done(Option<(String, String)>);

const TO_THE_SERVICE: Option<Done> = Some(Done(None));

/// Causes a fault and undoes it. `None` if something else is being done to the same thing.
async fn cause(world: &Arc<World>, kind: FaultKind, mut random: Rng) -> Option<Done> {
    let replica = random.usize(0..world.replicas.len());
    let lines = &world.lines[replica];
    match kind {
        ClientKilled | ClientPaused | ClientClockStepped | ClientHealthChanged | ClientSaidGoodbye | SessionDeleted => {
            return to_a_client(world, kind, random).await;
        }
        AgentKilled | AgentPaused => return to_an_agent(world, kind, random).await,
        GroupRecreated => return recreate_group(world, random).await,
        TimeoutChanged => return change_timeout(world, random).await,
        Wished => return wish(world, random).await,
        ReplicaKilled | ReplicaRestarted => {
            let mut replica = world.replicas[replica].try_lock().ok()?;
            let (signal, away) = match kind {
                ReplicaKilled => (Signal::SIGKILL, ms(0..1_500, &mut random)),
                _ => (Signal::SIGTERM, Duration::ZERO),
            };
            replica.signal(signal);
            replica.ended().await;
            sleep(away).await;
            replica.start_again();
            replica.ready().await;
        }
        ReplicaPaused => {
            let replica = world.replicas[replica].try_lock().ok()?;
            replica.signal(Signal::SIGSTOP);
            sleep(ms(200..5_000, &mut random)).await;
            replica.signal(Signal::SIGCONT);
        }
        RollingRestart => roll(world).await,
        BackendsTerminated => {
            let count = if random.bool() { 1_000 } else { random.i64(1..4) };
            bad_days::terminate_backends(&mut world.way.connect().await?, count).await?;
        }
        ClientConnectionsCut => lines.to_clients.cut(),
        DatabaseConnectionsCut => lines.to_database().cut(),
        ClientConnectionsHeld => hold(&lines.to_clients, ms(100..3_000, &mut random)).await,
        DatabaseConnectionsHeld => hold(lines.to_database(), ms(100..3_000, &mut random)).await,
        AnswersSwallowed => swallow(&lines.to_clients, random.u32(1..12)).await,
        DatabaseAnswersSwallowed => swallow(lines.to_database(), random.u32(1..4)).await,
        DatabaseSlow => {
            lines.slow_the_database_down(ms(5..40, &mut random));
            sleep(ms(500..3_000, &mut random)).await;
            lines.slow_the_database_down(Duration::ZERO);
        }
        RequestsDelivedLate => {
            let delay = ms(50..3_000, &mut random);
            lines.to_clients.delay_requests(random.u32(1..12), delay);
            sleep(Duration::from_millis(500)).await;
            lines.to_clients.delay_requests(0, delay);
            sleep(delay).await;
        }
        _ => return bad_days::cause(world, kind, random).await,
    }
    TO_THE_SERVICE
}

fn ms(range: std::ops::Range<u64>, random: &mut Rng) -> Duration {
    Duration::from_millis(random.u64(range))
}

async fn hold(proxy: &Proxy, time: Duration) {
    proxy.set_gate(Gate::Held);
    sleep(time).await;
    proxy.set_gate(Gate::Open);
}

async fn swallow(proxy: &Proxy, count: u32) {
    proxy.swallow_answers(count);
    sleep(Duration::from_millis(300)).await;
    proxy.swallow_answers(0);
}

/// One replica after the other, each waited for.
pub async fn roll(world: &World) {
    for replica in &world.replicas {
        let mut replica = replica.lock().await;
        replica.signal(Signal::SIGTERM);
        replica.ended().await;
        replica.start_again();
        replica.ready().await;
    }
}

async fn to_a_client(world: &Arc<World>, kind: FaultKind, mut random: Rng) -> Option<Done> {
    let number = random.usize(0..world.clients.len());
    let mut slot = world.clients[number].try_lock().ok()?;
    let client = (slot.part.group.clone(), slot.part.session.clone());
    let timeout = Duration::from_millis(slot.part.timeout_ms);
    match kind {
        ClientKilled => {
            slot.kill().await;
            world.note_orphans(&slot).await;
            sleep(timeout.mul_f64(2.0 * random.f64())).await;
            let new_session = if random.u8(0..10) < 3 { NewSession::Yes } else { NewSession::No };
            slot.start(world.dir(), new_session);
        }
        ClientPaused => {
            slot.signal(Signal::SIGSTOP);
            sleep(timeout.mul_f64(0.3 + 2.2 * random.f64())).await;
            slot.signal(Signal::SIGCONT);
        }
        // No time that an adapter says matters, but that of its data.
        ClientClockStepped if slot.part.adapter.is_some() || slot.part.member.is_some() => return None,
        // Whoever runs it says how healthy it is, and it has not been asked.
        ClientHealthChanged if slot.part.member == Some(Takes::AnAgent) => return None,
        ClientClockStepped => {
            let us = if random.bool() { 10_000_000 } else { 7_200_000_000 };
            slot.tell(&Command::ClockOffset { us: random.i64(-us..us) }).await;
        }
        ClientHealthChanged => {
            let percent = [100, 100, 100, 90, 50, 0][random.usize(0..6)];
            slot.tell(&Command::Health { percent }).await;
        }
        SessionDeleted => {
            world.delete_by_operator(&client.0, Some(&client.1)).await;
        }
        _ => {
            slot.tell(&Command::Leave).await;
            slot.ended(Duration::from_secs(6)).await;
            world.note_orphans(&slot).await;
            sleep(timeout.mul_f64(random.f64())).await;
            slot.start(world.dir(), NewSession::Yes);
        }
    }
    Some(Done(Some(client)))
}

/// Which of an agent, its guardian and its program something is done to. Both agent and guardian
/// are not stopped at once: then nobody is left to kill the program.
const SOME_OF_AN_AGENT: [&[Place]; 5] = [
    &[Place::Agent],
    &[Place::Program],
    &[Place::Guardian],
    &[Place::Agent, Place::Program],
    &[Place::Program, Place::Guardian],
];

/// Kills some of an agent's processes, or stops them for a while.
async fn to_an_agent(world: &Arc<World>, kind: FaultKind, mut random: Rng) -> Option<Done> {
    let agents = world.clients.iter().filter_map(|slot| slot.try_lock().ok());
    let mut agents: Vec<_> = agents.filter(|slot| slot.part.member == Some(Takes::AnAgent)).collect();
    if agents.is_empty() {
        return None;
    }
    let mut slot = agents.swap_remove(random.usize(0..agents.len()));
    drop(agents);
    let agent = (slot.part.group.clone(), slot.part.session.clone());
    let timeout = Duration::from_millis(slot.part.timeout_ms);
    let mark = slot.mark()?;
    let places = SOME_OF_AN_AGENT[random.usize(0..SOME_OF_AN_AGENT.len())];
    let signal_them = |signal: Signal| {
        for (pid, place) in processes_of(&mark) {
            if places.contains(&place) {
                let _ = nix::sys::signal::kill(pid, signal);
            }
        }
    };
    if kind == AgentPaused {
        signal_them(Signal::SIGSTOP);
        sleep(timeout.mul_f64(0.3 + 2.2 * random.f64())).await;
        signal_them(Signal::SIGCONT);
    } else {
        signal_them(Signal::SIGKILL);
        if places.contains(&Place::Agent) {
            // It is not there any more, and this waits for it.
            slot.kill().await;
            world.note_orphans(&slot).await;
            sleep(timeout.mul_f64(random.f64())).await;
            slot.start(world.dir(), NewSession::No);
        } else {
            sleep(timeout).await;
        }
    }
    Some(Done(Some(agent)))
}

/// Deletes a group by force and creates it again, as it was; its clients register again by
/// themselves.
async fn recreate_group(world: &Arc<World>, mut random: Rng) -> Option<Done> {
    let group = &world.groups[random.usize(0..world.groups.len())];
    let _configuring = group.configuring.try_lock().ok()?;
    world.delete_by_operator(&group.id, None).await;
    sleep(Duration::from_millis(random.u64(0..300))).await;
    // Without it the group would have no clients from here on.
    while !world.put_timeout(group, group.timeout_ms.load(Ordering::Relaxed)).await {}
    Some(Done(Some((group.id.clone(), String::new()))))
}

/// For how long after the end of its time a wish may hold by this machine's clock: the database's
/// may have been set back, and a history that is lost may have had its withdrawal.
const WISH_OUTLASTS_US: i64 = ON_ITS_WAY_US;

/// Has an operator wish something of a session, for a while, and take it back now and then.
async fn wish(world: &Arc<World>, mut random: Rng) -> Option<Done> {
    let (group, session) = {
        let slot = world.clients[random.usize(0..world.clients.len())].try_lock().ok()?;
        (slot.part.group.clone(), slot.part.session.clone())
    };
    let lasts = ms(500..4_000, &mut random);
    let lasts_text = format!("00:00:{:02}.{:03}0000", lasts.as_secs(), lasts.subsec_millis());
    let of_session = format!("{group}/clientsessions/{session}/wish");
    let of_group = format!("{group}/switchover");
    let kind = random.usize(0..5);
    let (path, body) = match kind {
        0 => (of_session, json!({"Wish": "Forced", "For": lasts_text})),
        1 => (of_session, json!({"Wish": "Forced", "WhenSilent": "Hold", "For": lasts_text})),
        2 => (of_session, json!({"Wish": "Excluded", "For": lasts_text})),
        3 => (of_group, json!({"To": session, "For": lasts_text})),
        _ => (of_group, json!({"For": lasts_text})),
    };
    let made = world.operate(Method::POST, &path, Some(&body)).await;
    sleep(lasts.mul_f64(0.3 + random.f64())).await;
    let withdrawn_from = Stamp::now().wall;
    let withdrawn = if random.bool() { Some(world.operate(Method::DELETE, &path, None).await) } else { None };
    let lasts = i64::try_from(lasts.as_micros()).expect("a few seconds");
    // It ends so long after the service read its clock, which was not before it was asked.
    let ends = (made.from + lasts).min(withdrawn_from);
    let certain = made.answered.filter(|(_, status)| *status == 202).map(|(known, _)| (known, ends));
    world.note_wish(WishMade {
        group: group.clone(),
        session: session.clone(),
        excluded: kind == 2,
        from: made.from,
        until: made.answered.map_or(withdrawn_from, |(at, _)| at) + lasts + WISH_OUTLASTS_US,
        changed: [Some(made), withdrawn].into_iter().flatten().map(changed_within).collect(),
        certain: certain.filter(|(from, until)| from < until),
    });
    Some(Done(Some((group, session))))
}

/// When what was asked for may have been done (wall clock).
fn changed_within(operated: Operated) -> (i64, i64) {
    match operated.answered {
        Some((answered, _)) if operated.asked == 1 => (operated.from, answered),
        _ => (operated.from, Stamp::now().wall + ON_ITS_WAY_US),
    }
}

/// Changes a group's timeout. Its clients are told so that none of them ever trusts for longer than
/// the service grants: of a shorter one before, of a longer one after.
async fn change_timeout(world: &Arc<World>, mut random: Rng) -> Option<Done> {
    let number = random.usize(0..world.groups.len());
    let group = &world.groups[number];
    if group.is_of == Of::Adapters {
        // They are not told.
        return None;
    }
    let _configuring = group.configuring.try_lock().ok()?;
    let before = group.timeout_ms.load(Ordering::Relaxed);
    let choices = world.scale.timeouts_ms;
    let mut ms = choices[random.usize(0..choices.len())];
    if group.is_of == Of::Members {
        ms = ms.max(MEMBERS_LEAST_TIMEOUT_MS);
    }
    let command = Command::Timeout { ms };
    if ms < before {
        world.tell_group(number, &command).await;
    }
    let known = world.put_timeout(group, ms).await;
    if ms > before && known {
        world.tell_group(number, &command).await;
    }
    if known || ms < before {
        group.timeout_ms.store(ms, Ordering::Relaxed);
    }
    Some(Done(Some((group.id.clone(), String::new()))))
}
