//! The command line: every flag, its type, its help. What the commands do is in `commands/`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::loadgen::LoadArgs;
use crate::sample::SampleArgs;

/// An operations console for the person who has just logged in to a host to keep its servers running.
///
/// Without a command: the deck, a screen that lists what runs and acts at a key press. It attaches to
/// the daemon of this deck, and starts one in the background if none runs.
#[derive(Debug, Parser)]
#[command(name = "opsdeck", version, after_help = crate::exit::table())]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,

    #[command(flatten)]
    pub deck: DeckArgs,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Which deck is meant. Before or after any command.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// The configuration file [default: /etc/opsdeck/config.toml for root, else $XDG_CONFIG_HOME/opsdeck/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which deck")]
    pub config: Option<PathBuf>,

    /// The daemon's socket [default: opsdeck.sock in the state directory]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Which deck")]
    pub socket: Option<PathBuf>,
}

/// How the deck is shown.
#[derive(Clone, Debug, Default, Args)]
pub struct DeckArgs {
    /// Look, but do not act: acting keys are unbound
    #[arg(long)]
    pub read_only: bool,

    /// Do not start a daemon if none runs
    #[arg(long)]
    pub no_start: bool,

    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,

    /// The colours: default, light, high-contrast, mono, or a theme of your own
    #[arg(long, value_name = "NAME")]
    pub theme: Option<String>,

    /// The mouse selects and scrolls; the terminal's own selection then needs shift
    #[arg(long)]
    pub mouse: bool,

    /// Tell how many bytes a second the screen costs
    #[arg(long)]
    pub show_cost: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The deck on built-in sample servers under load, in a throwaway directory
    Demo(DemoArgs),
    /// The daemon in the foreground: supervises, probes, runs rollouts (for systemd and containers)
    Daemon(DaemonArgs),
    /// What is running; exits with 3 if something is not as wanted, with 4 if no daemon answers
    Status(StatusArgs),
    /// Start services or instances
    Start(ActArgs),
    /// Stop services or instances through their ladders
    Stop(StopArgs),
    /// Restart services or instances in place
    Restart(ActArgs),
    /// Take instances out of rotation and hold them there
    Drain(DrainArgs),
    /// Put instances back in rotation
    Undrain(UndrainArgs),
    /// Send a signal; SIGTERM is a restart through the ladder
    Signal(SignalArgs),
    /// Send the reload signal of the profile, instance by instance
    Reload(ReloadArgs),
    /// A rolling restart of a service, with its progress
    Roll(RollArgs),
    /// What services wrote; several names are interleaved
    Logs(LogsArgs),
    /// The journal: what happened and who did it
    Events(EventsArgs),
    /// A post-mortem of a service's last rollout, as Markdown
    Report(ReportArgs),
    /// Why a service or an instance is in the state it is in
    Why(WhyArgs),
    /// Check, show, compare and apply the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Turn the configuration of another program into a beginning of ours
    #[command(subcommand)]
    Import(ImportCommand),
    /// Stop all services in reverse order of their dependencies, then the daemon
    Shutdown(ShutdownArgs),
    /// A polite load generator that counts every failed request; exits with 1 if any failed
    Load(LoadArgs),
    /// A sample server that behaves, or misbehaves, like the servers opsdeck exists for
    Sample(SampleArgs),
    /// Print what makes a shell complete commands, flags and names of files
    Completions(CompletionsArgs),
    /// Print the manual page: opsdeck man | man -l -
    Man,
    /// Take services' output into rotating files (the daemon starts it)
    #[command(hide = true)]
    Logger(LoggerArgs),
    /// Hold the pipes of the services open (the daemon starts it)
    #[command(hide = true)]
    Holder(LoggerArgs),
    /// Carry requests to the services' instances (the daemon starts it and tells it where to)
    #[command(hide = true)]
    Gateway(GatewayArgs),
    /// Change user and limits, then execute (the daemon starts it)
    #[command(hide = true)]
    ExecAs(ExecAsArgs),
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Start the sample services and print how to reach them, without the deck
    #[arg(long)]
    pub headless: bool,
}

