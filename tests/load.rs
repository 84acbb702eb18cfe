//! What servers say of their load, against what was really asked of them: the sample as a Swoole, real php-fpm,
//! nginx and Prometheus' own client library, and the kernel's sockets.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use opsdeck::api::{Load, State};
use support::skip::has;
use support::{Deck, PATIENCE, find, free_port, python, wait_until};

/// A service `web` of one instance, `web1`.
fn deck(command: &str, port: u16, keys: &str) -> Deck {
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = {command:?}\nstart_seconds = \"100ms\"\n\
         instance.web1 = {{ port = {port} }}\n{keys}\n"
    ));
    deck.wait_ready(&["web1"]);
    deck
}

/// Waits until `web1` says this of itself.
#[track_caller]
fn wait_load(deck: &mut Deck, what: &str, there: impl Fn(&Load) -> bool) -> Load {
    let load = |deck: &opsdeck::api::Deck| find(deck, "web1").and_then(|it| it.load.clone());
    deck.wait(what, |deck, _| load(deck).is_some_and(|it| there(&it)));
    load(&deck.view).unwrap()
}

/// A request that is in flight until its body ends.
fn begin(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Its answer.
fn end(mut stream: TcpStream) -> String {
    stream.write_all(b"body").unwrap();
    answer(stream)
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = vec![];
    // A reset is an answer too, only a bad one.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn get(port: u16, path: &str) -> String {
    answer(ask(port, path))
}

/// A request whose answer has not been read.
fn ask(port: u16, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn swoole_is_asked_and_what_asks_is_not_counted() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port}");
    let mut deck = deck(&command, port, "load = { swoole = \"/stats\" }");
    let first = wait_load(&mut deck, "an answer", |it| it.in_flight == Some(0));
    assert_eq!(first.source, format!("swoole http://127.0.0.1:{port}/stats"));
    assert!(first.in_flight_exact && first.error.is_none(), "{first:?}");

    let open: Vec<_> = (0..3).map(|_| begin(port)).collect();
    wait_load(&mut deck, "three in flight", |it| {
        it.in_flight == Some(3) && it.connections == Some(3)
    });
    deck.wait("what the table shows", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight == Some(3) && it.in_flight_exact)
    });
    open.into_iter().for_each(|it| assert!(end(it).contains("received 4 bytes")));

    let before = first.requests.unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let told = deck.ok(&["load", &url, "-c", "2", "--interval", "0", "--requests", "50", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let asked = told["requests"].as_u64().unwrap() + 3;
    let last = wait_load(&mut deck, "all that were sent, and a rate", |it| {
        it.requests.is_some_and(|it| it >= before + asked)
            && it.in_flight == Some(0)
            && it.requests_per_second.is_some()
    });
    // The rest is what asked: readings, of which there were a few.
    assert!(last.requests.unwrap() < before + asked + 50, "{last:?}");
}

#[test]
fn a_drain_with_nothing_in_front_waits_for_what_the_server_says() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port} --cut-at-term");
    let keys = "load = { swoole = \"/stats\" }\nmax_wait_time = \"2m\"\nreserve = \"1s\"";
    let mut deck = deck(&command, port, keys);
    let open = [begin(port), begin(port)];
    wait_load(&mut deck, "two in flight", |it| it.in_flight == Some(2));

    deck.ok(&["stop", "--no-wait", "web1"]);
    deck.wait_state("web1", State::Draining);
    open.into_iter().for_each(|it| assert!(end(it).contains("received 4 bytes"), "cut"));
    deck.wait_state("web1", State::Stopped);
    let last = deck.instance("web1").last_exit.unwrap();
    assert_eq!(last.lost, 0, "{last:?}");
}

#[test]
fn a_drain_that_nobody_watches_goes_by_what_the_server_says_too() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port} --cut-at-term");
    let keys = "load = { swoole = \"/stats\" }\nmax_wait_time = \"2m\"\nreserve = \"1s\"";
    let mut deck = deck(&command, port, keys);
    let asked = || {
        let answer = get(port, "/stats");
        let figures = answer.split("\r\n\r\n").last().unwrap();
        let figures: serde_json::Value = serde_json::from_str(figures).unwrap();
        figures["request_count"].as_u64().unwrap()
    };
    deck.stop_watching();
    for _ in 0..4 {
        let open = begin(port);
        let before = asked();
        deck.ok(&["stop", "--no-wait", "web1"]);
        let mut own = 0;
        wait_until("it is asked again and again", || {
            own += 1;
            asked() >= before + own + 5
        });
        assert!(end(open).contains("received 4 bytes"), "cut");
        deck.ok(&["stop", "web1"]);
        deck.ok(&["start", "web1"]);
    }
}

