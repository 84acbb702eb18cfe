//! A gateway of its own for a test: the real process on real listeners, its daemon played by the test, and
//! instances that do byte by byte what the test says.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its part of this"
)]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opsdeck::gateway::control::{
    Counts, FromGateway, InstanceCounts, Route, Routes, Target, ToGateway, VERSION, decode, encode,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

#[path = "patience.rs"]
mod patience;
#[path = "ports.rs"]
mod ports;

pub use patience::{PATIENCE, ended, wait_until};
pub use ports::free_port;

pub struct Gateway {
    dir: tempfile::TempDir,
    pub child: Child,
    /// Copies, as the daemon keeps them.
    pub listeners: Vec<(String, TcpListener)>,
    pub control: UnixListener,
    pub daemon: Daemon,
}

impl Gateway {
    /// One gateway `shop`, greeted, without routes.
    pub fn start() -> Self {
        Self::with(&["shop"], &[])
    }

    pub fn with(names: &[&str], arguments: &[String]) -> Self {
        Self::begin(names, |control, listeners| spawn(control, listeners, arguments))
    }

    /// With so many descriptors at most.
    pub fn limited(descriptors: u32) -> Self {
        let program = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        Self::begin(&["shop"], |control, listeners| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &program, env!("CARGO_BIN_EXE_opsdeck")]);
            spawn_as(command, control, listeners, &[])
        })
    }

    fn begin(
        names: &[&str],
        spawn: impl FnOnce(&UnixListener, &[(String, TcpListener)]) -> Child,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("opsdeck-gateway-").tempdir().unwrap();
        let control = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let listeners: Vec<_> = names.iter().map(|it| ((*it).to_owned(), listen())).collect();
        let child = spawn(&control, &listeners);
        let daemon = Daemon::connect(&dir.path().join("control.sock"));
        Self { dir, child, listeners, control, daemon }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub fn address(&self) -> SocketAddr {
        self.listeners[0].1.local_addr().unwrap()
    }

    /// Puts these instances of `shop` in force and waits until they are.
    #[track_caller]
    pub fn route(&mut self, instances: Vec<Target>) {
        self.daemon.apply(Route { instances, ..shop() });
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Sends bytes on a connection of their own and returns all that comes until its end.
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        to_end(stream)
    }

    pub fn get(&self, path: &str) -> String {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    pub fn post(&self, body: &str) -> String {
        let length = body.len();
        self.ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Waits until the process has ended and returns its exit code.
    #[track_caller]
    pub fn wait_end(&mut self) -> Option<i32> {
        ended(&mut self.child).code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn shop() -> Route {
    Route { name: "shop".into(), ..Route::default() }
}

pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Starts a gateway on these sockets.
pub fn spawn(
    control: &UnixListener,
    listeners: &[(String, TcpListener)],
    arguments: &[String],
) -> Child {
    spawn_as(Command::new(env!("CARGO_BIN_EXE_opsdeck")), control, listeners, arguments)
}

fn spawn_as(
    mut command: Command,
    control: &UnixListener,
    listeners: &[(String, TcpListener)],
    arguments: &[String],
) -> Child {
    command.arg("gateway").arg("--control-fd").arg(control.as_raw_fd().to_string());
    for (name, listener) in listeners {
        command.arg("--listener").arg(format!("{name}={}", listener.as_raw_fd()));
    }
    command.args(arguments).stdin(Stdio::null());
    let all: Vec<_> = std::iter::once(control.as_fd())
        .chain(listeners.iter().map(|(_, it)| it.as_fd()))
        .collect();
    all.iter().for_each(|it| fcntl_setfd(it, FdFlags::empty()).unwrap());
    let child = command.spawn().unwrap();
    all.iter().for_each(|it| fcntl_setfd(it, FdFlags::CLOEXEC).unwrap());
    child
}

/// The daemon's end of the control socket.
pub struct Daemon {
    stream: UnixStream,
    text: Vec<u8>,
    pub descriptors: VecDeque<OwnedFd>,
    revision: u64,
    /// Everything that was reported, in order.
    pub reports: Vec<FromGateway>,
}

impl Daemon {
    /// Connects and says hello.
    pub fn connect(socket: &std::path::Path) -> Self {
        let mut daemon = Self::silent(socket);
        daemon.send(&ToGateway::Hello { version: VERSION });
        daemon
    }

    pub fn silent(socket: &std::path::Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, text: vec![], descriptors: VecDeque::new(), revision: 0, reports: vec![] }
    }

    pub fn send(&mut self, order: &ToGateway) {
        self.stream.write_all(&encode(order).unwrap()).unwrap();
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send_with(&self, order: &ToGateway, descriptors: &[&TcpListener]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let line = encode(order).unwrap();
        let sent =
            sendmsg(&self.stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::empty());
        assert_eq!(sent.unwrap(), line.len());
    }

    /// Puts one gateway in force and waits until it is.
    #[track_caller]
    pub fn apply(&mut self, route: Route) -> Counts {
        self.apply_all(vec![route])
    }

    #[track_caller]
    pub fn apply_all(&mut self, gateways: Vec<Route>) -> Counts {
        self.revision += 1;
        let revision = self.revision;
        self.send(&ToGateway::Routes(Routes { revision, gateways }));
        self.counts("routes in force", |it| it.revision == revision)
    }

    /// The next report; none if the gateway closed the connection.
    pub fn next(&mut self) -> Option<FromGateway> {
        loop {
            if let Some(end) = self.text.iter().position(|it| *it == b'\n') {
                let line: Vec<_> = self.text.drain(..=end).collect();
                let report: FromGateway = decode(&line).unwrap();
                self.reports.push(report.clone());
                return Some(report);
            }
            let mut block = [0; 65536];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut block)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = match recvmsg(&self.stream, into, &mut ancillary, flags) {
                Ok(received) => received.bytes,
                Err(err) => panic!("nothing reported: {err}; before it {:#?}", self.last()),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(these) = message {
                    self.descriptors.extend(these);
                }
            }
            if received == 0 {
                return None;
            }
            self.text.extend_from_slice(&block[..received]);
        }
    }

    fn last(&self) -> &[FromGateway] {
        &self.reports[self.reports.len().saturating_sub(8)..]
    }

    /// Waits for a report.
    #[track_caller]
    pub fn wait(&mut self, what: &str, is_it: impl Fn(&FromGateway) -> bool) -> FromGateway {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(report) = self.next() else {
                panic!("no {what} before the end: {:#?}", self.last())
            };
            if is_it(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "no {what}: {:#?}", self.last());
        }
    }

    /// Waits for counts.
    #[track_caller]
    pub fn counts(&mut self, what: &str, are_they: impl Fn(&Counts) -> bool) -> Counts {
        let is_it =
            |it: &FromGateway| matches!(it, FromGateway::Counts(counts) if are_they(counts));
        match self.wait(what, is_it) {
            FromGateway::Counts(counts) => counts,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for counts of one instance.
    #[track_caller]
    pub fn instance(
        &mut self,
        name: &str,
        what: &str,
        is_it: impl Fn(&InstanceCounts) -> bool,
    ) -> InstanceCounts {
        let counts = self.counts(what, |it| find(it, name).is_some_and(&is_it));
        find(&counts, name).unwrap().clone()
    }
}

pub fn find<'a>(counts: &'a Counts, name: &str) -> Option<&'a InstanceCounts> {
    counts.gateways.iter().flat_map(|it| &it.instances).find(|it| it.name == name)
}

/// An instance that does what the test says with each connection, one after another or side by side.
pub struct Backend {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    is_over: Arc<AtomicUsize>,
}

impl Backend {
    /// Calls `serve` for each connection, with its number from 0, in a thread of its own.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        Self::on(listen(), serve)
    }

    pub fn on(
        listener: TcpListener,
        serve: impl Fn(usize, TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let is_over: Arc<AtomicUsize> = Arc::default();
        let (count, over, serve) = (accepted.clone(), is_over.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) > 0 {
                    return;
                }
                let (stream, serve) = (stream.unwrap(), serve.clone());
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(number, stream));
            }
        });
        Self { address, accepted, is_over }
    }

    /// Answers every request with its name, its first line and its body.
    pub fn echo(name: &'static str) -> Self {
        Self::start(move |_, stream| echo(name, stream))
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn target(&self, name: &str) -> Target {
        target(name, self.address)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.is_over.store(1, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

pub fn target(name: &str, address: SocketAddr) -> Target {
    Target { name: name.into(), generation: 1, address: address.to_string(), ..Target::default() }
}

/// An address that refuses.
pub fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

pub fn echo(name: &str, mut stream: TcpStream) {
    while let Some(request) = request(&mut stream) {
        let text = format!("{name} {} {}", request.line, String::from_utf8_lossy(&request.body));
        let length = text.len();
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// A request as an instance got it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub line: String,
    /// With the first line, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

/// Reads one request, its body by its length or its chunks; none at the end.
pub fn request(stream: &mut TcpStream) -> Option<Request> {
    let head = head(stream)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let mut body = vec![];
    if let Some(length) = header(&head, "content-length") {
        body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
    } else if header(&head, "transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(line_of(stream)?.split(';').next()?, 16).ok()?;
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk);
            if size == 0 {
                while !line_of(stream)?.is_empty() {}
                break;
            }
            line_of(stream)?;
        }
    }
    Some(Request { line, head, body })
}

fn line_of(stream: &mut TcpStream) -> Option<String> {
    let mut line = vec![];
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

/// Reads up to the empty line, no further.
pub fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads one response with a length.
#[track_caller]
pub fn response(stream: &mut TcpStream) -> (String, String) {
    let head = head(stream).expect("the head of a response");
    let length = header(&head, "content-length").map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8_lossy(&body).into_owned())
}

/// Everything up to the end, however the connection ends.
pub fn to_end(mut stream: impl Read) -> String {
    let mut all = vec![];
    let mut block = [0; 4096];
    loop {
        match stream.read(&mut block) {
            Ok(count) if count > 0 => all.extend_from_slice(&block[..count]),
            Ok(_) => break,
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no end after {:?}", String::from_utf8_lossy(&all))
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("none")
}

/// The last part: what follows the head.
pub fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |it| it.1)
}
