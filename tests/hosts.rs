//! Hosts that are not as one would wish: the daemon is the first process, there are no cgroups, the disk
//! is full, there are no processes left.
//!
//! Each test makes such a host for itself out of namespaces. Where that is not allowed it says so (support/skip.rs).
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "a namespace of its own for the thread of a test")]

mod support;

use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;
use opsdeck::api::{Deck as View, State};
use support::processes::logger;
use support::skip::{has, is_root, skip};
use support::{Deck, find, is_alive, kill, output_of, wait_until};

/// Leaves a process behind that is in another session and nobody's child.
const FAMILY: &str = r#"
    [defaults]
    start_seconds = "100ms"
    [service.family]
    command = ["sh", "-c", "(setsid sh -c 'trap : TERM; echo left; while :; do sleep 1000; done' &); exec sleep 1000"]
    [service.group]
    command = ["sh", "-c", "sleep 1000 & exec opsdeck sample --worker --fork-grandchild"]
"#;

fn run(words: &[&str]) -> bool {
    output_of(Command::new(words[0]).args(&words[1..])).status.success()
}

/// From here on mounts of this thread, and of what it starts, are its own.
fn mounts_of_its_own() -> bool {
    if !is_root() {
        return false;
    }
    // SAFETY: no memory is touched; only this thread leaves the mounts and the directory of the others.
    let entered = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    has("mounts of its own", entered && run(&["mount", "--make-rprivate", "/"]))
}

