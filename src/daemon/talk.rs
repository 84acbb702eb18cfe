//! One conversation with a gateway process: lines both ways, and descriptors beside them.

use std::io;
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
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts, LinesCodec};

use crate::gateway::control::{
    FromGateway, LISTENER_LIMIT, MESSAGE_LIMIT, Routes, ToGateway, VERSION, decode, encode,
};

/// How long a gateway may take to answer the first word. It may just have been started.
pub const GREETING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Talk {
    lines: Framed<UnixStream, LinesCodec>,
    pub pid: u32,
    /// What it had from an earlier daemon.
    pub routes: Option<Routes>,
}

/// Connects, greets, and takes the listeners that the gateway gives back, within this time for each of its answers.
pub async fn connect(path: &Path, within: Duration) -> io::Result<(Talk, Vec<(String, OwnedFd)>)> {
    let path = path.to_owned();
    let greeted = tokio::task::spawn_blocking(move || greet(&path, within)).await;
    let Greeted { stream, rest, welcome, descriptors } = greeted.map_err(io::Error::other)??;
    let FromGateway::Welcome { pid, routes, listeners, .. } = welcome else {
        return Err(io::Error::other("the gateway said something else than welcome"));
    };
    stream.set_nonblocking(true)?;
    let mut parts = FramedParts::new::<String>(
        UnixStream::from_std(stream)?,
        LinesCodec::new_with_max_length(MESSAGE_LIMIT),
    );
    parts.read_buf.extend_from_slice(&rest);
    let talk = Talk { lines: Framed::from_parts(parts), pid, routes };
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
    /// The next message.
    pub async fn next(&mut self) -> io::Result<FromGateway> {
        match self.lines.next().await {
            Some(Ok(line)) => decode(line.as_bytes()),
            Some(Err(err)) => Err(io::Error::other(err)),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        }
    }

    pub async fn send(&mut self, message: &ToGateway) -> io::Result<()> {
        self.lines.get_mut().write_all(&encode(message)?).await
    }

    /// Descriptors go with the first byte of the message that names them.
    pub async fn send_with(
        &mut self,
        message: &ToGateway,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = encode(message)?;
        let stream = self.lines.get_mut();
        let send = || send_first(stream.as_fd(), &bytes, descriptors);
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        stream.write_all(&bytes[sent..]).await
    }
}

fn send_first(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, flags)?)
}
