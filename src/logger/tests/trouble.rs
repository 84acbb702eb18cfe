//! Disks that are full: a service never waits for one.

use std::path::Path;
use std::process::Command;

use super::process::{Deck, child};
use super::text;
use crate::logger::{FromLogger, LogQuery, read};

fn is_trouble(report: &FromLogger) -> bool {
    matches!(report, FromLogger::Trouble { .. })
}

#[test]
fn what_cannot_be_written_is_counted_said_once_and_remarked_when_it_is_over() {
    let deck = Deck::with_file_limit(Some(65536));
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    // Ends only if somebody takes its output.
    assert!(child(&fifo, "exec seq 500000").wait().unwrap().success());
    let troubles = daemon.flush("web1").into_iter().filter(is_trouble).collect::<Vec<_>>();
    let said = format!("could not write {}: File too large (os error 27)", web1.log.display());
    let start =
        FromLogger::Trouble { name: "web1".into(), message: said.clone(), dropped_bytes: 0 };
    assert_eq!(troubles, [start]);
    assert_eq!(std::fs::metadata(&web1.log).unwrap().len(), 65536);

    let dropped_bytes = 3_388_895 - 65536;
    let now = FromLogger::Trouble { name: "web1".into(), message: said.clone(), dropped_bytes };
    let mut other = deck.connect();
    assert_eq!((0..2).map(|_| other.hear()).nth(1), Some(now));

    // An operator makes room; the next try is due within a second.
    std::fs::write(&web1.log, "").unwrap();
    let mut talker = child(&fifo, "while echo again; do :; done");
    let over = daemon.hear_until(|it| matches!(it, FromLogger::TroubleOver { .. })).pop();
    talker.kill().unwrap();
    talker.wait().unwrap();
    let Some(FromLogger::TroubleOver { dropped_bytes, .. }) = over else { panic!("{over:?}") };
    let first = read(&web1.log, LogQuery::default()).unwrap().next();
    let remark = format!("[opsdeck: {dropped_bytes} bytes of output are missing here: {said}]");
    assert_eq!(text(first.into_iter()), remark);
}

#[test]
fn a_log_that_cannot_be_opened_is_trouble_for_its_own_service_only() {
    let deck = Deck::new();
    let (mut web1, fifo) = deck.source("web1", 1 << 20, 1);
    let (web2, other) = deck.source("web2", 1 << 20, 1);
    web1.log = deck.dir().join("web1.fifo");
    let mut daemon = deck.connect();
    daemon.open(&web1);
    daemon.open(&web2);
    assert!(child(&fifo, "seq 100000").wait().unwrap().success());
    assert!(child(&other, "echo fine").wait().unwrap().success());
    let said = daemon.hear_until(is_trouble).pop();
    let message = format!(
        "could not write {}: it is not a regular file",
        deck.dir().join("web1.fifo").display()
    );
    assert_eq!(said, Some(FromLogger::Trouble { name: "web1".into(), message, dropped_bytes: 0 }));
    daemon.flush("web2");
    assert_eq!(text(read(&web2.log, LogQuery::default()).unwrap()), "fine");
}

#[test]
fn a_log_that_another_process_has_locked_is_waited_for_and_then_given_up() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    std::fs::create_dir(web1.log.parent().unwrap()).unwrap();
    let stranger = std::fs::File::create(&web1.log).unwrap();
    stranger.lock().unwrap();
    let mut daemon = deck.connect();
    daemon.open(&web1);
    child(&fifo, "echo one").wait().unwrap();
    // Long before the patience ends.
    let held = deck.connect().flush("other");
    assert!(!held.iter().any(is_trouble), "{held:?}");
    stranger.unlock().unwrap();
    daemon.flush("web1");
    assert_eq!(text(read(&web1.log, LogQuery::default()).unwrap()), "one");

    let (web2, fifo) = deck.source("web2", 1 << 20, 1);
    let stranger = std::fs::File::create(&web2.log).unwrap();
    stranger.lock().unwrap();
    daemon.open(&web2);
    child(&fifo, "echo two").wait().unwrap();
    let message = format!("another process holds the lock of {}", web2.log.display());
    let trouble = FromLogger::Trouble { name: "web2".into(), message, dropped_bytes: 0 };
    assert!(daemon.flush("web2").contains(&trouble));
}

#[test]
fn a_fifo_that_is_not_there_is_trouble_and_is_taken_once_it_is() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    std::fs::remove_file(&web1.fifo).unwrap();
    drop(fifo);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    let message =
        format!("could not open {}: No such file or directory (os error 2)", web1.fifo.display());
    let trouble = FromLogger::Trouble { name: "web1".into(), message, dropped_bytes: 0 };
    assert_eq!(daemon.hear_until(is_trouble).pop(), Some(trouble));

    // And one that was made anew replaces the one that is held.
    for word in ["one", "two"] {
        let _ = std::fs::remove_file(&web1.fifo);
        let (web1, fifo) = deck.source("web1", 1 << 20, 1);
        daemon.open(&web1);
        child(&fifo, &format!("echo {word}")).wait().unwrap();
        daemon.flush("web1");
    }
    assert_eq!(text(read(&web1.log, LogQuery::default()).unwrap()), "one|two");
}

/// A file system of 256 KiB, unmounted in the end; `None` where we may not mount.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|it| it.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: the logger has files open on it.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_stalls_no_service_and_the_log_goes_on_when_there_is_room() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let directory = web1.log.parent().unwrap();
    std::fs::create_dir(directory).unwrap();
    // Only root can do this; elsewhere the file size limit above stands for it.
    let Some(_disk) = SmallDisk::mount(directory) else { return };
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![0; 128 << 10]).unwrap();
    let mut daemon = deck.connect();
    daemon.open(&web1);
    assert!(child(&fifo, "exec seq 500000").wait().unwrap().success());
    let said = daemon.flush("web1").into_iter().find(is_trouble);
    let message =
        format!("could not write {}: No space left on device (os error 28)", web1.log.display());
    assert_eq!(said, Some(FromLogger::Trouble { name: "web1".into(), message, dropped_bytes: 0 }));

    std::fs::remove_file(ballast).unwrap();
    let mut talker = child(&fifo, "while echo again; do :; done");
    daemon.hear_until(|it| matches!(it, FromLogger::TroubleOver { .. }));
    talker.kill().unwrap();
    talker.wait().unwrap();
    let lines: Vec<_> = read(&web1.log, LogQuery::default()).unwrap().map(Result::unwrap).collect();
    let remark = lines.iter().position(|it| it.bytes.starts_with(b"[opsdeck: ")).unwrap();
    let before: Vec<_> = lines[..remark - 1].iter().map(|it| it.bytes.clone()).collect();
    assert!(before.iter().enumerate().all(|(n, it)| *it == (n + 1).to_string().into_bytes()));
}
