//! Keys of a gateway.

use super::Choice::Word;
use super::{Key, Kind, count, duration, key};

pub(super) const GATEWAY: &[Key] = &[
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
