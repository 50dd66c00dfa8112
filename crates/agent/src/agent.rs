//! The agent: what it does with the role.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client_failover_client::{Lease, MachineTime, Member};
use client_failover_operator::output::complain;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::guarded::{Ended, Guarded, Program, Settled};
use super::ladder::{Ladder, sleep_until};
use super::system::{self, notify};
use super::telling::{Telling, Told};
use super::{AgentError, Mode, RunArgs, endpoint, health};

/// The first pause before a program is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a guardian is waited for that was told to kill.
const STOPPED_GUARDIAN: Duration = Duration::from_secs(1);

/// Whether the agent is to end.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// As soon as the system, or whoever started the agent, asks it to end.
    pub fn on_signals() -> std::io::Result<Stop> {
        let (stop, stopped) = watch::channel(false);
        system::on_end(&stop)?;
        Ok(Stop(stopped))
    }

    /// Waits for that.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|is_asked| *is_asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

pub struct Agent {
    args: RunArgs,
    session: String,
    /// The name of the program's guardian.
    guardian: String,
    member: Member,
    stop: Stop,
    telling: Arc<Telling>,
    starts: Starts,
    /// While it is, the member is as good as ill.
    is_resting: Arc<AtomicBool>,
}

/// How often the program was started of late.
struct Starts {
    in_a_row: u32,
    pause: Duration,
}

impl Default for Starts {
    fn default() -> Starts {
        Starts { in_a_row: 0, pause: FIRST_PAUSE }
    }
}

/// What to do when the program runs no more.
enum Next {
    /// Wait for the next lease.
    Again,
    /// Give the role up for a while.
    Rest,
    /// End, with that code.
    Leave(ExitCode),
}

/// How a run of the program came to its end.
struct Run {
    ended: Ended,
    /// Whether it was told to end, or was killed.
    was_told: bool,
    lasted: Duration,
}

impl Agent {
    pub async fn new(
        args: RunArgs,
        session: String,
        guardian: String,
        member: Member,
        stop: Stop,
    ) -> Result<Agent, AgentError> {
        let telling = Arc::new(Telling::new(args.telling.clone())?);
        if let Some(address) = args.telling.listen {
            endpoint::serve(address, telling.follow()).await?;
        }
        // Before there is a program that writes to it.
        if let Some(path) = &args.health.data_pipe {
            let pipe = system::open_pipe(path);
            let pipe = pipe.map_err(AgentError::io(format!("{} cannot be the data pipe", path.display())))?;
            tokio::spawn(health::follow(pipe, member.clone()));
        }
        Ok(Agent {
            args,
            session,
            guardian,
            member,
            stop,
            telling,
            starts: Starts::default(),
            is_resting: Arc::default(),
        })
    }

    pub async fn run(mut self) -> Result<ExitCode, AgentError> {
        let (watched, member) = (self.args.health.clone(), self.member.clone());
        let mut watching = tokio::spawn(health::watch(watched, member, self.is_resting.clone()));
        notify("READY=1\nSTATUS=Secondary");
        let acting = async {
            match self.args.mode {
                Mode::Cold => self.run_cold().await,
                Mode::Warm | Mode::Hot => self.run_always().await,
            }
        };
        let code = tokio::select! {
            code = acting => code,
            ended = &mut watching => match ended {
                Ok(Err(error)) => Err(error),
                _ => Err(AgentError::Usage("the health cannot be watched".to_owned())),
            },
        };
        watching.abort();
        notify("STOPPING=1");
        // The work has ended, and says so.
        self.member.leave().await;
        code
    }

