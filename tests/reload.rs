//! Reloads that are watched, of sample trees and of the real servers.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use nix::sys::signal::Signal;
use opsdeck::api::{Act, Detail, InstanceVerb, Request, Target, problem};
use opsdeck::client::Client;
use support::{Deck, Following, PATIENCE, free_port, kill, wait_until};

fn detail(deck: &Deck, name: &str) -> Detail {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = async { Client::new(&deck.socket())?.detail(name).await };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() }).unwrap()
}

/// Pids of those of its processes that have this role.
fn with_role(deck: &Deck, name: &str, role: &str) -> BTreeSet<i32> {
    let detail = detail(deck, name);
    let has_role = detail.processes.iter().filter(|it| it.role.as_deref() == Some(role));
    has_role.map(|it| it.pid).collect()
}

fn workers(deck: &Deck, name: &str, n: usize) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    wait_until("as many workers", || {
        found = with_role(deck, name, "worker");
        found.len() == n
    });
    found
}

/// One of two workers is told to go by this signal, and another one takes its place.
fn one_is_replaced(deck: &mut Deck, signal: &str) {
    let pid = *workers(deck, "shop", 2).first().unwrap();
    let leader = deck.pid("shop");
    let told = deck.ok(&["signal", signal, "shop", "--pid", &pid.to_string()]);
    assert_eq!(told, format!("{signal} was sent to worker, pid {pid}, of shop\n"));
    deck.wait_event(&format!("{signal} to worker, pid {pid}"));
    deck.wait_event(&format!("worker, pid {pid}, ended "));
    wait_until("two workers again", || {
        let now = with_role(deck, "shop", "worker");
        now.len() == 2 && !now.contains(&pid)
    });
    deck.catch_up();
    assert_eq!(deck.pid("shop"), leader);
}

/// A deck with one service `shop` that is ready, has two workers, and is reloaded; then one worker gets the
/// signal that lets it finish.
fn reloads(service: &str, stop: Option<&str>, prepare: impl FnOnce(&Path)) {
    let mut deck = Deck::start_in(&[], service, prepare);
    deck.wait_ready(&["shop"]);
    let before = workers(&deck, "shop", 2);
    let leader = deck.pid("shop");

    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: renewed 2 of 2 workers in "), "{told}");
    let after = workers(&deck, "shop", 2);
    assert!(after.is_disjoint(&before), "{before:?} {after:?}");
    deck.catch_up();
    assert_eq!(deck.pid("shop"), leader);
    deck.wait_event("renewed 2 of 2 workers");
    let reload = deck.instance("shop").reload.unwrap();
    assert_eq!((reload.renewed, reload.of, reload.complete), (2, 2, true), "{reload:?}");
    let gone: BTreeSet<i32> = reload.gone.iter().map(|it| it.pid).collect();
    assert_eq!(gone, before, "{reload:?}");
    if let Some(stop) = stop {
        one_is_replaced(&mut deck, stop);
    }
}

/// A service that is ready when somebody accepts connections.
fn shop(command: &str, profile: &str, port: u16) -> String {
    format!(
        "[service.shop]\ncommand = {command:?}\nprofile = {profile:?}\nmax_wait_time = \"20s\"\n\
         instance.shop = {{ port = {port} }}\n\
         probe.readiness = {{ tcp = {{}}, period = \"50ms\", timeout = \"20s\" }}\n"
    )
}

fn sample(flags: &str, profile: &str) -> String {
    let command = format!("opsdeck sample --port {{port}} {flags}");
    shop(&command, profile, free_port())
}

#[test]
fn the_workers_of_a_swoole_server_are_renewed() {
    reloads(&sample("--tree swoole", "swoole"), Some("SIGTERM"), |_| ());
}

