//! The API as `curl --unix-socket` meets it: raw HTTP on the socket.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use opsdeck::api::{Change, Problem, State};
use serde_json::Value;
use support::{Deck, PATIENCE, free_port};

const QUICK: &str = "[defaults]\nstart_seconds = \"50ms\"\n";

fn sleeper() -> String {
    QUICK.to_owned() + "[service.a]\ncommand = \"sleep 1000\"\n"
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}{}", self.head, self.body))
    }

    /// What, why and what to do, with the right type and status.
    #[track_caller]
    fn problem(&self, status: u16) -> Problem {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        assert!(self.head.contains("application/problem+json"), "{}\n{}", self.head, self.body);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, status);
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        assert!(problem.help.is_some() || matches!(status, 409 | 422), "{problem:?}");
        // For people: no words of the libraries in it.
        for word in ["struct", "variant", "deserialize", "Invalid URL"] {
            assert!(!problem.detail.contains(word), "{problem:?}");
        }
        problem
    }
}

fn open(deck: &Deck) -> UnixStream {
    let stream = UnixStream::connect(deck.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes and reads the answer to its end.
fn ask(deck: &Deck, line: &str, body: Option<&str>) -> Answer {
    let mut stream = open(deck);
    let length = body.map_or(String::new(), |it| format!("content-length: {}\r\n", it.len()));
    let head = format!("{line} HTTP/1.1\r\nhost: opsdeck\r\nconnection: close\r\n{length}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The daemon may refuse before it has read all of it.
    let _ = stream.write_all(body.unwrap_or_default().as_bytes());
    let mut bytes = vec![];
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The names of an object's fields, sorted.
fn fields(value: &Value) -> Vec<String> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

/// Every field has its type; there is none beside them. `?` after a type: or null.
#[track_caller]
fn has_exactly(value: &Value, types: &str) {
    let is = |it: &Value, kind: &str| match kind {
        "text" => it.is_string(),
        "number" => it.is_number(),
        "count" => it.is_u64(),
        "flag" => it.is_boolean(),
        "list" => it.is_array(),
        "table" => it.is_object(),
        "time" => it.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok()),
        _ => panic!("no type {kind}"),
    };
    let mut names = vec![];
    for field in types.split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let it = &value[name];
        let fits = match kind.strip_suffix('?') {
            Some(kind) => it.is_null() || is(it, kind),
            None => is(it, kind),
        };
        assert!(fits, "{field} is {it}");
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(fields(value), names);
}

#[test]
fn the_snapshot_has_the_documented_fields_and_status_prints_the_same() {
    let port = free_port();
    let services = format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --ignore-term --exit-code 0\"\nmax_wait_time = \"60s\"\n\
         instance.web1 = {{ port = {port} }}\nprobe.readiness = {{ tcp = {{}}, period = \"50ms\" }}\nrollout.ready_timeout = \"60s\"\n"
    );
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1"]);
    deck.ok(&["stop", "--now", "web1"]);
    deck.ok(&["start", "web1"]);
    deck.ok(&["roll", "web", "--yes", "--no-wait"]);
    deck.wait_state("web1", State::Stopping);

    let snapshot = ask(&deck, "GET /v1/deck", None).json();
    has_exactly(
        &snapshot,
        "deck:text host:text revision:count version:text pid:count now:time config:table at_boot:flag? \
         role:text notices:list services:list",
    );
    has_exactly(
        &snapshot["config"],
        "path:text error:text? pending:list confirm:text keys:table look:table title:flag notify:text",
    );
    let service = &snapshot["services"][0];
    has_exactly(
        service,
        "name:text engine:text profile:text goal:text state:text ready:count wanted:count stale:flag \
         rollout:table? can_roll_back:flag gateway:table? instances:list",
    );
    has_exactly(
        &service["rollout"],
        "by:text since:time step:text instance:text? done:count of:count renewed:list paused:flag \
         aborting:flag rollback:flag halted:text? ended:time?",
    );
    let instance = &service["instances"][0];
    has_exactly(
        instance,
        "name:text service:text goal:text state:text pid:count? start_time:count? generation:count \
         port:count? backup:flag stale:flag live:flag? ready:flag? in_rotation:flag held_by:text? \
         in_flight:count? in_flight_exact:flag accept_queue:count? accept_limit:count? connections:count? \
         load:table? oldest_ms:count? \
         requests_per_second:number? p99_ms:number? traffic:table? ejected:flag countdown:table? retry_at:time? \
         cpu_percent:number? memory_bytes:count? restarts:count since:time started:time? \
         last_exit:table? reload:table? probes:table why:text",
    );
    has_exactly(
        &instance["countdown"],
        "elapsed_ms:count max_wait_time_ms:count kill_at:time rung:text?",
    );
    has_exactly(
        &instance["last_exit"],
        "at:time code:count? signal:text? lost:count lost_exact:flag cause:text words:text?",
    );
    has_exactly(
        &instance["probes"]["readiness"],
        "at:time ok:flag latency_ms:number status:number? body:text? error:text? in_a_row:count",
    );
    assert_eq!(instance["state"], "stopping");
    assert_eq!(instance["countdown"]["rung"], "SIGTERM");
    assert_eq!(instance["countdown"]["max_wait_time_ms"], 60_000);
    assert_eq!(instance["last_exit"]["signal"], "SIGKILL");
    assert!(snapshot["now"].as_str().unwrap().ends_with('Z'));

    let printed: Value =
        serde_json::from_slice(&deck.opsdeck(&["status", "--json"]).stdout).unwrap();
    assert_eq!(fields(&printed), fields(&snapshot));
    assert_eq!(fields(&printed["services"][0]), fields(service));
    // It prints the trees as well.
    let printed = &printed["services"][0]["instances"][0];
    let of_tree = printed["processes"].as_array().unwrap();
    assert_eq!(of_tree[0]["pid"], instance["pid"]);
    assert!(of_tree[0]["state"].is_string() && of_tree[0]["threads"].is_u64(), "{of_tree:?}");
    let mut printed = fields(printed);
    printed.retain(|it| *it != "processes");
    assert_eq!(printed, fields(instance));
}

#[test]
fn the_brief_snapshot_is_a_part_of_the_whole_one_and_follows_every_change() {
    let services = sleeper() + "[service.b]\ncommand = \"sleep 1000\"\n";
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["a", "b"]);
    let brief = |deck: &Deck| ask(deck, "GET /v1/deck?brief=true", None).json();

    let first = brief(&deck);
    let whole = ask(&deck, "GET /v1/deck", None).json();
    assert_eq!(fields(&first), fields(&whole));
    assert_eq!(fields(&first["services"][1]), ["goal", "instances", "name", "state"]);
    let (part, instance) =
        (&first["services"][1]["instances"][0], &whole["services"][1]["instances"][0]);
    let kept = ["generation", "goal", "name", "pid", "ready", "restarts", "state", "why"];
    assert_eq!(fields(part), kept);
    assert!(kept.iter().all(|it| part[it] == instance[it]), "{part} of {instance}");

    deck.ok(&["stop", "b"]);
    let stopped = brief(&deck);
    assert_eq!(stopped["services"][1]["state"], "stopped");
    assert_eq!(stopped["services"][0], first["services"][0], "nothing happened to it");
    deck.ok(&["start", "b"]);
    assert_eq!(brief(&deck)["services"][1]["instances"][0]["generation"], 2);
}

#[test]
fn an_action_without_a_body_is_done_at_once() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    let answer = ask(&deck, "POST /v1/services/a/stop", None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    deck.wait_state("a", State::Stopped);
    assert_eq!(ask(&deck, "POST /v1/instances/a/start", Some("{}")).status, 200);
    deck.wait_ready(&["a"]);
}

#[test]
fn what_is_not_there_is_a_problem_with_404() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    ask(&deck, "GET /v1/nothing", None).problem(404);
    ask(&deck, "POST /v1/services/b/stop", None).problem(404);
    ask(&deck, "POST /v1/instances/b/stop", None).problem(404);
    ask(&deck, "GET /v1/instances/b/why", None).problem(404);
    ask(&deck, "GET /v1/instances/b/logs", None).problem(404);
    ask(&deck, "POST /v1/rollouts/b/abort", None).problem(404);
}

