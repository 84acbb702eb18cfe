//! The processes that are started in the foreground: daemon, logger, gateway, `exec-as`, sample, load.

use std::os::fd::AsFd;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::{Outcome, local, notice, place};
use crate::api::Problem;
use crate::cli::{DaemonArgs, GatewayArgs, LoggerArgs, Place};
use crate::daemon::boot::{self, BootError};
use crate::daemon::driver::Ended;
use crate::daemon::kept::state;
use crate::daemon::replace::Heir;
use crate::daemon::replace::guardian;
use crate::daemon::replace::proof::Proof;
use crate::daemon::{elsewhere, log, own, systemd};
use crate::exit::Exit;
use crate::loadgen::{self, LoadArgs};
use crate::sample::{self, SampleArgs};

/// `opsdeck daemon --guard`: until the daemon is up, or becomes it.
pub fn guard(args: &DaemonArgs) -> Exit {
    match guardian::run(&args.guard, args.trial) {
        Ok(()) => Exit::Done,
        Err(err) => {
            notice(&format!("opsdeck: the daemon could not be guarded: {err}"));
            Exit::Failed
        }
    }
}

/// What the program before left to this one, if this process was another program before.
pub fn claim(args: &DaemonArgs) -> Result<Option<Heir>, Problem> {
    if args.check || args.replace {
        return Ok(None);
    }
    Heir::claim(args.trial)
        .map_err(|err| local("what the daemon before left cannot be taken over", err.to_string()))
}

/// `opsdeck daemon`: until it is told to end.
pub async fn run(place: &Place, args: &DaemonArgs, heir: Option<Heir>) -> Outcome {
    match (args.replace, args.check) {
        (true, _) => return super::replace::run(&place::client(place)?).await,
        (_, true) => return check(place),
        (false, false) => (),
    }
    let trial = heir.as_ref().and_then(|it| it.trial.clone());
    let outcome = begin(place, args, heir).await;
    log::finish();
    if let (Some(trial), Err(problem)) = (trial, &outcome) {
        trial.fail(&format!("the next program said: {}: {}", problem.title, problem.detail));
    }
    outcome
}

/// Reads what the daemon would, changes nothing, and says which version this is.
fn check(place: &Place) -> Outcome {
    let found = place::find(place)?;
    let Some(settings) = found.settings else {
        return Err(place::no_configuration(&found.config));
    };
    own::look(&found.state_dir, &found.runtime_dir, &found.socket)
        .map_err(|err| could_not_begin(&err))?;
    // The program before would not come up with that either.
    elsewhere::look(settings.path.as_deref(), &found.state_dir)
        .map_err(|err| could_not_begin(&err))?;
    state::readable(&found.state_dir)
        .map_err(|err| local("the state cannot be read", err.to_string()))?;
    let proof = serde_json::to_string(&Proof::own())
        .map_err(|err| local("the version cannot be said", err.to_string()))?;
    super::out(&(proof + "\n")).map_err(|err| super::unprinted(&err))?;
    Ok(Exit::Done)
}

async fn begin(place: &Place, args: &DaemonArgs, heir: Option<Heir>) -> Outcome {
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(err) => {
            super::report(&local(format!("`--log {}` is no filter", args.log), err.to_string()));
            return Ok(Exit::Usage);
        }
    };
    let to_journal = systemd::logs_to_journal();
    let lines = log::begin(to_journal)
        .map_err(|err| local("the daemon's log cannot be begun", err.to_string()))?;
    // What cannot be written there is no reason to end.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let log = log.with_ansi(false).with_writer(lines);
    if to_journal {
        // It has a time and a level of its own.
        log.with_level(false).without_time().init();
    } else {
        log.init();
    }
    let (found, mistakes) = match place::find(place) {
        Ok(found) => (found, None),
        Err(problem) => {
            let (found, mistakes) = place::find_applied(place).ok_or(problem)?;
            (found, Some(mistakes))
        }
    };
    let Some(settings) = found.settings else {
        return Err(place::no_configuration(&found.config));
    };
    log::rotates_in(&found.state_dir);
    let plan = boot::Plan {
        settings: settings.into(),
        mistakes,
        state_dir: found.state_dir,
        runtime_dir: found.runtime_dir,
        socket: found.socket,
        trial: args.trial,
        program: match heir.as_ref().and_then(|it| it.program.clone()) {
            Some(program) => program,
            None => place::own_program()?,
        },
    };
    match boot::run(plan, heir).await {
        Ok(Ended::Signalled) => Ok(Exit::Signalled),
        Ok(Ended::AtRest | Ended::Kept | Ended::Replaced) => Ok(Exit::Done),
        Err(err) => Err(could_not_begin(&err)),
    }
}

