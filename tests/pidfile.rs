//! Processes that somebody else runs (`engine = "pidfile"`): followed, signalled, rolled, left alone.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::skip::has;
use support::theirs::{Theirs, wait_pid, write_pid};
use support::{Deck, find, finish, free_port, is_alive, kill, output_of, wait_until};
use tempfile::TempDir;

#[test]
fn what_runs_is_followed_over_its_ends_and_ours_and_never_started() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], ""));
    wait_pid(&mut deck, "web1", first);
    assert_eq!(
        (deck.view.services[0].engine.as_str(), deck.instance("web1").generation),
        ("pidfile", 1)
    );
    let why = deck.ok(&["why", "web1"]);
    assert!(why.contains("somebody else runs it") && why.contains("web1.pid"), "{why}");
    let files = deck.detail("web1").files.unwrap();
    assert_eq!(files.pidfile, Some(theirs.path("web1.pid").display().to_string()));
    assert!(files.log.ends_with("web1.log") && files.exe.is_some(), "{files:?}");

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    wait_pid(&mut deck, "web1", first);
    assert_eq!(deck.instance("web1").generation, 1, "{}", deck.story());

    kill(first, Signal::SIGKILL);
    deck.wait_state("web1", State::Exited);
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(3));
    for words in [["start", "web1"], ["restart", "web1"], ["roll", "web"]] {
        let output = deck.opsdeck(&words);
        let notice = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{notice}");
        assert!(notice.contains("nothing says how to start it"), "{notice}");
    }
    let second = theirs.start("web1", port);
    wait_pid(&mut deck, "web1", second);
    let it = deck.instance("web1");
    assert_eq!((it.generation, it.restarts), (2, 0));

    // Another one in its place, while it still runs.
    let other = Theirs::new();
    let third = other.start("web1", free_port());
    std::fs::copy(other.path("web1.pid"), theirs.path("web1.new")).unwrap();
    std::fs::rename(theirs.path("web1.new"), theirs.path("web1.pid")).unwrap();
    // The one before answers on its port.
    wait_pid(&mut deck, "web1", third);
    assert_eq!((deck.instance("web1").generation, is_alive(second)), (3, true));

    // Nobody stops it but who orders that.
    deck.write_config("");
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("no service", |it, _| it.services.is_empty());
    deck.write_config(&theirs.service(&[("web1", port)], ""));
    deck.ok(&["config", "apply"]);
    wait_pid(&mut deck, "web1", third);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(is_alive(third) && is_alive(second));
    kill(second, Signal::SIGKILL);
}

#[test]
fn a_stop_is_an_order_and_a_start_of_theirs_another_one() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], &theirs.started_by()));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["signal", "SIGWINCH", "web1", "--yes"]);
    deck.wait_event("SIGWINCH");
    deck.ok(&["stop", "web1"]);
    wait_until("it is gone", || !is_alive(first));
    deck.wait_state("web1", State::Stopped);

    let second = theirs.start("web1", port);
    wait_pid(&mut deck, "web1", second);
    deck.ok(&["restart", "web1"]);
    assert!(!is_alive(second));
    let third = theirs.pid("web1");
    wait_pid(&mut deck, "web1", third);
    deck.ok(&["stop", "web1"]);
    deck.ok(&["start", "web1"]);
    let fourth = theirs.pid("web1");
    wait_pid(&mut deck, "web1", fourth);
    assert_eq!(deck.instance("web1").generation, 4);

    // It is no child of the daemon that it would have to end with.
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    wait_pid(&mut deck, "web1", fourth);
    assert_eq!(deck.instance("web1").generation, 4);
}

