//! Bodies of answers: made as they are taken, and known to be over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::super::lists::OpenList;
use super::ClientConnection;

/// The most that is handed over at once: what a client does not read stays where it lies.
pub const PIECE: usize = 16 * 1024;

/// The same body, a piece at a time however long it is; the connection hears when it is over, and
/// what is `held` is let go.
pub fn watched(body: BoxBody, connection: Option<ClientConnection>, held: Option<OpenList>) -> BoxBody {
    match body.try_into_bytes() {
        Ok(bytes) if bytes.len() <= PIECE => {
            if let Some(connection) = connection {
                connection.finish();
            }
            BoxBody::new(bytes)
        }
        Ok(whole) => BoxBody::new(Watched { body: None, piece: whole, connection, _held: held }),
        Err(body) => BoxBody::new(Watched { body: Some(body), piece: Bytes::new(), connection, _held: held }),
    }
}

struct Watched {
    /// What is not made yet.
    body: Option<BoxBody>,
    /// What is made and not handed over.
    piece: Bytes,
    connection: Option<ClientConnection>,
    _held: Option<OpenList>,
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.as_ref().map_or(BodySize::Sized(self.piece.len() as u64), MessageBody::size)
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.piece.is_empty()
            && let Some(body) = &mut self.body
        {
            match ready!(Pin::new(body).poll_next(context)) {
                Some(Ok(piece)) => self.piece = piece,
                end => return Poll::Ready(end),
            }
        }
        let length = self.piece.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(self.piece.split_to(length))))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_long_answer_is_handed_over_in_pieces_and_says_how_long_it_is() {
        let text = Bytes::from(vec![b'x'; 3 * PIECE + 1]);
        let streamed = actix_web::body::BodyStream::new(stream::iter([Ok::<_, std::io::Error>(text.clone())]));
        for (body, size) in [
            (BoxBody::new(text.clone()), BodySize::Sized(text.len() as u64)),
            (BoxBody::new(streamed), BodySize::Stream),
        ] {
            let mut body = Box::pin(watched(body, None, None));
            assert_eq!(body.size(), size);
            let mut lengths = Vec::new();
            while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
                lengths.push(piece.expect("it is made").len());
            }
            assert_eq!(lengths, [PIECE, PIECE, PIECE, 1]);
        }
    }
}
