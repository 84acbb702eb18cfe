//! `start`, `stop`, `restart`, `reload`, `drain`, `undrain`, `signal`, `shutdown`.

use futures_util::StreamExt;

use super::wait::{self, Before, Daemon, Interrupt, Until};
use super::{Outcome, local, notice, out, unprinted};
use crate::api::problem::Kind;
use crate::api::{
    Act, Change, Deck, Done, InstanceVerb, Problem, Request, ServiceVerb, Target, problem,
};
use crate::cli::SignalArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::nearest::nearest;

/// What a word on the command line means on this deck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Service(String),
    Instance(String),
}

/// A verb that works on services and on instances, and what to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    pub service: ServiceVerb,
    pub instance: InstanceVerb,
    pub until: Option<Until>,
    /// What goes on when nobody waits for it any more, and the command for it.
    goes_on: (&'static str, &'static str),
}

pub const START: Deed = Deed {
    service: ServiceVerb::Start,
    instance: InstanceVerb::Start,
    until: Some(Until::Up),
    goes_on: ("the start goes on; `opsdeck stop", "takes it back"),
};
pub const STOP: Deed = Deed {
    service: ServiceVerb::Stop,
    instance: InstanceVerb::Stop,
    until: Some(Until::Down),
    goes_on: ("the stop goes on; `opsdeck start", "takes it back"),
};
pub const RESTART: Deed = Deed {
    service: ServiceVerb::Restart,
    instance: InstanceVerb::Restart,
    until: Some(Until::Renewed),
    goes_on: ("the restart goes on; `opsdeck status -w", "follows it"),
};
pub const RELOAD: Deed = Deed {
    service: ServiceVerb::Reload,
    instance: InstanceVerb::Reload,
    until: None,
    goes_on: ("the reload goes on; `opsdeck status -w", "follows it"),
};

impl Deed {
    /// What to say to whoever stops waiting for it.
    pub(super) fn goes_on(self, names: &[String]) -> String {
        let (what, does) = self.goes_on;
        format!("{what} {}` {does}", names.join(" "))
    }

    /// What to ask of the daemon for this name.
    pub(super) fn request(self, meant: Meant, act: Act) -> Request {
        match meant {
            Meant::Service(name) => Request::Service { name, verb: self.service, act },
            Meant::Instance(name) => Request::Instance { name, verb: self.instance, act },
        }
    }
}

/// Does the same to every name, in the order given, then waits for all of them.
pub async fn all(client: &Client, deed: Deed, names: &[String], act: &Act, wait: bool) -> Outcome {
    let deck = client.brief().await?;
    let meant = names.iter().map(|it| meaning(&deck, it)).collect::<Result<Vec<_>, _>>()?;
    let interrupt = Interrupt::watch()?;
    let mut before = Before::new();
    for it in &meant {
        before.extend(instances(&deck, it));
        tell(&client.send(&deed.request(it.clone(), act.clone())).await?)?;
    }
    match deed.until {
        Some(until) if wait => {
            let waiting = wait::until(client, &before, until);
            interrupt.unless(&deed.goes_on(names), waiting).await
        }
        _ => Ok(Exit::Done),
    }
}

/// `drain`, `undrain`: instances, or every instance of a service. With `guard` the daemon asks before the last
/// one of a service goes out.
pub async fn each_instance(
    client: &Client,
    verb: InstanceVerb,
    names: &[String],
    guard: bool,
) -> Outcome {
    let deck = client.brief().await?;
    for name in names {
        for (name, _) in instances(&deck, &meaning(&deck, name)?) {
            let act = Act { guard, ..Act::default() };
            let request = Request::Instance { name: name.clone(), verb, act };
            if !confirmed(client, &name, &request).await? {
                return Ok(Exit::Confirm);
            }
        }
    }
    Ok(Exit::Done)
}

