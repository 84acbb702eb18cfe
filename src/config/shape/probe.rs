//! Keys of the probes.

use super::{Key, Kind, Naming, count, duration, key};

pub(super) const PROBES: &[Key] = &[
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
