//! Where one request of a connection ends and the next begins, byte by byte. Nothing is decided by
//! it but how long a client may take and how far it may run ahead: what a request says is for the
//! server's library to read. How long a body is is expected by the head's lines and known only when
//! that library has read them.

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
    /// The beginning of the head's line that is being read.
    line: LineStart,
    /// How long the body is by the head, as far as can be told without the server's library.
    expected: BodyLength,
    /// What came after a head whose body's length is not known for certain.
    kept: Vec<u8>,
    /// Where in a body of chunks that is.
    kept_chunk: Chunk,
    /// Whether a whole request is there that has not begun.
    is_whole: bool,
}

impl Framing {
    pub fn new() -> Framing {
        Framing {
            stage: Stage::Between,
            line: LineStart::default(),
            expected: BodyLength::Bytes(0),
            kept: Vec::new(),
            kept_chunk: Chunk::FIRST,
            is_whole: false,
        }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether a whole request is there that has not begun.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many bytes have come after a head that has not begun.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Follows what has come, up to the end of a request that has not begun, and returns how much
    /// that is.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut all = 0;
        while all < bytes.len() && !self.is_whole {
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
                    self.line = LineStart::default();
                    self.expected = BodyLength::Bytes(0);
                }
                blank
            }
            Stage::Head { blank } => {
                let (taken, is_over) = take_lines(bytes, blank);
                for line in bytes[..taken].split_inclusive(|byte| *byte == b'\n') {
                    self.line.extend(line);
                    if line.ends_with(b"\n") {
                        self.expected = mem::take(&mut self.line).body_length().unwrap_or(self.expected);
                    }
                }
                if is_over {
                    self.stage = Stage::HeadThere;
                    self.kept_chunk = Chunk::FIRST;
                    self.is_whole = self.expected == BodyLength::Bytes(0);
                }
                taken
            }
            Stage::HeadThere => {
                let (taken, is_over) = match self.expected {
                    BodyLength::Bytes(length) => {
                        let left = length.saturating_sub(self.kept.len() as u64);
                        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        (taken, taken as u64 == left)
                    }
                    // A piece of a chunk; the others come in the next rounds.
                    BodyLength::Chunked => self.kept_chunk.take(bytes),
                };
                self.is_whole = is_over;
                self.kept.extend_from_slice(&bytes[..taken]);
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
            BodyLength::Chunked => Stage::Chunks(Chunk::FIRST),
        };
        self.is_whole = false;
        let mut kept = mem::take(&mut self.kept);
        // The server's library has all of it. Where it sees another end than was expected, the next
        // request begins in there.
        let mut rest = &kept[..];
        while !rest.is_empty() {
            rest = &rest[self.take_some(rest)..];
        }
        if self.kept.is_empty() {
            kept.clear();
            self.kept = kept;
        }
    }
}

/// The beginning of a line of a head: as much as the two headers take that say how long a body is.
#[derive(Clone, Copy, Default)]
struct LineStart {
    bytes: [u8; LineStart::MOST],
    length: usize,
}

impl LineStart {
    const MOST: usize = 32;

    fn extend(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(LineStart::MOST - self.length);
        self.bytes[self.length..self.length + count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    /// How long the body is, if this line says so.
    fn body_length(&self) -> Option<BodyLength> {
        let line = std::str::from_utf8(&self.bytes[..self.length]).ok()?;
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Some(BodyLength::Chunked);
        }
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().ok().map(BodyLength::Bytes)).flatten()
    }
}

impl Chunk {
    /// Before the first.
    const FIRST: Chunk = Chunk::Length { value: 0, over: false };

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

/// Lines up to an empty one: how much of the bytes they are, and whether the empty one was among
/// them.
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

    const NONE: BodyLength = BodyLength::Bytes(0);
    const HEAD: &str = "GET / HTTP/1.1\r\nA: b\r\n\r\n";

