//! What is done to the database.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep};

use super::super::clock::Stamp;
use super::super::database::Database;
use super::super::record::FaultKind::{self, *};
use super::super::world::World;
use super::{Done, TO_THE_SERVICE, ms};
use crate::support::preload::Disk;
use crate::support::proxy::Gate;

/// The furthest that the database's clock is set from the true time.
const CLOCK_OFF_MS: i64 = 90_000;

/// Causes a fault of the database and undoes it. `None` if something else is being done to it.
pub async fn cause(world: &Arc<World>, kind: FaultKind, mut random: Rng) -> Option<Done> {
    let mut database = world.database.try_lock().ok()?;
    let random = &mut random;
    match kind {
        DatabaseKilled => {
            let signal = if random.bool() { Signal::SIGKILL } else { Signal::SIGQUIT };
            database.end_with(signal).await;
            sleep(ms(0..4_000, random)).await;
            // What was answered must be there before anybody writes again.
            set_gates(world, Gate::Closed);
            database.start_again().await;
            world.audit_heartbeats().await;
            set_gates(world, Gate::Open);
        }
        DatabaseRestarted => {
            database.end_with(Signal::SIGINT).await;
            database.start_again().await;
        }
        CommitsHang => {
            let mut connection = wait_for_standby(world, &database).await?;
            // Where there is none, it is waited for in vain.
            database.freeze_standby(true);
            for_a_while(world, ms(500..5_000, random), sleep).await;
            database.freeze_standby(false);
            database.wait_for_standby(&mut connection, false).await.expect("the database is there");
        }
        CommitWaitsCancelled if database.has_standby() => {
            let mut connection = wait_for_standby(world, &database).await?;
            database.set_replication(Gate::Held);
            let time = ms(500..5_000, random);
            for_a_while(world, time, async |time| cancel_waits(&mut connection, time).await).await;
            database.set_replication(Gate::Open);
            database.wait_for_standby(&mut connection, false).await.expect("the database is there");
        }
        CommitWaitsCancelled => return None,
        DiskStalled => {
            database.stall_the_disk(true);
            for_a_while(world, ms(500..5_000, random), sleep).await;
            database.stall_the_disk(false);
        }
        DiskFull => {
            let disk = if random.bool() { Disk::IsFull } else { Disk::TakesNoLog };
            database.fill_the_disk(disk).await;
            let time = ms(500..6_000, random);
            match disk {
                Disk::TakesNoLog => for_a_while(world, time, sleep).await,
                _ => sleep(time).await,
            }
            database.fill_the_disk(Disk::HasRoom).await;
        }
        TablesLocked => {
            let (table, mode) = [
                ("heartbeats", "SHARE"),
                ("heartbeats", "EXCLUSIVE"),
                ("heartbeats", "ACCESS EXCLUSIVE"),
                ("sessions", "ACCESS EXCLUSIVE"),
                ("groups", "ACCESS EXCLUSIVE"),
                ("service_liveness", "EXCLUSIVE"),
            ][random.usize(0..6)];
            let lock = format!("LOCK TABLE {table} IN {mode} MODE");
            let time = ms(500..5_000, random);
            hold_lock(world, &lock, async || for_a_while(world, time, sleep).await).await?;
        }
        ChangesLocked => {
            let (table, mode) = [
                ("role_transitions", "ACCESS EXCLUSIVE"),
                ("role_transitions", "SHARE"),
                ("sessions", "EXCLUSIVE"),
                ("groups", "EXCLUSIVE"),
            ][random.usize(0..4)];
            let lock = format!("LOCK TABLE {table} IN {mode} MODE");
            let time = ms(500..5_000, random);
            hold_lock(world, &lock, async || sleep(time).await).await?;
        }
        RowHeld => {
            let group = world.groups[random.usize(0..world.groups.len())].id.clone();
            let of = ["heartbeats", "groups"][random.usize(0..2)];
            let lock = format!(
                "SELECT FROM groups JOIN heartbeats USING (group_key) WHERE group_id = '{group}' FOR UPDATE OF {of}"
            );
            let time = ms(500..6_000, random);
            hold_lock(world, &lock, async || sleep(time).await).await?;
            return Some(Done(Some((group, String::new()))));
        }
        TablesRewritten => {
            let mut connection = world.way.connect().await?;
            execute(&mut connection, "SET lock_timeout = '1s'").await?;
            for table in ["heartbeats", "sessions", "groups", "role_transitions"] {
                // A table that is not had in time is left as it is.
                let _ = execute(&mut connection, &format!("VACUUM (FULL) {table}")).await;
                sleep(ms(0..300, random)).await;
            }
        }
        SerializableLeftOpen => {
            let mut connection = world.way.connect().await?;
            execute(&mut connection, "BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
            for table in ["groups", "sessions", "heartbeats", "role_transitions"] {
                execute(&mut connection, &format!("SELECT FROM {table}")).await?;
            }
            sleep(ms(500..5_000, random)).await;
            // Where the server has ended it, it is over all the same.
            let _ = execute(&mut connection, "ROLLBACK").await;
        }
        DatabaseClockStepped => step_clock(world, &mut database, random).await?,
        PasswordChanged => {
            let mut connection = world.way.connect().await?;
            database.change_password(&mut connection, ms(0..1_000, random)).await?;
            if random.bool() {
                terminate_backends(&mut connection, 1_000).await?;
            }
        }
        ConnectionsFew => {
            let mut connection = world.way.connect().await?;
            execute(&mut connection, &format!("ALTER ROLE service CONNECTION LIMIT {}", random.u32(3..20))).await?;
            if random.bool() {
                terminate_backends(&mut connection, 1_000).await?;
            }
            sleep(ms(500..6_000, random)).await;
            execute(&mut connection, "ALTER ROLE service CONNECTION LIMIT -1").await.expect("the database is there");
        }
        HostDark if database.has_standby() => {
            world.lines.iter().for_each(|lines| lines.to_database().set_gate(Gate::Held));
            sleep(ms(500..5_000, random)).await;
            world.lines.iter().for_each(|lines| lines.to_database().set_gate(Gate::Open));
        }
        StandbyPromoted if database.has_standby() => {
            let mut connection = wait_for_standby(world, &database).await?;
            sleep(ms(200..1_000, random)).await;
            if random.bool() {
                // What nobody waits for any more is not there later.
                database.set_replication(Gate::Held);
                let time = ms(300..2_000, random);
                for_a_while(world, time, async |time| cancel_waits(&mut connection, time).await).await;
            }
            database.end_with(Signal::SIGKILL).await;
            database.set_replication(Gate::Closed);
            // What was answered must be there before anybody writes again.
            set_gates(world, Gate::Closed);
            database.promote().await;
            world.note_promotion(None);
            world.audit_heartbeats().await;
            set_gates(world, Gate::Open);
            database.take_back_as_standby().await;
        }
        StandbyPromotedWithLoss if database.has_standby() => promote_with_loss(world, &mut database, random).await?,
        HostDark | StandbyPromoted | StandbyPromotedWithLoss => return None,
        _ => unreachable!("that is not done to the database"),
    }
    TO_THE_SERVICE
}

/// Ends sessions of the service, so many at most.
pub async fn terminate_backends(connection: &mut PgConnection, count: i64) -> Option<()> {
    let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'client-failover' ORDER BY random() LIMIT $1";
    sqlx::query(statement).bind(count).execute(connection).await.ok().map(drop)
}

async fn execute(connection: &mut PgConnection, statements: &str) -> Option<()> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.ok().map(drop)
}

