//! Bodies of answers: made as they are taken, and known to be over.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::Connection;

/// The most that is handed over at once: what a client does not read stays where it lies.
const PIECE: usize = 16 * 1024;

/// A body whose text lies in the program or is shared: it costs a connection a piece at a time, however long it is.
pub fn in_pieces(text: impl Into<Bytes>) -> BoxBody {
    BoxBody::new(Pieces(text.into()))
}

struct Pieces(Bytes);

impl MessageBody for Pieces {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let length = self.0.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(self.0.split_to(length))))
    }
}

/// The same body; the connection hears when it is over.
pub fn watched(body: BoxBody, connection: Connection) -> BoxBody {
    match body.try_into_bytes() {
        Ok(bytes) => {
            connection.finish();
            BoxBody::new(bytes)
        }
        Err(body) => BoxBody::new(Watched { body, connection }),
    }
}

struct Watched {
    body: BoxBody,
    connection: Connection,
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.connection.finish();
    }
}
