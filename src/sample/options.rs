//! What `opsdeck sample` can be told, on the command line and nowhere else.

use std::time::Duration;

use crate::quantity::{parse_duration, parse_size};

/// The sample server, or with `--worker` a sample worker.
#[derive(Clone, Debug, clap::Args)]
pub struct SampleArgs {
    /// Port to listen on; 0 lets the kernel pick one, which is then printed
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Accept on the socket that was passed as descriptor 3 (LISTEN_FDS, LISTEN_PID)
    #[arg(long, conflicts_with_all = ["port", "host"])]
    pub listen_fd: bool,
    /// How long each request to / (or each job of a worker) takes
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    pub work: Duration,
    /// Name that the answers begin with
    #[arg(long, default_value = "sample")]
    pub name: String,
    /// Version that the answers of / and /readiness name
    #[arg(long, value_name = "VERSION", default_value = "42")]
    pub app_version: String,
    /// How long what is in flight may take after SIGTERM before it is cut
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub max_wait_time: Duration,
    /// Print a line per request
    #[arg(long)]
    pub access_log: bool,
    /// Catch SIGHUP; without this it ends the process, as the kernel does by default
    #[arg(long)]
    pub catch_hup: bool,
    /// Listen on no port: do one job after another and print a line for each
    #[arg(long, conflicts_with_all = ["port", "host", "access_log", "listen_fd"])]
    pub worker: bool,
    /// How often a worker begins a job
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub print_every: Duration,
    /// Be a tree of processes as this server builds it
    #[arg(long, conflicts_with = "worker")]
    pub tree: Option<Tree>,
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub faults: Faults,
    /// What a re-executed sample is for; not for people
    #[arg(long, hide = true)]
    pub role: Option<Role>,
}

impl SampleArgs {
    /// It plays a server whose workers are threads.
    pub(super) fn has_threads(&self) -> bool {
        self.tree == Some(Tree::Swoole) && self.shape.mode == Mode::Thread
    }

    /// It closes every connection at SIGTERM.
    pub(super) fn cuts_at_term(&self) -> bool {
        self.faults.cut_at_term || self.has_threads()
    }
}

/// What the tree of `--tree` consists of.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Trees")]
pub struct Shape {
    /// How a Swoole server is built
    #[arg(long, requires = "tree", default_value = "process")]
    pub mode: Mode,
    /// How many workers accept requests
    #[arg(long, requires = "tree", value_name = "N", default_value_t = 2)]
    pub workers: usize,
    /// How many of Swoole's task workers there are beside them
    #[arg(long, requires = "tree", value_name = "N", default_value_t = 0)]
    pub task_workers: usize,
    /// Have one of Swoole's user processes, which a reload leaves alone
    #[arg(long, requires = "tree")]
    pub user_process: bool,
    /// Give the processes titles as Hyperf can: sample.Worker.0
    #[arg(long, requires = "tree")]
    pub titles: bool,
    /// Which process of the tree this is; not for people
    #[arg(long, hide = true, requires = "tree")]
    pub part: Option<Part>,
    /// Its number among those; not for people
    #[arg(long, hide = true, default_value_t = 0)]
    pub number: usize,
    /// The descriptor of the listening socket; not for people
    #[arg(long, hide = true)]
    pub inherited: Option<i32>,
}

/// Whose tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tree {
    /// Master, manager, workers; SIGUSR1 replaces the workers
    Swoole,
    /// Master, workers; SIGUSR2 replaces them all, SIGQUIT stops gracefully, SIGTERM at once
    Fpm,
}

/// How a Swoole server is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A master, below it a manager, below that the workers (SWOOLE_PROCESS)
    Process,
    /// A manager, below it the workers (SWOOLE_BASE)
    Base,
    /// One process that is everything, and that no signal reloads (SWOOLE_BASE with one worker)
    Single,
    /// One process whose workers are threads (SWOOLE_THREAD): SIGUSR1 and SIGTERM close every connection at once
    Thread,
}

impl Mode {
    /// It is a single process.
    pub(super) fn is_alone(self) -> bool {
        matches!(self, Self::Single | Self::Thread)
    }
}

