//! Targets for the tests of the probes: servers on loopback with one manner
//! each, and commands that are no processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::check::Prepared;
use super::{
    Check, Checker, ExecCheck, ExecOutcome, Expect, Haste, Outcome, Probe, Rights, Runner,
};

/// What a server does with every connection once the request is read.
#[derive(Clone)]
pub(super) enum Manner {
    /// Says this and closes.
    Raw(Vec<u8>),
    /// Says this and resets.
    Reset(Vec<u8>),
    /// A good head, then this for ever.
    Endless(Vec<u8>),
    /// A good head, one byte of the body, and then nothing.
    Trickle,
    /// Says nothing at all; `hung up` follows the head once the client has gone.
    Hang,
}

pub(super) fn answer(status: &str, body: &str) -> Manner {
    let length = body.len();
    Manner::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into())
}

pub(super) struct Server {
    pub(super) port: u16,
    /// The head of each request, up to its empty line.
    pub(super) requests: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

impl Server {
    /// Closes the listener and returns the port that nobody listens on now.
    pub(super) async fn close(self) -> u16 {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.port
    }
}

pub(super) async fn serve(manner: Manner) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, requests) = mpsc::channel(2000);
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(behave(stream, manner.clone(), heads.clone()));
        }
    });
    Server { port, requests, task }
}

async fn behave(mut stream: TcpStream, manner: Manner, heads: mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap().trim_end().replace('\r', "");
    drop(heads.try_send(head));
    let good = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    match manner {
        Manner::Raw(bytes) => drop(stream.write_all(&bytes).await),
        Manner::Reset(bytes) => {
            stream.write_all(&bytes).await.unwrap();
            stream.set_zero_linger().unwrap();
        }
        Manner::Endless(bytes) => {
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            let mut result = stream.write_all(good).await;
            while result.is_ok() {
                result = stream.write_all(&chunk).await;
            }
        }
        Manner::Trickle => {
            stream.write_all(good).await.unwrap();
            stream.write_all(b"1\r\nx\r\n").await.unwrap();
            std::future::pending::<()>().await;
        }
        Manner::Hang => {
            // Ends when the other side does.
            drop(stream.read_u8().await);
            drop(heads.try_send("hung up".to_owned()));
        }
    }
}

pub(super) fn http_probe(port: u16, timeout: Duration, expect: Expect) -> Probe {
    let (host, path) = ("127.0.0.1".to_owned(), "/".to_owned());
    probe(Check::Http { host, port, path, headers: BTreeMap::new(), expect }, timeout)
}

pub(super) fn tcp_probe(port: u16) -> Probe {
    probe(Check::Tcp { host: "127.0.0.1".to_owned(), port }, Duration::from_secs(5))
}

pub(super) fn exec_probe(timeout: Duration) -> Probe {
    let check = Check::Exec {
        argv: vec!["check".to_owned()],
        directory: None,
        environment: BTreeMap::new(),
        user: None,
        rights: Rights::default(),
    };
    probe(check, timeout)
}

pub(super) fn probe(check: Check, timeout: Duration) -> Probe {
    Probe {
        check,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout,
        haste: Haste::default(),
    }
}

/// A runner made of a function.
pub(super) fn runner<F>(run: impl Fn(ExecCheck) -> F + Send + Sync + 'static) -> Runner
where
    F: Future<Output = Result<ExecOutcome, String>> + Send + 'static,
{
    Arc::new(move |check| Box::pin(run(check)))
}

pub(super) fn checker(runner: Runner) -> Checker {
    Checker::new(runner).unwrap()
}

/// Runs a probe that needs no command once.
pub(super) async fn once(probe: Probe) -> Outcome {
    once_with(probe, runner(|_| async { Err("nothing to run".to_owned()) })).await
}

/// Runs a probe once, with commands run by `runner`.
pub(super) async fn once_with(probe: Probe, runner: Runner) -> Outcome {
    Prepared::new(probe).run(&checker(runner)).await
}
