//! The story that the demo tells: start, kill, return, handover. Every stage waits for what it is
//! about.

use std::time::Duration;

use client_failover_client::MachineTime;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use super::board::{Board, Process};
use super::cast::{Cast, Message};
use super::in_seconds;
use super::record::Record;
use super::screen::Screen;
use super::{DemoAdapterArgs, DemoError};

/// For the eye: what has just happened can be read before it goes on.
const PAUSE: Duration = Duration::from_millis(1_400);
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Between the starts of two adapters, so that they do not heartbeat in step.
const START_INTERVAL: Duration = Duration::from_millis(150);
/// What a stage may take longer than the timeouts that it waits for, before the demo gives up.
const STAGE_SLACK: Duration = Duration::from_secs(10);
const BAD_HEALTH_PERCENT: u8 = 40;

/// One performance.
pub struct Story<'a> {
    screen: &'a mut Screen,
    cast: Cast,
    messages: mpsc::UnboundedReceiver<Message>,
    board: Board,
    timeout: Duration,
}

impl<'a> Story<'a> {
    /// A story with one adapter for each of `adapters`, whose group has this failover timeout.
    pub fn new(screen: &'a mut Screen, adapters: Vec<DemoAdapterArgs>, timeout: Duration) -> Story<'a> {
        let names = adapters.iter().map(|adapter| adapter.session.clone()).collect();
        let (cast, messages) = Cast::new(adapters);
        let board = Board::new(names, timeout, MachineTime::now());
        Story { screen, cast, messages, board, timeout }
    }

    /// Tells it from beginning to end, and gives the record of what happened.
    pub async fn tell(mut self) -> Result<Record, DemoError> {
        self.all_start().await?;
        let killed = self.primary_is_killed().await?;
        self.killed_one_returns(killed).await?;
        self.primary_falls_ill().await?;
        self.screen.step("The end", "The adapters leave in order: first those that stand by, then the Primary.")?;
        let end = MachineTime::now();
        self.screen.draw(&self.board, end)?;
        self.screen.leave()?;
        self.all_leave().await;
        Ok(self.board.finish(end))
    }

    async fn all_start(&mut self) -> Result<(), DemoError> {
        let count = self.board.adapters.len();
        let names: Vec<&str> = self.board.adapters.iter().map(|a| a.name.as_str()).collect();
        let names = format!("{} and {}", names[..count - 1].join(", "), names[count - 1]);
        self.screen.step(
            "1 of 4  All start healthy",
            &format!("{names} start. One becomes Primary and acts; the others stand by."),
        )?;
        for adapter in 0..count {
            self.start(adapter)?;
            self.pause(START_INTERVAL).await?;
        }
        let settled = |board: &Board, _| board.all_answered() && board.primary().is_some();
        self.wait_for("one adapter is Primary and the others are answered", settled).await?;
        self.pause(PAUSE).await
    }

    /// Says who was killed.
    async fn primary_is_killed(&mut self) -> Result<usize, DemoError> {
        let primary = self.whoever_acts().await?;
        let name = self.name(primary);
        self.screen.step(
            &format!("2 of 4  The Primary is killed ({name}, kill -9)"),
            &format!("{name} says no goodbye. Once {name}'s lease has run out, a standby takes over."),
        )?;
        let killed_at = self.cast.kill(primary).await?;
        self.board.killed(primary, killed_at);
        self.event(killed_at, &format!("{name} is killed."))?;
        let all_read = move |board: &Board, _| board.adapters[primary].process == Process::Gone;
        self.wait_for("all that the killed adapter had said is read", all_read).await?;

        let lease_until = self.board.adapters[primary].lease_until.unwrap_or(killed_at);
        let lapsed = move |board: &Board, now| now >= lease_until || board.primary().is_some();
        self.wait_for("the lease of the killed adapter has run out", lapsed).await?;
        if self.board.primary().is_none() {
            self.event(lease_until, &format!("{name}'s lease runs out: the next one to heartbeat may take over."))?;
        }
        let taken_over = |board: &Board, _| board.primary().is_some();
        self.wait_for("a standby takes over from the killed adapter", taken_over).await?;
        self.pause(PAUSE).await?;
        Ok(primary)
    }

    async fn killed_one_returns(&mut self, returning: usize) -> Result<(), DemoError> {
        let primary = self.whoever_acts().await?;
        let (name, holder) = (self.name(returning), self.name(primary));
        self.screen.step(
            &format!("3 of 4  {name} comes back"),
            &format!("It is as healthy as {holder}, but {holder} keeps the role: {name} stands by."),
        )?;
        self.start(returning)?;
        let answered = move |board: &Board, _| board.adapters[returning].role.is_some();
        self.wait_for("the adapter that was killed is back", answered).await?;
        self.pause(PAUSE).await
    }

    async fn primary_falls_ill(&mut self) -> Result<(), DemoError> {
        let primary = self.whoever_acts().await?;
        let name = self.name(primary);
        self.screen.step(
            &format!("4 of 4  The Primary falls ill ({name}, {BAD_HEALTH_PERCENT} % of its streams are healthy)"),
            &format!("A healthier one is chosen, but acts only after {name} has said that it stopped."),
        )?;
        self.cast.set_health(primary, BAD_HEALTH_PERCENT).await?;
        let now = MachineTime::now();
        self.board.health_dropped(primary, now);
        self.event(now, &format!("{name}'s health falls to {BAD_HEALTH_PERCENT} %; its next heartbeat says so."))?;
        let chosen = move |board: &Board, _| {
            board.pending().is_some() || board.primary().is_some_and(|acting| acting != primary)
        };
        self.wait_for("a healthier adapter is chosen", chosen).await?;
        let taken_over = move |board: &Board, _| board.primary().is_some_and(|acting| acting != primary);
        self.wait_for("the healthier adapter takes over", taken_over).await?;
        self.pause(PAUSE).await
    }

    /// The Primary goes last: if it went first, the others would take over from each other as they
    /// leave.
    async fn all_leave(&mut self) {
        let primary = self.board.primary();
        let standbys = (0..self.board.adapters.len()).filter(|adapter| Some(*adapter) != primary);
        for adapter in standbys.chain(primary).collect::<Vec<_>>() {
            self.cast.quit(adapter).await;
        }
    }

    fn start(&mut self, adapter: usize) -> Result<(), DemoError> {
        let now = MachineTime::now();
        let process_id = self.cast.start(adapter)?;
        self.board.started(adapter, process_id, now);
        self.event(now, &format!("{} starts as process {process_id}.", self.name(adapter)))
    }

    fn name(&self, adapter: usize) -> String {
        self.board.adapters[adapter].name.clone()
    }

    async fn whoever_acts(&mut self) -> Result<usize, DemoError> {
        loop {
            if let Some(primary) = self.board.primary() {
                return Ok(primary);
            }
            self.wait_for("an adapter acts", |board, _| board.primary().is_some()).await?;
        }
    }

    fn event(&mut self, at: MachineTime, sentence: &str) -> Result<(), DemoError> {
        self.screen.event(at.since(self.board.start()), sentence)
    }

    async fn wait_for(
        &mut self,
        what: &'static str,
        met: impl Fn(&Board, MachineTime) -> bool,
    ) -> Result<(), DemoError> {
        let limit = self.timeout * 3 + STAGE_SLACK;
        if self.run_until(Instant::now() + limit, met).await? {
            Ok(())
        } else {
            Err(DemoError::Overdue { what, limit: in_seconds(limit) })
        }
    }

    async fn pause(&mut self, length: Duration) -> Result<(), DemoError> {
        self.run_until(Instant::now() + length, |_, _| false).await.map(drop)
    }

    /// Lets time pass and shows what happens in it, until something is so or the deadline is there.
    /// Says which.
    async fn run_until(
        &mut self,
        deadline: Instant,
        met: impl Fn(&Board, MachineTime) -> bool,
    ) -> Result<bool, DemoError> {
        let mut redraws = time::interval(REDRAW_INTERVAL);
        loop {
            let now = MachineTime::now();
            if met(&self.board, now) {
                self.screen.draw(&self.board, now)?;
                return Ok(true);
            }
            tokio::select! {
                Some(message) = self.messages.recv() => {
                    if let Some((at, sentence)) = self.board.take(message)? {
                        self.event(at, &sentence)?;
                    }
                }
                _ = redraws.tick() => self.screen.draw(&self.board, now)?,
                () = time::sleep_until(deadline) => return Ok(false),
            }
        }
    }
}