#[test]
fn a_drain_waits_for_what_concurrency_leaves_out() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port} --cut-at-term --concurrency never");
    let keys = "load = { swoole = \"/stats\" }\nmax_wait_time = \"2m\"\nreserve = \"1s\"";
    let mut deck = deck(&command, port, keys);
    let open = [begin(port), begin(port)];
    deck.wait("what the kernel sees", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight == Some(2) && !it.in_flight_exact)
    });

    deck.ok(&["stop", "--no-wait", "web1"]);
    deck.wait_state("web1", State::Draining);
    open.into_iter().for_each(|it| assert!(end(it).contains("received 4 bytes"), "cut"));
    deck.wait_state("web1", State::Stopped);
    assert_eq!(deck.instance("web1").last_exit.unwrap().lost, 0);
}

#[test]
fn a_drain_does_not_wait_for_a_count_that_nothing_is_behind() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port} --concurrency phantom");
    let keys = "load = { swoole = \"/stats\" }\nmax_wait_time = \"10m\"";
    let mut deck = deck(&command, port, keys);
    wait_load(&mut deck, "one that nobody sent", |it| it.in_flight == Some(1));
    deck.ok(&["stop", "web1"]);
}

#[test]
fn a_drain_does_not_wait_for_a_server_that_says_nothing() {
    let port = free_port();
    let command = format!("opsdeck sample --port {port}");
    // Nobody serves tcpmux (RFC 1078).
    let keys = "load = { swoole = \"http://127.0.0.1:1/stats\" }\nmax_wait_time = \"10m\"";
    let mut deck = deck(&command, port, keys);
    let load = wait_load(&mut deck, "why not", |it| it.error.is_some());
    assert_eq!(load.error.as_deref(), Some("connection refused"));
    assert_eq!((load.in_flight, load.requests), (None, None), "nothing is not zero");
    deck.ok(&["stop", "web1"]);
}

#[test]
fn who_asks_once_is_told_as_well() {
    let port = free_port();
    let mut deck =
        deck(&format!("opsdeck sample --port {port}"), port, "load = { swoole = \"/stats\" }");
    deck.stop_watching();
    wait_until("told without a deck", || {
        let text = deck.ok(&["status", "--json"]);
        let told: opsdeck::api::Deck = serde_json::from_str(&text).unwrap();
        let load = find(&told, "web1").and_then(|it| it.load.clone());
        load.is_some_and(|it| it.in_flight == Some(0) && it.workers == Some(1))
    });
}

/// A pool of php-fpm, and a script that waits until a file is there.
fn fpm(directory: &Path, listen: &str) -> Option<String> {
    let entries = std::fs::read_dir("/usr/sbin").unwrap().map_while(Result::ok);
    let program = entries
        .map(|it| it.path())
        .filter(|it| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with("php-fpm")))
        .min();
    if !has("php-fpm", program.is_some()) {
        return None;
    }
    let user = if nix::unistd::geteuid().is_root() { "user = root\ngroup = root\n" } else { "" };
    let text = format!(
        "[global]\nerror_log = /dev/stderr\n[www]\n{user}listen = {listen}\n\
         pm = static\npm.max_children = 4\npm.status_path = /status\n"
    );
    std::fs::write(directory.join("fpm.conf"), text).unwrap();
    let script = format!(
        "<?php while (!file_exists('{}/go')) {{ usleep(1000); clearstatcache(); }} echo 'done';",
        directory.display()
    );
    std::fs::write(directory.join("wait.php"), script).unwrap();
    let root = if nix::unistd::geteuid().is_root() { " --allow-to-run-as-root" } else { "" };
    let conf = directory.join("fpm.conf");
    Some(format!("{} --nodaemonize{root} --fpm-config {}", program?.display(), conf.display()))
}

