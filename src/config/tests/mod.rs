//! What people read when a file is wrong, and what must never happen whatever a file holds.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

mod foreign;
mod gateways;
mod horrible;
mod load;
mod values;
mod whole;

fn mistakes(text: &str) -> String {
    parse("config.toml", text).map_or_else(|err| err.render(false), |_| "no mistakes".into())
}

fn first_lines(text: &str) -> String {
    parse("config.toml", text)
        .map_or_else(|err| err.first_lines().join("\n"), |_| "no mistakes".into())
}

/// The mistakes of a service `web` with these keys.
fn of_web(keys: &str) -> String {
    mistakes(&format!("[service.web]\ncommand = \"php web\"\n{keys}"))
}

#[test]
fn the_example_is_right() {
    let settings = parse("config.example.toml", include_str!("../../../config.example.toml"));
    let settings = settings.unwrap_or_else(|err| panic!("{}", err.render(false)));
    let names: Vec<_> = settings.services.iter().map(|it| it.rules.name.as_str()).collect();
    assert_eq!(names, ["web", "queue", "job"]);
}

#[test]
fn an_empty_file_is_a_configuration() {
    let settings = parse("config.toml", "").unwrap();
    assert_eq!((settings.services.len(), settings.deck.watch), (0, false));
}

#[test]
fn ten_mistakes_are_ten_in_one_run() {
    let text = r#"
[deck]
confirm = "sometimes"
[keys]
term = "r"
[service.web]
comand = "php web"
max_wait_time = 10
restart = "allways"
instance.web1 = { port = 0 }
instance.queue = { port = 9503 }
depends_on = ["redis"]
[service.queue]
command = "queue | logger"
log.max_size = "50 bytes"
"#;
    assert_snapshot!(first_lines(text), @r#"
    config.toml:3: `confirm` cannot be "sometimes"
    config.toml:5: `r` would do two things: `roll` and `term`
    config.toml:7: unknown key `comand`
    config.toml:8: `max_wait_time` must be a duration
    config.toml:9: `restart` cannot be "allways"
    config.toml:10: `port` must be between 1 and 65535
    config.toml:12: there is no service `redis` to depend on
    config.toml:13: `queue` is a name twice: services and instances share their names
    config.toml:14: `command` cannot be run
    config.toml:15: `max_size` must be a size
    "#);
    assert_eq!(parse("config.toml", text).unwrap_err().count(), 10);
}

#[test]
fn a_service_inherits_key_by_key() {
    let text = r#"
[defaults]
user = "www-data"
environment = { A = "1", B = "1" }
rollout = { settle = "9s", min_ready = 1 }
probe.liveness = { tcp = {}, period = "5s" }
[service.web]
command = "a"
environment.B = 2
rollout.successes = 4
probe.liveness.http = {}
instance = { web1.port = 1, web2.port = 2, web3.port = 3 }
[service.queue]
command = "b"
probe.liveness.exec.command = "true"
[service.worker]
command = "c"
"#;
    let settings = parse("config.toml", text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    let [web, queue, worker] = &settings.services[..] else { panic!("three services") };
    assert!(worker.written.probes.is_empty(), "it has no port to be asked on");
    let environment: Vec<_> =
        web.written.environment.iter().map(|(name, value)| format!("{name}={}", value.0)).collect();
    assert_eq!(environment, ["A=1", "B=2"]);
    assert_eq!(web.user.as_deref(), Some("www-data"));
    assert_eq!((web.rules.rollout.settle.as_secs(), web.rules.rollout.successes), (9, 4));
    // A probe replaces the inherited one whole; a default for all is meant as far as there are instances.
    assert_eq!(web.instances[0].probes[&crate::fleet::input::Probe::Liveness].period.as_secs(), 10);
    assert_eq!((web.rules.rollout.min_ready, queue.rules.rollout.min_ready), (Some(1), None));
}

#[test]
fn built_in_names_are_put_in_and_others_stay() {
    let text = "[service.web]\ncommand = \"php {service} --port {port} {version} {{port}}\"\ndirectory = \"/srv/{instance}\"\nenvironment.APP = \"{instance}-{port}\"\ninstance.web1.port = 9502\nprobe.liveness = { http.path = \"/{instance}\", expect.body = \"{version} {port}\" }\n";
    let settings = parse("config.toml", text).unwrap();
    let instance = &settings.services[0].instances[0];
    let argv: Vec<&str> = instance.launch.argv.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(argv, ["php", "web", "--port", "9502", "{version}", "{{port}}"]);
    assert_eq!(instance.launch.directory.as_deref(), Some(Path::new("/srv/web1")));
    assert_eq!(instance.launch.environment["APP"].0, "web1-9502");
    let crate::probe::Check::Http { path, port, expect, .. } =
        &instance.probes[&crate::fleet::input::Probe::Liveness].check
    else {
        panic!("an http probe")
    };
    assert_eq!(
        (path.as_str(), *port, expect.body.as_deref()),
        ("/web1", 9502, Some("{version} 9502"))
    );
}

/// A directory with these files, and what loading its `config.toml` gives: paths without the directory.
fn loaded(files: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let place = directory.path().to_str().unwrap().to_owned() + "/";
    load(&directory.path().join("config.toml")).map_err(|err| err.render(false).replace(&place, ""))
}

#[test]
fn included_files_bring_services_in_the_order_of_their_names() {
    let settings = loaded(&[
        (
            "config.toml",
            "[deck]\ninclude = [\"conf.d/*.toml\", \"*.toml\"]\n[defaults]\nuser = \"main\"\nretries = 3\n[service.z]\ncommand = \"z\"\n",
        ),
        (
            "conf.d/b.toml",
            "[service.b]\ncommand = \"b\"\ndirectory = \"here\"\ndepends_on = [\"z\"]\n",
        ),
        ("conf.d/a.toml", "[defaults]\nuser = \"own\"\n[service.a]\ncommand = \"a\"\n"),
        ("conf.d/.hidden.toml", "broken"),
        ("conf.d/c.toml~", "broken"),
    ]);
    let settings = settings.unwrap_or_else(|err| panic!("{err}"));
    let found: Vec<_> = settings
        .services
        .iter()
        .map(|it| (it.rules.name.as_str(), it.user.as_deref(), it.rules.retries))
        .collect();
    assert_eq!(
        found,
        [("z", Some("main"), Some(3)), ("a", Some("own"), Some(3)), ("b", Some("main"), Some(3))]
    );
    let names: Vec<_> =
        settings.files.iter().map(|it| it.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["config.toml", "a.toml", "b.toml"]);
    let directory = settings.services[2].instances[0].launch.directory.as_ref().unwrap();
    assert!(directory.is_absolute() && directory.ends_with("conf.d/here"), "{directory:?}");
}

#[test]
fn mistakes_point_into_the_file_they_are_in() {
    let err = loaded(&[
        (
            "config.toml",
            "[deck]\ninclude = [\"a.toml\", \"missing.toml\", \"none/*.toml\"]\n[service.web]\ncommand = \"w\"\n",
        ),
        ("a.toml", "[deck]\nname = \"x\"\n[service.web]\ncommand = \"a\"\nmax_wait_time = 3\n"),
    ]);
    assert_snapshot!(err.unwrap_err(), @r#"
    error: `missing.toml` cannot be included
     --> config.toml:2:22
      |
    2 | include = ["a.toml", "missing.toml", "none/*.toml"]
      |                      ^^^^^^^^^^^^^^ no such file or directory
      |
      = help: paths are relative to this file; a pattern with * may match nothing

    error: `deck` may not stand in an included file
     --> a.toml:1:2
      |
    1 | [deck]
      |  ^^^^ only the main file has it
      |
      = help: move it to the main file

    error: `web` is a name twice: services and instances share their names
     --> a.toml:3:10
      |
    3 | [service.web]
      |          ^^^ here it is a service
      |
     ::: config.toml:3:10
      |
    3 | [service.web]
      |          --- here it is a service
      |
      = help: rename one of them

    error: `max_wait_time` must be a duration
     --> a.toml:5:17
      |
    5 | max_wait_time = 3
      |                 ^ a number without a unit
      |
      = help: write it as "300ms", "10s", "1m30s" or "2h"
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    assert_snapshot!(loaded(&[]).unwrap_err(), @r#"
    error: config.toml cannot be read: no such file or directory
     |
     = help: check the path and who may read it
    "#);
    assert_snapshot!(loaded(&[("config.toml/x", "")]).unwrap_err(), @r#"
    error: config.toml cannot be read: is a directory
     |
     = help: check the path and who may read it
    "#);
    let err = load(Path::new("/nowhere/config.toml")).unwrap_err();
    assert_eq!(err.to_string(), "/nowhere/config.toml cannot be read: no such file or directory");
}

#[test]
fn bytes_that_are_no_text_are_told_by_their_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, b"[deck]\nname = \"\xff\"\n").unwrap();
    let err = load(&path).unwrap_err().to_string();
    assert!(err.ends_with("config.toml cannot be read: line 2 is not UTF-8"), "{err}");
}

#[test]
fn a_deep_text_is_refused_and_not_followed() {
    for text in [
        "[".repeat(50_000),
        "a.".repeat(50_000),
        format!("x = {}", "{a=".repeat(50_000)),
        "[[a.b]]\n".repeat(1_000),
    ] {
        assert!(!first_lines(&text).is_empty());
    }
}

#[test]
fn a_thousand_services_are_read() {
    let service = |n| {
        format!(
            "[service.s{n}]\ncommand = \"php bin/server.php --port {{port}}\"\ninstance.i{n} = {{ port = {} }}\nprobe.readiness.http.path = \"/ready\"\n",
            10_000 + n
        )
    };
    let text: String = (0..1_000).map(service).collect();
    assert!(text.len() > 100_000);
    assert_eq!(parse("config.toml", &text).map(|it| it.services.len()), Ok(1_000));
}

/// Lines that a configuration is made of, in any order: they reach further than random text.
fn any_line() -> impl Strategy<Value = String> {
    let lines = include_str!("../../../config.example.toml").lines().map(str::to_owned);
    let odd = [
        "[service.x]",
        "[[service]]",
        "[service.x.probe]",
        "port = 1",
        "a.b.c = {",
        "]",
        "\"",
        "'''",
        "[defaults]",
        "instance.a.port = 9502",
        "depends_on = [\"x\", \"web\"]",
        "command = \"é {port} {x\"",
        "stop = [{}, {signal='15', wait='9d'}]",
        "[keys]",
        "term = 't'",
    ];
    let all: Vec<String> = lines.chain(odd.map(str::to_owned)).collect();
    (prop::sample::select(all), 0..80_usize, 0..6_u8).prop_map(|(line, at, what)| {
        let at = line.floor_char_boundary(at.min(line.len()));
        match what {
            0 => line[..at].to_owned(),
            1 => line[at..].to_owned(),
            _ => line,
        }
    })
}

proptest! {
    #[test]
    fn any_text_is_read_and_drawn_without_a_panic(text in "\\PC{0,200}|(?s).{0,200}") {
        let _ = (mistakes(&text), first_lines(&text));
    }

    #[test]
    fn any_lines_are_read_and_drawn_without_a_panic(lines in prop::collection::vec(any_line(), 0..40)) {
        let text = lines.join("\n");
        match parse("config.toml", &text) {
            Ok(settings) => {
                let shown = show(&settings);
                prop_assert_eq!(parse("config.toml", &shown), Ok(settings));
            }
            Err(err) => prop_assert!(!err.render(true).is_empty() && err.count() > 0),
        }
    }
}

#[test]
fn a_daemon_is_found_by_the_deck_alone_where_that_can_be_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let deck_of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        super::deck(&path)
    };
    let deck = "[deck]\nname = \"shop\"\nstate_dir = \"/srv/deck\"\n";
    let service = "[service.web]\ncommand = \"web\"\n";

    let alone = deck_of(&format!("{deck}{service}"));
    assert_eq!(alone, Some(super::load(&path).unwrap().deck));
    assert_eq!(alone, deck_of(&format!("{deck}[service.web]\ncomand = 7\n")));
    // It stands behind a service, is mistaken, is torn, or is not there: the whole file is asked.
    assert_eq!(deck_of(&format!("{service}{deck}")), None);
    assert_eq!(deck_of(&format!("{deck}watch = 7\n{service}")), None);
    assert_eq!(deck_of(&format!("[deck]\nname = '''\n{service}'''\n")), None);
    assert_eq!(deck_of(service), None);
}
