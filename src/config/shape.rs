//! The table of keys: what may stand where in a configuration file.
//!
//! The reader (`read.rs`) walks a file along this table and `schema.rs` prints it as JSON Schema, so
//! the two cannot disagree. Defaults are written as JSON, for the schema and for people; the values
//! themselves are filled in by `resolve/`, and a test compares the two.

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One sentence for the schema.
    pub(crate) doc: &'static str,
    /// JSON; empty where there is none.
    pub(crate) default: &'static str,
}

/// What a value must be.
pub(crate) enum Kind {
    Text,
    /// Also a number or a boolean, as text: `APP_PORT = 9501`.
    Loose,
    /// A path, relative to the directory of its file.
    Path,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// Milliseconds it must have at least.
    Duration {
        min: u64,
    },
    /// Bytes it must have at least.
    Size {
        min: u64,
    },
    Choice(&'static [Choice]),
    /// The name of a profile.
    Profile,
    /// One that may stand in a stop.
    Signal,
    AnySignal,
    /// Text that is split like a shell would, or an array of words.
    Command,
    Port,
    /// A number, or `"unlimited"`.
    Retries,
    /// `200`, `2xx`, `200-204`.
    Status,
    /// An address to listen on: `0.0.0.0:8080`, `[::]:8080`.
    Listen,
    /// A page of a server; what is secret in it is never shown.
    Url,
    /// A value in short, or a table in its place.
    Either(&'static Self, &'static [Key]),
    Pattern,
    List(&'static Self),
    /// One value or a list of them.
    OneOrMore(&'static Self),
    Table(&'static [Key]),
    /// A table whose keys are chosen by the user.
    Named(&'static Self, Naming),
    /// A feature that a later version brings, and what it will be for.
    Later(&'static str),
}

/// What the names of [`Kind::Named`] must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// A service or an instance.
    Name,
    /// An environment variable.
    Variable,
    /// A header field.
    Field,
    /// An action of the deck.
    Action,
}

/// One word of a [`Kind::Choice`].
pub(crate) enum Choice {
    Word(&'static str),
    /// Known, but not in this version; what it will be for.
    Later(&'static str, &'static str),
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, doc, default }
}

const fn later(name: &'static str, what: &'static str) -> Key {
    key(name, Kind::Later(what), "", what)
}

const fn duration(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Duration { min: 0 }, default, doc)
}

const fn count(name: &'static str, min: i64, default: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Integer { min, max: 1_000_000 }, default, doc)
}

use Choice::{Later, Word};

/// A configuration file.
pub(crate) const ROOT: &[Key] = &[
    key("deck", Kind::Table(DECK), "", "The deck itself."),
    key("defaults", Kind::Table(SERVICE), "", "Any key of a service; services inherit it."),
    key("service", Kind::Named(&Kind::Table(SERVICE), Naming::Name), "", "The services."),
    key(
        "keys",
        Kind::Named(&Kind::OneOrMore(&Kind::Text), Naming::Action),
        "",
        "Keys of the deck: action = \"key\" or a list of keys.",
    ),
    key(
        "gateway",
        Kind::Named(&Kind::Table(GATEWAY), Naming::Name),
        "",
        "What stands in front of services: a reverse proxy.",
    ),
    key("hooks", Kind::Table(HOOKS), "", "A command that is run so that somebody is paged."),
    later("k8s", "Kubernetes workloads"),
    later("kubernetes", "Kubernetes workloads"),
    later("registry", "registration with a service registry"),
    later("tars", "registration with Tars"),
    later("supervisord", "services of a running supervisord"),
    later("profile", "profiles beside services; they go into profiles/NAME.toml"),
    later("theme", "themes of your own"),
];

const HOOKS: &[Key] = &[
    key(
        "command",
        Kind::Command,
        "",
        "What is run as the daemon's own user, without a shell; it reads JSON from its input.",
    ),
    key(
        "on",
        Kind::List(&Kind::Choice(&[Word("fatal"), Word("rollout_halted"), Word("lost")])),
        "[\"fatal\", \"rollout_halted\", \"lost\"]",
        "What it is run for: an instance was given up, a rollout halted, requests were lost.",
    ),
    key(
        "timeout",
        Kind::Duration { min: 1 },
        "\"10s\"",
        "It is killed, with all it has started, after so long.",
    ),
    duration("interval", "\"1m\"", "`burst` is counted over this time."),
    count(
        "burst",
        1,
        "5",
        "It is run so often in `interval`, for each word of `on`; the rest is counted.",
    ),
];

const DECK: &[Key] = &[
    key("name", Kind::Text, "", "The name in the header; by default the host name."),
    key(
        "state_dir",
        Kind::Path,
        "",
        "State, lock and logs; by default /var/lib/opsdeck for root, else $XDG_STATE_HOME/opsdeck.",
    ),
    key("socket", Kind::Path, "", "The API socket; by default opsdeck.sock in state_dir."),
    key(
        "include",
        Kind::OneOrMore(&Kind::Text),
        "[]",
        "More files: paths relative to this one, with * and ?.",
    ),
    key("watch", Kind::Boolean, "false", "Apply edits by themselves where they stop nothing."),
    key(
        "operators",
        Kind::List(&Kind::Text),
        "[]",
        "Users and @groups who may act; by default the daemon's own user and root.",
    ),
    key("viewers", Kind::List(&Kind::Text), "[]", "Users and @groups who may look."),
    key(
        "confirm",
        Kind::Choice(&[Word("guard"), Word("always"), Word("never")]),
        "\"guard\"",
        "When the deck asks before it acts.",
    ),
    key("metrics", Kind::Listen, "", "Where Prometheus may read /metrics; by default nowhere."),
    key(
        "theme",
        Kind::Text,
        "\"default\"",
        "The colours of the deck: default, light, high-contrast, mono, or a file themes/NAME.toml beside this one.",
    ),
    key(
        "gateway_user",
        Kind::Text,
        "\"nobody\"",
        "The user the embedded gateway runs as where the daemon is root's.",
    ),
    key("mouse", Kind::Boolean, "false", "The mouse selects and scrolls in the deck."),
    key("ascii", Kind::Boolean, "false", "The deck draws with ASCII characters only."),
    key(
        "show_cost",
        Kind::Boolean,
        "false",
        "The deck tells how many bytes a second its screen costs.",
    ),
    key(
        "title",
        Kind::Boolean,
        "false",
        "The deck says how the fleet is in the title of the terminal's window (OSC 2).",
    ),
    key(
        "notify",
        Kind::Choice(&[Word("off"), Word("osc9"), Word("osc777")]),
        "\"off\"",
        "By which sequence the deck has the terminal notify of a halted rollout and of what was given up.",
    ),
    later("profiles", "profiles elsewhere; they go into profiles/NAME.toml"),
];

const FOREIGN: &str = "processes that another supervisor runs";

const SERVICE: &[Key] = &[
    key(
        "engine",
        Kind::Choice(&[
            Word("local"),
            Word("pidfile"),
            Later("supervisord", FOREIGN),
            Later("systemd", FOREIGN),
            Later("kubernetes", FOREIGN),
            Later("tars", FOREIGN),
        ]),
        "\"local\"",
        "Who runs the processes: opsdeck, or somebody else, whose `pidfile` names them.",
    ),
    key(
        "profile",
        Kind::Profile,
        "\"generic\"",
        "What signals mean to it: a built-in profile, or one of profiles/NAME.toml.",
    ),
    key(
        "command",
        Kind::Command,
        "",
        "What is run: split like a shell would, run without one; or an array of words.",
    ),
    key(
        "directory",
        Kind::Path,
        "",
        "Where it is run; by default the daemon's own working directory.",
    ),
    key(
        "environment",
        Kind::Named(&Kind::Loose, Naming::Variable),
        "{}",
        "Variables beside PATH, HOME, USER, LOGNAME, SHELL and LANG.",
    ),
    key(
        "pidfile",
        Kind::Text,
        "",
        "With engine = \"pidfile\": the file that names the process, relative to `directory`; {instance} and {port} stand in it.",
    ),
    key(
        "start",
        Kind::Command,
        "",
        "With engine = \"pidfile\": what starts it when told to; it comes back, and the file names the process.",
    ),
    key(
        "stop_command",
        Kind::Command,
        "",
        "With engine = \"pidfile\": what stops it, in place of the signals of `stop`; SIGTERM where it fails.",
    ),
    key(
        "liveness_restarts",
        Kind::Boolean,
        "false",
        "With engine = \"pidfile\": failed liveness stops it, and starts it again where there is `start`.",
    ),
    key("user", Kind::Text, "", "The user it runs as, or USER:GROUP; by default the daemon's own."),
    key(
        "no_new_privs",
        Kind::Boolean,
        "false",
        "Nothing it executes gains rights: no set-user-ID programs, no file capabilities (prctl(2)).",
    ),
    key(
        "capabilities",
        Kind::List(&Kind::Choice(&super::capability::CHOICES)),
        "",
        "What is left of root's rights, also to another user: names of capabilities(7), [] for none; by default nothing is taken away.",
    ),
    key("enabled", Kind::Boolean, "true", "Whether it is wanted; false drains and stops it."),
    key(
        "restart",
        Kind::Choice(&[Word("always"), Word("on-failure"), Word("never")]),
        "\"always\"",
        "What happens when an instance ends by itself.",
    ),
    key("retries", Kind::Retries, "\"unlimited\"", "Crashes in a row before it is given up."),
    duration(
        "max_wait_time",
        "\"10s\"",
        "The one budget of a stop: from the first moment of the drain until SIGKILL.",
    ),
    key(
        "stop",
        Kind::List(&Kind::Table(RUNG)),
        "",
        "The signals of a stop in order, each with its own wait; by default the graceful signal of the profile.",
    ),
    duration(
        "reserve",
        "",
        "What the signals need at the end of a drain; by default the server's own limit by profile (3s), at most half of max_wait_time.",
    ),
    duration(
        "drain_delay",
        "\"0s\"",
        "How long an instance stays up out of rotation when nothing counts what is in flight.",
    ),
    duration(
        "start_seconds",
        "\"1s\"",
        "Running for so long means ready where there is no readiness probe.",
    ),
    duration("stable_after", "\"60s\"", "Running for so long forgives earlier crashes."),
    key("backoff", Kind::Table(BACKOFF), "", "Waits between restarts after crashes."),
    key(
        "depends_on",
        Kind::List(&Kind::Text),
        "[]",
        "Services that are ready before it is started, and stopped after it.",
    ),
    key(
        "instance",
        Kind::Named(&Kind::Table(INSTANCE), Naming::Name),
        "",
        "Its instances; by default one that bears its name.",
    ),
    key("probe", Kind::Table(PROBES), "", "Health checks."),
    key("rollout", Kind::Table(ROLLOUT), "", "How a rolling restart goes."),
    key("log", Kind::Table(LOG), "", "Its output."),
    key(
        "load",
        Kind::Either(&Kind::Choice(&[Word("gateway"), Word("sockets")]), LOAD),
        "",
        "Where its load is read; by default what stands in front counts, else the kernel's sockets are looked at.",
    ),
    key("reload", Kind::Table(RELOAD), "", "How the reload signal of the profile is sent."),
    key(
        "socket",
        Kind::Table(SOCKET),
        "",
        "A listening socket that the daemon holds and passes to every generation (LISTEN_FDS).",
    ),
    later(
        "port",
        "one port for the whole service; ports belong to instances: instance.NAME = { port = … }",
    ),
    later("limits", "resource limits of the processes"),
    later("umask", "the umask of the processes"),
];

const LOAD: &[Key] = &[
    key(
        "swoole",
        Kind::Either(&Kind::Url, SWOOLE),
        "",
        "Server::stats() of Swoole: a route that answers it, or one of its other ways.",
    ),
    key(
        "php_fpm",
        Kind::Either(&Kind::Url, PHP_FPM),
        "",
        "The status page of a pool: fcgi://127.0.0.1:9000/status, fcgi://unix:/run/php/fpm.sock:/status, or over http.",
    ),
    key("nginx", Kind::Url, "", "The page of stub_status."),
    key("puma", Kind::Url, "", "/stats of the control app, with its token: …/stats?token=…."),
    key("prometheus", Kind::Table(PROMETHEUS), "", "Metrics of its own."),
];

const SWOOLE: &[Key] = &[
    key(
        "route",
        Kind::Url,
        "",
        "A route that answers Server::stats() as JSON: a path on the instance's port, or a URL.",
    ),
    key(
        "file",
        Kind::Path,
        "",
        "Its stats_file, as JSON or as lines; {instance} and {port} expand.",
    ),
    key(
        "admin",
        Kind::Url,
        "",
        "Its admin_server, written as there: \"127.0.0.1:9611\", \"user:password@127.0.0.1:9611\".",
    ),
];

const PHP_FPM: &[Key] = &[
    key("status", Kind::Url, "", "Its pm.status_path."),
    key(
        "status_listen",
        Kind::Boolean,
        "false",
        "This is its pm.status_listen: the process that answers is none of the pool's.",
    ),
];

const PROMETHEUS: &[Key] = &[
    key("url", Kind::Url, "", "The page: a path on the instance's port, or a URL."),
    key("requests", Kind::Text, "", "The counter of requests: name or name{label=\"value\"}."),
    key("in_flight", Kind::Text, "", "The gauge of what is in flight; a drain waits for it."),
    key(
        "counts_itself",
        Kind::Boolean,
        "false",
        "The request that asks for the page is one of those that are counted.",
    ),
];

const RELOAD: &[Key] = &[key(
    "drain",
    Kind::Boolean,
    "false",
    "Out of rotation first, the signal when nothing is in flight, back when it is ready again.",
)];

const SOCKET: &[Key] = &[
    key("listen", Kind::Listen, "", "Address and port; the server finds it open as descriptor 3."),
    key("name", Kind::Text, "", "Its name in LISTEN_FDNAMES; by default the service's."),
    count(
        "backlog",
        1,
        "4096",
        "Connections that may wait; the kernel caps it at net.core.somaxconn.",
    ),
];

/// A profile file.
pub(crate) const PROFILE: &[Key] = &[
    key("about", Kind::Text, "", "What it is for."),
    key("reload", Kind::AnySignal, "", "The signal that reloads; without one nothing does."),
    key("stop", Kind::Signal, "\"SIGTERM\"", "The signal that lets requests finish."),
    key("term_cuts", Kind::Boolean, "false", "SIGTERM cuts requests: it waits for the drain."),
    key("load", Kind::Text, "", "Where its load can be read, in words."),
    key("leaves", Kind::Text, "", "What a reload does not read again, in words."),
    key("alone", Kind::Text, "", "What its signal does to a server of one process, in words."),
    key("limit", Kind::Table(LIMIT), "", "The server's own limit for finishing."),
    key("signals", Kind::List(&Kind::Table(MEANING)), "[]", "What each signal does."),
    key(
        "roles",
        Kind::List(&Kind::Table(ROLE)),
        "[]",
        "Who is who in its tree; the first that fits.",
    ),
];

const LIMIT: &[Key] = &[
    key("name", Kind::Text, "", "What the server calls it."),
    duration(
        "default",
        "\"3s\"",
        "What it is where nobody has set it; leave it out where that is no limit.",
    ),
    count("times", 1, "1", "How many times as long a stop may take."),
];

const MEANING: &[Key] = &[
    key("signal", Kind::AnySignal, "", "SIGUSR1, USR1 or 10."),
    key("does", Kind::Text, "", "What it does there, in a few words."),
    key("harmless", Kind::Boolean, "false", "It takes no instance away: a reload, a log reopened."),
    key("renews", Kind::List(&Kind::Text), "[]", "Roles that it renews, if not those of `reload`."),
];

const ROLE: &[Key] = &[
    key("role", Kind::Text, "", "master, manager, worker."),
    key("title", Kind::Pattern, "", "A regular expression for argv[0]."),
    count("level", 1, "", "1 is the first process, 2 its children, 3 theirs."),
    count("of", 1, "", "How many levels such a tree has, 1 to 3."),
    count("threads", 1, "", "It has at least so many threads."),
    key("renewed", Kind::Boolean, "false", "A reload puts another process in its place."),
    key("stop", Kind::Signal, "\"SIGTERM\"", "The signal that lets one of them finish."),
];

const RUNG: &[Key] = &[
    key("signal", Kind::Signal, "", "SIGTERM, TERM or 15."),
    duration("wait", "", "Until the next signal; the last one waits for max_wait_time."),
];

const BACKOFF: &[Key] = &[
    key(
        "min",
        Kind::Duration { min: 1 },
        "\"1s\"",
        "The wait after the second crash in a row; it doubles.",
    ),
    key("max", Kind::Duration { min: 1 }, "\"60s\"", "The longest wait."),
];

const INSTANCE: &[Key] = &[
    key("port", Kind::Port, "", "The port it listens on; \"auto\" picks a free one at each start."),
    key("backup", Kind::Boolean, "false", "It gets requests only while no primary is ready."),
    count(
        "weight",
        1,
        "",
        "Its share of the requests; with 2 it has twice as many in flight as one with 1. Not given: 1.",
    ),
];

const PROBES: &[Key] = &[
    key("startup", Kind::Table(PROBE), "", "Passes once the server is up; the others wait for it."),
    key("liveness", Kind::Table(PROBE), "", "Failing restarts the instance."),
    key("readiness", Kind::Table(PROBE), "", "Failing takes the instance out of rotation."),
];

const PROBE: &[Key] = &[
    key("http", Kind::Table(HTTP), "", "GET on the instance's port; 200 to 399 passes."),
    key("tcp", Kind::Table(TCP), "", "A connection to the instance's port."),
    key("grpc", Kind::Table(GRPC), "", "grpc.health.v1 on the instance's port; SERVING passes."),
    key("exec", Kind::Table(EXEC), "", "A command; exit code 0 passes."),
    key("expect", Kind::Table(EXPECT), "", "What an http answer must be beyond 200 to 399."),
    duration("initial_delay", "\"0s\"", "Before the first check."),
    key("period", Kind::Duration { min: 10 }, "\"10s\"", "From check to check."),
    key("timeout", Kind::Duration { min: 10 }, "\"1s\"", "How long an answer may take."),
    count(
        "success_threshold",
        1,
        "1",
        "Successes in a row that change the verdict; 1 for startup and liveness.",
    ),
    count("failure_threshold", 1, "3", "Failures in a row that change the verdict."),
];

const HTTP: &[Key] = &[
    key("path", Kind::Text, "\"/\"", "Path and query."),
    key("headers", Kind::Named(&Kind::Loose, Naming::Field), "{}", "Header fields of the request."),
    key("host", Kind::Text, "\"127.0.0.1\"", "The address to connect to."),
];

const GRPC: &[Key] = &[
    key("service", Kind::Text, "", "The service that is asked for; by default the whole server."),
    key("host", Kind::Text, "\"127.0.0.1\"", "The address to connect to."),
];

const TCP: &[Key] = &[key("host", Kind::Text, "\"127.0.0.1\"", "The address to connect to.")];

const EXEC: &[Key] =
    &[key("command", Kind::Command, "", "Run like the service's own command, as its user.")];

const EXPECT: &[Key] = &[
    key("status", Kind::Status, "", "200, 2xx or 200-204."),
    key("body", Kind::Pattern, "", "A regular expression that must match within the first 64 KiB."),
];

const ROLLOUT: &[Key] = &[
    key(
        "build",
        Kind::List(&Kind::Command),
        "[]",
        "Commands before an instance is stopped, in its directory.",
    ),
    key("rollback", Kind::List(&Kind::Command), "[]", "Commands that undo a build."),
    key(
        "build_timeout",
        Kind::Duration { min: 1 },
        "\"10m\"",
        "How long each of these commands may take.",
    ),
    duration(
        "settle",
        "\"3s\"",
        "How long a renewed instance must stay ready before the next one.",
    ),
    count("successes", 1, "1", "Readiness checks that must pass in a row."),
    key(
        "ready_timeout",
        Kind::Duration { min: 1 },
        "\"60s\"",
        "How long an instance may take until it is ready.",
    ),
    count(
        "min_ready",
        0,
        "",
        "Instances that stay ready; by default all but one, with surge as many as before.",
    ),
    key(
        "surge",
        Kind::Boolean,
        "false",
        "Starts one more instance first, SERVICE-surge on a free port, and ends it last.",
    ),
    later("hold", "requests that wait while nothing is ready"),
];

const LOG: &[Key] = &[
    key("max_size", Kind::Size { min: 4096 }, "\"50MiB\"", "Size at which the file is rotated."),
    key("keep", Kind::Integer { min: 0, max: 1000 }, "5", "Rotated files that are kept."),
];

const GATEWAY: &[Key] = &[
    key("service", Kind::Text, "", "The service behind it; each of its instances needs a port."),
    key(
        "provider",
        Kind::Choice(&[Word("embedded"), Word("nginx")]),
        "\"embedded\"",
        "Who passes the requests on.",
    ),
    key("listen", Kind::Listen, "", "Where clients come in: address and port."),
    duration("hold", "\"5s\"", "How long a request may wait while no instance is ready."),
    count("hold_max", 0, "1000", "How many requests may wait at once."),
    duration(
        "upgrade_wait",
        "\"3s\"",
        "How long upgraded connections (WebSocket) of an instance that is taken out live on.",
    ),
    key(
        "connect_timeout",
        Kind::Duration { min: 10 },
        "\"1s\"",
        "How long an instance may take to accept a connection.",
    ),
    key(
        "answer_timeout",
        Kind::Duration { min: 10 },
        "\"60s\"",
        "How long an instance may take until its answer begins.",
    ),
    key("limits", Kind::Table(LIMITS), "", "What clients may ask for."),
    key("nginx", Kind::Table(NGINX), "", "The nginx in front, with provider = \"nginx\"."),
];

const NGINX: &[Key] = &[
    key("file", Kind::Path, "", "The include file that opsdeck owns: one upstream block."),
    key("upstream", Kind::Text, "", "What proxy_pass names; by default the gateway's name."),
    key("pid_file", Kind::Path, "\"/run/nginx.pid\"", "Where nginx's master has its pid."),
    key("test", Kind::Command, "\"nginx -t\"", "What must succeed before a reload."),
    key("reload", Kind::Command, "", "What makes nginx reload; by default SIGHUP to its master."),
    count(
        "max_fails",
        0,
        "",
        "Of every server line; by default nginx's, and 0 while only one is in.",
    ),
    key(
        "fail_timeout",
        Kind::Duration { min: 1000 },
        "",
        "Of every server line, in whole seconds; by default nginx's 10s.",
    ),
    key(
        "directives",
        Kind::List(&Kind::Text),
        "[]",
        "More lines of the block: \"keepalive 32\", \"zone shop 64k\".",
    ),
    key("switches", Kind::Path, "", "A directory of files nginx looks at instead of reloading."),
    key("access_log", Kind::Path, "", "nginx's access log of this gateway, read for its counts."),
    key(
        "log_format",
        Kind::Text,
        "\"$upstream_addr $upstream_status $upstream_response_time\"",
        "How nginx writes it: its log_format, whatever else stands in it.",
    ),
    key("stub_status", Kind::Text, "", "The URL of nginx's stub_status page, for its connections."),
];

const LIMITS: &[Key] = &[
    count("connections", 1, "10000", "Connections of clients at once."),
    key(
        "header_size",
        Kind::Size { min: 8192 },
        "\"32KiB\"",
        "Request line and header fields together.",
    ),
    key(
        "buffer",
        Kind::Size { min: 0 },
        "\"64KiB\"",
        "Bodies up to this size are kept until the answer begins, to be sent again.",
    ),
    key("body_size", Kind::Size { min: 1 }, "\"1GiB\"", "The largest body of a request."),
    key(
        "header_timeout",
        Kind::Duration { min: 10 },
        "\"10s\"",
        "How long a client may take for the head of a request.",
    ),
    key(
        "idle_timeout",
        Kind::Duration { min: 10 },
        "\"75s\"",
        "How long a connection without a request stays open.",
    ),
    key(
        "body_timeout",
        Kind::Duration { min: 10 },
        "\"30s\"",
        "How long a client may neither send nor take a byte of a body.",
    ),
];
