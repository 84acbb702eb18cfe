//! Watches the bytes of a client as they come, for what the HTTP library lets pass.
//!
//! hyper reads a message that has both `Transfer-Encoding` and `Content-Length` by the first, removes the second and
//! closes (as RFC 9112 §6.3 allows). Whoever sends such a message tries to make two readers disagree, so it is
//! refused; but when we see the headers, the second is gone. This reader follows the framing of the requests beside
//! hyper, without keeping a byte, and remembers the number of the first request that is ambiguous.
//!
//! It also refuses bare LF as a line ending in the head and bare CR anywhere in it, which hyper's parser tolerates
//! in places. If this reader and hyper ever disagree nothing is lost but this second opinion.

use memchr::memchr;

/// The longest header name we look for.
const NAME: usize = 17;

#[derive(Debug)]
pub(super) struct Guard {
    state: State,
    /// The beginning of the line that is being read.
    line: [u8; NAME + 1],
    filled: usize,
    /// The last byte of the line so far.
    last: u8,
    head: Head,
    /// Heads that are complete.
    heads: u64,
    refused: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lines: u32,
    has_length: bool,
    has_coding: bool,
    is_bad: bool,
    length: u64,
    /// Where in a `Content-Length` value we are.
    value: Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Other,
    Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize {
        size: u64,
        digits: bool,
    },
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// Nothing that follows can be understood; hyper will close.
    Lost,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            line: [0; NAME + 1],
            filled: 0,
            last: 0,
            head: Head::default(),
            heads: 0,
            refused: None,
        }
    }

    /// True if the `number`th request of the connection, from 1, is to be refused.
    pub(super) fn refuses(&self, number: u64) -> bool {
        self.refused.is_some_and(|it| it <= number)
    }

    /// Some bytes of the head of a request are there.
    pub(super) fn is_inside_head(&self) -> bool {
        self.state == State::Head && (self.head.lines > 0 || self.filled > 0)
    }

    /// Nothing of a request is there that was not whole.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Head && !self.is_inside_head()
    }

    /// So many requests and nothing else were read.
    pub(super) fn is_behind(&self, requests: u64) -> bool {
        self.heads == requests && self.is_between()
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head_line(bytes),
                State::Body(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                    rest
                }
                State::ChunkSize { size, digits } => self.chunk_size(size, digits, bytes),
                State::ChunkData(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    rest
                }
                State::ChunkEnd => {
                    if bytes[0] == b'\n' {
                        self.state = State::ChunkSize { size: 0, digits: true };
                    }
                    &bytes[1..]
                }
                State::Trailers => self.trailer_line(bytes),
                State::Lost => return,
            };
        }
    }

    fn head_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        self.remember(piece);
        let Some(end) = end else { return &[] };
        let is_empty = self.filled == 0 || (self.filled == 1 && self.line[0] == b'\r');
        if self.last != b'\r' {
            self.head.is_bad = true;
        }
        if is_empty && self.head.lines == 0 {
            // Empty lines before a request line are skipped (RFC 9112 §2.2).
            self.head.is_bad = false;
        } else if is_empty {
            self.end_head();
        } else {
            self.head.lines += 1;
        }
        self.begin_line();
        &bytes[end + 1..]
    }

    fn begin_line(&mut self) {
        self.filled = 0;
        self.last = 0;
        self.head.value = Value::Other;
    }

    /// Takes a piece of a header line, without its LF.
    fn remember(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else { return };
        // A CR that is not the last byte of its line is bare.
        if self.last == b'\r' || memchr(b'\r', piece).is_some_and(|at| at + 1 < piece.len()) {
            self.head.is_bad = true;
        }
        self.last = last;
        let mut rest = piece;
        if self.filled <= NAME {
            let before = self.filled;
            let taken = piece.len().min(NAME + 1 - before);
            self.line[before..before + taken].copy_from_slice(&piece[..taken]);
            self.filled += taken;
            if self.head.lines > 0 {
                rest = self.name(piece, before);
            }
        }
        if self.head.value == Value::Length {
            for digit in rest.iter().filter(|it| it.is_ascii_digit()) {
                let digit = u64::from(digit - b'0');
                self.head.length = self.head.length.saturating_mul(10).saturating_add(digit);
            }
        }
    }

    /// Looks whether the name of the line has just become complete, and returns what is behind it.
    fn name<'a>(&mut self, piece: &'a [u8], before: usize) -> &'a [u8] {
        let known = |name: &[u8]| {
            before <= name.len()
                && self.filled > name.len()
                && self.line[name.len()] == b':'
                && self.line[..name.len()].eq_ignore_ascii_case(name)
        };
        if known(b"content-length") {
            // The same length twice is one length; hyper refuses two that differ.
            self.head.length = 0;
            self.head.has_length = true;
            self.head.value = Value::Length;
            return &piece[b"content-length".len() - before..];
        }
        if known(b"transfer-encoding") {
            self.head.has_coding = true;
        }
        piece
    }

    fn end_head(&mut self) {
        self.heads += 1;
        if self.head.is_bad || (self.head.has_length && self.head.has_coding) {
            self.refused.get_or_insert(self.heads);
            self.state = State::Lost;
        } else if self.head.has_coding {
            self.state = State::ChunkSize { size: 0, digits: true };
        } else if self.head.length > 0 {
            self.state = State::Body(self.head.length);
        }
        self.head = Head::default();
    }

    fn chunk_size<'a>(&mut self, mut size: u64, mut digits: bool, bytes: &'a [u8]) -> &'a [u8] {
        for (at, byte) in bytes.iter().enumerate() {
            match (byte, (*byte as char).to_digit(16)) {
                (b'\n', _) => {
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                    self.begin_line();
                    return &bytes[at + 1..];
                }
                (_, Some(digit)) if digits => {
                    size = size.saturating_mul(16).saturating_add(u64::from(digit));
                }
                _ => digits = false,
            }
        }
        self.state = State::ChunkSize { size, digits };
        &[]
    }

    fn trailer_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        for byte in piece {
            if self.filled < 2 {
                self.line[self.filled] = *byte;
                self.filled += 1;
            }
        }
        let Some(end) = end else { return &[] };
        if self.filled == 0 || (self.filled == 1 && self.line[0] == b'\r') {
            self.state = State::Head;
        }
        self.begin_line();
        &bytes[end + 1..]
    }
}

fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - taken as u64, &bytes[taken..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AMBIGUOUS: &[u8] =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ntransfer-ENCODING: chunked\r\n\r\n";
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const SIZED: &[u8] =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nyou";
    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;x=y\r\nhello\r\nB\r\n12345\r\n\r\n89\r\n0\r\nTrailer: x\r\n\r\n";

    fn refused(requests: &[&[u8]]) -> Option<u64> {
        let mut guard = Guard::new();
        guard.take(&requests.concat());
        guard.refused
    }

    #[test]
    fn two_lengths_of_different_kinds_are_refused_in_either_order() {
        let other = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(refused(&[AMBIGUOUS]), Some(1));
        assert_eq!(refused(&[other]), Some(1));
    }

    #[test]
    fn the_request_is_found_behind_others_of_every_framing() {
        assert_eq!(refused(&[GET, SIZED, CHUNKED, SIZED, AMBIGUOUS]), Some(5));
        assert_eq!(refused(&[SIZED, CHUNKED, GET, CHUNKED, GET]), None);
    }

    #[test]
    fn a_body_that_looks_like_one_is_not_one() {
        let head = format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", AMBIGUOUS.len());
        assert_eq!(refused(&[head.as_bytes(), AMBIGUOUS, GET]), None);
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        let alike = b"GET / HTTP/1.1\r\nTransfer-Encoding-X: a\r\nContent-Length: 0\r\nX-Transfer-Encoding: b\r\n\r\n";
        assert_eq!(refused(&[alike]), None);
    }

    #[test]
    fn bare_cr_and_bare_lf_in_a_head_are_refused() {
        assert_eq!(refused(&[b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n"]), Some(1));
        assert_eq!(refused(&[b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n"]), Some(1));
        assert_eq!(refused(&[b"GET / HTTP/1.1\nA: b\n\n"]), Some(1));
        assert_eq!(refused(&[b"\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n"]), None);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_reads_end(
            which in prop::collection::vec(0usize..3, 0..5),
            cuts in prop::collection::vec(1usize..40, 1..60),
            ambiguous: bool,
        ) {
            let mut requests: Vec<&[u8]> = which.iter().map(|it| [GET, SIZED, CHUNKED][*it]).collect();
            if ambiguous {
                requests.push(AMBIGUOUS);
            }
            let expected = ambiguous.then_some(requests.len() as u64);
            let all = requests.concat();
            let mut guard = Guard::new();
            let mut rest = &all[..];
            for cut in cuts.iter().cycle() {
                let cut = (*cut).min(rest.len());
                guard.take(&rest[..cut]);
                rest = &rest[cut..];
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(guard.refused, expected);
            prop_assert!(!guard.is_inside_head());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Guard::new().take(&bytes);
        }
    }
}