#[test]
fn sigusr2_renews_task_workers_and_nobody_else() {
    let mut deck = Deck::start(&sample("--tree swoole --task-workers 1 --titles", "swoole"));
    deck.wait_ready(&["shop"]);
    let before = workers(&deck, "shop", 2);
    let mut task = BTreeSet::new();
    wait_until("a task worker", || {
        task = with_role(&deck, "shop", "task worker");
        task.len() == 1
    });
    deck.ok(&["signal", "SIGUSR2", "shop"]);
    deck.wait_event("renewed 1 of 1 worker in ");
    assert!(with_role(&deck, "shop", "task worker").is_disjoint(&task));
    assert_eq!(workers(&deck, "shop", 2), before);
    let generation = |role: &str| {
        let of = detail(&deck, "shop").processes;
        of.iter().find(|it| it.role.as_deref() == Some(role)).and_then(|it| it.generation)
    };
    assert_eq!((generation("task worker"), generation("worker")), (Some(2), Some(1)));
    // A reload of all says that it is no deploy.
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("renewed 3 of 3 workers") && told.contains("to deploy, "), "{told}");
}

#[test]
fn who_is_not_replaced_or_not_of_the_tree_gets_no_signal_at_once() {
    let mut deck = Deck::start(&sample("--tree swoole", "swoole"));
    deck.wait_ready(&["shop"]);
    let before = workers(&deck, "shop", 2);
    let manager = *with_role(&deck, "shop", "manager").first().unwrap();
    let refused = |deck: &Deck, signal: &str, pid: u32| {
        let output = deck.opsdeck(&["signal", signal, "shop", "--pid", &pid.to_string()]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{told}");
        told
    };
    let told = refused(&deck, "SIGTERM", manager.unsigned_abs());
    assert!(told.contains("the place of manager, pid"), "{told}");
    let worker = before.first().unwrap().unsigned_abs();
    let told = refused(&deck, "SIGQUIT", worker);
    assert!(told.contains("SIGQUIT is not caught: it will kill worker, pid"), "{told}");
    let me = std::process::id();
    let told = refused(&deck, "SIGTERM", me);
    assert!(told.contains(&format!("{me} is no process of shop")), "{told}");

    // What is not the process that was seen is refused by the daemon too.
    let target = Some(Target { pid: worker.cast_signed(), start_time: 1 });
    let signal = Some("SIGTERM".to_owned());
    let act = Act { target, signal, ..Act::default() };
    let (name, verb) = ("shop".to_owned(), InstanceVerb::Signal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&deck.socket()).unwrap();
    let answer = runtime.block_on(client.send(&Request::Instance { name, verb, act }));
    assert_eq!(answer.unwrap_err().kind, problem::CHANGED);
    assert_eq!(workers(&deck, "shop", 2), before);
}

#[test]
fn workers_that_have_to_be_killed_are_renewed_too() {
    let flags = "--tree swoole --mode base --ignore-term --max-wait-time 200ms";
    reloads(&sample(flags, "swoole"), None, |_| ());
}

#[test]
fn a_server_that_executes_itself_again_is_followed() {
    reloads(&sample("--tree fpm", "php-fpm"), Some("SIGQUIT"), |_| ());
}

#[test]
fn a_single_process_is_told_from_a_reload() {
    let mut deck = Deck::start(&sample("--tree swoole --mode single", "swoole"));
    deck.wait_ready(&["shop"]);
    let output = deck.opsdeck(&["reload", "shop"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no worker to renew: to swoole it is a single process"), "{told}");
}

#[test]
fn a_reload_that_may_close_every_connection_wants_a_yes() {
    let mut deck = Deck::start(&sample("--tree swoole --work 1h --mode thread", "swoole"));
    deck.wait_ready(&["shop"]);
    let threads = "single process, perhaps with threads as workers";
    assert_eq!(with_role(&deck, "shop", threads).len(), 1);
    let port = deck.instance("shop").port.unwrap();
    let mut request = TcpStream::connect(("127.0.0.1", port)).unwrap();
    request.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let output = deck.opsdeck(&["reload", "shop"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("if the workers of shop are threads, SIGUSR1 closes every"), "{told}");
    request.set_read_timeout(Some(PATIENCE)).unwrap();
    deck.opsdeck(&["reload", "--yes", "shop"]);
    assert_eq!(request.read(&mut [0; 64]).unwrap(), 0, "the yes was for this");
}

#[test]
fn a_user_process_makes_no_reload_a_failure() {
    let mut deck = Deck::start(&sample("--tree swoole --user-process", "swoole"));
    deck.wait_ready(&["shop"]);
    workers(&deck, "shop", 3);
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("renewed 2 of 3 workers"), "{told}");
    assert!(told.contains("a reload seems to leave it alone"), "{told}");
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("renewed 2 of 2 workers"), "{told}");
}

#[test]
fn a_server_that_tells_its_workers_is_renewed_though_others_stay() {
    let load = "load = { swoole = \"/stats\" }\n";
    let flags = "--tree swoole --user-process --task-workers 1";
    let mut deck = Deck::start(&(sample(flags, "swoole") + load));
    deck.wait_ready(&["shop"]);
    workers(&deck, "shop", 4);
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("renewed 3 of 4 workers"), "{told}");
    assert!(told.contains("the server counts 3 that a reload renews"), "{told}");
}

#[test]
fn without_titles_an_event_tells_how_many_sigusr2_has_renewed() {
    let mut deck = Deck::start(&sample("--tree swoole --task-workers 1", "swoole"));
    deck.wait_ready(&["shop"]);
    workers(&deck, "shop", 3);
    deck.ok(&["signal", "SIGUSR2", "shop"]);
    deck.wait_event("1 of 3 workers were renewed; no title tells whom SIGUSR2 renews");
}

#[test]
fn a_server_that_ends_while_it_is_reloaded_is_a_failure() {
    let flags = "--tree swoole --ignore-term --max-wait-time 1h";
    let mut deck = Deck::start(&sample(flags, "swoole"));
    deck.wait_ready(&["shop"]);
    workers(&deck, "shop", 2);
    let reload = deck.command(&["reload", "shop"]).spawn().unwrap();
    deck.wait("a reload under way", |deck, _| {
        support::find(deck, "shop")
            .is_some_and(|it| it.reload.as_ref().is_some_and(|it| it.of == 2))
    });
    assert!(deck.instance("shop").why.starts_with("reloading 0/2 workers"), "{}", deck.story());
    kill(deck.pid("shop"), Signal::SIGKILL);
    assert_eq!(support::finish(reload).status.code(), Some(1));
    let told = deck.wait_event("was killed by SIGKILL in the middle of it (SIGUSR1)");
    assert_eq!(told.kind, "reload-incomplete");
    assert!(told.evidence.is_some_and(|it| !it.is_empty()));
}

/// A deck in the middle of a reload that goes on until somebody kills the workers, which are returned.
fn under_way() -> (Deck, BTreeSet<i32>, Following) {
    let flags = "--tree swoole --ignore-term --max-wait-time 1h";
    let mut deck = Deck::start(&sample(flags, "swoole"));
    deck.wait_ready(&["shop"]);
    let before = workers(&deck, "shop", 2);
    let reload = Following::start(deck.command(&["reload", "shop"]));
    wait_under_way(&mut deck);
    (deck, before, reload)
}

fn wait_under_way(deck: &mut Deck) {
    deck.wait("a reload under way", |deck, _| {
        let reload = support::find(deck, "shop").and_then(|it| it.reload.as_ref());
        reload.is_some_and(|it| it.of == 2 && it.ended.is_none())
    });
}

#[test]
fn the_next_daemon_watches_a_reload_on() {
    let (mut deck, before, _reload) = under_way();
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    wait_under_way(&mut deck);
    deck.wait_event("its reload is watched on by this daemon: reloading 0/2 workers");
    for worker in before {
        kill(worker, Signal::SIGKILL);
    }
    deck.wait("a whole reload", |deck, _| {
        let reload = support::find(deck, "shop").and_then(|it| it.reload.as_ref());
        reload.is_some_and(|it| it.number == 1 && it.complete)
    });
}

#[test]
fn who_waits_for_a_reload_goes_on_with_the_next_program() {
    let (mut deck, before, reload) = under_way();
    kill(deck.daemon_pid(), Signal::SIGUSR2);
    deck.wait_replacement("replaced");
    wait_under_way(&mut deck);
    for worker in before {
        kill(worker, Signal::SIGKILL);
    }
    let (status, lines) = reload.rest();
    assert!(status.success(), "{lines:#?}\n{}", deck.story());
    let told = lines.join("\n");
    assert!(told.contains("shop: renewed 2 of 2 workers in "), "{told}");
}

#[test]
fn a_signal_that_a_server_does_not_hear_while_it_is_at_it_makes_no_generation() {
    let (mut deck, before, _reload) = under_way();
    deck.ok(&["signal", "SIGUSR1", "shop"]);
    deck.wait("a second reload", |deck, _| {
        let reload = support::find(deck, "shop").and_then(|it| it.reload.as_ref());
        reload.is_some_and(|it| it.number == 2 && it.of == 2)
    });
    for worker in before {
        kill(worker, Signal::SIGKILL);
    }
    deck.wait_event("renewed 2 of 2 workers in ");
    workers(&deck, "shop", 2);
    let all = detail(&deck, "shop").processes;
    let generations = all.iter().filter_map(|it| it.generation);
    assert_eq!(generations.collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn one_instance_is_renewed_after_the_other() {
    let (one, two) = (free_port(), free_port());
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --tree swoole\"\n\
         profile = \"swoole\"\nstart_seconds = \"100ms\"\n\
         instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two} }}\n"
    ));
    deck.wait_ready(&["web1", "web2"]);
    workers(&deck, "web1", 2);
    workers(&deck, "web2", 2);
    let told = deck.ok(&["reload", "web"]);
    assert_eq!(told.matches(": renewed 2 of 2 workers").count(), 2, "{told}");
    deck.wait_event("SIGUSR1 went through web");
    let at = |kind: &str, name: &str| {
        let of =
            |it: &&opsdeck::api::Event| it.kind == kind && it.instance.as_deref() == Some(name);
        deck.events.iter().find(of).unwrap_or_else(|| panic!("no {kind}:\n{}", deck.story())).seq
    };
    let [first, second] = if at("signal-sent", "web1") < at("signal-sent", "web2") {
        ["web1", "web2"]
    } else {
        ["web2", "web1"]
    };
    assert!(at("reloaded", first) < at("signal-sent", second), "{}", deck.story());
}

#[test]
fn auto_goes_by_the_tree_where_the_command_does_not_tell() {
    let port = free_port();
    let command = format!("sh -c 'exec opsdeck sample --port {port} $KIND'");
    let service = shop(&command, "auto", port);
    let kind = "environment = { KIND = '--tree swoole --titles' }\n";
    let mut deck = Deck::start(&(service + kind));
    deck.wait_ready(&["shop"]);
    deck.wait_event("its profile is a guess, swoole, from `");
    assert!(deck.ok(&["reload", "shop"]).contains("renewed 2 of 2 workers"));
    assert!(deck.ok(&["why", "shop"]).contains("its profile swoole is a guess"));
    // Reading the file again finds the same.
    deck.ok(&["config", "apply"]);
    deck.ok(&["reload", "shop"]);
}

/// Whether this program is there; without it the test says so and does nothing.
fn is_there(program: &str) -> bool {
    support::skip::has(program, Path::new(program).exists())
}

/// The command of an nginx with two workers; `None`: there is none.
fn nginx(directory: &Path, port: u16) -> Option<String> {
    if !is_there("/usr/sbin/nginx") {
        return None;
    }
    let path = directory.display();
    let text = format!(
        "daemon off;\nworker_processes 2;\npid {path}/pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {path}/body; \
         proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; \
         scgi_temp_path {path}/scgi; server {{ listen 127.0.0.1:{port}; return 200; }} }}\n"
    );
    let config = directory.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    Some(format!("/usr/sbin/nginx -c {}", config.display()))
}

#[test]
fn nginx_is_reloaded_by_sighup() {
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    if let Some(command) = nginx(directory.path(), port) {
        reloads(&shop(&command, "nginx", port), Some("SIGQUIT"), |_| ());
    }
}

#[test]
fn a_worker_that_still_has_a_connection_makes_no_reload_of_nginx_incomplete() {
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let Some(command) = nginx(directory.path(), port) else { return };
    let service = shop(&command, "nginx", port).replace("\"20s\"\ninst", "\"1s\"\ninst");
    let mut deck = Deck::start(&service);
    deck.wait_ready(&["shop"]);
    workers(&deck, "shop", 2);
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: shop\r\n").unwrap();
    deck.wait("the connection is accepted", |deck, _| {
        let it = support::find(deck, "shop");
        it.is_some_and(|it| it.connections == Some(1) && it.accept_queue == Some(0))
    });
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: new ones run in place of 2 workers; pid "), "{told}");
    assert!(told.contains(" still finishes what was begun"), "{told}");
    let leaving = detail(&deck, "shop").processes.iter().filter(|it| it.leaving).count();
    assert_eq!(leaving, 1, "it is one of those that leave still");
    drop(client);
    workers(&deck, "shop", 2);
}

/// The command of a php-fpm whose pool is managed like this; `None`: there is none.
fn php_fpm(directory: &Path, port: u16, pool: &str) -> Option<String> {
    let found = std::fs::read_dir("/usr/sbin").unwrap().map_while(Result::ok).map(|it| it.path());
    let found = found
        .filter(|it| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with("php-fpm")))
        .min();
    let program = found.map_or("/usr/sbin/php-fpm".into(), |it| it.display().to_string());
    if !is_there(&program) {
        return None;
    }
    let user =
        if nix::unistd::geteuid().is_root() { "user = nobody\ngroup = nogroup\n" } else { "" };
    let text = format!(
        "[global]\nerror_log = /dev/stderr\nprocess_control_timeout = 10s\n[www]\n{user}\
         listen = 127.0.0.1:{port}\npm.max_children = 2\n{pool}\n"
    );
    let config = directory.join("fpm.conf");
    std::fs::write(&config, text).unwrap();
    Some(format!("{program} --nodaemonize --fpm-config {}", config.display()))
}

