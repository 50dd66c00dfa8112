//! Where one request of a connection ends and the next begins, byte by byte. Nothing is decided by it but how long a client
//! may take and how far it may run ahead: what a request says is for the server's library to read.

use std::mem;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};

/// How long a request's body is, by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Bytes(u64),
    /// In chunks, each with its length.
    Chunked,
}

impl BodyLength {
    /// By the headers that the server's library has found to be consistent.
    pub fn of(headers: &HeaderMap) -> BodyLength {
        if headers.contains_key(TRANSFER_ENCODING) {
            return BodyLength::Chunked;
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        BodyLength::Bytes(length.unwrap_or(0))
    }
}

/// Where in a request a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No byte of the next head is there.
    Between,
    /// Some are. `blank`: the last line so far is empty.
    Head { blank: bool },
    /// All are; how long the body is is not known yet.
    HeadThere,
    /// So many bytes of the body are to come.
    Body { left: u64 },
    /// Within a body of chunks.
    Chunks(Chunk),
}

/// Where in a body of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the line with its length, of which so much is read; `over`: the digits are over.
    Length { value: u64, over: bool },
    /// So many bytes of it, with the end of its last line, are to come.
    Data { left: u64 },
    /// In the lines after the last chunk. `blank`: the last line so far is empty.
    Trailer { blank: bool },
}

/// See the module.
pub struct Framing {
    stage: Stage,
    /// What came after a head whose body's length is not known.
    kept: Vec<u8>,
    /// Whether the last line of that is empty so far.
    kept_blank: bool,
    /// Whether that ends with an empty line: it may be the end of another head.
    is_another_there: bool,
    /// How many bytes have come that belong to no request that has begun.
    ahead: usize,
}

impl Framing {
    pub fn new() -> Framing {
        Framing { stage: Stage::Between, kept: Vec::new(), kept_blank: false, is_another_there: false, ahead: 0 }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many bytes have come that belong to no request that has begun.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// Whether there may be a whole head behind one that has not begun.
    pub fn is_another_there(&self) -> bool {
        self.is_another_there
    }

    /// Follows what has come, up to the end of a head that has to wait, and returns how much that is. Where a request is being
    /// answered, the next has to wait. Otherwise the one after it, as far as can be told: the next may have a body.
    pub fn take(&mut self, bytes: &[u8], is_serving: bool) -> usize {
        let mut all = 0;
        while all < bytes.len() && !self.is_another_there && !(is_serving && self.stage == Stage::HeadThere) {
            all += self.take_some(&bytes[all..]);
        }
        all
    }

    /// Follows what has come of one stage.
    fn take_some(&mut self, bytes: &[u8]) -> usize {
        match &mut self.stage {
            Stage::Between => {
                // Empty lines before a request are none of it.
                let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                if blank < bytes.len() {
                    self.stage = Stage::Head { blank: false };
                }
                self.ahead += blank;
                blank
            }
            Stage::Head { blank } => {
                let (taken, is_over) = take_lines(bytes, blank);
                if is_over {
                    self.stage = Stage::HeadThere;
                }
                self.ahead += taken;
                taken
            }
            Stage::HeadThere => {
                let (taken, is_over) = take_lines(bytes, &mut self.kept_blank);
                self.is_another_there = is_over;
                self.kept.extend_from_slice(&bytes[..taken]);
                self.ahead += taken;
                taken
            }
            Stage::Body { left } => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    self.stage = Stage::Between;
                }
                taken
            }
            Stage::Chunks(chunk) => {
                let (taken, is_over) = chunk.take(bytes);
                if is_over {
                    self.stage = Stage::Between;
                }
                taken
            }
        }
    }

    /// Says how long the body is of the request whose head was there first.
    pub fn begin(&mut self, length: BodyLength) {
        self.stage = match length {
            BodyLength::Bytes(0) => Stage::Between,
            BodyLength::Bytes(left) => Stage::Body { left },
            BodyLength::Chunked => Stage::Chunks(Chunk::Length { value: 0, over: false }),
        };
        self.ahead = 0;
        self.kept_blank = false;
        self.is_another_there = false;
        let mut kept = mem::take(&mut self.kept);
        // An empty line is at its end at most, so it is followed to its end.
        self.take(&kept, false);
        if self.kept.is_empty() {
            kept.clear();
            self.kept = kept;
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self {
            Chunk::Length { value, over } => {
                for (i, byte) in bytes.iter().enumerate() {
                    match (byte, char::from(*byte).to_digit(16)) {
                        (b'\n', _) => {
                            *self = match *value {
                                0 => Chunk::Trailer { blank: true },
                                value => Chunk::Data { left: value.saturating_add(2) },
                            };
                            return (i + 1, false);
                        }
                        (_, Some(digit)) if !*over => *value = value.saturating_mul(16).saturating_add(digit.into()),
                        _ => *over = true,
                    }
                }
                (bytes.len(), false)
            }
            Chunk::Data { left } => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Chunk::Length { value: 0, over: false };
                }
                (taken, false)
            }
            Chunk::Trailer { blank } => take_lines(bytes, blank),
        }
    }
}

