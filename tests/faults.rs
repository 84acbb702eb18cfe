//! What a host does to its processes when something runs out, hangs or lies.
//!
//! Each test makes its fault for itself. Where the host does not let it, it says so (support/skip.rs).

mod support;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use opsdeck::api::State;
use support::skip::skip;
use support::{Deck, find, free_port, is_alive, kill, wait_until};

/// A cgroup with little memory, of either version, for a whole deck.
struct Cramped(PathBuf);

impl Cramped {
    const BYTES: &str = "268435456";

    fn make() -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |prefix: &str| {
            let mut paths = own.lines().filter_map(|it| it.split_once(prefix));
            paths.next().map(|it| it.1.trim_start_matches('/').to_owned())
        };
        let name = format!("opsdeck-test-{}", std::process::id());
        if let Some(path) = path(":memory:/") {
            let below = Path::new("/sys/fs/cgroup/memory").join(path).join(&name);
            std::fs::create_dir(&below).ok()?;
            let this = Self(below);
            this.write("memory.limit_in_bytes", Self::BYTES)?;
            // Only where swap is counted.
            let _ = this.write("memory.memsw.limit_in_bytes", Self::BYTES);
            let counts = std::fs::read_to_string(this.0.join("memory.oom_control")).ok()?;
            return counts.contains("oom_kill ").then_some(this);
        }
        let above = Path::new("/sys/fs/cgroup").join(path("0::/")?);
        std::fs::write(above.join("cgroup.subtree_control"), "+memory").ok()?;
        std::fs::create_dir(above.join(&name)).ok()?;
        let this = Self(above.join(&name));
        this.write("memory.max", Self::BYTES)?;
        let _ = this.write("memory.swap.max", "0");
        Some(this)
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        std::fs::write(self.0.join(file), text).ok()
    }

    /// Moves itself into it and executes what follows.
    fn wrapper(&self) -> [String; 3] {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        ["sh".into(), "-c".into(), script]
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let empty = || std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        wait_until("the cgroup empty", || empty().is_empty());
        // What the kernel still counts in it goes by itself.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn who_is_killed_for_want_of_memory_is_told_from_who_is_killed() {
    let Some(cramped) = Cramped::make() else {
        return skip("a count of those killed for want of memory");
    };
    let wrapper = cramped.wrapper();
    let config = r#"
        [defaults]
        start_seconds = "0s"
        restart = "never"
        [service.glutton]
        command = "tail /dev/zero"
        [service.modest]
        command = "sleep 1000"
    "#;
    let mut deck = Deck::start_in(&wrapper.each_ref().map(|it| it.as_str()), config, |_| ());
    deck.wait_state("glutton", State::Exited);
    let exit = deck.instance("glutton").last_exit.unwrap();
    assert_eq!(exit.signal.as_deref(), Some("SIGKILL"), "{}", deck.story());
    let cause = exit.cause.as_str();
    assert!(cause.ends_with("by the kernel: out of memory"), "{cause}\n{}", deck.story());
    let message = deck.wait_event("was killed by SIGKILL").message;
    assert!(message.ends_with("out of memory"), "{message}");
    let why = deck.ok(&["why", "glutton"]);
    assert!(why.contains("by the kernel: out of memory"), "{why}");

    // The count does not rise for a kill that is somebody's.
    kill(deck.pid("modest"), Signal::SIGKILL);
    deck.wait_state("modest", State::Exited);
    let exit = deck.instance("modest").last_exit.unwrap();
    assert_eq!(exit.cause, "a signal that opsdeck did not send (SIGKILL)");
}

const DAY: i64 = 86_400;

/// Puts a number of seconds from a file on the wall clock of the process it is loaded into.
const SKEW: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int answer = syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("SKEW_FILE");
    char text[32] = {0};
    if (answer || clock != CLOCK_REALTIME || !path) return answer;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return answer;
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
    close(file);
    return answer;
}
"#;

fn run(words: &[&str]) -> bool {
    support::output_of(Command::new(words[0]).args(&words[1..])).status.success()
}

const STEADY: &str = r#"
    [defaults]
    start_seconds = "50ms"
    [service.steady]
    command = "sleep 1000"
    probe.liveness = { exec.command = "true", period = "100ms", timeout = "20s" }
    [service.stubborn]
    command = "opsdeck sample --worker --ignore-term"
    max_wait_time = "2s"
"#;

/// How long a stop took by its own event, in seconds.
fn seconds_of_stop(deck: &mut Deck) -> f64 {
    let message = deck.wait_event("killed by SIGKILL").message;
    let time = message.split("killed by SIGKILL ").nth(1).and_then(|it| it.split("s into").next());
    time.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no time in {message}"))
}

