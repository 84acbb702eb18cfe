//! Probes against real servers: what they say, what follows, what they do not delay.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use opsdeck::api::{ProbeResult, State};
use support::{Deck, find, free_port, is_alive};

/// A sample server with these flags and this under `probe`.
fn web(flags: &str, probes: &str) -> String {
    let port = free_port();
    format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} {flags}\"\n\
         instance.web1 = {{ port = {port} }}\nmax_wait_time = \"2s\"\nstart_seconds = \"50ms\"\n{probes}\n"
    )
}

fn result(deck: &Deck, name: &str, probe: &str) -> ProbeResult {
    deck.instance(name).probes.get(probe).cloned().unwrap_or_default()
}

#[test]
fn an_instance_leaves_and_rejoins_the_rotation_as_its_readiness_flips() {
    let mut deck = Deck::start(&web(
        "--flip-ready 400ms",
        "probe.readiness = { http.path = \"/readiness\", period = \"50ms\", failure_threshold = 1 }",
    ));
    let is_in = |wanted| {
        move |deck: &opsdeck::api::Deck, _: &[opsdeck::api::Event]| {
            find(deck, "web1")
                .is_some_and(|it| it.in_rotation == wanted && it.ready == Some(wanted))
        }
    };
    deck.wait("in rotation", is_in(true));
    let pid = deck.pid("web1");
    deck.wait("out of rotation", is_in(false));
    assert_eq!(deck.instance("web1").state, State::Running);
    deck.wait("in rotation again", is_in(true));
    assert_eq!((deck.pid("web1"), deck.instance("web1").restarts), (pid, 0));
}

#[test]
fn a_liveness_that_hangs_restarts_the_instance_through_its_ladder() {
    let mut deck = Deck::start(&web(
        "--hang-liveness",
        "probe.liveness = { http.path = \"/liveness\", period = \"100ms\", timeout = \"100ms\", failure_threshold = 2 }",
    ));
    deck.wait("a process", |deck, _| find(deck, "web1").is_some_and(|it| it.pid.is_some()));
    let pid = deck.pid("web1");
    let event = deck.wait_event("liveness fails");
    assert!(event.message.contains("restarts"), "{}", event.message);
    deck.wait_event("SIGTERM");
    deck.wait("the next generation", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.generation >= 2 && it.pid.is_some())
    });
    assert!(!is_alive(pid));
    assert!(deck.instance("web1").restarts >= 1);
}

#[test]
fn an_exec_probe_is_run_like_the_service_and_keeps_what_it_printed() {
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("flag");
    let services = format!(
        "[service.job]\ncommand = \"sleep 1000\"\nenvironment = {{ FLAG = \"{}\" }}\n\
         probe.readiness = {{ exec.command = ['sh', '-c', 'echo looked for $FLAG; test -e $FLAG'], period = \"50ms\", failure_threshold = 1 }}\n",
        flag.display()
    );
    let mut deck = Deck::start(&services);
    deck.wait("a failed check", |deck, _| {
        find(deck, "job")
            .is_some_and(|it| it.ready == Some(false) && it.probes.contains_key("readiness"))
    });
    let failed = result(&deck, "job", "readiness");
    assert_eq!((failed.ok, failed.status), (false, Some(1)));
    assert_eq!(failed.body.unwrap().trim(), format!("looked for {}", flag.display()));
    deck.wait_why("job", &[&format!("readiness was answered \"looked for {}\"", flag.display())]);

    std::fs::write(&flag, "").unwrap();
    deck.wait_ready(&["job"]);
    assert_eq!(result(&deck, "job", "readiness").status, Some(0));
    assert!(!deck.ok(&["why", "job"]).contains("looked for"), "that is over");
}

#[test]
fn a_tcp_probe_passes_once_the_port_is_listened_on() {
    let mut deck = Deck::start(&web(
        "--start-delay 500ms",
        "probe.readiness = { tcp = {}, period = \"50ms\", failure_threshold = 1 }",
    ));
    deck.wait("a refused connection", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.probes.get("readiness").is_some_and(|it| !it.ok))
    });
    assert!(result(&deck, "web1", "readiness").error.unwrap().contains("refused"));
    deck.wait_ready(&["web1"]);
    assert_eq!(deck.instance("web1").restarts, 0);
}

