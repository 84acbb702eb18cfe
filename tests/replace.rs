//! The daemon becomes another program: same pid, services, clients and requests stay; one that does not
//! come up becomes the program before again.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::{
    Deck, Following, OPSDECK, ended, find, free_port, is_alive, kill, output_of, wait_until,
};

const TWO: &str = r#"
    [defaults]
    start_seconds = "100ms"
    [service.steady]
    command = "opsdeck sample --worker --print-every 20ms --work 0s"
    [service.mortal]
    command = "opsdeck sample --worker"
"#;

/// A daemon whose next program has not long to come up.
const IMPATIENT: [&str; 3] = ["sh", "-c", "exec \"$0\" \"$@\" --trial 2s"];

/// Puts a script in the place of the daemon's program: what it does as the daemon, after it has passed its
/// check. Written by another process: a child of this one that is just being started could hold it open.
fn become_script(deck: &Path, as_daemon: &str) {
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n*' daemon '*' --check '*) ;;\n*' daemon '*) {as_daemon} ;;\nesac\n\
         exec {OPSDECK} \"$@\"\n"
    );
    let write = "printf %s \"$1\" > \"$2.new\" && chmod 755 \"$2.new\" && mv -f \"$2.new\" \"$2\"";
    let program = deck.join("bin/opsdeck").display().to_string();
    let output = output_of(Command::new("sh").args(["-c", write, "sh", &script, &program]));
    assert!(output.status.success(), "{output:?}");
}

/// Everything that must not change.
fn pids(deck: &Deck) -> [i32; 3] {
    [deck.daemon_pid(), deck.pid("steady"), deck.pid("mortal")]
}

#[test]
fn whoever_asks_while_the_daemon_becomes_another_is_answered() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let before = pids(&deck);
    let (is_over, config) = (AtomicBool::new(false), deck.path().join("config.toml"));
    let ask = |args: &[&str]| {
        let mut asked = 0;
        while !is_over.load(Ordering::Relaxed) {
            let output = output_of(Command::new(OPSDECK).arg("--config").arg(&config).args(args));
            assert!(output.status.success(), "{args:?}, after {asked}: {output:?}");
            asked += 1;
        }
        asked
    };
    let asked = std::thread::scope(|scope| {
        let brief = scope.spawn(|| ask(&["status"]));
        let lines = scope.spawn(|| ask(&["logs", "-n", "1", "steady"]));
        let over = Over(&is_over);
        for _ in 0..20 {
            deck.ok(&["daemon", "--replace"]);
        }
        drop(over);
        brief.join().unwrap().min(lines.join().unwrap())
    });
    assert!(asked >= 20, "{asked}");
    deck.watch_anew();
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!(pids(&deck), before, "{}", deck.story());
}

/// Whoever waits for the end of something sees it, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The logger that this daemon started.
fn logger(daemon: i32) -> Option<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    pids.filter_map(|it| it.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|it| it.split_whitespace().nth(1));
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(&daemon.to_string())
            && line.split('\0').nth(1) == Some("logger")
            && is_alive(*pid)
    })
}

#[test]
fn a_replacement_is_the_same_process_with_the_same_children() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let before = pids(&deck);

    let said = deck.ok(&["daemon", "--replace"]);
    assert!(said.contains("has taken over from"), "{said}");
    deck.watch_anew();
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!(pids(&deck), before, "{}", deck.story());
    let program = std::fs::read_link(format!("/proc/{}/exe", deck.daemon_pid())).unwrap();
    assert_eq!(program, Path::new(OPSDECK).canonicalize().unwrap());

    // They are its children still: it is told how they end.
    kill(deck.pid("mortal"), Signal::SIGKILL);
    deck.wait_event("SIGKILL");
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    deck.ok(&["restart", "steady"]);
}

#[test]
fn a_child_that_dies_while_the_program_changes_is_reaped_with_its_status() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let [daemon, steady, mortal] = pids(&deck);
    become_script(deck.path(), &format!("kill -9 {mortal}"));
    kill(daemon, Signal::SIGUSR2);

    let outcome = deck.wait_replacement("replaced");
    assert_eq!(outcome.actor, None);
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    deck.wait_event("SIGKILL");
    assert_eq!((deck.daemon_pid(), deck.pid("steady")), (daemon, steady));
    assert!(!is_alive(mortal) && !Path::new(&format!("/proc/{mortal}")).exists(), "it is reaped");
}

