//! The real binary in a real pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};

use super::{PATIENCE, ended};

/// The DSR question of a frame's end, and what every terminal answers.
const QUESTION: &[u8] = b"\x1b[5n";
const ANSWER: &[u8] = b"\x1b[0n";

pub struct Console {
    pub child: Child,
    pty: File,
    keyboard: Sender<(Instant, Vec<u8>)>,
    delay: Duration,
    output: Receiver<Vec<u8>>,
    gate: Arc<Gate>,
    pub screen: vt100::Parser,
    /// Every byte that was written to the terminal.
    pub raw: Vec<u8>,
}

/// What lies between the program and the glass.
#[derive(Clone, Copy)]
pub struct Wire {
    /// Bytes a second.
    pub rate: Option<u32>,
    /// Each way.
    pub delay: Duration,
    /// The terminal answers what it is asked, as real ones do.
    pub answers: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self { rate: None, delay: Duration::ZERO, answers: true }
    }
}

/// Held shut, nothing is read from the terminal.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.shut.lock().unwrap(), |it| *it).unwrap());
    }
}

impl Console {
    /// Starts a command with a terminal of this size as its controlling one.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        Self::start_over(Wire::default(), command, columns, rows)
    }

    /// The same with a line like this before the terminal.
    pub fn start_over(wire: Wire, command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        // The deck must not hold the other end of its own terminal: then it could never be closed.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let tty = File::from(pty.slave);
        // setsid(1) gives the terminal to a session of its own, as sshd does.
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        let child = inside
            .stdin(tty.try_clone().unwrap())
            .stdout(tty.try_clone().unwrap())
            .stderr(tty)
            .spawn()
            .unwrap();
        let pty = File::from(pty.master);
        let gate = Arc::new(Gate::default());
        let keyboard = type_into(pty.try_clone().unwrap());
        let output = read_from(pty.try_clone().unwrap(), wire, gate.clone(), keyboard.clone());
        let (rows, columns) = (rows.try_into().unwrap(), columns.try_into().unwrap());
        let screen = vt100::Parser::new(rows, columns, 0);
        Self { child, pty, keyboard, delay: wire.delay, output, gate, screen, raw: vec![] }
    }

    /// From now on the terminal takes no more than fits into the kernel.
    pub fn hold(&self) {
        self.gate.set(true);
    }

    pub fn release(&self) {
        self.gate.set(false);
    }

    /// The terminal as the kernel sees it, for its modes and for closing it.
    pub fn pty(&self) -> &File {
        &self.pty
    }

    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub fn press(&self, keys: &str) {
        self.keyboard.send((Instant::now() + self.delay, keys.as_bytes().to_vec())).unwrap();
    }

    /// Presses a key that moves the cursor and waits for the answer: keys that arrive together with
    /// others do not act.
    pub fn step(&mut self, key: &str) {
        self.press(key);
        let bytes = self.output.recv_timeout(PATIENCE).unwrap();
        self.take(&bytes);
        self.bytes_written_within(Duration::from_millis(50));
    }

    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Some colour was asked of the terminal: SGR 30 and up, without those for the default.
    pub fn has_colors(&self) -> bool {
        let raw = String::from_utf8_lossy(&self.raw);
        let sequences = raw.split("\x1b[").filter_map(|it| it.split_once('m'));
        let codes = sequences.flat_map(|it| it.0.split(';')).filter_map(|it| it.parse().ok());
        let is_color = |code: u32| (30..=107).contains(&code) && code != 39 && code != 49;
        codes.into_iter().any(is_color)
    }

    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait(text, |screen| screen.contains(text));
    }

    #[track_caller]
    pub fn wait(&mut self, what: &str, there: impl Fn(&str) -> bool) {
        self.wait_screen(what, |it| there(&it.contents()));
    }

    /// Waits until the terminal is in such a state.
    #[track_caller]
    pub fn wait_screen(&mut self, what: &str, there: impl Fn(&vt100::Screen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !there(self.screen.screen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what:?} in:\n{}", self.text());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended before {what:?}:\n{}", self.text())
                }
            }
        }
    }

    /// Waits until these bytes were written, whether or not they show anything.
    #[track_caller]
    pub fn wait_bytes(&mut self, wanted: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        while !self.raw.windows(wanted.len()).any(|it| it == wanted) {
            assert!(Instant::now() < deadline, "no {wanted:?} was written:\n{}", self.text());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(100)) {
                self.take(&bytes);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.screen.process(bytes);
        self.raw.extend_from_slice(bytes);
    }

    /// How much is written to the terminal in this time.
    pub fn bytes_written_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let before = self.raw.len();
        while let Ok(bytes) =
            self.output.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.take(&bytes);
        }
        self.raw.len() - before
    }

    /// Reads to the end of the program and returns whether it ended well.
    pub fn end(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it goes on:\n{}", self.text());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.take(&bytes);
            }
        }
        // Up to the end of the terminal, unless somebody else has it too.
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(2)) {
            self.take(&bytes);
        }
        ended(&mut self.child).success()
    }
}

/// Writes what is typed once its time has come. The sleeps from here on are the line itself: a wait for
/// nothing but time, by threads that stand for distance and bandwidth.
fn type_into(mut pty: File) -> Sender<(Instant, Vec<u8>)> {
    let (sender, keys) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (at, bytes) in keys {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if pty.write_all(&bytes).is_err() {
                break;
            }
        }
    });
    sender
}

/// Reads as fast as the line takes it, and passes it on after its delay.
fn read_from(
    mut pty: File,
    wire: Wire,
    gate: Arc<Gate>,
    keyboard: Sender<(Instant, Vec<u8>)>,
) -> Receiver<Vec<u8>> {
    let (far, near) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; if wire.rate.is_some() { 128 } else { 65536 }];
        // The line is busy until then. What a loaded machine sleeps too long is made up for.
        let mut busy = Instant::now();
        loop {
            gate.pass();
            let Ok(n @ 1..) = pty.read(&mut buffer) else { break };
            if let Some(rate) = wire.rate {
                let lag = Duration::from_millis(100);
                busy = busy.max(Instant::now() - lag)
                    + Duration::from_secs(n.try_into().unwrap()) / rate;
                std::thread::sleep(busy.saturating_duration_since(Instant::now()));
            }
            if far.send((Instant::now() + wire.delay, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    });
    let (sender, output) = channel();
    std::thread::spawn(move || {
        let mut tail = vec![];
        for (at, bytes) in near {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            tail.extend_from_slice(&bytes);
            while let Some(end) = tail.windows(QUESTION.len()).position(|it| it == QUESTION) {
                tail.drain(..end + QUESTION.len());
                if wire.answers {
                    drop(keyboard.send((Instant::now() + wire.delay, ANSWER.to_vec())));
                }
            }
            tail.drain(..tail.len().saturating_sub(QUESTION.len() - 1));
            if sender.send(bytes).is_err() {
                break;
            }
        }
    });
    output
}

impl Drop for Console {
    fn drop(&mut self) {
        // A test that failed leaves it on a terminal that nobody reads.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
