//! Who is told: the record and the report of a rollout, hooks, and the table that goes on.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use opsdeck::api::{self, HookCall, Plan, RolloutRecord};
use support::console::Console;
use support::{Deck, Following, find, free_port, is_alive, kill, output_of, wait_until};
use tempfile::TempDir;

/// Two web instances behind a gateway, the second one a backup.
fn web(flags: &str) -> String {
    format!(
        r#"[service.web]
command = "opsdeck sample --port {{port}} --work 10ms {flags}"
max_wait_time = "20s"
instance.web1 = {{ port = {} }}
instance.web2 = {{ port = {}, backup = true }}
probe.readiness = {{ http.path = "/readiness", period = "50ms", failure_threshold = 2 }}
rollout = {{ build = ["echo built"], settle = "100ms", successes = 2, ready_timeout = "30s" }}

[gateway.shop]
listen = "127.0.0.1:{}"
service = "web"
"#,
        free_port(),
        free_port(),
        free_port()
    )
}

fn record(deck: &Deck) -> RolloutRecord {
    serde_json::from_str(&deck.ok(&["report", "web", "--json"])).unwrap()
}

#[test]
fn a_rollout_is_remembered_with_its_times_also_by_the_next_daemon() {
    let services = web("").replace("echo built", "echo built {version} {api_token}");
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    let none = deck.opsdeck(&["report", "web", "--last-rollout"]);
    let told = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(none.status.code(), Some(1), "{told}");
    assert!(told.contains("there was no rolling restart of web"), "{told}");

    deck.ok(&["roll", "web", "--set", "version=43", "--set", "api_token=hidden"]);
    let before = record(&deck);
    assert_eq!(before.outcome, "done", "{before:?}");
    let steps: Vec<_> =
        before.steps.iter().map(|it| (it.instance.as_str(), it.outcome.as_str())).collect();
    assert_eq!(steps, [("web2", "renewed"), ("web1", "renewed")], "{}", deck.story());
    for step in &before.steps {
        let names: Vec<_> = step.phases.iter().map(|it| it.name.as_str()).collect();
        for name in ["build", "stopping", "readiness", "settle"] {
            assert!(names.contains(&name), "{names:?}\n{}", deck.story());
        }
        assert!(step.phases.is_sorted_by_key(|it| it.began), "{step:?}");
        assert!(step.exit.as_ref().is_some_and(|it| it.contains("exited")), "{step:?}");
    }
    assert!(before.counted.is_some_and(|it| it.cut == 0), "{before:?}");
    assert_eq!(before.set["version"], "43");
    assert_ne!(before.set["api_token"], "hidden");

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1", "web2"]);
    assert_eq!(record(&deck), before);
    let plan = deck.ok(&["roll", "web", "--dry-run", "--json"]);
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    assert!(plan.steps.iter().all(|it| it.expected_ms.is_some()), "{plan:?}");
    assert!(plan.expected_ms.is_some_and(|it| it > 0), "{plan:?}");
    let text = deck.ok(&["roll", "web", "--dry-run"]);
    assert!(text.contains("readiness passes") && text.contains("expected in all"), "{text}");
    let text = deck.ok(&["report", "web", "--last-rollout"]);
    assert!(
        text.contains("Rolling restart of web") && text.contains("Renewed**: 2 of 2"),
        "{text}"
    );
}