#[test]
fn a_program_that_fails_its_check_changes_nothing() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let before = pids(&deck);
    for (script, why) in [
        ("exit 7", "failed its check with 7"),
        ("echo hello", "did not say its version"),
        ("kill -11 $$", "was ended by SIGSEGV"),
    ] {
        let program = deck.path().join("bin/opsdeck").display().to_string();
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2.new\" && chmod 755 \"$2.new\" && mv -f \"$2.new\" \"$2\"";
        output_of(Command::new("sh").args(["-c", write, "sh", script, &program]));
        kill(deck.daemon_pid(), Signal::SIGUSR2);
        let event = deck.wait_event(why);
        assert_eq!(event.kind, "replace-failed");
    }
    // A file with mistakes: the next program could not read it either.
    deck.write_config("[service.steady]\ncomand = \"opsdeck\"\n");
    let refused =
        deck.opsdeck(&["--socket", &deck.socket().display().to_string(), "daemon", "--replace"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let notice = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(notice.contains("did you mean `command`"), "{notice}");
    deck.catch_up();
    assert_eq!(pids(&deck), before, "{}", deck.story());
}

#[test]
fn a_program_that_does_not_come_up_becomes_the_one_before() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let before = pids(&deck);
    let fifo = deck.path().join("silent.toml").display().to_string();
    assert!(output_of(Command::new("mkfifo").arg(&fifo)).status.success());
    for (as_daemon, why) in [
        (
            format!("exec {OPSDECK} daemon --config /nowhere/at/all.toml"),
            "/nowhere/at/all.toml cannot be read",
        ),
        (format!("exec {OPSDECK} daemon --trial 1s --config {fifo}"), "was not up after 1s"),
    ] {
        become_script(deck.path(), &as_daemon);
        kill(deck.daemon_pid(), Signal::SIGUSR2);
        let event = deck.wait_replacement("replace-failed");
        assert!(event.message.contains(why), "{}\n{}", event.message, deck.story());
        deck.wait_ready(&["steady", "mortal"]);
        assert_eq!(pids(&deck), before, "{}", deck.story());
    }
    // What it starts comes from its own file, not from the one that is in its place.
    let old = logger(before[0]).unwrap();
    kill(old, Signal::SIGKILL);
    wait_until("a new logger", || logger(before[0]).is_some_and(|it| it != old));
    become_script(deck.path(), "");
    kill(deck.daemon_pid(), Signal::SIGUSR2);
    deck.wait_replacement("replaced");
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!(pids(&deck), before, "{}", deck.story());
    assert_eq!(deck.instance("steady").state, State::Running);
}

#[test]
fn a_sigterm_between_two_programs_ends_the_next_one() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let [_, steady, mortal] = pids(&deck);
    kill(deck.daemon_pid(), Signal::SIGUSR2);
    // It takes no turn any more, and is not the next program yet.
    deck.wait_hangup();
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGTERM));
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!([deck.pid("steady"), deck.pid("mortal")], [steady, mortal], "{}", deck.story());
}

#[test]
fn who_follows_and_who_waits_goes_on_with_the_next_program() {
    let web = "[service.web]\ncommand = \"opsdeck sample --worker\"\ninstance.web1 = {}\n\
               instance.web2 = {}\nrollout = { settle = \"500ms\" }\n";
    let mut deck = Deck::start(&format!("{TWO}{web}"));
    deck.wait_ready(&["steady", "web1", "web2"]);
    let follower = Following::start(deck.command(&["events", "-f", "-n", "1000"]));
    follower.line_with("started, pid");
    let roll = Following::start(deck.command(&["roll", "web"]));
    deck.wait_event("1 of 2");
    kill(deck.daemon_pid(), Signal::SIGUSR2);
    deck.wait_replacement("replaced");
    follower.line_with("has taken over");
    let (status, lines) = roll.rest();
    assert!(status.success(), "{lines:#?}\n{}", deck.story());
    deck.ok(&["restart", "steady"]);
    follower.line_with("restart");
    for name in ["web1", "web2"] {
        deck.wait("renewed", |it, _| find(it, name).is_some_and(|it| it.generation == 2));
    }
}

#[test]
fn a_program_that_dies_or_hangs_without_a_chance_is_succeeded_by_the_one_before() {
    for (wrapper, as_daemon, why) in [
        (&[][..], "exit 3", "the next program died before it was up"),
        (&IMPATIENT[..], "exec sleep 1000", "the next program was not up after 6s, and was killed"),
    ] {
        let mut deck = Deck::start_in(wrapper, TWO, |_| ());
        deck.wait_ready(&["steady", "mortal"]);
        let [daemon, steady, mortal] = pids(&deck);
        become_script(deck.path(), as_daemon);
        kill(daemon, Signal::SIGUSR2);
        let goes_on = || {
            let events = deck.opsdeck(&["events", "-n", "20"]);
            String::from_utf8_lossy(&events.stdout).contains(why)
        };
        wait_until(why, goes_on);
        deck.watch_anew();
        deck.wait_ready(&["steady", "mortal"]);
        assert_eq!([deck.pid("steady"), deck.pid("mortal")], [steady, mortal], "{}", deck.story());
        assert!(!is_alive(daemon));
        let holder = std::fs::read_to_string(deck.path().join("state/opsdeck.lock")).unwrap();
        assert_eq!(holder, deck.view.pid.to_string(), "who holds the lock says so");
        deck.ok(&["restart", "steady"]);
        deck.ok(&["shutdown"]);
    }
}

