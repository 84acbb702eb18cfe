//! Files in which nearly everything is wrong: all of it is told, and what to do.

use insta::assert_snapshot;

use super::{first_lines, mistakes};

/// As many kinds of mistakes as there are, in one file.
const HORRIBLE: &str = include_str!("horrible.toml");

#[test]
fn every_mistake_says_what_to_do_and_none_follows_from_another() {
    let told = mistakes(HORRIBLE);
    let silent: Vec<_> = told.split("\nerror: ").filter(|it| !it.contains("= help: ")).collect();
    assert_eq!(silent, Vec::<&str>::new());
    assert_snapshot!(first_lines(HORRIBLE), @r#"
    config.toml:2: unknown key `nmae`
    config.toml:3: `state_dir` must be text
    config.toml:4: the path of a socket has at most 107 bytes
    config.toml:5: `include` must be text
    config.toml:6: `watch` must be true or false
    config.toml:8: `confirm` cannot be "maybe"
    config.toml:9: `metrics` must be an address and a port
    config.toml:12: `max_wait_time` must be a duration
    config.toml:13: `retries` must be between 0 and 1000000
    config.toml:15: `engine = "supervisord"` is not in this version of opsdeck
    config.toml:18: `command` cannot be run
    config.toml:19: unknown key `comand`
    config.toml:20: `profile` cannot be "swole"
    config.toml:21: `restart` cannot be "allways"
    config.toml:23: `signal` must be a signal
    config.toml:23: the signals of `stop` wait longer than `max_wait_time`, which is 5s
    config.toml:24: there is no service `redsi` to depend on
    config.toml:24: `web` depends on itself
    config.toml:26: `web2` and `web1` have the same port 9502
    config.toml:26: unknown key `bakcup`
    config.toml:27: `port` must be a number
    config.toml:28: `port` must be between 1 and 65535
    config.toml:29: unknown key `htp`
    config.toml:30: `path` must begin with a slash and have no blanks
    config.toml:30: `period` must be a duration
    config.toml:30: `timeout` must be a duration
    config.toml:31: the startup probe is both `http` and `tcp`
    config.toml:32: `web` could never be restarted without downtime
    config.toml:32: `settle` must be a duration
    config.toml:32: `successes` must be between 1 and 1000000
    config.toml:32: unknown key `bulid`
    config.toml:33: `max_size` must be a size
    config.toml:33: `keep` must be between 0 and 1000
    config.toml:34: this cannot be the name of a variable
    config.toml:34: `OK` must be text
    config.toml:35: nothing stands in front of `web` that could count
    config.toml:38: `command` cannot be run
    config.toml:39: `{instnace}` stands for nothing here
    config.toml:40: the readiness probe needs a port, and `queue` has none
    config.toml:43: `a` has no port
    config.toml:44: a, b, c depend on each other in a circle
    config.toml:53: `engine = "systemd"` is not in this version of opsdeck
    config.toml:56: this cannot be the name of a service or an instance
    config.toml:59: unknown key `servcie`
    config.toml:62: the gateway `shop` has no service behind it
    config.toml:65: `registry` is not in this version of opsdeck
    config.toml:69: the deck knows no such key
    config.toml:70: the deck has no action `stopp`
    config.toml:74: `command` must be text or a list of words
    config.toml:76: `enabled` must be true or false
    config.toml:77: `backoff.min` is 1m, longer than `backoff.max`
    config.toml:78: `drain_delay` is longer than `max_wait_time`, which is 10s
    config.toml:79: `reserve` is longer than `max_wait_time`, which is 10s
    config.toml:80: `stable_after` must be a duration
    config.toml:81: `start_seconds` must be a duration
    config.toml:82: unknown key `drain_dealy`
    config.toml:83: `stop` names no signal
    config.toml:86: `command` cannot be run
    config.toml:87: `max_wait_time` must be a duration
    config.toml:88: the exec probe has no command
    config.toml:88: `success_threshold` of a liveness probe must be 1
    config.toml:88: a probe by exec has no answer to expect something of
    config.toml:88: `status` must be a status of HTTP
    config.toml:89: the readiness probe checks nothing
    config.toml:90: this cannot be the name of a header field
    config.toml:90: the startup probe is both `http` and `exec`
    config.toml:90: `command` cannot be run
    config.toml:91: a step of `stop` has no signal
    config.toml:91: `signal` must be a signal
    config.toml:92: `max` must be a duration
    config.toml:93: `max_size` must be a size
    config.toml:93: `keep` must be a whole number
    config.toml:94: `retries` must be a whole number or "unlimited"
    config.toml:95: `directory` is not a path
    config.toml:96: `user` must be a user of this host
    config.toml:97: `umask` is not in this version of opsdeck
    config.toml:100: unknown key `x`
    config.toml:102: the port of `list` cannot be picked
    config.toml:104: `enabled` must be true or false
    config.toml:105: `list` is a name twice: services and instances share their names
    config.toml:106: `t2` must be a table
    config.toml:107: `body` is not a regular expression
    config.toml:108: `depends_on` must be a list
    config.toml:110: `empty` has no command
    "#);
}

#[test]
fn torn_toml_is_told_line_by_line_with_what_to_do() {
    let text = "[deck]\nname = shop\n[service.web]\ncommand = \"php web\nretries = = 3\ninstance.web1 = { port = 1, backup = }\n[service.queue\ncommand = \"q\"\n[service.z]\ncommand = \"z\"\ncommand = \"zz\"\n";
    let told = mistakes(text);
    let silent: Vec<_> = told.split("\nerror: ").filter(|it| !it.contains("= help: ")).collect();
    assert_eq!(silent, Vec::<&str>::new());
    assert_snapshot!(first_lines(text), @r#"
    config.toml:2: this is not TOML: string values must be quoted
    config.toml:4: this is not TOML: invalid basic string
    config.toml:5: this is not TOML: extra `=`
    config.toml:6: this is not TOML: invalid literal string
    config.toml:7: this is not TOML: unclosed table
    config.toml:11: `command` is given twice
    "#);
}

#[test]
fn a_circle_of_a_thousand_is_told_in_a_line() {
    let service = |n: usize| {
        format!("[service.s{n}]\ncommand = \"s\"\ndepends_on = [\"s{}\"]\n", (n + 1) % 1000)
    };
    let told = mistakes(&(0..1000).map(service).collect::<String>());
    assert!(told.contains("s0, s1, s2, s3, s4, s5, s6, s7 and 992 more depend"), "{told}");
    assert!(told.contains("→ s7 → … 992 more → s0"), "{told}");
    assert!(told.contains("config.toml:3:15"), "{told}");
}
