//! The state file on disk: what comes back, and what does not get lost.

use std::collections::BTreeMap;

use super::*;
use crate::api::Goal;

fn running(pid: i32, generation: u64) -> Line {
    Line::Running(Running {
        instance: "web1".into(),
        port: None,
        generation,
        pid,
        start_time: 7,
        started_ms: 1000,
        ladder: None,
        fingerprint: 1,
    })
}

#[test]
fn the_next_daemon_knows_what_runs_and_what_was_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&running(10, 1));
    file.append(&Line::Gone { instance: "web1".into(), generation: 1 });
    file.append(&Line::Intent(Intent { instance: "web1".into(), generation: 2, fingerprint: 0 }));
    file.append(&running(11, 2));
    file.append(&Line::Wanted(Wanted {
        instance: "queue".into(),
        goal: Goal::Down,
        held_by: None,
    }));
    file.flush();

    let (_, remembered) = StateFile::open(dir.path(), "boot-a");
    assert_eq!(remembered.running["web1"].pid, 11);
    assert_eq!(remembered.wanted["queue"].goal, Goal::Down);

    let (_, after_reboot) = StateFile::open(dir.path(), "boot-b");
    assert_eq!(after_reboot.running, BTreeMap::new());
    assert_eq!(after_reboot.intents["web1"].generation, 2);
    assert_eq!(after_reboot.wanted["queue"].goal, Goal::Down);
}

#[test]
fn what_could_not_be_written_is_there_once_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    file.append(&running(10, 1));
    file.flush();
    assert!(file.trouble.as_deref().unwrap().contains("No space left"));
    let path = dir.path().join("state.jsonl");
    let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"{\"is\":\"running\",\"inst").unwrap();

    file.flush();
    assert_eq!(file.trouble, None);
    let (_, remembered) = StateFile::open(dir.path(), "boot-a");
    assert_eq!(remembered.running["web1"].pid, 10);
}

#[test]
fn what_waits_for_room_is_folded_and_nothing_of_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let full = io::Error::from_raw_os_error(libc::ENOSPC);
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&running(10, 1));
    let values = BTreeMap::from([("version".into(), "42".into())]);
    file.append(&Line::Set { service: "web".into(), values });
    file.flush();
    let mut most = 0;
    for generation in 1..=20_000 {
        file.append(&Line::Gone { instance: "web1".into(), generation });
        file.append(&running(11, generation + 1));
        if generation % 100 == 0 {
            most = most.max(file.pending.len());
            file.fail(&full);
        }
    }
    file.append(&Line::Gone { instance: "web1".into(), generation: 20_001 });
    assert!(most < 2 * WAITING && file.trouble.is_some(), "{most}");

    // There is room again.
    file.flush();
    assert_eq!(file.trouble, None);
    file.append(&Line::Wanted(Wanted { instance: "web1".into(), goal: Goal::Down, held_by: None }));
    file.flush();
    let (_, it) = StateFile::open(dir.path(), "boot-a");
    assert_eq!((it.running.len(), it.intents["web1"].generation), (0, 20_001));
    assert_eq!((it.set.len(), it.wanted["web1"].goal), (1, Goal::Down));
    assert_eq!(it.notes, Vec::<String>::new());
}

#[test]
fn what_waits_is_kept_where_the_file_cannot_even_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.jsonl");
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&running(10, 1));
    file.flush();
    std::fs::rename(&path, dir.path().join("aside")).unwrap();
    std::fs::create_dir(&path).unwrap();
    file.file = None;
    for generation in 1..=10_000 {
        file.append(&Line::Gone { instance: "web1".into(), generation });
        file.append(&running(11, generation + 1));
    }
    file.flush();
    assert!(file.trouble.is_some() && file.pending.len() > WAITING);

    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(dir.path().join("aside"), &path).unwrap();
    file.flush();
    assert_eq!(file.trouble, None);
    let (_, it) = StateFile::open(dir.path(), "boot-a");
    assert_eq!((it.running["web1"].pid, it.running["web1"].generation), (11, 10_001));
}

