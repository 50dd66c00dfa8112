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
    /// How many bytes have come that belong to no request that has begun.
    ahead: usize,
}

impl Framing {
    pub fn new() -> Framing {
        Framing { stage: Stage::Between, kept: Vec::new(), ahead: 0 }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many bytes have come that belong to no request that has begun.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// Follows what has come.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.stage {
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
                    self.kept.extend_from_slice(bytes);
                    self.ahead += bytes.len();
                    bytes.len()
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
            };
            bytes = &bytes[taken..];
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
        let mut kept = mem::take(&mut self.kept);
        self.take(&kept);
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
            for piece in text.as_bytes().chunks(size) {
                framing.take(piece);
                while framing.stage() == Stage::HeadThere {
                    let Some(length) = lengths.next() else { break };
                    framing.begin(*length);
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
}
