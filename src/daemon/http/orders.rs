//! Requests that act, as orders for the fleet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use tokio::sync::oneshot;

use crate::api::problem::Kind;
use crate::api::{
    Act, ConfigVerb, Difference, Done, InstanceVerb, Problem, Role, RolloutVerb, ServiceVerb,
    Warning,
};
use crate::config::settings::Settings;
use crate::config::warnings;
use crate::daemon::config::{self as configuration, Read};
use crate::daemon::http::peer::Peer;
use crate::daemon::http::{Api, Body, Failure, Path, ending};
use crate::daemon::replace::Asked;
use crate::daemon::turn::{NewSettings, Question, Scope, Turn};
use crate::fleet::input::{Disposition, Order, Verb};
use crate::fleet::{Name, Process, Signal};

/// `POST /v1/services/{name}/{verb}`
pub async fn service(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, verb)): Path<(String, ServiceVerb)>,
    Body(act): Body,
) -> Result<Json<Done>, Failure> {
    if verb == ServiceVerb::Roll && act.dry_run {
        let plan = api.ask(|reply| Question::Plan { service: name, set: act.set, reply }).await??;
        return Ok(Json(Done { plan: Some(plan), ..Done::default() }));
    }
    let service = Name::from(name.as_str());
    let verb = match verb {
        ServiceVerb::Start => Verb::StartService(service),
        ServiceVerb::Stop => Verb::StopService { service, now: act.now },
        ServiceVerb::Restart => Verb::RestartService(service),
        ServiceVerb::Reload => Verb::SignalService {
            service,
            signal: signal(&act)?,
            // Read by the driver, right before the fleet decides.
            dispositions: BTreeMap::new(),
        },
        ServiceVerb::Roll => Verb::Roll { service, set: act.set.clone() },
    };
    order(&api, Order { by: peer.by(), verb, guard: act.guard }, None).await
}

/// `POST /v1/instances/{name}/{verb}`
pub async fn instance(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, verb)): Path<(String, InstanceVerb)>,
    Body(act): Body,
) -> Result<Json<Done>, Failure> {
    let instance = Name::from(name.as_str());
    let target = act.target.map(|it| Process { pid: it.pid, start_time: it.start_time });
    let seen = target.map(|it| (instance.clone(), it));
    let verb = match verb {
        InstanceVerb::Start => Verb::Start(instance),
        InstanceVerb::Stop => Verb::Stop { instance, now: act.now },
        InstanceVerb::Restart => Verb::Restart(instance),
        InstanceVerb::Drain => Verb::Drain(instance),
        InstanceVerb::Undrain => Verb::Undrain(instance),
        InstanceVerb::Extend => Verb::Extend(instance),
        InstanceVerb::Kill => Verb::Kill(instance),
        InstanceVerb::Reload => pass_on(instance, signal(&act)?, target),
        InstanceVerb::Signal => {
            let signal = signal(&act)?.ok_or_else(|| {
                refused("no signal was named", "send {\"signal\":\"SIGTERM\"} or the like".into())
            })?;
            pass_on(instance, Some(signal), target)
        }
    };
    order(&api, Order { by: peer.by(), verb, guard: act.guard }, seen).await
}

/// `POST /v1/rollouts/{service}/{verb}`
pub async fn rollout(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((service, verb)): Path<(String, RolloutVerb)>,
) -> Result<Json<Done>, Failure> {
    let service = Name::from(service.as_str());
    let verb = match verb {
        RolloutVerb::Abort => Verb::Abort(service),
        RolloutVerb::Pause => Verb::Pause(service),
        RolloutVerb::Resume => Verb::Resume(service),
        RolloutVerb::Rollback => Verb::RollBack(service),
    };
    order(&api, Order { by: peer.by(), verb, guard: false }, None).await
}