#[test]
fn liveness_and_readiness_wait_for_startup() {
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("flag");
    let mut deck = Deck::start(&web(
        "",
        &format!(
            "probe.startup = {{ exec.command = \"test -e {}\", period = \"50ms\", failure_threshold = 100000 }}\n\
             probe.liveness = {{ tcp = {{}}, period = \"50ms\" }}\n\
             probe.readiness = {{ http.path = \"/readiness\", period = \"50ms\" }}",
            flag.display()
        ),
    ));
    deck.wait("five failed startup checks", |deck, _| {
        find(deck, "web1")
            .is_some_and(|it| it.probes.get("startup").is_some_and(|it| it.in_a_row >= 5))
    });
    let early = deck.instance("web1");
    assert_eq!(early.probes.keys().collect::<Vec<_>>(), ["startup"]);
    assert_eq!((early.state, early.in_rotation), (State::Starting, false));

    std::fs::write(flag, "").unwrap();
    deck.wait_ready(&["web1"]);
    deck.wait("liveness as well", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.live == Some(true))
    });
}

#[test]
fn a_startup_that_never_passes_ends_the_generation() {
    let mut deck = Deck::start(&web(
        "",
        "probe.startup = { exec.command = \"false\", period = \"50ms\", failure_threshold = 3 }",
    ));
    deck.wait("a second generation", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.generation >= 2)
    });
    assert!(deck.events.iter().any(|it| it.kind == "startup-failed"), "{}", deck.story());
}

#[test]
fn an_empty_page_with_status_200_is_not_ready_where_a_body_is_expected() {
    let mut deck = Deck::start(&web(
        "--empty-body",
        "probe.readiness = { http.path = \"/readiness\", period = \"50ms\", failure_threshold = 1, expect = { status = \"200\", body = \"ready\" } }",
    ));
    deck.wait("a failed check of an answer", |deck, _| {
        find(deck, "web1")
            .is_some_and(|it| it.probes.get("readiness").is_some_and(|it| it.status == Some(200)))
    });
    let checked = result(&deck, "web1", "readiness");
    assert_eq!((checked.ok, checked.body.as_deref()), (false, Some("")));
    assert!(checked.error.is_some());
    assert_eq!(deck.instance("web1").ready, Some(false));
    let why = deck.ok(&["why", "web1"]);
    assert!(why.contains("readiness"), "{why}");
}

#[test]
fn a_target_that_hangs_delays_no_other_probe() {
    let hanging = web(
        "--hang-liveness",
        "probe.liveness = { http.path = \"/liveness\", period = \"50ms\", timeout = \"60s\" }\n\
         probe.readiness = { http.path = \"/readiness\", period = \"50ms\" }",
    );
    let good = hanging.replace("--hang-liveness", "").replace("service.web", "service.good");
    let good = good.replace("instance.web1", "instance.good1");
    let port = good.split("port = ").nth(1).unwrap().split(' ').next().unwrap();
    let good = good.replace(port, &free_port().to_string());
    let mut deck = Deck::start(&(hanging + &good));
    deck.wait("ten answers of each probe that is answered", |deck, _| {
        let answers = |name: &str, probe: &str| {
            let result = find(deck, name).and_then(|it| it.probes.get(probe));
            result.is_some_and(|it| it.ok && it.in_a_row >= 10)
        };
        answers("web1", "readiness")
            && answers("good1", "readiness")
            && answers("good1", "liveness")
    });
    // It may have been asked, and refused, before it listened.
    let hanging = deck.instance("web1").probes.get("liveness").cloned();
    assert!(hanging.is_none_or(|it| !it.ok && it.status.is_none()));
}

/// Whether a process lives that sleeps this long.
fn sleeps(seconds: u32) -> bool {
    let line = format!("sleep\0{seconds}\0");
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.into_iter().any(|it| it == line.as_bytes())
}