#[test]
fn php_fpm_is_reloaded_by_sigusr2() {
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    if let Some(command) = php_fpm(directory.path(), port, "pm = static") {
        reloads(&shop(&command, "php-fpm", port), Some("SIGQUIT"), |_| ());
    }
}

#[test]
fn a_pool_whose_workers_come_on_demand_is_reloaded_without_one() {
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let Some(command) = php_fpm(directory.path(), port, "pm = ondemand") else { return };
    let mut deck = Deck::start(&format!(
        "[service.shop]\ncommand = {command:?}\nprofile = \"php-fpm\"\n\
         probe.readiness = {{ exec.command = \"grep -q :{port:04X} /proc/net/tcp\", period = \"50ms\" }}\n"
    ));
    deck.wait_ready(&["shop"]);
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: no worker is there now: the next ones come when"), "{told}");
}

#[test]
fn gunicorn_is_reloaded_by_sighup() {
    if !is_there("/usr/bin/gunicorn") {
        return;
    }
    let port = free_port();
    let directory = tempfile::tempdir().unwrap();
    let app = "def app(env, start):\n    start('200 OK', [])\n    return [b'ok']\n";
    std::fs::write(directory.path().join("app.py"), app).unwrap();
    let path = directory.path().display();
    let command = format!(
        "/usr/bin/gunicorn --workers 2 --worker-tmp-dir {path} --bind 127.0.0.1:{port} --chdir {path} app:app"
    );
    reloads(&shop(&command, "gunicorn", port), Some("SIGTERM"), |_| ());
}

#[test]
fn a_signal_that_would_kill_is_not_sent_by_a_reload_that_nobody_has_confirmed() {
    let mut deck = Deck::start(
        "[service.wrapped]\ncommand = [\"sleep\", \"60\"]\nprofile = \"swoole\"\n\
         start_seconds = \"100ms\"\n",
    );
    deck.wait_ready(&["wrapped"]);
    let pid = deck.instance("wrapped").pid;
    for flags in [&["reload", "wrapped"][..], &["reload", "--no-wait", "wrapped"]] {
        let output = deck.opsdeck(flags);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{told}");
        assert!(told.contains("SIGUSR1 is not caught: it will kill wrapped"), "{told}");
        assert!(told.contains("`--yes`"), "{told}");
    }
    assert_eq!(deck.instance("wrapped").pid, pid);
    deck.opsdeck(&["reload", "--yes", "--no-wait", "wrapped"]);
    deck.wait_event("was killed by SIGUSR1");
}
