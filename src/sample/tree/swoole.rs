//! A Swoole server: in process mode a master and a manager, in base mode a manager that leads.

use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tokio::signal::unix::SignalKind;

use super::herd::{self, Herd};
use super::{End, Mode, Part, RTMIN, SampleArgs, complain, no_signals, say, signals};

/// argv[0] of every process: Swoole gives none of them a title.
const NAME: &str = "opsdeck";

/// What a signal asks a master or manager for.
#[derive(Clone, Copy)]
enum Call {
    Stop,
    Reload,
    ReloadTasks,
    Reopen,
    Child,
}

/// SIGINT and SIGQUIT are not handled: they kill.
const CALLS: &[(SignalKind, Option<Call>)] = &[
    (SignalKind::terminate(), Some(Call::Stop)),
    (SignalKind::user_defined1(), Some(Call::Reload)),
    (SignalKind::user_defined2(), Some(Call::ReloadTasks)),
    (SignalKind::window_change(), Some(Call::Reopen)),
    (SignalKind::from_raw(RTMIN), Some(Call::Reopen)),
    (SignalKind::hangup(), None),
    (SignalKind::child(), Some(Call::Child)),
];

/// The first process: the master, or in base mode the manager.
pub(super) async fn lead(args: &SampleArgs) -> Result<End, String> {
    // Held open for everybody; nobody accepts here.
    let (_listener, socket) = super::open(args).await?;
    if args.shape.mode == Mode::Base {
        return govern(args, socket).await;
    }
    let mut calls = signals::catch(CALLS).map_err(no_signals)?;
    let mut manager = Herd::new(NAME, socket).with_titles(args.shape.titles);
    manager.start(Part::Manager, 0);
    let mut stops = false;
    while let Some(call) = calls.recv().await {
        match call {
            Call::Stop if stops => return Ok(End::ToldTwice),
            Call::Stop => {
                stops = true;
                manager.tell(Signal::SIGTERM);
            }
            Call::Reload => manager.tell(Signal::SIGUSR1),
            Call::ReloadTasks => manager.tell(Signal::SIGUSR2),
            Call::Reopen => manager.tell(Signal::SIGWINCH),
            // Without a manager the master goes on, and so do the workers that are there.
            Call::Child => {
                if !manager.reap().is_empty() && !stops {
                    complain("Fatal Error: manager process exit");
                }
            }
        }
        if stops && manager.is_empty() {
            break;
        }
    }
    say("stopped");
    Ok(End::Drained)
}

/// The manager of process mode.
pub(super) async fn manage(args: &SampleArgs) -> Result<End, String> {
    let master = getppid();
    let socket = args.shape.inherited.ok_or("a manager needs the number of the socket")?;
    herd::end_with_parent(master).map_err(|err| err.to_string())?;
    govern(args, socket).await
}

/// Watches over the workers until SIGTERM.
async fn govern(args: &SampleArgs, socket: i32) -> Result<End, String> {
    let mut calls = signals::catch(CALLS).map_err(no_signals)?;
    say(&format!("manager started, pid {}", std::process::id()));
    let mut herd = Herd::new(NAME, socket).with_titles(args.shape.titles);
    populate(args, &mut herd);
    let mut stops = false;
    loop {
        let call = tokio::select! {
            Some(call) = calls.recv() => call,
            () = herd.out_of_time() => {
                herd.press(Signal::SIGKILL, None);
                continue;
            }
        };
        match call {
            Call::Stop if stops => {}
            Call::Stop => {
                stops = true;
                say("the server is shutting down");
                herd.renew(ALL, Signal::SIGTERM, false, args.max_wait_time * 2);
            }
            Call::Reload => reload(args, &mut herd, &[Part::TaskWorker, Part::Worker], stops),
            Call::ReloadTasks => reload(args, &mut herd, &[Part::TaskWorker], stops),
            Call::Reopen => {
                say("logs reopened");
                herd.tell(Signal::SIGWINCH);
            }
            Call::Child => {
                let gaps = herd.reap();
                for it in gaps.into_iter().filter(|_| !stops) {
                    herd.start(it.part, it.number);
                }
            }
        }
        if stops && herd.is_empty() {
            return Ok(End::Drained);
        }
    }
}

const ALL: &[Part] = &[Part::TaskWorker, Part::Worker, Part::UserProcess];

fn populate(args: &SampleArgs, herd: &mut Herd) {
    let shape = &args.shape;
    (0..shape.task_workers).for_each(|it| herd.start(Part::TaskWorker, shape.workers + it));
    (0..shape.workers).for_each(|it| herd.start(Part::Worker, it));
    if shape.user_process {
        herd.start(Part::UserProcess, shape.workers + shape.task_workers);
    }
}

/// In process mode successors start at once, in base mode once their predecessor has left.
fn reload(args: &SampleArgs, herd: &mut Herd, parts: &[Part], stops: bool) {
    if stops || herd.is_leaving() {
        return say("a reload is under way");
    }
    say("reloading");
    let at_once = args.shape.mode == Mode::Process;
    herd.renew(parts, Signal::SIGTERM, at_once, args.max_wait_time);
}