#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Make this program the daemon that runs: same pid, services and clients stay
    #[arg(long)]
    pub replace: bool,

    /// Only read the configuration and the state, and say the version (a daemon that is to be replaced asks)
    #[arg(long, hide = true)]
    pub check: bool,

    /// Watch that a next program comes up (the daemon starts it)
    #[arg(long, hide = true, value_name = "FDS", value_delimiter = ',')]
    pub guard: Vec<i32>,

    /// How long a program that replaces another may take until it is up
    #[arg(long, hide = true, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub trial: Duration,

    /// Log more: warn, info, debug, trace, or a filter such as opsdeck::daemon=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Services or instances [default: all]
    pub names: Vec<String>,

    /// Print the API's snapshot, without --watch with the process tree of each instance
    #[arg(long)]
    pub json: bool,

    /// Again whenever something changes, in place on a terminal, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct ActArgs {
    /// Services or instances
    #[arg(required = true)]
    pub names: Vec<String>,

    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Services or instances
    #[arg(required = true)]
    pub names: Vec<String>,

    /// Also where it is dangerous: the process does not catch the signal and will be killed
    #[arg(long)]
    pub yes: bool,

    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Instances; of a service all of them
    #[arg(required = true)]
    pub names: Vec<String>,

    /// Also the last one of a service that is ready
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct UndrainArgs {
    /// Instances; of a service all of them
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// Services or instances
    #[arg(required = true)]
    pub names: Vec<String>,

    /// SIGKILL at once, without the ladder
    #[arg(long)]
    pub now: bool,

    #[command(flatten)]
    pub wait: Wait,
}

/// Whether to come back before it is done.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Wait until it is done (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,

    /// Come back as soon as the daemon has begun
    #[arg(long)]
    no_wait: bool,
}

impl Wait {
    pub fn is_wanted(self) -> bool {
        self.wait || !self.no_wait
    }
}

#[derive(Debug, Args)]
pub struct SignalArgs {
    /// SIGUSR1, USR1, 10, SIGRTMIN+1, …
    #[arg(value_parser = signal)]
    pub signal: String,

    /// Instances
    #[arg(required = true)]
    pub names: Vec<String>,

    /// To this process of its tree instead of its main process; `status --json NAME` lists them
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,

    /// Also a signal that the process does not catch and that will kill it
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("verb").multiple(false))]
pub struct RollArgs {
    /// The service
    pub service: String,

    /// Print the plan, step by step, and change nothing
    #[arg(long, conflicts_with = "verb")]
    pub dry_run: bool,

    /// A value for {NAME} in commands, environment and `expect`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, conflicts_with = "verb")]
    pub set: Vec<(String, String)>,

    /// Also when the plan means downtime, or a rollback takes back what is well
    #[arg(long)]
    pub yes: bool,

    /// End the rollout that runs: before the signal the instance goes back into rotation
    #[arg(long, group = "verb")]
    pub abort: bool,

    /// Hold the rollout after the step it is in
    #[arg(long, group = "verb")]
    pub pause: bool,

    /// Go on with a paused rollout
    #[arg(long, group = "verb")]
    pub resume: bool,

    /// Run the `rollback` commands, then renew the renewed instances again
    #[arg(long, group = "verb")]
    pub rollback: bool,

    /// Print the plan, or in the end the record of the rollout, as JSON; the progress goes to stderr
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Services or instances
    #[arg(required = true)]
    pub names: Vec<String>,

    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,

    /// The last so many lines of each [default: 100 without --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,

    /// Not older than this: 10m, 2h, 30s
    #[arg(long, value_name = "AGO", value_parser = duration)]
    pub since: Option<Duration>,

