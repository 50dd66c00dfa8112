//! The bytes of a connection, with the time that its client has for them.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::pace::{MAX_AHEAD, Pace};
use super::shares::Share;

/// What the bytes go over.
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How much is read at once of what has to wait.
const AHEAD_AT_ONCE: usize = 1_024;

/// See the module. It has its place until it is dropped.
pub struct TimedStream {
    transport: Transport,
    pace: Rc<RefCell<Pace>>,
    _share: Share,
    progress: Duration,
    /// What has come and has to wait until a request has been answered.
    waiting: Vec<u8>,
    /// Since when the client has taken nothing of what it is sent.
    blocked_since: Option<Instant>,
    /// Fires at or before the next deadline.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    pub fn new(transport: Transport, pace: Pace, share: Share, progress: Duration) -> TimedStream {
        let pace = Rc::new(RefCell::new(pace));
        TimedStream { transport, pace, _share: share, progress, waiting: Vec::new(), blocked_since: None, timer: None }
    }

    pub fn pace(&self) -> Rc<RefCell<Pace>> {
        self.pace.clone()
    }

    /// The certificate that the client has shown.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.get_ref().1.peer_certificates(),
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(Pin<&mut dyn Duplex>) -> R) -> R {
        match &mut self.transport {
            Transport::Plain(stream) => f(Pin::new(stream)),
            Transport::Tls(stream) => f(Pin::new(&mut **stream)),
        }
    }

    /// Whether what has not come in time is the rest of a head: its client waits for an answer, and
    /// can take one.
    pub fn is_cut_in_head(&self) -> bool {
        self.pace.borrow().is_in_head() && self.blocked_since.is_none()
    }

    /// Waits for what is due until then.
    fn wait_until(&mut self, deadline: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // Set again only where it would come too late: what it waits for is mostly put off.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn wait_for_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self.pace.borrow().deadline();
        if self.wait_until(deadline, context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// What comes of bytes that are to be sent: time is counted while none are taken.
    fn note_sending<T>(&mut self, sent: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.blocked_since = None;
            return sent;
        }
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        self.wait_until(Some(since + self.progress), context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.pace.borrow().has_enough() {
            // Read on all the same, to hear that the client is gone.
            let mut ahead = [MaybeUninit::uninit(); AHEAD_AT_ONCE];
            let mut ahead = ReadBuf::uninit(&mut ahead);
            if this.waiting.len() >= MAX_AHEAD
                || this.with(|stream| stream.poll_read(context, &mut ahead))?.is_pending()
            {
                // Otherwise it is woken by what comes.
                if !this.waiting.is_empty() {
                    this.pace.borrow_mut().hold(context.waker());
                }
                return this.wait_for_bytes(context);
            }
            if ahead.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.waiting.extend_from_slice(ahead.filled());
        }
        let before = into.filled().len();
        if this.waiting.is_empty() {
            let Poll::Ready(read) = this.with(|stream| stream.poll_read(context, into)) else {
                return this.wait_for_bytes(context);
            };
            read?;
            // Of what is there some is taken, for there was not enough: nobody takes this for the
            // end.
            let taken = this.pace.borrow_mut().received(&into.filled()[before..]);
            this.waiting.extend_from_slice(&into.filled()[before + taken..]);
            into.set_filled(before + taken);
        } else {
            let length = this.waiting.len().min(into.remaining());
            let taken = this.pace.borrow_mut().received(&this.waiting[..length]);
            into.put_slice(&this.waiting[..taken]);
            this.waiting.drain(..taken);
            if this.waiting.is_empty() {
                // It is rarely needed.
                this.waiting = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = this.with(|stream| stream.poll_write(context, bytes));
        this.note_sending(sent, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.with(|stream| stream.poll_flush(context));
        this.note_sending(sent, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.with(|stream| stream.poll_shutdown(context));
        this.note_sending(sent, context)
    }
}
