//! The role over HTTP, for load balancers and sidecars.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::AgentError;
use super::telling::Told;

/// How long a caller may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request that is read.
const MAX_BYTES: usize = 8 * 1024;

/// Answers at that address from now on, with what was told last.
pub async fn serve(address: SocketAddr, told: watch::Receiver<Told>) -> Result<(), AgentError> {
    let listener = TcpListener::bind(address).await.map_err(AgentError::io(format!("{address} cannot be had")))?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let told = told.clone();
            tokio::spawn(async move {
                let _ = timeout(PATIENCE, answer(stream, &told)).await;
            });
        }
    });
    Ok(())
}

async fn answer(mut stream: TcpStream, told: &watch::Receiver<Told>) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.len() < MAX_BYTES {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let told = told.borrow().clone();
    let status = if told.is_primary() { "200 OK" } else { "503 Service Unavailable" };
    let body = told.to_json();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let body = if asked.starts_with(b"HEAD ") { "" } else { &body };
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}
