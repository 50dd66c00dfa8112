//! On Windows. What the program has started is in its job, daemons too, and nobody gets out of
//! that. The guardian has the only handle of it: if the guardian is killed, the kernel kills them.
//! It is in a job of the agent's itself, with all that it guards, so the same holds for the agent.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::windows::io::{AsRawHandle as _, OwnedHandle};
use std::os::windows::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use client_failover_children::windows::{self, HELD_GROUP, Job, Name};
use client_failover_client::MachineTime;

use super::{LONGEST_LINE, MESSAGE_BYTES, NOW, Order, Report};
use crate::system;

/// How long nobody looks at the clock: a wait of Windows does not count what the machine sleeps.
const LOOKS_EVERY: Duration = Duration::from_millis(10);
/// How long a program may take for a line.
const LINE_TAKES: Duration = Duration::from_millis(50);

/// What a guardian hears of.
enum News {
    Order(Order, Vec<u8>),
    AgentIsGone,
    ProgramEnded(i64),
}

struct Guardian {
    news: Receiver<News>,
    /// It is what keeps the program alive.
    job: Job,
    /// The process id.
    program: Option<u32>,
    input: Option<Sender<(Vec<u8>, SyncSender<()>)>>,
    output: Option<OwnedHandle>,
    kill_at: i64,
    ended: Option<Report>,
}

/// The agent is gone, and all that was guarded.
struct Gone;

