//! A logger or a gateway that lives and does nothing: told, killed, and replaced.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use support::processes::{holder, logger, loggers_of};
use support::{Deck, Following, OPSDECK, find, free_port, is_alive, kill, output_of, wait_until};

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
    wait_notice(
        &mut deck,
        "the logger has not answered for 5 s: services that write more than 64 KiB wait",
    );
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

/// The next daemon takes this logger, whatever became of its directory, and no line is missing.
fn is_found_by_the_next_daemon(remove: impl Fn(&Path)) {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let (hidden, runtime_dir) = logger(&deck).unwrap();
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("it is dead", || parent_of(hidden) != deck.daemon_pid());
        remove(&runtime_dir);
    });
    deck.wait_ready(&["counter"]);
    let mut lines = Counted::follow(&deck);
    lines.read(2_000);
    assert_eq!(loggers_of(&runtime_dir), [hidden]);
    let all = deck.ok(&["logs", "-n", "1000000", "counter"]);
    let whole = all.lines().enumerate().all(|(n, it)| number(it) == n as u64 + 1);
    assert!(whole, "a line is missing");
    assert_eq!(deck.instance("counter").generation, 1);
}

#[test]
fn a_logger_whose_directory_was_removed_while_no_daemon_was_there_is_found() {
    is_found_by_the_next_daemon(|directory| std::fs::remove_dir_all(directory).unwrap());
}

#[test]
fn a_logger_whose_socket_was_removed_while_no_daemon_was_there_is_found() {
    is_found_by_the_next_daemon(|directory| {
        std::fs::remove_file(directory.join("logger.sock")).unwrap();
    });
}

#[test]
fn a_logger_that_hangs_and_cannot_be_found_is_replaced() {
    let mut deck = Deck::start(COUNTER);
    deck.wait_line("counter", "line 1");
    let (hung, runtime_dir) = logger(&deck).unwrap();
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("it is dead", || parent_of(hung) != deck.daemon_pid());
        kill(hung, Signal::SIGSTOP);
        std::fs::remove_file(runtime_dir.join("logger.sock")).unwrap();
    });
    wait_until("it is replaced", || !is_alive(hung) && loggers_of(&runtime_dir).len() == 1);
    let first = deck.ok(&["logs", "-n", "100000", "counter"]);
    assert!(first.starts_with("line 1\nline 2\n"), "{first}");
    let mut lines = Counted::follow(&deck);
    lines.read(2_000);
}

/// One instance behind a gateway that answers after this time.
struct Shop {
    deck: Deck,
    entry: u16,
    service: String,
}

impl Shop {
    fn open(work: &str) -> Self {
        let [entry, port] = [free_port(), free_port()];
        let service = format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work {work}\"\nmax_wait_time = \"60s\"\n\
             instance.web1 = {{ port = {port} }}\n\
             probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n"
        );
        let gateway =
            format!("[gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n");
        let mut deck = Deck::start(&format!("{service}{gateway}"));
        deck.wait("in rotation", |it, _| find(it, "web1").is_some_and(|it| it.in_rotation));
        Self { deck, entry, service }
    }

    fn gateway_pid(&mut self) -> i32 {
        let started = self.deck.wait_event("the gateway was started, pid ").message;
        started.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// A request that is in flight.
    fn ask(&mut self) -> JoinHandle<String> {
        let entry = self.entry;
        let answer = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", entry)).unwrap();
            let ask = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
            stream.write_all(ask.as_bytes()).unwrap();
            let mut answer = String::new();
            // A gateway that is killed may reset it.
            let _ = stream.read_to_string(&mut answer);
            answer
        });
        self.deck
            .wait("in flight", |it, _| find(it, "web1").is_some_and(|it| it.in_flight == Some(1)));
        answer
    }

    /// Nothing stands in front any more: the gateway retires.
    fn close(&self) {
        self.deck.write_config(&self.service);
        self.deck.ok(&["config", "apply"]);
        let address = ("127.0.0.1", self.entry);
        wait_until("nobody listens", || TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_gateway_that_retires_and_hangs_is_told_and_ended() {
    let mut shop = Shop::open("300s");
    let answer = shop.ask();
    let hung = shop.gateway_pid();
    shop.close();
    kill(hung, Signal::SIGSTOP);
    wait_notice(
        &mut shop.deck,
        &format!(
            "the old gateway (pid {hung}) has not answered for 5 s: who is still connected to it waits"
        ),
    );
    assert!(is_alive(hung));
    let ended = shop.deck.wait_event(&format!("the old gateway (pid {hung}) ended")).message;
    assert!(
        ended.ends_with("about 1 request in flight: it did not answer for 15 s and was killed"),
        "{ended}"
    );
    assert!(!is_alive(hung));
    assert_eq!(answer.join().unwrap(), "");
    shop.deck.wait("no notice", |it, _| it.notices.is_empty());
}

#[test]
fn a_gateway_that_retires_and_hung_before_the_daemon_came_is_ended_too() {
    let mut shop = Shop::open("300s");
    let answer = shop.ask();
    let hung = shop.gateway_pid();
    shop.close();
    shop.deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("it has another parent", || parent_of(hung) != deck.daemon_pid());
        kill(hung, Signal::SIGSTOP);
    });
    let ended = shop.deck.wait_event(&format!("the old gateway (pid {hung}) ended")).message;
    assert!(ended.ends_with("it did not answer for 15 s and was killed"), "{ended}");
    assert!(!is_alive(hung));
    assert_eq!(answer.join().unwrap(), "");
}

