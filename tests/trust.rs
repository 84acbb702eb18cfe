//! What root reads and runs, and whom it trusts with that.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use nix::sys::signal::Signal;
use support::{Deck, is_alive, is_root, kill};

const WORKER: &str = "[service.a]\ncommand = \"sleep 1000\"\nstart_seconds = \"100ms\"\n";

#[test]
fn root_runs_nothing_that_others_can_replace() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (open, program) = (directory.path().join("open"), directory.path().join("open/job"));
    std::fs::create_dir(&open).unwrap();
    std::fs::copy("/bin/sleep", &program).unwrap();
    let set = |mode: u32| std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
    set(0o777);
    let config = format!(
        "[service.a]\ncommand = \"{} 1000\"\nstart_seconds = \"50ms\"\n{}",
        program.display(),
        WORKER.replace("service.a", "service.b")
    );
    let mut deck = Deck::start(&config);

    // A new daemon starts the others.
    deck.wait_ready(&["b"]);
    let said = deck.wait_event("a cannot start: root would run what others can replace").message;
    let hint = format!("{0} may be written by everybody; chmod go-w {0}", open.display());
    assert!(said.contains(&hint), "{said}");
    let checked = deck.opsdeck(&["config", "check"]);
    let text = String::from_utf8(checked.stderr).unwrap();
    assert!(!checked.status.success() && text.contains("help: chmod go-w"), "{text}");
    assert!(text.contains("`a` would have root run what others can replace"), "{text}");
    let applied = deck.opsdeck(&["config", "apply"]);
    assert!(!applied.status.success(), "{}", deck.story());

    // Mended, and then broken again while it runs.
    set(0o755);
    deck.ok(&["start", "a"]);
    deck.wait_ready(&["a"]);
    set(0o777);
    kill(deck.pid("a"), Signal::SIGKILL);
    let started = |it: &opsdeck::api::Deck| support::find(it, "a").map_or(0, |it| it.generation);
    let before = deck.instance("a").generation;
    deck.wait("it started by itself", |it, _| started(it) > before);
    deck.wait_ready(&["a"]);
    let restarted = deck.opsdeck(&["restart", "--no-wait", "a"]);
    assert!(restarted.status.success());
    deck.wait("it is refused", |it, _| {
        support::find(it, "a").is_some_and(|it| it.why.contains("root would run what others"))
    });
    // In a sticky directory nobody can replace what is root's.
    set(0o1777);
    deck.ok(&["start", "a"]);
    deck.wait_ready(&["a"]);
}

#[test]
fn root_starts_nothing_with_a_probe_that_others_can_replace() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("probe");
    std::fs::copy("/bin/true", &program).unwrap();
    let set =
        |mode: u32| std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
    set(0o777);
    let probe = format!("probe.readiness = {{ exec.command = [{program:?}], period = \"50ms\" }}");
    let mut deck = Deck::start(&format!("{WORKER}{probe}"));
    let said = deck.wait_event("a cannot start: root would run what others can replace").message;
    let hint = format!("{0} may be written by everybody; chmod go-w {0}", program.display());
    assert!(said.contains(&hint), "{said}");
    set(0o755);
    deck.ok(&["start", "a"]);
    deck.wait_ready(&["a"]);
}

