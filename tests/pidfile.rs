//! Processes that somebody else runs (`engine = "pidfile"`): followed, signalled, rolled, left alone.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::theirs::{Theirs, wait_pid};
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

/// An innocent process, and a pid file that names it.
fn write_pid(path: &Path, text: &str) {
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

#[test]
fn a_file_that_cannot_be_believed_names_nobody() {
    let (theirs, port) = (Theirs::new(), free_port());
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(bystander.id()).unwrap();
    let file = theirs.path("web1.pid");
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], ""));
    let mut expect = |text: &str| {
        deck.wait(text, |it, _| {
            find(it, "web1").is_some_and(|it| it.pid.is_none() && it.why.contains(text))
        });
    };
    expect("does not exist");
    write_pid(&file, "-4711\n");
    expect("holds no pid, but \"-4711\"");
    write_pid(&file, "1\n");
    expect("names pid 1, which is never a server of its own");
    // It has outlived what it was written for.
    std::fs::write(theirs.path("old"), pid.to_string()).unwrap();
    let touched =
        Command::new("touch").args(["-d", "2001-01-01"]).arg(theirs.path("old")).status().unwrap();
    assert!(touched.success());
    std::fs::rename(theirs.path("old"), &file).unwrap();
    expect("was started after the file was written");
    if nix::unistd::geteuid().is_root() {
        std::fs::set_permissions(theirs.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        write_pid(&file, &pid.to_string());
        expect("others may have written there");
        std::fs::set_permissions(theirs.dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    expect("does not exist");
    for words in [["stop", "web1"], ["signal", "SIGKILL"]] {
        deck.opsdeck(&[words[0], words[1], "web1"]);
    }
    assert!(is_alive(pid));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// An nginx that somebody else has started, with a pid file of its own.
struct TheirNginx {
    dir: TempDir,
    program: PathBuf,
    port: u16,
}

impl TheirNginx {
    /// `None`, said aloud: this host has none.
    #[expect(clippy::print_stderr, reason = "why it is skipped")]
    fn new() -> Option<Self> {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
        let program = path.split(':').map(|it| Path::new(it).join("nginx")).find(|it| it.exists());
        let Some(program) = program else {
            assert!(std::env::var_os("OPSDECK_TEST_REQUIRE").is_none(), "there is no nginx");
            eprintln!("skipped: there is no nginx");
            return None;
        };
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
