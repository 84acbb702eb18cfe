//! Processes that somebody else runs.

use insta::assert_snapshot;

use super::{first_lines, mistakes};
use crate::config::parse;
use crate::fleet::rules::{Foreign, Restart};

#[test]
fn a_pid_file_is_found_below_the_directory_of_its_instance() {
    let text = "[defaults]\ncommand = \"shared\"\n[service.web]\nengine = \"pidfile\"\n\
        directory = \"/srv/{instance}\"\npidfile = \"runtime/{port}.pid\"\nstart = \"ctl start {port}\"\n\
        instance.web1 = { port = 1 }\ninstance.web2 = { port = 2 }\n\
        [service.nginx]\nengine = \"pidfile\"\npidfile = \"/run/nginx.pid\"\nliveness_restarts = true\n";
    let settings = parse("c", text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    let [web, nginx] = &settings.services[..] else { panic!("two services") };
    let files = web.instances.iter().chain(&nginx.instances).map(|it| it.pidfile.clone().unwrap());
    let files: Vec<_> = files.map(|it| it.display().to_string()).collect();
    assert_eq!(files, ["/srv/web1/runtime/1.pid", "/srv/web2/runtime/2.pid", "/run/nginx.pid"]);
    assert_eq!(web.instances[1].launch.argv[2].0, "2");
    assert!(nginx.instances[0].launch.argv.is_empty());
    let foreign = |starts, liveness_restarts| Some(Foreign { starts, liveness_restarts });
    assert_eq!((web.rules.foreign, web.rules.restart), (foreign(true, false), Restart::Never));
    assert_eq!((nginx.rules.foreign, nginx.rules.restart), (foreign(false, true), Restart::Always));
}

#[test]
fn what_belongs_to_the_other_engine_is_named() {
    let text = "[service.a]\nengine = \"pidfile\"\ncommand = \"a\"\nrestart = \"never\"\n\
        socket = { listen = \"127.0.0.1:1\" }\nrollout.surge = true\ninstance.a1 = { port = \"auto\" }\n\
        [service.b]\ncommand = \"b\"\npidfile = \"/run/b.pid\"\nstart = \"b\"\nliveness_restarts = false\n\
        [service.c]\nengine = \"pidfile\"\npidfile = \"c.pid\"\ninstance = { c1 = {}, c2 = {} }\n\
        [service.d]\nengine = \"pidfile\"\npidfile = \"/run/{version}.pid\"\nstart = \"\"\n\
        [service.e]\nengine = \"pidfile\"\npidfile = \"/run/e.pid\"\nstop = [{ signal = \"TERM\" }]\nstop_command = \"e\"\n";
    assert_snapshot!(first_lines(text), @r"
    config.toml:1: `a` has no pidfile
    config.toml:3: `a` is run by somebody else, and has no `command`
    config.toml:4: `a` is run by somebody else, and has no `restart`
    config.toml:5: `a` is run by somebody else, and has no `socket`
    config.toml:6: `a` cannot have a spare
    config.toml:7: the port of `a1` cannot be picked
    config.toml:10: `pidfile` is for processes that somebody else runs
    config.toml:11: `start` is for processes that somebody else runs
    config.toml:12: `liveness_restarts` is for processes that somebody else runs
    config.toml:15: `c2` and `c1` have the same pidfile
    config.toml:15: `pidfile` is relative, and there is no `directory`
    config.toml:19: `{version}` stands for nothing here
    config.toml:20: `start` cannot be run
    config.toml:25: `e` has `stop` and `stop_command`
    ");
    let both = "[service.a]\nengine = \"pidfile\"\ncommand = \"a\"\npidfile = \"/a\"\n";
    assert_snapshot!(mistakes(both), @r#"
    error: `a` is run by somebody else, and has no `command`
     --> config.toml:3:1
      |
    3 | command = "a"
      | ^^^^^^^ engine = "pidfile"
      |
      = help: what starts it on request is `start`
    "#);
}

#[test]
fn a_pid_file_is_of_one_service() {
    let service = |name: &str, more: &str| {
        format!("[service.{name}]\nengine = \"pidfile\"\npidfile = \"/run/a.pid\"\n{more}")
    };
    assert_snapshot!(
        first_lines(&(service("a", "") + &service("b", ""))),
        @"config.toml:6: `b` and `a` have the same pidfile"
    );
    let off = parse("c", &(service("a", "") + &service("b", "enabled = false\n")));
    assert!(off.is_ok());
}