#[track_caller]
fn mount_small_disk(at: &Path, size: &str) {
    std::fs::create_dir_all(at).unwrap();
    let options = format!("size={size},mode=700");
    let at = at.to_str().unwrap();
    assert!(run(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", at]));
}

/// Parent and state of every process.
fn processes() -> Vec<(i32, i32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let read = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    entries.filter_map(|it| read(it.file_name().to_str()?.parse().ok()?)).collect()
}

#[test]
fn as_the_first_process_the_daemon_reaps_everybody_and_sigterm_stops_everything() {
    let wrapper = ["unshare", "-pf", "--mount-proc"];
    if !is_root() || !has("pid namespaces", run(&[&wrapper[..], &["true"]].concat())) {
        return;
    }
    let orphans = r#"
        [service.orphans]
        command = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (setsid true &); done; echo made; exec sleep 1000"]"#;
    let mut deck = Deck::start_in(&wrapper, &format!("{FAMILY}{orphans}"), |_| ());
    let outside = deck.daemon_pid();
    let first = processes().into_iter().find(|(_, parent, _)| *parent == outside).unwrap().0;
    deck.wait_ready(&["family", "group", "orphans"]);
    deck.wait_line("orphans", "made");
    deck.wait_line("family", "left");
    wait_until("nobody unreaped", || {
        !processes().iter().any(|(_, parent, state)| *parent == first && *state == 'Z')
    });

    kill(first, Signal::SIGTERM);
    deck.wait_end();
    for name in ["family", "group", "orphans"] {
        let about = |it: &&opsdeck::api::Event| it.instance.as_deref() == Some(name);
        let kinds: Vec<_> = deck.events.iter().filter(about).map(|it| it.kind.as_str()).collect();
        assert!(kinds.contains(&"stopped"), "{name} {kinds:?}");
    }
    deck.wait_event("it left behind: sh (pid ");
    assert!(!is_alive(first));
}

/// Whatever way the members of a group are found, all of it dies, is named, and only then replaced.
fn whole_families_die(deck: &mut Deck) {
    deck.wait_ready(&["family", "group"]);
    deck.wait_line("family", "left");
    deck.wait_line("group", "left the group");
    kill(deck.pid("family"), Signal::SIGKILL);
    let named = deck.wait_event("it left behind: ");
    let started = |it: &View| find(it, "family").is_some_and(|it| it.generation == 2);
    deck.wait("a second generation", |it, _| started(it));
    let again = deck.wait_event("started, pid");
    assert!(named.seq < again.seq, "{}", deck.story());
    let left: Vec<i32> = named
        .message
        .split("(pid ")
        .skip(1)
        .map(|it| it.split(')').next().unwrap().parse().unwrap())
        .collect();
    // The shell, and what it waits for.
    assert!(!left.is_empty() && left.len() <= 2, "{}", named.message);
    assert!(left.iter().all(|it| !is_alive(*it)));

    deck.ok(&["stop", "group"]);
    deck.wait_state("group", State::Stopped);
    let text = deck.wait_event("killed 2 processes it left behind").message;
    assert!(text.contains("sleep (pid "), "{text}");
}

#[test]
fn without_cgroups_whole_families_die_all_the_same() {
    if !mounts_of_its_own() {
        return;
    }
    assert!(run(&["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"]));
    let mut deck = Deck::start(FAMILY);
    let log = std::fs::read_to_string(deck.path().join("daemon.log")).unwrap();
    assert!(log.contains("groups are followed without cgroups"), "{log}");
    whole_families_die(&mut deck);
}

#[test]
fn with_what_this_host_offers_whole_families_die() {
    whole_families_die(&mut Deck::start(FAMILY));
}

#[test]
fn a_full_disk_stops_nothing_and_is_said_until_there_is_room_again() {
    if !mounts_of_its_own() {
        return;
    }
    let services = r#"
        [defaults]
        start_seconds = "100ms"
        command = "opsdeck sample --worker"
        [service.steady]
        [service.mortal]
        [service.flood]
        command = "opsdeck sample --worker --flood 10MiB""#;
    let state = |deck: &Path| deck.join("state");
    let mut deck = Deck::start_in(&[], services, |dir| mount_small_disk(&state(dir), "512k"));
    deck.wait_ready(&["steady", "mortal", "flood"]);
    deck.wait_event("output of flood cannot be kept");
    let (steady, mortal) = (deck.pid("steady"), deck.pid("mortal"));

    // Everything that has to be written down from here on finds no room.
    kill(mortal, Signal::SIGKILL);
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    let rest = state(deck.path()).join("rest");
    let fill = || (0..64).all(|_| append(&rest, &[0; 4096]));
    assert!(!fill(), "there is room");
    deck.ok(&["restart", "mortal"]);
    // The last page of the journal has room for some events more.
    let said = |deck: &Deck| deck.view.notices.iter().any(|it| it.contains("cannot be written"));
    for _ in 0..500 {
        deck.ok(&["signal", "--yes", "SIGUSR1", "steady"]);
        deck.catch_up();
        if said(&deck) {
            break;
        }
    }
    assert!(said(&deck), "{}", deck.story());
    deck.wait_ready(&["steady", "mortal", "flood"]);
    assert_eq!(deck.pid("steady"), steady);
    let mortal = deck.pid("mortal");

    deck.ok(&["stop", "flood"]);
    std::fs::remove_file(&rest).unwrap();
    std::fs::remove_file(state(deck.path()).join("logs/flood.log")).unwrap();
    deck.ok(&["restart", "flood"]);
    deck.wait_event("output of flood is kept again");
    deck.ok(&["stop", "flood"]);

    // What was decided meanwhile is known to the next daemon.
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["steady", "mortal"]);
    assert_eq!((deck.pid("steady"), deck.pid("mortal")), (steady, mortal));
    deck.wait_state("flood", State::Stopped);
}

/// Lines of 400 bytes, once there is a file `slow` no faster than processes begin, until there is a file `enough`;
/// then how many there were into `total`.
const COUNTER: &str = "i=0; while [ ! -e $0/enough ]; do i=$((i+1)); how=; [ ! -e $0/slow ] || how=env; \
                       $how printf \"%0399d\\n\" $i; done; echo $i > $0/total";

/// What events say is missing of this output.
fn bytes_missing(deck: &Deck, name: &str) -> u64 {
    let begin = format!("output of {name} is kept again; ");
    let number = |it: &str| it.strip_prefix(&begin)?.split(' ').next()?.parse::<u64>().ok();
    deck.events.iter().filter_map(|it| number(&it.message)).sum()
}

fn bytes_of(lines: &[&str]) -> u64 {
    lines.iter().map(|it| it.len() as u64 + 1).sum()
}

#[test]
fn while_the_disk_is_full_services_are_rolled_and_every_byte_is_kept_or_said_to_be_missing() {
    if !mounts_of_its_own() {
        return;
    }
    let tools = tempfile::tempdir().unwrap();
    let at = tools.path().display();
    let services = format!(
        "[defaults]\nstart_seconds = \"100ms\"\ncommand = \"sleep 1000\"\n\
         [service.web]\nrollout = {{ settle = \"50ms\" }}\ninstance = {{ web1 = {{}}, web2 = {{}} }}\n\
         [service.mortal]\n[service.idle]\n[service.late]\n\
         [service.counter]\ncommand = ['sh', '-c', '{COUNTER}', '{at}']\nrestart = \"never\"\n"
    );
    let state = |deck: &Path| deck.join("state");
    let mut deck = Deck::start_in(&[], &services, |dir| {
        mount_small_disk(&state(dir), "768k");
        assert!(append(&state(dir).join("rest"), &[0; 512 << 10]));
    });
    deck.wait_ready(&["web1", "web2", "mortal", "idle", "late"]);
    deck.wait_event("output of counter cannot be kept");
    std::fs::write(tools.path().join("slow"), "").unwrap();
    let rest = state(deck.path()).join("rest");
    while append(&rest, &[0; 4096]) {}

    // Started, stopped, crashed and rolled where nothing can be written down.
    deck.ok(&["roll", "web"]);
    deck.ok(&["stop", "idle", "late"]);
    deck.ok(&["start", "late"]);
    kill(deck.pid("mortal"), Signal::SIGKILL);
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    let names = ["web1", "web2", "mortal", "late"];
    deck.wait("it is said", |it, _| it.notices.iter().any(|it| it.contains("cannot be written")));
    let status = deck.opsdeck(&["status"]);
    let status = [status.stdout, status.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    assert!(status.contains("cannot be written"), "{status}");
    deck.wait_ready(&names);
    let known = names.map(|it| (deck.pid(it), deck.instance(it).generation));
    assert!(known.iter().all(|it| it.1 == 2), "{}", deck.story());

    std::fs::remove_file(&rest).unwrap();
    deck.wait_event("output of counter is kept again");
    std::fs::write(tools.path().join("enough"), "").unwrap();
    deck.wait_state("counter", State::Exited);
    let total = std::fs::read_to_string(tools.path().join("total")).unwrap();
    let written = 400 * total.trim().parse::<u64>().unwrap();
    let log = std::fs::read_to_string(state(deck.path()).join("logs/counter.log")).unwrap();
    deck.catch_up();
    let (words, numbers): (Vec<_>, Vec<_>) =
        log.lines().partition(|it| it.starts_with("[opsdeck: "));
    let (kept, missing) = (bytes_of(&numbers), bytes_missing(&deck, "counter"));
    // A line that was torn is ended before the words about what is missing.
    let ends = (kept + missing).checked_sub(written).expect("all of it is accounted for");
    assert!(missing > 0 && ends <= words.len() as u64, "{ends} {words:?}\n{}", deck.story());

    // Something is to be written: then all of it is.
    deck.ok(&["signal", "--yes", "SIGCONT", "mortal"]);
    deck.wait("no notice", |it, _| it.notices.is_empty());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&names);
    assert_eq!(names.map(|it| (deck.pid(it), deck.instance(it).generation)), known);
    deck.wait_state("idle", State::Stopped);
    assert_eq!(deck.instance("counter").generation, 1);
}

/// A disk of its own at this place, as mkfs makes it, whose errors make it read-only; its device's name.
fn mount_real_disk(at: &Path) -> Option<String> {
    let image = at.with_extension("img");
    std::fs::create_dir_all(at).ok()?;
    std::fs::File::create(&image).and_then(|it| it.set_len(16 << 20)).ok()?;
    let [at, image] = [at, &image].map(|it| it.display().to_string());
    let made = has("e2fsprogs", run(&["mkfs.ext4", "-q", "-F", &image]))
        && run(&["mount", "-o", "loop,errors=remount-ro,nodelalloc", &image, &at]);
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").ok()?;
    let mut lines = mounts.lines().map(|it| it.split(' ').collect::<Vec<_>>());
    let device = lines.find(|it| made && it[1] == at)?[0].rsplit('/').next()?.to_owned();
    run(&["chmod", "700", &at]).then_some(device)
}

/// Makes a disk answer every write with EROFS, as it does after an error of its own.
fn turn_read_only(_: &Path, device: &str) -> bool {
    std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").is_ok()
}

/// Makes a disk answer everything with EIO (FS_IOC_SHUTDOWN of linux/fs.h), as if its cable had been pulled.
fn pull_cable(at: &Path, _: &str) -> bool {
    let program = "import fcntl, os, struct, sys\n\
        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    run(&["python3", "-c", program, at.to_str().unwrap()])
}

/// Supervision goes on without its disk, and says what it cannot write and why.
fn goes_on_without_a_disk(fault: fn(&Path, &str) -> bool, why: &str) {
    if !mounts_of_its_own() {
        return;
    }
    let services = r#"
        [defaults]
        start_seconds = "100ms"
        command = "opsdeck sample --worker"
        [service.steady]
        [service.mortal]
        [service.chat]
        command = "opsdeck sample --worker --print-every 20ms --work 0s""#;
    let mut device = None;
    let mut deck = Deck::start_in(&[], services, |dir| {
        device = mount_real_disk(&dir.join("state"));
    });
    let Some(device) = device else {
        return skip("a disk out of a file that breaks when it is asked to");
    };
    deck.wait_ready(&["steady", "mortal", "chat"]);
    deck.wait_line("chat", "job");
    let (steady, mortal, chat) = (deck.pid("steady"), deck.pid("mortal"), deck.pid("chat"));
    if !fault(&deck.path().join("state"), &device) {
        return skip("a disk out of a file that breaks when it is asked to");
    }
    deck.wait_event("output of chat cannot be kept");
    kill(mortal, Signal::SIGKILL);
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    deck.ok(&["restart", "mortal"]);
    deck.wait("it is said", |it, _| {
        it.notices.iter().any(|it| it.contains("cannot be written") && it.contains(why))
    });
    deck.wait_ready(&["steady", "mortal", "chat"]);
    assert_eq!((deck.pid("steady"), deck.pid("chat")), (steady, chat), "{}", deck.story());
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(!is_alive(steady) && !is_alive(chat));
}

#[test]
fn a_disk_that_turns_read_only_stops_nothing_and_is_said() {
    goes_on_without_a_disk(turn_read_only, "Read-only file system");
}

#[test]
fn a_disk_that_answers_with_errors_stops_nothing_and_is_said() {
    goes_on_without_a_disk(pull_cable, "Input/output error");
}

#[test]
fn a_state_directory_that_is_removed_makes_no_room_for_a_second_daemon() {
    let mut deck = Deck::start("[service.steady]\ncommand = \"sleep 1000\"\n");
    deck.wait_ready(&["steady"]);
    let steady = deck.pid("steady");
    let state = deck.path().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    let output = deck.opsdeck(&["daemon"]);
    assert_eq!(output.status.code(), Some(1));
    let notice = String::from_utf8(output.stderr).unwrap();
    assert!(notice.contains(&format!("another daemon (pid {})", deck.daemon_pid())), "{notice}");
    assert!(is_alive(steady) && is_alive(deck.daemon_pid()));

    assert!(!state.exists(), "one that is refused makes nothing");

    // What runs is known to the next.
    std::fs::create_dir(&state).unwrap();
    deck.wait("no notice", |it, _| it.notices.is_empty());
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGTERM));
    deck.wait_ready(&["steady"]);
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
}

