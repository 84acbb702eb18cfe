//! Keys that say where the load of a service is read.

use super::{Key, Kind, key};

pub(super) const LOAD: &[Key] = &[
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
