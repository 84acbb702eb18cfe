//! What a gateway counted, as people and scripts see it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use opsdeck::api::{self, Traffic};
use support::{Deck, find, free_port};

/// Two instances, the second one a backup, behind a gateway.
struct Shop {
    deck: Deck,
    entry: u16,
}

impl Shop {
    fn open() -> Self {
        let [entry, one, two] = [free_port(), free_port(), free_port()];
        let deck = Deck::start(&format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 10ms\"\n\
             instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two}, backup = true }}\n\
             probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
             rollout = {{ settle = \"100ms\" }}\n\
             [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n"
        ));
        let mut shop = Self { deck, entry };
        shop.deck.wait("both in rotation", |deck, _| {
            ["web1", "web2"].iter().all(|name| {
                find(deck, name).is_some_and(|it| it.in_rotation && it.traffic.is_some())
            }) && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
        });
        shop
    }

    fn ask(&self, times: usize) {
        for _ in 0..times {
            let answer = get(self.entry, "/");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }

    /// Waits until so many requests were answered, which the deck is told after a while.
    fn wait_answered(&mut self, n: u64) -> api::Gateway {
        let answered = |it: &api::Gateway| it.traffic.success == n && it.in_flight == 0;
        self.deck.wait(&format!("{n} answered"), |deck, _| {
            deck.services[0].gateway.as_ref().is_some_and(answered)
        });
        self.deck.view.services[0].gateway.clone().unwrap()
    }

    fn traffic(&self, instance: &str) -> Traffic {
        find(&self.deck.view, instance).unwrap().traffic.clone().unwrap()
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_counts_are_exact_and_a_roll_takes_nothing_from_them() {
    let mut shop = Shop::open();
    shop.ask(5);
    let all = shop.wait_answered(5).traffic;
    assert_eq!((all.requests, all.cut, all.server_error), (5, 0, 0));
    assert!(all.p50_ms >= 10.0 && all.p50_ms <= all.p99_ms, "{all:?}");
    assert!(all.bytes_in > 0 && all.bytes_out > 0, "{all:?}");
    // An instance's own counts may come with the next turn.
    shop.deck.wait("five answers of web1", |deck, _| {
        let traffic = support::find(deck, "web1").and_then(|it| it.traffic.as_ref());
        traffic.is_some_and(|it| it.success == 5)
    });
    assert_eq!(shop.traffic("web2").success, 0, "a backup is not asked while web1 is ready");

    shop.deck.ok(&["roll", "web"]);
    shop.ask(3);
    assert_eq!(shop.wait_answered(8).traffic.requests, 8);
    assert_eq!(shop.traffic("web1").success, 8, "of both its generations");
    // What scripts read is the same.
    let json: api::Deck = serde_json::from_str(&shop.deck.ok(&["status", "--json"])).unwrap();
    assert_eq!(json.services[0].gateway.as_ref().unwrap().traffic.success, 8);
}

#[test]
fn the_last_ten_minutes_are_there_for_who_comes_later() {
    let mut shop = Shop::open();
    shop.ask(3);
    shop.wait_answered(3);
    let kept = |path: &str| -> api::History {
        let text = over_unix(&shop.deck.socket(), path);
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    for path in ["/v1/services/web/history", "/v1/instances/web1/history"] {
        let it = kept(path);
        assert_eq!(it.step_ms, 2000);
        assert_eq!(it.in_flight.len(), it.requests_per_second.len());
        assert!(it.requests_per_second.iter().any(|it| *it > 0.0), "{path}: {it:?}");
    }
    let problem = over_unix(&shop.deck.socket(), "/v1/services/nobody/history");
    assert!(problem.starts_with("HTTP/1.1 404"), "{problem}");
}

#[test]
fn prometheus_reads_it_on_the_socket_and_where_the_configuration_says() {
    let mut shop = Shop::open();
    shop.ask(4);
    shop.wait_answered(4);
    let on_socket = samples(&over_unix(&shop.deck.socket(), "/metrics"));
    let answered = [("service", "web"), ("instance", "web1"), ("code", "2xx")];
    assert_eq!(value(&on_socket, "opsdeck_gateway_requests_total", &answered), Some(4.0));
    let web1 = &answered[..2];
    assert_eq!(value(&on_socket, "opsdeck_instance_up", web1), Some(1.0));
    assert_eq!(value(&on_socket, "opsdeck_instance_ready", web1), Some(1.0));
    assert_eq!(value(&on_socket, "opsdeck_gateway_in_flight", web1), Some(0.0));
    // Nobody else looks: what the scrape itself had measured.
    assert_eq!(value(&on_socket, "opsdeck_instance_accept_queue", web1), Some(0.0));
    for name in ["accept_queue_limit", "memory_bytes"] {
        let found = value(&on_socket, &format!("opsdeck_instance_{name}"), web1);
        assert!(found.is_some_and(|it| it > 0.0), "{name}: {found:?}");
    }
    let p99 = [web1, &[("quantile", "0.99")]].concat();
    assert!(value(&on_socket, "opsdeck_gateway_latency_seconds", &p99).unwrap() >= 0.01);

    let port = free_port();
    let config = std::fs::read_to_string(shop.deck.path().join("config.toml")).unwrap();
    let services = config.split_once("[service").map(|it| format!("[service{}", it.1)).unwrap();
    let deck = format!("metrics = \"127.0.0.1:{port}\"\n{services}");
    shop.deck.write_config(&deck);
    shop.deck.ok(&["config", "apply"]);
    support::wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let on_tcp = samples(&get(port, "/metrics"));
    assert_eq!(value(&on_tcp, "opsdeck_gateway_requests_total", &answered), Some(4.0));
    for path in ["/", "/v1/deck", "/v1/watch"] {
        assert!(get(port, path).starts_with("HTTP/1.1 404"), "{path}");
    }

    shop.deck.write_config(&services);
    shop.deck.ok(&["config", "apply"]);
    support::wait_until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Prints every sample as Prometheus' own client library understands it, and complains of what is unconventional.
const CLIENT: &str = r#"
import sys
try:
    from prometheus_client.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(77)
seen = set()
for family in parse(sys.stdin.read()):
    assert family.type in ("counter", "gauge") and family.documentation.endswith("."), family
    for it in family.samples:
        assert it.name.startswith("opsdeck_") and it.timestamp is None, it
        assert it.name.endswith("_total") == (family.type == "counter"), it
        assert not it.name.endswith(("_ms", "_kib", "_percent")), it
        labels = ",".join(f"{name}={text}" for name, text in sorted(it.labels.items()))
        assert (it.name, labels) not in seen, it
        seen.add((it.name, labels))
        print(f"{it.name}{{{labels}}} {float(it.value)!r}")
"#;

#[test]
fn the_client_library_of_prometheus_reads_the_same() {
    let mut shop = Shop::open();
    shop.ask(2);
    shop.wait_answered(2);
    let answer = over_unix(&shop.deck.socket(), "/metrics");
    let mut client = Command::new(support::python());
    client.args(["-c", CLIENT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.stderr(Stdio::piped()).spawn().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    // One that ends at once has not read it.
    let _ = client.stdin.take().unwrap().write_all(body.as_bytes());
    let output = support::finish(client);
    if output.status.code() == Some(77) {
        return support::skip::skip("python3-prometheus-client");
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeSet<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let own = samples(&answer);
    assert_eq!(read.len(), own.len(), "{read:#?}");
    for (name, mut labels, value) in own {
        labels.sort();
        let labels: Vec<_> = labels.iter().map(|(a, b)| format!("{a}={b}")).collect();
        let start = format!("{name}{{{}}} ", labels.join(","));
        let found = read.iter().find_map(|it| it.strip_prefix(&start)).unwrap_or_else(|| {
            panic!("no {start} in {read:#?}");
        });
        assert_eq!(found.parse(), Ok(value), "{start}");
    }
}

fn over_unix(socket: &std::path::Path, path: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Name, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads the text format as its specification has it, and nothing looser: a family is announced by HELP and TYPE
/// before its samples, and none comes twice.
fn samples(answer: &str) -> Vec<Sample> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.ends_with('\n'));
    let (mut families, mut all) = (vec![], vec![]);
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(!families.contains(&name.to_owned()), "{name} comes twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            families.push(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let it = sample(line);
            assert_eq!(families.last(), Some(&it.0), "{line}");
            all.push(it);
        }
    }
    all
}

fn sample(line: &str) -> Sample {
    let (name, mut rest) = line.split_once('{').unwrap();
    let mut labels = vec![];
    loop {
        let (label, quoted) = rest.split_once("=\"").unwrap();
        let (mut text, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => text.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    it @ ('\\' | '"') => it,
                    it => panic!("\\{it} is no escape: {line}"),
                }),
                (at, '"') => break at,
                (_, it) => text.push(it),
            }
        };
        labels.push((label.to_owned(), text));
        rest = &quoted[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    (name.to_owned(), labels, rest.strip_prefix("} ").unwrap().parse().unwrap())
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let same = |it: &&Sample| {
        it.0 == name
            && it.1.len() == labels.len()
            && labels.iter().all(|(a, b)| it.1.iter().any(|(c, d)| a == c && b == d))
    };
    samples.iter().find(same).map(|it| it.2)
}