/// `signal`: one process each; the daemon refuses what the process does not catch, unless `yes`.
pub async fn signal(client: &Client, args: &SignalArgs) -> Outcome {
    let deck = client.brief().await?;
    for name in &args.names {
        let instance = wait::find(&deck, name).ok_or_else(|| match meaning(&deck, name) {
            Ok(_) => local(
                format!("`{name}` has several instances"),
                "a signal goes to one process: name the instance",
            ),
            Err(problem) => problem,
        })?;
        let target = match args.pid {
            Some(pid) => Some(member(client, &instance.name, pid).await?),
            None => None,
        };
        let signal = Some(args.signal.clone());
        let act = Act { target, signal, guard: !args.yes, ..Act::default() };
        let request =
            Request::Instance { name: instance.name.clone(), verb: InstanceVerb::Signal, act };
        if !confirmed(client, name, &request).await? {
            return Ok(Exit::Confirm);
        }
    }
    Ok(Exit::Done)
}

/// Gives an order; false: the daemon wants it to be confirmed, and says why.
pub(super) async fn confirmed(
    client: &Client,
    name: &str,
    request: &Request,
) -> Result<bool, Problem> {
    match client.send(request).await {
        Ok(done) => tell(&done).map(|()| true),
        Err(refusal) if refusal.kind == problem::CONFIRM => {
            notice(&format!("opsdeck: {name}: {}", super::safe(&refusal.detail)));
            notice("  help: say it again with `--yes`");
            Ok(false)
        }
        Err(problem) => Err(problem),
    }
}

/// The identity of a process of an instance.
async fn member(client: &Client, name: &str, pid: i32) -> Result<Target, Problem> {
    let detail = client.detail(name).await?;
    let found = detail.processes.iter().find(|it| it.pid == pid);
    let target = found.map(|it| Target { pid, start_time: it.start_time });
    target.ok_or_else(|| Problem {
        kind: problem::CHANGED.into(),
        help: Some(format!("`opsdeck status --json {name}` lists them")),
        ..local(format!("{pid} is no process of {name}"), "none of its processes has that pid")
    })
}

/// `shutdown`: returns once the daemon is gone.
pub async fn shutdown(client: &Client, keep: bool) -> Outcome {
    let daemon = Daemon::of(client).await;
    let mut changes = Box::pin(client.watch().await?);
    tell(&client.send(&Request::Shutdown { act: Act { keep, ..Act::default() } }).await?)?;
    // The stream ends with the daemon.
    while let Some(Ok(change)) = changes.next().await {
        let events = match change {
            Change::Snapshot { .. } | Change::Unknown => continue,
            Change::Change { events, .. } => events,
        };
        for event in events.iter().filter(|it| it.kind == "stopped") {
            let who = event.instance.as_deref().unwrap_or("opsdeck");
            notice(&format!("{who} {}", super::safe(&event.message)));
        }
    }
    daemon.gone().await;
    Ok(Exit::Done)
}

pub(super) fn tell(done: &Done) -> Result<(), Problem> {
    match done.message.as_str() {
        "" => Ok(()),
        message => out(&format!("{}\n", super::printable(message))).map_err(|err| unprinted(&err)),
    }
}

/// Services first: a service of one instance bears the same name as its instance.
pub(super) fn meaning(deck: &Deck, name: &str) -> Result<Meant, Problem> {
    if wait::find_service(deck, name).is_some() {
        return Ok(Meant::Service(name.to_owned()));
    }
    if wait::find(deck, name).is_some() {
        return Ok(Meant::Instance(name.to_owned()));
    }
    Err(unknown(deck, name))
}

/// The problem of a name that is not there, with the nearest one that is.
pub fn unknown(deck: &Deck, name: &str) -> Problem {
    let services = deck.services.iter();
    let names = services
        .flat_map(|it| std::iter::once(&it.name).chain(it.instances.iter().map(|it| &it.name)));
    let help = match nearest(name, names.map(String::as_str)) {
        Some(it) => format!("did you mean `{it}`?"),
        None => "`opsdeck status` lists what is there".into(),
    };
    Problem::new(Kind::NotFound, format!("there is no service or instance `{name}`"), "")
        .with_help(help)
}

pub(super) fn instances(deck: &Deck, meant: &Meant) -> Before {
    match meant {
        Meant::Service(name) => wait::find_service(deck, name)
            .into_iter()
            .flat_map(|it| &it.instances)
            .map(|it| (it.name.clone(), it.generation))
            .collect(),
        Meant::Instance(name) => {
            wait::find(deck, name).into_iter().map(|it| (it.name.clone(), it.generation)).collect()
        }
    }
}