fn set_gates(world: &World, gate: Gate) {
    world.lines.iter().for_each(|lines| lines.set_database_gates(gate));
}

/// Does something for a while in which nobody can commit anything that would last.
async fn for_a_while(world: &World, time: Duration, something: impl AsyncFnOnce(Duration)) {
    let from = Stamp::now().wall;
    something(time).await;
    world.note_that_nothing_commits(from, Stamp::now().wall);
}

/// Has commits wait for the standby, over a connection that can end that again.
async fn wait_for_standby(world: &World, database: &Database) -> Option<PgConnection> {
    let mut connection = world.way.connect().await?;
    if database.wait_for_standby(&mut connection, true).await.is_none() {
        database.wait_for_standby(&mut connection, false).await.expect("the database is there");
        return None;
    }
    Some(connection)
}

/// Has no commit wait for longer than a moment: it is committed here, and whether it lasts is
/// unknown.
async fn cancel_waits(connection: &mut PgConnection, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        execute(connection, cancel).await.expect("the database is there");
        sleep(Duration::from_millis(fastrand::u64(2..25))).await;
    }
}

/// Does something while a lock is held. Where it is not had soon, nothing is done; but others have
/// waited behind.
async fn hold_lock(world: &World, lock: &str, something: impl AsyncFnOnce()) -> Option<()> {
    let mut connection = world.way.connect().await?;
    if execute(&mut connection, &format!("BEGIN; SET LOCAL lock_timeout = '1s'; {lock}")).await.is_some() {
        something().await;
    }
    // It ends with the connection, whoever ended that.
    let _ = execute(&mut connection, "ROLLBACK").await;
    Some(())
}

