//! One instance looked at closely: real trees, real environments, nobody's secrets.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use opsdeck::api::{Detail, ProcessDetail, State};
use opsdeck::client::Client;
use support::console::Console;
use support::{Deck, PATIENCE, free_port, kill, output_of, pause, wait_until};

const TREE: &str = r#"
    [service.tree]
    command = "sh -c 'sleep 1000 & (sleep 1001; true) & wait' tree --token=geheim-3"
    profile = "nginx"
    start_seconds = "100ms"
    environment = { DB_PASSWORD = "geheim-1", CACHE = "redis://app:geheim-2@cache/0", PLAIN = "9502" }
"#;

fn detail(deck: &Deck, name: &str) -> Detail {
    deck.detail(name)
}

/// Asks until the answer is as it should become.
fn wait_detail(deck: &Deck, name: &str, there: impl Fn(&Detail) -> bool) -> Detail {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let it = detail(deck, name);
        if there(&it) {
            return it;
        }
        assert!(Instant::now() < deadline, "{it:#?}\n{}", deck.story());
        pause();
    }
}

#[test]
fn a_tree_and_what_its_leader_has_are_told_without_secrets() {
    let mut deck = Deck::start(TREE);
    deck.wait_ready(&["tree"]);
    let it = wait_detail(&deck, "tree", |it| {
        it.processes.len() == 4 && it.processes.iter().filter(|it| it.name == "sleep").count() == 2
    });

    let (leader, below) = it.processes.split_first().unwrap();
    assert_eq!((leader.pid, leader.depth), (deck.pid("tree"), 0));
    assert!(leader.title.ends_with(" tree --token=********"), "{}", leader.title);
    let mut tree: Vec<(u32, &str)> = below.iter().map(|it| (it.depth, it.title.as_str())).collect();
    tree.retain(|it| it.1.starts_with("sleep"));
    tree.sort_unstable();
    assert_eq!(tree, [(1, "sleep 1000"), (2, "sleep 1001")]);
    let is_plausible = |it: &opsdeck::api::ProcessDetail| {
        let age = it.started.unwrap().duration_until(jiff::Timestamp::now()).as_secs();
        it.threads == 1 && it.memory_bytes > 0 && (-5..300).contains(&age)
    };
    assert!(it.processes.iter().all(is_plausible), "{it:#?}");

    let value = |name: &str| {
        let found = it.environment.as_ref().unwrap().iter().find(|it| it.name == name);
        found.map(|it| (it.value.as_str(), it.masked))
    };
    assert_eq!(value("DB_PASSWORD"), Some(("********", true)));
    assert_eq!(value("CACHE"), Some(("redis://********@cache/0", true)));
    assert_eq!(value("PLAIN"), Some(("9502", false)));
    let text = serde_json::to_string(&it).unwrap();
    assert!(!text.contains("geheim"), "{text}");

    let does = |signal: &str| it.signals.iter().find(|it| it.signal == signal).unwrap();
    assert_eq!(does("SIGHUP").does, "default");
    assert_eq!(does("SIGQUIT").means.as_deref(), Some("stop gracefully"));
    assert!(it.limits.iter().any(|it| it.name == "Max open files" && !it.soft.is_empty()));
    let files = it.files.as_ref().unwrap();
    assert!(files.open["pipe"] >= 2, "its output: {files:?}");
    assert!(files.log.ends_with("logs/tree.log") && files.cwd.is_some(), "{files:?}");
    assert_eq!(it.why.first().map(String::as_str), Some("ready"));
    assert_eq!(it.missing, Vec::<String>::new());
}

#[test]
fn who_is_who_in_a_tree_goes_by_the_profile() {
    let mut deck = Deck::start(&format!(
        "[service.shop]\ncommand = \"opsdeck sample --tree swoole --port {}\"\nprofile = \"swoole\"\n",
        free_port()
    ));
    deck.wait_ready(&["shop"]);
    let roles = |it: &Detail| -> Vec<String> {
        it.processes.iter().map(|it| it.role.clone().unwrap_or_default()).collect()
    };
    let wanted = ["master", "manager", "worker", "worker"];
    let it = wait_detail(&deck, "shop", |it| roles(it) == wanted);
    let manager = it.processes[1].pid;
    kill(manager, Signal::SIGKILL);
    wait_detail(&deck, "shop", |it| it.processes.iter().all(|it| it.pid != manager));
    let lost = detail(&deck, "shop");
    assert_eq!(roles(&lost), ["master", "", ""], "{lost:#?}");
}

