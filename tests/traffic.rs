//! What a gateway counted, as people and scripts see it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

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
    assert_eq!(shop.traffic("web1").success, 5);
    assert_eq!(shop.traffic("web2").success, 0, "a backup is not asked while web1 is ready");

    shop.deck.ok(&["roll", "web"]);
    shop.ask(3);
    assert_eq!(shop.wait_answered(8).traffic.requests, 8);
    assert_eq!(shop.traffic("web1").success, 8, "of both its generations");
    // What scripts read is the same.
    let json: api::Deck = serde_json::from_str(&shop.deck.ok(&["status", "--json"])).unwrap();
    assert_eq!(json.services[0].gateway.as_ref().unwrap().traffic.success, 8);
}
