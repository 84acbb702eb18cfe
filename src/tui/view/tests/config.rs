//! The configuration page.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::Model;
use crate::tui::update::{Command, Msg};

fn value(key: &str, from: Option<&str>, to: Option<&str>) -> KeyChange {
    KeyChange { key: key.into(), from: from.map(Into::into), to: to.map(Into::into) }
}

fn difference(name: &str, does: &str, message: &str, values: Vec<KeyChange>) -> Difference {
    Difference { name: name.into(), does: does.into(), message: message.into(), values }
}

pub(super) fn answered(diff: Vec<Difference>) -> Model {
    let mut deck = deck(vec![web()]);
    deck.config.path = Some("/etc/opsdeck/config.toml".into());
    deck.config.pending = vec!["stops queue".into()];
    let mut model = model_of(deck);
    type_keys(&mut model, &["c"]);
    send(
        &mut model,
        0,
        Msg::Reply { id: 1, result: Ok(Done { diff: Some(diff), ..Done::default() }) },
    );
    model
}

#[test]
fn every_change_says_what_it_does_with_old_and_new_values() {
    let command = "php -d memory_limit=512M -d opcache.enable_cli=1 bin/hyperf.php start";
    let mut model = answered(vec![
        difference("queue", "stop", "removed: it will be drained and stopped", vec![]),
        difference("mailer", "start", "added: mailer1, mailer2 will be started", vec![]),
        difference(
            "web",
            "stale",
            "command and environment (A, DB_PASSWORD) change; taken up by the next restart or rollout",
            vec![
                value("command", Some("php bin/hyperf.php start"), Some(command)),
                value("environment.A", None, Some("1\u{1b}[2J")),
                value("environment.DB_PASSWORD", Some("********"), Some("********")),
                value("environment.HIDDEN", None, None),
            ],
        ),
        difference(
            "web",
            "at-once",
            "max_wait_time 10s → 20s",
            vec![value("max_wait_time", Some("10s"), Some("20s"))],
        ),
    ]);
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r"
    opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:17

    /etc/opsdeck/config.toml
    pending: stops queue

    applying it: 1 stops, 1 starts, 1 waits for the next restart, 1 at once
      stop     queue   removed: it will be drained and stopped
      start    mailer  added: mailer1, mailer2 will be started
      stale    web     command and environment (A, DB_PASSWORD) change; taken up
                       by the next restart or rollout
                       command
                       - php bin/hyperf.php start
                       + php -d memory_limit=512M -d opcache.enable_cli=1
                         bin/hyperf.php start
                       environment.A  (none) → 1
                       environment.DB_PASSWORD  ******** (another one)
                       environment.HIDDEN  changes
      at once  web     max_wait_time 10s → 20s





    c apply  PgDn page down  PgUp page up  g first  G last  Esc back
    ");
    assert_snapshot!(screen(&mut model, 120, 40, 0), @r"
    opsdeck shop   1 service   2/2 ready   ~14 in flight                                              root@web-7  10:42:17

    /etc/opsdeck/config.toml
    pending: stops queue

    applying it: 1 stops, 1 starts, 1 waits for the next restart, 1 at once
      stop     queue   removed: it will be drained and stopped
      start    mailer  added: mailer1, mailer2 will be started
      stale    web     command and environment (A, DB_PASSWORD) change; taken up by the next restart or rollout
                       command
                       - php bin/hyperf.php start
                       + php -d memory_limit=512M -d opcache.enable_cli=1 bin/hyperf.php start
                       environment.A  (none) → 1
                       environment.DB_PASSWORD  ******** (another one)
                       environment.HIDDEN  changes
      at once  web     max_wait_time 10s → 20s























    c apply  PgDn page down  PgUp page up  g first  G last  Esc back
    ");
    assert_snapshot!(screen(&mut model, 40, 15, 0), @r"
    opsdeck shop   2/2 ready      10:42:17

    /etc/opsdeck/config.toml
    pending: stops queue

    applying it: 1 stops, 1 starts, 1 wait…
      stop     queue
        removed: it will be drained and
        stopped
      start    mailer
        added: mailer1, mailer2 will be
        started
      stale    web
        command and environment (A,
    c apply  PgDn page down  Esc back
    ");
}

#[test]
fn a_change_of_the_file_is_asked_about_again() {
    let mut model = answered(vec![]);
    let news =
        |kind: &str, seq| Event { kind: kind.into(), seq, ..event("10:42:18", None, None, "x") };
    let change = |event: Event| Change::Change {
        revision: 3,
        now: at(0).wall,
        services: vec![],
        removed: vec![],
        events: vec![event],
        config: None,
        notices: None,
    };
    let commands = send(&mut model, 0, Msg::Change(Box::new(change(news("config-pending", 2)))));
    assert!(matches!(commands.as_slice(), [Command::Send { id: 2, .. }]), "{commands:?}");
    assert_eq!(send(&mut model, 0, Msg::Change(Box::new(change(news("exited", 3))))), []);
}
