//! What is told of a rollout afterwards: the record, the report, and what the next plan expects.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use opsdeck::api::{Plan, RolloutRecord};
use support::{Deck, free_port, kill};

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
    let mut deck = Deck::start(&web(""));
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