#[test]
fn a_command_stops_it_and_sigterm_where_that_fails() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let ctl = theirs.path("ctl").display().to_string();
    let stop = format!("stop_command = [{ctl:?}, \"stop\", \"{{instance}}\"]\n");
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], &(theirs.started_by() + &stop)));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["stop", "web1"]);
    assert!(!is_alive(first));
    deck.wait_event("SIGTERM: `");
    deck.wait_event("exited with 1: web1 cannot be stopped");

    std::fs::write(theirs.path("web1.stoppable"), "").unwrap();
    deck.ok(&["start", "web1"]);
    let second = theirs.pid("web1");
    wait_pid(&mut deck, "web1", second);
    deck.ok(&["restart", "web1"]);
    let third = theirs.pid("web1");
    wait_pid(&mut deck, "web1", third);
    assert!(third != second && !is_alive(second));
    let exit = deck.instance("web1").last_exit.unwrap();
    assert!(exit.cause.starts_with("the stop command by "), "{exit:?}");
}

#[test]
fn a_daemon_that_is_replaced_goes_on_with_what_it_found_and_what_it_has_started() {
    let (theirs, ports) = (Theirs::new(), [free_port(), free_port()]);
    let first = theirs.start("web1", ports[0]);
    let instances = [("web1", ports[0]), ("web2", ports[1])];
    let mut deck = Deck::start(&theirs.service(&instances, &theirs.started_by()));
    deck.ok(&["start", "web2"]);
    let second = theirs.pid("web2");
    wait_pid(&mut deck, "web2", second);
    deck.ok(&["daemon", "--replace"]);
    deck.watch_anew();
    for (name, pid) in [("web1", first), ("web2", second)] {
        wait_pid(&mut deck, name, pid);
        assert_eq!(deck.instance(name).generation, 1, "{}", deck.story());
    }
    kill(second, Signal::SIGKILL);
    deck.wait_state("web2", State::Exited);
}

#[test]
fn a_stop_command_outlives_its_daemon_and_is_waited_for_by_the_next_one() {
    for is_replaced in [true, false] {
        let (theirs, port) = (Theirs::new(), free_port());
        let first = theirs.start("web1", port);
        let wait = "while [ ! -e go ]; do sleep 0.05; done";
        theirs.script(
            "end",
            &format!(
                "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n: >began\n{wait}\nkill -TERM \"$(cat web1.pid)\"\n: >done\n"
            ),
        );
        let stop = format!("stop_command = [{:?}]\n", theirs.path("end").display().to_string());
        let stop = theirs.started_by() + &stop;
        let mut deck = Deck::start(&theirs.service(&[("web1", port)], &stop));
        wait_pid(&mut deck, "web1", first);
        deck.ok(&["stop", "--no-wait", "web1"]);
        wait_until("the command runs", || theirs.path("began").exists());
        deck.wait("the countdown", |it, _| {
            support::find(it, "web1").is_some_and(|it| it.countdown.is_some())
        });
        let before = deck.instance("web1").countdown.unwrap().kill_at.unwrap();
        if is_replaced {
            deck.ok(&["daemon", "--replace"]);
            deck.watch_anew();
        } else {
            deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
        }
        deck.wait_event("the last daemon ran: it is waited for");
        deck.wait("the countdown", |it, _| {
            support::find(it, "web1").is_some_and(|it| it.countdown.is_some())
        });
        let after = deck.instance("web1").countdown.unwrap().kill_at.unwrap();
        assert!(after.duration_since(before).as_millis().abs() < 100, "{before} {after}");
        assert!(is_alive(first));

        std::fs::write(theirs.path("go"), "").unwrap();
        deck.wait_state("web1", State::Stopped);
        wait_until("the command is done", || theirs.path("done").exists());
        assert!(!is_alive(first));
        let cause = deck.instance("web1").last_exit.unwrap().cause;
        assert!(cause.starts_with("the stop command by "), "{cause}");
        let signals = deck.events.iter().filter(|it| it.message.contains("SIGTERM"));
        assert_eq!(signals.count(), 0, "{}", deck.story());
    }
}

