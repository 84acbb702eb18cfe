//! A real nginx in front of a fleet: what its clients notice of rolls and crashes, and what it is told when.
#![expect(clippy::disallowed_methods, clippy::print_stderr, clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::{Deck, find, free_port, kill, wait_until};
use tempfile::TempDir;

/// The file that nginx includes before any daemon has written it.
const EMPTY: &str = "# Written by opsdeck\nupstream shop {\n    server 127.0.0.1:1 down;\n}\n";

/// An nginx of its own, on a port of its own.
struct Nginx {
    dir: TempDir,
    program: PathBuf,
    master: Child,
    entry: u16,
}

impl Nginx {
    /// `None`, said aloud: this host has none.
    fn start() -> Option<Self> {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
        let program = path.split(':').map(|it| Path::new(it).join("nginx")).find(|it| it.exists());
        let Some(program) = program else {
            assert!(std::env::var_os("OPSDECK_TEST_REQUIRE").is_none(), "there is no nginx");
            eprintln!("skipped: there is no nginx");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("opsdeck-nginx-").tempdir().unwrap();
        let entry = free_port();
        write_conf(dir.path(), entry, "");
        std::fs::write(dir.path().join("shop.conf"), EMPTY).unwrap();
        let mut command = Command::new(&program);
        command.arg("-c").arg(dir.path().join("nginx.conf")).stderr(Stdio::null());
        let master = command.spawn().unwrap();
        wait_until("nginx listens", || {
            std::net::TcpStream::connect(("127.0.0.1", entry)).is_ok()
                && dir.path().join("nginx.pid").exists()
        });
        Some(Self { dir, program, master, entry })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What stands in its own configuration beside what it needs.
    fn configure(&self, more: &str) {
        write_conf(self.dir.path(), self.entry, more);
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.path("shop.conf")).unwrap()
    }

    fn line(&self, instance: &str) -> String {
        let file = self.file();
        let end = format!("# {instance}");
        file.lines().find(|it| it.ends_with(&end)).unwrap_or_default().to_owned()
    }

    /// Waits until nginx has loaded a file of which this is true.
    #[track_caller]
    fn wait(&self, what: &str, there: impl Fn(&Self) -> bool) {
        let pending = self.dir.path().join(".shop.conf.before");
        wait_until(what, || there(self) && !pending.exists());
    }

    fn is_down(&self, instance: &str) -> bool {
        self.line(instance).contains(" down;")
    }

    /// What it complains of.
    fn errors(&self) -> String {
        let log = std::fs::read_to_string(self.path("error.log")).unwrap();
        let lines: Vec<_> = log.lines().filter(|it| !it.contains("[notice]")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn reloads(&self) -> usize {
        let log = std::fs::read_to_string(self.path("error.log")).unwrap();
        log.lines().filter(|it| it.contains("reconfiguring")).count()
    }

    fn gateway(&self) -> String {
        format!(
            "[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\n\
             nginx = {{ file = {:?}, pid_file = {:?}, test = [{:?}, \"-t\", \"-c\", {:?}], directives = [\"keepalive 16\"] }}\n",
            self.path("shop.conf"),
            self.path("nginx.pid"),
            self.program.display().to_string(),
            self.path("nginx.conf"),
        )
    }

    /// Two instances, the second one a backup, behind it.
    fn deck(&self, sample: &str, service: &str) -> Deck {
        let [one, two] = [free_port(), free_port()];
        let mut deck = Deck::start(&format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}} {sample}\"\n\
             instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two}, backup = true }}\n\
             rollout = {{ settle = \"100ms\" }}\nmax_wait_time = \"20s\"\n{service}\n{}",
            self.gateway()
        ));
        deck.wait("everything in rotation", |deck, _| {
            ["web1", "web2"].iter().all(|name| find(deck, name).is_some_and(|it| it.in_rotation))
                && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
        });
        self.wait("sending", |it| !it.is_down("web1") && !it.is_down("web2"));
        deck
    }

