//! What a host does to its processes when something runs out, hangs or lies.
//!
//! Each test makes its fault for itself. Where the kernel or the host does not let it, it says so.

mod support;

use std::path::{Path, PathBuf};

use opsdeck::api::State;
use support::{Deck, wait_until};

#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

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
        return skipped("no memory may be limited here, or the kernel does not count its kills");
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
    support::kill(deck.pid("modest"), nix::sys::signal::Signal::SIGKILL);
    deck.wait_state("modest", State::Exited);
    let exit = deck.instance("modest").last_exit.unwrap();
    assert_eq!(exit.cause, "a signal that opsdeck did not send (SIGKILL)");
}
