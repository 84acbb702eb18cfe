//! Which pid files are believed (`engine = "pidfile"`): a signal goes to nobody whom a hostile file names.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::processes::child_of;
use support::theirs::{Theirs, write_pid};
use support::{Deck, find, free_port};

/// One process that a hostile file may name, and a deck that follows that file.
struct Bystander {
    theirs: Theirs,
    child: std::process::Child,
    pid: i32,
    file: PathBuf,
}

impl Bystander {
    fn new() -> Self {
        let theirs = Theirs::new();
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let (pid, file) = (i32::try_from(child.id()).unwrap(), theirs.path("web1.pid"));
        Self { theirs, child, pid, file }
    }

    fn deck(&self) -> Deck {
        let reloads = "profile = \"nginx\"\n";
        Deck::start(&self.theirs.service(&[("web1", free_port())], reloads))
    }

    /// The file is not believed, and while it is there no command reaches anybody.
    #[track_caller]
    fn expect(&mut self, deck: &mut Deck, text: &str) {
        deck.wait(text, |it, _| {
            find(it, "web1").is_some_and(|it| it.pid.is_none() && it.why.contains(text))
        });
        let said = |words: &[&str]| {
            let output = deck.opsdeck(words);
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            (output.status.code(), said)
        };
        for words in [
            &["signal", "SIGKILL", "web1", "--yes"][..],
            &["signal", "SIGHUP", "web1", "--yes"],
            &["reload", "web1"],
            &["restart", "web1"],
            &["start", "web1"],
            &["roll", "web"],
        ] {
            let (code, told) = said(words);
            assert_eq!(code, Some(1), "{text}: {words:?}: {told}");
            let why = ["does not run", "nothing says how to start it"];
            assert!(why.iter().any(|it| told.contains(it)), "{text}: {words:?}: {told}");
        }
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{text}: it was signalled: {ended:?}");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_file_that_cannot_be_believed_names_nobody() {
    let mut it = Bystander::new();
    let (pid, file) = (it.pid.to_string(), it.file.clone());
    let mut deck = it.deck();
    it.expect(&mut deck, "does not exist");
    write_pid(&file, "-4711\n");
    it.expect(&mut deck, "holds no pid, but \"-4711\"");
    write_pid(&file, "1\n");
    it.expect(&mut deck, "names pid 1, which is never a server of its own");
    std::os::unix::fs::symlink("/etc/passwd", it.theirs.path("link")).unwrap();
    std::fs::rename(it.theirs.path("link"), &file).unwrap();
    it.expect(&mut deck, "holds no pid, but \"root:");
    std::fs::remove_file(&file).unwrap();

    write_pid(&file, &deck.daemon_pid().to_string());
    it.expect(&mut deck, "which is never a server of its own");
    write_pid(&file, &std::process::id().to_string());
    it.expect(&mut deck, "which opsdeck itself runs under");
    write_pid(&file, &child_of(deck.daemon_pid(), "logger").to_string());
    it.expect(&mut deck, "is opsdeck's own logger");
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|it| it.trim() == "kthreadd") {
        write_pid(&file, "2");
        it.expect(&mut deck, "which is a part of the kernel");
    }

    // It has outlived what it was written for, or the clock was set.
    for (date, text) in
        [("2001-01-01", "was started after the file was written"), ("2100-01-01", "is dated later")]
    {
        let dated = it.theirs.path("dated");
        std::fs::write(&dated, &pid).unwrap();
        let touched = Command::new("touch").args(["-d", date]).arg(&dated).status().unwrap();
        assert!(touched.success());
        std::fs::rename(&dated, &file).unwrap();
        it.expect(&mut deck, text);
    }
    // There is nothing to stop.
    assert_eq!(deck.ok(&["stop", "web1"]).trim(), "web1 is stopped");
    assert!(it.child.try_wait().unwrap().is_none());
}

#[test]
fn a_file_that_others_can_write_names_nobody() {
    let mut it = Bystander::new();
    let (pid, file) = (it.pid.to_string(), it.file.clone());
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let mut deck = it.deck();
    it.expect(&mut deck, "does not exist");
    mode(it.theirs.dir.path(), 0o777);
    write_pid(&file, &pid);
    it.expect(&mut deck, "others may have written there");
    it.expect(&mut deck, "chmod go-w");
    mode(&file, 0o666);
    mode(it.theirs.dir.path(), 0o755);
    it.expect(&mut deck, "web1.pid may be written by everybody");
    if nix::unistd::geteuid().is_root() {
        // Theirs, and the process is somebody else's.
        let theirs = it.theirs.path("new");
        std::fs::write(&theirs, &pid).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        std::fs::rename(&theirs, &file).unwrap();
        it.expect(&mut deck, "(uid 65534)");
    }
    // In its right place it is believed.
    write_pid(&file, &pid);
    deck.wait("it is found", |view, _| {
        find(view, "web1").is_some_and(|found| found.pid == Some(it.pid))
    });
}

#[test]
fn who_is_not_root_believes_no_file_that_everybody_can_write() {
    if !support::is_root() {
        return;
    }
    let theirs = Theirs::new();
    let mut own = Command::new("setpriv");
    own.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "sleep", "600"]);
    let mut own = own.spawn().unwrap();
    let (pid, file) = (i32::try_from(own.id()).unwrap(), theirs.path("web1.pid"));
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let change_owner = |path: &Path, user: u32| {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    };
    mode(theirs.dir.path(), 0o755);
    change_owner(theirs.dir.path(), 65534);
    let wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    let services = theirs.service(&[("web1", free_port())], "");
    let mut deck = Deck::start_in(&wrapper, &services, |dir| {
        let changed = Command::new("chown").args(["-R", "65534:65534"]).arg(dir).status().unwrap();
        assert!(changed.success());
    });
    // Written by a process of its own, as far as the owner tells, and yet by anybody.
    let place = |text: &str, user: u32, bits: u32| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        change_owner(&new, user);
        mode(&new, bits);
        std::fs::rename(new, &file).unwrap();
    };
    let mut expect = |text: &str| {
        deck.wait(text, |it, _| {
            find(it, "web1").is_some_and(|it| it.pid.is_none() && it.why.contains(text))
        });
        let output = deck.opsdeck(&["signal", "SIGKILL", "web1", "--yes"]);
        assert_eq!(output.status.code(), Some(1), "{text}: {output:?}");
        assert!(own.try_wait().unwrap().is_none(), "{text}: it was killed");
    };
    place(&pid.to_string(), 65534, 0o666);
    expect("web1.pid may be written by everybody; chmod go-w");
    place(&pid.to_string(), 4321, 0o644);
    expect("keep it where only root, you and the user of the process may write");
    place(&pid.to_string(), 65534, 0o664);
    deck.wait("it is found", |it, _| find(it, "web1").is_some_and(|it| it.pid == Some(pid)));
    own.kill().unwrap();
    own.wait().unwrap();
}

#[test]
fn another_program_in_the_place_of_one_is_told() {
    let theirs = Theirs::new();
    let mut first = Command::new("sleep").arg("600").spawn().unwrap();
    let mut second = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let file = theirs.path("web1.pid");
    write_pid(&file, &first.id().to_string());
    let mut deck = Deck::start(&theirs.service(&[("web1", free_port())], ""));
    deck.wait_event("found running, pid");
    write_pid(&file, &second.id().to_string());
    let told = deck.wait_event("is another process now").message;
    assert!(told.contains("and the one before was") && told.contains("/sleep)"), "{told}");
    for child in [&mut first, &mut second] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
