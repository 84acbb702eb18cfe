//! `[gateway.NAME]`: what it gives and what can be wrong with it.

use std::time::Duration;

use insta::assert_snapshot;

use super::mistakes;
use crate::config::parse;
use crate::config::settings::{Limits, Nginx, Provider};

const WEB: &str = "[service.web]\ncommand = \"php web\"\ninstance.web1 = { port = 9502 }\n";

#[test]
fn a_gateway_has_defaults_and_marks_its_service() {
    let text = format!("{WEB}[gateway.shop]\nservice = \"web\"\nlisten = 9999\n");
    let settings =
        parse("config.toml", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));

    assert!(settings.services[0].rules.fronted);
    let [gateway] = &settings.gateways[..] else { panic!("{:?}", settings.gateways) };
    assert_eq!((gateway.name.as_str(), gateway.service.as_str()), ("shop", "web"));
    let Provider::Embedded(it) = &gateway.provider else { panic!("{gateway:?}") };
    assert_eq!(it.listen, "0.0.0.0:9999".parse().unwrap());
    assert_eq!((it.hold, it.hold_max), (Duration::from_secs(5), 1000));
    assert_eq!(it.upgrade_wait, Duration::from_secs(3));
    assert_eq!(it.limits, Limits::default());
}

#[test]
fn what_is_wrong_with_a_gateway_is_said_in_one_run() {
    let text = format!(
        "{WEB}[service.queue]\ncommand = \"queue\"\n[gateway.a]\nservice = \"wep\"\nlisten = \"shop.example:80\"\n[gateway.b]\nservice = \"queue\"\nlisten = \"0.0.0.0:9502\"\nupgrade_wait = \"20s\"\n[gateway.c]\n[gateway.d]\nservice = \"web\"\nlisten = \"127.0.0.1:80\"\nlimits.header_size = 10\n[gateway.e]\nservice = \"web\"\nlisten = \"[::]:80\"\n"
    );
    assert_snapshot!(mistakes(&text), @r#"
    error: there is no service `wep` to stand in front of
     --> config.toml:7:11
      |
    7 | service = "wep"
      |           ^^^^^ not a service
      |
      = help: did you mean `web`?

    error: `listen` must be an address and a port
     --> config.toml:8:10
      |
    8 | listen = "shop.example:80"
      |          ^^^^^^^^^^^^^^^^^ a name is not looked up here: an address is wanted
      |
      = help: write it as "127.0.0.1:8080", "0.0.0.0:8080" or "[::]:8080"

    error: `queue` has no port
      --> config.toml:10:11
       |
    10 | service = "queue"
       |           ^^^^^^^ the gateway could not reach it
       |
       = help: give it one: instance.queue = { port = 9501 }

    error: port 9502 belongs to `web1`
      --> config.toml:11:10
       |
    11 | listen = "0.0.0.0:9502"
       |          ^^^^^^^^^^^^^^ only one of them could listen
       |
       = help: clients come in at the gateway's port, which is another one

    error: `upgrade_wait` is longer than `max_wait_time`, which is 10s
      --> config.toml:12:16
       |
    12 | upgrade_wait = "20s"
       |                ^^^^^ a stop ends before this does
       |
       = help: raise max_wait_time of the service, or make it shorter

    error: the gateway `c` has no service behind it
      --> config.toml:13:10
       |
    13 | [gateway.c]
       |          ^ nothing says where requests go
       |
       = help: add service = "web"

    error: the gateway `c` listens nowhere
      --> config.toml:13:10
       |
    13 | [gateway.c]
       |          ^ nothing says where clients come in
       |
       = help: add listen = "0.0.0.0:8080"

    error: `header_size` must be a size
      --> config.toml:17:22
       |
    17 | limits.header_size = 10
       |                      ^^ a number without a unit
       |
       = help: write it as "50MiB", "1GiB" or "500kB"

    error: `web` has a gateway already
      --> config.toml:18:10
       |
    18 | [gateway.e]
       |          ^ this would be a second one
       |
       = help: one gateway a service: its counts decide when a drain is over

    error: two gateways listen on port 80
      --> config.toml:20:10
       |
    16 | listen = "127.0.0.1:80"
       |          -------------- the other one
    ...
    20 | listen = "[::]:80"
       |          ^^^^^^^^^ only one of them could
       |
       = help: give each its own port
    "#);
}

#[test]
fn an_nginx_in_front_has_defaults() {
    let text = format!(
        "{WEB}[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\nnginx.file = \"/etc/nginx/conf.d/opsdeck-shop.conf\"\n"
    );
    let settings =
        parse("config.toml", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));

    assert!(settings.services[0].rules.fronted);
    let expected = Nginx {
        file: "/etc/nginx/conf.d/opsdeck-shop.conf".into(),
        upstream: "shop".into(),
        pid_file: "/run/nginx.pid".into(),
        test: vec!["nginx".into(), "-t".into()],
        reload: None,
        max_fails: None,
        fail_timeout: None,
        directives: vec![],
        switches: None,
        access_log: None,
        log_format: "$upstream_addr $upstream_status $upstream_response_time".into(),
        stub_status: None,
    };
    assert_eq!(settings.gateways[0].provider, Provider::Nginx(expected));
}