#[test]
fn a_wall_clock_that_jumps_a_day_either_way_ends_and_delays_nothing() {
    let tools = tempfile::tempdir().unwrap();
    let (source, library) = (tools.path().join("skew.c"), tools.path().join("skew.so"));
    let skew = tools.path().join("skew");
    std::fs::write(&source, SKEW).unwrap();
    let [source, library] = [&source, &library].map(|it| it.display().to_string());
    assert!(run(&["cc", "-shared", "-fPIC", "-o", &library, &source]), "a compiler of C is needed");
    let jump = |seconds: i64| {
        std::fs::write(skew.with_extension("new"), seconds.to_string()).unwrap();
        std::fs::rename(skew.with_extension("new"), &skew).unwrap();
    };
    let preload = format!("LD_PRELOAD={library}");
    let file = format!("SKEW_FILE={}", skew.display());
    let mut deck = Deck::start_in(&["env", &preload, &file], STEADY, |_| ());
    deck.wait_ready(&["steady", "stubborn"]);
    let steady = deck.pid("steady");

    jump(DAY);
    deck.ok(&["stop", "--no-wait", "stubborn"]);
    let stop = deck.wait_event("SIGTERM").at;
    let day_ahead = stop.as_second() - jiff::Timestamp::now().as_second();
    assert!(day_ahead > DAY / 2, "the daemon's clock did not jump: {stop}");
    deck.wait_state("stubborn", State::Stopping);
    jump(-DAY);
    deck.wait_state("stubborn", State::Stopped);
    let took = seconds_of_stop(&mut deck);
    assert!((1.9..60.0).contains(&took), "{took}");
    let exit = deck.instance("stubborn").last_exit.unwrap();
    assert_eq!(exit.cause, "SIGKILL: max_wait_time was over");

    // What goes by the clock of the machine goes on: probes, restarts, the next daemon.
    deck.wait("a probe after the jump", |it, _| {
        let probes = find(it, "steady").map(|it| it.probes.clone()).unwrap_or_default();
        probes.get("liveness").and_then(|it| it.at).is_some_and(|it| it < stop)
    });
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);
    kill(steady, Signal::SIGKILL);
    deck.wait("steady replaced", |it, _| {
        find(it, "steady").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
}

#[test]
fn a_daemon_that_stood_still_keeps_its_deadlines_and_blames_nobody() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady", "stubborn"]);
    let (daemon, steady) = (deck.daemon_pid(), deck.pid("steady"));
    deck.ok(&["stop", "--no-wait", "stubborn"]);
    deck.wait_state("stubborn", State::Stopping);
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let later = uptime() + 2.5;
    kill(daemon, Signal::SIGSTOP);
    wait_until("the deadline over", || uptime() > later);
    kill(daemon, Signal::SIGCONT);
    deck.wait_state("stubborn", State::Stopped);
    let exit = deck.instance("stubborn").last_exit.unwrap();
    assert_eq!(exit.cause, "SIGKILL: max_wait_time was over");
    deck.wait_ready(&["steady"]);
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
}

#[test]
fn without_descriptors_some_starts_wait_and_the_daemon_answers() {
    let defaults = "[defaults]\nstart_seconds = \"50ms\"\ncommand = \"sleep 1000\"
        backoff = { min = \"100ms\", max = \"200ms\" }\n";
    let names: Vec<_> = (0..24).map(|n| format!("s{n}")).collect();
    let services: String = names.iter().map(|it| format!("[service.{it}]\n")).collect();
    let wrapper = ["prlimit", "--nofile=1024:1024", "--"];
    let mut deck = Deck::start_in(&wrapper, &format!("{defaults}[service.s0]\n"), |_| ());
    deck.wait_ready(&["s0"]);
    let daemon = deck.daemon_pid().to_string();
    let limit = |soft: &str| run(&["prlimit", "--pid", &daemon, &format!("--nofile={soft}:1024")]);
    if !limit("64") {
        return skip("limits of another process");
    }
    deck.write_config(&format!("{defaults}{services}"));
    deck.ok(&["config", "apply"]);
    deck.wait_event("too many open files");
    let status = [(); 3].map(|()| deck.opsdeck(&["status"]).status.code());
    assert!(limit("1024"));
    assert_eq!(status, [Some(3); 3], "{}", deck.story());
    deck.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
    deck.ok(&["shutdown"]);
    deck.wait_end();
}

/// Makes posix_spawn(3) say that there is no memory as long as a file is there, in the process that it is loaded
/// into, where clone3(2) is not there at all.
const NO_MEMORY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
extern int access(const char *path, int mode);
long syscall(long number, long a, long b, long c, long d, long e, long f) {
    long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
    if (number != SYS_clone3) return real(number, a, b, c, d, e, f);
    errno = ENOSYS;
    return -1;
}
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]) {
    int (*real)() = dlsym(RTLD_NEXT, "posix_spawn");
    if (!access(getenv("NO_MEMORY"), 0)) return ENOMEM;
    return real(pid, path, actions, attributes, argv, environment);
}
"#;