#[test]
fn what_a_stop_command_has_ended_well_for_has_its_time_although_its_daemon_died() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    theirs.script("end", "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho ran >>runs\n");
    let stop = format!("stop_command = [{:?}]\n", theirs.path("end").display().to_string());
    let stop = theirs.started_by() + &stop;
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], &stop));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["stop", "--no-wait", "web1"]);
    wait_until("the command has run", || theirs.path("runs").exists());
    let state = deck.path().join("state/state.jsonl");
    wait_until("it is known that it began", || {
        let text = std::fs::read_to_string(&state).unwrap();
        let last = text.lines().rfind(|it| it.contains("\"is\":\"kept\"")).unwrap_or_default();
        last.contains("\"sent\"") && !last.contains("unbegun")
    });
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait("the countdown", |it, _| {
        support::find(it, "web1").is_some_and(|it| it.countdown.is_some())
    });
    // Its last request is answered.
    assert!(is_alive(first));
    kill(first, Signal::SIGTERM);
    deck.wait_state("web1", State::Stopped);
    let cause = deck.instance("web1").last_exit.unwrap().cause;
    assert!(cause.starts_with("the stop command by "), "{cause}");
    let signals = deck.events.iter().filter(|it| it.message.contains("SIGTERM"));
    assert_eq!(signals.count(), 0, "{}", deck.story());
    assert_eq!(std::fs::read_to_string(theirs.path("runs")).unwrap(), "ran\n");
}

#[test]
fn what_a_stop_command_has_failed_to_stop_gets_its_signal_although_its_daemon_died() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let end = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n: >began\nwhile [ ! -e go ]; do sleep 0.05; done\n: >done\nexit 7\n";
    theirs.script("end", end);
    let stop = format!(
        "stop_command = [{:?}]\nreserve = \"19s\"\n",
        theirs.path("end").display().to_string()
    );
    let stop = theirs.started_by() + &stop;
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], &stop));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["stop", "--no-wait", "web1"]);
    wait_until("the command runs", || theirs.path("began").exists());
    let state = deck.path().join("state/state.jsonl");
    wait_until("it is known that it began", || {
        let text = std::fs::read_to_string(&state).unwrap();
        let last = text.lines().rfind(|it| it.contains("\"is\":\"kept\"")).unwrap_or_default();
        last.contains("\"sent\"") && !last.contains("unbegun")
    });
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
        std::fs::write(theirs.path("go"), "").unwrap();
        wait_until("the command has ended", || theirs.path("done").exists());
    });
    deck.wait_event("SIGTERM: its stop command ended while no daemon was there");
    deck.wait_state("web1", State::Stopped);
    assert!(!is_alive(first));
}

#[test]
fn a_start_that_fails_is_told_with_its_last_words() {
    let (theirs, port) = (Theirs::new(), free_port());
    let start = "start = ['sh', '-c', 'echo there is no disk; exit 3']\n";
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], start));
    let output = deck.opsdeck(&["start", "web1"]);
    assert!(!output.status.success(), "{output:?}");
    deck.wait_state("web1", State::Fatal);
    deck.wait_event("exited with 3: there is no disk");
    let log = deck.ok(&["logs", "web1"]);
    assert!(log.contains("there is no disk"), "{log}");
    let pid = theirs.start("web1", port);
    wait_pid(&mut deck, "web1", pid);
}

#[test]
fn a_start_that_is_the_server_itself_is_left_running() {
    let (theirs, port) = (Theirs::new(), free_port());
    theirs.script("serve", "#!/bin/sh\necho $$ >\"$1\"\nexec OPSDECK sample --port \"$2\"\n");
    theirs.script("lead", "#!/bin/sh\n\"${0%lead}serve\" \"$1\" \"$2\" &\necho $$ >\"${0%lead}lead.pid\"\nexec sleep 600\n");
    let start = |script: &str| {
        let script = theirs.path(script).display().to_string();
        let file = theirs.path("{instance}.pid").display().to_string();
        format!("start = [{script:?}, {file:?}, \"{{port}}\"]\nrollout.ready_timeout = \"500ms\"\n")
    };
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], &start("serve")));
    let its_end = "it is left running, and ended with what it has started";
    for (script, told) in
        [("serve", "it runs in the foreground, and is left running"), ("lead", its_end)]
    {
        deck.write_config(&theirs.service(&[("web1", port)], &start(script)));
        deck.ok(&["config", "apply"]);
        deck.ok(&["start", "web1"]);
        let pid = theirs.pid("web1");
        wait_pid(&mut deck, "web1", pid);
        let told = deck.wait_event(told);
        assert_eq!((told.kind.as_str(), told.instance.as_deref()), ("start-command", Some("web1")));
        deck.ok(&["stop", "web1"]);
        assert!(!is_alive(pid));
        if script == "lead" {
            let lead = theirs.pid("lead");
            wait_until("the command has ended too", || !is_alive(lead));
        }
        deck.catch_up();
        deck.events.clear();
    }
}