/// What `opsdeck status --json shop` tells of the processes of `shop`.
fn tree(deck: &Deck) -> Vec<ProcessDetail> {
    let output = deck.opsdeck(&["status", "--json", "shop"]);
    let told: opsdeck::api::Deck = serde_json::from_slice(&output.stdout).unwrap();
    told.services.into_iter().flat_map(|it| it.instances).flat_map(|it| it.processes).collect()
}

#[test]
fn status_tells_the_tree_and_which_of_its_workers_a_reload_has_brought() {
    let mut deck = Deck::start(&format!(
        "[service.shop]\nprofile = \"swoole\"\n\
         command = \"opsdeck sample --tree swoole --ignore-term --max-wait-time 1h --port {}\"\n\
         [service.other]\ncommand = \"sleep 1000\"\n",
        free_port()
    ));
    deck.wait_ready(&["shop"]);
    // Of each: role, generation, whether it is on its way out.
    let shape = |all: &[ProcessDetail]| -> Vec<(String, Option<u64>, bool)> {
        let one =
            |it: &ProcessDetail| (it.role.clone().unwrap_or_default(), it.generation, it.leaving);
        let mut shape: Vec<_> = all.iter().map(one).collect();
        shape.sort();
        shape
    };
    let of = |role: &str, generation, leaving| (role.to_owned(), generation, leaving);
    let (manager, master) = (of("manager", None, false), of("master", None, false));
    let old = of("worker", Some(1), false);
    let first = [manager.clone(), master.clone(), old.clone(), old];
    let mut all = vec![];
    wait_until("two workers", || {
        all = tree(&deck);
        shape(&all) == first
    });
    let shares = std::path::Path::new("/proc/self/smaps_rollup").exists();
    for it in &all {
        assert_eq!(it.pss_bytes.is_some_and(|it| it > 0), shares, "{it:?}");
        assert!(it.memory_bytes > 0 && it.threads > 0 && it.descriptors > Some(0), "{it:?}");
        assert!(it.start_time > 0 && it.age_ms < 3_600_000, "{it:?}");
    }
    let others = deck.instance("other");
    assert!(others.processes.is_empty(), "who watches gets no trees: {others:?}");

    deck.ok(&["reload", "--no-wait", "shop"]);
    let (leaving, new) = (of("worker", Some(1), true), of("worker", Some(2), false));
    let second = [manager, master, leaving.clone(), leaving, new.clone(), new];
    wait_until("two are leaving, two are new", || {
        all = tree(&deck);
        shape(&all) == second
    });
}

#[test]
fn probes_listeners_and_ends_are_told_with_their_past() {
    let port = free_port();
    let mut deck = Deck::start(&format!(
        r#"
        [service.web]
        command = "opsdeck sample --port {{port}}"
        instance.web1 = {{ port = {port} }}
        probe.readiness = {{ http.path = "/readiness", period = "50ms", timeout = "20s" }}
        probe.liveness = {{ http.path = "/missing", period = "50ms", failure_threshold = 1000000 }}
        backoff = {{ min = "50ms", max = "50ms" }}
        "#
    ));
    deck.wait_ready(&["web1"]);
    // The first may have come before the port was open: that is a past to be told as well.
    let answered = |it: &Detail| {
        let past = it.probes["liveness"].results.iter();
        past.filter(|it| !it.ok && it.status == Some(404)).count()
    };
    let it = wait_detail(&deck, "web1", |it| answered(it) >= 3);
    let readiness = &it.probes["readiness"];
    assert_eq!(
        readiness.check,
        format!("GET /readiness on port {port} every 50ms, timeout 20s, fails after 3")
    );
    assert!(readiness.results.iter().any(|it| it.ok && it.status == Some(200)), "{readiness:?}");
    let liveness = &it.probes["liveness"].results;
    assert!(liveness.iter().all(|it| !it.ok), "{liveness:?}");
    assert!(liveness.is_sorted_by_key(|it| it.at), "oldest first");
    let listening = it.files.unwrap().listening;
    assert_eq!(listening, [format!("127.0.0.1:{port}")]);

    let first = deck.pid("web1");
    kill(first, Signal::SIGKILL);
    deck.wait("another process", |deck, _| {
        let it = &deck.services[0].instances[0];
        it.state == State::Running && it.pid.is_some_and(|it| it != first)
    });
    let it = wait_detail(&deck, "web1", |it| it.exits.iter().any(|it| it.kind == "exited"));
    assert!(it.exits[0].message.contains("SIGKILL"), "{:?}", it.exits);
    // The next daemon knows it from the journal.
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1"]);
    let again = detail(&deck, "web1");
    assert_eq!(again.exits.first(), it.exits.first());
}

