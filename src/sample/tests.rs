//! The sample server against raw clients on loopback, with orders instead of
//! signals.

use std::time::Duration;

use insta::assert_snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::options::tests::args;
use super::{End, Order, server};

/// No test waits longer than this for what it waits for.
const BOUND: Duration = Duration::from_secs(20);

struct Sample {
    port: u16,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<End>,
}

impl Sample {
    async fn start(line: &str) -> Self {
        let args = args(line);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (orders, mut received) = mpsc::channel(4);
        let task = tokio::spawn(async move { server::serve(listener, &args, &mut received).await });
        Self { port, orders, task }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }

    /// One request on a connection of its own.
    async fn get(&self, path: &str) -> String {
        let mut client = self.connect().await;
        client.ask("GET", path, "").await;
        client.reply().await
    }

    /// Begins a request and returns once the server works on it.
    async fn begin(&self, path: &str) -> Client {
        let before = self.in_flight().await;
        let mut client = self.connect().await;
        client.ask("GET", path, "").await;
        self.until_in_flight(before + 1).await;
        client
    }

    /// The requests in flight, without the one that asks.
    async fn in_flight(&self) -> u64 {
        self.stats().await["concurrency"].as_u64().unwrap() - 1
    }

    async fn until_in_flight(&self, wanted: u64) {
        let reached = async { while self.in_flight().await != wanted {} };
        timeout(BOUND, reached).await.expect("the request was never counted as in flight");
    }

    async fn stats(&self) -> serde_json::Value {
        serde_json::from_str(body(&self.get("/stats").await)).unwrap()
    }

    async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    /// Returns once the listener is closed.
    async fn until_refused(&self) {
        let refused = async { while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {} };
        timeout(BOUND, refused).await.expect("the listener stayed open");
    }

    async fn end(self) -> End {
        timeout(BOUND, self.task).await.expect("the sample went on").unwrap()
    }
}

struct Client(TcpStream);

impl Client {
    async fn ask(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        self.0.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    }

    /// Reads one reply; what came before the end if it is not whole.
    async fn reply(&mut self) -> String {
        let mut text = Vec::new();
        while !is_whole(&text) {
            let read = timeout(BOUND, self.0.read_buf(&mut text)).await.expect("no reply");
            if read.unwrap_or(0) == 0 {
                break;
            }
        }
        String::from_utf8(text).unwrap()
    }
}

fn is_whole(reply: &[u8]) -> bool {
    let text = String::from_utf8_lossy(reply);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() == length.parse::<usize>().unwrap()
}

fn status(reply: &str) -> &str {
    reply.get(9..12).unwrap_or("none")
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").map_or("", |it| it.1)
}

fn status_and_body(reply: &str) -> String {
    let pid = std::process::id().to_string();
    format!("{} {}", status(reply), body(reply).trim_end().replace(&pid, "PID"))
}

