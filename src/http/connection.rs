//! The connections of clients: who gets one, and how long it may take over what.
//!
//! Every request of a connection has the same limits, the first as the hundredth; a connection that
//! keeps to none of them is closed. The server's library limits the first head alone, so the stream
//! beneath it keeps the time: see [`stream`].

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpServiceBuilder, KeepAlive};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Extensions, Server, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::rt::net::TcpStream;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::errors::ApiError;
use super::lists::OpenList;
use super::operation_id;
use super::proxies::Proxies;
use crate::access::certificates::ClientCertificate;
use crate::metrics;
use crate::tls::TlsConfig;
use client_stream::ClientStream;
use framing::BodyLength;
use pace::Pace;
use shares::Shares;
use stream::{TimedStream, Transport};

mod body;
mod client_stream;
mod framing;
mod pace;
mod shares;
mod stream;

/// How long a handshake may take, with the wait for its turn among those of the same address.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a closed connection may take to say that it knows.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many connections there may be, and how long each may take.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The most at once.
    pub limit: usize,
    /// The most of one address (of IPv6: of one network of 64 bits).
    pub per_address: usize,
    /// How many more there may be that ask for the service's health alone.
    pub health_reserve: usize,
    /// The longest from the first byte of a request's head to its last, and from a connection's
    /// beginning to its first request.
    pub head: Duration,
    /// The longest that a body or an answer may make no progress.
    pub progress: Duration,
    /// The longest between an answer and the next request.
    pub idle: Duration,
    /// Proxies that say whose a request is. What one address may have of connections does not hold
    /// for them: they are many.
    pub proxies: Proxies,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            limit: 20_000,
            per_address: 10_000,
            health_reserve: 64,
            head: Duration::from_secs(10),
            progress: Duration::from_secs(30),
            // A heartbeat comes every half timeout: connections are worth keeping for longer than
            // the usual few seconds.
            idle: Duration::from_secs(75),
            proxies: Proxies::default(),
        }
    }
}

/// A server that gives an application's services the requests of these listeners' connections.
pub fn serve<F, A, S>(
    listeners: Vec<TcpListener>,
    application: F,
    tls: Option<TlsConfig>,
    options: &ConnectionOptions,
    workers: usize,
    shutdown_timeout: Duration,
) -> io::Result<Server>
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, actix_http::Request> + 'static,
    S: ServiceFactory<
            actix_http::Request,
            Config = AppConfig,
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
{
    let shares = Shares::new(options);
    let mut server = Server::build()
        .workers(workers)
        // Whoever has no place is told so at once; this bounds how many are at that moment.
        .max_concurrent_connections(options.limit.saturating_add(options.health_reserve).saturating_add(1_024))
        .shutdown_timeout(shutdown_timeout.as_secs().max(1))
        .disable_signals();
    let ending = server.graceful_shutdown_signal();
    let options = Arc::new(options.clone());
    let service = move || {
        let (tls, shares, options) = (tls.clone(), shares.clone(), options.clone());
        let accept = move |stream: TcpStream| accept(stream, tls.clone(), shares.clone(), options.clone());
        let ending = ending.clone();
        let application = application().into_factory().map_err(|error: actix_web::Error| error.error_response());
        let http = HttpServiceBuilder::default()
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            // The stream keeps these two.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            // Behind an answer to a request that was not read whole, so that the client comes to
            // read it.
            .client_disconnect_timeout(FAREWELL)
            // A client that half-closes is gone: its heartbeat drops out of the queue.
            .h1_allow_half_closed(false)
            // Pieces of an answer are made as those before them have been sent; most connections
            // never need more room.
            .h1_write_buffer_size(body::PIECE)
            .on_connect_ext(note_connection)
            .h1(map_config(application, |()| AppConfig::default()));
        fn_service(accept).map_err(actix_http::error::DispatchError::Io).and_then(http)
    };
    for listener in listeners {
        server = server.listen("http", listener, service.clone())?;
    }
    Ok(server.run())
}