    /// After these bytes, in pieces of each length; requests are begun with these lengths of their
    /// bodies when they wait for it.
    fn after(text: &str, lengths: &[BodyLength]) -> Stage {
        let mut found = Vec::new();
        for size in 1..=text.len() {
            let mut framing = Framing::new();
            let mut lengths = lengths.iter();
            for mut piece in text.as_bytes().chunks(size) {
                while !piece.is_empty() {
                    piece = &piece[framing.take(piece)..];
                    if framing.stage() == Stage::HeadThere && (framing.is_whole() || framing.kept() > 3) {
                        let Some(length) = lengths.next() else { break };
                        framing.begin(*length);
                    }
                }
            }
            if framing.stage() == Stage::HeadThere
                && let Some(length) = lengths.next()
            {
                framing.begin(*length);
            }
            found.push(framing.stage());
        }
        assert!(found.iter().all(|one| *one == found[0]), "{text:?}: {found:?}");
        found[0]
    }

    #[test]
    fn requests_are_told_apart_however_they_come() {
        let with = |header: &str| HEAD.replace("A: b", header);
        assert_eq!(after("\r\n\r\n", &[]), Stage::Between);
        assert_eq!(after("G", &[]), Stage::Head { blank: false });
        assert_eq!(after("\r\nGET / HTTP/1.1\r\n", &[]), Stage::Head { blank: true });
        assert_eq!(after(HEAD, &[]), Stage::HeadThere);
        assert_eq!(after(&HEAD.replace('\r', ""), &[NONE]), Stage::Between);
        assert_eq!(after(&format!("{HEAD}G"), &[NONE]), Stage::Head { blank: false });
        assert_eq!(after(&format!("{HEAD}{HEAD}"), &[NONE]), Stage::HeadThere);
        let (seven, head) = (BodyLength::Bytes(7), with("content-length:7 "));
        assert_eq!(after(&format!("{head}ab\n\ncd"), &[seven]), Stage::Body { left: 1 });
        assert_eq!(after(&format!("{head}ab\n\ncdeG"), &[seven]), Stage::Head { blank: false });
        let head = with("Transfer-Encoding: chunked");
        let chunks = "5;x=1\r\nab\n\nc\r\n00A\r\n0123456789\r\n0\r\n";
        let trailer = Stage::Chunks(Chunk::Trailer { blank: true });
        assert_eq!(after(&format!("{head}{chunks}"), &[BodyLength::Chunked]), trailer);
        let ended = format!("{head}{chunks}T: x\r\n\r\n");
        assert_eq!(after(&ended, &[BodyLength::Chunked]), Stage::Between);
        assert_eq!(after(&format!("{ended}{HEAD}"), &[BodyLength::Chunked, NONE]), Stage::Between);
    }

    #[test]
    fn a_whole_request_that_has_not_begun_is_taken_and_nothing_behind_it() {
        let with = |header: &str, body: &str| format!("{}{body}", HEAD.replace("A: b", header));
        for request in [
            HEAD.to_owned(),
            with("Content-Length: 6", "{\n\n}\r\n"),
            with("Transfer-Encoding: chunked\r\nX: y", "2\r\n{}\r\n0\r\n\r\n"),
        ] {
            let requests = request.repeat(20);
            for size in 1..=requests.len() {
                let mut framing = Framing::new();
                let taken: usize = requests.as_bytes().chunks(size).map(|piece| framing.take(piece)).sum();
                assert_eq!((taken, framing.is_whole()), (request.len(), true), "{request:?} {size}");
            }
        }
    }

    #[test]
    fn what_the_servers_library_reads_counts_and_not_what_was_expected() {
        for (header, body, length, stage) in [
            ("Content-Length: 5", "abcde", BodyLength::Bytes(9), Stage::Body { left: 4 }),
            ("Content-Length: 5", "GET /", NONE, Stage::Head { blank: false }),
            ("Content-Length: 5", "3\r\nab", BodyLength::Chunked, Stage::Chunks(Chunk::Data { left: 3 })),
            ("Transfer-Encoding: chunked", "3\r\nab", BodyLength::Bytes(6), Stage::Body { left: 1 }),
        ] {
            let mut framing = Framing::new();
            let text = format!("{}{body}", HEAD.replace("A: b", header));
            assert_eq!(framing.take(text.as_bytes()), text.len());
            framing.begin(length);
            assert_eq!(framing.stage(), stage, "{header} {body}");
        }
    }
}