    /// Ten clients of this kind, GET and POST in turns.
    fn load(&self, deck: &Deck, connections: &str) -> Load {
        let url = format!("http://127.0.0.1:{}/", self.entry);
        let mut command = deck.command(&["load", &url, "-c", "10", connections]);
        command.args(["--interval", "0", "--method", "mixed", "--json"]);
        Load(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What a client gets.
    fn status(&self) -> u16 {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.entry)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // With its workers.
        kill(i32::try_from(self.master.id()).unwrap(), Signal::SIGTERM);
        drop(self.master.wait());
    }
}

fn write_conf(dir: &Path, entry: u16, more: &str) {
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp: String =
        temp.iter().map(|it| format!("{it}_temp_path {}/{it};\n", dir.display())).collect();
    let dir = dir.display();
    let text = format!(
        "daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log notice; worker_processes 2; {user}\n\
         events {{ worker_connections 512; }}\n\
         http {{\naccess_log off;\n{temp}include {dir}/shop.conf;\n{more}\n\
         server {{ listen 127.0.0.1:{entry};\n\
         location / {{ proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n"
    );
    std::fs::write(format!("{dir}/nginx.conf"), text).unwrap();
}

/// `opsdeck load`, until it is asked for its result.
struct Load(Child);

impl Load {
    fn end(mut self) -> Value {
        kill(i32::try_from(self.0.id()).unwrap(), Signal::SIGINT);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut text).unwrap();
        self.0.wait().unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert!(report["requests"].as_u64().unwrap() > 0, "{report:#}");
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const READINESS: &str = "probe.readiness = { http.path = \"/readiness\", period = \"200ms\" }";

#[test]
fn two_rolls_in_a_row_lose_no_request() {
    let Some(nginx) = Nginx::start() else { return };
    // The worst manners there are: at SIGTERM it cuts.
    let mut deck = nginx.deck("--work 200ms --cut-at-term", READINESS);
    let reloads = nginx.reloads();
    let [once, kept] = ["--one-shot", "--keep-alive"].map(|it| nginx.load(&deck, it));
    for _ in 0..2 {
        deck.ok(&["roll", "web"]);
    }
    let (once, kept) = (once.end(), kept.end());
    let story = format!("{once:#}\n{kept:#}\n{}\n{}", deck.story(), nginx.errors());
    assert_eq!(once["failed"], 0, "{story}");
    // nginx itself closes idle connections of clients when it reloads: a request that is on its way in
    // that moment was never read. Nothing else may be lost.
    let lost = |how: &str| kept["failures"][how].as_u64().unwrap();
    let crossed = lost("closed") + lost("reset");
    assert_eq!(kept["failed"], crossed, "{story}");
    assert!(crossed <= (nginx.reloads() - reloads) as u64, "{story}");
    deck.catch_up();
    let generations = ["web1", "web2"].map(|it| deck.instance(it).generation);
    assert_eq!(generations, [3, 3], "{}", deck.story());
    assert!(!deck.events.iter().any(|it| it.message.contains("SIGKILL")), "{}", deck.story());
}

#[test]
fn a_broken_configuration_of_nginx_halts_and_changes_nothing() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", READINESS);
    let (before, reloads) = (nginx.file(), nginx.reloads());
    let pids = ["web1", "web2"].map(|it| deck.pid(it));
    nginx.configure("nonsense on;");

    let output = deck.opsdeck(&["roll", "web"]);

    assert_eq!(output.status.code(), Some(1), "{}", deck.story());
    let event = deck.wait_event("could not be taken out of rotation");
    assert!(event.message.contains("unknown directive \"nonsense\""), "{}", event.message);
    assert_eq!((nginx.file(), nginx.reloads()), (before, reloads));
    deck.wait("all in rotation", |deck, _| {
        ["web1", "web2"].iter().all(|name| find(deck, name).is_some_and(|it| it.in_rotation))
    });
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), pids, "{}", deck.story());
    assert_eq!(nginx.status(), 200);

    assert!(deck.view.services[0].gateway.as_ref().unwrap().trouble.is_some());
    nginx.configure("");
    deck.wait_event("follows again");
    deck.ok(&["roll", "web"]);
}

#[test]
fn readiness_that_flaps_costs_one_reload_in_five_seconds() {
    let Some(nginx) = Nginx::start() else { return };
    let flag = nginx.path("ready");
    std::fs::write(&flag, "").unwrap();
    let mut deck = nginx.deck(
        "",
        &format!(
            "probe.readiness = {{ exec.command = [\"test\", \"-e\", {flag:?}], period = \"50ms\", failure_threshold = 1 }}"
        ),
    );
    let (before, began) = (nginx.reloads(), Instant::now());
    let ready = |deck: &mut Deck, ready: bool| {
        deck.wait(&format!("ready {ready}"), |deck, _| {
            find(deck, "web1").is_some_and(|it| it.ready == Some(ready) && it.in_rotation == ready)
        });
    };
    for _ in 0..5 {
        std::fs::remove_file(&flag).unwrap();
        ready(&mut deck, false);
        std::fs::write(&flag, "").unwrap();
        ready(&mut deck, true);
    }
    std::fs::remove_file(&flag).unwrap();
    nginx.wait("told", |it| it.is_down("web1") && it.is_down("web2"));
    let most = 1 + usize::try_from(began.elapsed().as_secs() / 5).unwrap() + 1;
    let cost = nginx.reloads() - before;
    assert!(cost <= most, "{cost} reloads in {:?}", began.elapsed());
    assert_eq!(nginx.status(), 502, "nobody is in rotation");
}

#[test]
fn a_killed_instance_is_out_at_once() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", &format!("{READINESS}\nrestart = \"never\""));
    let killed = Instant::now();
    kill(deck.pid("web1"), Signal::SIGKILL);
    nginx.wait("told that web1 is down", |it| it.is_down("web1"));
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    deck.wait("web1 ended", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.state != State::Running && !it.in_rotation)
    });
    assert!(!nginx.is_down("web2"), "{}", nginx.file());
    assert!(nginx.line("web2").contains("max_fails=0"), "{}", nginx.file());
    assert_eq!(nginx.status(), 200);
}

#[test]
fn the_next_daemon_leaves_nginx_as_it_is() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", READINESS);
    deck.ok(&["drain", "web2"]);
    nginx.wait("told that web2 is down", |it| it.is_down("web2"));
    let (before, reloads) = (nginx.file(), nginx.reloads());

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));

    deck.wait("web1 in rotation", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_rotation && it.ready == Some(true))
            && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
    });
    assert_eq!((nginx.file(), nginx.reloads()), (before, reloads), "{}", deck.story());
    deck.ok(&["undrain", "web2"]);
    nginx.wait("told that web2 is back", |it| !it.is_down("web2"));
}
