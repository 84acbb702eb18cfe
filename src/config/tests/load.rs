//! Where load is read.

use insta::assert_snapshot;

use super::{first_lines, mistakes, of_web};
use crate::config::settings::Load;
use crate::config::{parse, show};
use crate::load::source::{Kind, Source};

const TWO: &str = "instance.web1 = { port = 1 }\ninstance.web2 = { port = \"auto\" }\n";

/// What `web1` is asked.
fn source(load: &str) -> Source {
    let text = format!("[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {load}\n");
    let settings =
        parse("/etc/c.toml", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    settings.services[0].instances[0].load.clone().unwrap()
}

#[test]
fn a_source_is_a_word_for_the_server_and_where_it_is_asked() {
    let of = |load: &str| {
        let it = source(load);
        (it.kind, it.at, it.counts_itself)
    };
    let at = |kind, at: &str, own| (kind, at.to_owned(), own);
    assert_eq!(of("{ swoole = \"/stats\" }"), at(Kind::Swoole, "/stats", true));
    assert_eq!(
        of("{ swoole.file = \"/srv/{instance}/{port}/stats\" }"),
        at(Kind::SwooleFile, "/srv/web1/1/stats", false)
    );
    assert_eq!(of("{ swoole.file = \"stats\" }"), at(Kind::SwooleFile, "/etc/stats", false));
    assert_eq!(
        of("{ swoole.admin = \"a:b@127.0.0.1:9611\" }"),
        at(Kind::SwooleAdmin, "a:b@127.0.0.1:9611", false)
    );
    let fpm = "fcgi://unix:/run/php/fpm.sock:/status";
    assert_eq!(of(&format!("{{ php_fpm = {fpm:?} }}")), at(Kind::PhpFpm, fpm, true));
    assert_eq!(
        of(&format!("{{ php_fpm = {{ status = {fpm:?}, status_listen = true }} }}")),
        at(Kind::PhpFpm, fpm, false)
    );
    let url = "http://127.0.0.1:9293/stats?token=geheim";
    assert_eq!(of(&format!("{{ puma = {url:?} }}")), at(Kind::Puma, url, false));
    let metrics = Kind::Prometheus { requests: Some("a_total".into()), in_flight: None };
    assert_eq!(
        of("{ prometheus = { url = \"/metrics\", requests = \"a_total\" } }"),
        at(metrics, "/metrics", false)
    );
}

#[test]
fn what_is_shown_is_read_back_the_same_and_tells_no_secret() {
    for load in [
        "\"sockets\"",
        "{ swoole = \"/stats\" }",
        "{ swoole = { file = \"/srv/{instance}/stats\" } }",
        "{ swoole = { admin = \"127.0.0.1:9611\" } }",
        "{ php_fpm = { status = \"fcgi://127.0.0.1:9000/status\", status_listen = true } }",
        "{ nginx = \"http://127.0.0.1:8080/stub_status\" }",
        "{ prometheus = { url = \"/metrics\", requests = \"a{b=\\\"c\\\"}\", in_flight = \"d\", counts_itself = true } }",
    ] {
        let text = format!("[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {load}\n");
        let settings = parse("c", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));
        let shown = show::show(&settings);
        let again = parse("c", &shown).unwrap_or_else(|err| panic!("{}", err.render(false)));
        assert_eq!(again.services[0].written.load, settings.services[0].written.load, "{shown}");
        assert_eq!(again.services[0].instances, settings.services[0].instances);
    }
    for secret in
        ["{ puma = \"/stats?token=geheim\" }", "{ swoole.admin = \"a:geheim@127.0.0.1:1\" }"]
    {
        let text = format!("[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {secret}\n");
        let shown = show::show(&parse("c", &text).unwrap());
        assert!(!shown.contains("geheim"), "{shown}");
        assert!(parse("c", &shown).is_ok(), "{shown}");
    }
}

#[test]
fn a_drain_waits_for_what_is_exact() {
    let gauged = |load: &str| {
        let text = format!("[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {load}\n");
        parse("c", &text).unwrap().services[0].rules.gauged
    };
    assert!(gauged("{ swoole = \"/stats\" }"));
    assert!(!gauged("{ swoole.file = \"stats\" }") && !gauged("\"sockets\""));
}