pub fn guard(program: &[OsString], takes_lines: bool, name: &str) -> io::Result<()> {
    windows::ignore_ctrl()?;
    windows::fine_timers();
    // The agent is at the other ends. With the program at them too, neither would hear that the
    // other is gone.
    windows::keep_to_ourselves(io::stdin().as_raw_handle())?;
    windows::keep_to_ourselves(io::stdout().as_raw_handle())?;
    let (tell, news) = mpsc::channel();
    let orders = tell.clone();
    thread::spawn(move || hear_orders(&orders));
    let [file, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (program, input, output, ended) = (None, None, None, None);
    let mut guardian = Guardian { news, job: Job::new()?, program, input, output, kill_at: i64::MAX, ended };
    // Before anything runs it is known until when.
    loop {
        match guardian.news.recv() {
            Ok(News::Order(order @ Order::KillAt(_), more)) => {
                guardian.obey(order, &more);
                break;
            }
            Ok(News::Order(order, more)) => guardian.obey(order, &more),
            _ => return Ok(()),
        }
    }
    // The name goes with this process, and only with it.
    let _name = loop {
        if MachineTime::now().0 >= guardian.kill_at {
            report(Report::EndHasCome);
            report(Report::EndedBy(system::KILL));
            return Ok(());
        }
        if let Some(name) = take_name(name)? {
            break name;
        }
        // That of an agent that was killed has not ended yet, and neither has what it guards.
        if guardian.hear(LOOKS_EVERY).is_err() {
            return Ok(());
        }
    };
    let mut command = Command::new(file);
    command.args(arguments).creation_flags(HELD_GROUP);
    command.stdin(if takes_lines { Stdio::piped() } else { Stdio::null() });
    command.stdout(guardian.output.take().map_or_else(Stdio::null, Stdio::from));
    match guardian.start(&mut command) {
        Ok(child) => {
            let pid = child.id();
            guardian.program = Some(pid);
            report(Report::Started(pid.into()));
            thread::spawn(move || wait_for(child, &tell));
            let _ = guardian.watch();
        }
        Err(error) => report(Report::NotStarted(error.raw_os_error().unwrap_or(0).into())),
    }
    Ok(())
}

impl Guardian {
    fn start(&mut self, command: &mut Command) -> io::Result<Child> {
        let mut child = command.spawn()?;
        if let Err(error) = self.job.take_and_let_run(child.as_raw_handle(), child.id()) {
            let _ = child.kill();
            return Err(error);
        }
        self.input = child.stdin.take().map(|input| {
            let (lines, to_write) = mpsc::channel();
            thread::spawn(move || write_lines(input, &to_write));
            lines
        });
        Ok(child)
    }

    fn watch(&mut self) -> Result<(), Gone> {
        loop {
            // What was said while this process was held up counts before the clock does.
            while self.hear(Duration::ZERO)? {}
            let has_come = MachineTime::now().0 >= self.kill_at;
            if self.ended.is_some() || has_come {
                if has_come && self.ended.is_none() {
                    report(Report::EndHasCome);
                }
                // What it left behind would act on, and nobody would know.
                self.kill_all();
                report(self.ended.unwrap_or(Report::EndedBy(system::KILL)));
                return Ok(());
            }
            let left = MachineTime(self.kill_at).since(MachineTime::now());
            self.hear(left.min(LOOKS_EVERY))?;
        }
    }

    /// Takes one piece of news, if there is one within that time.
    fn hear(&mut self, within: Duration) -> Result<bool, Gone> {
        match self.news.recv_timeout(within) {
            Ok(News::Order(order, more)) => self.obey(order, &more),
            Ok(News::ProgramEnded(code)) => self.ended = Some(Report::Ended(code)),
            Ok(News::AgentIsGone) | Err(RecvTimeoutError::Disconnected) => {
                // Nobody renews the lease.
                self.kill_all();
                return Err(Gone);
            }
            Err(RecvTimeoutError::Timeout) => return Ok(false),
        }
        Ok(true)
    }

    fn obey(&mut self, order: Order, more: &[u8]) {
        match order {
            // What is to be killed stays so.
            Order::KillAt(_) if self.kill_at == NOW => {}
            Order::KillAt(at) => self.kill_at = at,
            Order::Signal(system::END) if self.program.is_some_and(|id| windows::ask_to_end(id).is_ok()) => {}
            Order::Line(_) if self.write_line(more) => {}
            // One that is not begun need not be ended, and one that cannot be told is.
            Order::Signal(_) | Order::Line(_) | Order::Kill => self.kill_at = NOW,
            Order::Ask(number) => report(Report::Heard(number)),
            Order::Output(handle) => self.output = windows::handed_over(handle),
        }
    }

    /// Writes it all, unless the reader takes too long.
    fn write_line(&self, line: &[u8]) -> bool {
        let Some(input) = &self.input else { return false };
        let (done, is_done) = mpsc::sync_channel(1);
        let takes = MachineTime(self.kill_at).since(MachineTime::now()).min(LINE_TAKES);
        input.send((line.to_vec(), done)).is_ok() && is_done.recv_timeout(takes).is_ok()
    }

    /// Kills all that the program has started, and waits until it is gone.
    fn kill_all(&self) {
        self.job.kill();
        while !matches!(self.job.is_empty(), Ok(true)) {
            thread::sleep(Duration::from_millis(1));
            self.job.kill();
        }
    }
}

fn hear_orders(tell: &Sender<News>) {
    let mut agent = io::stdin().lock();
    let mut hear = || -> io::Result<News> {
        let mut bytes = [0; MESSAGE_BYTES];
        agent.read_exact(&mut bytes)?;
        let order = Order::from_bytes(bytes).ok_or(io::ErrorKind::InvalidData)?;
        let mut more = Vec::new();
        if let Order::Line(bytes) = order {
            more.resize(usize::try_from(bytes).unwrap_or(0).min(LONGEST_LINE), 0);
            agent.read_exact(&mut more)?;
        }
        Ok(News::Order(order, more))
    };
    while let Ok(news) = hear() {
        if tell.send(news).is_err() {
            return;
        }
    }
    let _ = tell.send(News::AgentIsGone);
}

fn write_lines(mut input: ChildStdin, lines: &Receiver<(Vec<u8>, SyncSender<()>)>) {
    while let Ok((line, done)) = lines.recv() {
        if input.write_all(&line).is_err() {
            return;
        }
        let _ = done.send(());
    }
}

fn wait_for(mut program: Child, tell: &Sender<News>) {
    let code = program.wait().ok().and_then(|status| status.code()).unwrap_or(1);
    let _ = tell.send(News::ProgramEnded(code.into()));
}

fn report(report: Report) {
    let mut agent = io::stdout().lock();
    // Where nobody hears it, nobody is there.
    let _ = agent.write_all(&report.to_bytes()).and_then(|()| agent.flush());
}

/// Whose guardians these are: one session has one on this machine, whoever runs it. That of another
/// account cannot be waited for, and is an error.
pub fn account() -> &'static str {
    "machine"
}

/// Takes that name, for as long as what is returned is kept; `None` where another guardian has it.
pub fn take_name(name: &str) -> io::Result<Option<Name>> {
    Name::take(name)
}
