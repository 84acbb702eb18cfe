//! `NETLINK_SOCK_DIAG`: questions and answers, and how they are laid out.
//!
//! Answering costs the kernel a walk through its whole table of connections, as large as the host's
//! memory deserves: 0.2 ms for one that is empty. The older form of the question (TCPDIAG_GETSOCK) gets
//! both families in one walk; the newer one needs a walk a family, and is asked where the older is gone.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// A socket to the kernel.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// One message of the kernel.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

const HEADER_BYTES: usize = 16;
/// Header and `struct inet_diag_req_v2` of linux/inet_diag.h.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Header and `struct inet_diag_req`.
const OLDER_REQUEST_BYTES: usize = HEADER_BYTES + 60;
const TCPDIAG_GETSOCK: u16 = 18;
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const FLAGS: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP: u8 = 6;
/// 1 << (INET_DIAG_INFO - 1): with `struct tcp_info`.
const WITH_INFO: u8 = 2;
/// The kernel fills at most 32 KiB at a time.
const BUFFER_BYTES: usize = 32 * 1024;

impl Netlink {
    /// `groups`: bits of the multicast groups to hear of.
    pub(super) fn open(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        if groups != 0 {
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        }
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Every TCP socket in one of these states, of both families.
    pub(super) fn dump(
        &mut self,
        states: &[u8],
        mut take: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        let one_by_one = [Asked::Family(AddressFamily::INET), Asked::Family(AddressFamily::INET6)];
        match self.ask(&[Asked::Both], states, &mut take) {
            Err(source) if is_unknown(&source) => self.ask(&one_by_one, states, &mut take),
            answer => answer,
        }
    }

    pub(super) fn ask(
        &mut self,
        questions: &[Asked],
        states: &[u8],
        mut take: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        for question in questions {
            self.sequence = self.sequence.wrapping_add(1);
            let request = request(*question, states, self.sequence);
            let kernel = SocketAddrNetlink::new(0, 0);
            sendto(&self.socket, &request, SendFlags::empty(), &kernel)?;
            while self.take(&mut take)? == More::Follows {}
        }
        Ok(())
    }

    /// Reads one answer of the kernel: many messages.
    fn take(&mut self, take: &mut impl FnMut(&Message<'_>)) -> io::Result<More> {
        let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
        let mut rest = &self.buffer[..length];
        while let Some((message, after)) = split_message(rest) {
            rest = after;
            // What is left of a dump that failed halfway is not ours.
            if message.sequence != self.sequence {
                continue;
            }
            match message.kind {
                NLMSG_DONE => return Ok(More::Nothing),
                NLMSG_ERROR => {
                    let errno = number(message.body, 0).map_or(0, u32::cast_signed);
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY => take(&message),
                _ => {}
            }
        }
        Ok(More::Follows)
    }

    /// Takes what the groups have told, without waiting. ENOBUFS if some of it was dropped.
    pub(super) fn hear(&mut self, mut take: impl FnMut(&Message<'_>)) -> io::Result<()> {
        loop {
            let received = recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT);
            let length = match received {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            let mut rest = &self.buffer[..length];
            while let Some((message, after)) = split_message(rest) {
                rest = after;
                if message.kind == SOCK_DIAG_BY_FAMILY {
                    take(&message);
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum More {
    Follows,
    Nothing,
}

/// What one question is about.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Both,
    Family(AddressFamily),
}

/// The kernel does not know this form of the question.
fn is_unknown(source: &io::Error) -> bool {
    matches!(source.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP))
}

fn request(asked: Asked, states: &[u8], sequence: u32) -> Vec<u8> {
    let states: u32 = states.iter().map(|it| 1_u32 << it).sum();
    let (kind, length) = match asked {
        Asked::Both => (TCPDIAG_GETSOCK, OLDER_REQUEST_BYTES),
        Asked::Family(_) => (SOCK_DIAG_BY_FAMILY, REQUEST_BYTES),
    };
    let mut request = vec![0; length];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(length as u32).to_ne_bytes());
    put(4, &kind.to_ne_bytes());
    put(6, &FLAGS.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    match asked {
        Asked::Both => {
            put(HEADER_BYTES, &[AddressFamily::INET.as_raw() as u8, 0, 0, WITH_INFO]);
            put(HEADER_BYTES + 52, &states.to_ne_bytes());
        }
        Asked::Family(family) => {
            put(HEADER_BYTES, &[family.as_raw() as u8, TCP, WITH_INFO]);
            put(HEADER_BYTES + 4, &states.to_ne_bytes());
        }
    }
    request
}

/// The first message of a buffer and what follows it; `None` at the end or if it is cut off.
fn split_message(buffer: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = number(buffer, 0)? as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let sequence = number(buffer, 8)?;
    let body = buffer.get(HEADER_BYTES..length)?;
    let after = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind, sequence, body }, after))
}

/// The payload of the first attribute of this kind.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let payload = attributes.get(4..length)?;
        if kind == wanted {
            return Some(payload);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_no_message() {
        let whole = request(Asked::Both, &[1, 10], 7);
        assert!(
            split_message(&whole).is_some_and(|(it, after)| it.sequence == 7 && after.is_empty())
        );
        for length in 0..whole.len() {
            assert!(split_message(&whole[..length]).is_none(), "{length}");
        }
        assert!(split_message(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }

    #[test]
    fn an_attribute_is_found_behind_others_and_only_if_it_is_whole() {
        let mut bytes = vec![5, 0, 9, 0, 1, 0, 0, 0];
        bytes.extend([6, 0, 2, 0, 7, 8]);
        assert_eq!(attribute(&bytes, 2), Some(&[7, 8][..]));
        assert_eq!(attribute(&bytes, 3), None);
        assert_eq!(attribute(&bytes[..13], 2), None);
        assert_eq!(attribute(&[0, 0, 2, 0], 2), None);
    }
}
