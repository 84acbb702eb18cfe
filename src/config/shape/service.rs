//! Keys of a service.

use super::Choice::{Later, Word};
use super::load::LOAD;
use super::probe::PROBES;
use super::{Key, Kind, Naming, count, duration, key, later};
use crate::config::capability;

const FOREIGN: &str = "processes that another supervisor runs";

pub(super) const SERVICE: &[Key] = &[
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
        Kind::List(&Kind::Choice(&capability::CHOICES)),
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
        "What the signals need at the end of a drain; by default the server's own limit by profile and one second (3s where none is known), at most half of max_wait_time.",
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
