//! Whatever is written, moved, rotated and reopened in whatever order: the same bytes come back.

use std::fs::File;
use std::io::Write;

use proptest::prelude::*;

use crate::logger::clock::{Moment, now};
use crate::logger::mover::Log;
use crate::logger::{
    Follower, Line, LogQuery, Source, make_fifo, open_fifo, read, read_then_follow,
};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    Move {
        budget: usize,
        later_ms: u64,
    },
    ClockSetBack(u64),
    Limit(u64),
    /// A new logger takes over.
    Reopen,
    Poll,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 1..40), 1usize..60)
            .prop_map(|(bytes, times)| Step::Write(bytes.repeat(times))),
        4 => (1usize..10_000, 0u64..3000).prop_map(|(budget, later_ms)| Step::Move { budget, later_ms }),
        1 => (0u64..100_000).prop_map(Step::ClockSetBack),
        1 => (4096u64..9000).prop_map(Step::Limit),
        1 => Just(Step::Reopen),
        2 => Just(Step::Poll),
    ]
}

/// The bytes that the lines were made of.
fn joined(lines: impl IntoIterator<Item = Line>) -> Vec<u8> {
    let mut bytes = vec![];
    for line in lines {
        bytes.extend(line.bytes);
        if !line.partial {
            bytes.push(b'\n');
        }
    }
    bytes
}

struct World {
    source: Source,
    child: File,
    log: Log,
    void: File,
    wall_ms: u64,
    written: Vec<u8>,
    follower: Follower,
    followed: Vec<u8>,
}

impl World {
    fn new(dir: &std::path::Path) -> Self {
        let fifo = dir.join("web1.fifo");
        make_fifo(&fifo, None).unwrap();
        let source = Source {
            name: "web1".into(),
            log: dir.join("web1.log"),
            fifo,
            max_size: 4096,
            keep: 1000,
        };
        Self {
            child: open_fifo(&source.fifo).unwrap().into(),
            log: Log::open(source.clone()).unwrap(),
            void: File::options().write(true).open("/dev/null").unwrap(),
            wall_ms: 1_000_000,
            written: vec![],
            follower: read_then_follow(&source.log, LogQuery::default()).unwrap().1,
            followed: vec![],
            source,
        }
    }

    fn turn(&mut self, budget: usize) {
        let moment = Moment { wall_ms: self.wall_ms, ..now() };
        let mut left = budget.min(self.log.waiting());
        while left > 0 {
            match self.log.turn(moment, left, &self.void, &mut vec![]) {
                0 => break,
                moved => left -= moved,
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write(bytes) => {
                // More would block us: nobody drains the FIFO meanwhile.
                if self.log.waiting() + bytes.len() <= 32 * 1024 {
                    self.child.write_all(&bytes).unwrap();
                    self.written.extend(bytes);
                }
            }
            Step::Move { budget, later_ms } => {
                self.wall_ms += later_ms;
                self.turn(budget);
                // Another test that starts a child just now holds a copy of the lock until its exec.
                while self.log.retry_at().is_some() {
                    std::thread::yield_now();
                    self.turn(budget);
                }
            }
            Step::ClockSetBack(by) => self.wall_ms = self.wall_ms.saturating_sub(by),
            Step::Limit(max_size) => {
                self.source.max_size = max_size;
                assert!(self.log.adjust(&self.source));
            }
            Step::Reopen => {
                self.log.close_file();
                self.log = Log::open(self.source.clone()).unwrap();
            }
            Step::Poll => self.followed.extend(joined(self.follower.poll().unwrap())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(steps in prop::collection::vec(any_step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path());
        for step in steps {
            world.take(step);
        }
        world.take(Step::Move { budget: usize::MAX, later_ms: 0 });
        world.take(Step::Poll);
        let rest = world.follower.flush().unwrap();
        world.followed.extend(joined(rest));
        let lines: Vec<Line> = read(&world.source.log, LogQuery::default()).unwrap().map(Result::unwrap).collect();
        prop_assert!(lines.iter().all(|it| it.at_ms.is_some()));
        prop_assert_eq!(&joined(lines), &world.written);
        prop_assert_eq!(&world.followed, &world.written);
    }

    /// Nothing in an index can make reading fail or lose a line.
    #[test]
    fn an_index_of_garbage_does_no_harm(garbage in prop::collection::vec(any::<u8>(), 0..200), since_ms: u64) {
        let log = super::log_of(&["one\ntwo\n", "three\n"]);
        std::fs::write(crate::logger::rotate::numbered_index(log.path(), 0), &garbage).unwrap();
        std::fs::write(crate::logger::rotate::numbered_index(log.path(), 1), &garbage).unwrap();
        prop_assert_eq!(read(log.path(), LogQuery::default()).unwrap().map(Result::unwrap).count(), 3);
        let since = LogQuery { since_ms: Some(since_ms), ..LogQuery::default() };
        prop_assert!(read(log.path(), since).unwrap().all(|it| it.is_ok()));
    }
}

#[test]
fn lines_know_when_they_came_and_since_finds_them_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    // 100 lines of 100 bytes, one every 10 s, over three files.
    for n in 0..100u64 {
        world.take(Step::Write(format!("{n:099}\n").into_bytes()));
        world.take(Step::Move { budget: usize::MAX, later_ms: 10_000 });
    }
    let since = |since_ms| {
        let query = LogQuery { since_ms: Some(since_ms), ..LogQuery::default() };
        let lines: Vec<Line> =
            read(&world.source.log, query).unwrap().map(Result::unwrap).collect();
        lines
            .iter()
            .map(|it| (it.at_ms, String::from_utf8_lossy(&it.bytes).parse::<u64>().unwrap()))
            .collect()
    };
    let all: Vec<(Option<u64>, u64)> =
        (0..100).map(|n| (Some(1_010_000 + n * 10_000), n)).collect();
    for n in [0, 1, 37, 38, 39, 40, 41, 80, 99] {
        let found: Vec<(Option<u64>, u64)> = since(1_010_000 + n * 10_000);
        assert_eq!(found, all[usize::try_from(n).unwrap()..]);
    }
    let nothing: Vec<(Option<u64>, u64)> = since(9_000_000);
    assert_eq!(nothing, []);
    let few = LogQuery { since_ms: Some(1_010_000), lines: Some(2), ..LogQuery::default() };
    assert_eq!(read(&world.source.log, few).unwrap().count(), 2);
}