#[test]
fn a_rolling_restart_behind_the_gateway_loses_nothing() {
    let (theirs, ports, entry) = (Theirs::new(), [free_port(), free_port()], free_port());
    let before =
        ["web1", "web2"].map(|name| theirs.start(name, ports[usize::from(name == "web2")]));
    let more = format!(
        "{}rollout = {{ settle = \"100ms\" }}\n[gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n",
        theirs.started_by()
    );
    let services = theirs.service(&[("web1", ports[0]), ("web2", ports[1])], &more);
    let mut deck = Deck::start(&services);
    deck.wait("both in rotation", |it, _| {
        ["web1", "web2"].iter().all(|name| find(it, name).is_some_and(|it| it.in_rotation))
    });
    let url = format!("http://127.0.0.1:{entry}/");
    let mut load = deck.command(&["load", &url, "-c", "4", "--interval", "0", "--json"]);
    let load = load.stdout(Stdio::piped()).spawn().unwrap();
    deck.wait("load", |it, _| {
        it.services[0].gateway.is_some()
            && find(it, "web1")
                .is_some_and(|it| it.traffic.as_ref().is_some_and(|it| it.success > 10))
    });
    deck.ok(&["roll", "web"]);
    kill(i32::try_from(load.id()).unwrap(), Signal::SIGINT);
    let report: Value = serde_json::from_slice(&finish(load).stdout).unwrap();
    assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
    assert!(report["requests"].as_u64().unwrap() > 0, "{report:#}");
    let after = ["web1", "web2"].map(|name| theirs.pid(name));
    assert!(before.iter().all(|it| !after.contains(it) && !is_alive(*it)), "{before:?} {after:?}");
    for (name, pid) in ["web1", "web2"].into_iter().zip(after) {
        wait_pid(&mut deck, name, pid);
    }
}