/// Gives a connection its place, and makes it a stream of requests.
async fn accept(
    mut stream: TcpStream,
    tls: Option<TlsConfig>,
    shares: Arc<Shares>,
    options: Arc<ConnectionOptions>,
) -> io::Result<(ClientStream, Option<SocketAddr>)> {
    let peer = stream.peer_addr()?;
    // Answers are small and whole: there is nothing to collect. One that cannot be set so is only
    // slower.
    let _ = stream.set_nodelay(true);
    let Some(place) = shares.enter(peer.ip()) else {
        if tls.is_none() {
            metrics::refused_unread(ApiError::NoPlace.status().as_u16());
            // What comes of it is of no account: nobody waits for one that has no place.
            let _ = timeout(
                FAREWELL,
                stream.write_all(whole_answer(&ApiError::NoPlace, &operation_id::generate(), "").as_bytes()),
            )
            .await;
        }
        return Err(io::Error::other("there is no place for another connection of this address"));
    };
    let transport = match tls {
        None => Transport::Plain(stream),
        Some(config) => {
            let handshake = async {
                let _turn = place.handshake_turn().await;
                TlsAcceptor::from(config.get()).accept(stream).await
            };
            Transport::Tls(Box::new(timeout(HANDSHAKE, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??))
        }
    };
    let pace = Pace::new(&options, place.is_for_health());
    let stream = TimedStream::new(transport, pace, place, options.progress);
    Ok((ClientStream::new(stream, peer), Some(peer)))
}

/// What requests know of their connection.
#[derive(Clone)]
pub struct ClientConnection(Rc<RefCell<Pace>>);

/// Keeps with a connection what its requests want to know of it.
fn note_connection(stream: &ClientStream, notes: &mut Extensions) {
    let stream = stream.get_ref();
    notes.insert(ClientConnection(stream.pace()));
    if let Some(certificate) = stream.peer_certificates().and_then(ClientCertificate::read) {
        notes.insert(certificate);
    }
}

impl ClientConnection {
    /// The connection of a request, whose head is there.
    pub fn begin(request: &HttpRequest) -> Option<ClientConnection> {
        let connection = request.conn_data::<ClientConnection>()?.clone();
        connection.0.borrow_mut().begin(BodyLength::of(request.headers()));
        Some(connection)
    }

    /// Whether it has its place from the reserve for health checks.
    pub fn is_for_health(&self) -> bool {
        self.0.borrow().is_for_health()
    }

    /// Lets the server's library take a body off the connection that is there and that nobody has
    /// read. Otherwise it closes the connection after the answer, and whatever was sent ahead is
    /// lost. Not one in chunks: where it finds one of these bad, it closes the connection before
    /// the answer.
    pub async fn let_body_pass(&self) {
        let is_there = self.0.borrow().is_body_there();
        if is_there {
            tokio::task::yield_now().await;
        }
    }

    fn finish(&self) {
        self.0.borrow_mut().finish();
    }
}

/// Gives an answer out a piece at a time. Its connection hears when it is made: at once where it is
/// short, or when its last piece has been taken; so long is the caller's list under way.
pub fn give_out(
    response: ServiceResponse<BoxBody>,
    connection: Option<ClientConnection>,
    list: Option<OpenList>,
) -> ServiceResponse<BoxBody> {
    response.map_body(|_, body| body::watched(body, connection, list))
}

/// An answer as it goes over the wire, for where no request is there to be answered. It ends its
/// connection. `date`: the header `Date`, whole, where it is known.
fn whole_answer(error: &ApiError, operation_id: &str, date: &str) -> String {
    let body = error.body(operation_id);
    let status = error.status();
    let retry = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    let date = if date.is_empty() { String::new() } else { format!("{date}\r\n") };
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         operation-id: {operation_id}\r\nx-content-type-options: nosniff\r\n{retry}{date}\r\n{body}",
        body.len()
    )
}
