//! The operator's terminal: raw mode, the alternate screen, and giving it back.
//!
//! Whatever ends the deck, the terminal is as it was: [`Terminal`] restores it when dropped, and a
//! panic restores it before it prints. The keyboard is read here too, without a thread and without
//! changing the open file that the shell shares: a read happens only when there is something to
//! read, so what one read returns is what arrived together. The end of the terminal is an end, not
//! a loop. A terminal that takes nothing is not waited for, not even to give it back.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use nix::sys::termios::{FlushArg, tcflush};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use super::announce::GIVE_BACK_TITLE;
use super::key::{Decoder, Typed};
use super::output::{CANCEL, Output, Tty};

/// Alternate screen, no cursor, bracketed paste.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// Presses and the wheel, in SGR form (xterm, ctlseqs: 1000, 1006).
pub const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
pub const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";
/// Undone in the other order; a synchronized update that broke off is ended first.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// What may follow an escape comes within this time, or it was the key.
const ESCAPE: Duration = Duration::from_millis(25);

/// The terminal shows the deck's screen. It is left once: a second time would put the cursor back to
/// where it was before the deck, and what is written then goes over a panic's last words.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// The title of its window is the deck's.
static TITLED: AtomicBool = AtomicBool::new(false);

/// What gives all of it back.
fn leaving() -> Vec<u8> {
    let title = if TITLED.swap(false, Ordering::AcqRel) { GIVE_BACK_TITLE } else { b"" };
    [LEAVE, title].concat()
}

/// The terminal in the deck's hands.
#[derive(Debug)]
pub struct Terminal {
    output: Output,
}

impl Terminal {
    /// Takes the terminal.
    pub fn enter() -> io::Result<Self> {
        restore_on_panic();
        let output = Output::open()?;
        enable_raw_mode()?;
        let mut terminal = Self { output };
        ENTERED.store(true, Ordering::Release);
        terminal.output.send(ENTER)?;
        Ok(terminal)
    }

    /// What is written to it.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Shows the shell's screen again; false if the terminal did not take that. The keyboard is still
    /// the deck's, until this is dropped.
    pub fn leave(&mut self) -> bool {
        ENTERED.store(false, Ordering::Release);
        self.output.finish(&leaving())
    }

    /// Whether the title of its window is the deck's and has to be given back.
    pub fn set_titled(&mut self, titled: bool) {
        TITLED.store(titled, Ordering::Release);
    }

    /// Columns and lines. Nobody looks at more than fits here; a terminal that claims more would
    /// only cost memory.
    pub fn size() -> io::Result<(u16, u16)> {
        let (width, height) = crossterm::terminal::size()?;
        Ok((width.min(1000), height.min(500)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if ENTERED.load(Ordering::Acquire) {
            self.leave();
        }
        // It may be gone; then there is nobody to tell.
        let _ = disable_raw_mode();
    }
}

/// Throws away what was typed, or answered, and not read.
pub fn forget_input() {
    // Of a terminal that is gone there is nothing to forget.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
}

/// Whatever panics first gives the terminal back, so that its last words are read on the shell's
/// screen.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if ENTERED.swap(false, Ordering::AcqRel) {
                // There may be no terminal any more; then there is nobody to tell.
                let _ = Tty::open().map(|it| it.finish(&[CANCEL, &leaving()].concat()));
            }
            let _ = disable_raw_mode();
            before(panic);
        }));
    });
}

/// The keyboard.
#[derive(Debug)]
pub struct Keyboard {
    input: AsyncFd<io::Stdin>,
    decoder: Decoder,
    /// When an escape that nothing follows is a key. It outlives a wait that is given up, or a
    /// busy daemon would put it off for ever.
    escape: Option<Pin<Box<Sleep>>>,
}

impl Keyboard {
    /// Fails where the input is no terminal.
    #[expect(deprecated, reason = "its replacement is unsafe; standard input is never closed here")]
    pub fn new() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(io::Error::other("standard input or output is not a terminal"));
        }
        let input = AsyncFd::with_interest(io::stdin(), Interest::READABLE)?;
        Ok(Self { input, decoder: Decoder::default(), escape: None })
    }

    /// Waits for what is typed next; an error is the end of the terminal. Nothing is lost when the
    /// wait is given up.
    pub async fn next(&mut self) -> io::Result<Typed> {
        loop {
            let bytes = match &mut self.escape {
                None => read(&self.input).await?,
                Some(escape) => tokio::select! {
                    biased;
                    bytes = read(&self.input) => bytes?,
                    () = escape => {
                        self.escape = None;
                        return Ok(self.decoder.flush());
                    }
                },
            };
            let typed = self.decoder.feed(&bytes);
            self.escape = self.decoder.is_waiting().then(|| Box::pin(sleep(ESCAPE)));
            if typed != Typed::default() {
                return Ok(typed);
            }
        }
    }
}

/// One read, once there is something to read.
async fn read(input: &AsyncFd<io::Stdin>) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 1024];
    loop {
        let mut ready = input.readable().await?;
        // The file is in blocking mode, which the shell shares: never read without having asked.
        if !has_input(input.get_ref())? {
            ready.clear_ready();
            continue;
        }
        match rustix::io::read(input.get_ref(), &mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => return Ok(buffer[..n].to_vec()),
            Err(Errno::INTR | Errno::AGAIN) => (),
            Err(err) => return Err(err.into()),
        }
    }
}

/// Something can be read, or the other end is gone.
fn has_input(fd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Stops this process until somebody continues it; false where nobody would.
///
/// In a session without a shell above it (`ssh -t host opsdeck`) a stopped deck would hang for ever.
pub fn stop_self() -> bool {
    use nix::sys::signal::{Signal, raise};
    has_shell() && raise(Signal::SIGSTOP).is_ok()
}

/// Whether some ancestor in this session leads another process group: a shell with job control.
fn has_shell() -> bool {
    use nix::unistd::{Pid, getpgid, getpid, getppid, getsid};
    let (Ok(session), Ok(group)) = (getsid(None), getpgid(None)) else { return false };
    let mut at = getppid();
    for _ in 0..8 {
        if at.as_raw() <= 1 || at == getpid() || getsid(Some(at)) != Ok(session) {
            return false;
        }
        match getpgid(Some(at)) {
            Ok(other) if other == group => (),
            Ok(_) => return true,
            Err(_) => return false,
        }
        let Some(parent) = parent(at.as_raw()) else { return false };
        at = Pid::from_raw(parent);
    }
    false
}

/// Field 4 of `/proc/PID/stat`; the name before it may hold anything, so it is counted from its end.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