#[test]
fn a_file_that_could_not_be_rewritten_at_first_is_of_this_boot_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&running(10, 1));
    file.flush();
    // The rewriting fails where the new file would be.
    let beside = dir.path().join("state.jsonl.new");
    std::fs::create_dir(&beside).unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "boot-b");
    assert!(file.trouble.is_some());
    file.append(&running(11, 2));
    file.flush();

    std::fs::remove_dir(&beside).unwrap();
    let (_, remembered) = StateFile::open(dir.path(), "boot-b");
    assert_eq!(remembered.running["web1"].pid, 11);
}

#[test]
fn a_command_is_known_until_it_has_ended_and_not_on_another_boot() {
    let dir = tempfile::tempdir().unwrap();
    let run = |run, pid| Run { service: "web".into(), run, pid, ..Run::default() };
    let ran = |run| Line::Ran { service: "web".into(), run };
    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&Line::Run(run(1, 0)));
    file.append(&Line::Run(run(1, 10)));
    file.append(&Line::Run(run(2, 0)));
    // It was cancelled, and its end comes late.
    file.append(&ran(1));
    file.flush();
    assert_eq!(StateFile::open(dir.path(), "boot-b").1.runs, BTreeMap::new());

    let (mut file, _) = StateFile::open(dir.path(), "boot-a");
    file.append(&Line::Run(run(2, 11)));
    file.flush();
    let (mut file, remembered) = StateFile::open(dir.path(), "boot-a");
    assert_eq!(remembered.runs["web"], run(2, 11));
    file.append(&ran(2));
    file.flush();
    assert_eq!(StateFile::open(dir.path(), "boot-a").1.runs, BTreeMap::new());
}

#[test]
fn a_file_of_the_first_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"is":"boot","version":1,"boot_id":"a"}
{"is":"intent","instance":"web1","generation":4}
{"is":"running","instance":"web1","generation":4,"pid":10,"start_time":7,"started_ms":1,"fingerprint":1}
{"is":"wanted","instance":"web2","goal":"down","held_by":{"uid":7,"login":"bob","pid":1}}
{"is":"set","service":"web","values":{"version":"43"}}
{"is":"took","instance":"web1","now":{"version":"43"},"before":{"version":"42"}}
{"is":"gone","instance":"web3","gener"#;
    std::fs::write(dir.path().join("state.jsonl"), text).unwrap();
    let (_, it) = StateFile::open(dir.path(), "a");
    assert_eq!((it.running["web1"].pid, it.intents["web1"].generation), (10, 4));
    assert_eq!(it.wanted["web2"].held_by.as_ref().unwrap().login, "bob");
    assert_eq!((it.set["web"]["version"].as_str(), it.took.len()), ("43", 1));
    assert_eq!(it.notes, Vec::<String>::new());
}

fn notes_of(text: &[u8]) -> (usize, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.jsonl"), text).unwrap();
    let (_, it) = StateFile::open(dir.path(), "a");
    let names = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
    let aside = names.filter(|it| it.to_string_lossy().starts_with("state.broken-")).count();
    (aside, it.notes)
}

#[test]
fn a_damaged_file_is_set_aside_and_said() {
    let header = b"{\"is\":\"boot\",\"version\":2,\"boot_id\":\"a\"}\n";
    let with = |rest: &[u8]| [header, rest].concat();
    for damaged in [
        vec![],
        vec![0; 4096],
        b"\xff\xfe garbage\n".to_vec(),
        with(b"garbage\n{\"is\":\"gone\",\"instance\":\"a\",\"generation\":1}\n"),
    ] {
        let (aside, notes) = notes_of(&damaged);
        assert_eq!((aside, notes.len()), (1, 1), "{notes:?}");
        assert!(notes[0].contains("it is kept as"), "{notes:?}");
    }
    for sound in [
        header.to_vec(),
        with(b"{\"is\":\"of the future\",\"n\":1}\n"),
        with(b"{\"is\":\"running\",\"inst"),
        with(&with(b"")),
        with(&[b"{\"is\":\"runn\n".as_slice(), header].concat()),
    ] {
        assert_eq!(notes_of(&sound), (0, vec![]));
    }
    let (aside, notes) = notes_of(b"{\"is\":\"boot\",\"version\":9,\"boot_id\":\"a\"}\n");
    assert_eq!((aside, notes.len()), (0, 1));
    assert!(notes[0].contains("a newer opsdeck (format 9"), "{notes:?}");
}

