//! The daemon dies, the services do not: what the next one finds, and what is left when all is over.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use support::processes::{instances_of, logger, pids};
use support::{Deck, OPSDECK, find, free_port, is_alive, kill, output_of, wait_until};

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

/// Whether this kernel tells others than the parent how a process has ended (6.15).
fn ends_are_told() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
}

#[test]
fn how_an_adopted_process_ends_decides_whether_there_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let job = |name: &str, code: u32| {
        format!(
            "[service.{name}]\ncommand = [\"sh\", \"-c\", \"while [ ! -e {name}.go ]; do sleep 0.05; done; exit {code}\"]\n\
             directory = \"{}\"\nrestart = \"on-failure\"\nstart_seconds = \"100ms\"\n",
            dir.path().display()
        )
    };
    let mut deck = Deck::start(&format!("{}{}", job("good", 0), job("bad", 7)));
    deck.wait_ready(&["good", "bad"]);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["good", "bad"]);
    for name in ["good", "bad"] {
        std::fs::write(dir.path().join(format!("{name}.go")), "").unwrap();
    }
    if !ends_are_told() {
        deck.wait_event("ended; how is not known");
        return;
    }
    deck.wait_state("good", State::Exited);
    let ended = |name: &str| deck.instance(name).last_exit.and_then(|it| it.code);
    assert_eq!(ended("good"), Some(0), "{}", deck.story());
    deck.wait("the next one", |it, _| find(it, "bad").is_some_and(|it| it.generation > 1));
    deck.wait_event("exited with code 7");
    assert_eq!(deck.instance("good").generation, 1);
}

#[test]
fn since_when_it_is_so_is_known_to_the_next_daemon() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    deck.ok(&["stop", "stopped"]);
    deck.wait_state("stopped", State::Stopped);
    let since = ["chatty", "stopped"].map(|it| deck.instance(it).since.unwrap());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["chatty", "mortal"]);
    let after = ["chatty", "stopped"].map(|it| deck.instance(it).since.unwrap());
    for (before, after) in since.into_iter().zip(after) {
        // A moment of the wall clock is computed anew from one of the boot clock.
        let apart = after.duration_since(before).as_millis().abs();
        assert!(apart < 20, "{before} {after}");
    }
}

