//! The deck and its terminal: one that takes nothing, one that goes away, and giving it back in order.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use opsdeck::tui::terminal::Terminal;
use support::console::Console;
use support::{Deck, PATIENCE, ended, is_alive, kill, wait_until};

/// One service that never stops writing.
fn flood() -> Deck {
    let mut deck = Deck::start(
        r#"
[service.flood]
command = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n of many that go by; sleep 0.01; done"]
start_seconds = "100ms"
"#,
    );
    deck.wait_ready(&["flood"]);
    deck
}

fn looking_at(deck: &Deck) -> Console {
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("RUNNING");
    console
}

/// A deck whose terminal has taken all that it ever will.
fn stuck(deck: &Deck) -> Console {
    let mut console = looking_at(deck);
    console.press("l");
    console.wait_for("of many that go by");
    console.hold();
    let path = format!("/proc/{}/fd/1", console.pid());
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let tty = File::options().write(true).custom_flags(flags).open(path).unwrap();
    wait_until("full", || {
        let mut fds = [PollFd::new(tty.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
    });
    console
}

/// Without reading what it writes.
fn wait_end(console: &mut Console) {
    ended(&mut console.child);
}

fn modes(console: &Console) -> Termios {
    tcgetattr(console.pty()).unwrap()
}

/// A shell with job control that reads its lines in the plainest way, so that the modes are its own.
fn shell(inside: &Command) -> Console {
    let mut command = Command::new("sh");
    command.arg("-i").env("PS1", "prompt> ").env_remove("ENV");
    command.envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut shell = Console::start(&command, 80, 24);
    shell.wait_for("prompt>");
    shell
}

/// Types a command.
fn run(shell: &Console, command: &Command) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = shlex::try_join(words.map(|it| it.to_str().unwrap())).unwrap();
    shell.press(&format!("{line}\r"));
}

/// Waits until the shell's screen, its cursor and its modes are back.
#[track_caller]
fn wait_restored(shell: &mut Console, before: &Termios) {
    shell.wait_screen("the shell's screen", |it| {
        !it.alternate_screen() && !it.hide_cursor() && !it.bracketed_paste()
    });
    wait_until("the shell's modes", || modes(shell) == *before);
}

fn child_of(pid: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_signals_out() {
    let mut deck = flood();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut console = stuck(&deck);
        kill(console.pid(), signal);
        wait_end(&mut console);
        assert!(modes(&console).local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    }
    // Nor a key.
    let mut console = stuck(&deck);
    console.press("\x03");
    wait_end(&mut console);
    deck.catch_up();
    assert!(is_alive(deck.pid("flood")));
}

#[test]
fn a_terminal_that_takes_again_shows_what_is_the_case_now() {
    let deck = flood();
    let mut console = stuck(&deck);
    // The log goes on, and so do keys.
    console.press("q");
    console.press("?");
    deck.ok(&["stop", "flood"]);
    console.release();
    console.wait_for("rolling restart of the service");
    console.press("\x1b");
    console.wait_for("STOPPED");
    let before = console.raw.len();
    console.press("?");
    console.wait_for("rolling restart of the service");
    assert!(console.raw.len() - before < 8192, "a queue of frames: {}", console.raw.len() - before);
    console.press("q");
    console.press("q");
    assert!(console.end());
}

#[test]
fn sigterm_and_sighup_give_the_terminal_back() {
    let deck = flood();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let command = deck.command(&[]);
        // A shell around it, so that the modes can be read before.
        let mut shell = shell(&command);
        let before = modes(&shell);
        run(&shell, &command);
        shell.wait_for("RUNNING");
        assert!(!modes(&shell).local_flags.contains(LocalFlags::ICANON));
        assert!(shell.screen.screen().alternate_screen());
        let deck_pid = child_of(shell.pid());
        kill(deck_pid, signal);
        wait_restored(&mut shell, &before);
        shell.press("exit\r");
        shell.end();
    }
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_comes_back() {
    let deck = flood();
    let command = deck.command(&[]);
    let mut shell = shell(&command);
    let before = modes(&shell);
    run(&shell, &command);
    shell.wait_for("RUNNING");
    for _ in 0..2 {
        shell.press("\x1a");
        shell.wait_for("Stopped");
        wait_restored(&mut shell, &before);
        shell.press("echo $((40+2)) here\r");
        shell.wait_for("42 here");
        shell.press("fg\r");
        shell.wait("the table", |it| it.contains("RUNNING") && !it.contains("42 here"));
        assert!(!modes(&shell).local_flags.contains(LocalFlags::ICANON));
    }
    // It works, and what the terminal answered did not reach the shell.
    shell.press("?");
    shell.wait_for("rolling restart of the service");
    shell.press("q");
    shell.press("q");
    shell.wait_for("opsdeck shutdown");
    wait_restored(&mut shell, &before);
    assert!(!shell.text().contains("[0n"), "{}", shell.text());
    shell.press("exit\r");
    shell.end();
}

#[test]
fn a_terminal_that_goes_away_ends_the_deck_and_nothing_else() {
    let mut deck = flood();
    // With a hang-up from the kernel, and where the terminal is nobody's: the end of the file.
    for options in [&["--ctty", "--wait"] as &[_], &["--wait"]] {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        for end in [&pty.master, &pty.slave] {
            let flags = nix::fcntl::FdFlag::FD_CLOEXEC;
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(flags)).unwrap();
        }
        let tty = File::from(pty.slave);
        let opsdeck = deck.command(&[]);
        let mut command = Command::new("setsid");
        command.args(options).arg(opsdeck.get_program()).args(opsdeck.get_args());
        command.stdin(tty.try_clone().unwrap()).stdout(tty.try_clone().unwrap()).stderr(tty);
        let mut child = command.env("TERM", "xterm").spawn().unwrap();
        drop(command);
        let mut master = File::from(pty.master);
        let mut seen = vec![];
        while !String::from_utf8_lossy(&seen).contains("RUNNING") {
            let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(PATIENCE).unwrap();
            assert_eq!(poll(&mut fds, patience).unwrap(), 1, "{seen:?}");
            let mut bytes = [0; 4096];
            let n = master.read(&mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..n]);
        }
        drop(master);
        wait_until("ended", || child.try_wait().unwrap().is_some());
    }
    deck.catch_up();
    assert!(is_alive(deck.pid("flood")));
}