#[test]
fn a_file_that_was_deleted_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let (mut file, _) = StateFile::open(&state, "a");
    file.append(&running(10, 1));
    file.flush();
    std::fs::remove_file(state.join("state.jsonl")).unwrap();
    file.flush();
    assert_eq!(file.trouble, None);
    assert_eq!(StateFile::open(&state, "a").1.running["web1"].pid, 10);

    let (mut file, _) = StateFile::open(&state, "a");
    std::fs::remove_dir_all(&state).unwrap();
    file.append(&running(11, 2));
    file.flush();
    assert!(file.trouble.as_deref().unwrap().contains("was removed"), "{:?}", file.trouble);
    std::fs::create_dir(&state).unwrap();
    // Not at every turn: it would be read each time.
    file.flush();
    assert!(file.trouble.is_some() && file.wakes_at().is_some());
    file.again = Some(clock::now());
    file.append(&running(12, 3));
    file.flush();
    assert_eq!((&file.trouble, file.wakes_at()), (&None, None));
    assert_eq!(StateFile::open(&state, "a").1.running["web1"].pid, 12);
}

#[test]
fn a_removed_file_that_cannot_be_written_either_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "a");
    file.append(&running(10, 1));
    file.flush();
    let path = dir.path().join("state.jsonl");
    // As a full disk does: it can be read, and not written.
    file.file = Some(File::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    file.again = Some(clock::now());
    file.append(&Line::Intent(Intent { instance: "web2".into(), generation: 2, fingerprint: 0 }));
    file.write();
    assert!(file.trouble.is_some());
    assert_eq!(file.wakes_at(), None, "nothing is due all the time");
    file.flush();
    let (_, remembered) = StateFile::open(dir.path(), "a");
    assert_eq!(remembered.running["web1"].pid, 10);
    assert_eq!(remembered.intents["web2"].generation, 2);
}

#[test]
fn a_file_that_grows_loses_its_history_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = StateFile::open(dir.path(), "a");
    for n in 1..=100 {
        file.append(&running(n, u64::try_from(n).unwrap()));
    }
    file.grown = GROWTH;
    file.flush();
    let text = std::fs::read_to_string(dir.path().join("state.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(StateFile::open(dir.path(), "a").1.running["web1"].pid, 100);
}

#[test]
fn torn_and_foreign_lines_are_skipped() {
    let text = "{\"is\":\"boot\",\"version\":1,\"boot_id\":\"a\"}\n{\"is\":\"new\"}\n\u{0}garbage\n{\"is\":\"intent\",\"inst";
    assert_eq!(Remembered::from_lines(text, "a"), Remembered::default());
}

#[test]
fn the_highest_number_of_an_event_is_known_though_its_call_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = StateFile::open(dir.path(), "boot");
    let call = |seq| Line::Hook(HookCall { seq, ..HookCall::default() });
    for line in [call(7), call(9), Line::Hooked { seq: 9 }, Line::Hooked { seq: 7 }] {
        state.append(&line);
    }
    state.write();
    let (_, remembered) = StateFile::open(dir.path(), "another boot");
    assert_eq!((remembered.highest_seq, remembered.hooks.len()), (9, 0));
}

#[test]
fn a_file_that_was_moved_is_written_anew_and_one_that_is_back_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (state, moved) = (dir.path().join("state"), dir.path().join("moved"));
    std::fs::create_dir(&state).unwrap();
    let (mut file, _) = StateFile::open(&state, "a");
    file.append(&running(10, 1));
    file.flush();
    std::fs::rename(&state, &moved).unwrap();
    file.flush();
    assert!(file.trouble.as_deref().unwrap().contains("was removed"), "{:?}", file.trouble);
    std::fs::rename(&moved, &state).unwrap();
    file.flush();
    assert_eq!((&file.trouble, file.wakes_at()), (&None, None));

    std::fs::rename(&state, &moved).unwrap();
    file.append(&running(11, 2));
    file.flush();
    assert!(file.trouble.is_some() && file.wakes_at().is_some());
    // Somebody makes it again, with a file of his own.
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("state.jsonl"), "").unwrap();
    file.again = Some(clock::now());
    file.flush();
    assert_eq!((&file.trouble, file.wakes_at()), (&None, None));
    assert_eq!(StateFile::open(&state, "a").1.running["web1"].pid, 11);
}