#[test]
fn switches_need_few_instances_a_dump_and_no_idle_connections() {
    let instances: String = (1..=7).map(|n| format!("w{n} = {{ port = {n} }}, ")).collect();
    let text = format!(
        "[service.w]\ncommand = \"w\"\ninstance = {{ {instances} }}\n[gateway.shop]\nservice = \"w\"\nprovider = \"nginx\"\n[gateway.shop.nginx]\nfile = \"/n/shop.conf\"\nswitches = \"/run/shop\"\ntest = \"true\"\ndirectives = [\"keepalive 4\"]\n"
    );
    assert_snapshot!(mistakes(&text), @r#"
    error: 7 instances are too many for nginx.switches
     --> config.toml:4:10
      |
    4 | [gateway.shop]
      |          ^^^^ they tell 6 apart, the spare of `surge` among them
      |
      = help: remove nginx.switches: nginx is reloaded instead

    error: `test` has no word `-t`
      --> config.toml:10:8
       |
    10 | test = "true"
       |        ^^^^^^ with switches, nginx is asked by -T in its place for all that it reads
       |
       = help: say "sudo -n nginx -t", or remove nginx.switches

    error: `keepalive` and `switches` do not go together
      --> config.toml:11:15
       |
    11 | directives = ["keepalive 4"]
       |               ^^^^^^^^^^^^^ without a reload, its idle connections never leave an instance
       |
       = help: remove one of the two: connections on one host are cheap
    "#);
    let text = format!(
        "{WEB}[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\nnginx = {{ file = \"/n/shop.conf\", switches = \"/run/shop\" }}\n"
    );
    let settings =
        parse("config.toml", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    let nginx = settings.gateways[0].provider.nginx().unwrap();
    assert_eq!(nginx.server_file(), Some("/n/shop.switch".into()));
}

#[test]
fn what_is_wrong_with_an_nginx_is_said_in_one_run() {
    let text = format!(
        "{WEB}[service.b]\ncommand = \"b\"\ninstance.b1 = {{ port = 3 }}\n[service.c]\ncommand = \"c\"\ninstance.c1 = {{ port = 4 }}\n[gateway.a]\nservice = \"web\"\nprovider = \"nginx\"\nlisten = 80\n[gateway.b]\nservice = \"b\"\nprovider = \"nginx\"\nnginx = {{ file = \"/x\", upstream = \"a b\", directives = [\"keepalive 32;\", \"server 1\"] }}\n[gateway.c]\nservice = \"c\"\nprovider = \"nginx\"\nnginx.file = \"/x\"\n[gateway.d]\nservice = \"c\"\nlisten = 81\nnginx.file = \"/y\"\n"
    );
    assert_snapshot!(mistakes(&text), @r#"
    error: the gateway `a` has no file to write
      --> config.toml:10:10
       |
    10 | [gateway.a]
       |          ^ nothing says how nginx is told
       |
       = help: add nginx.file = "/etc/nginx/conf.d/opsdeck-a.conf", which nginx includes

    error: `listen` is nginx's own business
      --> config.toml:13:1
       |
    13 | listen = 80
       | ^^^^^^ requests do not pass through opsdeck here
       |
       = help: remove it: the configuration of nginx says this

    error: `upstream` must be a name
      --> config.toml:17:35
       |
    17 | nginx = { file = "/x", upstream = "a b", directives = ["keepalive 32;", "server 1"] }
       |                                   ^^^^^ not a name to nginx
       |
       = help: use the name that proxy_pass has: letters, digits, . _ -

    error: this cannot be a line of `directives`
      --> config.toml:17:56
       |
    17 | nginx = { file = "/x", upstream = "a b", directives = ["keepalive 32;", "server 1"] }
       |                                                        ^^^^^^^^^^^^^^^ one directive of nginx, without its semicolon
       |
       = help: write them as ["zone shop 64k", "keepalive 32"]

    error: this cannot be a line of `directives`
      --> config.toml:17:73
       |
    17 | nginx = { file = "/x", upstream = "a b", directives = ["keepalive 32;", "server 1"] }
       |                                                                         ^^^^^^^^^^ the servers are the instances of the service
       |
       = help: write them as ["zone shop 64k", "keepalive 32"]

    error: `b` and `c` have one file
      --> config.toml:18:10
       |
    18 | [gateway.c]
       |          ^ each would replace what the other wrote
       |
       = help: give each its own nginx.file

    error: `c` has a gateway already
      --> config.toml:22:10
       |
    22 | [gateway.d]
       |          ^ this would be a second one
       |
       = help: one gateway a service: its counts decide when a drain is over

    error: the gateway `d` is no nginx
      --> config.toml:25:1
       |
    25 | nginx.file = "/y"
       | ^^^^^ nobody would read this
       |
       = help: add provider = "nginx", or remove this
    "#);
}

#[test]
fn a_spare_needs_a_gateway_a_port_and_a_name_of_its_own() {
    let refused = |text: &str, why: &str| {
        let said = mistakes(text);
        assert!(said.contains(why) && said.matches("error:").count() == 1, "{said}");
    };
    let service = "[service.web]\ncommand = \"web {port}\"\ninstance.web1 = { port = 1 }\n";
    let gateway = "[gateway.g]\nservice = \"web\"\nlisten = 80\n";
    let surge = "rollout.surge = true\n";
    let help = "add [gateway.NAME] with service = \"web\", or remove `surge`";
    refused(&format!("{service}{surge}"), help);
    let deaf = service.replace("{port}", "");
    refused(&format!("{deaf}{surge}{gateway}"), "pass {port} in `command` or `environment`");
    let socket = "socket.listen = 81\n";
    refused(&format!("{service}{socket}{surge}{gateway}"), "share a socket");
    let other = "[service.web-surge]\ncommand = \"x\"\n";
    refused(&format!("{service}{surge}{gateway}{other}"), "`web-surge` is taken");

    // A default is meant for those that can have one; with a spare all may stay.
    let defaults = "[defaults]\nrollout.surge = true\n";
    let text = format!(
        "{defaults}{service}rollout.min_ready = 1\n{gateway}[service.q]\ncommand = \"q\"\n"
    );
    let settings =
        parse("config.toml", &text).unwrap_or_else(|err| panic!("{}", err.render(false)));
    let rollouts: Vec<_> = settings.services.iter().map(|it| &it.rules.rollout).collect();
    assert_eq!(rollouts[0].spare, Some("web-surge".into()));
    assert_eq!((rollouts[0].min_ready, &rollouts[1].spare), (None, &None));
}

#[test]
fn what_an_nginx_says_of_its_load_is_checked() {
    let text = format!(
        "{WEB}[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\n[gateway.shop.nginx]\nfile = \"/x\"\nlog_format = \"$status\"\nstub_status = \"localhost\"\n"
    );
    let mistakes = mistakes(&text);
    for said in ["does not say which instance", "of no use without `access_log`", "must be a URL"] {
        assert!(mistakes.contains(said), "{mistakes}");
    }
    let text = text.replace("\"$status\"", "\"$status ${upstream_addr}\"\naccess_log = \"/l\"");
    let settings = parse("config.toml", &text.replace("localhost", "http://[::1]:80/s")).unwrap();
    let nginx = settings.gateways[0].provider.nginx().unwrap();
    assert_eq!(nginx.access_log, Some("/l".into()));
}
