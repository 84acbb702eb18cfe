//! A daemon's connection: lines in, lines out, descriptors with them. Nothing waits for a daemon that does not read.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::control::{FromGateway, MESSAGE_LIMIT, ToGateway, decode, encode};

/// Reports that wait to be sent. A daemon that has not read this many is disconnected.
const BACKLOG: usize = 1_000;
/// Descriptors that the kernel passes with one message.
const DESCRIPTORS: usize = 253;
const BLOCK: usize = 16 * 1024;
/// For the last words.
const GOODBYE: Duration = Duration::from_secs(2);

/// What came in.
#[derive(Debug)]
pub(super) enum Arrival {
    /// With the descriptors that its names stand for.
    Order(ToGateway, Vec<OwnedFd>),
    /// A line that is no message.
    Nonsense(String),
    /// The connection is over.
    End,
}

/// The newest connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    outbox: mpsc::Sender<Packet>,
    reading: AbortHandle,
    writing: JoinHandle<()>,
}

#[derive(Debug)]
struct Packet {
    line: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Session {
    /// Takes the connection if it comes from our own user or root.
    pub(super) fn begin(
        id: u64,
        stream: UnixStream,
        inbox: mpsc::Sender<(u64, Arrival)>,
    ) -> io::Result<Self> {
        let them = rustix::net::sockopt::socket_peercred(&stream)?;
        if !them.uid.is_root() && them.uid != rustix::process::geteuid() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let stream = Rc::new(stream);
        let (outbox, packets) = mpsc::channel(BACKLOG);
        let reading = tokio::task::spawn_local(read(id, Rc::clone(&stream), inbox));
        let writing = tokio::task::spawn_local(write(stream, packets));
        Ok(Self { id, outbox, reading: reading.abort_handle(), writing })
    }

    /// Queues a report. An error ends the session.
    pub(super) fn tell(&self, report: &FromGateway, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let packet = Packet { line: encode(report)?, descriptors };
        self.outbox.try_send(packet).map_err(|_| io::ErrorKind::WriteZero.into())
    }

    /// Ends the session once everything was sent. A daemon that does not read is not waited for.
    pub(super) async fn end(mut self) {
        let (nobody, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.outbox, nobody));
        let _ = tokio::time::timeout(GOODBYE, &mut self.writing).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
        self.writing.abort();
    }
}

async fn read(id: u64, stream: Rc<UnixStream>, inbox: mpsc::Sender<(u64, Arrival)>) {
    // An error is the end of the connection, and so is the end.
    let _ = read_on(id, &stream, &inbox).await;
    let _ = inbox.send((id, Arrival::End)).await;
}

async fn read_on(
    id: u64,
    stream: &UnixStream,
    inbox: &mpsc::Sender<(u64, Arrival)>,
) -> io::Result<()> {
    let mut text: Vec<u8> = vec![];
    let mut descriptors = VecDeque::new();
    loop {
        stream.readable().await?;
        let received =
            stream.try_io(Interest::READABLE, || receive(stream, &mut text, &mut descriptors));
        match received {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
            Err(err) => return Err(err),
        }
        let mut done = 0;
        while let Some(end) = text[done..].iter().position(|it| *it == b'\n') {
            let arrival = arrival(&text[done..done + end], &mut descriptors);
            done += end + 1;
            if inbox.send((id, arrival)).await.is_err() {
                return Ok(());
            }
        }
        text.drain(..done);
        if text.len() > MESSAGE_LIMIT || descriptors.len() > DESCRIPTORS {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn arrival(line: &[u8], descriptors: &mut VecDeque<OwnedFd>) -> Arrival {
    match decode(line) {
        Ok(ToGateway::Listeners { names }) => {
            let count = names.len().min(descriptors.len());
            let theirs = descriptors.drain(..count).collect();
            Arrival::Order(ToGateway::Listeners { names }, theirs)
        }
        Ok(order) => Arrival::Order(order, vec![]),
        Err(err) => Arrival::Nonsense(err.to_string()),
    }
}

fn receive(
    stream: &UnixStream,
    text: &mut Vec<u8>,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut block = [0; BLOCK];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut block)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, into, &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(these) = message {
            descriptors.extend(these);
        }
    }
    text.extend_from_slice(&block[..received.bytes]);
    Ok(received.bytes)
}

async fn write(stream: Rc<UnixStream>, mut packets: mpsc::Receiver<Packet>) {
    while let Some(Packet { line, mut descriptors }) = packets.recv().await {
        let mut rest = &line[..];
        while !rest.is_empty() {
            if stream.writable().await.is_err() {
                return;
            }
            match stream.try_io(Interest::WRITABLE, || send(&stream, rest, &descriptors)) {
                Ok(count) => {
                    rest = &rest[count..];
                    descriptors.clear();
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                // The reading half sees the end.
                Err(_) => return,
            }
        }
    }
}

fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, flags)?)
}
