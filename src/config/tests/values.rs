//! Mistakes that a value makes by itself.

use insta::assert_snapshot;

use super::{first_lines, mistakes, of_web};

#[test]
fn a_misspelled_key_is_told_and_the_one_that_was_meant_is_not_missed() {
    assert_snapshot!(mistakes("[service.web]\ncomand = \"php web\"\n"), @r#"
    error: unknown key `comand`
     --> config.toml:2:1
      |
    2 | comand = "php web"
      | ^^^^^^ no key has this name here
      |
      = help: did you mean `command`?
    "#);
}

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    assert_snapshot!(of_web("log = { destination = \"/var/log\" }"), @r#"
    error: unknown key `destination`
     --> config.toml:3:9
      |
    3 | log = { destination = "/var/log" }
      |         ^^^^^^^^^^^ no key has this name here
      |
      = help: the keys here are max_size, keep
    "#);
}

#[test]
fn a_number_is_no_duration_and_no_size() {
    assert_snapshot!(of_web("max_wait_time = 10\nlog.max_size = 50\n"), @r#"
    error: `max_wait_time` must be a duration
     --> config.toml:3:17
      |
    3 | max_wait_time = 10
      |                 ^^ a number without a unit
      |
      = help: write it as "300ms", "10s", "1m30s" or "2h"

    error: `max_size` must be a size
     --> config.toml:4:16
      |
    4 | log.max_size = 50
      |                ^^ a number without a unit
      |
      = help: write it as "50MiB", "1GiB" or "500kB"
    "#);
}

#[test]
fn words_and_signals_are_known_ones() {
    assert_snapshot!(of_web("restart = \"allways\"\nstop = [{ signal = \"SIGTREM\" }]\n"), @r#"
    error: `restart` cannot be "allways"
     --> config.toml:3:11
      |
    3 | restart = "allways"
      |           ^^^^^^^^^ not one of its words
      |
      = help: did you mean `always`?

    error: `signal` must be a signal
     --> config.toml:4:20
      |
    4 | stop = [{ signal = "SIGTREM" }]
      |                    ^^^^^^^^^ not a signal of Linux
      |
      = help: write it as "SIGTERM", "TERM" or "15"
    "#);
}

#[test]
fn types_are_told_by_name() {
    assert_snapshot!(of_web("enabled = \"yes\"\nrollout.build = \"make\"\ninstance = 2\n"), @r#"
    error: `enabled` must be true or false
     --> config.toml:3:11
      |
    3 | enabled = "yes"
      |           ^^^^^ this is text
      |
      = help: write true or false, without quotes

    error: `build` must be a list
     --> config.toml:4:17
      |
    4 | rollout.build = "make"
      |                 ^^^^^^ this is text
      |
      = help: write build = [ … ]

    error: `instance` must be a table
     --> config.toml:5:12
      |
    5 | instance = 2
      |            ^ this is a whole number
      |
      = help: write instance = { … }
    "#);
}

#[test]
fn a_port_has_a_range() {
    assert_snapshot!(of_web("instance = { a = { port = 70000 }, b = { port = \"auto\" }, c = { port = \"80\" } }"), @r#"
    error: the port of `b` cannot be picked
     --> config.toml:1:10
      |
    1 | [service.web]
      |          ^^^ it is not told which port was picked
      |
      = help: pass {port} in `command` or `environment`, or write the port that it has

    error: `port` must be between 1 and 65535
     --> config.toml:3:27
      |
    3 | instance = { a = { port = 70000 }, b = { port = "auto" }, c = { port = "80" } }
      |                           ^^^^^ too large
      |
      = help: the most is 65535

    error: `port` must be a number
     --> config.toml:3:72
      |
    3 | instance = { a = { port = 70000 }, b = { port = "auto" }, c = { port = "80" } }
      |                                                                        ^^^^ this is text
      |
      = help: write it without quotes
    "#);
}

#[test]
fn a_port_that_is_picked_has_to_be_told_and_is_no_socket_and_no_line_of_an_nginx() {
    let gateway = "[gateway.g]\nservice = \"a\"\nprovider = \"nginx\"\nnginx.file = \"/n\"\n";
    let text = format!(
        "[service.a]\ncommand = \"a\"\ninstance.a1 = {{ port = \"auto\" }}\n[service.b]\ncommand = \"b {{port}}\"\ninstance.b1 = {{ port = \"auto\" }}\nsocket.listen = 80\n{gateway}"
    );
    assert_snapshot!(mistakes(&text), @r#"
    error: the port of `a1` cannot be picked
     --> config.toml:1:10
      |
    1 | [service.a]
      |          ^ it is not told which port was picked
      |
      = help: pass {port} in `command` or `environment`, or write the port that it has

    error: the port of `b1` cannot be picked
     --> config.toml:4:10
      |
    4 | [service.b]
      |          ^ it accepts on the socket of its service
      |
      = help: remove port = "auto", or the socket

    error: the port of `a1` is picked when it starts
     --> config.toml:8:10
      |
    8 | [gateway.g]
      |          ^ nginx would have to be reloaded for each start
      |
      = help: give it one: instance.a1 = { port = 9501 }
    "#);
    let text = "[service.a]\ncommand = \"a {port}\"\ninstance.a1 = { port = \"auto\", weight = 2 }\nprobe.readiness.tcp = {}\n[gateway.g]\nservice = \"a\"\nlisten = 80\n";
    let settings =
        crate::config::parse("c", text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    let service = &settings.services[0];
    assert!(service.rules.instances[0].auto_port);
    let picked = service.picked("a1", Some(7)).unwrap();
    assert_eq!(
        (picked.port, picked.weight, picked.launch.argv[1].0.as_str()),
        (Some(7), Some(2), "7")
    );
    assert_eq!(service.picked("a", Some(7)), None);
}

#[test]
fn a_command_is_no_shell_script() {
    assert_snapshot!(mistakes("[service.a]\ncommand = \"echo $HOME > /tmp/x\"\n[service.b]\ncommand = \"echo 'x\"\n[service.c]\ncommand = \"A=1 php\"\n"), @r#"
    error: `command` cannot be run
     --> config.toml:2:11
      |
    2 | command = "echo $HOME > /tmp/x"
      |           ^^^^^^^^^^^^^^^^^^^^^ `$HOME` would not be expanded: commands run without a shell
      |
      = help: to use a shell, say so: ["sh", "-c", "…"] or sh -c 'echo $HOME > /tmp/x'; to pass it on as it is, quote it

    error: `command` cannot be run
     --> config.toml:4:11
      |
    4 | command = "echo 'x"
      |           ^^^^^^^^^ a quote that is never closed
      |
      = help: close the quote, or write the command as an array of words

    error: `command` cannot be run
     --> config.toml:6:11
      |
    6 | command = "A=1 php"
      |           ^^^^^^^^^ a variable in front of the command: commands run without a shell
      |
      = help: set it with environment = { NAME = "value" }
    "#);
}

#[test]
fn names_are_made_of_letters_and_digits() {
    assert_snapshot!(mistakes("[service.\"a b\"]\ncommand = \"a\"\n"), @r#"
    error: this cannot be the name of a service or an instance
     --> config.toml:1:10
      |
    1 | [service."a b"]
      |          ^^^^^ not a name
      |
      = help: use 1 to 64 letters a to z or A to Z, digits, dots, `_` and `-`, beginning with a letter or a digit
    "#);
}

#[test]
fn a_pattern_is_a_regular_expression() {
    assert_snapshot!(of_web("instance.a.port = 1\nprobe.readiness = { http = {}, expect.body = \"v{version} (\" }\nprobe.liveness = { http = {}, expect.body = '\\p{Greek}' }\n"), @r#"
    error: `body` is not a regular expression
     --> config.toml:4:46
      |
    4 | probe.readiness = { http = {}, expect.body = "v{version} (" }
      |                                              ^^^^^^^^^^^^^^ unclosed group
      |
      = help: `{name}` stands for a value of --set; write `{{` and `}}` for braces around a name, as in \p{{Greek}}

    error: `body` is not a regular expression
     --> config.toml:5:45
      |
    5 | probe.liveness = { http = {}, expect.body = '\p{Greek}' }
      |                                             ^^^^^^^^^^^ Unicode property not found
      |
      = help: `{name}` stands for a value of --set; write `{{` and `}}` for braces around a name, as in \p{{Greek}}
    "#);
}

#[test]
fn what_later_versions_bring_is_named() {
    let text = "[tars]\nkeep_alive = \"30s\"\n[k8s]\nkind = \"page\"\n[service.web]\ncommand = \"a\"\nengine = \"systemd\"\nrollout.hold = \"1s\"\n";
    assert_snapshot!(first_lines(text), @r#"
    config.toml:1: `tars` is not in this version of opsdeck
    config.toml:3: `k8s` is not in this version of opsdeck
    config.toml:7: `engine = "systemd"` is not in this version of opsdeck
    config.toml:8: `hold` is not in this version of opsdeck
    "#);
    assert_snapshot!(mistakes("[k8s]\nkind = \"page\"\n"), @r"
    error: `k8s` is not in this version of opsdeck
     --> config.toml:1:2
      |
    1 | [k8s]
      |  ^^^ it will be for Kubernetes workloads
      |
      = help: remove it for now
    ");
}

#[test]
fn a_torn_text_is_one_mistake() {
    assert_snapshot!(mistakes("[service.web]\ncommand = \"php web\nuser = 7\n"), @r#"
    error: this is not TOML: invalid basic string
     --> config.toml:2:19
      |
    2 | command = "php web
      |                   ^ expected `"`
      |
      = help: text ends with the quote it began with, on the same line

    error: `user` must be text
     --> config.toml:3:8
      |
    3 | user = 7
      |        ^ this is a whole number
      |
      = help: put it into quotes
    "#);
    assert_snapshot!(mistakes("[service.web\ncommand = \"a\"\n[service.b]\ncommand = \"b\"\n"), @r#"
    error: this is not TOML: unclosed table
     --> config.toml:1:13
      |
    1 | [service.web
      |             ^ expected `]`
      |
      = help: a table begins with a line such as [service.web]
    "#);
    assert_snapshot!(mistakes("[service.web]\ncommand = \"a\"\n[service.web]\ncommand = \"b\"\n"), @r"
    error: `web` is given twice
     --> config.toml:3:10
      |
    3 | [service.web]
      |          ^^^ here for the second time
      |
      = help: keep one of the two
    ");
    assert_snapshot!(mistakes("[[service]]\nname = \"web\"\n"), @r"
    error: `service` must be a table
     --> config.toml:1:1
      |
    1 | [[service]]
      | ^^^^^^^^^^^ this is a list
      |
      = help: write [service.NAME] for each service
    ");
}

#[test]
fn values_of_the_environment_are_never_drawn() {
    assert_snapshot!(of_web("environment = { MODE = \"geheim\", PORT = \"{port} geheim\", LIST = [\"geheim\"] }\n"), @r#"
    error: `web` has no port
     --> config.toml:3:42
      |
    3 | environment = { MODE = "******", PORT = "{port} ******", LIST = *"******"* }
      |                                          ^^^^^^ this stands for its port
      |
      = help: give it one: instance.web = { port = 9501 }

    error: `LIST` must be text
     --> config.toml:3:65
      |
    3 | environment = { MODE = "******", PORT = "{port} ******", LIST = *"******"* }
      |                                                                 ^^^^^^^^^^ this is a list
      |
      = help: put it into quotes
    "#);
    let torn = of_web("environment = { DB_PASSWORD = \"geheim, X = 1 }\n");
    let header = of_web(
        "probe.readiness = { http = { headers = { Authorization = \"geheim\" } }, perod = \"1s\" }\n",
    );
    assert!(!torn.contains("geheim") && !header.contains("geheim"), "{torn}\n{header}");
}

#[test]
fn a_socket_is_the_port_of_an_instance_that_has_it_for_itself() {
    let text = "[service.web]\ncommand = \"web {port}\"\nsocket = { listen = \"127.0.0.1:9502\", backlog = 64 }\n";
    let settings = crate::config::parse("config.toml", text).unwrap();
    let web = &settings.services[0];
    let socket = web.socket().unwrap();
    assert_eq!((socket.name.as_str(), socket.backlog), ("web", 64));
    assert_eq!(
        (web.instances[0].port, web.instances[0].launch.argv[1].0.as_str()),
        (Some(9502), "9502")
    );

    let two =
        format!("{}instance = {{ a = {{}}, b = {{ port = 1 }} }}\n", text.replace(" {port}", ""));
    let settings = crate::config::parse("config.toml", &two).unwrap();
    let ports: Vec<_> = settings.services[0].instances.iter().map(|it| it.port).collect();
    assert_eq!(ports, [None, Some(1)]);
}

#[test]
fn a_socket_listens_somewhere_and_alone() {
    let text = "[service.a]\ncommand = \"a\"\nsocket = { name = \"a:b\" }\n[service.b]\ncommand = \"b\"\nsocket.listen = \":1\"\n[service.c]\ncommand = \"c\"\ninstance = { c1 = { port = 1 }, c2 = { port = 2 } }\n[service.d]\ncommand = \"d\"\nsocket.listen = \":1\"\n[gateway.g]\nservice = \"c\"\nlisten = \":1\"\n";
    assert_snapshot!(first_lines(text), @r"
    config.toml:3: the socket of `a` listens nowhere
    config.toml:3: this cannot be the name of a socket
    config.toml:9: `c1` and `d` have the same port 1
    config.toml:12: `d` and `b` have the same port 1
    config.toml:15: port 1 belongs to `c1`
    config.toml:15: port 1 is the socket of `b`
    ");
}
