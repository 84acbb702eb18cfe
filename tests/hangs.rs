//! A logger or a gateway that lives and does nothing: told, killed, and replaced.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use support::processes::{logger, loggers_of};
use support::{Deck, Following, find, free_port, is_alive, kill, wait_until};

const COUNTER: &str = "[service.counter]\ncommand = ['sh', '-c', '''i=0
    while :; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.02; done''']\nlog = { max_size = \"8MiB\", keep = 9 }\n";

/// The next lines of the counter, none of them missing or doubled.
struct Counted(Following, u64);

impl Counted {
    fn follow(deck: &Deck) -> Self {
        let lines = deck.follow_log("counter");
        let first = number(&lines.line());
        Self(lines, first)
    }

    fn read(&mut self, more: u64) {
        for expected in self.1 + 1..=self.1 + more {
            assert_eq!(number(&self.0.line()), expected);
        }
        self.1 += more;
    }
}

fn number(line: &str) -> u64 {
    line.strip_prefix("line ").unwrap().parse().unwrap()
}

fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn wait_notice(deck: &mut Deck, text: &str) {
    deck.wait("it is said", |it, _| it.notices.iter().any(|it| it.contains(text)));
}

#[test]
fn a_logger_that_hangs_is_replaced_and_no_line_is_missing() {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let mut lines = Counted::follow(&deck);
    lines.read(500);
    let (hung, _) = logger(&deck).unwrap();
    kill(hung, Signal::SIGSTOP);
    wait_notice(&mut deck, "the logger has not answered for 5 s: output waits in the pipes");
    assert!(is_alive(hung));
    deck.wait_event(&format!("the logger (pid {hung}) ended: it did not answer for 15 s"));
    assert!(!is_alive(hung));
    deck.wait("no notice", |it, _| it.notices.is_empty());
    lines.read(2_000);
    assert_ne!(logger(&deck).unwrap().0, hung);
    assert_eq!(deck.instance("counter").generation, 1);
}

#[test]
fn a_logger_that_hung_before_the_daemon_came_is_replaced_as_well() {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let (hung, _) = logger(&deck).unwrap();
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        // Not earlier: the kernel wakes whoever stands still and loses his parent. A daemon's first thread may be dead
        // before the others.
        wait_until("the logger has another parent", || parent_of(hung) != deck.daemon_pid());
        kill(hung, Signal::SIGSTOP);
    });
    deck.wait_event(&format!("the logger (pid {hung}) ended: it did not answer for 15 s"));
    let first = deck.ok(&["logs", "-n", "100000", "counter"]);
    assert!(first.starts_with("line 1\nline 2\n"), "{first}");
    let mut lines = Counted::follow(&deck);
    lines.read(2_000);
}

#[test]
fn a_logger_that_stood_still_for_a_while_goes_on() {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let mut lines = Counted::follow(&deck);
    let (slow, _) = logger(&deck).unwrap();
    kill(slow, Signal::SIGSTOP);
    deck.wait_event("the logger has not answered for 5 s");
    kill(slow, Signal::SIGCONT);
    deck.wait_event("the logger answers again");
    deck.wait("no notice", |it, _| it.notices.is_empty());
    lines.read(2_000);
    assert_eq!(logger(&deck).unwrap().0, slow);
}

#[test]
fn a_logger_whose_directory_was_removed_is_found_by_the_next_daemon() {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let (hidden, runtime_dir) = logger(&deck).unwrap();
    std::fs::remove_dir_all(&runtime_dir).unwrap();
    wait_until("its socket is there again", || runtime_dir.join("logger.sock").exists());
    wait_until("and its record", || runtime_dir.join("logger.json").exists());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["counter"]);
    let mut lines = Counted::follow(&deck);
    lines.read(2_000);
    assert_eq!(loggers_of(&runtime_dir), [hidden]);
    let all = deck.ok(&["logs", "-n", "1000000", "counter"]);
    let whole = all.lines().enumerate().all(|(n, it)| number(it) == n as u64 + 1);
    assert!(whole, "a line is missing");
    assert_eq!(deck.instance("counter").generation, 1);

    // Its next start has a pipe where it should be, and the logger takes it.
    let before = all.lines().count();
    deck.ok(&["restart", "counter"]);
    deck.wait("the next one", |it, _| find(it, "counter").is_some_and(|it| it.generation == 2));
    assert!(runtime_dir.join("counter.fifo").exists());
    wait_until("its lines", || {
        let all = deck.ok(&["logs", "-n", "1000000", "counter"]);
        all.lines().skip(before).any(|it| number(it) == 1)
    });
    assert_eq!(loggers_of(&runtime_dir), [hidden]);
}

#[test]
fn a_gateway_that_hangs_is_replaced_and_clients_are_served_again() {
    let [entry, port] = [free_port(), free_port()];
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\n\
         instance.web1 = {{ port = {port} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n"
    ));
    deck.wait("in rotation", |it, _| find(it, "web1").is_some_and(|it| it.in_rotation));
    let url = format!("http://127.0.0.1:{entry}/");
    let load = ["load", &url, "-c", "2", "--requests", "20"];
    deck.ok(&load);
    let started = deck.wait_event("the gateway was started, pid ").message;
    let hung: i32 = started.rsplit_once(' ').unwrap().1.parse().unwrap();
    kill(hung, Signal::SIGSTOP);
    wait_notice(&mut deck, &format!("the gateway (pid {hung}) has not answered for 5 s"));
    // Who comes now waits for the next one.
    let mut waiting = deck.command(&load).spawn().unwrap();
    let ended = deck.wait_event(&format!("the gateway (pid {hung}) ended")).message;
    assert!(ended.contains("it did not answer for 15 s and was killed"), "{ended}");
    wait_until("it is dead", || !is_alive(hung));
    assert!(support::ended(&mut waiting).success(), "{}", deck.story());
    deck.wait("no notice", |it, _| it.notices.is_empty());
    assert_eq!(deck.instance("web1").generation, 1);
}
