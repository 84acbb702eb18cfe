//! Rolling restarts behind the gateway, under load: nobody may notice.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/gateway.rs"]
mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use opsdeck::gateway::control::{FromGateway, Target};
use support::{Gateway, connect, head, header, target, wait_until};

/// A sample server on one port, restarted again and again.
struct Sample {
    address: SocketAddr,
    generation: u64,
    child: Child,
}

impl Sample {
    fn start(address: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opsdeck"));
        // The worst manners there are: at SIGTERM it cuts, and it is not even asked.
        command.args(["sample", "--cut-at-term", "--work", "30ms", "--port"]);
        command.arg(address.port().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_until("listening", || TcpStream::connect(address).is_ok());
        Self { address, generation: 1, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        support::ended(&mut self.child);
    }

    fn restart(&mut self) {
        let generation = self.generation + 1;
        *self = Self::start(self.address);
        self.generation = generation;
    }

    fn target(&self, name: &str, in_rotation: bool) -> Target {
        Target { generation: self.generation, in_rotation, ..target(name, self.address) }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Clients of all kinds, and what went wrong.
struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(gateway: SocketAddr, clients: usize) -> Self {
        let (is_over, answered, failed) = (Arc::default(), Arc::default(), Arc::default());
        let clients = (0..clients)
            .map(|n| {
                let (over, answered): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                    (Arc::clone(&is_over), Arc::clone(&answered));
                let failed: Arc<Mutex<Vec<String>>> = Arc::clone(&failed);
                std::thread::spawn(move || {
                    let mut client = Client { gateway, stream: None, keeps: n % 2 == 0 };
                    let is_post = n % 4 < 2;
                    while !over.load(Ordering::SeqCst) {
                        match client.ask(is_post) {
                            Ok(()) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                            Err(why) => failed.lock().unwrap().push(why),
                        }
                    }
                })
            })
            .collect();
        Self { is_over, answered, failed, clients }
    }

    fn wait_for_more(&self, count: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + count;
        wait_until("answered", || self.answered.load(Ordering::SeqCst) >= goal);
    }

    fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|it| it.join().unwrap());
        Arc::try_unwrap(self.failed).unwrap().into_inner().unwrap()
    }
}

struct Client {
    gateway: SocketAddr,
    stream: Option<TcpStream>,
    keeps: bool,
}

impl Client {
    fn ask(&mut self, is_post: bool) -> Result<(), String> {
        let mut stream = self.stream.take().unwrap_or_else(|| connect(self.gateway));
        let end = if self.keeps { "" } else { "Connection: close\r\n" };
        let (method, body) = if is_post { ("POST", "hello") } else { ("GET", "") };
        let length = body.len();
        let head_of =
            format!("{method} / HTTP/1.1\r\nHost: a\r\n{end}Content-Length: {length}\r\n\r\n");
        stream.write_all((head_of + body).as_bytes()).map_err(|err| format!("{method}: {err}"))?;
        let head = head(&mut stream).ok_or_else(|| format!("{method}: no answer"))?;
        let length = header(&head, "content-length").map_or(0, |it| it.parse().unwrap());
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut stream, &mut body)
            .map_err(|err| format!("{method}: {err}"))?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{method}: {}", head.lines().next().unwrap()));
        }
        if self.keeps && header(&head, "connection").is_none() {
            self.stream = Some(stream);
        }
        Ok(())
    }
}

#[test]
fn three_rolls_in_a_row_lose_nothing() {
    let mut gateway = Gateway::start();
    let addresses: Vec<_> = (0..2).map(|_| support::nobody()).collect();
    let mut samples: Vec<_> = addresses.into_iter().map(Sample::start).collect();
    let names = ["web1", "web2"];
    let route = |samples: &[Sample], out: Option<usize>| -> Vec<Target> {
        samples.iter().enumerate().map(|(n, it)| it.target(names[n], out != Some(n))).collect()
    };
    gateway.route(route(&samples, None));
    let load = Load::start(gateway.address(), 16);
    load.wait_for_more(50);
    for _ in 0..3 {
        for n in [1, 0] {
            gateway.route(route(&samples, Some(n)));
            let generation = samples[n].generation;
            let is_empty = gateway.daemon.reports.last().is_some_and(|it| match it {
                FromGateway::Counts(counts) => {
                    support::find(counts, names[n]).is_some_and(|it| it.in_flight == 0)
                }
                _ => false,
            });
            if !is_empty {
                gateway.daemon.instance(names[n], "drained", |it| {
                    it.in_flight == 0 && it.generation == generation
                });
            }
            samples[n].kill();
            samples[n].restart();
            gateway.route(route(&samples, None));
            load.wait_for_more(20);
        }
    }
    assert_eq!(load.end(), [""; 0]);
}

#[test]
fn a_single_instance_that_is_restarted_is_waited_for() {
    let mut gateway = Gateway::start();
    let mut sample = Sample::start(support::nobody());
    gateway.route(vec![sample.target("web1", true)]);
    let load = Load::start(gateway.address(), 8);
    for _ in 0..2 {
        load.wait_for_more(30);
        let counts = {
            gateway.route(vec![sample.target("web1", false)]);
            gateway.daemon.reports.last().cloned()
        };
        let is_empty = matches!(counts, Some(FromGateway::Counts(counts))
            if support::find(&counts, "web1").is_some_and(|it| it.in_flight == 0));
        if !is_empty {
            gateway.daemon.instance("web1", "drained", |it| it.in_flight == 0);
        }
        sample.kill();
        sample.restart();
        gateway.route(vec![sample.target("web1", true)]);
    }
    load.wait_for_more(30);
    assert_eq!(load.end(), [""; 0]);
}

#[test]
fn a_kill_loses_only_what_it_had_and_that_is_told() {
    let mut gateway = Gateway::start();
    let mut web1 = Sample::start(support::nobody());
    let web2 = Sample::start(support::nobody());
    gateway.route(vec![web1.target("web1", true), web2.target("web2", true)]);
    let load = Load::start(gateway.address(), 16);
    load.wait_for_more(100);
    web1.kill();
    load.wait_for_more(100);
    web1.restart();
    gateway.route(vec![web1.target("web1", true), web2.target("web2", true)]);
    load.wait_for_more(100);
    let failed = load.end();
    assert!(failed.iter().all(|it| it == "POST: HTTP/1.1 502 Bad Gateway"), "{failed:?}");
    gateway.daemon.counts("the end", |it| {
        it.gateways[0].connections == 0
            && it.gateways[0].instances.iter().all(|it| it.in_flight == 0)
    });
    let told: u64 = gateway
        .daemon
        .reports
        .iter()
        .map(|it| if let FromGateway::Cut { requests, .. } = it { *requests } else { 0 })
        .sum();
    assert_eq!(told, failed.len() as u64);
    assert!(failed.len() <= 8, "only POSTs that were in flight: {failed:?}");
}
