//! What somebody who has never seen the deck must find from the screen alone, in few keys.
//!
//! Each test starts the deck as it comes up, counts the keys that it presses, and reads the answer
//! off the screen at 80 by 24.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use opsdeck::api::State;
use support::console::Console;
use support::{Deck, free_port};

/// A deck at the terminal of somebody who counts.
struct Stranger {
    console: Console,
    pressed: usize,
}

impl Stranger {
    fn at(deck: &Deck) -> Self {
        let mut console = Console::start(&deck.command(&[]), 80, 24);
        console.wait_for("? help");
        Self { console, pressed: 0 }
    }

    /// One key, and what must be on the screen because of it.
    fn key(&mut self, key: &str, then: &str) {
        self.pressed += 1;
        self.console.press(key);
        self.console.wait_for(then);
    }

    /// One key that moves the cursor.
    fn step(&mut self, key: &str) {
        self.pressed += 1;
        self.console.step(key);
    }

    fn leaves_after(mut self, at_most: usize) {
        assert!(self.pressed <= at_most, "{} keys\n{}", self.pressed, self.console.text());
        // Out of what filters, out of the log, out of the page it was opened from. An Esc and what comes right
        // after it would be another key.
        for _ in 0..3 {
            if self.console.text().contains("q detach") {
                break;
            }
            self.console.press("\x1b");
            self.console.bytes_written_within(std::time::Duration::from_secs(1));
        }
        self.console.wait_for("q detach");
    }
}

fn web(readiness: &str) -> String {
    format!(
        r#"
[service.web]
command = "opsdeck sample --port {{port}} --max-wait-time 5s"
max_wait_time = "8s"
instance.web1 = {{ port = {} }}
instance.web2 = {{ port = {}, backup = true }}
probe.readiness = {{ http.path = "{readiness}", period = "300ms" }}
rollout = {{ settle = "300ms" }}
"#,
        free_port(),
        free_port()
    )
}

#[test]
fn the_crashing_service_and_its_reason_are_found_in_four_keys() {
    let crashing = r#"
[service.cron]
command = ["sh", "-c", "echo no such table: jobs; exit 7"]
start_seconds = "100ms"
[service.queue]
command = "sleep 1000"
start_seconds = "100ms"
"#;
    let mut deck = Deck::start(crashing);
    deck.wait_ready(&["queue"]);
    deck.wait_state("cron", State::Backoff);
    let mut stranger = Stranger::at(&deck);
    stranger.console.wait_for("cron");
    // Its row says BACKOFF; it may be the first already, a step up changes nothing then.
    stranger.step("g");
    stranger.key("\r", "no such table: jobs");
    stranger.console.wait_for("code 7");
    stranger.leaves_after(4);
}

#[test]
fn web_is_rolled_and_the_roll_is_aborted_in_four_keys() {
    let mut deck = Deck::start(&web("/readiness"));
    deck.wait_ready(&["web1", "web2"]);
    let mut stranger = Stranger::at(&deck);
    stranger.step("g");
    stranger.key("r", "rolling restart by");
    stranger.key("a", "abort");
    deck.wait("the rollout aborted", |deck, _| {
        deck.services[0]
            .rollout
            .as_ref()
            .is_none_or(|it| it.halted.is_some() || it.step == "aborted")
    });
    stranger.leaves_after(4);
}

#[test]
fn what_the_backup_logged_during_the_last_roll_is_read_in_six_keys() {
    let mut deck = Deck::start(&web("/readiness"));
    deck.wait_ready(&["web1", "web2"]);
    deck.ok(&["roll", "web"]);
    let mut stranger = Stranger::at(&deck);
    stranger.step("g");
    // The page of the last roll; the backup went first, so its line has the cursor.
    stranger.key("v", "✓ renewed");
    stranger.key("l", "logs of web2");
    stranger.console.wait_for("SIGTERM");
    stranger.leaves_after(6);
}

/// Whoever runs the tests, as the journal names them.
fn login(deck: &mut Deck) -> String {
    deck.wait_event("restart");
    deck.events.iter().find_map(|it| it.actor.as_ref()).unwrap().login.clone()
}

#[test]
fn who_restarted_redis_is_seen_in_five_keys() {
    let services = r#"
[service.app]
command = "sleep 1000"
start_seconds = "100ms"
[service.redis]
command = "sleep 1000"
start_seconds = "100ms"
"#;
    let mut deck = Deck::start(services);
    deck.wait_ready(&["app", "redis"]);
    deck.ok(&["restart", "redis"]);
    // Much has happened to others since.
    for _ in 0..5 {
        deck.ok(&["restart", "app"]);
    }
    let mut stranger = Stranger::at(&deck);
    stranger.console.wait_for("redis");
    stranger.step("j");
    stranger.key("e", "restart");
    stranger.key("s", "redis");
    let who = login(&mut deck);
    stranger.console.wait("who restarted redis, and nothing of app", |screen| {
        let told = screen
            .lines()
            .any(|it| it.contains(&who) && it.contains("redis") && it.contains("restart"));
        told && !screen.lines().any(|it| it.contains(" app "))
    });
    stranger.leaves_after(5);
}

#[test]
fn two_marked_instances_are_stopped_in_six_keys() {
    let services = r#"
[service.a]
command = "sleep 1000"
start_seconds = "100ms"
[service.b]
command = "sleep 1000"
start_seconds = "100ms"
[service.c]
command = "sleep 1000"
start_seconds = "100ms"
"#;
    let mut deck = Deck::start(services);
    deck.wait_ready(&["a", "b", "c"]);
    let mut stranger = Stranger::at(&deck);
    // Marking goes on to the next row.
    stranger.step(" ");
    stranger.step(" ");
    stranger.key("x", "a has no other instance");
    // A key that is held down would be there sooner.
    let a_while = std::time::Duration::from_secs(1);
    stranger.console.bytes_written_within(a_while);
    stranger.key("x", "b has no other instance");
    stranger.console.bytes_written_within(a_while);
    stranger.step("x");
    deck.wait_state("a", State::Stopped);
    deck.wait_state("b", State::Stopped);
    assert_eq!(deck.instance("c").state, State::Running);
    stranger.leaves_after(6);
}

#[test]
fn why_web1_is_not_ready_is_found_in_three_keys() {
    let mut deck = Deck::start(&web("/no-such-page"));
    deck.wait("both running and not ready", |deck, _| {
        let web = deck.services.first();
        web.is_some_and(|it| it.instances.iter().all(|it| it.probes.values().any(|it| !it.ok)))
    });
    let mut stranger = Stranger::at(&deck);
    stranger.step("j");
    stranger.key("\r", "404");
    stranger.console.wait_for("readiness");
    stranger.leaves_after(3);
}
