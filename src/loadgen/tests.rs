//! Clients against servers on loopback with one manner each.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::options::tests::args;
use super::{LoadReport, measure};

/// What a server does with each request.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers with this status and keeps the connection.
    Answer(u16),
    /// Answers and closes without having said so.
    AnswerAndClose,
    /// Answers `Connection: close`, and closes some moments later.
    SayClose,
    /// Half an answer, then closed.
    Half,
    /// Half an answer, then reset.
    HalfAndReset,
    /// No answer, then closed.
    Close,
    /// Not HTTP.
    Garbage,
    /// No answer.
    Hang,
}

/// What a server has seen.
struct Server {
    port: u16,
    /// The number of the connection, the method, and what follows the head.
    requests: mpsc::Receiver<(u32, String, usize)>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, requests) = mpsc::channel(10_000);
        tokio::spawn(async move {
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, number, manner, seen.clone()));
            }
        });
        Self { port, requests }
    }

    async fn load(&self, options: &str) -> LoadReport {
        load(self.port, options).await
    }

    /// `connection method body` of each request so far, in order.
    fn seen(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.requests.try_recv().ok())
            .map(|(connection, method, body)| format!("{connection} {method} {body}"))
            .collect()
    }
}

async fn load(port: u16, options: &str) -> LoadReport {
    let line = format!("http://127.0.0.1:{port}/ {options}");
    let never = CancellationToken::new();
    let measuring = measure(args(&line), never.clone(), never, false);
    timeout(Duration::from_secs(20), measuring).await.expect("the load went on")
}

async fn serve(
    mut stream: TcpStream,
    number: u32,
    manner: Manner,
    seen: mpsc::Sender<(u32, String, usize)>,
) {
    stream.set_nodelay(true).unwrap();
    while let Some((method, body)) = read_request(&mut stream).await {
        seen.try_send((number, method, body)).unwrap();
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
        let whole = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
        match manner {
            Manner::Answer(status) => {
                stream.write_all(whole(status).as_bytes()).await.unwrap();
                continue;
            }
            Manner::AnswerAndClose => stream.write_all(whole(200).as_bytes()).await.unwrap(),
            Manner::SayClose => {
                let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(head).await.unwrap();
                // It closes once the client has.
                while stream.read_u8().await.is_ok() {}
            }
            Manner::Half => stream.write_all(half).await.unwrap(),
            Manner::HalfAndReset => {
                stream.write_all(half).await.unwrap();
                stream.set_zero_linger().unwrap();
            }
            Manner::Garbage => stream.write_all(b"220 mail ready\r\n").await.unwrap(),
            Manner::Close => {}
            Manner::Hang => std::future::pending().await,
        }
        return;
    }
}

/// Reads a head and its body: the method and the length of the body.
async fn read_request(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head.split(' ').next().unwrap().to_owned(), length))
}

