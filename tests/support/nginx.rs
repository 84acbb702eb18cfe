//! An nginx of its own for a test, on a port of its own, and a deck behind it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::support::skip::has;
use super::support::{Deck, find, free_port, kill, wait_until};

/// The file that nginx includes before any daemon has written it.
const EMPTY: &str = "# Written by opsdeck\nupstream shop {\n    server 127.0.0.1:1 down;\n}\n";

/// What its server block includes before.
const EMPTY_SWITCH: &str = "# Written by opsdeck\nset $opsdeck_shop shop;\n";

/// An nginx of its own, on a port of its own.
pub struct Nginx {
    pub dir: TempDir,
    program: PathBuf,
    master: Child,
    pub entry: u16,
    /// It looks at switches and is not reloaded.
    switches: bool,
    /// More keys of its table in the deck's configuration.
    pub keys: String,
    /// What tests its configuration, for a shell that has the right command as its arguments.
    pub test: String,
    pub max_wait_time: String,
}

impl Nginx {
    /// `None`, said aloud: this host has none.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// One that looks at switches with every request.
    pub fn with_switches() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(switches: bool) -> Option<Self> {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
        let program = path.split(':').map(|it| Path::new(it).join("nginx")).find(|it| it.exists());
        has("nginx", program.is_some());
        let program = program?;
        let dir = tempfile::Builder::new().prefix("opsdeck-nginx-").tempdir().unwrap();
        let entry = free_port();
        write_conf(dir.path(), entry, "", switches);
        std::fs::write(dir.path().join("shop.switch"), EMPTY_SWITCH).unwrap();
        std::fs::write(dir.path().join("shop.conf"), EMPTY).unwrap();
        let mut command = Command::new(&program);
        command.arg("-c").arg(dir.path().join("nginx.conf")).stderr(Stdio::null());
        let master = command.spawn().unwrap();
        wait_until("nginx listens", || {
            std::net::TcpStream::connect(("127.0.0.1", entry)).is_ok()
                && dir.path().join("nginx.pid").exists()
        });
        let test = "exec \"$0\" \"$@\"".to_owned();
        let (keys, max_wait_time) = (String::new(), "20s".to_owned());
        Some(Self { dir, program, master, entry, switches, keys, test, max_wait_time })
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What stands in its own configuration beside what it needs.
    pub fn configure(&self, more: &str) {
        write_conf(self.dir.path(), self.entry, more, self.switches);
    }

    pub fn file(&self) -> String {
        std::fs::read_to_string(self.path("shop.conf")).unwrap()
    }

    pub fn line(&self, instance: &str) -> String {
        let file = self.file();
        let end = format!("# {instance}");
        file.lines().find(|it| it.ends_with(&end)).unwrap_or_default().to_owned()
    }

    /// Waits until nginx has loaded a file of which this is true.
    #[track_caller]
    pub fn wait(&self, what: &str, there: impl Fn(&Self) -> bool) {
        let pending = self.dir.path().join(".shop.conf.before");
        wait_until(what, || there(self) && !pending.exists());
    }

    pub fn is_down(&self, instance: &str) -> bool {
        if self.switches {
            return self.dir.path().join(format!("switches/{instance}.out")).exists();
        }
        self.line(instance).contains(" down;")
    }

    /// What it complains of.
    pub fn errors(&self) -> String {
        let log = std::fs::read_to_string(self.path("error.log")).unwrap();
        let lines: Vec<_> = log.lines().filter(|it| !it.contains("[notice]")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub fn reloads(&self) -> usize {
        let log = std::fs::read_to_string(self.path("error.log")).unwrap();
        log.lines().filter(|it| it.contains("reconfiguring")).count()
    }

    pub fn gateway(&self) -> String {
        let way = if self.switches {
            format!("switches = {:?}", self.path("switches"))
        } else {
            "directives = [\"keepalive 16\"]".to_owned()
        };
        format!(
            "[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\n\
             nginx = {{ file = {:?}, pid_file = {:?}, test = [\"sh\", \"-c\", {:?}, {:?}, \"-t\", \"-c\", {:?}], {way}{} }}\n",
            self.path("shop.conf"),
            self.path("nginx.pid"),
            self.test,
            self.program.display().to_string(),
            self.path("nginx.conf"),
            self.keys,
        )
    }

    /// Two instances, the second one a backup, behind it.
    pub fn deck(&self, sample: &str, service: &str) -> Deck {
        let [one, two] = [free_port(), free_port()];
        let mut deck = Deck::start(&format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}} {sample}\"\n\
             instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two}, backup = true }}\n\
             rollout = {{ settle = \"100ms\" }}\nmax_wait_time = {:?}\n{service}\n{}",
            self.max_wait_time,
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
    pub fn load(&self, deck: &Deck, connections: &str) -> Load {
        let url = format!("http://127.0.0.1:{}/", self.entry);
        let mut command = deck.command(&["load", &url, "-c", "10", connections]);
        command.args(["--interval", "0", "--method", "mixed", "--json"]);
        Load(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What a client gets.
    pub fn status(&self) -> u16 {
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

fn write_conf(dir: &Path, entry: u16, more: &str, switches: bool) {
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp: String =
        temp.iter().map(|it| format!("{it}_temp_path {}/{it};\n", dir.display())).collect();
    let dir = dir.display();
    let (include, upstream) = match switches {
        true => (format!("include {dir}/shop.switch;"), "$opsdeck_shop"),
        false => (String::new(), "shop"),
    };
    let text = format!(
        "daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log notice; worker_processes 2; {user}\n\
         events {{ worker_connections 512; }}\n\
         http {{\nlog_format up '$request_method $upstream_addr;$status $upstream_response_time';\naccess_log {dir}/access.log up;\n{temp}include {dir}/shop.conf;\n{more}\n\
         server {{ listen 127.0.0.1:{entry}; {include}\n\
         location = /stub {{ stub_status; access_log off; }}\n\
         location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n"
    );
    std::fs::write(format!("{dir}/nginx.conf"), text).unwrap();
}

/// `opsdeck load`, until it is asked for its result.
pub struct Load(Child);

impl Load {
    pub fn end(mut self) -> Value {
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

pub const READINESS: &str = "probe.readiness = { http.path = \"/readiness\", period = \"200ms\" }";