#[test]
fn a_halt_leaves_a_report_with_its_evidence() {
    let services = web("");
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    let broken = services
        .replace("--work 10ms", "--never-ready")
        .replace("ready_timeout = \"30s\"", "ready_timeout = \"1s\"");
    deck.write_config(&broken);
    deck.ok(&["config", "apply"]);
    let output = deck.opsdeck(&["roll", "web"]);
    assert_eq!(output.status.code(), Some(1), "{}", deck.story());

    let record = record(&deck);
    assert_eq!(record.outcome, "halted", "{record:?}");
    assert_eq!(record.untouched().collect::<Vec<_>>(), ["web1"], "{record:?}");
    assert_eq!(record.steps[0].outcome, "failed", "{record:?}");
    assert!(record.halted.as_ref().is_some_and(|it| it.contains("web2")), "{record:?}");
    let text = deck.ok(&["report", "web", "--last-rollout"]);
    for part in ["halted", "## Evidence", "readiness probe", "## Not touched", "opsdeck why web2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A deck whose hook adds what it reads to `calls`, and its environment to `environment`.
fn paged(directory: &Path, services: &str) -> Deck {
    let at = directory.display();
    let command = format!("cat >> {at}/calls; env >> {at}/environment");
    Deck::start(&format!("{services}[hooks]\ncommand = [\"sh\", \"-c\", \"{command}\"]\n"))
}

fn calls(directory: &Path) -> Vec<HookCall> {
    let text = std::fs::read_to_string(directory.join("calls")).unwrap_or_default();
    // The last line may still be on its way.
    text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
}

#[test]
fn a_hook_is_told_of_what_was_given_up_and_of_a_rollout_that_halted() {
    let directory = tempfile::tempdir().unwrap();
    let services = "[service.bad]\ncommand = \"sh -c 'echo no such table; exit 3'\"\nretries = 0\n\
                    [service.web]\ncommand = \"sleep 600\"\nrollout.build = [\"false\"]\n";
    let mut deck = paged(directory.path(), services);
    deck.wait_event("given up");
    wait_until("the hook was told", || !calls(directory.path()).is_empty());
    let fatal = calls(directory.path()).remove(0);
    assert_eq!((fatal.event.as_str(), fatal.instance.as_deref()), ("fatal", Some("bad")));
    assert!(fatal.message.contains("given up") && !fatal.host.is_empty(), "{fatal:?}");
    assert!(fatal.evidence.iter().any(|it| it.contains("code 3")), "{fatal:?}");

    deck.wait_ready(&["web"]);
    let output = deck.opsdeck(&["roll", "web", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", deck.story());
    wait_until("the hook was told again", || calls(directory.path()).len() == 2);
    let halted = calls(directory.path()).remove(1);
    assert_eq!((halted.event.as_str(), halted.service.as_deref()), ("rollout_halted", Some("web")));
    let seen = std::fs::read_to_string(directory.path().join("environment")).unwrap();
    assert!(seen.contains("PATH=") && !seen.contains("HOME=") && !seen.contains("TERM="), "{seen}");
}

#[test]
fn a_hook_is_told_of_requests_that_were_lost() {
    let directory = tempfile::tempdir().unwrap();
    let services = web("").replace("--work 10ms", "--work 600s");
    let port: u16 =
        services.rsplit("127.0.0.1:").next().unwrap().split('"').next().unwrap().parse().unwrap();
    let mut deck = paged(directory.path(), &services);
    deck.wait_ready(&["web1", "web2"]);
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(
        &mut client,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    )
    .unwrap();
    deck.wait("a request at web1", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight.is_some_and(|n| n > 0))
    });
    deck.ok(&["stop", "--now", "web1"]);
    wait_until("the hook was told", || calls(directory.path()).iter().any(|it| it.event == "lost"));
    let lost = calls(directory.path()).into_iter().find(|it| it.event == "lost").unwrap();
    assert_eq!((lost.instance.as_deref(), lost.lost), (Some("web1"), 1), "{lost:?}");
}

#[test]
fn a_hook_that_hangs_is_killed_with_all_that_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let command = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let mut deck = Deck::start(&format!(
        "[service.bad]\ncommand = \"false\"\nretries = 0\n\
         [hooks]\ncommand = [\"sh\", \"-c\", \"{command}\"]\ntimeout = \"2s\"\n"
    ));
    let event = deck.wait_event("the hook for fatal was killed");
    assert_eq!(event.kind, "hook-failed");
    let read = || std::fs::read_to_string(&pid).ok()?.trim().parse().ok();
    // On a busy machine it may have been killed before it began.
    if let Some(pid) = read() {
        wait_until("what it started is gone", || !is_alive(pid));
    }
}

/// Two instances that are given up, and a hook that goes on once it reads a line from `gate`.
const GIVEN_UP: &str = "[service.bad1]\ncommand = \"false\"\nretries = 0\n\
                        [service.bad2]\ncommand = \"false\"\nretries = 0\n";

#[test]
fn the_next_daemon_waits_for_a_hook_and_makes_the_calls_that_waited() {
    hook_outlives(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
}

#[test]
fn a_hook_that_runs_on_when_the_daemon_has_ended_is_not_called_twice() {
    hook_outlives(|deck| drop(deck.ok(&["shutdown", "--keep"])));
}

#[track_caller]
fn hook_outlives(end: impl FnOnce(&Deck)) {
    let directory = tempfile::tempdir().unwrap();
    let (at, gate) = (directory.path().display(), directory.path().join("gate"));
    assert!(output_of(Command::new("mkfifo").arg(&gate)).status.success());
    let command = format!("cat >> {at}/calls; read it < {at}/gate");
    let mut deck = Deck::start(&format!(
        "{GIVEN_UP}[hooks]\ncommand = [\"sh\", \"-c\", \"{command}\"]\ntimeout = \"60s\"\n"
    ));
    deck.wait("both given up", |_, events| {
        events.iter().filter(|it| it.kind == "fatal").count() == 2
    });
    wait_until("the hook was told", || !calls(directory.path()).is_empty());
    deck.restart_daemon(end);
    let event = deck.wait_event("the hook for fatal that the last daemon has run goes on: sh (pid");
    assert_eq!(event.kind, "hook-resumed");
    assert_eq!(calls(directory.path()).len(), 1, "one at a time: {}", deck.story());

    let mut gate = std::fs::File::options().read(true).write(true).open(gate).unwrap();
    std::io::Write::write_all(&mut gate, b"go\ngo\n").unwrap();
    let told = || -> BTreeSet<_> {
        calls(directory.path()).into_iter().filter_map(|it| it.instance).collect()
    };
    wait_until("both were told", || told().len() == 2);
    assert_eq!(calls(directory.path()).len(), 2, "each once: {}", deck.story());
}

/// One instance that is given up, and a hook that reads its call and then goes on with `script`, where `$at` is
/// the directory with its `gate`.
struct Hooked {
    deck: Deck,
    directory: TempDir,
    gate: std::fs::File,
}

impl Hooked {
    fn start(timeout: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (at, gate) = (directory.path().display(), directory.path().join("gate"));
        assert!(output_of(Command::new("mkfifo").arg(&gate)).status.success());
        let mut deck = Deck::start(&format!(
            "[service.bad]\ncommand = \"false\"\nretries = 0\n\
             [hooks]\ncommand = [\"sh\", \"-c\", \"at={at}; cat >> $at/calls; {script}\"]\ntimeout = \"{timeout}\"\n"
        ));
        deck.wait_event("given up");
        wait_until("the hook was told", || !calls(directory.path()).is_empty());
        let gate = std::fs::File::options().read(true).write(true).open(gate).unwrap();
        Self { deck, directory, gate }
    }

    fn open_gate(&mut self) {
        std::io::Write::write_all(&mut self.gate, b"go\n").unwrap();
    }

    /// What the hook has written to `ends`.
    fn ends(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("ends")).unwrap_or_default()
    }

    /// Kills the daemon, and begins the next one when this was done.
    fn without_daemon(&mut self, meanwhile: impl FnOnce(&Path, &mut std::fs::File)) {
        let Self { deck, directory, gate } = self;
        deck.restart_daemon(|deck| {
            kill(deck.daemon_pid(), Signal::SIGKILL);
            wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
            meanwhile(directory.path(), gate);
        });
    }
}

#[test]
fn a_hook_prints_on_without_a_daemon_and_the_next_one_tells_how_it_ended() {
    let script = "read it < $at/gate; echo printed; echo on >> $at/ends; read it < $at/gate; \
                  echo no pager; exit 7";
    let mut hook = Hooked::start("60s", script);
    hook.without_daemon(|at, gate| {
        std::io::Write::write_all(gate, b"go\n").unwrap();
        wait_until("it has printed", || at.join("ends").exists());
    });
    let resumed = hook.deck.wait_event("that the last daemon has run goes on: sh (pid");
    assert!(resumed.message.ends_with(" left"), "{}", resumed.message);
    hook.open_gate();
    hook.deck.wait("how it ended", |_, events| {
        events.iter().any(|it| ["hook-failed", "hook-ended"].contains(&it.kind.as_str()))
    });
    let ended =
        hook.deck.events.iter().find(|it| it.kind.starts_with("hook-") && it.seq > resumed.seq);
    let message = &ended.unwrap().message;
    // Before Linux 6.15 nobody but its parent is told.
    let told = ["the hook for fatal exited with 7: no pager", "does not tell how"];
    assert!(told.iter().any(|it| message.ends_with(it)), "{message}\n{}", hook.deck.story());
    assert_eq!((hook.ends().as_str(), calls(hook.directory.path()).len()), ("on\n", 1));
}

#[test]
fn a_hook_whose_time_is_over_while_no_daemon_is_there_gets_no_more_of_it() {
    let mut hook = Hooked::start("3s", "echo $$ >> $at/ends; read it < $at/gate");
    wait_until("its pid", || hook.ends().ends_with('\n'));
    let pid: i32 = hook.ends().trim().parse().unwrap();
    let given_up = hook.deck.events.iter().find(|it| it.kind == "fatal").unwrap().at;
    hook.without_daemon(|_, _| {
        wait_until("its time is over", || {
            jiff::Timestamp::now().duration_since(given_up) > jiff::SignedDuration::from_secs(4)
        });
        assert!(is_alive(pid), "nobody was there to kill it");
    });
    let resumed = hook.deck.wait_event("that the last daemon has run goes on: sh (pid");
    assert!(resumed.message.ends_with("; its time is over"), "{}", resumed.message);
    let killed = hook.deck.wait_event("was killed: it took longer than 3s");
    assert_eq!(killed.kind, "hook-failed");
    assert!(!is_alive(pid));
}

#[test]
fn a_hook_that_ended_while_no_daemon_was_there_is_called_again_and_that_is_said() {
    let mut hook = Hooked::start("60s", "read it < $at/gate; echo printed; echo on >> $at/ends");
    hook.without_daemon(|at, gate| {
        std::io::Write::write_all(gate, b"go\n").unwrap();
        wait_until("it has ended", || at.join("ends").exists() && hooks_of(at).is_empty());
    });
    let event = hook.deck.wait_event("the hook for fatal ended while no daemon was there");
    assert_eq!(event.kind, "hook-repeated");
    hook.open_gate();
    wait_until("it has ended again", || hook.ends() == "on\non\n");
    let seen: BTreeSet<_> = calls(hook.directory.path()).into_iter().map(|it| it.seq).collect();
    assert_eq!((seen.len(), calls(hook.directory.path()).len()), (1, 2));
}

/// Who runs with this directory in its command line.
fn hooks_of(directory: &Path) -> Vec<i32> {
    let mark = format!("at={};", directory.display());
    let is_it = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    };
    support::processes::pids().into_iter().filter(is_it).collect()
}