/// Counts of a report by name, zeros left out.
fn counts(report: &LoadReport) -> String {
    let replies = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(report.replies);
    let failures = [
        ("refused", report.refused),
        ("reset", report.reset),
        ("timed out", report.timed_out),
        ("closed", report.closed),
        ("other", report.other),
        ("unfinished", report.unfinished),
    ];
    let all = replies.chain(failures).filter(|it| it.1 > 0);
    all.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

const FAST: &str = "-c 1 -n 3 --interval 0";

#[tokio::test]
async fn good_replies_are_good_and_measured() {
    let mut server = Server::start(Manner::Answer(200)).await;
    let report = server.load("-c 4 -n 100 --interval 0").await;
    assert_eq!((counts(&report).as_str(), report.exit_code()), ("2xx 100", 0));
    assert_eq!(server.seen().len(), 100);
    assert!(report.percentile(50) > Duration::ZERO);
    assert!(report.slowest() <= report.elapsed);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let cases = [
        (Manner::Answer(302), "3xx 3"),
        (Manner::Answer(404), "4xx 3"),
        (Manner::Answer(503), "5xx 3"),
        (Manner::Half, "closed 3"),
        (Manner::HalfAndReset, "reset 3"),
        (Manner::Close, "closed 3"),
        (Manner::Garbage, "other 3"),
    ];
    for (manner, expected) in cases {
        let report = Server::start(manner).await.load(FAST).await;
        assert_eq!(counts(&report), expected);
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(counts(&load(port, FAST).await), "refused 3");
}

#[tokio::test]
async fn an_answer_that_never_comes_times_out() {
    let server = Server::start(Manner::Hang).await;
    let report = server.load("-c 3 -n 3 --interval 0 --timeout 100ms").await;
    assert_eq!((counts(&report).as_str(), report.exit_code()), ("timed out 3", 1));
}

#[tokio::test]
async fn garbage_is_named() {
    let report = Server::start(Manner::Garbage).await.load(FAST).await;
    assert_eq!(report.first_other.as_deref(), Some("the reply is not HTTP"));
}

#[tokio::test]
async fn connections_are_kept_or_not_as_told() {
    let connections = |options: &'static str| async move {
        let mut server = Server::start(Manner::Answer(200)).await;
        server.load(options).await;
        server.seen()
    };
    assert_eq!(connections(FAST).await, ["1 get 0", "1 get 0", "1 get 0"]);
    let one_shot = connections("-c 1 -n 3 --interval 0 --one-shot").await;
    assert_eq!(one_shot, ["1 get 0", "2 get 0", "3 get 0"]);
}

#[tokio::test]
async fn mixed_methods_take_turns() {
    let mut server = Server::start(Manner::Answer(200)).await;
    server.load("-c 1 -n 4 --interval 0 --method mixed --body 100KiB").await;
    assert_eq!(server.seen(), ["1 get 0", "1 post 102400", "1 get 0", "1 post 102400"]);
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_request() {
    let mut server = Server::start(Manner::AnswerAndClose).await;
    let report = server.load("-c 1 -n 3 --interval 50ms").await;
    assert_eq!(counts(&report), "2xx 3");
    assert_eq!(server.seen(), ["1 get 0", "2 get 0", "3 get 0"]);
}

#[tokio::test]
async fn a_connection_that_is_said_to_close_is_replaced() {
    let mut server = Server::start(Manner::SayClose).await;
    let report = server.load("-c 1 -n 3 --interval 0 --timeout 10s").await;
    assert_eq!(counts(&report), "2xx 3");
    assert_eq!(server.seen(), ["1 get 0", "2 get 0", "3 get 0"]);
}

#[tokio::test]
async fn a_kept_connection_that_breaks_under_a_request_is_a_failed_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        read_request(&mut stream).await.unwrap();
        drop(stream);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        report = load(port, "-c 1 -n 2 --interval 0") => {
            assert_eq!(counts(&report), "2xx 1, closed 1");
        }
        () = server => unreachable!(),
    }
}

/// Answers one request of each connection and closes it under the next.
async fn one_each(listener: &TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if read_request(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            read_request(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn a_request_that_a_kept_connection_lost_is_sent_once_more_where_that_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let loads = async {
        let gets = load(port, "-c 1 -n 3 --interval 0 --resend").await;
        assert_eq!((counts(&gets), gets.resent), ("2xx 3".to_owned(), 2));
        assert!(gets.to_string().contains("sent twice 2 "), "{gets}");
        let posts = load(port, "-c 1 -n 2 --interval 0 --resend --method post").await;
        assert_eq!((counts(&posts), posts.resent), ("2xx 1, closed 1".to_owned(), 0));
    };
    tokio::select! {
        () = loads => {}
        () = one_each(&listener) => unreachable!(),
    }
}

#[tokio::test]
async fn a_reply_that_had_begun_is_not_asked_for_again() {
    let server = Server::start(Manner::Half).await;
    let report = server.load(&format!("{FAST} --resend")).await;
    assert_eq!((counts(&report), report.resent), ("closed 3".to_owned(), 0));
}

#[tokio::test]
async fn the_duration_ends_it_and_what_is_under_way_is_finished() {
    let server = Server::start(Manner::Answer(200)).await;
    let report = server.load("-c 2 --duration 100ms --interval 10ms").await;
    assert_eq!((report.failed(), report.unfinished), (0, 0), "{report}");
    assert!(report.good() >= 2, "{report}");
}

#[tokio::test]
async fn what_is_given_up_is_counted_as_unfinished() {
    let mut server = Server::start(Manner::Hang).await;
    let line = format!("http://127.0.0.1:{}/ -c 2 --interval 0", server.port);
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let measuring = tokio::spawn(measure(args(&line), stop.clone(), give_up.clone(), false));
    for _ in 0..2 {
        server.requests.recv().await.unwrap();
    }
    stop.cancel();
    give_up.cancel();
    assert_eq!(counts(&measuring.await.unwrap()), "unfinished 2");
}

#[tokio::test(start_paused = true)]
async fn each_client_asks_once_an_interval() {
    let server = Server::start(Manner::Answer(200)).await;
    let report = server.load("-c 4 --interval 1s --duration 9400ms").await;
    assert_eq!(counts(&report), "2xx 38");
}