#[test]
fn a_state_directory_that_is_moved_away_loses_nothing_that_was_ordered() {
    let mut deck = Deck::start(
        "[service.steady]\ncommand = \"sleep 1000\"\n[service.other]\ncommand = \"sleep 1000\"\n",
    );
    deck.wait_ready(&["steady", "other"]);
    let (steady, state) = (deck.pid("steady"), deck.path().join("state"));
    std::fs::rename(&state, deck.path().join("moved")).unwrap();
    deck.wait("it is said", |it, _| it.notices.iter().any(|it| it.contains("was removed")));
    let output = deck.opsdeck(&["daemon"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!state.exists(), "one that is refused makes nothing");

    std::fs::create_dir(&state).unwrap();
    deck.wait("no notice", |it, _| it.notices.is_empty());
    deck.ok(&["stop", "other"]);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["steady"]);
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
    assert_eq!(deck.instance("other").state, State::Stopped, "{}", deck.story());
}

#[test]
fn directories_that_were_removed_and_come_back_have_their_sockets_again() {
    let mut deck = Deck::start(
        "[defaults]\nstart_seconds = \"100ms\"\ncommand = \"sh -c 'echo up; exec sleep 1000'\"\n\
         backoff = { min = \"50ms\", max = \"200ms\" }\n[service.steady]\n[service.other]\n",
    );
    deck.wait_ready(&["steady", "other"]);
    let (steady, state) = (deck.pid("steady"), deck.path().join("state"));
    for name in ["steady", "other"] {
        // A logger that has something to write makes its directory anew.
        deck.wait_line(name, "up");
    }
    let (_, runtime_dir) = logger(&deck).unwrap();
    for removed in [&runtime_dir, &state] {
        std::fs::remove_dir_all(removed).unwrap();
    }
    deck.wait("it is said", |it, _| {
        it.notices.iter().any(|it| it.contains("was removed with its directory"))
    });
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(4), "nobody finds it");

    std::fs::create_dir(&state).unwrap();
    wait_until("the socket is there", || deck.socket().exists());
    deck.wait_event("was removed; it is there again");
    let mode = std::os::unix::fs::MetadataExt::mode(&deck.socket().metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    deck.ok(&["status"]);
    // Who had connected before goes on, and what starts now has its output.
    deck.ok(&["restart", "other"]);
    deck.wait_line("other", "up");
    let second = deck.opsdeck(&["daemon"]);
    let notice = String::from_utf8(second.stderr).unwrap();
    assert!(notice.contains(&format!("another daemon (pid {})", deck.daemon_pid())), "{notice}");

    // Whoever takes its place keeps it.
    std::fs::remove_file(deck.socket()).unwrap();
    let stranger = std::os::unix::net::UnixListener::bind(deck.socket()).unwrap();
    deck.wait("it is said", |it, _| {
        it.notices.iter().any(|it| it.contains("is not this daemon's any more"))
    });
    drop(stranger);
    std::fs::remove_file(deck.socket()).unwrap();
    deck.wait("no notice", |it, _| it.notices.is_empty());
    assert_eq!(deck.pid("steady"), steady);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["steady", "other"]);
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
}

