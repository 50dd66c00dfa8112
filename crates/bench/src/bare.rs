//! What HTTP alone can do here: a server of the same framework that knows one answer and gives it
//! from memory to every heartbeat. No service on it can be faster.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use client_failover_children::{ServiceProcessError, end_with_parent};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::BenchError;
use super::load::Answer;

/// The path of a heartbeat.
const PATH: &str = "/api/v1/tenants/{t}/namespaces/{n}/clientfailover/groups/{g}/clientsessions/{s}";

const LISTENING: &str = "listening on ";

/// The answer that is given.
#[derive(clap::Args, Debug)]
pub struct BareArgs {
    /// Its body
    #[arg(long)]
    body: String,

    /// A header of it, as NAME: VALUE
    #[arg(long)]
    header: Vec<String>,
}

/// Serves until it is stopped, on a free port that it prints.
pub async fn serve_bare(args: BareArgs) -> io::Result<()> {
    let headers: Vec<(HeaderName, HeaderValue)> = args
        .header
        .iter()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
        .collect();
    let body = Bytes::from(args.body);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{LISTENING}{}", listener.local_addr()?)?;
    let app = move || {
        let (headers, body) = (headers.clone(), body.clone());
        let answer = move |_heartbeat: Bytes| {
            let mut answer = HttpResponse::build(StatusCode::OK);
            for header in &headers {
                answer.append_header(header.clone());
            }
            let answer = answer.body(body.clone());
            async { answer }
        };
        App::new().route(PATH, web::post().to(answer))
    };
    HttpServer::new(app).listen(listener)?.run().await
}

/// Such a server in a process of its own, which ends with this one.
pub struct BareServer {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl BareServer {
    /// Starts one that gives this answer.
    pub async fn start(answer: &Answer) -> Result<BareServer, BenchError> {
        let program = std::env::current_exe().map_err(ServiceProcessError::Spawn)?;
        let mut child = command(&program, answer).spawn().map_err(ServiceProcessError::Spawn)?;
        let said = child.stdout.take().map(BufReader::new);
        let line = match said {
            Some(said) => said.lines().next_line().await.map_err(ServiceProcessError::Spawn)?,
            None => None,
        };
        let line = line.unwrap_or_default();
        let address = line.strip_prefix(LISTENING).and_then(|address| address.parse().ok());
        Ok(BareServer { child, address: address.ok_or(BenchError::NoAddress(line))? })
    }

    /// The id of its process.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it.
    pub async fn stop(mut self) {
        // It cannot be killed only if it is gone.
        let _ = self.child.kill().await;
    }
}

fn command(program: &Path, answer: &Answer) -> Command {
    let mut command = Command::new(program);
    command.arg("bare").arg("--body").arg(&answer.body);
    for header in &answer.headers {
        command.arg("--header").arg(header);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    end_with_parent(command.as_std_mut(), Signal::SIGTERM);
    command
}
