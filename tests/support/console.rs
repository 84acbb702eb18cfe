//! The real binary in a real pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};

use super::PATIENCE;

pub struct Console {
    pub child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    pub screen: vt100::Parser,
    /// Every byte that was written to the terminal.
    pub raw: Vec<u8>,
}

impl Console {
    /// Starts a command with a terminal of this size as its controlling one.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
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
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let screen = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        Self { child, keyboard, output, screen, raw: vec![] }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
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

    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait(text, |screen| screen.contains(text));
    }

    #[track_caller]
    pub fn wait(&mut self, what: &str, there: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !there(&self.text()) {
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
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(50)) {
            self.take(&bytes);
        }
        self.child.wait().unwrap().success()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // A test that failed leaves it on a terminal that nobody reads.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
