//! What the daemon and the gateway say to each other: one JSON object a line, on a Unix stream socket.
//!
//! The daemon creates the listening control socket and the TCP listeners, keeps copies and passes both in. It (or
//! the next daemon) connects; the newest connection replaces an older one. The two may be of different releases:
//! unknown fields are skipped and an unknown message is `Unknown`, never an error. What is missing has a default.
//!
//! Descriptors travel by SCM_RIGHTS with the first byte of the message that names them, in the order of its names.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;

/// Of these messages. A higher one may say more; nothing that is here changes its meaning.
pub const VERSION: u32 = 2;
/// The version from which on [`ToGateway::Ping`] is answered.
pub const ANSWERS_SINCE: u32 = 2;
/// The longest message, in bytes. A peer that sends more is disconnected.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// The most listeners of a process: they are passed on in one message (SCM_MAX_FD is 253).
pub const LISTENER_LIMIT: usize = 200;

/// Orders to the gateway, carried out in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToGateway {
    /// Answered by [`FromGateway::Welcome`]. A daemon says it first; nothing is reported before.
    Hello {
        #[serde(default)]
        version: u32,
    },
    /// Replaces everything that was known: level-triggered, always the whole. Answered at once by
    /// [`FromGateway::Counts`] with this revision: from then on nobody that is out of rotation gets a new request.
    Routes(Routes),
    /// Listeners to accept on from now on; their descriptors come with it. A name that is there is replaced. A
    /// socket that is accepted on under another name: that gateway has this name from now on, and keeps its
    /// connections and counts.
    Listeners { names: Vec<String> },
    /// Stops accepting, answers what is in flight with `Connection: close`, closes what is idle, and exits when the
    /// last connection ends. A connection that was used within `linger_ms` has until then to send its next request,
    /// which is answered: a client may have sent it already.
    Retire {
        #[serde(default = "linger")]
        linger_ms: u64,
    },
    /// Answered at once by [`FromGateway::Pong`]: whether it lives is not only a matter of its process.
    Ping,
    #[serde(other)]
    Unknown,
}

fn linger() -> u64 {
    5_000
}

/// Where the requests go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    /// The daemon's; comes back in [`Counts`].
    pub revision: u64,
    pub gateways: Vec<Route>,
}

/// One `[gateway.NAME]`. A listener of this name that is not among the routes is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    pub name: String,
    /// How long a request waits for an instance at most.
    pub hold_ms: u64,
    /// How many wait at most; further ones get 503 at once.
    pub hold_max: u32,
    /// How long an upgraded connection lives on after its instance left the rotation.
    pub upgrade_wait_ms: u64,
    pub limits: Limits,
    pub instances: Vec<Target>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: String::new(),
            hold_ms: 5_000,
            hold_max: 10_000,
            upgrade_wait_ms: 5_000,
            limits: Limits::default(),
            instances: vec![],
        }
    }
}

/// What a client and an instance may ask of us. Zero is no limit, except for `connections`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Request line and headers; 431 beyond. At least 8 KiB.
    pub header_bytes: usize,
    /// The request target; 414 beyond.
    pub uri_bytes: usize,
    /// The request's body; 413 beyond.
    pub body_bytes: u64,
    /// As much of a body is kept to send it again.
    pub replay_bytes: usize,
    /// Connections of clients at once; then the longest idle one is closed, or the next waits in the backlog.
    pub connections: usize,
    /// From the first byte of a request to the end of its headers; 408 beyond.
    pub header_timeout_ms: u64,
    /// Between two requests on a connection.
    pub idle_timeout_ms: u64,
    /// Between two pieces of a body; 408 beyond.
    pub body_timeout_ms: u64,
    /// A client that takes no more of its response.
    pub write_timeout_ms: u64,
    /// Until a connection to an instance is there.
    pub connect_timeout_ms: u64,
    /// Until an instance begins to answer (504 beyond), and between two pieces of its answer.
    pub reply_timeout_ms: u64,
    /// Keep `X-Forwarded-Proto` and `-Host` of the client: another proxy of ours is in front.
    pub trust_forwarded: bool,
    /// Name in a `Via` header, both ways.
    pub via: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            uri_bytes: 8 * 1024,
            body_bytes: 0,
            replay_bytes: 64 * 1024,
            connections: 16_384,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            connect_timeout_ms: 2_000,
            reply_timeout_ms: 60_000,
            trust_forwarded: false,
            via: None,
        }
    }
}

