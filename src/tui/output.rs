//! Bytes on their way to the terminal. Writing them never waits.
//!
//! A terminal may take nothing for hours: a frozen `ssh`, a stopped `screen`, a link that is gone and
//! nobody knows yet. A deck that sits in `write(2)` then hears no key and no signal. So the terminal is
//! opened once more, as a file of our own that does not block: the one that the shell gave us is shared
//! with it, and would be non-blocking for the shell too.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::termios::tcgetsid;
use nix::unistd::getsid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long a terminal that takes nothing is waited for when it is given back.
const LAST: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Ends a control sequence that broke off (ECMA-48 §8.3.6).
pub const CANCEL: &[u8] = b"\x18";

/// What waits to be written.
#[derive(Debug)]
pub struct Output {
    tty: AsyncFd<Tty>,
    waiting: Vec<u8>,
}

impl Output {
    /// Opens the terminal that is standard output.
    #[expect(deprecated, reason = "its replacement is unsafe; the file lives as long as this does")]
    pub fn open() -> io::Result<Self> {
        let tty = AsyncFd::with_interest(Tty::open()?, Interest::WRITABLE)?;
        Ok(Self { tty, waiting: vec![] })
    }

    /// Everything is written.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes what the terminal takes now and keeps the rest.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        self.tty.get_ref().take(&mut self.waiting)
    }

    /// Returns once everything is written; with nothing to write, never. Nothing is lost when the
    /// wait is given up.
    pub async fn drain(&mut self) -> io::Result<()> {
        if self.is_idle() {
            return std::future::pending().await;
        }
        while !self.is_idle() {
            let mut ready = self.tty.writable().await?;
            ready.get_inner().take(&mut self.waiting)?;
            if !self.waiting.is_empty() {
                ready.clear_ready();
            }
        }
        Ok(())
    }

    /// Writes `bytes` instead of what waits; false if the terminal did not take them in time.
    pub fn finish(&mut self, bytes: &[u8]) -> bool {
        let torn = if self.is_idle() { &[] } else { CANCEL };
        self.waiting.clear();
        self.tty.get_ref().finish(&[torn, bytes].concat())
    }
}

/// The terminal, opened for writing without waiting.
#[derive(Debug)]
pub struct Tty {
    fd: OwnedFd,
    /// It could not be opened again: this is the file that the shell shares, and it blocks.
    shared: bool,
}

impl Tty {
    /// Opens what standard output is.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let again = open("/proc/self/fd/1", flags, Mode::empty());
        // After `su` the terminal belongs to somebody else, but whoever sits at it may open this.
        let again = again.or_else(|err| {
            let is_ours = tcgetsid(io::stdout()).is_ok_and(|it| getsid(None) == Ok(it));
            if is_ours { open("/dev/tty", flags, Mode::empty()) } else { Err(err) }
        });
        match again {
            Ok(fd) => Ok(Self { fd, shared: false }),
            Err(_) => {
                let fd = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
                Ok(Self { fd, shared: true })
            }
        }
    }

    /// Writes `bytes`; false if the terminal is gone or takes nothing for a while.
    pub fn finish(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) if self.takes_within(&LAST) => (),
                Err(_) => return false,
            }
        }
        true
    }

    /// Writes as much of `waiting` as goes without waiting, and takes it out.
    fn take(&self, waiting: &mut Vec<u8>) -> io::Result<()> {
        while !waiting.is_empty() {
            match self.write(waiting) {
                Ok(n) => drop(waiting.drain(..n)),
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => break,
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if !self.shared {
            return rustix::io::write(&self.fd, bytes);
        }
        // A single byte into a terminal that takes some is the one write that cannot wait.
        if !self.takes_within(&NOW) {
            return Err(Errno::AGAIN);
        }
        rustix::io::write(&self.fd, &bytes[..1])
    }

    fn takes_within(&self, time: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        poll(&mut fds, Some(time)).is_ok_and(|n| n > 0)
    }
}

impl AsRawFd for Tty {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What puts a text on the clipboard of the terminal, wherever that is (OSC 52).
pub fn clipboard(text: &str) -> Vec<u8> {
    format!("\x1b]52;c;{}\x07", base64(text.as_bytes())).into_bytes()
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            (0..3).fold(0u32, |word, n| word << 8 | chunk.get(n).copied().map_or(0, u32::from));
        for n in 0..4u32 {
            let index = usize::try_from(word >> (18 - 6 * n) & 63).unwrap_or(0);
            let is_padding = usize::try_from(n).is_ok_and(|it| it > chunk.len());
            out.push(if is_padding { '=' } else { char::from(ALPHABET[index]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clipboard_text_is_base64() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("é漢", "w6nmvKI=")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
