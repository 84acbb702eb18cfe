//! One request over one connection to an instance: its head and body out, the answer in.
//!
//! Everything is polled by the task of the client's connection; there is no other. So one wake-up carries a request
//! all the way, and nothing is handed from task to task.

use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::headers;
use super::link::Link;
use super::reply::{self, Body, Garbled, Head, Parsed};
use super::upload::{self, Fault, Upload};
use super::verdict::Failure;

/// Data up to this long is copied behind what precedes it, so that small requests leave in one piece.
const SMALL: usize = 4096;

#[derive(Debug)]
pub(super) struct Exchange {
    link: Link,
    upload: Option<Upload>,
    head: Vec<u8>,
    /// Bytes of the head that were written.
    written: usize,
    out: Outbox,
    /// Something was taken by the kernel.
    pub(super) has_sent: bool,
    /// The instance takes no more. It may still have said why.
    is_deaf: bool,
    /// The body waits for `100 Continue`.
    pub(super) awaits_continue: bool,
    answer: Body,
    keep_alive: bool,
    /// Moved since the last look, to and from the instance.
    pub(super) moved: (u64, u64),
}

/// What is being written: small things, then data, then the end of its chunk.
#[derive(Debug, Default)]
struct Outbox {
    small: Vec<u8>,
    data: Bytes,
    tail: &'static [u8],
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The instance's fault.
    Instance(Failure, String),
    /// The client's.
    Client(Fault),
}

/// What the exchange waits for while it is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Client,
    Instance,
    Continue,
}

/// What is passed on before the answer.
pub(super) enum Event {
    Interim(StatusCode, HeaderMap),
    Answer(Head, HeaderMap),
}

impl Exchange {
    pub(super) fn new(
        link: Link,
        head: Vec<u8>,
        mut upload: Option<Upload>,
        awaits_continue: bool,
    ) -> Self {
        if let Some(upload) = &mut upload {
            upload.rewind();
        }
        Self {
            link,
            upload,
            head,
            written: 0,
            out: Outbox::default(),
            has_sent: false,
            is_deaf: false,
            awaits_continue,
            answer: Body::Length(0),
            keep_alive: false,
            moved: (0, 0),
        }
    }

    pub(super) fn was_reused(&self) -> bool {
        self.link.is_reused
    }

    /// The whole request is with the kernel.
    pub(super) fn is_sent(&self) -> bool {
        self.written == self.head.len() && self.out.is_empty() && self.is_uploaded()
    }

    fn is_uploaded(&self) -> bool {
        self.upload.as_ref().is_none_or(Upload::is_ended)
    }

    pub(super) fn waits_for(&self) -> Waiting {
        let is_written = self.written == self.head.len() && self.out.is_empty();
        if !is_written || self.is_uploaded() || self.is_deaf {
            Waiting::Instance
        } else if self.awaits_continue {
            Waiting::Continue
        } else {
            Waiting::Client
        }
    }

