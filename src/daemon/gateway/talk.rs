//! One conversation with a gateway process: lines both ways, and descriptors beside them.
//!
//! What is said waits here until the gateway takes it: whoever talks to one that hangs does not hang with it.

use std::collections::VecDeque;
use std::io::{self, Cursor};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, Chain, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::gateway::control::{
    FromGateway, LISTENER_LIMIT, MESSAGE_LIMIT, Routes, ToGateway, VERSION, decode, encode,
};

/// How long a gateway may take to answer the first word. It may just have been started.
pub const GREETING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Talk {
    lines: FramedRead<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, LinesCodec>,
    write: OwnedWriteHalf,
    outbox: VecDeque<Packet>,
    pub pid: u32,
    /// Of what it understands.
    pub version: u32,
    /// What it had from an earlier daemon.
    pub routes: Option<Routes>,
}

/// A message, or the rest of one; its descriptors go with the first byte.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Connects, greets, and takes the listeners that the gateway gives back, within this time for each of its answers.
pub async fn connect(path: &Path, within: Duration) -> io::Result<(Talk, Vec<(String, OwnedFd)>)> {
    let path = path.to_owned();
    let greeted = tokio::task::spawn_blocking(move || greet(&path, within)).await;
    let Greeted { stream, rest, welcome, descriptors } = greeted.map_err(io::Error::other)??;
    let FromGateway::Welcome { version, pid, routes, listeners, .. } = welcome else {
        return Err(io::Error::other("the gateway said something else than welcome"));
    };
    stream.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(stream)?.into_split();
    let lines = FramedRead::new(
        Cursor::new(rest).chain(read),
        LinesCodec::new_with_max_length(MESSAGE_LIMIT),
    );
    let talk = Talk { lines, write, outbox: VecDeque::new(), pid, version, routes };
    Ok((talk, listeners.into_iter().zip(descriptors).collect()))
}

struct Greeted {
    stream: StdStream,
    /// What came after the first line.
    rest: Vec<u8>,
    welcome: FromGateway,
    descriptors: Vec<OwnedFd>,
}

fn greet(path: &Path, within: Duration) -> io::Result<Greeted> {
    let stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(within))?;
    io::Write::write_all(&mut &stream, &encode(&ToGateway::Hello { version: VERSION })?)?;
    let (mut bytes, mut descriptors) = (vec![], vec![]);
    let end = loop {
        if let Some(end) = bytes.iter().position(|it| *it == b'\n') {
            break end;
        }
        if bytes.len() > MESSAGE_LIMIT {
            return Err(io::Error::other("the gateway's first message has no end"));
        }
        receive(stream.as_fd(), &mut bytes, &mut descriptors).map_err(|err| match err.kind() {
            io::ErrorKind::WouldBlock => io::Error::other(format!("no answer within {within:?}")),
            _ => err,
        })?;
    };
    let rest = bytes.split_off(end + 1);
    Ok(Greeted { stream, rest, welcome: decode(&bytes)?, descriptors })
}

fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [io::IoSliceMut::new(&mut chunk)];
    let received = recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights.take(LISTENER_LIMIT));
        }
    }
    if received.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    bytes.extend_from_slice(&chunk[..received.bytes]);
    Ok(())
}

impl Talk {
    /// The next message. What waits to be sent goes meanwhile.
    pub async fn next(&mut self) -> io::Result<FromGateway> {
        loop {
            let line = tokio::select! {
                line = self.lines.next() => line,
                sent = flush(&self.write, &mut self.outbox), if !self.outbox.is_empty() => {
                    match sent {
                        // It has closed: what it said before is to be heard all the same.
                        Err(err) if is_closed(&err) => self.outbox.clear(),
                        sent => sent?,
                    }
                    continue;
                }
            };
            return match line {
                Some(Ok(line)) => decode(line.as_bytes()),
                Some(Err(err)) => Err(io::Error::other(err)),
                None => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"))
                }
            };
        }
    }

    /// Whether something waits to be sent.
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Says something, sent while the next message is waited for.
    pub fn say(&mut self, message: &ToGateway) -> io::Result<()> {
        self.say_with(message, &[])
    }

    /// As [`Self::say`], with descriptors.
    pub fn say_with(
        &mut self,
        message: &ToGateway,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let copies: io::Result<_> = descriptors.iter().map(|it| it.try_clone_to_owned()).collect();
        self.outbox.push_back(Packet { bytes: encode(message)?, descriptors: copies? });
        Ok(())
    }

    /// Says something at once; fails where the gateway does not take it.
    pub async fn send(&mut self, message: &ToGateway) -> io::Result<()> {
        self.say(message)?;
        let sent = flush(&self.write, &mut self.outbox);
        tokio::time::timeout(GREETING, sent).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn is_closed(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Sends all that waits. Whoever stops waiting for it loses nothing.
async fn flush(write: &OwnedWriteHalf, outbox: &mut VecDeque<Packet>) -> io::Result<()> {
    let stream: &UnixStream = write.as_ref();
    while let Some(Packet { bytes, descriptors }) = outbox.front_mut() {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let send = || send_first(stream.as_fd(), bytes, &borrowed);
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        bytes.drain(..sent);
        descriptors.clear();
        if bytes.is_empty() {
            outbox.pop_front();
        }
    }
    Ok(())
}

fn send_first(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, flags)?)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A gateway that welcomes, says one thing more, and closes.
    fn says_and_closes(listener: &UnixListener) {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        let welcome = FromGateway::Welcome {
            version: VERSION,
            release: String::new(),
            pid: 1,
            routes: None,
            listeners: vec![],
            retiring: false,
        };
        for it in [welcome, FromGateway::Pong] {
            stream.write_all(&encode(&it).unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn the_last_words_are_heard_by_who_has_something_to_say() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("gateway.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // Which of both comes first is chance.
        for _ in 0..20 {
            let gateway = listener.try_clone().unwrap();
            let gateway = tokio::task::spawn_blocking(move || says_and_closes(&gateway));
            let (mut talk, _) = connect(&path, GREETING).await.unwrap();
            gateway.await.unwrap();
            talk.say(&ToGateway::Ping).unwrap();
            assert_eq!(talk.next().await.unwrap(), FromGateway::Pong);
            talk.next().await.unwrap_err();
        }
    }
}