#[test]
fn without_memory_for_a_process_starts_wait_and_the_daemon_answers() {
    let tools = tempfile::tempdir().unwrap();
    let path = |name: &str| tools.path().join(name).display().to_string();
    let (source, library) = (path("memory.c"), path("memory.so"));
    std::fs::write(&source, NO_MEMORY).unwrap();
    let made = run(&["cc", "-w", "-shared", "-fPIC", "-o", &library, &source]);
    assert!(made, "a compiler of C is needed");
    let (preload, file) =
        (format!("LD_PRELOAD={library}"), format!("NO_MEMORY={}", path("no-memory")));
    let services = "[defaults]\nstart_seconds = \"50ms\"\ncommand = \"sleep 1000\"\n\
                    backoff = { min = \"100ms\", max = \"200ms\" }\n\
                    [service.steady]\n[service.mortal]\n";
    let mut deck = Deck::start_in(&["env", &preload, &file], services, |_| ());
    deck.wait_ready(&["steady", "mortal"]);
    let steady = deck.pid("steady");

    std::fs::write(path("no-memory"), "").unwrap();
    kill(deck.pid("mortal"), Signal::SIGKILL);
    let message = deck.wait_event("could not make a process: ").message;
    assert!(message.contains("memory"), "{message}");
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(3), "{}", deck.story());
    std::fs::remove_file(path("no-memory")).unwrap();
    deck.wait("mortal replaced", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation >= 2 && it.ready == Some(true))
    });
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
}

#[test]
fn a_child_that_stands_still_is_replaced_when_its_probe_says_so() {
    let port = free_port();
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\nmax_wait_time = \"1s\"\n\
         instance.web1 = {{ port = {port} }}\nprobe.liveness = {{ http.path = \"/liveness\", period = \"100ms\", timeout = \"1s\", failure_threshold = 3 }}\n"
    ));
    deck.wait_ready(&["web1"]);
    let stopped = deck.pid("web1");
    kill(stopped, Signal::SIGSTOP);
    deck.wait("a second generation", |it, _| {
        find(it, "web1").is_some_and(|it| it.generation >= 2 && it.live == Some(true))
    });
    assert!(!is_alive(stopped));
}

/// A cgroup of version 1 whose processes not even SIGKILL reaches, until it is thawed.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(pid: i32) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|it| it.split_once(":freezer:/"))?.1;
        let name = format!("opsdeck-test-{pid}");
        let directory = Path::new("/sys/fs/cgroup/freezer").join(path).join(name);
        std::fs::create_dir(&directory).ok()?;
        let this = Self(directory);
        std::fs::write(this.0.join("cgroup.procs"), pid.to_string()).ok()?;
        this.set("FROZEN");
        let state = || std::fs::read_to_string(this.0.join("freezer.state")).unwrap_or_default();
        wait_until("frozen", || state().trim() == "FROZEN");
        Some(this)
    }

    fn set(&self, state: &str) {
        let _ = std::fs::write(self.0.join("freezer.state"), state);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.set("THAWED");
        let gone = || std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        wait_until("nobody in it", || gone().is_empty());
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_child_that_no_signal_reaches_is_said_and_waited_for() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady", "stubborn"]);
    let (pid, steady) = (deck.pid("stubborn"), deck.pid("steady"));
    let Some(frozen) = Frozen::freeze(pid) else {
        return skip("a freezer of cgroup v1");
    };
    deck.ok(&["stop", "--no-wait", "stubborn"]);
    deck.wait_event("SIGKILL: max_wait_time was over");
    deck.wait("it is said", |it, _| {
        find(it, "stubborn").is_some_and(|it| it.why.contains("SIGKILL"))
    });
    // No second generation beside it, and nobody else waits.
    deck.ok(&["restart", "steady"]);
    deck.wait("steady renewed", |it, _| find(it, "steady").is_some_and(|it| it.generation == 2));
    deck.wait_ready(&["steady"]);
    assert!(!is_alive(steady) && is_alive(pid));
    assert_eq!(deck.instance("stubborn").state, State::Stopping);
    frozen.set("THAWED");
    deck.wait_state("stubborn", State::Stopped);
    assert!(!is_alive(pid));
}

/// A parent that waits in the kernel for its child, where SIGTERM does not reach it (vfork(2)).
const UNINTERRUPTIBLE: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
void caught(int number) {}
int main(void) {
    signal(SIGTERM, caught);
    setlinebuf(stdout);
    puts("waits");
    if (!vfork()) { pause(); _exit(0); }
    puts("was waited for");
    return 0;
}
"#;