#[test]
fn root_uses_nothing_for_an_nginx_that_others_can_replace() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [open, safe] = ["open", "safe"].map(|it| directory.path().join(it));
    for it in [&open, &safe] {
        std::fs::create_dir(it).unwrap();
        std::fs::copy("/bin/true", it.join("nginx")).unwrap();
    }
    let set = |mode: u32| std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
    set(0o777);
    let port = support::free_port();
    let config = |wrong: &str| {
        let at = |key: &str, name: &str| {
            if key == wrong { open.join(name) } else { safe.join(name) }.display().to_string()
        };
        format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\ninstance.web = {{ port = {port} }}\n\
             [gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\n\
             nginx.pid_file = {:?}\nnginx.file = {:?}\nnginx.switches = {:?}\n\
             nginx.reload = [{:?}]\nnginx.test = [{:?}, \"-t\"]\n",
            safe.join("nginx.pid"),
            at("file", "shop.conf"),
            at("switches", "switches"),
            at("reload", "nginx"),
            at("test", "nginx"),
        )
    };
    let mut deck = Deck::start(&config("file"));

    // A new daemon asks nobody, and writes nothing.
    let said = deck.wait_event("root would use an `nginx.file` that others can replace").message;
    let hint = format!("{0} may be written by everybody; chmod go-w {0}", open.display());
    assert!(said.contains(&hint), "{said}");
    assert!(!open.join("shop.conf").exists());
    for key in ["file", "switches", "reload", "test"] {
        deck.write_config(&config(key));
        let checked = deck.opsdeck(&["config", "check"]);
        let text = String::from_utf8(checked.stderr).unwrap();
        assert!(!checked.status.success() && text.contains("help: chmod go-w"), "{key}: {text}");
        let title = format!("`shop` would have root use an `nginx.{key}` that others can replace");
        assert!(text.contains(&title), "{text}");
        let line = config(key).lines().position(|it| it.starts_with(&format!("nginx.{key} ")));
        let wrote = std::fs::read_to_string(deck.path().join("config.toml")).unwrap();
        let before = wrote.lines().count() - config(key).lines().count();
        assert!(text.contains(&format!("config.toml:{}:", before + line.unwrap() + 1)), "{text}");
        assert!(!deck.opsdeck(&["config", "apply"]).status.success(), "{key}: {}", deck.story());
    }
    // In a sticky directory nobody can replace what is root's.
    set(0o1777);
    deck.write_config(&config("file"));
    deck.ok(&["config", "check"]);
    support::wait_until("it is written", || open.join("shop.conf").exists());
}

#[test]
fn root_reads_no_configuration_that_others_can_change() {
    if !is_root() {
        return;
    }
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let file = deck.path().join("config.toml");
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    let applied = deck.opsdeck(&["config", "apply"]);
    let text = String::from_utf8(applied.stderr).unwrap();
    assert!(!applied.status.success() && text.contains("belongs to nobody (uid 65534)"), "{text}");
    assert!(text.contains("chown root"), "{text}");
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    let checked = deck.opsdeck(&["config", "check"]);
    let text = String::from_utf8(checked.stderr).unwrap();
    assert!(!checked.status.success() && text.contains("may be written by everybody"), "{text}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    deck.ok(&["config", "check"]);
}

/// A place of the daemon's is no subject of whoever owns it.
#[test]
fn root_keeps_nothing_where_others_can_put_something() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [config, state, secret] = ["c.toml", "state", "secret"].map(|it| dir.path().join(it));
    std::fs::write(&config, format!("[deck]\nstate_dir = {state:?}\n{WORKER}")).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::write(&secret, "mine\n").unwrap();
    std::os::unix::fs::symlink(&secret, state.join("journal.jsonl")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("new"), state.join("opsdeck.lock")).unwrap();
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(support::OPSDECK);
        let output = command.arg("--config").arg(&config).args(words).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for (owner, mode, hint) in [(65534, 0o700, "chown root"), (0, 0o777, "chmod go-w")] {
        std::os::unix::fs::chown(&state, Some(owner), None).unwrap();
        std::fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
        for words in [&["daemon"][..], &["config", "check"]] {
            let (done, told) = run(words);
            // Whose it is may run a daemon there.
            assert_eq!(done, words[0] == "config" && owner != 0, "{told}");
            let what = format!("the state directory {} is open to others", state.display());
            assert!(told.contains(&what) && told.contains(hint), "{told}");
        }
    }
    // It was somebody's, and what he has put there stays: no link is followed.
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    let (done, told) = run(&["daemon"]);
    assert!(!done && told.contains("opsdeck.lock is a symbolic link"), "{told}");
    assert!(!dir.path().join("new").exists());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "mine\n");
}

#[test]
fn root_believes_no_record_that_others_have_written() {
    if !is_root() {
        return;
    }
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    let [record, state] =
        ["config.jsonl", "state.jsonl"].map(|it| deck.path().join("state").join(it));
    deck.ok(&["stop", "a"]);
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        support::wait_until("it is dead", || !is_alive(deck.daemon_pid()));
        let nobody = |to| std::os::unix::fs::chown(&record, Some(to), None).unwrap();
        nobody(65534);
        let refused = deck.opsdeck(&["daemon"]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains("(uid 65534)") && told.contains("chown 0 /"), "{told}");
        nobody(0);
        // As a copy leaves it: it is ours, and is believed.
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o664)).unwrap();
    });
    deck.wait_state("a", opsdeck::api::State::Stopped);
    assert!(!is_alive(pid), "{}", deck.story());
    let mode = std::fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A process of nobody's that says it is `mark`, and that no parent has any more.