/// Run by the test below, in a terminal of its own.
#[test]
#[ignore = "it panics, on purpose"]
fn panicking() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminal = Terminal::enter().unwrap();
        // Half a sequence is on its way when it happens.
        terminal.output().send(b"in the deck's hands\x1b[3").unwrap();
        let mut key = [0];
        std::io::stdin().read_exact(&mut key).unwrap();
        panic!("the last words");
    });
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_speaks() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // A backtrace would push the last words off the screen.
    command.env("RUST_BACKTRACE", "0");
    command.args(["--exact", "panicking", "--ignored", "--nocapture", "--test-threads=1"]);
    let mut shell = shell(&command);
    let before = modes(&shell);
    run(&shell, &command);
    shell.wait_for("in the deck's hands");
    assert!(shell.screen.screen().alternate_screen() && shell.screen.screen().hide_cursor());
    assert!(!modes(&shell).local_flags.contains(LocalFlags::ICANON));
    shell.press("x");
    shell.wait_for("the last words");
    wait_restored(&mut shell, &before);
    // What is said after them does not go over them.
    shell.wait_for("test result: FAILED");
    assert!(shell.text().contains("the last words"), "{}", shell.text());
    shell.press("exit\r");
    shell.end();
}

#[test]
fn a_terminal_with_a_wrong_name_or_few_talents_shows_the_deck_and_is_given_back() {
    let mut deck = flood();
    for (term, has_colors) in
        [("dumb", false), ("vt100", false), ("nonsense", true), ("screen", true), ("linux", true)]
    {
        let mut command = deck.command(&[]);
        command.env("TERM", term).env_remove("COLORTERM").env_remove("NO_COLOR");
        let mut console = Console::start(&command, 80, 24);
        console.wait_for("RUNNING");
        console.press("q");
        assert!(console.end(), "{term}");
        let raw = String::from_utf8_lossy(&console.raw).into_owned();
        assert_eq!(console.has_colors(), has_colors, "{term}: {}", raw.escape_debug());
        assert!(!raw.contains("\x1b[?1000h"), "nobody asked for the mouse");
        assert!(console.text().contains("opsdeck shutdown"), "{term}: {}", console.text());
    }
    deck.catch_up();
    assert!(is_alive(deck.pid("flood")));
}

#[test]
fn a_storm_of_sizes_ends_with_a_whole_screen_of_the_last_one() {
    let deck = flood();
    let mut console = looking_at(&deck);
    for n in 0..40u16 {
        resize(&console, 20 + n * 37 % 200, 3 + n * 13 % 60);
    }
    resize(&console, 62, 11);
    console.screen.screen_mut().set_size(11.try_into().unwrap(), 62.try_into().unwrap());
    // What is drawn from here on is of this size, and all of it is drawn anew.
    console.press("\x0c");
    console.wait_screen("a whole screen", |it| {
        let lines: Vec<String> = it.rows(0, 62).collect();
        lines[0].contains("opsdeck test") && lines[10].contains("q detach")
    });
    console.press("q");
    assert!(console.end());
}

#[test]
fn the_mouse_is_heard_where_it_is_wanted_and_let_go_at_the_end() {
    let deck = flood();
    let mut console = Console::start(&deck.command(&["--mouse"]), 80, 24);
    console.wait_for("RUNNING");
    console.wait_screen("the mouse", |it| {
        it.mouse_protocol_mode() == vt100::MouseProtocolMode::PressRelease
    });
    // Twice on the first row.
    console.press("\x1b[<0;5;3M\x1b[<0;5;3m\x1b[<0;5;3M\x1b[<0;5;3m");
    console.wait("the detail", |it| it.contains("Esc back"));
    console.press("\x1b");
    console.wait_for("q detach");
    console.press("q");
    assert!(console.end());
    assert_eq!(console.screen.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
}

/// Changes the size of the terminal, as the window it is in does.
fn resize(console: &Console, columns: u16, rows: u16) {
    let mut stty = Command::new("stty");
    stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
    assert!(stty.stdin(console.pty().try_clone().unwrap()).status().unwrap().success());
}