#[test]
fn a_child_in_uninterruptible_sleep_is_ended_by_the_last_rung() {
    let tools = tempfile::tempdir().unwrap();
    let [source, program] =
        ["sleeper.c", "sleeper"].map(|it| tools.path().join(it).display().to_string());
    std::fs::write(&source, UNINTERRUPTIBLE).unwrap();
    assert!(run(&["cc", "-w", "-o", &program, &source]), "a compiler of C is needed");
    let mut deck = Deck::start(&format!(
        "{STEADY}[service.sleeper]\ncommand = {program:?}\nmax_wait_time = \"1s\"\n"
    ));
    deck.wait_ready(&["steady", "sleeper"]);
    deck.wait_line("sleeper", "waits");
    let (pid, steady) = (deck.pid("sleeper"), deck.pid("steady"));
    wait_until("in uninterruptible sleep", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|it| it.trim().starts_with('D'))
    });
    deck.ok(&["restart", "sleeper"]);
    let exit = deck.wait_event("killed by SIGKILL");
    assert_eq!(exit.instance.as_deref(), Some("sleeper"), "{}", exit.message);
    deck.wait("a second generation", |it, _| {
        find(it, "sleeper").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert!(!is_alive(pid));
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
}

/// Answers every request with a good head and then a byte at a time, for as long as somebody listens.
const TRICKLE: &str = r"
import socket, sys, threading, time
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
def answer(client):
    try:
        client.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n')
        while True:
            client.sendall(b'x')
            time.sleep(0.02)
    except OSError:
        pass
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
";

#[test]
fn a_probe_whose_target_trickles_fails_at_its_timeout_and_leaves_the_others_alone() {
    let tools = tempfile::tempdir().unwrap();
    let script = tools.path().join("trickle.py");
    std::fs::write(&script, TRICKLE).unwrap();
    let port = free_port();
    let mut deck = Deck::start(&format!(
        "{STEADY}[service.slow]\ncommand = \"python3 {} {{port}}\"\ninstance.slow1 = {{ port = {port} }}\n\
         probe.readiness = {{ http.path = \"/\", period = \"100ms\", timeout = \"500ms\", failure_threshold = 1 }}\n",
        script.display()
    ));
    deck.wait_ready(&["steady"]);
    deck.wait("it is too late after the head", |it, _| {
        let probes = find(it, "slow1").map(|it| it.probes.clone()).unwrap_or_default();
        probes.get("readiness").is_some_and(|it| it.status == Some(200) && it.error.is_some())
    });
    assert_eq!(deck.instance("slow1").ready, Some(false));
    let before = deck.instance("steady").probes["liveness"].at;
    deck.wait("the other probes go on", |it, _| {
        find(it, "steady")
            .is_some_and(|it| it.probes["liveness"].at > before && it.ready == Some(true))
    });
    assert_eq!(deck.instance("steady").generation, 1);
}

/// A daemon whose standard error is this works and ends like any other.
fn works_with(wrapper: &[&str]) {
    let mut deck = Deck::start_in(wrapper, STEADY, |_| ());
    deck.wait_ready(&["steady"]);
    deck.ok(&["restart", "steady"]);
    deck.ok(&["shutdown"]);
    deck.wait_end();
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    works_with(&["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full"]);
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut options = std::fs::File::options();
    options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK);
    let mut full = options.open(&pipe).unwrap();
    while full.write(&[b'.'; 4096]).is_ok() {}
    let wrapper = format!("exec \"$0\" \"$@\" 2<>{}", pipe.display());
    works_with(&["sh", "-c", &wrapper]);
}

#[test]
fn a_log_on_a_terminal_is_written_without_colours() {
    let script = "import pty, sys; pty.spawn(sys.argv[1:])";
    let mut deck = Deck::start_in(&[support::python(), "-c", script], STEADY, |_| ());
    deck.wait_ready(&["steady"]);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    let log = std::fs::read_to_string(deck.path().join("daemon.log")).unwrap();
    assert!(log.contains("the daemon is up") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_log_of_its_own_is_put_aside_when_it_has_grown() {
    let grown = |deck: &Path| {
        std::fs::create_dir(deck.join("state")).unwrap();
        std::fs::write(deck.join("state/daemon.log"), vec![b'.'; 9 << 20]).unwrap();
    };
    let wrapper = "exec \"$0\" \"$@\" 2>>\"${3%/*}/state/daemon.log\"";
    let mut deck = Deck::start_in(&["sh", "-c", wrapper], STEADY, grown);
    deck.wait_ready(&["steady"]);
    let log = deck.path().join("state/daemon.log");
    wait_until("it is begun anew", || {
        std::fs::read_to_string(&log).is_ok_and(|it| it.contains("the daemon is up"))
    });
    assert!(log.metadata().unwrap().len() < 1 << 20);
    assert!(deck.path().join("state/daemon.log.1").metadata().unwrap().len() >= 9 << 20);
}
