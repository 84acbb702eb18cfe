//! The daemon as a unit of systemd: what it says and when, what its unit asks for, what the journal gets.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::{Deck, OPSDECK, PATIENCE, is_alive, kill, output_of, wait_until};

const UNIT: &str = include_str!("../assets/opsdeck.service");
const ONE: &str = r#"
    [service.steady]
    command = "opsdeck sample --worker"
    start_seconds = "100ms"
"#;

/// Where a daemon says how it is.
struct Listener {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Listener {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: vec![] }
    }

    /// The next message that begins so; what comes before it is kept to be shown.
    #[track_caller]
    fn hear(&mut self, beginning: &str, deck: &Deck) -> String {
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer) else {
                panic!("no {beginning} after {:?}\n{}", self.heard, deck.story());
            };
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

/// Variables of the environment that a process was started with.
fn variables(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let names = bytes.split(|it| *it == 0).map(|it| it.split(|it| *it == b'=').next().unwrap());
    names.map(|it| String::from_utf8(it.to_vec()).unwrap()).collect()
}

#[test]
fn it_says_when_it_is_ready_reloads_is_replaced_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let mut systemd = Listener::new(UnixDatagram::bind(&path).unwrap());
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let mut deck = Deck::start_in(&["env", &notify, "WATCHDOG_USEC=200000"], ONE, |_| ());
    let ready = format!("READY=1\nMAINPID={}", deck.daemon_pid());
    assert_eq!(systemd.hear("READY=1", &deck), ready);
    systemd.hear("WATCHDOG=1", &deck);
    systemd.hear("WATCHDOG=1", &deck);
    deck.wait_ready(&["steady"]);
    let seen = variables(deck.pid("steady"));
    assert!(!seen.iter().any(|it| it == "NOTIFY_SOCKET" || it == "WATCHDOG_USEC"), "{seen:?}");

    let since_boot = |message: &str| -> u64 {
        message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap()
    };
    kill(deck.daemon_pid(), Signal::SIGHUP);
    let first = since_boot(&systemd.hear("RELOADING=1", &deck));
    systemd.hear("READY=1", &deck);

    kill(deck.daemon_pid(), Signal::SIGUSR2);
    assert!(since_boot(&systemd.hear("RELOADING=1", &deck)) > first);
    // Until the next program is up, its guardian is the one to watch.
    assert_ne!(systemd.hear("MAINPID=", &deck), format!("MAINPID={}", deck.daemon_pid()));
    assert_eq!(systemd.hear("READY=1", &deck), ready, "the same process");
    systemd.hear("WATCHDOG=1", &deck);

    let steady = deck.pid("steady");
    kill(deck.daemon_pid(), Signal::SIGTERM);
    systemd.hear("STOPPING=1", &deck);
    deck.watch_anew();
    deck.wait_end();
    assert!(is_alive(steady), "the next one takes it over");
    kill(steady, Signal::SIGKILL);
}

/// Puts a script in the place of the daemon's program: what it does as the daemon, before it becomes it, after
/// it has passed its check. Written by another process: a child of this one that is just being started could
/// hold it open.
fn become_script(deck: &Path, as_daemon: &str) {
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' --check '*) ;; *' daemon '*) {as_daemon} ;; esac\nexec {OPSDECK} \"$@\"\n"
    );
    let write = "printf %s \"$1\" > \"$2.new\" && chmod 755 \"$2.new\" && mv -f \"$2.new\" \"$2\"";
    let program = deck.join("bin/opsdeck").display().to_string();
    let output = output_of(Command::new("sh").args(["-c", write, "sh", &script, &program]));
    assert!(output.status.success(), "{output:?}");
}