    /// Runs the program while this one is Primary.
    async fn run_cold(&mut self) -> Result<ExitCode, AgentError> {
        self.tell_first().await?;
        loop {
            let lease = tokio::select! {
                biased;
                () = self.stop.requested() => return Ok(ExitCode::SUCCESS),
                lease = self.member.primary() => lease?,
            };
            // Until this is dropped nobody is told that this one has stopped: what is run at the
            // change of the role belongs to it.
            let Ok(acting) = lease.check() else { continue };
            let _ = self.tell(&Told { term: lease.term(), lease: Some(lease.clone()) }, None).await;
            let next = self.act(&lease).await?;
            let _ = self.tell(&Told { term: lease.term(), lease: None }, None).await;
            drop(acting);
            match next {
                Next::Leave(code) => return Ok(code),
                Next::Rest => self.rest().await,
                Next::Again => {}
            }
        }
    }

    /// Runs the program for as long as the lease lasts, again and again.
    async fn act(&mut self, lease: &Lease) -> Result<Next, AgentError> {
        while lease.is_good() {
            if self.stop.is_requested() {
                return Ok(Next::Leave(ExitCode::SUCCESS));
            }
            let until = lease.until();
            if MachineTime::now() >= self.ladder().term_at(until) {
                // Too short to begin anything.
                tokio::select! {
                    _ = lease.renewed(until) => {}
                    () = self.stop.requested() => {}
                }
                continue;
            }
            let told = Told { lease: Some(lease.clone()), term: lease.term() };
            let run = self.run_once(lease, &told).await?;
            if run.was_told {
                continue;
            }
            if self.args.once {
                return Ok(Next::Leave(exit_code(run.ended)));
            }
            match self.count(&run) {
                Some(pause) => tokio::select! {
                    () = sleep(pause) => {}
                    () = lease.ended() => {}
                    () = self.stop.requested() => {}
                },
                None => return Ok(Next::Rest),
            }
        }
        Ok(if self.stop.is_requested() { Next::Leave(ExitCode::SUCCESS) } else { Next::Again })
    }

    /// One run, until its end.
    async fn run_once(&mut self, lease: &Lease, told: &Told) -> Result<Run, AgentError> {
        let ladder = self.ladder();
        let began = Instant::now();
        let mut until = lease.until();
        let mut program = self.start(told, ladder.kill_at(until))?;
        // The latest end, once it was told to end.
        let mut latest = MachineTime(i64::MAX);
        let (mut is_told, mut is_over, mut is_killed) = (false, false, false);
        loop {
            let kill_at = ladder.kill_at(until).min(latest);
            tokio::select! {
                biased;
                ended = program.ended() => {
                    self.say_how(ended, is_told, program.was_too_late);
                    return Ok(Run { ended, was_told: is_told || program.was_too_late, lasted: began.elapsed() });
                }
                renewed = lease.renewed(until), if !is_over => match renewed {
                    Ok(later) => {
                        until = later;
                        program.kill_at(ladder.kill_at(until).min(latest));
                        continue;
                    }
                    // It was told to yield, or it is over. What is left of the time is the
                    // program's, to end in order.
                    Err(_) => is_over = true,
                },
                () = sleep_until(ladder.term_at(until)), if !is_told => {
                    complain("the lease is not renewed: the program is to end before it does");
                }
                () = self.stop.requested(), if !is_told => {}
                () = sleep_until(kill_at.plus(ladder.guardian_takes())), if !is_killed => {
                    // Its guardian has not: it may be stopped.
                    program.kill_without_guardian();
                    is_killed = true;
                    continue;
                }
            }
            if !is_told {
                program.signal(system::END);
                is_told = true;
                latest = MachineTime::now().plus(self.args.stop_timeout);
                program.kill_at(ladder.kill_at(until).min(latest));
            }
        }
    }