/// One instance of the service behind a gateway. Name, generation and address together are its identity: with
/// another generation it begins anew, and what the last one has in flight is counted apart until it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    pub name: String,
    pub generation: u64,
    /// `127.0.0.1:9502`, `[::1]:9502`
    pub address: String,
    pub backup: bool,
    pub weight: u32,
    /// May get new requests.
    pub in_rotation: bool,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            name: String::new(),
            generation: 0,
            address: String::new(),
            backup: false,
            weight: 1,
            in_rotation: true,
        }
    }
}

/// What the gateway reports. A daemon that does not read is disconnected, it never stops the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromGateway {
    /// The answer to `hello`, with the listeners as descriptors in the order of their names.
    Welcome {
        version: u32,
        /// Of the program.
        release: String,
        pid: u32,
        /// None: it has none yet, and holds requests.
        routes: Option<Routes>,
        listeners: Vec<String>,
        retiring: bool,
    },
    /// At most every 100 ms while something changes; at once when routes were applied, and when an instance that is
    /// out of rotation has nothing in flight any more.
    Counts(Counts),
    /// Connections to an instance failed since the last message of this kind.
    ConnectFailed { gateway: String, instance: String, generation: u64, times: u64, why: String },
    /// It gets no requests for this long, unless nobody else is left.
    Ejected { gateway: String, instance: String, generation: u64, for_ms: u64 },
    /// A connection to it succeeded again.
    Readmitted { gateway: String, instance: String, generation: u64 },
    /// Requests that an instance had begun to answer, or may have acted on, were lost.
    Cut {
        gateway: String,
        instance: String,
        generation: u64,
        requests: u64,
        tunnels: u64,
        why: String,
    },
    /// Something the operator should know: a message nobody could read, an address that is none.
    Notice { message: String },
    /// The answer to `ping`.
    Pong,
    #[serde(other)]
    Unknown,
}