#[test]
fn a_gateway_that_retires_for_long_is_left_in_peace() {
    let mut shop = Shop::open("20s");
    let answer = shop.ask();
    let old = shop.gateway_pid();
    shop.close();
    let answer = answer.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    shop.deck.wait_event(&format!("the old gateway (pid {old}) has finished what it had"));
    let told = shop.deck.events.iter().any(|it| it.message.contains("has not answered"));
    assert!(!told, "{}", shop.deck.story());
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

#[test]
fn a_gateway_whose_directory_was_removed_while_no_daemon_was_there_finishes_what_it_has() {
    let mut shop = Shop::open("5s --cut-at-term");
    let first = shop.deck.pid("web1");
    let answer = shop.ask();
    let hidden = shop.gateway_pid();
    let (logger, runtime_dir) = logger(&shop.deck).unwrap();
    shop.deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("it is dead", || parent_of(logger) != deck.daemon_pid());
        std::fs::remove_dir_all(&runtime_dir).unwrap();
    });
    let load = ["load", &format!("http://127.0.0.1:{}/", shop.entry), "-c", "2", "--requests", "4"];
    // Nobody knows what it has in flight, which is not nothing.
    shop.deck.ok(&["restart", "--no-wait", "web1"]);
    let answer = answer.join().unwrap();
    shop.deck.ok(&load);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    shop.deck.wait_event(&format!("the old gateway (pid {hidden}) has finished what it had"));
    wait_until("it is gone", || !is_alive(hidden));
    shop.deck.wait("another one", |it, _| {
        find(it, "web1").is_some_and(|it| it.in_rotation && it.generation == 2)
    });
    assert!(answer.contains(&format!("pid {first}\n")), "{answer:?}\n{}", shop.deck.story());
}

/// Gives a deck a program of its own, in a file that can be taken away.
fn own_program(deck: &Path) {
    let program = deck.join("bin/opsdeck");
    std::fs::remove_file(&program).unwrap();
    // By another process: a child of this one that is just being started could hold it open.
    let copied = output_of(Command::new("cp").args([Path::new(OPSDECK), &program]));
    assert!(copied.status.success(), "{copied:?}");
}

#[test]
fn logger_holder_and_gateway_begin_though_the_program_is_gone() {
    let entry = free_port();
    let config = format!(
        "{COUNTER}instance.counter = {{ port = {} }}\n[gateway.shop]\nservice = \"counter\"\nlisten = \"127.0.0.1:{entry}\"\n",
        free_port()
    );
    let mut deck = Deck::start_in(&[], &config, own_program);
    let mut lines = Counted::follow(&deck);
    lines.read(100);
    let gateway = |deck: &mut Deck| {
        let started = deck.wait_event("the gateway was started, pid ").message;
        started.rsplit_once(' ').unwrap().1.parse::<i32>().unwrap()
    };
    let served = gateway(&mut deck);
    let (first, runtime) = logger(&deck).unwrap();
    let fifo = std::fs::read_dir(&runtime).unwrap().map_while(Result::ok).map(|it| it.path());
    let fifo = fifo.into_iter().find(|it| it.to_string_lossy().contains("counter")).unwrap();
    wait_until("a holder", || holder(&fifo).is_some());
    let held = holder(&fifo).unwrap();
    std::fs::remove_file(deck.path().join("bin/opsdeck")).unwrap();

    [first, held, served].into_iter().for_each(|it| kill(it, Signal::SIGKILL));
    wait_until("another logger", || logger(&deck).is_some_and(|it| it.0 != first));
    wait_until("another holder", || holder(&fifo).is_some_and(|it| it != held));
    lines.read(2_000);
    deck.wait("another gateway", |_, events| {
        events.iter().filter(|it| it.message.contains("the gateway was started, pid ")).count() > 1
    });
    assert_ne!(gateway(&mut deck), served);
    assert_eq!(deck.instance("counter").generation, 1);
}

#[test]
fn a_logger_that_cannot_begin_is_an_event_and_so_is_one_that_is_back() {
    let mut deck = Deck::start_in(&[], COUNTER, own_program);
    let mut lines = Counted::follow(&deck);
    lines.read(100);
    let (program, first) = (deck.path().join("bin/opsdeck"), logger(&deck).unwrap().0);
    let aside = deck.path().join("bin/aside");
    std::fs::rename(&program, &aside).unwrap();
    std::fs::create_dir(&program).unwrap();
    kill(first, Signal::SIGKILL);
    let event = deck.wait_event("the logger is down (");
    assert!(event.message.ends_with("services that write more than 64 KiB wait"), "{event:?}");
    std::fs::remove_dir(&program).unwrap();
    std::fs::rename(&aside, &program).unwrap();
    deck.wait_event("the logger is up again");
    lines.read(2_000);
    deck.wait("no notice", |it, _| it.notices.is_empty());
}