#[test]
fn a_path_of_the_defaults_is_for_those_that_have_a_port() {
    let text = "[defaults]\nload = { swoole = \"/stats\" }\n[service.queue]\ncommand = \"queue\"\n\
        [service.web]\ncommand = \"web\"\ninstance.web1 = { port = 1 }\n\
        [service.other]\ncommand = \"other\"\nload = \"sockets\"\ninstance.other1 = { port = 2 }\n";
    let settings = parse("c", text).unwrap();
    let asked: Vec<_> = settings.services.iter().map(|it| it.instances[0].load.is_some()).collect();
    assert_eq!(asked, [false, true, false]);
    assert_eq!(settings.services[2].written.load, Load::Sockets);
}

#[test]
fn a_gateway_of_the_defaults_is_for_those_that_have_one() {
    let text = "[defaults]\nload = \"gateway\"\n[service.queue]\ncommand = \"queue\"\n\
        [service.web]\ncommand = \"web\"\ninstance.web1 = { port = 1 }\n\
        [gateway.shop]\nservice = \"web\"\nlisten = 80\n";
    let settings = parse("c", text).unwrap();
    let loads: Vec<_> = settings.services.iter().map(|it| it.written.load.clone()).collect();
    assert_eq!(loads, [Load::Unsaid, Load::Gateway]);
    let shown = show::show(&settings);
    assert!(parse("c", &shown).is_ok(), "{shown}");
}

#[test]
fn mistakes_say_what_to_write() {
    assert_snapshot!(of_web("load = { swoole = \"/stats\" }\n"), @r#"
    error: the load of `web` cannot be asked for: a path alone is on the instance's port, and it has none
     --> config.toml:3:8
      |
    3 | load = { swoole = "/stats" }
      |        ^^^^^^^^^^^^^^^^^^^^^ asked with every look
      |
      = help: write a path on the instance's port, as "/stats", or a URL, as "http://127.0.0.1:8080/stub_status"
    "#);
    assert_snapshot!(of_web("load = \"gateway\"\n"), @r#"
    error: nothing stands in front of `web` that could count
     --> config.toml:3:1
      |
    3 | load = "gateway"
      | ^^^^ there is no gateway of this service
      |
      = help: add [gateway.web] with service = "web", or remove this
    "#);
    let wat = of_web("load = \"wat\"\n");
    let help = "it is one of gateway, sockets, { swoole = … }, { php_fpm = … }, { nginx = … }";
    assert!(wat.contains(help), "{wat}");
    let lines = |load: &str| {
        first_lines(&format!("[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {load}\n"))
    };
    assert_snapshot!(lines("\"socket\""), @r#"config.toml:5: `load` cannot be "socket""#);
    assert_snapshot!(lines("{}"), @"config.toml:5: `load` asks nobody");
    assert_snapshot!(lines("{ swole = \"/s\" }"), @"config.toml:5: unknown key `swole`");
    assert_snapshot!(lines("{ swoole = \"/s\", nginx = \"/n\" }"), @"config.toml:5: `swoole` and `nginx` exclude each other");
    assert_snapshot!(lines("{ swoole = {} }"), @"config.toml:5: `swoole` is asked nowhere");
    assert_snapshot!(lines("{ swoole = { file = \"a\", admin = \"b\" } }"), @"config.toml:5: `file` and `admin` exclude each other");
    assert_snapshot!(lines("{ php_fpm = {} }"), @"config.toml:5: `php_fpm` has no `status`");
    assert_snapshot!(lines("{ php_fpm = \"127.0.0.1:9000\" }"), @"config.toml:5: the load of `web1` cannot be asked for: it is neither a path nor a URL");
    assert_snapshot!(lines("{ prometheus = { url = \"/m\" } }"), @"config.toml:5: `prometheus` names no metric");
    assert_snapshot!(lines("{ prometheus = { url = \"/m\", requests = \"rate(x)\" } }"), @r#"config.toml:5: the load of `web1` cannot be asked for: `rate(x)` names no metric: write name or name{label="value"}"#);
    assert_snapshot!(lines("{ swoole = \"/stats/{version}\" }"), @"config.toml:5: `{version}` stands for nothing here");
    assert_snapshot!(lines("{ nginx = \"https://127.0.0.1/\" }"), @"config.toml:5: the load of `web1` cannot be asked for: `https` is not spoken");
}

#[test]
fn a_mistake_shows_no_token() {
    let said = mistakes(&format!(
        "[service.web]\ncommand = \"web {{port}}\"\n{TWO}load = {{ puma = \"ftp://127.0.0.1/stats?token=geheim\" }}\n"
    ));
    assert!(said.contains("`ftp` is not spoken") && !said.contains("geheim"), "{said}");
}