/// `POST /v1/config/{verb}`: only the daemon's own file.
pub async fn config(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(verb): Path<ConfigVerb>,
    Body(act): Body,
) -> Result<Json<Done>, Failure> {
    let Some(path) = api.config.clone() else {
        let why = "the daemon was started without a configuration file".into();
        return Err(refused("there is nothing to read", why));
    };
    let read = configuration::read(path).await;
    let warnings = warnings_of(&api, read.as_deref().ok()).await?;
    match verb {
        ConfigVerb::Apply => {
            let (reply, answer) = oneshot::channel();
            let scope = Scope::Order { by: peer.by(), yes: act.yes };
            api.send(Turn::Settings(NewSettings { read, scope, reply: Some(reply) })).await?;
            let done = answer.await.map_err(|_| ending())??;
            Ok(Json(Done { warnings, ..done }))
        }
        ConfigVerb::Check => {
            understood(read)?;
            let message = "the file has no mistakes".into();
            Ok(Json(Done { message, warnings, ..Done::default() }))
        }
        ConfigVerb::Diff => {
            let settings = understood(read)?;
            let mut diff = api.ask(|reply| Question::Diff { settings, reply }).await?;
            if peer.role() != Some(Role::Operator) {
                diff.iter_mut().for_each(hide_environment);
            }
            Ok(Json(Done { diff: Some(diff), warnings, ..Done::default() }))
        }
    }
}

/// Looked for beside the driver: they ask the system for users and files.
async fn warnings_of(
    api: &Api,
    settings: Option<&Settings>,
) -> Result<Option<Vec<Warning>>, Failure> {
    let Some(settings) = settings.cloned() else { return Ok(None) };
    let valued = api.ask(|reply| Question::Valued { reply }).await?;
    let found = tokio::task::spawn_blocking(move || warnings(&settings, &valued)).await;
    let warning = |it: crate::config::Warning| {
        let crate::config::Warning { name, message, help } = it;
        Warning { name, message, help }
    };
    Ok(found.ok().map(|it| it.into_iter().map(warning).collect()))
}

/// The environment is for operators, whatever its names.
fn hide_environment(it: &mut Difference) {
    for value in it.values.iter_mut().filter(|it| it.key.starts_with("environment.")) {
        (value.from, value.to) = (None, None);
    }
}

/// `POST /v1/replace`: another program becomes this daemon.
pub async fn replace(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(act): Body,
) -> Result<Json<Done>, Failure> {
    let program = act.program.map(PathBuf::from);
    if program.is_some() && !peer.is_own() {
        let why = "it would run as the daemon's user; without `program`, or by SIGUSR2, the daemon takes what is \
                   where it came from";
        return Err(refused("only root and the daemon's own user may name a program", why.into()));
    }
    if program.as_ref().is_some_and(|it| !it.is_absolute()) {
        return Err(refused("the program has no absolute path", "begin it with `/`".into()));
    }
    let (reply, answer) = oneshot::channel();
    let asked = Asked { by: Some(peer.by()), program, reply: Some(reply) };
    api.send(Turn::Replace(asked)).await?;
    Ok(Json(answer.await.map_err(|_| ending())??))
}

fn understood(read: Read) -> Result<Box<Settings>, Problem> {
    read.map_err(|mistakes| configuration::problem_of(&mistakes))
}

fn pass_on(instance: Name, signal: Option<Signal>, process: Option<Process>) -> Verb {
    Verb::Signal { instance, signal, process, disposition: Disposition::Unknown }
}

fn signal(act: &Act) -> Result<Option<Signal>, Failure> {
    let Some(text) = &act.signal else { return Ok(None) };
    match Signal::parse(text) {
        Some(signal) => Ok(Some(signal)),
        None => Err(refused(
            "that is no signal",
            format!("`{text}` is neither a name such as SIGUSR1 nor a number from 1 to 64"),
        )),
    }
}

fn refused(title: &str, detail: String) -> Failure {
    Failure(Problem::new(Kind::Refused, title, detail))
}

async fn order(
    api: &Api,
    order: Order,
    target: Option<(Name, Process)>,
) -> Result<Json<Done>, Failure> {
    let (reply, answer) = oneshot::channel();
    api.send(Turn::Order { order, target, reply }).await?;
    Ok(Json(answer.await.map_err(|_| ending())??))
}