pub(super) fn could_not_begin(err: &BootError) -> Problem {
    let causes = std::iter::successors(std::error::Error::source(err), |it| it.source());
    let detail = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let help = match err {
        BootError::Held { pid, .. } => {
            Some(format!("use that one (`opsdeck status`), or end it first: kill {pid}"))
        }
        BootError::Elsewhere { there, .. } => Some(format!(
            "all of it would be started twice. Stop it first (`opsdeck --socket {0}/opsdeck.sock shutdown`), or set \
             `[deck] state_dir` back to {0}",
            there.display()
        )),
        BootError::Distrust { path, why, .. } => Some(own::help(path, why)),
        BootError::Directory { .. } | BootError::Lock { .. } => {
            Some("set `[deck] state_dir` to a directory that this user may write".into())
        }
        BootError::Adopt { .. } => Some(
            "nothing was touched and everything runs on: `ulimit -n` (LimitNOFILE) must have room for all \
             that runs"
                .into(),
        ),
        BootError::Listen { .. } | BootError::Prepare(_) | BootError::Replace { .. } => None,
    };
    Problem { help, ..local(err.to_string(), detail) }
}

/// `opsdeck logger`: its standard input is the listener that the daemon made.
pub fn logger(args: &LoggerArgs) -> Exit {
    let listener = std::io::stdin().as_fd().try_clone_to_owned();
    let ran = listener.and_then(|listener| crate::logger::run(listener, &args.runtime_dir));
    match ran {
        Ok(()) => Exit::Done,
        Err(err) => {
            notice(&format!("opsdeck: the logger could not begin: {err}"));
            Exit::Failed
        }
    }
}

/// `opsdeck holder`: until its directory is removed.
pub fn holder(runtime_dir: &std::path::Path) -> Exit {
    match crate::logger::hold(runtime_dir) {
        Ok(()) => Exit::Done,
        Err(err) => {
            notice(&format!("opsdeck: the holder could not begin: {err}"));
            Exit::Failed
        }
    }
}

/// `opsdeck gateway`: until it is told to retire and its last connection has ended.
pub fn gateway(args: GatewayArgs) -> Exit {
    let inherited = crate::gateway::Inherited {
        control: args.control_fd,
        listeners: args.listener,
        shared: args.shared_fd,
    };
    let begun = match &args.user {
        Some(user) => become_user(user),
        None => Ok(()),
    };
    match begun.and_then(|()| crate::gateway::run(inherited)) {
        Ok(()) => Exit::Done,
        Err(err) => {
            notice(&format!("opsdeck: the gateway could not begin: {err}"));
            Exit::Failed
        }
    }
}

/// Gives up root for good: strangers' requests are read from here on.
fn become_user(name: &str) -> std::io::Result<()> {
    use nix::unistd::{User, setgid, setgroups, setuid};
    let unknown = || std::io::Error::other(format!("there is no user `{name}` (gateway_user)"));
    let user = User::from_name(name)?.ok_or_else(unknown)?;
    setgroups(&[])?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

/// `opsdeck load URL`: exits with 1 if any request failed.
pub async fn load(args: LoadArgs) -> Outcome {
    let json = args.json;
    let failed = |err: std::io::Error| local("the load could not be measured", err.to_string());
    let report = loadgen::run(args).await.map_err(failed)?;
    loadgen::print(&report, json).map_err(|err| super::unprinted(&err))?;
    Ok(if report.failed() == 0 { Exit::Done } else { Exit::Failed })
}

/// `opsdeck exec-as`: becomes the program, or exits as the shell does when it cannot.
pub fn exec_as(rest: Vec<std::ffi::OsString>) -> ExitCode {
    crate::process::exec_as::main(rest)
}

/// `opsdeck sample`: exits as it was told to.
pub fn sample(args: SampleArgs) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(sample::run(args)).into(),
        Err(err) => {
            notice(&format!("opsdeck: the runtime could not be started: {err}"));
            Exit::Failed.into()
        }
    }
}