/// A script of php-fpm that is run, over FastCGI.
fn run(mut stream: impl Read + Write, script: &Path) -> impl Read + Write {
    let script = script.display().to_string();
    let mut params = vec![];
    for (name, value) in [("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", &script)] {
        params.extend([u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()]);
        params.extend([name.as_bytes(), value.as_bytes()].concat());
    }
    let [high, low] = u16::try_from(params.len()).unwrap().to_be_bytes();
    let mut bytes =
        vec![1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1, high, low, 0, 0];
    bytes.extend(params);
    bytes.extend([1, 4, 0, 1, 0, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 0]);
    stream.write_all(&bytes).unwrap();
    stream
}

#[test]
fn php_fpm_is_asked_over_fastcgi() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(command) = fpm(directory.path(), &format!("127.0.0.1:{port}")) else { return };
    let mut deck = deck(&command, port, "profile = \"php-fpm\"\nload = { php_fpm = \"/status\" }");
    let idle = wait_load(&mut deck, "four that wait", |it| {
        (it.in_flight, it.workers, it.busy, it.idle) == (Some(0), Some(4), Some(0), Some(4))
    });
    assert_eq!(idle.source, format!("php_fpm fcgi://127.0.0.1:{port}/status"));

    let script = directory.path().join("wait.php");
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let runs: Vec<_> = (0..3).map(|_| run(connect(), &script)).collect();
    let busy = wait_load(&mut deck, "three scripts", |it| {
        (it.in_flight, it.busy, it.idle) == (Some(3), Some(3), Some(1))
    });
    assert!(busy.backlog_limit.is_none_or(|it| it > 0), "{busy:?}");

    std::fs::write(directory.path().join("go"), "").unwrap();
    for mut it in runs {
        let mut said = vec![];
        it.read_to_end(&mut said).unwrap();
        assert!(String::from_utf8_lossy(&said).contains("done"));
    }
    wait_load(&mut deck, "nothing in flight", |it| it.in_flight == Some(0));
}

#[test]
fn a_pool_that_is_too_busy_to_answer_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(command) = fpm(directory.path(), &format!("127.0.0.1:{port}")) else { return };
    let keys = "profile = \"php-fpm\"\nload = { php_fpm = \"/status\" }\nmax_wait_time = \"2m\"";
    let mut deck = deck(&command, port, keys);
    wait_load(&mut deck, "four that wait", |it| it.idle == Some(4));
    let script = directory.path().join("wait.php");
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let runs: Vec<_> = (0..4).map(|_| run(connect(), &script)).collect();
    wait_load(&mut deck, "nobody who answers", |it| {
        it.error.as_deref() == Some("no answer within 1s")
    });

    deck.ok(&["stop", "--no-wait", "web1"]);
    deck.wait("what keeps it busy", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight_exact && it.in_flight >= Some(4))
    });
    std::fs::write(directory.path().join("go"), "").unwrap();
    for mut it in runs {
        let mut said = vec![];
        it.read_to_end(&mut said).unwrap();
        assert!(String::from_utf8_lossy(&said).contains("done"));
    }
    deck.wait_state("web1", State::Stopped);
    assert_eq!(deck.instance("web1").last_exit.unwrap().lost, 0);
}