#[test]
fn a_hook_has_its_time_when_the_daemon_ends() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let command = format!("cat >> {at}/calls; sleep 1; echo done >> {at}/ends");
    let mut deck =
        Deck::start(&format!("{GIVEN_UP}[hooks]\ncommand = [\"sh\", \"-c\", \"{command}\"]\n"));
    wait_until("the hook was told", || !calls(directory.path()).is_empty());
    deck.ok(&["shutdown"]);
    deck.wait_end();
    let ends = std::fs::read_to_string(directory.path().join("ends")).unwrap_or_default();
    assert!(ends.starts_with("done\n"), "{ends}\n{}", deck.story());
}

#[test]
fn the_table_goes_on_when_something_changes_and_when_the_daemon_is_another() {
    let mut deck = Deck::start("[service.job]\ncommand = \"sleep 600\"\n");
    deck.wait_ready(&["job"]);
    let tables = Following::start(deck.command(&["status", "--watch"]));
    tables.line_with("RUNNING");
    deck.ok(&["stop", "job"]);
    tables.line_with("STOPPED");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_state("job", api::State::Stopped);
    deck.ok(&["start", "job"]);
    tables.line_with("RUNNING");
    kill(tables.pid(), Signal::SIGINT);
    let (status, rest) = tables.rest();
    assert_eq!(status.code(), Some(0), "{rest:?}");
}

