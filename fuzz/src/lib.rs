//! What comes from outside, decoded as the program decodes it, and what must hold of it whatever the bytes are.
//!
//! Shared by the fuzz targets and by `tests/corpus.rs`, which runs every file of `corpus/` through its target.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opsdeck::api::{Act, Event};
use opsdeck::daemon::kept::state::StateFile;
use opsdeck::gateway::control::{FromGateway, decode};
use opsdeck::logger::{self, LogQuery};
use opsdeck::probe::{self, Check, Checker, Expect, Haste, Outcome, Probe, Ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A decoder, with what must hold.
pub type Target = fn(&[u8]);

/// The targets by name: that of the file in `fuzz_targets/` and of the directory in `corpus/`.
pub const TARGETS: [(&str, Target); 9] = [
    ("api_body", api_body),
    ("config", config),
    ("gateway_control", gateway_control),
    ("grpc_reply", grpc_reply),
    ("http_reply", http_reply),
    ("journal", journal),
    ("load_pages", load_pages),
    ("log_index", log_index),
    ("state_file", state_file),
];

/// A configuration file. What is accepted is shown as a file that is accepted and means the same.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match opsdeck::config::parse("/etc/opsdeck/config.toml", text) {
        Ok(settings) => {
            let shown = opsdeck::config::show(&settings);
            let again = opsdeck::config::parse("/etc/opsdeck/config.toml", &shown);
            let again = again.unwrap_or_else(|it| panic!("{}\n{shown}", it.render(false)));
            assert_eq!(opsdeck::config::show(&again), shown);
        }
        Err(mistakes) => {
            assert!(mistakes.count() > 0 && !mistakes.render(false).is_empty());
            assert!(!mistakes.first_lines().is_empty());
        }
    }
}

/// What a peer says on the gateway's control socket: routes and everything else, line by line.
pub fn gateway_control(lines: &[u8]) {
    opsdeck::gateway::replay(lines);
    for line in lines.split(|it| *it == b'\n') {
        // What the daemon reads is as foreign.
        let _ = decode::<FromGateway>(line);
    }
}

/// The body of a request. What is understood is understood again when it is sent on.
pub fn api_body(bytes: &[u8]) {
    if let Ok(act) = Act::from_body(bytes) {
        let text = serde_json::to_vec(&act).unwrap();
        assert_eq!(Act::from_body(&text).unwrap(), act);
    }
}

/// The file of the last daemon. What is made of it is written down, and each daemon after it knows the same processes
/// and makes the same of that. Only what contradicts itself, as no daemon writes it, is settled by the first rewriting.
pub fn state_file(bytes: &[u8]) {
    let directory = room();
    std::fs::write(directory.path().join("state.jsonl"), bytes).unwrap();
    let (state, first) = StateFile::open(directory.path(), "boot-1");
    assert_eq!(state.trouble, None);
    drop(state);
    let (_, mut second) = StateFile::open(directory.path(), "boot-1");
    let (_, third) = StateFile::open(directory.path(), "boot-1");
    assert_eq!((&first.running, &first.wanted), (&second.running, &second.wanted));
    // What was wrong with the file is said once.
    second.notes.clear();
    assert_eq!(second, third);
}

/// The journal. What is an event stays the same event.
pub fn journal(bytes: &[u8]) {
    let directory = room();
    let file = directory.path().join("journal.jsonl");
    std::fs::write(&file, bytes).unwrap();
    let events = opsdeck::daemon::kept::journal::read(std::slice::from_ref(&file), |_| true);
    assert!(events.len() <= bytes.split(|it| *it == b'\n').count());
    for event in events {
        let text = serde_json::to_vec(&event).unwrap();
        assert_eq!(serde_json::from_slice::<Event>(&text).unwrap(), event);
    }
}

/// A log and its index: a length of two bytes, so much of an index, the rest is the log. Whatever the index says, all
/// of the log is read when all of it is asked for, and only whole ends of it otherwise.
pub fn log_index(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_at_checked(2) else { return };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
    let (index, log) = rest.split_at(length);
    let directory = room();
    let path = directory.path().join("a.log");
    std::fs::write(&path, log).unwrap();
    std::fs::write(directory.path().join("a.log.idx"), index).unwrap();
    assert_eq!(read(&path, LogQuery::default()).as_deref(), Some(log));
    let times: Vec<u64> =
        index.chunks_exact(16).map(|it| u64::from_le_bytes(it[..8].try_into().unwrap())).collect();
    for since in times.iter().take(8).copied().chain([0, 1, u64::MAX]) {
        for lines in [None, Some(0), Some(2)] {
            let query = LogQuery { since_ms: Some(since), lines, ..LogQuery::default() };
            if let Some(part) = read(&path, query) {
                assert!(log.ends_with(&part));
            }
        }
    }
}

fn read(path: &Path, query: LogQuery) -> Option<Vec<u8>> {
    let mut all = vec![];
    for line in logger::read(path, query).ok()? {
        let line = line.ok()?;
        assert!(line.bytes.len() <= logger::LINE_LIMIT);
        all.extend_from_slice(&line.bytes);
        if !line.partial {
            all.push(b'\n');
        }
    }
    Some(all)
}

/// What a probed server answers, to the end of the connection.
pub fn http_reply(bytes: &[u8]) {
    thread_local! {
        static SERVER: Server = Server::start(|port| Check::Http {
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
            headers: BTreeMap::new(),
            expect: Expect { status: Some("2xx".into()), body: Some("version 4[23]".into()) },
        });
    }
    let outcome = SERVER.with(|it| it.answers(bytes));
    assert!(!outcome.ok || outcome.status.is_some_and(|it| (200..300).contains(&it)));
}

/// The same of a server that speaks HTTP/2, and the message alone.
pub fn grpc_reply(bytes: &[u8]) {
    thread_local! {
        static SERVER: Server = Server::start(|port| Check::Grpc {
            host: "127.0.0.1".into(),
            port,
            service: "shop".into(),
        });
    }
    let alone = probe::grpc_reply(bytes);
    assert!(alone.is_err() || bytes.len() >= 5);
    let outcome = SERVER.with(|it| it.answers(bytes));
    assert!(!outcome.ok || outcome.body == b"SERVING");
}

/// A page on which a server says what it has to do, of whatever kind.
pub fn load_pages(bytes: &[u8]) {
    opsdeck::load::read_all(bytes);
}

/// A server that is probed with one and the same probe: to read its pattern costs more than all the rest.
struct Server {
    runtime: tokio::runtime::Runtime,
    listener: tokio::net::TcpListener,
    checker: Checker,
    probe: Ready,
}

impl Server {
    fn start(check: impl FnOnce(u16) -> Check) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let probe = Ready::new(Probe {
            check: check(listener.local_addr().unwrap().port()),
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(20),
            haste: Haste::default(),
        });
        let checker = Checker::new(Arc::new(|_| Box::pin(async { Err("no command".into()) })));
        Self { runtime, listener, checker: checker.unwrap(), probe }
    }

    /// What the probe makes of a server that sends these bytes and no more.
    fn answers(&self, bytes: &[u8]) -> Outcome {
        let answer = async {
            let (mut client, _) = self.listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = client.read(&mut head).await;
            // It may have heard enough before the end.
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown().await;
        };
        let asked = async { tokio::join!(self.probe.once(&self.checker), answer).0 };
        let outcome = self.runtime.block_on(asked);
        assert!(outcome.body.len() <= 1024);
        assert_eq!(outcome.ok, outcome.error.is_none());
        outcome
    }
}

/// A directory in memory, where there is one.
fn room() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}