fn impostor(mark: &str) -> i32 {
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"])
        .env("OPSDECK_INSTANCE", mark);
    let output = command.uid(65534).gid(65534).output().unwrap();
    let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let environ = format!("/proc/{pid}/cmdline");
    support::wait_until("it sleeps in a session of its own", || {
        std::fs::read(&environ).is_ok_and(|it| it.starts_with(b"sleep"))
    });
    pid
}

#[test]
fn what_others_say_of_themselves_is_believed_of_nobody() {
    if !is_root() {
        return;
    }
    let mut pid = 0;
    let mut deck = Deck::start_in(&[], WORKER, |dir| {
        pid = impostor(&format!("a@{}", dir.join("state").display()));
    });
    deck.wait_ready(&["a"]);
    assert_ne!(deck.pid("a"), pid, "{}", deck.story());
    assert!(is_alive(pid), "nobody has to do with it");
    kill(pid, Signal::SIGKILL);

    // Nor does he keep root's daemon from beginning somewhere else.
    deck.ok(&["shutdown"]);
    deck.wait_end();
    let config = deck.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let pid = impostor(&format!("a@{}", deck.path().join("state").display()));
    let other = deck.path().join("other");
    let moved = text.replace("/state\"", "/other\"");
    assert_ne!(moved, text);
    std::fs::write(&config, moved).unwrap();
    let mut command = deck.command(&["daemon"]);
    let mut daemon = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let socket = other.join("opsdeck.sock");
    support::wait_until("it begins or ends", || {
        socket.exists() || daemon.try_wait().unwrap().is_some()
    });
    assert_eq!(daemon.try_wait().unwrap(), None, "it has not begun");
    deck.ok(&["shutdown"]);
    support::ended(&mut daemon);
    kill(pid, Signal::SIGKILL);
}

/// Its state has the same path as ours, as that of every daemon in a container has.
#[test]
fn what_runs_in_a_container_is_left_alone() {
    let container = ["--pid", "--fork", "--kill-child"];
    let can = std::process::Command::new("unshare").args(container).arg("true").output();
    if !is_root() || !can.is_ok_and(|it| it.status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let init = dir.path().join("systemd");
    std::fs::copy("/bin/sleep", &init).unwrap();
    let script = "export OPSDECK_INSTANCE=\"$1\"; setsid sleep 600 & exec \"$0\" 600";
    let mut inside = std::process::Command::new("unshare");
    inside.args(container).args(["sh", "-c", script]).arg(&init);
    inside.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut running = None;
    let mut deck = Deck::start_in(&[], WORKER, |at| {
        // Who brings it in is of the host, and says nothing.
        inside.arg(format!("a@{}", at.join("state").display()));
        running = Some(inside.spawn().unwrap());
        support::wait_until("its init runs", || {
            let all = all_of(&at.join("state"));
            ["systemd", "sleep"].iter().all(|name| all.iter().any(|it| it.0 == *name))
        });
    });
    deck.wait_ready(&["a"]);
    let (own, state) = (deck.pid("a"), deck.path().join("state"));
    let theirs = |it: &(String, i32)| it.0 == "sleep" && it.1 != own;
    assert_eq!(all_of(&state).into_iter().filter(theirs).count(), 1, "{}", deck.story());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["a"]);
    assert_eq!(deck.pid("a"), own);
    deck.ok(&["shutdown"]);
    assert_eq!(all_of(&state).into_iter().filter(theirs).count(), 1, "{}", deck.story());
    let mut running = running.unwrap();
    running.kill().unwrap();
    support::ended(&mut running);
}

/// Names and pids of all that say they are the instance of this state directory.
fn all_of(state: &std::path::Path) -> Vec<(String, i32)> {
    let mark = format!("OPSDECK_INSTANCE=a@{}", state.display());
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let named = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let says = environment.split(|it| *it == 0).any(|it| it == mark.as_bytes());
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        says.then(|| (name.trim().to_owned(), pid))
    };
    pids.filter_map(named).collect()
}