#[test]
fn a_reload_of_php_fpm_that_would_cut_requests_is_asked_about_first() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(command) = fpm(directory.path(), &format!("127.0.0.1:{port}")) else { return };
    // Certainly what the server has read.
    let conf = std::fs::File::options().write(true).open(directory.path().join("fpm.conf"));
    conf.unwrap().set_modified(UNIX_EPOCH + PATIENCE).unwrap();
    let mut deck = deck(&command, port, "profile = \"php-fpm\"\nload = { php_fpm = \"/status\" }");
    wait_load(&mut deck, "somebody who listens", |it| it.in_flight == Some(0));
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let script = directory.path().join("wait.php");
    let mut asked = run(stream, &script);
    deck.wait("one in flight", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight == Some(1) && it.in_flight_exact)
    });
    let output = deck.opsdeck(&["reload", "web1"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{told}");
    let question = "SIGUSR2 cuts 1 request in flight at web1: its process_control_timeout is 0";
    assert!(told.contains(question) && told.contains("`--yes`"), "{told}");

    std::fs::write(directory.path().join("go"), "").unwrap();
    let mut said = vec![];
    asked.read_to_end(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("done"));
    // A worker waits until its client has closed.
    drop(asked);
    wait_load(&mut deck, "nothing in flight", |it| it.in_flight == Some(0));
    let told = deck.ok(&["reload", "web1"]);
    assert!(told.contains("renewed 4 of 4 workers"), "{told}");

    // It has read its file, and that is another one by now, whatever the clock of its disk says.
    let conf = std::fs::File::options().write(true).open(directory.path().join("fpm.conf"));
    conf.unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1 << 32)).unwrap();
    std::fs::remove_file(directory.path().join("go")).unwrap();
    let mut asked = run(TcpStream::connect(("127.0.0.1", port)).unwrap(), &script);
    deck.wait("one in flight", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_flight == Some(1) && it.in_flight_exact)
    });
    let output = deck.opsdeck(&["reload", "web1"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(
        told.contains("SIGUSR2 may cut 1 request in flight at web1: its configuration"),
        "{told}"
    );
    std::fs::write(directory.path().join("go"), "").unwrap();
    asked.read_to_end(&mut said).unwrap();
}

#[test]
fn php_fpm_is_asked_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("fpm.sock").display().to_string();
    let Some(command) = fpm(directory.path(), &socket) else { return };
    let load = format!("load = {{ php_fpm = \"fcgi://unix:{socket}:/status\" }}");
    // Its port is nobody's: it is asked where it listens.
    let mut deck = deck(&command, free_port(), &load);
    let idle = wait_load(&mut deck, "an answer", |it| it.in_flight == Some(0));
    assert_eq!(idle.workers, Some(4), "{idle:?}");
}

#[test]
fn nginx_is_asked_for_its_stub_status() {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from);
    let program = program.into_iter().find(|it| it.exists());
    if !has("nginx", program.is_some()) {
        return;
    }
    let port = free_port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|it| format!("{it}_temp_path {path}/{it};\n"))
        .concat();
    let text = format!(
        "daemon off; worker_processes 1; pid {path}/pid; error_log stderr; {user}\nevents {{}}\n\
         http {{ access_log off; {temp} server {{ listen 127.0.0.1:{port};\n\
         location = /stub {{ stub_status; }} location / {{ return 200 ok; }} }} }}\n"
    );
    std::fs::write(directory.path().join("nginx.conf"), text).unwrap();
    let command = format!("{} -c {path}/nginx.conf", program.unwrap().display());
    let mut deck = deck(&command, port, "profile = \"nginx\"\nload = { nginx = \"/stub\" }");
    let first = wait_load(&mut deck, "an answer", |it| it.in_flight == Some(0));
    let before = first.requests.unwrap();
    (0..20).for_each(|_| assert!(get(port, "/").contains("200 OK")));
    let last = wait_load(&mut deck, "20 requests more", |it| {
        it.requests.is_some_and(|it| it >= before + 20)
    });
    assert!(last.requests.unwrap() < before + 20 + 50, "{last:?}");

    // Some that say nothing wait, and one that has begun to ask is in flight.
    let waiting: Vec<_> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let mut asking = TcpStream::connect(("127.0.0.1", port)).unwrap();
    asking.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    wait_load(&mut deck, "one in flight", |it| {
        it.in_flight == Some(1) && it.connections == Some(4)
    });
    drop((waiting, asking));
    wait_load(&mut deck, "nobody", |it| it.in_flight == Some(0) && it.connections == Some(0));
}

/// Exposes metrics with Prometheus' own library; 77: there is none.
const METRICS: &str = r#"
import sys, time
try:
    from prometheus_client import Counter, Gauge, start_http_server
except ImportError:
    sys.exit(77)
requests = Counter('shop_requests', 'Requests.', ['code'])
requests.labels('200').inc(40)
requests.labels('404').inc(2)
jobs = Gauge('shop_in_flight', 'In "flight"\\n.', ['queue'])
jobs.labels('a "b"').set(3)
jobs.labels('mail').set(4)
start_http_server(int(sys.argv[1]), addr='127.0.0.1')
while True:
    time.sleep(1000)
"#;