/// `opsdeck load`, until it is asked for its result.
struct Load(Child);

impl Load {
    /// Clients that keep their connections and clients that do not, GET and POST in turns.
    fn start(deck: &Deck, port: u16) -> Self {
        let url = format!("http://127.0.0.1:{port}/");
        let mut command = deck.command(&["load", &url, "-c", "8", "--interval", "5ms"]);
        command.args(["--method", "mixed", "--mixed-connections", "--json"]);
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn end(mut self) -> Value {
        kill(i32::try_from(self.0.id()).unwrap(), Signal::SIGINT);
        ended(&mut self.0);
        serde_json::from_reader(self.0.stdout.take().unwrap()).unwrap()
    }
}

/// Replacements in the judged run: `OPSDECK_TEST_REPLACEMENTS=50`.
fn replacements() -> u32 {
    std::env::var("OPSDECK_TEST_REPLACEMENTS").map_or(3, |it| it.parse().unwrap())
}

#[test]
fn replacements_under_load_lose_no_request_and_change_no_pid() {
    let [entry, one, two, own] = [free_port(), free_port(), free_port(), free_port()];
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 10ms\"\n\
         instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
         [service.own]\ncommand = \"opsdeck sample --listen-fd --work 10ms\"\n\
         socket = {{ listen = \"127.0.0.1:{own}\" }}\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n"
    ));
    // Two files with the same program: at every turn the gateway is renewed as well.
    let bin = deck.path().join("bin");
    for name in ["one", "two"] {
        let copied = output_of(Command::new("cp").arg(OPSDECK).arg(bin.join(name)));
        assert!(copied.status.success(), "{copied:?}");
    }
    let in_rotation = |deck: &mut Deck| {
        deck.wait("both in rotation", |deck, _| {
            ["web1", "web2"].iter().all(|name| find(deck, name).is_some_and(|it| it.in_rotation))
                && find(deck, "own").is_some_and(|it| it.ready == Some(true))
        });
    };
    in_rotation(&mut deck);
    let pids =
        |deck: &Deck| [deck.daemon_pid(), deck.pid("web1"), deck.pid("web2"), deck.pid("own")];
    let before = pids(&deck);
    let loads = [Load::start(&deck, entry), Load::start(&deck, own)];
    let open =
        |deck: &Deck| std::fs::read_dir(format!("/proc/{}/fd", deck.daemon_pid())).unwrap().count();
    let mut first = None;
    for turn in 0..replacements() {
        let next = if turn % 2 == 0 { "one" } else { "two" };
        std::os::unix::fs::symlink(next, bin.join("next")).unwrap();
        std::fs::rename(bin.join("next"), bin.join("opsdeck")).unwrap();
        kill(deck.daemon_pid(), Signal::SIGUSR2);
        deck.wait_replacement("replaced");
        in_rotation(&mut deck);
        assert_eq!(pids(&deck), before, "turn {turn}: {}", deck.story());
        first.get_or_insert_with(|| open(&deck));
    }
    // Clients and probes come and go; what is left over by each turn would be more.
    let (first, last) = (first.unwrap(), open(&deck));
    assert!(last <= first + 16, "{first} descriptors after the first turn, {last} after the last");
    for load in loads {
        let report = load.end();
        assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
        assert!(report["requests"].as_u64().unwrap() > 0, "{report:#}");
    }
}

/// The same services with the API's socket there.
fn moved_to(socket: &Path) -> String {
    format!("socket = {:?}\n{TWO}", socket.display().to_string())
}

#[test]
fn a_socket_that_changes_and_comes_back_leaves_nothing_in_the_way() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let before = pids(&deck);
    let (here, there) = (deck.socket(), deck.path().join("there.sock"));
    // What somebody has left there.
    drop(std::os::unix::net::UnixListener::bind(&there).unwrap());
    for (old, new, config) in [(&here, &there, moved_to(&there)), (&there, &here, TWO.to_owned())] {
        deck.write_config(&config);
        kill(deck.daemon_pid(), Signal::SIGUSR2);
        let is_found = || deck.opsdeck(&["status"]).status.success();
        wait_until("it is found at its new place", is_found);
        wait_until("its old place is empty", || !old.exists() && new.exists());
    }
    deck.watch_anew();
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!(pids(&deck), before, "{}", deck.story());
}

#[test]
fn a_place_that_somebody_else_has_leaves_the_daemon_at_its_own() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["steady", "mortal"]);
    let (before, there) = (pids(&deck), deck.path().join("there.sock"));
    let _stranger = std::os::unix::net::UnixListener::bind(&there).unwrap();
    deck.write_config(&moved_to(&there));
    kill(deck.daemon_pid(), Signal::SIGUSR2);
    let event = deck.wait_replacement("replace-failed");
    assert!(event.message.contains("another process listens there"), "{}", event.message);
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!(pids(&deck), before, "{}", deck.story());
}
