//! One daemon's connection to the logger: lines in, lines out, never waiting.
//!
//! A peer that sends what is no message gets a notice. One that sends endless lines, or does not read its reports, is
//! disconnected: it learns everything again when it comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::protocol::{FromLogger, MESSAGE_LIMIT, ToLogger, decode, encode};

/// Reports that wait for the peer to read, in bytes: the troubles of some thousand logs.
const BACKLOG: usize = 1024 * 1024;
/// Read at a time; more is left for the next turn, so that a talkative peer holds up nobody.
const BLOCK: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Peer {
    /// Takes the connection if it comes from our own user or root.
    pub(super) fn accept(connection: OwnedFd) -> io::Result<Self> {
        let them = rustix::net::sockopt::socket_peercred(&connection)?;
        if !them.uid.is_root() && them.uid != rustix::process::geteuid() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(Self { stream: connection.into(), inbox: vec![], outbox: vec![] })
    }

    /// Reads what is there, up to a block, and returns the whole messages in it. An error ends the connection.
    pub(super) fn receive(&mut self) -> io::Result<Vec<io::Result<ToLogger>>> {
        let mut block = [0; BLOCK];
        match self.stream.read(&mut block) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.inbox.extend_from_slice(&block[..n]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        let Some(last) = self.inbox.iter().rposition(|byte| *byte == b'\n') else {
            if self.inbox.len() > MESSAGE_LIMIT {
                return Err(ErrorKind::InvalidData.into());
            }
            return Ok(vec![]);
        };
        let rest = self.inbox.split_off(last + 1);
        let whole = std::mem::replace(&mut self.inbox, rest);
        Ok(whole.split_inclusive(|byte| *byte == b'\n').map(decode).collect())
    }

    /// Queues a report. An error ends the connection.
    pub(super) fn tell(&mut self, report: &FromLogger) -> io::Result<()> {
        self.outbox.extend(encode(report)?);
        if self.outbox.len() > BACKLOG {
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Sends what the peer takes now. An error ends the connection.
    pub(super) fn send(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outbox = vec![];
        Ok(())
    }

    /// Whether there are reports that the peer has not taken yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
