//! The pages in front of the table.

use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::update::Msg;

#[test]
fn help_is_drawn_from_the_table_of_keys() {
    let mut model = shop();
    type_keys(&mut model, &["?"]);
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17

    One key acts. Where it would hurt, the deck asks: the same key again does it.

    Actions
             r  rolling restart of the service; a stops it
             t  SIGTERM, out of rotation first; the countdown to SIGKILL runs
             u  SIGUSR1 (Swoole: reload all workers)
             h  SIGHUP (nginx: reload)
             s  start, and keep up
             x  stop through the ladder, and keep down
             d  hold out of rotation until D
             R  restart this instance in place, on a service all of them
             X  SIGKILL at once and keep down; asks first
             D  back into rotation
          S F9  choose a signal
             +  give the countdown 10 s more
             !  end the countdown with SIGKILL now; asks first
             a  abort the rolling restart of this service
             p  pause or resume the rolling restart
             b  run the rollback commands, renew the instances again

    Looking
    PgDn page down  PgUp page up  g first  G last  Esc back
    "#);
    let whole = screen(&mut model, 60, 120, 0);
    for part in [
        "  c  mistakes and pending changes of the\n             configuration; again: apply\n",
        "  Space  mark; actions go to all marked rows, one after\n             another\n",
        " In the filter (/); several words: all of them\n",
        "  load>100 flight>0         requests per second, requests in\n",
    ] {
        assert!(whole.contains(part), "{part}{whole}");
    }
}

#[test]
fn the_configuration_says_what_applying_it_would_do() {
    let mut deck = deck(vec![web()]);
    deck.config.path = Some("/etc/opsdeck/config.toml".into());
    deck.config.pending = vec!["stops queue".into()];
    let mut model = model_of(deck);
    type_keys(&mut model, &["c"]);
    let it = |name: &str, does: &str, message: &str| Difference {
        name: name.into(),
        does: does.into(),
        message: message.into(),
        ..Difference::default()
    };
    let diff = vec![
        it("queue", "stop", "removed: drained and stopped"),
        it("web", "stale", "command changes; taken up by the next restart or rollout"),
    ];
    let result = Ok(Done { diff: Some(diff), ..Done::default() });
    send(&mut model, 0, Msg::Reply { id: 1, result });
    send(&mut model, 0, Msg::Drawn);
    press(&mut model, 900, "c");
    assert_snapshot!(screen(&mut model, 80, 12, 900), @r"
    opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:17

    /etc/opsdeck/config.toml
    pending: stops queue

    applying it: 1 stops, 1 waits for the next restart
      stop     queue  removed: drained and stopped
      stale    web    command changes; taken up by the next restart or rollout



    applying stops queue. c again does it, any other key cancels
    ");
}

#[test]
fn every_mistake_of_the_configuration_is_shown_at_its_place() {
    let mut deck = deck(vec![web()]);
    deck.config.path = Some("/etc/opsdeck/config.toml".into());
    deck.config.error =
        Some("config.toml:3: unknown key `comand`; config.toml:9: no such signal".into());
    let mut model = model_of(deck);
    type_keys(&mut model, &["c"]);
    let detail = "error: unknown key `comand`\n --> config.toml:3:1\n  |\n3 | comand = \"x\"\n  | ^^^^^^ did you mean `command`?";
    let result =
        Err(problem("config", "the configuration has mistakes; nothing was changed", detail));
    send(&mut model, 0, Msg::Reply { id: 1, result });
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
    opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:17

    /etc/opsdeck/config.toml
    not applied; the running configuration stays:

    the configuration has mistakes; nothing was changed
    error: unknown key `comand`
     --> config.toml:3:1
      |
    3 | comand = "x"
      | ^^^^^^ did you mean `command`?


    c apply  PgDn page down  PgUp page up  g first  G last  Esc back
    "#);
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(press(&mut model, 900, "c"), []);
    assert_eq!(
        model.notice.as_ref().unwrap().text,
        "nothing to apply: the configuration has mistakes"
    );
}

#[test]
fn what_does_not_fit_a_narrow_screen_wraps_or_says_that_it_is_cut() {
    let mut model = shop();
    type_keys(&mut model, &["?"]);
    assert_snapshot!(screen(&mut model, 40, 12, 0), @r#"
    opsdeck shop   2/3 ready      10:42:17

    One key acts. Where it would hurt, the
    deck asks: the same key again does it.

    Actions
             r  rolling restart of the
                service; a stops it
             t  SIGTERM, out of rotation
                first; the countdown to
                SIGKILL runs
    PgDn page down  Esc back
    "#);
    type_keys(&mut model, &["q", "e"]);
    events(&mut model, vec![event("10:42:12", None, Some("web1"), "started, pid 123456")]);
    assert_snapshot!(screen(&mut model, 40, 10, 0), @r"
    opsdeck shop   2/3 ready      10:42:17
    events          asking for older ones…
    10:42:12  web1 started, pid 123456






    ⏎ whole  s service  w who  Esc back
    ");
}

#[test]
fn signals_have_numbers_and_meanings() {
    let mut model = shop();
    type_keys(&mut model, &["j", "S"]);
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17

    signal to web1   ⏎ sends, Esc does not, digits choose
       6  SIGABRT    abort; core dump
       7  SIGBUS     bus error; core dump
       8  SIGFPE     arithmetic error; core dump
       9  SIGKILL    end at once, cannot be caught; requests are lost
      10  SIGUSR1    Swoole: reload all workers; nginx: reopen logs
      11  SIGSEGV    segmentation fault; core dump
      12  SIGUSR2    Swoole: reload task workers; nginx: upgrade the binary
      13  SIGPIPE    broken pipe
      14  SIGALRM    alarm
      15  SIGTERM    ask to end
    ⏎ send  0-9 by number  PgDn page down  PgUp page up  g first  Esc back
    "#);
}

#[test]
fn the_palette_finds_actions_by_their_text() {
    let mut model = shop();
    type_keys(&mut model, &[":", "s", "t", "o", "p"]);
    assert_snapshot!(screen(&mut model, 80, 12, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17

    :stop
         x  stop        stop through the ladder, and keep down
         X  stop-now    SIGKILL at once and keep down; asks first
         r  roll        rolling restart of the service; a stops it
         q  quit        leave; nothing stops




    ⏎ do it  PgDn page down  PgUp page up  Esc back
    "#);
}

#[test]
fn the_palette_underlines_what_was_typed_and_a_looking_deck_has_no_acting_keys_there() {
    let mut model = shop();
    type_keys(&mut model, &[":", "r", "b", "k"]);
    let mut buf = Buffer::empty(Rect::new(0, 0, 80, 24));
    crate::tui::view::draw(&model, at(0), &mut buf);
    assert!(text(&buf).contains("      b  rollback    run the rollback commands"));
    let typed = |x: &u16| buf[(*x, 3)].modifier.contains(Modifier::UNDERLINED);
    assert_eq!((0..80).filter(typed).collect::<Vec<_>>(), [9, 13, 16]);

    let mut looking = deck(vec![web()]);
    looking.role = Role::Viewer;
    let mut model = model_of(looking);
    type_keys(&mut model, &[":", "s", "t", "o", "p"]);
    let shown = screen(&mut model, 80, 24, 0);
    assert!(!shown.contains("stop-now") && shown.contains("leave; nothing stops"), "{shown}");
}
