use insta::assert_snapshot;

use super::*;
use crate::config::parse;

fn settings(text: &str) -> Settings {
    parse("config.toml", text).unwrap_or_else(|err| panic!("{}", err.render(false)))
}

fn lines(old: &str, new: &str) -> String {
    let diff = diff(&settings(old), &settings(new));
    let line = |it: &Change| format!("{} {}: {}", it.does.word(), it.name, it.message());
    diff.changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

const WEB: &str = "[service.web]\ncommand = \"php web {port}\"\nenvironment = { A = \"geheim\", B = \"1\" }\ninstance.web1 = { port = 1 }\ninstance.web2 = { port = 2 }\n";
const QUEUE: &str = "[service.queue]\ncommand = \"php queue\"\n";

#[test]
fn nothing_changes_between_equal_files() {
    let same = settings(&format!("{WEB}{QUEUE}"));
    assert!(diff(&same, &same).is_empty());
    assert_eq!(without_stops(&same, &same), (same.clone(), vec![]));
}

#[test]
fn services_come_and_go() {
    let old = format!("{WEB}{QUEUE}");
    let new = format!(
        "{WEB}[service.cron]\ncommand = \"cron\"\n[service.off]\ncommand = \"x\"\nenabled = false\n"
    );
    assert_snapshot!(lines(&old, &new), @r"
    start cron: added: it will be started
    at-once off: added, but not enabled: nothing is started
    stop queue: removed: it will be drained and stopped
    ");
    assert_snapshot!(lines(&old, &format!("{WEB}{QUEUE}enabled = false\n")), @"stop queue: disabled: it will be drained and stopped");
    assert_snapshot!(lines(&format!("{WEB}{QUEUE}enabled = false\n"), &old), @"start queue: enabled: it will be started");
}

#[test]
fn a_changed_start_makes_stale_and_a_changed_rule_applies_at_once() {
    let new = WEB.replace("geheim", "neu").replace("B = \"1\"", "C = \"1\"")
        + "max_wait_time = \"20s\"\nuser = \"www-data\"\nprobe.liveness = { http = {} }\nlog.keep = 1\n";
    assert_snapshot!(lines(WEB, &new), @r"
    stale web: environment (A, B, C) and user change; taken up by the next restart or rollout
    at-once web: max_wait_time 10s → 20s; probe.liveness and log change
    ");
    assert_snapshot!(lines(WEB, &WEB.replace("port = 2", "port = 3, backup = true")), @r"
    stale web2: port (2 → 3) and command change; taken up by the next restart or rollout
    at-once web: backup changes
    ");
}

#[test]
fn instances_come_and_go() {
    let new = WEB.replace("web2 = { port = 2 }", "web3 = { port = 3 }");
    assert_snapshot!(lines(WEB, &new), @r"
    start web3: added to web: it will be started
    stop web2: removed from web: it will be drained and stopped
    ");
}

#[test]
fn a_service_under_another_name_goes_on() {
    let (old, new) = (format!("{WEB}{SHOP}"), format!("{WEB}{SHOP}").replace("web]", "api]"));
    let (old, new) = (old, new.replace("\"web\"", "\"api\""));
    assert_snapshot!(lines(&old, &new), @"at-once api: renamed from web: what runs goes on");
    let (before, after) = (settings(&old), settings(&new));
    assert!(!diff(&before, &after).stops_more_than_half());
    assert_eq!(without_stops(&before, &after), (after, vec![]));

    let other = new.replace("web2 = { port = 2 }", "web3 = { port = 3 }").replace("php", "php8");
    assert_snapshot!(lines(&old, &other), @r"
    at-once api: renamed from web: what runs goes on
    start web3: added to api: it will be started
    stop web2: removed from api: it will be drained and stopped
    stale web1: command changes; taken up by the next restart or rollout
    ");
    assert!(values(&old, &other).ends_with("web1: command: php web {port} → php8 web {port}"));
    let (part, pending) = without_stops(&settings(&old), &settings(&other));
    assert_eq!(pending, ["stops web2"]);
    let names: Vec<_> = part.services[0].instances.iter().map(|it| &*it.name).collect();
    assert_eq!((name_of(&part.services[0]), names), ("api", vec!["web1", "web3", "web2"]));

    let split = "[service.one]\ncommand = \"x\"\ninstance.web1 = { port = 1 }\n[service.two]\ncommand = \"x\"\ninstance.web2 = { port = 2 }\n";
    assert!(lines(WEB, split).starts_with("at-once one: renamed from web: what runs goes on\n"));
    assert_snapshot!(lines(QUEUE, &QUEUE.replace("queue]", "jobs]")), @r"
    start jobs: added: it will be started
    stop queue: removed: it will be drained and stopped
    ");
}

#[test]
fn the_deck_and_its_keys_change() {
    let new = "[deck]\nwatch = true\nstate_dir = \"/x\"\nsocket = \"/y\"\n[keys]\nterm = \"T\"\n"
        .to_owned()
        + QUEUE
        + WEB;
    assert_snapshot!(lines(&format!("{WEB}{QUEUE}"), &new), @r"
    stale deck: state_dir and socket change; taken up after `opsdeck shutdown`: what runs is known only where the state is now
    at-once deck: watch, [keys] and the order of the services change
    ");
}

#[test]
fn stopping_more_than_half_is_noticed() {
    let names = |names: &[&str]| {
        let text: String =
            names.iter().map(|it| format!("[service.{it}]\ncommand = \"x\"\n")).collect();
        settings(&text)
    };
    let four = names(&["a", "b", "c", "d"]);
    assert!(!diff(&four, &names(&["a", "b"])).stops_more_than_half());
    assert!(diff(&four, &names(&["a"])).stops_more_than_half());
    assert_eq!(diff(&four, &names(&["a"])).stops(), ["b", "c", "d"]);
    assert!(!diff(&names(&[]), &four).stops_more_than_half());
}

#[test]
fn a_watched_edit_stops_nothing() {
    let old = settings(&format!("{WEB}{QUEUE}[service.cron]\ncommand = \"cron\"\n"));
    let new = settings(
        &(WEB.replace("instance.web2 = { port = 2 }\n", "")
            + QUEUE
            + "enabled = false\nmax_wait_time = \"1s\"\n"),
    );

    let (part, pending) = without_stops(&old, &new);

    assert_eq!(pending, ["stops web2", "stops queue", "stops cron"]);
    assert_eq!(diff(&old, &part).stops(), [""; 0]);
    assert_eq!(diff(&part, &new).stops(), ["web2", "queue", "cron"]);
    let names: Vec<_> = part.services.iter().map(name_of).collect();
    assert_eq!(names, ["web", "queue", "cron"]);
    assert_eq!(part.services[1].rules.max_wait_time.as_secs(), 1, "the rest applies at once");
}

#[test]
fn what_needs_the_place_of_a_stop_waits_with_it() {
    let old = settings(&format!("{WEB}{QUEUE}"));
    let new = "[service.other]\ncommand = \"x\"\ninstance.web1 = { port = 9 }\n[service.same]\ncommand = \"x\"\ninstance.web2 = { port = 8 }\n[service.third]\ncommand = \"x\"\ninstance.t = { port = 2 }\n[service.free]\ncommand = \"x\"\ndepends_on = [\"third\"]\n";
    let (part, pending) = without_stops(&old, &settings(&format!("{new}{QUEUE}")));

    assert_eq!(pending, ["stops web2", "starts same", "starts third"]);
    let names: Vec<_> = part.services.iter().map(name_of).collect();
    assert_eq!(names, ["other", "free", "queue"]);
    assert!(part.services[1].rules.depends_on.is_empty());
}

const SHOP: &str = "[gateway.shop]\nservice = \"web\"\nlisten = \"0.0.0.0:80\"\n";

#[test]
fn gateways_come_go_and_change() {
    let old = format!("{WEB}{QUEUE}{SHOP}");
    assert_snapshot!(lines(&format!("{WEB}{QUEUE}"), &old), @"start gateway shop: added in front of web: it will listen on 0.0.0.0:80");
    assert_snapshot!(lines(&old, &format!("{WEB}{QUEUE}")), @"stop gateway shop: removed: nobody listens on 0.0.0.0:80 any more");
    assert_snapshot!(lines(&old, &old.replace(":80", ":81")), @"stop gateway shop: moves from 0.0.0.0:80 to 0.0.0.0:81");
    assert_snapshot!(lines(&old, &format!("{old}hold = \"1s\"\n")), @"at-once gateway shop: its limits change");
}

#[test]
fn a_gateway_that_is_renamed_is_the_same_to_its_clients() {
    let old = format!("{WEB}{QUEUE}{SHOP}");
    let new = old.replace("shop", "front");
    assert_snapshot!(lines(&old, &new), @"at-once gateway front: renamed from shop: no connection is closed");
    assert_snapshot!(lines(&old, &format!("{new}hold = \"1s\"\n")), @"at-once gateway front: renamed from shop: no connection is closed; its limits change");
    let api = WEB.replace("web", "api").replace("port = ", "port = 1");
    let (old, new) = (old + &api, new.replace("e = \"web", "e = \"api") + &api);
    assert_snapshot!(lines(&old, &new), @"at-once gateway front: renamed from shop: no connection is closed; stands in front of api instead of web");
    let (old, new) = (settings(&old), settings(&new));
    assert!(!diff(&old, &new).stops_more_than_half());
    assert_eq!(without_stops(&old, &new), (new, vec![]));
}

#[test]
fn an_nginx_comes_goes_and_changes() {
    let bare = format!("{WEB}{QUEUE}");
    let old = format!(
        "{bare}[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\nnginx.file = \"/n/shop.conf\"\n"
    );
    assert_snapshot!(lines(&bare, &old), @"start gateway shop: added in front of web: nginx will be told by /n/shop.conf");
    assert_snapshot!(lines(&old, &bare), @"stop gateway shop: removed: nginx is told nothing any more");
    assert_snapshot!(lines(&old, &old.replace("shop.conf", "web.conf")), @"stop gateway shop: moves from /n/shop.conf to /n/web.conf");
    assert_snapshot!(lines(&old, &format!("{old}nginx.max_fails = 0\n")), @"at-once gateway shop: how nginx is told changes");
    assert_snapshot!(lines(&format!("{bare}{SHOP}"), &old), @"stop gateway shop: moves from 0.0.0.0:80 to /n/shop.conf");
}

#[test]
fn a_watched_edit_takes_no_address_away() {
    let old = settings(&format!("{WEB}{SHOP}"));
    let other = SHOP.replace("shop", "other").replace("0.0.0.0", "127.0.0.1");
    let new = settings(&format!("{WEB}{other}"));

    let (part, pending) = without_stops(&old, &new);

    assert_eq!(pending, ["stops gateway shop"]);
    assert_eq!(part.gateways, old.gateways, "the new one wants the same place");
    assert!(part.services[0].rules.fronted);
    let (part, pending) = without_stops(&old, &settings(WEB));
    assert_eq!((part.gateways.len(), pending.len()), (1, 1));
    assert!(part.services[0].rules.fronted);
}

fn values(old: &str, new: &str) -> String {
    let diff = diff(&settings(old), &settings(new));
    let none = || "-".to_owned();
    let mut lines = vec![];
    for change in &diff.changes {
        for it in &change.values {
            let (from, to) =
                (it.from.clone().unwrap_or_else(none), it.to.clone().unwrap_or_else(none));
            lines.push(format!(
                "{} {}: {}: {from} → {to}",
                change.does.word(),
                change.name,
                it.key
            ));
        }
    }
    lines.join("\n")
}

#[test]
fn old_and_new_values_stand_beside_the_change_they_explain() {
    let new = WEB.replace("php web", "php -v web").replace("B = \"1\"", "C = \"1\"")
        + "max_wait_time = \"20s\"\nuser = \"www-data\"\nlog.keep = 1\nstop = [{ signal = \"QUIT\" }]\n";
    assert_snapshot!(values(WEB, &new), @r#"
    stale web: command: php web {port} → php -v web {port}
    stale web: environment.B: 1 → -
    stale web: environment.C: - → 1
    stale web: user: - → www-data
    at-once web: log.keep: 5 → 1
    at-once web: max_wait_time: 10s → 20s
    at-once web: stop: [{ signal = "SIGTERM" }] → [{ signal = "SIGQUIT" }]
    "#);
    assert_snapshot!(values(WEB, &WEB.replace("port = 2", "port = 3, backup = true")), @r"
    stale web2: instance.web2.port: 2 → 3
    at-once web: instance.web2.backup: false → true
    ");
    let deck = |text: &str| format!("[deck]\n{text}\n{WEB}");
    assert_snapshot!(values(&deck(""), &deck("confirm = \"never\"\nstate_dir = \"/x\"")), @r"
    stale deck: state_dir: - → /x
    at-once deck: confirm: guard → never
    ");
    assert_eq!(values(WEB, &format!("{WEB}{QUEUE}")), "", "what is new has no old value");
}

#[test]
fn secrets_are_no_values() {
    let with = |password: &str| {
        WEB.replace(
            "A = \"geheim\"",
            &format!("DB_PASSWORD = \"{password}\", CACHE = \"redis://a:{password}@c/0\""),
        )
        .replace("php web", &format!("php web --token={password}"))
    };
    assert_snapshot!(values(&with("geheim1"), &with("geheim2")), @r"
    stale web: command: php web --token=******** {port} → php web --token=******** {port}
    stale web: environment.CACHE: redis://********@c/0 → redis://********@c/0
    stale web: environment.DB_PASSWORD: ******** → ********
    ");
}

/// Nothing of it is started or stopped because a file changes.
#[test]
fn what_somebody_else_runs_comes_and_goes_at_once() {
    let web = "[service.web]\nengine = \"pidfile\"\npidfile = \"/run/{instance}.pid\"\n";
    let old = format!("{web}instance = {{ web1 = {{}}, web2 = {{}} }}\n");
    let new = format!("{web}start = \"ctl\"\ninstance = {{ web2 = {{}}, web3 = {{}} }}\n");
    assert_snapshot!(lines("", &old), @"at-once web: added: its pid files are followed");
    assert_snapshot!(lines(&old, &new), @r"
    at-once web3: added to web: its pid file is followed
    at-once web1: removed from web: it is left running
    stale web2: start changes; taken up by the next restart or rollout
    ");
    assert_snapshot!(lines(&old, ""), @"at-once web: removed: it is left running");
    assert_snapshot!(lines(&old, &format!("{old}enabled = false\n")), @"at-once web: disabled: it is left running");
    for new in [new.as_str(), ""] {
        let new = settings(new);
        assert_eq!(without_stops(&settings(&old), &new), (new.clone(), vec![]));
    }
}