    /// Only lines that match this regular expression
    #[arg(long, value_name = "RE", value_parser = pattern)]
    pub grep: Option<String>,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with what happens from now on, also when the daemon is replaced
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,

    /// The last so many [default: 100 without --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,

    /// Not older than this: 10m, 2h, "2026-01-31 10:42" (local time), 2026-01-31T10:42:17Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<String>,

    /// Not newer than this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<String>,

    /// Only of this service or instance
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// Only what this user did
    #[arg(long, value_name = "USER")]
    pub actor: Option<String>,

    /// Only of this kind, or a part of it: exited, rollout, restart
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,

    /// One JSON record a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The service
    pub service: String,

    /// About the rollout that runs, or the last one (the default: there is no other report)
    #[arg(long)]
    pub last_rollout: bool,

    /// Print the record that the report is made of
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A service or an instance
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake of a file, with its line and what to do
    Check {
        /// [default: the deck's own file]
        file: Option<PathBuf>,
    },
    /// Print the configuration as its file says it, with every default filled in
    Show,
    /// What applying the file would start, stop and change
    Diff {
        /// [default: the deck's own file]
        file: Option<PathBuf>,

        /// Print what the API says of it; an empty list where nothing changes
        #[arg(long)]
        json: bool,
    },
    /// Apply the deck's own file
    Apply {
        /// Also when more than half of the services would stop
        #[arg(long)]
        yes: bool,
    },
    /// Print the JSON schema of the file, for editors
    Schema,
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Print the upstream blocks of an nginx configuration as services with a gateway
    Nginx {
        /// What it includes is named, not read
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ShutdownArgs {
    /// Leave the services running: the next daemon takes them over
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct LoggerArgs {
    /// Where the FIFOs are
    pub runtime_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// A listening Unix stream socket, for the daemon to connect to
    #[arg(long, value_name = "FD")]
    pub control_fd: i32,

    /// A listening TCP socket and the gateway it belongs to
    #[arg(long, value_name = "NAME=FD", value_parser = listener)]
    pub listener: Vec<(String, i32)>,

    /// A memory file for the numbers in flight, to be read after a crash
    #[arg(long, value_name = "FD")]
    pub shared_fd: Option<i32>,

    /// Become this user before the first client is served; only root can
    #[arg(long)]
    pub user: Option<String>,
}

#[derive(Debug, Args)]
pub struct ExecAsArgs {
    /// What the daemon passes on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<std::ffi::OsString>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, as in version=43")?;
    if !crate::config::settings::is_name(name) {
        return Err(format!("`{name}` is no name: letters, digits and `_`"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn listener(text: &str) -> Result<(String, i32), String> {
    let pair =
        text.rsplit_once('=').and_then(|(name, fd)| Some((name.to_owned(), fd.parse().ok()?)));
    pair.ok_or_else(|| "expected NAME=FD, as in shop=5".to_owned())
}

fn signal(text: &str) -> Result<String, String> {
    match crate::config::is_signal(text) {
        true => Ok(text.to_owned()),
        false => Err("neither a name such as SIGUSR1 nor a number from 1 to 64".into()),
    }
}

fn pattern(text: &str) -> Result<String, String> {
    // Its rendering has lines and a caret of its own.
    regex::Regex::new(text).map(|_| text.to_owned()).map_err(|err| format!("\n{err}"))
}

/// A duration as it is, a time as RFC 3339 writes it in UTC. What `events` prints is understood.
fn moment(text: &str) -> Result<String, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.to_string());
    }
    let local = text.parse::<jiff::civil::DateTime>();
    if let Ok(at) = local.and_then(|it| it.to_zoned(jiff::tz::TimeZone::system())) {
        return Ok(at.timestamp().to_string());
    }
    let why = |why| format!("{why}, or a time as 2026-01-31T10:42:17Z or \"2026-01-31 10:42\"");
    crate::quantity::parse_duration(text).map(|_| text.to_owned()).map_err(why)
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::quantity::parse_duration(text)
}