/// A deck whose host goes down, in the middle of a replacement by a program that does this: what systemd would
/// send to the main process goes to the guardian, and all that runs is stopped before the unit ends.
fn ends_in_the_window(trial: &str, as_daemon: impl Fn(&Path) -> String, go_on: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let mut systemd = Listener::new(UnixDatagram::bind(&path).unwrap());
    let environment = format!("export NOTIFY_SOCKET={}", path.display());
    let command = format!("{environment}; exec \"$0\" \"$@\" --trial {trial}");
    let prepare = |deck: &Path| systemctl(deck, "stopping");
    let mut deck = Deck::start_in(&["sh", "-c", &command], ONE, prepare);
    deck.wait_ready(&["steady"]);
    let (daemon, steady) = (deck.daemon_pid(), deck.pid("steady"));
    become_script(deck.path(), &as_daemon(deck.path()));
    kill(daemon, Signal::SIGUSR2);
    systemd.hear("RELOADING=1", &deck);
    let guardian = systemd.hear("MAINPID=", &deck);
    let guardian: i32 = guardian.strip_prefix("MAINPID=").unwrap().parse().unwrap();
    assert_ne!(guardian, daemon);

    kill(guardian, Signal::SIGTERM);
    go_on(deck.path());
    systemd.hear("STOPPING=1", &deck);
    for (who, pid) in [("service", steady), ("daemon", daemon), ("guardian", guardian)] {
        wait_until(who, || !is_alive(pid));
    }
    let journal = std::fs::read_to_string(deck.path().join("state/journal.jsonl")).unwrap();
    assert!(journal.contains("stopping all services, then the daemon"), "{journal}");
}

#[test]
fn a_term_between_two_programs_reaches_the_next_one() {
    let gate = |deck: &Path| deck.join("gate");
    let waits = |deck: &Path| {
        let gate = gate(deck);
        assert!(output_of(Command::new("mkfifo").arg(&gate)).status.success());
        format!("read it < {}", gate.display())
    };
    ends_in_the_window("20s", waits, |deck| std::fs::write(gate(deck), "go\n").unwrap());
}

#[test]
fn a_term_that_a_next_program_never_heard_reaches_the_one_that_is_back() {
    ends_in_the_window("500ms", |_| "exec sleep 1000".into(), |_| ());
}

#[test]
fn a_next_program_that_hangs_leaves_systemd_with_the_guardian() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let mut systemd = Listener::new(UnixDatagram::bind(&path).unwrap());
    let environment = "export NOTIFY_SOCKET=\"$0\" WATCHDOG_USEC=400000 WATCHDOG_PID=$$";
    let command = format!("{environment}; exec \"$@\" --trial 500ms");
    let notify = path.display().to_string();
    let mut deck = Deck::start_in(&["sh", "-c", &command, &notify], ONE, |_| ());
    systemd.hear("READY=1", &deck);
    systemd.hear("WATCHDOG=1", &deck);
    deck.wait_ready(&["steady"]);
    let (daemon, steady) = (deck.daemon_pid(), deck.pid("steady"));
    become_script(deck.path(), "exec sleep 1000");
    kill(daemon, Signal::SIGUSR2);
    systemd.hear("RELOADING=1", &deck);
    let guardian = systemd.hear("MAINPID=", &deck);
    assert_ne!(guardian, format!("MAINPID={daemon}"));
    // It speaks for a program that says nothing, and when that is killed it is the daemon.
    systemd.hear("WATCHDOG=1", &deck);
    assert_eq!(systemd.hear("READY=1", &deck), format!("READY=1\n{guardian}"));
    systemd.hear("WATCHDOG=1", &deck);
    deck.watch_anew();
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);
    assert!(!is_alive(daemon));
    deck.ok(&["shutdown"]);
}