#[test]
fn what_was_asked_wrongly_is_a_problem_too() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    ask(&deck, "POST /v1/services/a/stop", Some("{\"now\": ")).problem(400);
    ask(&deck, "POST /v1/services/a/stop", Some("[1, 2]")).problem(400);
    ask(&deck, "POST /v1/services/a/fly", None).problem(404);
    // What is misspelt must not be taken for what is not said.
    ask(&deck, "POST /v1/shutdown", Some("{\"kep\":true}")).problem(400);
    ask(&deck, "POST /v1/services/a/roll", Some("{\"dry-run\":true}")).problem(400);
    ask(&deck, "POST /v1/instances/a/signal", Some("{\"signal\":\"SIGTERM\",\"pid\":1}"))
        .problem(400);
    ask(&deck, "GET /v1/events?lines=many", None).problem(400);
    ask(&deck, "GET /v1/events?since=yesterday", None).problem(400);
    ask(&deck, "GET /v1/instances/a/logs?since=-1", None).problem(400);
    ask(&deck, "GET /v1/deck?brief=perhaps", None).problem(400);
    ask(&deck, "GET /v1/services/a/stop", None).problem(405);
    ask(&deck, "POST /v1/deck", None).problem(405);
    ask(&deck, "POST /v1/instances/a/signal", None).problem(422);
    ask(&deck, "POST /v1/instances/a/signal", Some("{\"signal\":\"SIGNOTHING\"}")).problem(422);
    ask(&deck, "GET /v1/instances/a/logs?grep=(", None).problem(422);
    let long = format!("{{\"signal\": \"{}\"}}", "x".repeat(100 << 10));
    ask(&deck, "POST /v1/instances/a/signal", Some(&long)).problem(413);
    deck.catch_up();
    assert_eq!(deck.instance("a").state, State::Running);
}