#[test]
fn what_was_another_instance_when_the_file_was_read_is_followed_once_that_is_over() {
    let (theirs, other) = (Theirs::new(), Theirs::new());
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    for it in [&theirs, &other] {
        write_pid(&it.path("web1.pid"), &pid.to_string());
    }
    let web = theirs.service(&[("web1", free_port())], "");
    // The same process, by a file of another service.
    let api = other.service(&[("api1", free_port())], "").replace("service.web", "service.api");
    let api = api.replace("{instance}.pid", "web1.pid");
    let mut deck = Deck::start(&api);
    deck.wait("it is found", |it, _| find(it, "api1").is_some_and(|it| it.pid == Some(pid)));
    deck.write_config(&format!("{api}{web}"));
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait_event(&format!("its pid file names pid {pid}, which is api1"));
    deck.write_config(&web);
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("it is followed", |it, _| find(it, "web1").is_some_and(|it| it.pid == Some(pid)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_found_while_it_drained_is_followed_when_the_stop_is_taken_back() {
    let (theirs, others) = (Theirs::new(), Theirs::new());
    let instances = [("web1", free_port()), ("web2", free_port())];
    let mut deck = {
        for (name, port) in instances {
            theirs.start(name, port);
        }
        let long = "drain_delay = \"50s\"\nmax_wait_time = \"60s\"\n";
        let service = theirs.service(&instances, &(theirs.started_by() + long));
        Deck::start(&service.replacen("max_wait_time = \"20s\"\n", "", 1))
    };
    let before = instances.map(|(name, _)| theirs.pid(name));
    wait_pid(&mut deck, "web1", before[0]);
    wait_pid(&mut deck, "web2", before[1]);
    deck.ok(&["stop", "--no-wait", "web1"]);
    deck.wait_state("web1", State::Draining);
    let after = instances.map(|(name, _)| {
        let pid = others.start(name, free_port());
        write_pid(&theirs.path(&format!("{name}.pid")), &pid.to_string());
        pid
    });
    // Its file was written last.
    wait_pid(&mut deck, "web2", after[1]);
    assert_eq!((deck.pid("web1"), deck.instance("web1").state), (before[0], State::Draining));
    deck.ok(&["start", "--no-wait", "web1"]);
    wait_pid(&mut deck, "web1", after[0]);
    assert!(before.iter().all(|it| is_alive(*it)), "{}", deck.story());
    before.iter().for_each(|it| kill(*it, Signal::SIGKILL));
}

/// An nginx that somebody else has started, with a pid file of its own.
struct TheirNginx {
    dir: TempDir,
    program: PathBuf,
    port: u16,
}

impl TheirNginx {
    /// `None`, said aloud: this host has none.
    fn new() -> Option<Self> {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
        let program = path.split(':').map(|it| Path::new(it).join("nginx")).find(|it| it.exists());
        has("nginx", program.is_some());
        let program = program?;
        let dir = tempfile::Builder::new().prefix("opsdeck-theirs-").tempdir().unwrap();
        let (port, place) = (free_port(), dir.path().display().to_string());
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String =
            temp.iter().map(|it| format!("{it}_temp_path {place}/{it};\n")).collect();
        let text = format!(
            "pid {place}/nginx.pid; error_log {place}/error.log; worker_processes 2; {user}\n\
             events {{}}\nhttp {{ access_log off;\n{temp}server {{ listen 127.0.0.1:{port}; return 200 ok; }} }}\n"
        );
        std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
        Some(Self { dir, program, port })
    }

    fn command(&self) -> [String; 3] {
        let conf = self.dir.path().join("nginx.conf");
        [self.program.display().to_string(), "-c".into(), conf.display().to_string()]
    }

    /// It puts itself into the background.
    fn start(&self) -> i32 {
        let [program, arguments @ ..] = self.command();
        let mut command = Command::new(program);
        let output = output_of(command.args(arguments));
        assert!(output.status.success(), "{output:?}");
        let mut pid = None;
        wait_until("its pid", || {
            pid = self.pid();
            pid.is_some()
        });
        pid.unwrap()
    }

    fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.dir.path().join("nginx.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for TheirNginx {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|it| is_alive(*it)) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

#[test]
fn the_workers_of_their_nginx_are_renewed_and_it_is_restarted_by_its_own_command() {
    let Some(nginx) = TheirNginx::new() else { return };
    let first = nginx.start();
    let mut deck = Deck::start(&format!(
        "[service.nginx]\nengine = \"pidfile\"\npidfile = {:?}\nprofile = \"nginx\"\nstart = {:?}\n\
         max_wait_time = \"20s\"\ninstance.nginx = {{ port = {} }}\n\
         probe.readiness = {{ http.path = \"/\", period = \"100ms\", timeout = \"20s\" }}\n",
        nginx.dir.path().join("nginx.pid").display().to_string(),
        nginx.command(),
        nginx.port,
    ));
    wait_pid(&mut deck, "nginx", first);
    let told = deck.ok(&["reload", "nginx"]);
    assert!(told.contains("renewed 2 of 2 workers"), "{told}");
    assert_eq!(deck.pid("nginx"), first);
    deck.ok(&["restart", "nginx"]);
    let second = nginx.pid().unwrap();
    assert!(second != first && !is_alive(first));
    wait_pid(&mut deck, "nginx", second);
    deck.ok(&["stop", "nginx"]);
    wait_until("it is gone", || !is_alive(second));
}