#[test]
fn metrics_are_read_as_prometheus_own_library_writes_them() {
    let has_library = std::process::Command::new(python())
        .args(["-c", "import prometheus_client"])
        .status()
        .is_ok_and(|it| it.success());
    if !has("python3-prometheus-client", has_library) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("metrics.py");
    std::fs::write(&script, METRICS).unwrap();
    let port = free_port();
    let command = format!("{} {} {port}", python(), script.display());
    let load = r#"load = { prometheus = { url = "/metrics", requests = "shop_requests_total", in_flight = "shop_in_flight{queue=\"a \\\"b\\\"\"}" } }"#;
    let mut deck = deck(&command, port, load);
    let it = wait_load(&mut deck, "an answer", |it| it.requests.is_some());
    assert_eq!((it.requests, it.in_flight), (Some(42), Some(3)), "{it:?}");
    assert_eq!(it.source, format!("prometheus http://127.0.0.1:{port}/metrics"));
}

/// An application of gunicorn that counts as `prometheus_client` does over several processes, and answers when a file
/// is there.
const COUNTING: &str = r"
import os, time
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

requests = Counter('shop_requests', 'Requests.')
in_flight = Gauge('shop_in_flight', 'In flight.', multiprocess_mode='livesum')

def app(env, start):
    requests.inc()
    with in_flight.track_inprogress():
        body = b'done'
        if env['PATH_INFO'] == '/metrics':
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            body = generate_latest(registry)
        while env['PATH_INFO'] == '/wait' and not os.path.exists('go'):
            time.sleep(0.001)
    start('200 OK', [('content-length', str(len(body)))])
    return [body]
";

#[test]
fn gunicorn_is_read_by_what_its_application_counts() {
    let library = Path::new("/usr/lib/python3/dist-packages/prometheus_client").exists();
    let program = Path::new("/usr/bin/gunicorn").exists();
    if !has("gunicorn with python3-prometheus-client", library && program) {
        return;
    }
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let path = directory.path().display();
    std::fs::write(directory.path().join("app.py"), COUNTING).unwrap();
    std::fs::create_dir(directory.path().join("metrics")).unwrap();
    let command = format!(
        "/usr/bin/gunicorn --workers 4 --worker-tmp-dir {path} --bind 127.0.0.1:{port} --chdir {path} app:app"
    );
    let keys = format!(
        "profile = \"gunicorn\"\nenvironment = {{ PROMETHEUS_MULTIPROC_DIR = \"{path}/metrics\" }}\n\
         load = {{ prometheus = {{ url = \"/metrics\", requests = \"shop_requests_total\", \
         in_flight = \"shop_in_flight\", counts_itself = true }} }}"
    );
    let mut deck = deck(&command, port, &keys);
    let first = wait_load(&mut deck, "an answer", |it| it.in_flight == Some(0));
    assert!(first.in_flight_exact && first.error.is_none(), "{first:?}");

    let waiting: Vec<_> = (0..2).map(|_| ask(port, "/wait")).collect();
    wait_load(&mut deck, "two in flight", |it| it.in_flight == Some(2));
    std::fs::write(directory.path().join("go"), "").unwrap();
    waiting.into_iter().for_each(|it| assert!(answer(it).ends_with("done")));
    let before = first.requests.unwrap();
    (0..10).for_each(|_| assert!(get(port, "/").contains("200 OK")));
    let last = wait_load(&mut deck, "12 requests more, and none in flight", |it| {
        it.requests.is_some_and(|it| it >= before + 12) && it.in_flight == Some(0)
    });
    // The rest is what asked.
    assert!(last.requests.unwrap() < before + 12 + 50, "{last:?}");
}

/// Listens and accepts nobody.
const DEAF: &str = "import socket, sys, time\n\
    it = socket.socket()\nit.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
    it.bind(('127.0.0.1', int(sys.argv[1])))\nit.listen(2)\ntime.sleep(100000)\n";

#[test]
fn a_full_backlog_is_told_with_its_limit() {
    let port = free_port();
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("deaf.py");
    std::fs::write(&script, DEAF).unwrap();
    let command = format!("{} {} {port}", python(), script.display());
    let mut deck = deck(&command, port, "load = \"sockets\"");
    deck.wait("its backlog", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.accept_limit == Some(2) && !it.is_backlog_full())
    });
    // One more than the limit fits; of the rest the kernel hears nothing.
    let clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    deck.wait("a full backlog", |deck, _| {
        find(deck, "web1").is_some_and(|it| {
            it.is_backlog_full() && it.accept_queue == Some(3) && it.connections == Some(3)
        })
    });
    drop(clients);
}
