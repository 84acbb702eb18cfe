//! The daemon dies, the services do not: what the next one finds, and what is left when all is over.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use support::{Deck, find, is_alive, kill, wait_until};

const THREE: &str = r#"
    [defaults]
    start_seconds = "100ms"
    [service.chatty]
    command = "opsdeck sample --worker --print-every 20ms --work 0s"
    [service.stopped]
    command = "opsdeck sample --worker"
    [service.mortal]
    command = "opsdeck sample --worker"
"#;

/// All processes but zombies that carry the mark of this deck's instances.
fn instances_of(deck: &Path) -> Vec<i32> {
    let mark = format!("@{}", deck.join("state").display());
    let carries_mark = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment)
            .split('\0')
            .any(|it| it.starts_with("OPSDECK_INSTANCE=") && it.ends_with(&mark))
    };
    pids().into_iter().filter(carries_mark).filter(|it| is_alive(*it)).collect()
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// The logger of this deck, and its directory: the socket that it and the daemon talk through.
fn logger(deck: &Deck) -> Option<(i32, PathBuf)> {
    pids().into_iter().find_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = status.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split('\0').skip(1);
        let ours = parent == deck.daemon_pid().to_string() && words.next() == Some("logger");
        ours.then(|| Some((pid, words.next()?.into())))?.filter(|_| is_alive(pid))
    })
}

/// The numbers N of lines `job N done`, as they are in the file.
fn jobs(deck: &Path) -> Vec<u32> {
    let log = std::fs::read_to_string(deck.join("state/logs/chatty.log")).unwrap();
    let number = |line: &str| line.strip_prefix("job ")?.strip_suffix(" done")?.parse().ok();
    log.lines().filter_map(number).collect()
}

/// Ends the daemon with this signal; all that is said of services must be true of the next one.
fn services_outlive_the_daemon(signal: Signal) {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    deck.ok(&["stop", "stopped"]);
    deck.wait_line("chatty", "job 5 done");
    let (chatty, mortal) = (deck.instance("chatty"), deck.instance("mortal"));

    deck.restart_daemon(|deck| {
        let written = jobs(deck.path()).len();
        kill(deck.daemon_pid(), signal);
        wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
        assert!(is_alive(chatty.pid.unwrap()) && is_alive(mortal.pid.unwrap()));
        kill(mortal.pid.unwrap(), Signal::SIGKILL);
        wait_until("output without a daemon", || jobs(deck.path()).len() > written + 10);
    });
    deck.wait_ready(&["chatty", "mortal"]);

    let it = deck.instance("chatty");
    assert_eq!((it.pid, it.generation), (chatty.pid, chatty.generation));
    let it = deck.instance("mortal");
    assert!(it.pid != mortal.pid && it.generation == mortal.generation + 1);
    assert_eq!(deck.instance("stopped").state, State::Stopped);
    let mut alive = instances_of(deck.path());
    let mut known = vec![deck.pid("chatty"), deck.pid("mortal")];
    alive.sort_unstable();
    known.sort_unstable();
    assert_eq!(alive, known, "{}", deck.story());

    let written = jobs(deck.path()).len();
    wait_until("output goes on", || jobs(deck.path()).len() > written + 10);
    let jobs = jobs(deck.path());
    assert_eq!(jobs, (1..=u32::try_from(jobs.len()).unwrap()).collect::<Vec<_>>());

    // An adopted process is stopped and started like any other.
    deck.ok(&["restart", "chatty"]);
    deck.wait("chatty renewed", |it, _| {
        find(it, "chatty").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert!(!is_alive(chatty.pid.unwrap()));
}

#[test]
fn services_outlive_a_daemon_that_is_told_to_end() {
    services_outlive_the_daemon(Signal::SIGTERM);
}

#[test]
fn services_outlive_a_daemon_that_is_killed() {
    services_outlive_the_daemon(Signal::SIGKILL);
}

#[test]
fn an_adopted_process_that_is_killed_is_replaced() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty"]);
    let pid = deck.pid("chatty");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_event(&format!("found running, pid {pid}"));
    kill(pid, Signal::SIGKILL);
    deck.wait("chatty replaced", |it, _| {
        find(it, "chatty").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty"]);
    let output = deck.opsdeck(&["daemon"]);
    assert_eq!(output.status.code(), Some(1));
    let notice = String::from_utf8(output.stderr).unwrap();
    assert!(notice.contains(&format!("another daemon (pid {})", deck.daemon_pid())), "{notice}");
    deck.ok(&["status"]);
}

#[test]
fn a_logger_that_is_killed_is_replaced_and_no_line_is_lost_or_doubled() {
    const LINES: usize = 300_000;
    let mut deck = Deck::start(&format!(
        "[service.chatty]\ncommand = ['sh', '-c', '''i=0
         while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exec sleep 1000''']"
    ));
    let log = deck.path().join("state/logs/chatty.log");
    let size = || std::fs::metadata(&log).map_or(0, |it| it.len());
    deck.wait("chatty begun", |it, _| find(it, "chatty").is_some_and(|it| it.pid.is_some()));
    for _ in 0..4 {
        let before = size();
        wait_until("output is kept", || size() > before + 100_000);
        let (pid, _) = logger(&deck).unwrap();
        kill(pid, Signal::SIGKILL);
        wait_until("a new logger", || logger(&deck).is_some_and(|(it, _)| it != pid));
    }
    let last = format!("line {}\n", LINES - 1);
    wait_until("the last line", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with(&last))
    });
    let text = std::fs::read_to_string(&log).unwrap();
    let wrong = text.lines().enumerate().find(|(n, line)| *line != format!("line {n}"));
    assert_eq!(wrong, None);
    assert_eq!(text.lines().count(), LINES);
}

#[test]
fn shutdown_leaves_no_process_no_runtime_directory_and_no_cgroup() {
    let mut deck = Deck::start(
        r#"[defaults]
        start_seconds = "100ms"
        [service.family]
        command = "opsdeck sample --worker --fork-grandchild"
        [service.loner]
        command = "opsdeck sample --worker""#,
    );
    deck.wait_ready(&["family", "loner"]);
    deck.wait_line("family", "left the group");
    let (logger, runtime_dir) = logger(&deck).unwrap();
    assert!(runtime_dir.join("family.fifo").exists());
    let cgroup = cgroup_of(deck.pid("family"));
    assert_eq!(instances_of(deck.path()).len(), 3);

    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert_eq!(instances_of(deck.path()), Vec::<i32>::new());
    wait_until("the logger gone", || !is_alive(logger));
    assert!(!runtime_dir.exists(), "{} is there", runtime_dir.display());
    assert!(!deck.socket().exists());
    assert!(cgroup.is_none_or(|it| !it.exists()));
}

/// The cgroup that was made for an instance, where this host lets us make any.
fn cgroup_of(pid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|it| it.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|it| Path::new(it).join(path));
    let ours = path.ends_with(".instance");
    ours.then(|| roots.into_iter().find(|it| it.exists()).unwrap())
}

#[test]
fn a_shutdown_that_keeps_leaves_everything_to_the_next_daemon() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    let pids = ["chatty", "stopped", "mortal"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        deck.ok(&["shutdown", "--keep"]);
        assert!(pids.iter().all(|it| is_alive(*it)));
        assert!(!deck.socket().exists());
        assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(4));
    });
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    assert_eq!(["chatty", "stopped", "mortal"].map(|it| deck.pid(it)), pids);
}
