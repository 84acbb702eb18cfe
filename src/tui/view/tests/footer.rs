//! The last line: questions, the filter, marks, what the keys do.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::Model;
use crate::tui::update::Msg;

/// The last line of the screen.
fn last(model: &mut Model, width: u16) -> String {
    screen(model, width, 24, 0).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_guard_asks_in_the_footer() {
    let mut model = shop();
    type_keys(&mut model, &["j", "t"]);
    let why =
        "web1 is the last ready instance of web: no other one takes its requests while it restarts";
    let result = Err(problem(problem::CONFIRM, "confirm", why));
    send(&mut model, 0, Msg::Reply { id: 1, result });
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"






     SIGTERM: web1 is the last ready instance of web: no other one takes its
     requests while it restarts. t again does it, any other key cancels
    "#);
}

#[test]
fn a_filter_shows_itself() {
    let mut model = shop();
    type_keys(&mut model, &["/", "w", "e", "b", "2"]);
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup



     /web2  ⏎ keep  Esc clear
    "#);
    type_keys(&mut model, &["enter", "space"]);
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾•web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup



     /web2 (Esc clears)  1 marked  r roll  t TERM  u USR1  h HUP  ? help  q detach
    "#);
}

#[test]
fn a_filter_that_is_not_understood_says_so_beside_its_text_and_in_the_footer() {
    let mut model = shop();
    type_keys(&mut model, &["/", "c", "p", "u", ">", "x"]);
    assert_eq!(last(&mut model, 80), " /cpu>x  cpu>x: \"x\" is no number");
    assert_eq!(last(&mut model, 40), " /cpu>x  cpu>x: \"x\" is no number");
    type_keys(&mut model, &["enter", "*"]);
    assert!(model.marked.is_empty(), "nobody knows what is meant by all");
    assert!(last(&mut model, 80).starts_with(" nothing was marked"));
    type_keys(&mut model, &["j"]);
    assert!(last(&mut model, 80).starts_with(" / cpu>x: \"x\" is no number (Esc clears)"));
}

#[test]
fn a_filter_with_a_word_that_there_is_not_says_at_once_which_there_are() {
    let mut model = shop();
    type_keys(&mut model, &["/", "f", "o", "o", ">"]);
    assert_eq!(
        last(&mut model, 80),
        " /foo>  foo>: no such word; there are load flight cpu mem restarts p99 state re…"
    );
    assert_eq!(model.rows.list.len(), 4, "as if it were not there");
    press(&mut model, 0, "enter");
    assert!(last(&mut model, 80).starts_with(" / foo>: no such word (Esc clears)"));
}

#[test]
fn all_that_is_shown_is_marked_and_marks_that_are_not_shown_are_counted() {
    let mut model = shop();
    type_keys(&mut model, &["/", "w", "e", "b", "enter", "*"]);
    assert!(last(&mut model, 80).starts_with(" /web (Esc clears)  2 marked  "));
    type_keys(&mut model, &["/", "1", "enter"]);
    assert!(last(&mut model, 80).starts_with(" /web1 (Esc clears)  2 marked, 1 not shown  "));
    type_keys(&mut model, &["esc", "left"]);
    assert!(last(&mut model, 80).starts_with(" 2 marked, 2 not shown  "));
    type_keys(&mut model, &["right", "*"]);
    assert!(last(&mut model, 80).starts_with(" 3 marked  "), "cron as well");
    type_keys(&mut model, &["*"]);
    assert!(model.marked.is_empty());
}

#[test]
fn a_read_only_deck_shows_no_acting_keys() {
    let mut model = shop();
    model.read_only = true;
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   read-only   2 services   2/3 ready   ~14 in flight     10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"

     l logs  ⏎ detail  / filter  : all keys  ? help  q detach
    "#);
}
