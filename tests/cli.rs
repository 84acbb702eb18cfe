//! The command line as scripts meet it: exit codes, wrong names, what stays on stdout.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::Event;
use support::console::Console;
use support::{
    Deck, Following, OPSDECK, ended, finish, free_port, is_alive, kill, output_of, wait_readable,
    wait_until,
};

const QUICK: &str = "[defaults]\nstart_seconds = \"50ms\"\n";

fn sleepers(names: &[&str]) -> String {
    let service = |name: &&str| format!("[service.{name}]\ncommand = \"sleep 1000\"\n");
    QUICK.to_owned() + &names.iter().map(service).collect::<String>()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn exits(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    text(output)
}

#[test]
fn what_is_done_exits_with_0_and_what_fails_with_1() {
    let mut deck = Deck::start(
        &(sleepers(&["a"]) + "[service.bad]\ncommand = \"false\"\nenabled = true\nretries = 0\n"),
    );
    deck.wait_ready(&["a"]);
    exits(&deck.opsdeck(&["stop", "a"]), 0);
    exits(&deck.opsdeck(&["start", "a"]), 0);
    exits(&deck.opsdeck(&["restart", "a"]), 0);
    let told = exits(&deck.opsdeck(&["restart", "bad"]), 1);
    assert!(told.contains("bad"), "{told}");
    exits(&deck.opsdeck(&["status", "a"]), 0);
}

#[test]
fn mistakes_on_the_command_line_and_in_a_file_exit_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[service.a]\n").unwrap();
    let run = |args: &[&str]| output_of(Command::new(OPSDECK).args(args));
    exits(&run(&["stauts"]), 2);
    exits(&run(&["stop"]), 2);
    exits(&run(&["roll", "web", "--abort", "--pause"]), 2);
    exits(&run(&["roll", "web", "--abort", "--dry-run"]), 2);
    exits(&run(&["signal", "SIGNOTHING", "web1"]), 2);
    exits(&run(&["logs", "web", "--grep", "("]), 2);
    exits(&run(&["logs", "web", "--since", "yesterday"]), 2);
    exits(&run(&["drain", "web1", "--no-wait"]), 2);
    exits(&run(&["daemon", "--log", "loud=very=much"]), 2);
    exits(&run(&["config", "check", file.to_str().unwrap()]), 2);
    exits(&run(&["daemon", "--config", file.to_str().unwrap()]), 2);
}

#[test]
fn status_exits_with_3_while_something_is_not_as_wanted() {
    let mut deck = Deck::start(
        &(sleepers(&["a"])
            + "[service.bad]\ncommand = \"false\"\nbackoff = { min = \"60s\", max = \"60s\" }\n"),
    );
    deck.wait_ready(&["a"]);
    deck.wait_event("exited");
    exits(&deck.opsdeck(&["status"]), 3);
    exits(&deck.opsdeck(&["status", "bad"]), 3);
    exits(&deck.opsdeck(&["status", "a"]), 0);
}

#[test]
fn without_a_daemon_everything_exits_with_4_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    for args in
        [&["status"][..], &["stop", "a"], &["events"], &["roll", "a"], &["shutdown"], &["why", "a"]]
    {
        let output = output_of(Command::new(OPSDECK).arg("--socket").arg(&socket).args(args));
        let told = exits(&output, 4);
        assert!(told.contains("no daemon is running") && told.contains("opsdeck daemon"), "{told}");
    }
}

#[test]
fn a_daemon_that_holds_its_lock_and_does_not_answer_is_named() {
    let mut deck = Deck::start(&sleepers(&["a"]));
    deck.wait_ready(&["a"]);
    // It would bind another one.
    kill(deck.daemon_pid(), Signal::SIGSTOP);
    std::fs::remove_file(deck.socket()).unwrap();
    for args in [&["status"][..], &["--no-start"], &["stop", "a"]] {
        let told = exits(&deck.opsdeck(args), 4);
        assert!(told.contains(&format!("pid {}", deck.daemon_pid())), "{told}");
        assert!(!told.contains("no daemon is running"), "{told}");
    }
    kill(deck.daemon_pid(), Signal::SIGCONT);
}

#[test]
fn what_the_user_may_not_do_exits_with_5() {
    if !support::is_root() {
        return;
    }
    let mut deck = Deck::start(&("viewers = [\"nobody\"]\n".to_owned() + &sleepers(&["a"])));
    deck.wait_ready(&["a"]);
    open_to_all(deck.path());
    let pid = deck.pid("a");
    let nobody = |args: &[&str]| {
        let program = deck.path().join("opsdeck-copy");
        if !program.exists() {
            std::fs::copy(OPSDECK, &program).unwrap();
        }
        let mut command = Command::new(program);
        command.arg("--socket").arg(deck.socket()).args(args).uid(65534).gid(65534);
        output_of(command.current_dir("/"))
    };
    exits(&nobody(&["status"]), 0);
    let told = exits(&nobody(&["stop", "a"]), 5);
    assert!(told.contains("viewers"), "{told}");
    assert!(is_alive(pid));
}

