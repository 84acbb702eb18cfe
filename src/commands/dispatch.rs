//! From the command line to the command.

use std::process::ExitCode;
use std::time::Duration;

use super::{
    Outcome, act, config, daemon, deck, demo, events, logs, manual, place, reload, report, roll,
    status, status_watch,
};
use crate::api::{Act, InstanceVerb};
use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::exit::Exit;

/// Runs the command and returns what the process exits with.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        // These stay small and start fast, or have a runtime of their own.
        Some(Command::Logger(args)) => daemon::logger(&args).into(),
        Some(Command::Holder(args)) => daemon::holder(&args.runtime_dir).into(),
        Some(Command::ExecAs(args)) => daemon::exec_as(args.rest),
        Some(Command::Gateway(args)) => daemon::gateway(args).into(),
        Some(Command::Sample(args)) => daemon::sample(args),
        Some(Command::Completions(args)) => manual::completions(args.shell).into(),
        Some(Command::Man) => manual::man().into(),
        Some(Command::Daemon(args)) if !args.guard.is_empty() => daemon::guard(&args).into(),
        Some(Command::Daemon(args)) => match daemon::claim(&args) {
            Ok(heir) => on_runtime(daemon::run(&cli.place, &args, heir)),
            Err(problem) => report(&problem).into(),
        },
        _ => on_runtime(answer(cli)),
    }
}

fn on_runtime(work: impl Future<Output = Outcome>) -> ExitCode {
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

async fn answer(cli: Cli) -> Outcome {
    let place = &cli.place;
    let Some(command) = cli.command else {
        return deck::run(place, &cli.deck).await;
    };
    match command {
        Command::Demo(args) => demo::run(&args, &cli.deck).await,
        Command::Config(command) => config::run(place, &command).await,
        Command::Import(command) => config::import(&command),
        Command::Load(args) => daemon::load(args).await,
        Command::Daemon(_)
        | Command::Logger(_)
        | Command::Holder(_)
        | Command::ExecAs(_)
        | Command::Gateway(_)
        | Command::Sample(_)
        | Command::Completions(_)
        | Command::Man => Ok(Exit::Usage),
        command => asks(&place::client(place)?, command).await,
    }
}

/// Commands that only talk to the daemon.
async fn asks(client: &Client, command: Command) -> Outcome {
    let plain = Act::default();
    match command {
        Command::Status(args) if args.watch => status_watch::run(client, &args).await,
        Command::Status(args) => status::run(client, &args).await,
        Command::Start(args) => {
            act::all(client, act::START, &args.names, &plain, args.wait.is_wanted()).await
        }
        Command::Stop(args) => {
            let act = Act { now: args.now, ..plain };
            act::all(client, act::STOP, &args.names, &act, args.wait.is_wanted()).await
        }
        Command::Restart(args) => {
            act::all(client, act::RESTART, &args.names, &plain, args.wait.is_wanted()).await
        }
        Command::Reload(args) => reload::run(client, &args).await,
        Command::Drain(args) => act::each_instance(client, InstanceVerb::Drain, &args.names).await,
        Command::Undrain(args) => {
            act::each_instance(client, InstanceVerb::Undrain, &args.names).await
        }
        Command::Signal(args) => act::signal(client, &args).await,
        Command::Roll(args) => roll::run(client, &args).await,
        Command::Logs(args) => logs::run(client, &args).await,
        Command::Events(args) => events::run(client, &args).await,
        Command::Report(args) => report::run(client, &args).await,
        Command::Why(args) => events::why(client, &args.name).await,
        Command::Shutdown(args) => act::shutdown(client, args.keep).await,
        Command::Demo(_)
        | Command::Daemon(_)
        | Command::Config(_)
        | Command::Import(_)
        | Command::Load(_)
        | Command::Logger(_)
        | Command::Holder(_)
        | Command::ExecAs(_)
        | Command::Gateway(_)
        | Command::Sample(_)
        | Command::Completions(_)
        | Command::Man => Ok(Exit::Usage),
    }
}