#[test]
fn since_is_a_duration_or_a_time() {
    let talker = "[service.a]\ncommand = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\n";
    let mut deck = Deck::start(&format!("{QUICK}{talker}"));
    deck.wait_ready(&["a"]);
    deck.wait_line("a", "hello");
    let now: jiff::Timestamp =
        ask(&deck, "GET /v1/deck", None).json()["now"].as_str().unwrap().parse().unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let (past, future) = (now - hour, now + hour);
    for (since, there) in [
        ("1h".to_owned(), true),
        ("1h30m".to_owned(), true),
        ("3600000".to_owned(), true),
        (past.to_string(), true),
        (future.to_string(), false),
    ] {
        for path in ["/v1/events", "/v1/instances/a/logs"] {
            let answer = ask(&deck, &format!("GET {path}?since={since}"), None);
            assert_eq!(answer.status, 200, "{}", answer.body);
            let found = answer.body.contains("started, pid") || answer.body.contains("hello");
            assert_eq!(found, there, "{path} {since}: {}", answer.body);
        }
    }
}

#[test]
fn a_signal_for_another_process_than_the_one_seen_is_refused() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    let seen = deck.instance("a");
    let body = format!(
        "{{\"signal\":\"SIGTERM\",\"pid\":{},\"start_time\":{}}}",
        seen.pid.unwrap(),
        seen.start_time.unwrap() + 1
    );
    let problem = ask(&deck, "POST /v1/instances/a/signal", Some(&body)).problem(409);
    assert_eq!(problem.kind, opsdeck::api::problem::CHANGED);
    deck.catch_up();
    assert_eq!(deck.pid("a"), seen.pid.unwrap());
}

/// The lines of a watch, out of the chunks they come in.
fn watch(deck: &Deck) -> impl Iterator<Item = Change> + use<> {
    let mut stream = open(deck);
    stream.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: opsdeck\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter(|it| it.starts_with('{')).map(|it| serde_json::from_str(&it).unwrap())
}

#[test]
fn a_watch_begins_with_a_snapshot_and_goes_on_with_greater_revisions() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    let mut lines = watch(&deck);
    let Some(Change::Snapshot { deck: picture, .. }) = lines.next() else { panic!("no snapshot") };
    deck.ok(&["stop", "a"]);
    let mut last = picture.revision;
    let mut is_stopped = false;
    while !is_stopped {
        let Some(Change::Change { revision, services, .. }) = lines.next() else {
            panic!("no change")
        };
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        is_stopped = services.iter().any(|it| it.state == State::Stopped);
    }
}

/// Orders while somebody does not read.
const ROUNDS: usize = 300;

#[test]
fn a_watcher_that_does_not_read_delays_nobody_and_gets_a_new_snapshot() {
    let mut services = sleeper();
    services += "[service.b]\ncommand = \"sleep 1000\"\n";
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["a", "b"]);
    let mut slow = watch(&deck);
    assert!(matches!(slow.next(), Some(Change::Snapshot { .. })));

    // More than the socket and the queue hold.
    for _ in 0..ROUNDS {
        let answer = ask(&deck, "POST /v1/instances/a/restart", None);
        assert!(answer.status < 500, "{}", answer.body);
        assert_eq!(ask(&deck, "GET /v1/deck", None).status, 200);
    }
    deck.wait_ready(&["a"]);
    let now = ask(&deck, "GET /v1/deck", None).json()["revision"].as_u64().unwrap();
    // It catches up, by a snapshot where it lagged: revisions go up and never skip back.
    let mut last = 0;
    while last < now {
        let revision = match slow.next() {
            Some(Change::Snapshot { deck, .. }) => deck.revision,
            Some(Change::Change { revision, .. }) => revision,
            other => panic!("no change after {last} of {now}: {other:?}"),
        };
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    }
}

#[test]
fn two_hundred_watchers_hear_the_same_and_as_many_that_do_not_read_cost_nothing() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    let mut readers: Vec<_> = (0..200).map(|_| watch(&deck)).collect();
    for reader in &mut readers {
        assert!(matches!(reader.next(), Some(Change::Snapshot { .. })));
    }
    let deaf: Vec<_> = (0..200).map(|_| watch(&deck)).collect();
    deck.ok(&["stop", "a"]);
    for reader in &mut readers {
        let stopped = reader.any(|it| match it {
            Change::Snapshot { deck, .. } => deck.services[0].state == State::Stopped,
            Change::Change { services, .. } => services.iter().any(|it| it.state == State::Stopped),
            Change::Unknown => false,
        });
        assert!(stopped);
    }
    drop(deaf);
}

#[test]
fn a_client_that_says_nothing_costs_nobody_anything() {
    let mut deck = Deck::start(&sleeper());
    deck.wait_ready(&["a"]);
    let silent: Vec<_> = (0..50).map(|_| open(&deck)).collect();
    let mut half = open(&deck);
    half.write_all(b"POST /v1/services/a/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
        .unwrap();
    assert_eq!(ask(&deck, "GET /v1/deck", None).status, 200);
    half.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(half.read(&mut [0]).is_err());
    drop(silent);
}