/// Lets other users reach the socket.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for path in [directory.to_owned(), directory.join("state")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_signal_that_would_kill_by_surprise_exits_with_6_until_it_is_confirmed() {
    let mut deck = Deck::start(&sleepers(&["a"]));
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    let told = exits(&deck.opsdeck(&["signal", "USR1", "a"]), 6);
    assert!(told.contains("--yes") && told.contains("SIGUSR1"), "{told}");
    assert!(is_alive(pid));
    exits(&deck.opsdeck(&["signal", "USR1", "a", "--yes"]), 0);
    wait_until("dead of SIGUSR1", || !is_alive(pid));
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest_right_one() {
    let mut deck = Deck::start(&sleepers(&["queue"]));
    deck.wait_ready(&["queue"]);
    for args in
        [&["status", "queeu"][..], &["stop", "queu"], &["why", "qeue"], &["signal", "TERM", "queu"]]
    {
        let told = exits(&deck.opsdeck(args), 1);
        assert!(told.contains("did you mean `queue`?"), "{args:?}: {told}");
    }
    let told = exits(&deck.opsdeck(&["stop", "nothing-like-it"]), 1);
    assert!(told.contains("opsdeck status"), "{told}");
}

#[test]
fn events_are_chosen_by_number_name_and_actor() {
    let mut deck = Deck::start(&sleepers(&["a", "b"]));
    deck.wait_ready(&["a", "b"]);
    deck.ok(&["stop", "a"]);
    deck.ok(&["restart", "b"]);

    let read = |args: &[&str]| -> Vec<Event> {
        let text = deck.ok(&[&["events", "--json"], args].concat());
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let all = read(&[]);
    assert!(all.windows(2).all(|it| it[0].seq + 1 == it[1].seq));
    assert_eq!(read(&["-n", "2"]), all[all.len() - 2..]);
    let of_a = read(&["--service", "a"]);
    assert!(!of_a.is_empty() && of_a.len() < all.len());
    assert!(of_a.iter().all(|it| it.service.as_deref() == Some("a")));
    let login = all.iter().find_map(|it| it.actor.as_ref()).unwrap().login.clone();
    let by = read(&["--actor", &login]);
    assert!(!by.is_empty() && by.iter().all(|it| it.actor.as_ref().unwrap().login == login));
    assert_eq!(read(&["--actor", "nobody-like-that"]), []);
    let plain = deck.ok(&["events", "--service", "a", "-n", "1"]);
    assert!(plain.contains("  a  "), "{plain}");
}

#[test]
fn why_tells_of_every_instance() {
    let mut deck = Deck::start(
        &(sleepers(&["a"]) + "[service.bad]\ncommand = \"sh -c 'echo no such table; exit 3'\"\n"),
    );
    deck.wait_ready(&["a"]);
    deck.wait("its last words are known", |deck, _| {
        let exit = support::find(deck, "bad").and_then(|it| it.last_exit.as_ref());
        exit.is_some_and(|it| it.words.as_deref() == Some("no such table"))
    });
    let why = deck.ok(&["why", "bad"]);
    assert!(why.starts_with("bad\n  ") && why.contains('3'), "{why}");
    assert!(why.contains("its last words were \"no such table\""), "{why}");
    assert!(deck.ok(&["why", "a"]).starts_with("a\n  "));
}

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly() {
    let services = "[service.chatty]\ncommand = \"opsdeck sample --worker --flood 4MiB\"\n";
    let mut deck = Deck::start(services);
    deck.wait_ready(&["chatty"]);
    wait_until("something to read", || {
        std::fs::metadata(deck.path().join("state/logs/chatty.log"))
            .is_ok_and(|it| it.len() > 1 << 20)
    });
    for args in [&["logs", "-n", "9999", "chatty"][..], &["logs", "-f", "chatty"]] {
        let mut child =
            deck.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut first, stdout) = (String::new(), child.stdout.take().unwrap());
        wait_readable(&stdout);
        BufReader::new(stdout).read_line(&mut first).unwrap();
        assert!(first.ends_with('\n'));
        let output = finish(child);
        assert_eq!(exits(&output, 0), "", "{args:?}");
    }
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let output = deck.command(&["status"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(exits(&finish(output), 0), "");
}

#[test]
fn load_exits_with_0_when_every_request_was_answered_and_with_1_when_one_was_not() {
    let port = free_port();
    let services = format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 1ms\"\ninstance.web1 = {{ port = {port} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"50ms\" }}\n"
    );
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1"]);
    let load = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/");
        deck.opsdeck(&["load", &url, "-c", "2", "-n", "10", "--interval", "1ms"])
    };
    exits(&load(port), 0);
    exits(&load(free_port()), 1);
}