#[test]
fn on_a_terminal_the_table_is_written_over_the_one_before_it() {
    let mut deck = Deck::start("[service.job]\ncommand = \"sleep 600\"\n");
    deck.wait_ready(&["job"]);
    let mut console = Console::start(&deck.command(&["status", "--watch"]), 80, 24);
    console.wait_for("RUNNING");
    deck.ok(&["stop", "job"]);
    console.wait("another table in its place", |text| {
        text.contains("STOPPED") && !text.contains("RUNNING") && text.matches("NAME").count() == 1
    });
    console.press("\x03");
    assert!(console.end(), "{}", console.text());
}

#[test]
fn a_rollout_is_begun_watched_and_aborted_on_its_page() {
    let directory = tempfile::tempdir().unwrap();
    let held =
        format!("sh -c 'until test -e {}/go; do sleep 0.05; done'", directory.path().display());
    let mut deck = Deck::start(&web("").replace("echo built", &held));
    deck.wait_ready(&["web1", "web2"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("web1");
    console.press("r");
    console.wait_for("v shows it");
    console.press("v");
    console.wait("the step that goes on", |text| {
        text.contains("0 of 2 renewed") && text.contains("build") && text.contains("waits")
    });
    console.press("a");
    console.wait_for("aborted at");
    console.press("q");
    console.wait_for("q detach");
    console.press("q");
    assert!(console.end());
}

#[test]
fn what_the_backup_wrote_during_the_last_roll_is_two_keys_away() {
    let services = web("").replace(
        "\"opsdeck sample --port {port} --work 10ms \"",
        "\"sh -c 'echo {instance} begins; exec opsdeck sample --port {port}'\"",
    );
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    deck.ok(&["roll", "web"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("web1");
    console.press("v");
    console.wait_for("done at");
    // The cursor is on the first that was renewed: the backup.
    console.press("l");
    console.wait_for("web2 begins");
    console.press("\x1b");
    console.wait_for("done at");
    console.press("\x1b");
    console.wait_for("q detach");
    console.press("q");
    assert!(console.end());
}