/// The numbers of one moment. All totals only grow, from the start of this process or of the instance's entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Of the routes that are in force.
    pub revision: u64,
    pub gateways: Vec<GatewayCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayCounts {
    pub name: String,
    /// Of clients, open now.
    pub connections: u64,
    /// Requests that wait for an instance now.
    pub held: u64,
    pub held_total: u64,
    /// Answers of our own: broken reply, nobody ready, too late, and what was refused (4xx).
    pub made_502: u64,
    pub made_503: u64,
    pub made_504: u64,
    pub refused: u64,
    /// Of all instances together, over the last ten seconds: see [`InstanceCounts`].
    pub per_second: f64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    /// Those of the routes in their order, then those that left and still have something in flight, and each that
    /// left once more when nothing is in flight any more.
    pub instances: Vec<InstanceCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceCounts {
    pub name: String,
    pub generation: u64,
    pub in_rotation: bool,
    pub ejected: bool,
    /// From the choice until the last byte of the response was handed to the client's socket, or the client was gone.
    /// Upgraded connections are in it.
    pub in_flight: u64,
    /// Upgraded connections that are open.
    pub tunnels: u64,
    /// The age of the oldest request in flight, upgraded ones apart.
    pub oldest_ms: Option<u64>,
    /// Given to this instance, ended or not.
    pub requests: u64,
    /// Ended, by class of their status: 1xx (upgrades), 2xx, 3xx, 4xx, 5xx.
    pub answered: [u64; 5],
    /// Given to somebody else after this instance did not take them.
    pub retried: u64,
    /// Lost by this instance: see [`FromGateway::Cut`].
    pub cut: u64,
    /// The client left before its response was complete.
    pub abandoned: u64,
    pub connect_failed: u64,
    /// To and from the instance.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Answered a second, and how long they took, over the last ten seconds.
    pub per_second: f64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// Returns the message as one line, newline included.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads one line, with or without its newline.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_orders_on_the_wire_stay_as_they_are() {
        let target = Target {
            name: "web1".into(),
            generation: 3,
            address: "127.0.0.1:9502".into(),
            ..Target::default()
        };
        let route = Route { name: "shop".into(), instances: vec![target], ..Route::default() };
        let orders = [
            ToGateway::Hello { version: 1 },
            ToGateway::Routes(Routes { revision: 7, gateways: vec![route] }),
            ToGateway::Listeners { names: vec!["shop".into()] },
            ToGateway::Retire { linger_ms: 5000 },
            ToGateway::Ping,
        ];
        let lines: Vec<u8> = orders.iter().flat_map(|it| encode(it).unwrap()).collect();
        insta::assert_snapshot!(String::from_utf8(lines.clone()).unwrap(), @r#"
        {"type":"hello","version":1}
        {"type":"routes","revision":7,"gateways":[{"name":"shop","hold_ms":5000,"hold_max":10000,"upgrade_wait_ms":5000,"limits":{"header_bytes":32768,"uri_bytes":8192,"body_bytes":0,"replay_bytes":65536,"connections":16384,"header_timeout_ms":10000,"idle_timeout_ms":75000,"body_timeout_ms":30000,"write_timeout_ms":30000,"connect_timeout_ms":2000,"reply_timeout_ms":60000,"trust_forwarded":false,"via":null},"instances":[{"name":"web1","generation":3,"address":"127.0.0.1:9502","backup":false,"weight":1,"in_rotation":true}]}]}
        {"type":"listeners","names":["shop"]}
        {"type":"retire","linger_ms":5000}
        {"type":"ping"}
        "#);
        let back: Vec<ToGateway> =
            lines.split_inclusive(|it| *it == b'\n').map(|line| decode(line).unwrap()).collect();
        assert_eq!(back, orders);
    }

    #[test]
    fn what_is_missing_has_its_default_and_what_is_unknown_is_skipped() {
        let line = br#"{"type":"routes","revision":1,"colour":"red","gateways":[{"name":"a","limits":{"uri_bytes":9},
            "instances":[{"name":"web1","address":"127.0.0.1:1","shape":{}}]}]}"#;
        let ToGateway::Routes(routes) = decode(line).unwrap() else { panic!() };
        let route = &routes.gateways[0];
        assert_eq!(
            (route.hold_ms, route.limits.uri_bytes, route.limits.header_bytes),
            (5000, 9, 32768)
        );
        assert!(route.instances[0].in_rotation);
        assert_eq!(decode::<ToGateway>(br#"{"type":"dance"}"#).unwrap(), ToGateway::Unknown);
        let retire: ToGateway = decode(br#"{"type":"retire"}"#).unwrap();
        assert_eq!(retire, ToGateway::Retire { linger_ms: 5000 });
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<ToGateway>(&line);
            let _ = decode::<FromGateway>(&line);
        }

        #[test]
        fn no_object_makes_it_panic(
            name in "(hello|routes|listeners|retire|counts|welcome|ping)", field in "[a-z_]{1,10}",
            value in "(null|-1|1e99|\"x\"|\\[\\]|\\{\\})",
        ) {
            let line = format!(r#"{{"type":"{name}","{field}":{value},"gateways":{value}}}"#);
            let _ = decode::<ToGateway>(line.as_bytes());
            let _ = decode::<FromGateway>(line.as_bytes());
        }
    }
}