#[test]
fn the_demo_serves_without_a_screen_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Command::new(OPSDECK);
    demo.args(["demo", "--headless"]).env("TMPDIR", directory.path());
    let demo = Following::start(demo);
    let line = demo.line_with("--socket");
    let socket = line.trim().rsplit(' ').next().unwrap().to_owned();
    let status = || {
        let output =
            output_of(Command::new(OPSDECK).args(["--socket", &socket, "status", "--json"]));
        serde_json::from_slice::<opsdeck::api::Deck>(&output.stdout).unwrap()
    };
    wait_until("web is ready", || status().services[0].ready == 2);
    let deck = status();
    let mut pids: Vec<i32> =
        deck.services.iter().flat_map(|it| &it.instances).filter_map(|it| it.pid).collect();
    pids.push(i32::try_from(deck.pid).unwrap());

    kill(demo.pid(), Signal::SIGTERM);
    assert_eq!(demo.rest().0.code(), Some(0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert!(pids.iter().all(|it| !is_alive(*it)));
    wait_until("nothing that speaks of the directory runs", || !mentioned(directory.path()));
}

/// The demo with a directory of its own for what it must not leave behind.
fn demo(directory: &Path) -> Command {
    let mut demo = Command::new(OPSDECK);
    demo.arg("demo").env("TMPDIR", directory).env("TERM", "xterm-256color");
    demo.env_remove("HOME").env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
    demo
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none() && !mentioned(directory)
}

#[test]
fn the_demo_on_a_small_screen_ends_with_its_services_when_it_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut console = Console::start(&demo(directory.path()), 80, 24);
    console.wait_for("2/2 ready");
    console.press("q");
    assert!(console.end(), "{}", console.text());
    let text = String::from_utf8_lossy(&console.raw).into_owned();
    // Not what the deck says that is left: here nothing runs on.
    assert!(text.contains("the demo ends") && !text.contains("run on"), "{}", console.text());
    wait_until("nothing is left", || is_empty(directory.path()));
}

#[test]
fn the_demo_leaves_nothing_behind_when_its_session_hangs_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut console = Console::start(&demo(directory.path()), 80, 24);
    console.wait_for("2/2 ready");
    kill(i32::try_from(console.child.id()).unwrap(), Signal::SIGHUP);
    assert!(console.end(), "{}", console.text());
    wait_until("nothing is left", || is_empty(directory.path()));
}

#[test]
fn a_demo_that_is_told_to_end_while_it_begins_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = demo(directory.path());
    let mut demo =
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it has begun", || !is_empty(directory.path()));
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        kill(i32::try_from(demo.id()).unwrap(), signal);
    }
    ended(&mut demo);
    assert!(is_empty(directory.path()));
}

/// Some process has this path on its command line.
fn mentioned(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    std::fs::read_dir("/proc").unwrap().flatten().any(|it| {
        let line = std::fs::read(it.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(path)
    })
}

#[test]
fn config_check_tells_the_mistakes_of_themes_and_keys_with_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let check = |text: &str, code: i32| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(OPSDECK);
        exits(&output_of(command.args(["config", "check"]).arg(&file)), code)
    };
    let service = "[service.a]\ncommand = \"sleep 1\"\n";
    check(&format!("[deck]\ntheme = \"light\"\nmouse = true\n{service}"), 0);
    let told = check(&format!("[deck]\ntheme = \"dusk\"\n{service}"), 2);
    assert!(told.contains("there is no theme \"dusk\""), "{told}");

    std::fs::create_dir(directory.path().join("themes")).unwrap();
    let theme = directory.path().join("themes/dusk.toml");
    std::fs::write(&theme, "name = {}\ngod = {}\nbad = { fg = \"redd\" }\n").unwrap();
    let told = check(&format!("[deck]\ntheme = \"dusk\"\n{service}"), 2);
    for text in ["dusk.toml:2: there is no role \"god\"", "dusk.toml:3: \"redd\" is no colour"] {
        assert!(told.contains(text), "{told}");
    }
    std::fs::write(&theme, "bad = { fg = \"red\" }\n").unwrap();
    check(&format!("[deck]\ntheme = \"dusk\"\n{service}"), 0);

    let told =
        check(&format!("{service}[keys]\nstop = \"r\"\nroll = [\"F2\", \"r\"]\nfly = \"w\"\n"), 2);
    for text in ["config.toml:4:8", "config.toml:6:1"] {
        assert!(told.contains(text), "{told}");
    }
}