async fn step_clock(world: &World, database: &mut Database, random: &mut Rng) -> Option<()> {
    // That one replica has read the clock before, and goes on, is what a step is noticed by.
    let _witness = world.replicas.iter().find_map(|replica| replica.try_lock().ok())?;
    let mut connection = world.way.connect().await?;
    let size = [200..3_000, 3_000..CLOCK_OFF_MS][random.usize(0..2)].clone();
    let forward = match database.clock_off_ms {
        off if off > CLOCK_OFF_MS => false,
        off if off < -CLOCK_OFF_MS => true,
        _ => random.bool(),
    };
    let step = random.i64(size) * if forward { 1 } else { -1 };
    world.audit_outages(&mut connection).await?;
    world.step_clock(database, step);
    sleep(Duration::from_millis(600)).await;
    Some(())
}

/// Promotes the standby without the last commits of the primary, which is killed, or freezes and
/// wakes up too late.
async fn promote_with_loss(world: &World, database: &mut Database, random: &mut Rng) -> Option<()> {
    // A change of a timeout that is lost is what the service cannot make good.
    let mut configuring = Vec::new();
    for group in &world.groups {
        configuring.push(group.configuring.lock().await);
    }
    let mut connection = world.way.connect().await?;
    database.standby_has_caught_up(&mut connection).await?;
    let from = Stamp::now().wall;
    database.set_replication(Gate::Closed);
    sleep(ms(200..3_000, random)).await;
    // One that is suspended meanwhile, or made anew, could not know that the old primary is none
    // any more.
    let awake: Vec<_> = world.replicas.iter().filter_map(|replica| replica.try_lock().ok()).collect();
    let wakes_up = random.bool() && awake.len() == world.replicas.len();
    // Whoever leads the replicas to the primary does not lead them to the old one. What is
    // connected to it stays connected.
    let to_old: Vec<_> = world.lines.iter().map(|lines| lines.to_database()).collect();
    to_old.iter().for_each(|proxy| proxy.let_nobody_in(true));
    if wakes_up {
        database.freeze_primary(true);
    } else {
        database.end_with(Signal::SIGKILL).await;
    }
    let until = Stamp::now().wall;
    database.promote().await;
    world.note_promotion(Some((from, until)));
    // A replica that cannot reach the new primary would go on with the old one, and nobody could
    // tell.
    if wakes_up
        && let Some(mut connection) = world.way.connect().await
        && database.is_used_by(&mut connection, awake.len()).await.is_some()
    {
        database.freeze_standby(false);
        sleep(Duration::from_millis(1_500)).await;
    }
    drop(awake);
    database.take_back_as_standby().await;
    to_old.iter().for_each(|proxy| proxy.let_nobody_in(false));
    Some(())
}