    /// Runs the program always, and tells it its role.
    async fn run_always(&mut self) -> Result<ExitCode, AgentError> {
        loop {
            if self.stop.is_requested() {
                return Ok(ExitCode::SUCCESS);
            }
            self.tell_first().await?;
            let began = Instant::now();
            let mut program = self.start(&Told::nothing(), MachineTime(i64::MAX))?;
            let run = self.tell_roles(&mut program, began).await?;
            if self.stop.is_requested() {
                return Ok(ExitCode::SUCCESS);
            }
            if self.args.once && !run.was_told {
                return Ok(exit_code(run.ended));
            }
            let mut stop = self.stop.clone();
            match self.count(&run) {
                Some(pause) => tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.requested() => {}
                },
                None => self.rest().await,
            }
        }
    }

    /// Tells one run its roles, until it ends.
    async fn tell_roles(&mut self, program: &mut Guarded, began: Instant) -> Result<Run, AgentError> {
        loop {
            let (member, mut stop) = (self.member.clone(), self.stop.clone());
            let lease = tokio::select! {
                ended = program.ended() => {
                    self.say_how(ended, false, program.was_too_late);
                    return Ok(Run { ended, was_told: false, lasted: began.elapsed() });
                }
                lease = member.primary() => lease?,
                () = stop.requested() => return Ok(self.end(program, began).await),
            };
            // Held until the program has stopped acting.
            let Ok(acting) = lease.check() else { continue };
            let ladder = self.ladder();
            let mut until = lease.until();
            program.kill_at(ladder.kill_at(until));
            // One that could not be told does not act, and that is all.
            let _ = self.tell(&Told { term: lease.term(), lease: Some(lease.clone()) }, Some(program)).await;
            let ended = loop {
                tokio::select! {
                    biased;
                    ended = program.ended() => break Some(ended),
                    renewed = lease.renewed(until) => match renewed {
                        Ok(later) => {
                            until = later;
                            program.kill_at(ladder.kill_at(until));
                        }
                        Err(_) => break None,
                    },
                    () = sleep_until(ladder.term_at(until)) => break None,
                    () = stop.requested() => break None,
                }
            };
            if let Some(ended) = ended {
                self.say_how(ended, false, program.was_too_late);
                let told = Told { term: lease.term(), lease: None };
                let _ = self.tell(&told, None).await;
                drop(acting);
                return Ok(Run { ended, was_told: program.was_too_late, lasted: began.elapsed() });
            }
            // Told in time, it stops by itself. One that could not be told, or not for certain, is
            // killed: nobody knows what it does.
            let told = Told { term: lease.term(), lease: None };
            let is_told = self.tell(&told, Some(program)).await;
            if !is_told {
                program.kill();
            }
            let settles = program.settles(self.telling.stops_within());
            let in_time = async {
                sleep_until(ladder.kill_at(until).plus(ladder.guardian_takes())).await;
            };
            let settled = tokio::select! {
                biased;
                settled = settles => Some(settled),
                () = in_time => None,
            };
            let ended = match settled {
                Some(Settled::Heard) => None,
                Some(Settled::Ended(ended)) => Some(ended),
                None => {
                    program.kill_without_guardian();
                    Some(program.ended().await)
                }
            };
            if let Some(ended) = ended {
                self.say_how(ended, false, program.was_too_late);
                drop(acting);
                return Ok(Run { ended, was_told: true, lasted: began.elapsed() });
            }
            program.let_run();
            drop(acting);
            if stop.is_requested() {
                return Ok(self.end(program, began).await);
            }
            // A lease that was not renewed in time is acted on again if it is renewed after all.
            if lease.is_good() {
                tokio::select! {
                    _ = lease.renewed(until) => {}
                    ended = program.ended() => {
                        self.say_how(ended, false, program.was_too_late);
                        return Ok(Run { ended, was_told: false, lasted: began.elapsed() });
                    }
                    () = stop.requested() => return Ok(self.end(program, began).await),
                }
            }
        }
    }

    /// Ends a run in order.
    async fn end(&self, program: &mut Guarded, began: Instant) -> Run {
        program.signal(system::END);
        let ended = match timeout(self.args.stop_timeout, program.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                program.kill();
                match timeout(STOPPED_GUARDIAN, program.ended()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        program.kill_without_guardian();
                        program.ended().await
                    }
                }
            }
        };
        Run { ended, was_told: true, lasted: began.elapsed() }
    }

    fn start(&self, told: &Told, kill_at: MachineTime) -> Result<Guarded, AgentError> {
        let mut environment = told.environment().to_vec();
        environment.extend([
            ("CLIENT_FAILOVER_GROUP", OsString::from(&self.args.group)),
            ("CLIENT_FAILOVER_SESSION", OsString::from(&self.session)),
            ("CLIENT_FAILOVER_MODE", OsString::from(self.args.mode.name())),
        ]);
        let takes_lines = self.telling.takes_lines();
        let guardian = self.guardian.clone();
        let program = Program { command: self.args.program.clone(), environment, takes_lines, guardian };
        program.start(kill_at).map_err(AgentError::io("the program's guardian cannot be started"))
    }

    /// Whoever goes by what was told last must not find what an earlier run was told.
    async fn tell_first(&self) -> Result<(), AgentError> {
        self.telling.begin().await.map_err(AgentError::io("the status file cannot be written"))
    }

    /// Tells the role; whether all of it could be told.
    async fn tell(&self, told: &Told, program: Option<&mut Guarded>) -> bool {
        let role = if told.is_primary() { "Primary" } else { "Secondary" };
        complain(&format!("{role} in term {}", told.term));
        notify(&format!("STATUS={role} in term {}", told.term));
        let within = self.member.timeout().map_or(FIRST_PAUSE, |timeout| timeout / 8);
        self.telling.tell(told.clone(), program, within).await
    }

    fn say_how(&self, ended: Ended, was_told: bool, was_too_late: bool) {
        let how = match ended {
            Ended::Code(code) => format!("with the code {code}"),
            Ended::Signal(number) => system::ended_by(number),
            Ended::NotStarted(error) => {
                let error = std::io::Error::from_raw_os_error(i32::try_from(error).unwrap_or(0));
                format!("before it began: {error}")
            }
            Ended::Unguarded => "with its guardian".to_owned(),
        };
        let why = match (was_too_late, was_told) {
            (true, _) => ", killed because its lease was about to end",
            (false, true) => ", as it was told",
            (false, false) => "",
        };
        complain(&format!("the program ended {how}{why}"));
    }

    /// Counts a run that ended by itself: how long to wait before the next one; `None` after too
    /// many in a row.
    fn count(&mut self, run: &Run) -> Option<Duration> {
        if run.lasted >= self.args.restart_pause {
            self.starts = Starts::default();
        }
        self.starts.in_a_row += 1;
        let pause = self.starts.pause;
        self.starts.pause = (pause * 2).min(LONGEST_PAUSE);
        (self.starts.in_a_row <= self.args.restarts).then_some(pause)
    }

    /// Gives the role up for a while: whoever else is there takes it.
    async fn rest(&mut self) {
        let pause = self.args.restart_pause;
        complain(&format!(
            "the program ended {} times in a row: the role is given up for {}",
            self.starts.in_a_row,
            humantime::format_duration(pause)
        ));
        self.starts = Starts::default();
        self.is_resting.store(true, Ordering::Relaxed);
        self.member.set_health(0);
        tokio::select! {
            () = sleep(pause) => {}
            () = self.stop.requested() => {}
        }
        self.is_resting.store(false, Ordering::Relaxed);
        // Where the program is asked how it is, whoever asks says so.
        if !self.args.health.is_given() {
            self.member.set_health(100);
        }
    }

    fn ladder(&self) -> Ladder {
        Ladder::of(self.member.timeout().unwrap_or(LONGEST_PAUSE))
    }
}

/// What the agent ends with, where that is as the program did.
fn exit_code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ended::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        Ended::NotStarted(_) => ExitCode::from(127),
        Ended::Unguarded => ExitCode::FAILURE,
    }
}