/// What a probe started is gone once its result is there, whatever it did to get away.
#[track_caller]
fn an_exec_probe_leaves_nothing(script: &str, ok: bool) {
    // Nobody else sleeps as long.
    let seconds = 1_000_000 + u32::from(free_port());
    let script = script.replace("N", &seconds.to_string());
    let mut deck = Deck::start(&format!(
        "[service.a]\ncommand = \"opsdeck sample --worker\"
         probe.liveness = {{ exec.command = [\"sh\", \"-c\", \"{script}\"], period = \"1h\", timeout = \"1s\" }}"
    ));
    deck.wait("the only result", |deck, _| {
        let result = find(deck, "a").and_then(|it| it.probes.get("liveness"));
        result.is_some_and(|it| it.ok == ok)
    });
    support::wait_until("everything gone", || !sleeps(seconds));
}

#[test]
fn an_exec_probe_that_forks_and_hangs_ends_with_all_it_started() {
    an_exec_probe_leaves_nothing("setsid sleep N & sleep N & sleep N", false);
}

#[test]
fn an_exec_probe_that_passes_leaves_nothing_behind() {
    an_exec_probe_leaves_nothing("(setsid sleep N &) ; (sleep N &) ; exit 0", true);
}

/// A server of the gRPC library itself: it knows `shop`, which serves while there is no file of this name.
const GRPC_SERVER: &str = r#"
import os, sys
from concurrent import futures
try:
    import grpc
except ImportError:
    sys.exit(77)
if len(sys.argv) < 3:
    sys.exit(0)
class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(check)
def check(request, context):
    service = request[2:].decode() if request else ""
    if service not in ("", "shop"):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return b"\x08\x02" if os.path.exists(sys.argv[2]) else b"\x08\x01"
server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Health(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
"#;

#[test]
fn a_server_is_asked_for_its_health_by_grpc() {
    let tools = tempfile::tempdir().unwrap();
    let [script, sick] = ["server.py", "sick"].map(|it| tools.path().join(it));
    std::fs::write(&script, GRPC_SERVER).unwrap();
    let tried = support::output_of(std::process::Command::new(support::python()).arg(&script));
    if tried.status.code() == Some(77) {
        return support::skip::skip("python3-grpcio");
    }
    let command = format!("{} {} {{port}} {}", support::python(), script.display(), sick.display());
    let ports = [free_port(), free_port(), free_port()];
    let service = |name: &str, port: u16, asked: &str| {
        format!(
            "[service.{name}]\ncommand = {command:?}\ninstance.{name}1 = {{ port = {port} }}\n\
             probe.readiness = {{ grpc = {{ {asked} }}, period = \"100ms\", timeout = \"10s\", failure_threshold = 1 }}\n"
        )
    };
    let mut deck = Deck::start(
        &[
            service("named", ports[0], "service = \"shop\""),
            service("whole", ports[1], ""),
            service("stranger", ports[2], "service = \"shoe\""),
        ]
        .concat(),
    );
    deck.wait_ready(&["named1", "whole1"]);
    let passed = result(&deck, "named1", "readiness");
    assert_eq!((passed.status, passed.body.as_deref()), (Some(0), Some("SERVING")));
    deck.wait("a service that it does not know", |it, _| {
        let probe = find(it, "stranger1").and_then(|it| it.probes.get("readiness").cloned());
        probe.and_then(|it| it.error).is_some_and(|it| it.contains("NOT_FOUND"))
    });
    assert_ne!(deck.instance("stranger1").ready, Some(true));

    std::fs::write(&sick, "").unwrap();
    let is_ready = |deck: &opsdeck::api::Deck, wanted| {
        ["named1", "whole1"]
            .iter()
            .all(|it| find(deck, it).is_some_and(|it| it.ready == Some(wanted)))
    };
    deck.wait("not ready", |it, _| is_ready(it, false));
    let failed = result(&deck, "named1", "readiness").error;
    assert_eq!(failed.as_deref(), Some("answered NOT_SERVING, expected SERVING"));
    std::fs::remove_file(&sick).unwrap();
    deck.wait("ready again", |it, _| is_ready(it, true));
    assert_eq!(deck.instance("named1").restarts, 0);
}
