//! Mistakes that show only beside other values.

use insta::assert_snapshot;

use super::{mistakes, of_web};

#[test]
fn a_service_needs_a_command() {
    assert_snapshot!(mistakes("[service.web]\nuser = \"www-data\"\n"), @r#"
    error: `web` has no command
     --> config.toml:1:10
      |
    1 | [service.web]
      |          ^^^ nothing says what to run
      |
      = help: add command = "program argument …"
    "#);
}

#[test]
fn names_in_braces_must_stand_for_something() {
    assert_snapshot!(of_web("directory = \"/srv/{version}\"\nenvironment = { PORT = \"{port}\" }\nrollout.build = [\"make {port}\"]\n"), @r#"
    error: `{version}` stands for nothing here
     --> config.toml:3:19
      |
    3 | directory = "/srv/{version}"
      |                   ^^^^^^^^^ not a name that is known
      |
      = help: the names here are {instance}, {port} and {service}; values of --set only reach commands, environment and expect; write {{version}} for the braces themselves

    error: `web` has no port
     --> config.toml:4:25
      |
    4 | environment = { PORT = "{port}" }
      |                         ^^^^^^ this stands for its port
      |
      = help: give it one: instance.web = { port = 9501 }

    error: `web` has no port
     --> config.toml:5:24
      |
    5 | rollout.build = ["make {port}"]
      |                        ^^^^^^ this stands for its port
      |
      = help: give it one: instance.web = { port = 9501 }
    "#);
}

#[test]
fn services_and_instances_share_their_names() {
    assert_snapshot!(mistakes("[service.web]\ncommand = \"a\"\ninstance.queue = {}\ninstance.web = {}\n[service.queue]\ncommand = \"b\"\n"), @r"
    error: `web` is a name twice: services and instances share their names
     --> config.toml:4:10
      |
    1 | [service.web]
      |          --- here it is a service
    ...
    4 | instance.web = {}
      |          ^^^ here it is an instance of `web`
      |
      = help: rename one of them

    error: `queue` is a name twice: services and instances share their names
     --> config.toml:5:10
      |
    3 | instance.queue = {}
      |          ----- here it is an instance of `web`
    4 | instance.web = {}
    5 | [service.queue]
      |          ^^^^^ here it is a service
      |
      = help: rename one of them
    ");
    assert_snapshot!(mistakes("[service.web]\ncommand = \"a\"\ninstance.web = { port = 1 }\n"), @"no mistakes");
}

#[test]
fn two_instances_have_two_ports() {
    assert_snapshot!(of_web("instance.web1 = { port = 9502 }\ninstance.web2 = { port = 9502 }\n"), @r"
    error: `web2` and `web1` have the same port 9502
     --> config.toml:4:26
      |
    3 | instance.web1 = { port = 9502 }
      |                          ---- the port of `web1`
    4 | instance.web2 = { port = 9502 }
      |                          ^^^^ only one of them could listen
      |
      = help: give each instance its own port
    ");
}

#[test]
fn dependencies_exist_and_have_an_order() {
    let text = "[service.a]\ncommand = \"a\"\ndepends_on = [\"b\", \"rediss\"]\n[service.b]\ncommand = \"b\"\ndepends_on = [\"c\"]\n[service.c]\ncommand = \"c\"\ndepends_on = [\"a\", \"c\", \"r1\"]\n[service.redis]\ncommand = \"r\"\ninstance.r1 = {}\n";
    assert_snapshot!(mistakes(text), @r#"
    error: a, b, c depend on each other in a circle
     --> config.toml:3:15
      |
    3 | depends_on = ["b", "rediss"]
      |               ^^^ a → b → c → a
      |
      = help: none of them could start first: remove one of these dependencies

    error: there is no service `rediss` to depend on
     --> config.toml:3:20
      |
    3 | depends_on = ["b", "rediss"]
      |                    ^^^^^^^^ not a service
      |
      = help: did you mean `redis`?

    error: `c` depends on itself
     --> config.toml:9:20
      |
    9 | depends_on = ["a", "c", "r1"]
      |                    ^^^ it would wait for ever
      |
      = help: remove it from the list

    error: there is no service `r1` to depend on
     --> config.toml:9:25
      |
    9 | depends_on = ["a", "c", "r1"]
      |                         ^^^^ not a service
      |
      = help: `r1` is an instance: depend on its service `redis`
    "#);
}

#[test]
fn a_service_with_no_room_to_restart_is_refused() {
    assert_snapshot!(of_web("instance = { a = {}, b = {} }\nrollout.min_ready = 2\n"), @r"
    error: `web` could never be restarted without downtime
     --> config.toml:4:21
      |
    4 | rollout.min_ready = 2
      |                     ^ all 2 instances must stay ready, so none may stop
      |
      = help: set `min_ready` to 1 or less, or add instances
    ");
    let one = of_web("rollout.min_ready = 1\n");
    assert!(one.contains("help: set `min_ready = 0`, or add instances"), "{one}");
}

#[test]
fn a_stop_ladder_fits_into_its_budget() {
    assert_snapshot!(of_web("max_wait_time = \"10s\"\nstop = [{ signal = \"QUIT\", wait = \"10s\" }, { signal = \"TERM\" }]\n"), @r#"
    error: the signals of `stop` wait longer than `max_wait_time`, which is 10s
     --> config.toml:4:35
      |
    3 | max_wait_time = "10s"
      |                 ----- the whole stop has this long
    4 | stop = [{ signal = "QUIT", wait = "10s" }, { signal = "TERM" }]
      |                                   ^^^^^ SIGKILL comes before this is over: 10s so far
      |
      = help: set max_wait_time to more than 10s, or wait less
    "#);
    assert_snapshot!(of_web("stop = [{ signal = \"QUIT\" }, { wait = \"1s\" }]\nreserve = \"1m\"\n"), @r#"
    error: this step of `stop` has no wait
     --> config.toml:3:9
      |
    3 | stop = [{ signal = "QUIT" }, { wait = "1s" }]
      |         ^^^^^^^^^^^^^^^^^^^ the next signal would follow at once
      |
      = help: add wait = "5s": how long to wait before the next signal

    error: a step of `stop` has no signal
     --> config.toml:3:30
      |
    3 | stop = [{ signal = "QUIT" }, { wait = "1s" }]
      |                              ^^^^^^^^^^^^^^^ nothing says what to send
      |
      = help: add signal = "SIGTERM"

    error: `reserve` is longer than `max_wait_time`, which is 10s
     --> config.toml:4:11
      |
    4 | reserve = "1m"
      |           ^^^^ a stop ends before this does
      |
      = help: raise max_wait_time, or make reserve shorter
    "#);
}

#[test]
fn a_probe_is_one_check_with_sensible_numbers() {
    assert_snapshot!(of_web("probe.liveness = { http.path = \"live\", tcp = {}, success_threshold = 2 }\nprobe.readiness = { period = \"1ms\" }\nprobe.startup = { exec = {}, expect.status = \"20x\", failure_threshold = 0 }\n"), @r#"
    error: the liveness probe is both `http` and `tcp`
     --> config.toml:3:40
      |
    3 | probe.liveness = { http.path = "live", tcp = {}, success_threshold = 2 }
      |                    ----                ^^^ a second check
      |                    |
      |                    the first check
      |
      = help: keep one: a probe is one check

    error: `success_threshold` of a liveness probe must be 1
     --> config.toml:3:70
      |
    3 | probe.liveness = { http.path = "live", tcp = {}, success_threshold = 2 }
      |                                                                      ^ one success is enough, as in Kubernetes
      |
      = help: remove it

    error: the readiness probe checks nothing
     --> config.toml:4:7
      |
    4 | probe.readiness = { period = "1ms" }
      |       ^^^^^^^^^ no http, tcp, grpc or exec
      |
      = help: add http.path = "/", tcp = {} or exec.command = "…"

    error: `period` must be a duration
     --> config.toml:4:30
      |
    4 | probe.readiness = { period = "1ms" }
      |                              ^^^^^ too short
      |
      = help: make it at least 10ms

    error: the exec probe has no command
     --> config.toml:5:19
      |
    5 | probe.startup = { exec = {}, expect.status = "20x", failure_threshold = 0 }
      |                   ^^^^ nothing says what to run
      |
      = help: write exec.command = "…"

    error: a probe by exec has no answer to expect something of
     --> config.toml:5:30
      |
    5 | probe.startup = { exec = {}, expect.status = "20x", failure_threshold = 0 }
      |                              ^^^^^^ only http has one
      |
      = help: remove it, or make it an http probe

    error: `status` must be a status of HTTP
     --> config.toml:5:46
      |
    5 | probe.startup = { exec = {}, expect.status = "20x", failure_threshold = 0 }
      |                                              ^^^^^ not a status
      |
      = help: write it as 200, "2xx" or "200-204"

    error: `failure_threshold` must be between 1 and 1000000
     --> config.toml:5:73
      |
    5 | probe.startup = { exec = {}, expect.status = "20x", failure_threshold = 0 }
      |                                                                         ^ too small
      |
      = help: the least is 1
    "#);
    assert_snapshot!(of_web("probe.readiness.tcp = {}\n"), @r#"
    error: the readiness probe needs a port, and `web` has none
     --> config.toml:3:17
      |
    1 | [service.web]
      |          --- this has no port
    2 | command = "php web"
    3 | probe.readiness.tcp = {}
      |                 ^^^ this asks the instance on its port
      |
      = help: give it one: instance.web = { port = 9501 }; or use exec.command
    "#);
}

#[test]
fn a_key_of_the_deck_does_one_thing() {
    assert_snapshot!(mistakes("[keys]\nterm = \"r\"\nusr1 = [\"U\", \"hyper-x\"]\nhup = \"U\"\nstop = \"ctrl-c\"\nlog-next = \"x\"\nrol = \"z\"\n"), @r#"
    error: `r` would do two things: `roll` and `term`
     --> config.toml:2:8
      |
    2 | term = "r"
      |        ^^^ here it is `term`
      |
      = help: choose another key, or give `roll` one: roll = "…"

    error: the deck knows no such key
     --> config.toml:3:14
      |
    3 | usr1 = ["U", "hyper-x"]
      |              ^^^^^^^^^ not a key
      |
      = help: write a character as "t" or "S", others as "F9", "ctrl-l", "alt-x", "space", "enter", "left", "pgup"

    error: `U` would do two things: `usr1` and `hup`
     --> config.toml:4:7
      |
    3 | usr1 = ["U", "hyper-x"]
      |         --- here it is `usr1`
    4 | hup = "U"
      |       ^^^ here it is `hup`
      |
      = help: choose another key for one of them

    error: `ctrl-c` cannot be given away
     --> config.toml:5:8
      |
    5 | stop = "ctrl-c"
      |        ^^^^^^^^ it always leads out
      |
      = help: choose another key

    error: the deck has no action `rol`
     --> config.toml:7:1
      |
    7 | rol = "z"
      | ^^^ not an action
      |
      = help: did you mean `roll`?
    "#);
}