/// Lines up to an empty one: how much of the bytes they are, and whether the empty one was among them.
fn take_lines(bytes: &[u8], blank: &mut bool) -> (usize, bool) {
    let mut taken = 0;
    while let Some(at) = bytes[taken..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[taken..taken + at];
        taken += at + 1;
        if *blank && line.iter().all(|byte| *byte == b'\r') {
            return (taken, true);
        }
        *blank = true;
    }
    *blank &= bytes[taken..].iter().all(|byte| *byte == b'\r');
    (bytes.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After these bytes, in pieces of each length; heads are begun as they are there.
    fn after(text: &str, lengths: &[BodyLength]) -> (Stage, usize) {
        let mut found = Vec::new();
        for size in 1..=text.len() {
            let mut framing = Framing::new();
            let mut lengths = lengths.iter();
            for mut piece in text.as_bytes().chunks(size) {
                while !piece.is_empty() {
                    let taken = framing.take(piece, false);
                    assert!(taken > 0, "{text:?}");
                    piece = &piece[taken..];
                    while framing.stage() == Stage::HeadThere {
                        let Some(length) = lengths.next() else { break };
                        framing.begin(*length);
                    }
                }
            }
            found.push((framing.stage(), framing.ahead()));
        }
        assert!(found.iter().all(|one| *one == found[0]), "{text:?}: {found:?}");
        found[0]
    }

    #[test]
    fn requests_are_told_apart_however_they_come() {
        const NONE: BodyLength = BodyLength::Bytes(0);
        let head = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
        assert_eq!(after("\r\n\r\n", &[]), (Stage::Between, 4));
        assert_eq!(after("G", &[]), (Stage::Head { blank: false }, 1));
        assert_eq!(after("\r\nGET / HTTP/1.1\r\n", &[]), (Stage::Head { blank: true }, 18));
        assert_eq!(after(head, &[]), (Stage::HeadThere, 24));
        assert_eq!(after(&head.replace('\r', ""), &[NONE]), (Stage::Between, 0));
        assert_eq!(after(&format!("{head}G"), &[NONE]), (Stage::Head { blank: false }, 1));
        assert_eq!(after(&format!("{head}{head}"), &[NONE]), (Stage::HeadThere, 24));
        assert_eq!(after(&format!("{head}ab\n\ncd"), &[BodyLength::Bytes(7)]), (Stage::Body { left: 1 }, 0));
        assert_eq!(after(&format!("{head}ab\n\ncdG"), &[BodyLength::Bytes(6)]), (Stage::Head { blank: false }, 1));
        let chunks = "5;x=1\r\nab\n\nc\r\n00A\r\n0123456789\r\n0\r\n";
        let trailer = Stage::Chunks(Chunk::Trailer { blank: true });
        assert_eq!(after(&format!("{head}{chunks}"), &[BodyLength::Chunked]), (trailer, 0));
        let ended = format!("{head}{chunks}T: x\r\n\r\n");
        assert_eq!(after(&ended, &[BodyLength::Chunked]), (Stage::Between, 0));
        assert_eq!(after(&format!("{ended}{head}"), &[BodyLength::Chunked, NONE]), (Stage::Between, 0));
    }
    #[test]
    fn heads_that_have_to_wait_are_left_where_they_are() {
        let head = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
        let heads = head.repeat(20);
        for size in 1..=heads.len() {
            // Nobody is being served: the first, and what may be its body up to an empty line.
            let mut framing = Framing::new();
            let taken: usize = heads.as_bytes().chunks(size).map(|piece| framing.take(piece, false)).sum();
            assert_eq!((taken, framing.stage(), framing.is_another_there()), (2 * head.len(), Stage::HeadThere, true));
            // The first is: the second waits, and the third is not taken.
            framing.begin(BodyLength::Bytes(0));
            assert_eq!((framing.stage(), framing.is_another_there()), (Stage::HeadThere, false));
            assert_eq!(framing.take(heads.as_bytes(), true), 0);
        }
        // A body is taken whole, whatever is in it, once its length is known.
        let mut framing = Framing::new();
        let text = format!("{head}{{\n\n}}{head}");
        let first = framing.take(text.as_bytes(), false);
        assert_eq!(first, head.len() + 3);
        framing.begin(BodyLength::Bytes(4));
        assert_eq!(first + framing.take(&text.as_bytes()[first..], true), text.len());
    }
}