    /// Sends what can be sent. Pending: there is more, and it waits for the client or the instance.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            if self.is_deaf {
                return Poll::Ready(Ok(()));
            }
            // The first piece of a body leaves together with the head.
            if self.out.is_empty() && !self.is_uploaded() && !self.awaits_continue {
                match self.fill(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(fault)) => {
                        // hyper tells it once. What follows would look like the end of the body.
                        self.is_deaf = true;
                        return Poll::Ready(Err(fault));
                    }
                    Poll::Pending if self.written == self.head.len() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            if self.written == self.head.len() && self.out.is_empty() {
                let is_done = self.is_uploaded();
                return if is_done { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ready!(self.poll_write(cx));
        }
    }

    /// Takes the next piece of the body.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(())) };
        match ready!(upload.poll_next(cx, self.has_sent))? {
            upload::Piece::Data(data) => self.out.put(data, upload.is_chunked),
            upload::Piece::End(trailers) if upload.is_chunked => {
                self.out.small.extend_from_slice(b"0\r\n");
                headers::write_trailers(&mut self.out.small, &trailers);
            }
            upload::Piece::End(_) => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Writes once.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let head = &self.head[self.written..];
        let pieces = [
            IoSlice::new(head),
            IoSlice::new(&self.out.small),
            IoSlice::new(&self.out.data),
            IoSlice::new(self.out.tail),
        ];
        match ready!(self.link.poll_write(cx, &pieces)) {
            Ok(count) if count > 0 => {
                self.has_sent = true;
                self.moved.0 += count as u64;
                let of_head = count.min(head.len());
                self.written += of_head;
                self.out.advance(count - of_head);
            }
            Ok(_) | Err(_) => self.is_deaf = true,
        }
        Poll::Ready(())
    }

    /// Sends, and reads until there is a head. `headers` is a map to fill, to spare an allocation.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        headers: &mut HeaderMap,
        block: &mut BytesMut,
    ) -> Poll<Result<Event, Trouble>> {
        if let Poll::Ready(Err(fault)) = self.poll_send(cx) {
            return Poll::Ready(Err(Trouble::Client(fault)));
        }
        loop {
            if !self.link.rest.is_empty() {
                match reply::parse_head(&mut self.link.rest, method, headers) {
                    Err(Garbled(why)) => return Poll::Ready(Err(garbled(why))),
                    Ok(Parsed::Partial) => {}
                    Ok(Parsed::Interim(status)) => {
                        self.awaits_continue &= status != StatusCode::CONTINUE;
                        return Poll::Ready(Ok(Event::Interim(status, std::mem::take(headers))));
                    }
                    Ok(Parsed::Final(head)) => {
                        return Poll::Ready(Ok(self.answered(head, headers)));
                    }
                }
            }
            match ready!(self.link.poll_read(cx, block)) {
                Ok(0) => return Poll::Ready(Err(self.broken("it closed the connection"))),
                Ok(count) => self.moved.1 += count as u64,
                Err(err) => return Poll::Ready(Err(self.broken(reason(&err)))),
            }
        }
    }

    fn answered(&mut self, mut head: Head, headers: &mut HeaderMap) -> Event {
        self.keep_alive = head.keep_alive;
        // Whoever answers without having asked for the body does without it (RFC 9110 §10.1.1).
        self.is_deaf |= self.awaits_continue;
        self.answer = std::mem::replace(&mut head.body, Body::Length(0));
        head.body = match &self.answer {
            Body::Length(length) => Body::Length(*length),
            Body::Chunked(_) | Body::UntilClose => Body::UntilClose,
        };
        Event::Answer(head, std::mem::take(headers))
    }

    fn broken(&self, why: &str) -> Trouble {
        if !self.link.rest.is_empty() {
            return garbled("it closed in the middle of the head of its answer");
        }
        let failure = if self.has_sent { Failure::Broken } else { Failure::Unsent };
        Trouble::Instance(failure, why.to_owned())
    }

    pub(super) fn answer(&self) -> &Body {
        &self.answer
    }

    /// The next piece of the answer's body. What is left of the request goes on meanwhile.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut BytesMut,
    ) -> Poll<Result<reply::Piece, &'static str>> {
        if !self.is_sent() {
            // After a fault the answer may be whole nevertheless; the connection is of no use after it.
            let _ = self.poll_send(cx);
        }
        loop {
            match self.answer.next(&mut self.link.rest).map_err(|Garbled(why)| why)? {
                reply::Piece::More => {}
                piece => return Poll::Ready(Ok(piece)),
            }
            match ready!(self.link.poll_read(cx, block)) {
                Ok(0) => self.answer.close().map_err(|Garbled(why)| why)?,
                Ok(count) => self.moved.1 += count as u64,
                Err(_) => {
                    return Poll::Ready(Err("it broke the connection in the middle of its answer"));
                }
            }
        }
    }

    /// The connection, if it may carry another request.
    pub(super) fn into_reusable(self) -> Option<Link> {
        let may = self.keep_alive
            && !self.is_deaf
            && self.answer.is_over()
            && self.is_sent()
            && self.link.rest.is_empty();
        may.then_some(self.link)
    }

    /// What it takes to send the request again.
    pub(super) fn into_request(self) -> (Vec<u8>, Option<Upload>) {
        (self.head, self.upload)
    }

    /// The room that the head took; only of use once it was answered.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        if self.written < self.head.len() {
            // Answered before it was asked: what is left will never be sent.
            self.is_deaf = true;
        }
        self.written = 0;
        std::mem::take(&mut self.head)
    }

    /// The whole body, if it is here already.
    pub(super) fn whole_body(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.answer.exact()?).ok()?;
        (self.link.rest.len() >= length).then(|| {
            self.answer = Body::Length(0);
            self.link.rest.split_to(length)
        })
    }

    pub(super) fn into_link(self) -> Link {
        self.link
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    fn put(&mut self, data: Bytes, is_chunked: bool) {
        if is_chunked {
            put_hex(&mut self.small, data.len());
            self.small.extend_from_slice(b"\r\n");
            self.tail = b"\r\n";
        }
        if data.len() <= SMALL {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(std::mem::take(&mut self.tail));
        } else {
            self.data = data;
        }
    }

    fn advance(&mut self, mut count: usize) {
        let small = count.min(self.small.len());
        if small == self.small.len() {
            self.small.clear();
        } else {
            self.small.drain(..small);
        }
        count -= small;
        let data = count.min(self.data.len());
        self.data.advance(data);
        count -= data;
        self.tail = &self.tail[count.min(self.tail.len())..];
    }
}

fn put_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[number >> (4 * at) & 15]);
    }
}

fn garbled(why: &str) -> Trouble {
    Trouble::Instance(Failure::Garbled, why.to_owned())
}

fn reason(err: &std::io::Error) -> &'static str {
    match err.kind() {
        std::io::ErrorKind::ConnectionReset => "it reset the connection",
        std::io::ErrorKind::TimedOut => "the connection timed out",
        _ => "the connection broke",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_chunk_sizes_are() {
        for number in [0usize, 1, 9, 10, 15, 16, 255, 4096, 65_535, 1 << 40] {
            let mut out = vec![];
            put_hex(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }

    #[test]
    fn what_was_written_leaves_the_outbox_in_order() {
        let data = Bytes::from(vec![b'x'; 5000]);
        let whole = [&b"1388\r\n"[..], &data, b"\r\n"].concat();
        for step in [1, 3, 7, 4000, 6000] {
            let mut out = Outbox::default();
            out.put(data.clone(), true);
            let mut seen = vec![];
            while !out.is_empty() {
                let all = [&out.small[..], &out.data, out.tail].concat();
                let count = step.min(all.len());
                seen.extend_from_slice(&all[..count]);
                out.advance(count);
            }
            assert_eq!(seen, whole);
        }
    }
}