#[test]
fn why_an_instance_is_not_ready_is_on_the_screen_after_two_keys() {
    let port = free_port();
    let mut deck = Deck::start(&format!(
        r#"
        [service.web]
        command = "opsdeck sample --port {{port}}"
        environment = {{ DB_PASSWORD = "geheim" }}
        instance.web1 = {{ port = {port} }}
        instance.web2 = {{ port = {} }}
        probe.readiness = {{ http.path = "/missing", period = "100ms", timeout = "20s" }}
        "#,
        free_port()
    ));
    deck.wait("web1 not ready", |deck, _| {
        support::find(deck, "web1").is_some_and(|it| it.ready == Some(false))
    });
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("web1");
    console.step("j");
    console.press("\r");
    console.wait_for("not ready: ");
    console.wait_for("status 404");
    console.wait_for("GET /missing on port");
    console.wait_for(&format!("sample --port {port}"));
    console.press("7");
    console.wait_for("DB_PASSWORD");
    console.wait_for("********");
    console.press("9");
    console.wait_for(&format!("127.0.0.1:{port}"));
    assert!(!String::from_utf8_lossy(&console.raw).contains("geheim"));
    console.press("q");
    console.wait_for("detach");
}

#[test]
fn what_does_not_run_or_is_not_there_is_told_as_well() {
    let mut deck = Deck::start(TREE);
    deck.wait_ready(&["tree"]);
    deck.ok(&["stop", "tree"]);
    let it = detail(&deck, "tree");
    assert!(it.why[0].starts_with("stopped by "), "{:?}", it.why);
    assert_eq!((it.processes, it.environment), (vec![], None));
    assert!(it.command.ends_with("tree --token=********"), "{}", it.command);
    let client = Client::new(&deck.socket()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let problem = runtime.block_on(client.detail("nobody")).unwrap_err();
    assert_eq!(problem.status, 404);
}

#[test]
fn viewers_get_no_environment() {
    if !support::is_root() {
        return;
    }
    let mut deck = Deck::start(&format!("watch = false\nviewers = [\"nobody\"]\n{TREE}"));
    std::fs::set_permissions(deck.path(), PermissionsExt::from_mode(0o755)).unwrap();
    deck.wait_ready(&["tree"]);
    let ask = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "curl"]);
        command.arg("-s").arg("--unix-socket").arg(deck.socket()).current_dir("/");
        String::from_utf8(output_of(command.args(args)).stdout).unwrap()
    };
    let text = ask(&["http://opsdeck/v1/instances/tree/detail"]);
    let it: Detail = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"));
    assert!(!it.processes.is_empty() && it.environment.is_none(), "{it:#?}");
    assert!(!text.contains("geheim") && !text.contains("PLAIN"), "{text}");
    assert!(it.missing.iter().any(|it| it.contains("operators")), "{:?}", it.missing);

    // What a configuration would change in it is not told either, but that it would.
    let changed = TREE.replace("9502", "9503");
    deck.write_config(&format!("watch = false\nviewers = [\"nobody\"]\n{changed}"));
    let text = ask(&["-X", "POST", "http://opsdeck/v1/config/diff"]);
    assert!(text.contains("environment.PLAIN") && !text.contains("950"), "{text}");
    let text = deck.ok(&["config", "diff"]);
    assert!(text.contains("environment.PLAIN: 9502 → 9503"), "{text}");
}
