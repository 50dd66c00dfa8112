//! The state of groups while it changes: drawn anew when the stream of events says so, and every
//! few seconds in any case, since leases run out without an event.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client_failover_client::{EventStream, Scope, Service};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, timeout};

use super::OperatorError;
use super::connection::Connection;
use super::output::{Printer, Tone, cut, duration, printable};
use super::status::{Page, Question};

/// Changes that come at once are drawn at once.
const GATHERED: Duration = Duration::from_millis(100);

/// How long to wait before a stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// The screen beside the one of the shell, without a cursor; and back.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";

/// How the stream is, and how much it has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    connected: bool,
    blocks: u64,
}

/// Shows groups until it is interrupted.
pub async fn run(
    connection: &Connection,
    question: &Question<'_>,
    most: Option<usize>,
    interval: Duration,
) -> Result<ExitCode, OperatorError> {
    let service = Arc::new(connection.service()?);
    let mut printer = Printer::stdout();
    // What cannot be asked for at all is said before the screen is taken.
    let first = question.page(&service, 0, rows(&printer, most)).await?;
    if first.total == 0 {
        // Of a name that is that of nothing there will be no news. What is not there yet comes into
        // view.
        question.silence(&service).await?;
    }
    let (say, news) = watch::channel(News::default());
    let path: Vec<String> = question.scope.path(&["events"]).into_iter().map(str::to_owned).collect();
    let listening = tokio::spawn(listen(service.clone(), path, say));
    let is_terminal = printer.is_terminal();
    if is_terminal {
        printer.text(BEGIN)?;
    }
    let mut watching = Watching { service: &service, question, most, interval, printer, drawn: None };
    let mut terminate =
        terminate().map_err(|cause| OperatorError::Io { what: "signals cannot be heard".to_owned(), cause })?;
    let ended = tokio::select! {
        ended = watching.run(first, news) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    listening.abort();
    if is_terminal {
        watching.printer.text(END)?;
        watching.printer.flush()?;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

#[cfg(unix)]
fn terminate() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
}

#[cfg(windows)]
fn terminate() -> std::io::Result<tokio::signal::windows::CtrlBreak> {
    tokio::signal::windows::ctrl_break()
}

/// How many groups there is room for. In a pipe there is room for a page.
fn rows(printer: &Printer, most: Option<usize>) -> usize {
    let room = if printer.is_terminal() { printer.height().saturating_sub(4) } else { usize::MAX };
    most.unwrap_or(usize::MAX).min(room).max(1)
}

/// Says when there may be something new, for ever.
async fn listen(service: Arc<Service>, path: Vec<String>, say: Sender<News>) {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    loop {
        if let Ok(mut stream) = EventStream::open(&service, &path, None).await {
            say.send_modify(|news| news.connected = true);
            while let Ok(Some(block)) = stream.next(&service).await {
                if !block.data.is_empty() {
                    say.send_modify(|news| news.blocks += 1);
                }
            }
            say.send_modify(|news| news.connected = false);
        }
        sleep(PAUSE).await;
    }
}

struct Watching<'a> {
    service: &'a Service,
    question: &'a Question<'a>,
    most: Option<usize>,
    interval: Duration,
    printer: Printer,
    /// What was printed last, into a pipe.
    drawn: Option<Vec<Vec<String>>>,
}

impl Watching<'_> {
    async fn run(&mut self, first: Page, mut news: Receiver<News>) -> Result<(), OperatorError> {
        let mut page = first;
        let mut fault: Option<(String, Instant)> = None;
        loop {
            let connected = news.borrow_and_update().connected;
            self.draw(&page, connected, fault.as_ref())?;
            // Whatever comes first. An error says that nobody listens any more; then the interval
            // is left.
            match timeout(self.interval, news.changed()).await {
                Ok(Ok(())) => sleep(GATHERED).await,
                Ok(Err(_)) => sleep(self.interval).await,
                Err(_) => {}
            }
            self.printer.resize();
            match self.question.page(self.service, 0, rows(&self.printer, self.most)).await {
                Ok(found) => (page, fault) = (found, None),
                Err(error) if error.is_passing() => {
                    let since = fault.map_or_else(Instant::now, |(_, since)| since);
                    fault = Some((error.to_string(), since));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn draw(&mut self, page: &Page, connected: bool, fault: Option<&(String, Instant)>) -> Result<(), OperatorError> {
        let mut rows = page.rows(self.question.scope)?;
        rows.truncate(self::rows(&self.printer, self.most));
        if !self.printer.is_terminal() {
            return self.print_if_changed(&rows);
        }
        let place = match self.question.scope {
            Scope::Everything => "all tenants".to_owned(),
            Scope::Tenant(tenant) => printable(&format!("tenant {tenant}")),
            Scope::Namespace(path) => printable(&format!("{}/{}", path.tenant, path.namespace)),
        };
        let (state, tone) = match (fault, connected) {
            (Some((fault, since)), _) => {
                let lasted = duration(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX));
                (format!("for {lasted} not up to date: {}", fault.lines().next().unwrap_or_default()), Tone::Alarm)
            }
            (None, true) => match page.news() {
                None => ("live".to_owned(), Tone::Plain),
                Some(news) => (format!("live; {news}"), Tone::Warning),
            },
            (None, false) => {
                let interval = humantime::format_duration(self.interval);
                (format!("no stream of events; looked at every {interval}"), Tone::Warning)
            }
        };
        let width = self.printer.width();
        let head = cut(&format!("{} at {}: {}", place, self.service.name(), page.summary()), width);
        let mut lines = vec![head, self.printer.paint(tone, &cut(&state, width)), String::new()];
        lines.extend(self.question.table().lines(&self.printer, &rows));
        // In place, line by line: a screen that is cleared first would flicker.
        let drawn: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        self.printer.text(&format!("\x1b[H{}\x1b[J", drawn.trim_end_matches('\n')))?;
        self.printer.flush()
    }

    /// The table again, where more has changed in it than durations.
    fn print_if_changed(&mut self, rows: &[([String; 6], Tone)]) -> Result<(), OperatorError> {
        const FOR: usize = 3;
        let lasting = |cells: &[String; 6]| -> Vec<String> {
            cells.iter().enumerate().filter(|(place, _)| *place != FOR).map(|(_, cell)| cell.clone()).collect()
        };
        let new: Vec<Vec<String>> = rows.iter().map(|(cells, _)| lasting(cells)).collect();
        if self.drawn.as_ref() == Some(&new) {
            return Ok(());
        }
        if self.drawn.replace(new).is_some() {
            self.printer.line("")?;
        }
        self.question.table().print(&mut self.printer, rows)
    }
}