#[test]
fn what_runs_stays_on_its_port_under_the_next_daemon_until_it_is_started_anew() {
    let ports = [free_port(), free_port()];
    let service = |port: u16| {
        let probe = "{ http.path = \"/readiness\", period = \"50ms\", failure_threshold = 1, timeout = \"20s\" }";
        format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\nprobe.readiness = {probe}\n\
             probe.startup = {{ http.path = \"/readiness\", period = \"50ms\", failure_threshold = 600 }}\n\
             probe.liveness = {probe}\ninstance.web1 = {{ port = {port} }}\n"
        )
    };
    let mut deck = Deck::start(&service(ports[0]));
    deck.wait_ready(&["web1"]);
    let first = deck.pid("web1");
    // The record of the first of them is what the second one goes by.
    for _ in 0..2 {
        deck.restart_daemon(|deck| {
            kill(deck.daemon_pid(), Signal::SIGKILL);
            deck.write_config(&service(ports[1]));
        });
        deck.wait("it is ready where it listens", |it, _| {
            find(it, "web1").is_some_and(|it| {
                it.pid == Some(first) && it.ready == Some(true) && it.live == Some(true) && it.stale
            })
        });
    }
    deck.ok(&["restart", "web1"]);
    deck.wait("it is where it is to listen", |it, _| {
        find(it, "web1")
            .is_some_and(|it| it.pid != Some(first) && it.ready == Some(true) && !it.stale)
    });
    assert_eq!((deck.instance("web1").generation, deck.instance("web1").restarts), (2, 0));
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

/// How often `line` is in the log of an instance.
fn count_in_log(deck: &Path, name: &str, line: &str) -> usize {
    let log = std::fs::read_to_string(deck.join(format!("state/logs/{name}.log"))).unwrap();
    log.lines().filter(|it| *it == line).count()
}

#[test]
fn a_countdown_goes_on_to_its_moment_under_the_next_daemon_and_no_signal_is_sent_twice() {
    let mut deck = Deck::start(
        "[service.deaf]\ncommand = ['sh', '-c', '''trap \"echo heard\" TERM
         echo up; while :; do sleep 0.05; done''']\nstart_seconds = '100ms'\nmax_wait_time = '5s'",
    );
    deck.wait_ready(&["deaf"]);
    deck.wait_line("deaf", "up");
    let pid = deck.pid("deaf");
    deck.ok(&["stop", "--no-wait", "deaf"]);
    deck.wait_line("deaf", "heard");
    deck.wait_event("SIGTERM");
    let began = deck.events.iter().find(|it| it.kind == "signal-sent").unwrap().at;
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait("the next daemon's word on it", |it, _| find(it, "deaf").is_some());
    // A machine that is very busy comes too late to see it.
    if let Some(it) = deck.instance("deaf").countdown {
        assert_eq!((it.max_wait_time_ms, it.rung.as_deref()), (5000, Some("SIGTERM")));
    }

    deck.wait_state("deaf", State::Stopped);
    let killed = deck.wait_event("SIGKILL: max_wait_time was over");
    let after = killed.at.duration_since(began).as_millis();
    assert!(after >= 4900, "SIGKILL {after} ms after SIGTERM");
    assert!(!is_alive(pid));
    assert_eq!(count_in_log(deck.path(), "deaf", "heard"), 1);
}

#[test]
fn what_was_given_up_stays_so_under_the_next_daemon() {
    let mut deck = Deck::start(
        "[service.broken]\ncommand = \"sh -c 'exit 3'\"\nretries = 1\nbackoff = { min = '50ms' }",
    );
    deck.wait_state("broken", State::Fatal);
    let before = deck.instance("broken");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_state("broken", State::Fatal);
    let after = deck.instance("broken");
    assert_eq!((after.generation, after.restarts), (before.generation, before.restarts));
    deck.ok(&["start", "--no-wait", "broken"]);
    deck.wait("another try", |it, _| {
        find(it, "broken").is_some_and(|it| it.generation > before.generation)
    });
}

#[test]
fn what_was_ready_is_not_said_to_have_become_ready_under_the_next_daemon() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "mortal", "stopped"]);
    let said = |deck: &Deck| deck.ok(&["events"]).matches(" ready").count();
    let before = said(&deck);
    assert_eq!(before, 3, "{}", deck.story());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["chatty", "mortal", "stopped"]);
    assert_eq!(said(&deck), before, "{}", deck.story());
    deck.ok(&["restart", "mortal"]);
    deck.wait_event("ready after");
    assert_eq!(said(&deck), before + 1, "{}", deck.story());
}

/// Everything that runs, by the marks of this deck, is what the daemon knows.
#[track_caller]
fn nothing_runs_but(deck: &Deck, names: &[&str]) {
    let mut alive = instances_of(deck.path());
    let mut known: Vec<_> = names.iter().map(|it| deck.pid(it)).collect();
    alive.sort_unstable();
    known.sort_unstable();
    assert_eq!(alive, known, "{}", deck.story());
}

/// Does something to the state file while no daemon is there; returns the pids of before.
fn with_another_state_file(deck: &mut Deck, change: impl Fn(&Path)) -> [i32; 2] {
    deck.wait_ready(&["chatty", "mortal"]);
    let pids = ["chatty", "mortal"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
        change(&deck.path().join("state/state.jsonl"));
    });
    deck.wait_ready(&["chatty", "mortal"]);
    pids
}

#[test]
fn what_no_record_names_is_taken_over_and_not_started_beside_itself() {
    let mut deck = Deck::start(THREE);
    let pids = with_another_state_file(&mut deck, |it| std::fs::remove_file(it).unwrap());
    assert_eq!(["chatty", "mortal"].map(|it| deck.pid(it)), pids, "{}", deck.story());
    deck.wait_ready(&["stopped"]);
    nothing_runs_but(&deck, &["chatty", "mortal", "stopped"]);
    for name in ["chatty", "mortal"] {
        let told = |it: &opsdeck::api::Event| {
            it.instance.as_deref() == Some(name) && it.message.contains("no record names it")
        };
        assert!(deck.events.iter().any(told), "{}", deck.story());
    }
    deck.ok(&["restart", "chatty"]);
    assert!(!is_alive(pids[0]));
}

#[test]
fn a_damaged_state_file_is_set_aside_and_what_runs_is_found() {
    let mut deck = Deck::start(THREE);
    let pids = with_another_state_file(&mut deck, |it| {
        std::fs::write(it, [b"\0\0\xff nothing of this\n".repeat(99)].concat()).unwrap();
    });
    assert_eq!(["chatty", "mortal"].map(|it| deck.pid(it)), pids, "{}", deck.story());
    let event = deck.wait_event("does not begin as it should; it is kept as ");
    assert_eq!(event.kind, "state-file");
    let names = std::fs::read_dir(deck.path().join("state")).unwrap().map(|it| it.unwrap());
    let aside =
        |it: &std::fs::DirEntry| it.file_name().to_string_lossy().starts_with("state.broken-");
    assert_eq!(names.filter(aside).count(), 1);
}

#[test]
fn what_is_neither_recorded_nor_configured_is_stopped() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "mortal", "stopped"]);
    let mortal = deck.pid("mortal");
    let rest = THREE.split("[service.mortal]").next().unwrap().to_owned();
    with_another_state_file_and_config(&mut deck, &rest);
    deck.wait_event("and mortal is not configured: it is stopped");
    wait_until("mortal gone", || !is_alive(mortal));
    deck.wait_ready(&["chatty", "stopped"]);
    nothing_runs_but(&deck, &["chatty", "stopped"]);
}

fn with_another_state_file_and_config(deck: &mut Deck, services: &str) {
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
        std::fs::remove_file(deck.path().join("state/state.jsonl")).unwrap();
        deck.write_config(services);
    });
}

/// A daemon of this deck sleeps: it waits for something.
fn is_waited_for(deck: &Path) -> bool {
    let config = deck.join("config.toml").display().to_string();
    pids().into_iter().any(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let sleeps = stat.rsplit(')').next().is_some_and(|it| it.starts_with(" S"));
        sleeps && line.split('\0').nth(1) == Some("daemon") && line.contains(&config)
    })
}

#[test]
fn a_lock_that_outlives_its_daemon_for_a_moment_is_waited_for() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty"]);
    let pid = deck.pid("chatty");
    let path = deck.path().join("state/opsdeck.lock");
    let mut waiter = None;
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        let mut lock = None;
        wait_until("the lock", || {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).ok();
            lock.is_some()
        });
        // As a child between clone(2) and execve(2) would: until the next daemon stands before it.
        waiter = Some(std::thread::spawn({
            let deck = deck.path().to_owned();
            move || {
                wait_until("the next daemon", || is_waited_for(&deck));
                drop(lock);
            }
        }));
    });
    waiter.unwrap().join().unwrap();
    deck.wait_ready(&["chatty"]);
    assert_eq!(deck.pid("chatty"), pid);
}

#[test]
fn a_daemon_that_cannot_reach_all_that_runs_does_not_begin() {
    let names: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
    let services: String =
        names.iter().map(|it| format!("[service.{it}]\ncommand = \"sleep 600\"\n")).collect();
    let mut deck = Deck::start(&services);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    deck.wait_ready(&all);
    let pids: Vec<i32> = all.iter().map(|it| deck.pid(it)).collect();

    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon is dead", || !is_alive(deck.daemon_pid()));
        // Enough to begin with, and too few for sixty more.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 70 && exec \"$0\" --config \"$1\" daemon", OPSDECK]);
        command.arg(deck.path().join("config.toml")).stdin(Stdio::null());
        let output = output_of(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("could not take over s"), "{said}");
        assert!(said.contains("everything runs on"), "{said}");
    });

    deck.wait_ready(&all);
    assert_eq!(all.iter().map(|it| deck.pid(it)).collect::<Vec<_>>(), pids, "{}", deck.story());
}

#[test]
fn a_record_that_is_older_than_what_runs_ends_nothing() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    let (state, aside) = (deck.path().join("state/state.jsonl"), deck.path().join("backup"));
    std::fs::copy(&state, &aside).unwrap();
    deck.ok(&["restart", "chatty", "mortal"]);
    deck.wait("the next ones", |it, _| {
        ["chatty", "mortal"].iter().all(|name| {
            find(it, name).is_some_and(|it| it.generation == 2 && it.ready == Some(true))
        })
    });
    let pids = ["chatty", "stopped", "mortal"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon is dead", || !is_alive(deck.daemon_pid()));
        std::fs::rename(&aside, &state).unwrap();
    });
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    assert_eq!(["chatty", "stopped", "mortal"].map(|it| deck.pid(it)), pids, "{}", deck.story());
    assert_eq!((deck.instance("chatty").generation, deck.instance("stopped").generation), (2, 1));
    deck.wait_event("although the state has an older one of it");
    // The next one is begun as ever.
    deck.ok(&["restart", "chatty"]);
    deck.wait("the next one", |it, _| find(it, "chatty").is_some_and(|it| it.generation == 3));
    assert!(!is_alive(pids[0]));
}

#[test]
fn an_instance_whose_cgroup_somebody_has_killed_is_started_again() {
    let mut deck = Deck::start(THREE);
    deck.wait_ready(&["stopped"]);
    let pid = deck.pid("stopped");
    let of = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = of.lines().find_map(|it| it.strip_prefix("0::")).unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|it| it.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.and_then(|it| it.split(' ').nth(1)).unwrap_or_default();
    let kill_all = Path::new(&format!("{mount}{path}")).join("cgroup.kill");
    if !path.ends_with(".instance") || std::fs::write(&kill_all, "1").is_err() {
        return support::skip::skip("cgroups that can be killed");
    }
    wait_until("it is dead", || !is_alive(pid));
    deck.wait("the next one stays", |it, _| {
        find(it, "stopped").is_some_and(|it| it.pid.is_some_and(|it| it != pid))
    });
    deck.wait_ready(&["stopped"]);
    assert!(deck.instance("stopped").generation <= 3, "{}", deck.story());
}