#[tokio::test]
async fn it_says_who_it_is() {
    let sample = Sample::start("--work 1ms --name web1").await;
    assert_snapshot!(status_and_body(&sample.get("/").await), @"200 web1 version 42 pid PID");
    assert_snapshot!(status_and_body(&sample.get("/liveness").await), @"200 alive");
    assert_snapshot!(status_and_body(&sample.get("/readiness").await), @"200 ready version 42");
    assert_snapshot!(status_and_body(&sample.get("/?work=8").await), @r#"400 `8` is a number without a unit: write it as "300ms", "10s", "1m30s" or "2h""#);
    assert_snapshot!(status_and_body(&sample.get("/x").await), @"404 nothing at /x: ask for /, /liveness, /readiness or /stats");
}

#[tokio::test]
async fn a_post_is_read_and_measured() {
    let sample = Sample::start("--work 1ms").await;
    let mut client = sample.connect().await;
    client.ask("POST", "/", &"x".repeat(100_000)).await;
    let reply = client.reply().await;
    assert_snapshot!(status_and_body(&reply), @"200 sample version 42 received 100000 bytes");
    client.ask("DELETE", "/", "").await;
    assert_snapshot!(status_and_body(&client.reply().await), @"405 use GET or POST");
}

#[tokio::test]
async fn stats_count_as_swoole_counts() {
    let sample = Sample::start("--work 1ms").await;
    sample.get("/").await;
    let _slow = sample.begin("/?work=1h").await;
    sample.order(Order::Reload).await;
    let stats = sample.stats().await;
    let of = |name: &str| stats[name].as_u64().unwrap();
    assert_eq!(of("concurrency"), 2);
    assert_eq!(of("request_count"), of("response_count") + 2);
    assert_eq!(of("accept_count"), of("close_count") + of("connection_num"));
    assert_eq!(of("pid"), u64::from(std::process::id()));
    assert_eq!(of("generation"), 2);
}

#[tokio::test]
async fn a_client_that_gives_up_is_no_longer_in_flight() {
    let sample = Sample::start("").await;
    drop(sample.begin("/?work=1h").await);
    sample.until_in_flight(0).await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_closes_everything_else() {
    let sample = Sample::start("--max-wait-time 20s").await;
    let mut idle = sample.connect().await;
    idle.ask("GET", "/liveness", "").await;
    assert_eq!(status(&idle.reply().await), "200");
    let mut silent = sample.connect().await;
    let mut slow = sample.begin("/?work=300ms").await;

    sample.order(Order::Term).await;
    sample.until_refused().await;
    assert_eq!((idle.reply().await, silent.reply().await), (String::new(), String::new()));
    let reply = slow.reply().await;
    assert_eq!(status(&reply), "200");
    assert!(reply.contains("\r\nconnection: close\r\n"), "{reply}");
    assert_eq!(sample.end().await, End::Drained);
}

#[tokio::test]
async fn a_drain_cuts_what_takes_longer_than_max_wait_time() {
    let sample = Sample::start("--max-wait-time 100ms").await;
    let mut first = sample.begin("/?work=1h").await;
    let mut second = sample.begin("/?work=1h").await;
    sample.order(Order::Term).await;
    assert_eq!((first.reply().await, second.reply().await), (String::new(), String::new()));
    assert_eq!(sample.end().await, End::Cut(2));
}

#[tokio::test]
async fn a_draining_server_is_not_ready() {
    let sample = Sample::start("--max-wait-time 20s").await;
    let mut halting = sample.connect().await;
    halting.0.write_all(b"GET /readi").await.unwrap();
    let _slow = sample.begin("/?work=1h").await;
    sample.order(Order::Term).await;
    sample.until_refused().await;
    halting.0.write_all(b"ness HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_snapshot!(status_and_body(&halting.reply().await), @"503 draining version 42");
}

#[tokio::test]
async fn half_a_request_holds_up_no_drain() {
    let sample = Sample::start("--max-wait-time 1h").await;
    let mut halting = sample.connect().await;
    halting.0.write_all(b"GET /readi").await.unwrap();
    sample.get("/liveness").await;
    sample.order(Order::Term).await;
    assert_eq!(sample.end().await, End::Drained);
}

#[tokio::test]
async fn the_second_term_ends_at_once() {
    let sample = Sample::start("--max-wait-time 1h").await;
    let _slow = sample.begin("/?work=1h").await;
    sample.order(Order::Term).await;
    sample.order(Order::Reload).await;
    sample.order(Order::Term).await;
    assert_eq!(sample.end().await, End::ToldTwice);
}

#[tokio::test]
async fn ignored_terms_change_nothing() {
    let sample = Sample::start("--ignore-term --work 1ms").await;
    sample.order(Order::Term).await;
    sample.order(Order::Term).await;
    assert_eq!(status(&sample.get("/").await), "200");
    assert!(!sample.task.is_finished());
}

#[tokio::test]
async fn cut_at_term_drops_everything_at_once() {
    let sample = Sample::start("--cut-at-term --max-wait-time 1h").await;
    let mut slow = sample.begin("/?work=1h").await;
    sample.order(Order::Term).await;
    assert_eq!(slow.reply().await, "");
    assert_eq!(sample.end().await, End::Cut(1));
}

#[tokio::test]
async fn a_deaf_drain_accepts_clients_and_serves_none() {
    let sample = Sample::start("--deaf-drain --max-wait-time 20s").await;
    let mut idle = sample.connect().await;
    idle.ask("GET", "/liveness", "").await;
    idle.reply().await;
    let mut slow = sample.begin("/?work=300ms").await;
    sample.order(Order::Term).await;
    assert_eq!(idle.reply().await, "");

    let mut late = sample.connect().await;
    late.ask("GET", "/liveness", "").await;
    assert_eq!(status(&slow.reply().await), "200");
    assert_eq!(sample.end().await, End::Drained);
    let error = late.0.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn readiness_can_be_late_or_flip_or_never_come() {
    async fn until_ready(sample: &Sample, wanted: &str) {
        let reached = async { while status(&sample.get("/readiness").await) != wanted {} };
        timeout(BOUND, reached).await.expect(wanted);
    }
    let flipping = Sample::start("--flip-ready 100ms").await;
    for wanted in ["200", "503", "200", "503"] {
        until_ready(&flipping, wanted).await;
    }
    let late = Sample::start("--ready-delay 300ms").await;
    assert_snapshot!(status_and_body(&late.get("/readiness").await), @"503 not ready version 42");
    until_ready(&late, "200").await;

    let never = Sample::start("--never-ready").await;
    assert_eq!(status(&never.get("/readiness").await), "503");
    assert_eq!(status(&never.get("/liveness").await), "200");
}

#[tokio::test]
async fn empty_bodies_answer_200_to_everything() {
    let sample = Sample::start("--empty-body --never-ready --work 1ms").await;
    for path in ["/", "/readiness", "/nothing"] {
        assert_eq!(status_and_body(&sample.get(path).await), "200 ");
    }
}

#[tokio::test]
async fn a_hanging_liveness_hangs_nothing_else() {
    let sample = Sample::start("--hang-liveness --work 1ms").await;
    let _hanging = sample.begin("/liveness").await;
    assert_eq!(status(&sample.get("/").await), "200");
}
