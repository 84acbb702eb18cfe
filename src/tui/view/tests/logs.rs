//! The log page.

use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::logs::Page;
use crate::tui::model::Model;
use crate::tui::theme::Theme;
use crate::tui::update::{Command, Msg};

/// The log page of `web` with these lines, a second apart; is it all of the log?
fn open(lines: &[(&str, &str)], whole: bool) -> (Model, u64) {
    let mut model = shop();
    let commands = type_keys(&mut model, &["l"]);
    let [Command::ReadLog { id, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    let line = |(n, (instance, line)): (usize, &(&str, &str))| LogLine {
        instance: (*instance).into(),
        at: Some(at(0).wall + jiff::SignedDuration::from_secs(i64::try_from(n).unwrap() - 60)),
        line: (*line).into(),
        ..LogLine::default()
    };
    let lines = lines.iter().enumerate().map(line).collect();
    let page = Page { lines, last: whole, ..Page::default() };
    let id = *id;
    send(&mut model, 0, Msg::LogPage { id, page: Ok(page) });
    (model, id)
}

pub(super) fn requests() -> (Model, u64) {
    let line = |n: usize| {
        let color = if n.is_multiple_of(7) { "31" } else { "32" };
        let status = if n.is_multiple_of(7) { 500 } else { 200 };
        (
            if n.is_multiple_of(3) { "web2" } else { "web1" },
            format!("GET /orders/{n} \u{1b}[{color}m{status}\u{1b}[0m in {}ms", n * 13 % 97),
        )
    };
    let lines: Vec<_> = (0..60).map(line).collect();
    let lines: Vec<_> = lines.iter().map(|(name, line)| (*name, line.as_str())).collect();
    open(&lines, false)
}

#[test]
fn logs_with_hostile_text_leave_the_screen_whole() {
    let hostile = [
        ("web1", "\u{1b}[2J\u{1b}[H\u{1b}]0;pwned\u{7}GET / 200"),
        ("web2", "10%\r20%\r100% done"),
        (
            "web1",
            "\u{202e}gpj.exe\u{2066} \u{200b}zero\u{200d}width \u{feff}漢字 👩\u{200d}👩\u{200d}👧 e\u{301}",
        ),
        ("web2", "a\tb\u{8}\u{8}\u{0}\u{7f}c \u{9b}31m \u{fffd}"),
        (
            "web1",
            "a very long line that goes on and on, past the right edge of every sensible screen, and on",
        ),
        ("web2", ""),
    ];
    let (mut model, _) = open(&hostile, true);
    assert_snapshot!(screen(&mut model, 60, 12, 0), @r#"
     opsdeck shop   2 services   2/3 ready             10:42:17
     logs of web1, web2                               following
    web1  GET / 200
    web2  100% done
    web1  gpj.exe zerowidth 漢字 👩👩👧 é
    web2  a       bc 31m �
    web1  a very long line that goes on and on, past the right …
    web2



     / search  n next  & filter  t time  f follow  Esc back
    "#);
    type_keys(&mut model, &["w"]);
    assert_snapshot!(screen(&mut model, 60, 12, 0), @r#"
     opsdeck shop   2 services   2/3 ready             10:42:17
     logs of web1, web2                               following
    web1  GET / 200
    web2  100% done
    web1  gpj.exe zerowidth 漢字 👩👩👧 é
    web2  a       bc 31m �
    web1  a very long line that goes on and on, past the right e
          dge of every sensible screen, and on
    web2


     / search  n next  & filter  t time  f follow  Esc back
    "#);
}

#[test]
fn it_follows_at_80x24_and_its_keys_are_shown() {
    let (mut model, _) = requests();
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
     logs of web1, web2                                                   following
    web2  GET /orders/39 200 in 22ms
    web1  GET /orders/40 200 in 35ms
    web1  GET /orders/41 200 in 48ms
    web2  GET /orders/42 500 in 61ms
    web1  GET /orders/43 200 in 74ms
    web1  GET /orders/44 200 in 87ms
    web2  GET /orders/45 200 in 3ms
    web1  GET /orders/46 200 in 16ms
    web1  GET /orders/47 200 in 29ms
    web2  GET /orders/48 200 in 42ms
    web1  GET /orders/49 500 in 55ms
    web1  GET /orders/50 200 in 68ms
    web2  GET /orders/51 200 in 81ms
    web1  GET /orders/52 200 in 94ms
    web1  GET /orders/53 200 in 10ms
    web2  GET /orders/54 200 in 23ms
    web1  GET /orders/55 200 in 36ms
    web1  GET /orders/56 500 in 49ms
    web2  GET /orders/57 200 in 62ms
    web1  GET /orders/58 200 in 75ms
    web1  GET /orders/59 200 in 88ms
     / search  n next  & filter  t time  f follow  w wrap  y copy  Esc back
    "#);
}

#[test]
fn paused_with_times_at_120x40() {
    let (mut model, _) = requests();
    send(&mut model, 0, Msg::Resize(120, 40));
    type_keys(&mut model, &["T", "k", "k"]);
    assert_snapshot!(screen(&mut model, 120, 40, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight                                             root@web-7  10:42:17
     logs of web1, web2                                                                                  paused at 10:41:38
    10:41:38 web2  GET /orders/21 500 in 79ms
    10:41:39 web1  GET /orders/22 200 in 92ms
    10:41:40 web1  GET /orders/23 200 in 8ms
    10:41:41 web2  GET /orders/24 200 in 21ms
    10:41:42 web1  GET /orders/25 200 in 34ms
    10:41:43 web1  GET /orders/26 200 in 47ms
    10:41:44 web2  GET /orders/27 200 in 60ms
    10:41:45 web1  GET /orders/28 500 in 73ms
    10:41:46 web1  GET /orders/29 200 in 86ms
    10:41:47 web2  GET /orders/30 200 in 2ms
    10:41:48 web1  GET /orders/31 200 in 15ms
    10:41:49 web1  GET /orders/32 200 in 28ms
    10:41:50 web2  GET /orders/33 200 in 41ms
    10:41:51 web1  GET /orders/34 200 in 54ms
    10:41:52 web1  GET /orders/35 500 in 67ms
    10:41:53 web2  GET /orders/36 200 in 80ms
    10:41:54 web1  GET /orders/37 200 in 93ms
    10:41:55 web1  GET /orders/38 200 in 9ms
    10:41:56 web2  GET /orders/39 200 in 22ms
    10:41:57 web1  GET /orders/40 200 in 35ms
    10:41:58 web1  GET /orders/41 200 in 48ms
    10:41:59 web2  GET /orders/42 500 in 61ms
    10:42:00 web1  GET /orders/43 200 in 74ms
    10:42:01 web1  GET /orders/44 200 in 87ms
    10:42:02 web2  GET /orders/45 200 in 3ms
    10:42:03 web1  GET /orders/46 200 in 16ms
    10:42:04 web1  GET /orders/47 200 in 29ms
    10:42:05 web2  GET /orders/48 200 in 42ms
    10:42:06 web1  GET /orders/49 500 in 55ms
    10:42:07 web1  GET /orders/50 200 in 68ms
    10:42:08 web2  GET /orders/51 200 in 81ms
    10:42:09 web1  GET /orders/52 200 in 94ms
    10:42:10 web1  GET /orders/53 200 in 10ms
    10:42:11 web2  GET /orders/54 200 in 23ms
    10:42:12 web1  GET /orders/55 200 in 36ms
    10:42:13 web1  GET /orders/56 500 in 49ms
    10:42:14 web2  GET /orders/57 200 in 62ms
     / search  n next  & filter  t time  f follow  w wrap  y copy  v lines  s save  T times  PgUp page up  Esc back
    "#);
}

#[test]
fn a_search_tells_how_far_it_is_at_40x15() {
    let (mut model, _) = requests();
    send(&mut model, 0, Msg::Resize(40, 15));
    let commands = type_keys(&mut model, &["/", "x", "y", "enter"]);
    let [Command::ReadLog { id, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    let (searched, of) = (1_288_490_189, 10 << 30);
    send(&mut model, 0, Msg::LogProgress { id: *id, searched, of });
    assert_snapshot!(screen(&mut model, 40, 15, 0), @r#"
     opsdeck shop   2/3 ready      10:42:17
     logs of web1, … searched 1.2G of 10.0G
    web2  GET /orders/48 200 in 42ms
    web1  GET /orders/49 500 in 55ms
    web1  GET /orders/50 200 in 68ms
    web2  GET /orders/51 200 in 81ms
    web1  GET /orders/52 200 in 94ms
    web1  GET /orders/53 200 in 10ms
    web2  GET /orders/54 200 in 23ms
    web1  GET /orders/55 200 in 36ms
    web1  GET /orders/56 500 in 49ms
    web2  GET /orders/57 200 in 62ms
    web1  GET /orders/58 200 in 75ms
    web1  GET /orders/59 200 in 88ms
     / search  n next  & filter  Esc back
    "#);
}

#[test]
fn a_filter_is_in_the_title_and_what_is_written_on_the_last_line() {
    let (mut model, _) = requests();
    let commands = type_keys(&mut model, &["&", "5", "0", "0"]);
    assert_eq!(commands, []);
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
     logs of web1, web2                                                   following
    web1  GET /orders/55 200 in 36ms
    web1  GET /orders/56 500 in 49ms
    web2  GET /orders/57 200 in 62ms
    web1  GET /orders/58 200 in 75ms
    web1  GET /orders/59 200 in 88ms
     only with 500  ⏎ show  Esc leave it  (a regular expression; empty: all)
    "#);
    let commands = type_keys(&mut model, &["enter"]);
    let Some(Command::ReadLog { id, .. }) = commands.last() else { panic!("{commands:?}") };
    send(&mut model, 0, Msg::LogPage { id: *id, page: Ok(Page { last: true, ..Page::default() }) });
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
    logs of web1, web2  &500                                             following
    no line matches




    / search  n next  & filter  t time  f follow  w wrap  y copy  Esc back
    "#);
    type_keys(&mut model, &["t"]);
    assert_snapshot!(screen(&mut model, 40, 8, 0), @r#"
    opsdeck shop   2/3 ready      10:42:17
    logs of web1, web2  &500     following
    no line matches




    from   10m, 09:30, a date  ⏎ go  Esc s…
    "#);
}

#[test]
fn colours_are_kept_as_far_as_the_theme_has_them_and_matches_stand_out() {
    let (mut model, _) = requests();
    send(&mut model, 0, Msg::Resize(80, 24));
    let style = |model: &Model, text: &str| {
        let area = ratatui::layout::Rect::new(0, 0, 80, 24);
        let mut buf = ratatui::buffer::Buffer::empty(area);
        crate::tui::view::draw(model, at(0), &mut buf);
        let y = (2..22)
            .find(|y| (0..70).map(|x| buf[(x, *y)].symbol()).collect::<String>().contains(text));
        let y = y.unwrap();
        let x = (0..70)
            .find(|x| "52".contains(buf[(*x, y)].symbol()) && buf[(x + 3, y)].symbol() == " ");
        buf[(x.unwrap(), y)].style()
    };
    assert_eq!(style(&model, "/orders/56").fg, Some(Color::Red));
    assert_eq!(style(&model, "/orders/55").fg, Some(Color::Green));
    type_keys(&mut model, &["/", "5", "0", "0"]);
    assert!(style(&model, "/orders/56").add_modifier.contains(Modifier::REVERSED));
    model.theme = Theme::new(false, true);
    assert_eq!(style(&model, "/orders/55").fg, Some(Color::Reset));
}
