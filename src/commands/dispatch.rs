//! From the command line to the command.

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use super::{
    Outcome, act, config, daemon, deck, demo, events, logs, manual, place, reload, report, roll,
    status, status_watch,
};
use crate::api::{Act, InstanceVerb};
use crate::cli::{Cli, Command, Place};
use crate::client::Client;
use crate::exit::Exit;

/// What runs on the runtime.
type Work = Pin<Box<dyn Future<Output = Outcome>>>;

/// Runs the command and returns what the process exits with.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { place, deck, command } = cli;
    let Some(command) = command else {
        return on_runtime(Box::pin(async move { deck::run(&place, &deck).await }));
    };
    let plain = Act::default();
    let work: Work = match command {
        // These stay small and start fast, or have a runtime of their own.
        Command::Logger(args) => return daemon::logger(&args).into(),
        Command::Holder(args) => return daemon::holder(&args.runtime_dir).into(),
        Command::ExecAs(args) => return daemon::exec_as(args.rest),
        Command::Gateway(args) => return daemon::gateway(args).into(),
        Command::Sample(args) => return daemon::sample(args),
        Command::Completions(args) => return manual::completions(args.shell).into(),
        Command::Man => return manual::man().into(),
        Command::Daemon(args) if !args.guard.is_empty() => return daemon::guard(&args).into(),

        Command::Daemon(args) => match daemon::claim(&args) {
            Ok(heir) => Box::pin(async move { daemon::run(&place, &args, heir).await }),
            Err(problem) => return report(&problem).into(),
        },
        Command::Demo(args) => Box::pin(async move { demo::run(&args, &deck).await }),
        Command::Config(command) => Box::pin(async move { config::run(&place, &command).await }),
        Command::Import(command) => Box::pin(async move { config::import(&command) }),
        Command::Load(args) => Box::pin(daemon::load(args)),

        Command::Status(args) if args.watch => {
            ask(place, async move |it| status_watch::run(&it, &args).await)
        }
        Command::Status(args) => ask(place, async move |it| status::run(&it, &args).await),
        Command::Start(args) => ask(place, async move |it| {
            act::all(&it, act::START, &args.names, &plain, args.wait.is_wanted()).await
        }),
        Command::Stop(args) => ask(place, async move |it| {
            let act = Act { now: args.now, ..plain };
            act::all(&it, act::STOP, &args.names, &act, args.wait.is_wanted()).await
        }),
        Command::Restart(args) => ask(place, async move |it| {
            act::all(&it, act::RESTART, &args.names, &plain, args.wait.is_wanted()).await
        }),
        Command::Reload(args) => ask(place, async move |it| reload::run(&it, &args).await),
        Command::Drain(args) => ask(place, async move |it| {
            act::each_instance(&it, InstanceVerb::Drain, &args.names, !args.yes).await
        }),
        Command::Undrain(args) => ask(place, async move |it| {
            act::each_instance(&it, InstanceVerb::Undrain, &args.names, false).await
        }),
        Command::Signal(args) => ask(place, async move |it| act::signal(&it, &args).await),
        Command::Roll(args) => ask(place, async move |it| roll::run(&it, &args).await),
        Command::Logs(args) => ask(place, async move |it| logs::run(&it, &args).await),
        Command::Events(args) => ask(place, async move |it| events::run(&it, &args).await),
        Command::Report(args) => ask(place, async move |it| report::run(&it, &args).await),
        Command::Why(args) => ask(place, async move |it| events::why(&it, &args.name).await),
        Command::Shutdown(args) => ask(place, async move |it| act::shutdown(&it, args.keep).await),
    };
    on_runtime(work)
}

/// A command that only talks to the daemon.
fn ask(place: Place, talk: impl AsyncFnOnce(Client) -> Outcome + 'static) -> Work {
    Box::pin(async move { talk(place::client(&place)?).await })
}

fn on_runtime(work: Work) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Threads stay once they are there: a host that has none left must not end the daemon.
        .thread_keep_alive(Duration::from_hours(24 * 365))
        .max_blocking_threads(64)
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(work).unwrap_or_else(|it| report(&it));
            // A blocked read of a log must not hold up the end.
            runtime.shutdown_background();
            exit.into()
        }
        Err(err) => {
            super::notice(&format!("opsdeck: the runtime could not be started: {err}"));
            Exit::Failed.into()
        }
    }
}
