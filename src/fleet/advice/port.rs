//! What the instance's port shows: a queue that is full, somebody else who listens.

use super::tree::listed;
use super::{Advice, Evidence, Listener, Member, Stranger};
use crate::fleet::turn::span;
use crate::quantity::count;

/// Strangers that are named.
const NAMED: usize = 4;

/// Nobody accepts, or not fast enough.
pub(super) fn queue_full(evidence: &Evidence) -> Option<Advice> {
    let (queue, port) = (evidence.queue?, evidence.case.port?);
    // listen(2) with 0 lets one wait.
    if queue.waiting == 0 || queue.waiting < queue.limit.max(1) {
        return None;
    }
    let accepting: Vec<Member> = evidence.tree.iter().filter(|it| it.listens).cloned().collect();
    let who = if accepting.is_empty() {
        String::new()
    } else {
        format!("; who should accept: {}", listed(&accepting))
    };
    let room = match queue.most {
        Some(most) if queue.limit >= most => {
            format!("net.core.somaxconn ({most}) limits its backlog")
        }
        Some(most) => {
            format!("its backlog is {}, and net.core.somaxconn allows {most}", queue.limit)
        }
        None => format!("its backlog is {}", queue.limit),
    };
    let frozen = accepting.iter().all(|it| matches!(it.state, 'T' | 't' | 'D'));
    let whose = match queue.listeners {
        0 | 1 => String::new(),
        n => format!("one of the {n} listeners on "),
    };
    let means = if queue.listeners > 1 {
        "whoever accepts there does not, or not fast enough: the kernel goes on giving it its share of \
         new clients, and those time out"
    } else if frozen && !accepting.is_empty() {
        "nobody accepts: new clients get no answer from the kernel and time out"
    } else {
        "connections come faster than it accepts: new clients get no answer from the kernel, try \
         again after a second, and time out"
    };
    Some(Advice {
        kind: "accept-queue-full",
        seen: format!(
            "the accept queue of {whose}port {port} is full, {} of {}{who}",
            queue.waiting, queue.limit
        ),
        means: means.into(),
        help: format!("find out what it waits for, or give it more workers; {room}"),
    })
}

/// Somebody else has the port, and the instance does not.
pub(super) fn taken(evidence: &Evidence) -> Option<Advice> {
    let port = evidence.case.port?;
    let listeners = &evidence.listeners;
    let strangers = strangers(listeners);
    if !evidence.case.wanted || strangers.is_empty() || listeners.iter().any(|it| it.own) {
        return None;
    }
    let verb = if strangers.len() == 1 { "listens" } else { "listen" };
    let seen =
        format!("{} {verb} on port {port}, not {}", named(&strangers), evidence.case.instance);
    let (means, help) = meaning(evidence, &strangers);
    Some(Advice { kind: "port-taken", seen, means, help })
}

fn meaning(evidence: &Evidence, strangers: &[&Stranger]) -> (String, String) {
    let instance = &evidence.case.instance;
    let end = format!("end {}: kill {}", it_or_them(strangers), pids(strangers));
    if let Some(of) = strangers.iter().find(|it| it.runs).and_then(|it| it.of.as_deref()) {
        let means = format!("{of} serves there, which runs: both were told the same port");
        return (means, format!("see what port {of} is told, and {instance}"));
    }
    if let Some(of) = strangers.iter().find_map(|it| it.of.as_deref()) {
        let whose = if of == instance.as_str() { "an earlier generation of it" } else { of };
        return (format!("left behind by {whose}: it serves the code of then"), end);
    }
    if strangers.iter().all(|it| it.orphan) {
        let means = "who led them has ended: workers that outlive their server go on serving the \
                     code it had, and nobody reloads or replaces them";
        return (means.into(), format!("if that is what they are, {end}"));
    }
    let means = format!("requests to this port are not served by {instance}");
    let whose = format!("ps -fp {} tells what that is", pids(strangers).replace(' ', ","));
    (means, format!("{whose}: stop what runs it, or give {instance} another port"))
}

/// Two sockets on one port, of processes that have nothing to do with each other.
pub(super) fn shared(evidence: &Evidence) -> Option<Advice> {
    let port = evidence.case.port?;
    let own = evidence.listeners.iter().find(|it| it.own)?;
    let other = evidence.listeners.iter().find(|it| !it.own && !it.strangers.is_empty())?;
    let strangers: Vec<&Stranger> = other.strangers.iter().collect();
    let verb = if strangers.len() == 1 { "listens" } else { "listen" };
    let seen = format!(
        "{} {verb} on {} as well, beside {} on {}",
        named(&strangers),
        other.address,
        evidence.case.instance,
        own.address
    );
    let means = if own.address == other.address {
        format!("the kernel deals new connections out to both (SO_REUSEPORT on port {port})")
    } else {
        "the kernel gives a connection to the more exact address of the two".to_owned()
    };
    let running = strangers.iter().find(|it| it.runs).and_then(|it| it.of.as_deref());
    let help = match running {
        Some(of) => format!("it belongs to {of}, which runs: give one of them another port"),
        None => format!(
            "if {} should not serve here, stop what runs {} (ps -fp {})",
            if strangers.len() == 1 { "it" } else { "they" },
            it_or_them(&strangers),
            pids(&strangers).replace(' ', ",")
        ),
    };
    Some(Advice { kind: "port-shared", seen, means, help })
}

fn strangers(listeners: &[Listener]) -> Vec<&Stranger> {
    let mut all: Vec<&Stranger> =
        listeners.iter().filter(|it| !it.own).flat_map(|it| &it.strangers).collect();
    all.sort_by_key(|it| it.pid);
    all.dedup_by_key(|it| it.pid);
    all
}

/// `php (pid 4711, for 2h00m, its parent is gone)`.
fn named(strangers: &[&Stranger]) -> String {
    let one = |it: &&Stranger| {
        let orphan = if it.orphan { ", its parent is gone" } else { "" };
        format!("{} (pid {}, for {}{orphan})", it.name, it.pid, span(whole(it)))
    };
    let mut names: Vec<String> = strangers.iter().take(NAMED).map(one).collect();
    if strangers.len() > NAMED {
        names.push(count((strangers.len() - NAMED) as u64, "other"));
    }
    names.join(", ")
}

fn whole(it: &Stranger) -> std::time::Duration {
    std::time::Duration::from_secs(it.age.as_secs())
}

fn pids(strangers: &[&Stranger]) -> String {
    strangers.iter().map(|it| it.pid.to_string()).collect::<Vec<_>>().join(" ")
}

fn it_or_them(strangers: &[&Stranger]) -> &'static str {
    if strangers.len() == 1 { "it" } else { "them" }
}