#[test]
fn an_abstract_socket_will_do() {
    let name = format!("opsdeck-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut systemd = Listener::new(UnixDatagram::bind_addr(&address).unwrap());
    let deck = Deck::start_in(&["env", &format!("NOTIFY_SOCKET=@{name}")], "", |_| ());
    systemd.hear("READY=1", &deck);
    assert!(!systemd.heard.iter().any(|it| it.starts_with("WATCHDOG")), "nobody asked for it");
}

/// A systemctl that says this, in the daemon's own PATH.
fn systemctl(deck: &Path, says: &str) {
    let path = deck.join("bin/systemctl");
    // Written by another process: a child of this one that is just being started could hold it open.
    let write = "printf '#!/bin/sh\\necho %s\\nexit 1\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let output = output_of(Command::new("sh").args(["-c", write, "sh", says]).arg(&path));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_term_while_the_host_goes_down_stops_everything() {
    let wrapper = ["env", "NOTIFY_SOCKET=/nowhere/at/all"];
    let mut deck = Deck::start_in(&wrapper, ONE, |deck| systemctl(deck, "stopping"));
    deck.wait_ready(&["steady"]);
    let steady = deck.pid("steady");
    kill(deck.daemon_pid(), Signal::SIGTERM);
    deck.wait_event("stopping all services, then the daemon");
    deck.wait_end();
    assert!(!is_alive(steady));
}

#[test]
fn a_term_on_a_host_that_stays_keeps_everything() {
    let wrapper = ["env", "NOTIFY_SOCKET=/nowhere/at/all"];
    let mut deck = Deck::start_in(&wrapper, ONE, |deck| systemctl(deck, "degraded"));
    deck.wait_ready(&["steady"]);
    let steady = deck.pid("steady");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGTERM));
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    let told = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$0\" \"$@\"";
    let mut deck = Deck::start_in(&["sh", "-c", told], ONE, |_| ());
    deck.wait_ready(&["steady"]);
    let log = std::fs::read_to_string(deck.path().join("daemon.log")).unwrap();
    assert!(log.contains("<6>opsdeck::daemon::boot: the daemon is up"), "{log}");
    let is_entry =
        |line: &str| line.as_bytes().get(..3).is_some_and(|it| it[0] == b'<' && it[2] == b'>');
    assert!(log.lines().all(is_entry) && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_unit_lets_services_outlive_the_daemon() {
    let lines: Vec<_> = UNIT.lines().collect();
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "KillMode=process",
        "Delegate=yes",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "Restart=always",
        // What an order ends stays down; what a signal ends comes back.
        "RestartPreventExitStatus=0",
        "SuccessExitStatus=143",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    assert!(lines.iter().any(|it| it.starts_with("LimitNOFILE=")));
    assert!(lines.iter().any(|it| it.starts_with("WatchdogSec=")));
    for inherited in
        ["Protect", "Private", "NoNewPrivileges", "Restrict", "SystemCall", "CapabilityBounding"]
    {
        assert!(!lines.iter().any(|it| it.starts_with(inherited)), "{inherited}");
    }
}

#[test]
fn a_signal_ends_it_with_another_code_than_an_order() {
    let deck = Deck::start(ONE);
    deck.ok(&["shutdown", "--keep"]);
    let begin = || {
        let daemon = deck.command(&["daemon"]).stdin(Stdio::null()).spawn().unwrap();
        wait_until("it answers", || deck.opsdeck(&["status"]).status.code() != Some(4));
        daemon
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = begin();
        kill(i32::try_from(daemon.id()).unwrap(), signal);
        assert_eq!(support::ended(&mut daemon).code(), Some(143));
    }
    for order in [&["shutdown", "--keep"][..], &["shutdown"]] {
        let mut daemon = begin();
        deck.ok(order);
        assert_eq!(support::ended(&mut daemon).code(), Some(0));
    }
}

#[test]
fn systemd_understands_the_unit() {
    if !Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_ok_and(|it| it.status.success())
    {
        return eprintln!("skipped: there is no systemd-analyze");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("opsdeck.service");
    std::fs::write(&path, UNIT.replace("/usr/local/bin/opsdeck", OPSDECK)).unwrap();
    let output =
        output_of(Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&path));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let of_ours: Vec<_> = said.lines().filter(|it| it.contains("opsdeck.service")).collect();
    assert!(of_ours.is_empty(), "{said}");
}