/// What a process of a tree is, other than its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    Manager,
    Worker,
    TaskWorker,
    UserProcess,
}

/// How the sample misbehaves.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Misbehaviour")]
pub struct Faults {
    /// Go on as if SIGTERM had not come
    #[arg(long)]
    pub ignore_term: bool,
    /// Drop every connection at SIGTERM, then exit
    #[arg(long)]
    pub cut_at_term: bool,
    /// Live on for so long after --cut-at-term, as workers do that finish what nobody waits for any more
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub linger: Duration,
    /// Keep the listener open while draining and never accept, as Swoole does
    #[arg(long)]
    pub deaf_drain: bool,
    /// Listen and never accept
    #[arg(long)]
    pub deaf: bool,
    /// Let so many connections wait to be accepted (listen(2))
    #[arg(long, value_name = "N")]
    pub backlog: Option<u32>,
    /// Share the port with whoever does the same (SO_REUSEPORT)
    #[arg(long)]
    pub reuse_port: bool,
    /// Close every kept connection at SIGUSR1, once its request is answered
    #[arg(long)]
    pub close_on_reload: bool,
    /// Tell another `concurrency` in /stats than what is in flight
    #[arg(long, value_name = "HOW")]
    pub concurrency: Option<Concurrency>,
    /// Listen only after this time
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub start_delay: Duration,
    /// Be ready only this time after listening
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub ready_delay: Duration,
    /// Never be ready
    #[arg(long)]
    pub never_ready: bool,
    /// Be ready and not ready in turns of this length
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub flip_ready: Option<Duration>,
    /// Answer 200 with an empty body, whatever is asked
    #[arg(long)]
    pub empty_body: bool,
    /// Accept /liveness and never answer it
    #[arg(long)]
    pub hang_liveness: bool,
    /// Exit by itself after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub crash_after: Option<Duration>,
    /// Exit before doing anything
    #[arg(long)]
    pub exit_at_once: bool,
    /// Exit code of --crash-after and --exit-at-once
    #[arg(long, value_name = "CODE", default_value_t = 255)]
    pub exit_code: u8,
    /// Last words of --crash-after and --exit-at-once, on stderr
    #[arg(long, value_name = "TEXT")]
    pub say: Option<String>,
    /// Start a process that leaves the group and lives on
    #[arg(long)]
    pub fork_grandchild: bool,
    /// Write this much a second to stdout
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub flood: Option<u64>,
    /// Write the flood as one line that never ends
    #[arg(long, requires = "flood")]
    pub no_newline: bool,
}

/// How `concurrency` of Swoole differs from what is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Concurrency {
    /// Only the request that asks counts: all others came over TCP
    Never,
    /// One more counts for ever, of a worker that died (5.1.0 to 5.1.4)
    Phantom,
}

/// What a sample that was started by a sample does instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Leaves the session of its parent and waits for its own end.
    Grandchild,
    /// Dies of SIGTERM.
    Casualty,
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SampleArgs,
    }

    /// Reads a command line as the shell would split it.
    pub(in crate::sample) fn args(line: &str) -> SampleArgs {
        Line::try_parse_from(["sample"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    fn refusal(line: &str) -> String {
        let words = ["sample"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).err().unwrap().to_string()
    }

    #[test]
    fn a_bare_sample_listens_anywhere_and_drains_for_3_s() {
        let args = args("");
        assert_eq!((args.port, args.host.as_str()), (0, "127.0.0.1"));
        assert_eq!(args.work, Duration::from_millis(100));
        assert_eq!(args.max_wait_time, Duration::from_secs(3));
        assert_eq!(args.faults.exit_code, 255);
    }

    #[test]
    fn times_and_sizes_have_units() {
        let args = args("--work 1m30s --flood 100MiB --no-newline");
        assert_eq!(args.work, Duration::from_secs(90));
        assert_eq!(args.faults.flood, Some(104_857_600));
        assert!(refusal("--work 8").contains("`8` is a number without a unit"));
    }

    #[test]
    fn a_worker_has_no_port_and_only_a_flood_has_no_newline() {
        assert!(refusal("--worker --port 80").contains("cannot be used with"));
        assert!(refusal("--no-newline").contains("--flood"));
    }
}