fn append(path: &Path, bytes: &[u8]) -> bool {
    use std::io::Write;
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.is_ok_and(|mut file| file.write_all(bytes).is_ok())
}

#[test]
fn a_host_without_processes_delays_starts_and_ends_no_daemon() {
    // Nobody else's processes count for this one.
    let user = (60_000 + std::process::id() % 5_000).to_string();
    let (reuid, regid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let become_them = ["setpriv", &reuid, &regid, "--clear-groups", "prlimit"];
    let wrapper = [&become_them[..], &["--nproc=8:1000", "--"]].concat();
    if !is_root() || !has("other users", run(&[&wrapper[..], &["true"]].concat())) {
        return;
    }
    let services: String = (0..20).map(|n| format!("[service.s{n}]\n")).collect();
    let defaults = "[defaults]\nstart_seconds = \"100ms\"\ncommand = \"sleep 1000\"
        backoff = { min = \"100ms\", max = \"200ms\" }\n";
    let mut deck = Deck::start_in(&wrapper, &format!("{defaults}{services}"), |dir| {
        assert!(run(&["chown", "-R", &user, dir.to_str().unwrap()]));
    });
    deck.wait_event("could not make a process: too many processes (see ulimit -u and pids.max)");
    let pid = deck.daemon_pid();
    assert!(is_alive(pid));
    let target = pid.to_string();
    let more = [&become_them[..], &["--pid", &target, "--nproc=1000:1000"]].concat();
    assert!(run(&more));
    let names: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    deck.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
}
