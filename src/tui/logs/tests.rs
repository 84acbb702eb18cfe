//! The window and where one looks at it.

use super::window::{MOST_BYTES, MOST_LINES};
use super::*;
use crate::api::{LogLine, LogPlace};

fn place(offset: usize) -> LogPlace {
    LogPlace { file: 1, offset: offset.try_into().unwrap_or(0) }
}

/// The `n`th line of web1; each is ten bytes long in its file.
fn line(n: usize, text: &str) -> LogLine {
    LogLine {
        instance: "web1".into(),
        line: text.into(),
        begins: Some(place(n * 10)),
        ends: Some(place(n * 10 + 10)),
        ..LogLine::default()
    }
}

/// Lines `from..to` as a page.
fn page(from: usize, to: usize, last: bool) -> Page {
    let at = |n| [("web1".to_owned(), place(n * 10))].into();
    let lines = (from..to).map(|n| line(n, &format!("line {n}"))).collect();
    Page { lines, begins: at(from), ends: at(to), last }
}

/// A page that shows lines `from..to` of a log that ends there.
fn logs(from: usize, to: usize) -> Logs {
    let mut logs = Logs::new(1, vec!["web1".into()]);
    logs.window.begin(&page(from, to, from == 0));
    logs.window.is_last = true;
    logs
}

fn push(logs: &mut Logs, text: &str) {
    let n = logs.window.ends()["web1"].offset / 10;
    logs.window.push(&line(n.try_into().unwrap_or(0), text));
}

fn edges(logs: &Logs) -> (u64, u64) {
    (logs.window.begins()["web1"].offset / 10, logs.window.ends()["web1"].offset / 10)
}

#[test]
fn the_window_is_bounded_in_lines_and_in_bytes_and_knows_where_it_begins() {
    let mut many = logs(0, MOST_LINES);
    (0..5).for_each(|_| push(&mut many, "more"));
    assert_eq!(many.window.lines.len(), MOST_LINES);
    assert_eq!(&*many.window.lines[0].text, "line 5");
    assert_eq!(edges(&many), (5, MOST_LINES as u64 + 5));

    let mut long = logs(0, 1);
    (0..2000).for_each(|_| push(&mut long, &"x".repeat(1 << 16)));
    assert!(long.window.bytes() <= MOST_BYTES && long.window.is_last && !long.window.is_first);
}

#[test]
fn it_follows_the_end_until_one_scrolls_up() {
    let mut logs = logs(0, 100);
    assert_eq!(logs.first(80, 10), 90);
    logs.scroll(-5, 80, 10);
    push(&mut logs, "more");
    assert_eq!(logs.first(80, 10), 85, "what is looked at stays");
    logs.scroll(100, 80, 10);
    push(&mut logs, "more");
    assert_eq!(logs.first(80, 10), 92, "at the end it follows again");
    logs.scroll(-1000, 80, 10);
    assert_eq!(logs.first(80, 10), 0);
}

#[test]
fn what_is_looked_at_is_never_washed_away_by_a_flood() {
    let mut logs = logs(0, 3000);
    logs.scroll(-500, 80, 10);
    let top = |logs: &Logs| logs.window.lines[logs.first(80, 10)].text.to_string();
    assert_eq!(top(&logs), "line 2490");
    let mut pushed = 0;
    while logs.window.is_last {
        push(&mut logs, "flood");
        pushed += 1;
        assert_eq!(top(&logs), "line 2490", "after {pushed}");
    }
    assert!(pushed > MOST_LINES / 2 && logs.window.lines.len() <= MOST_LINES + 1);
    // Where it ends now, the daemon is asked to go on.
    assert_eq!(edges(&logs).1, 3000 + pushed as u64);
}

#[test]
fn older_and_newer_pages_push_out_what_is_at_the_other_end() {
    let mut logs = logs(20_000, 20_500);
    logs.scroll(-1000, 80, 10);
    for n in (0..20).rev() {
        logs.window.older(&page(n * 1000, n * 1000 + 1000, n == 0));
        logs.scroll(-2000, 80, 10);
    }
    assert_eq!(edges(&logs), (0, MOST_LINES as u64));
    assert!(logs.window.is_first && !logs.window.is_last);
    for n in 10..20 {
        logs.scroll(20_000, 80, 10);
        logs.window.newer(&page(n * 1000, n * 1000 + 1000, n == 19));
    }
    assert_eq!(edges(&logs), (10_000, 20_000));
    assert!(!logs.window.is_first && logs.window.is_last);
    let texts = logs.window.lines.iter().map(|it| it.text.to_string());
    assert!(texts.eq((10_000..20_000).map(|n| format!("line {n}"))));
}

#[test]
fn at_the_end_of_a_window_that_ends_before_the_log_nothing_is_followed() {
    let mut logs = logs(0, 100);
    logs.window.is_last = false;
    logs.scroll(-5, 80, 10);
    logs.scroll(50, 80, 10);
    assert_eq!(logs.window.top, Some(90));
}

#[test]
fn a_gap_in_what_is_streamed_is_none_in_the_window() {
    let mut logs = logs(0, 100);
    logs.window.push(&LogLine { gap: true, ..line(5000, "after the gap") });
    push(&mut logs, "next");
    assert_eq!((edges(&logs), logs.window.lines.len()), ((5000, 5002), 2));

    let mut paused = self::logs(0, 100);
    paused.scroll(-5, 80, 10);
    paused.window.push(&LogLine { gap: true, ..line(5000, "after the gap") });
    assert_eq!((edges(&paused), paused.window.is_last), ((0, 100), false));
}

#[test]
fn going_up_right_after_a_gap_pauses_although_all_that_is_there_is_on_the_screen() {
    let mut logs = logs(0, 100);
    logs.window.push(&LogLine { gap: true, ..line(5000, "after the gap") });
    logs.scroll(-1, 80, 10);
    assert_eq!(logs.window.top, Some(0));
    (0..50).for_each(|_| push(&mut logs, "flood"));
    assert_eq!(logs.first(80, 10), 0, "what is looked at stays");
}

#[test]
fn places_of_several_logs_are_told_for_a_line() {
    let mut logs = Logs::new(1, vec!["web1".into(), "web2".into()]);
    let of = |name: &str, n| LogLine { instance: name.into(), ..line(n, "x") };
    for (name, n) in [("web1", 0), ("web2", 7), ("web1", 1), ("web1", 2)] {
        logs.window.push(&of(name, n));
    }
    let places = |at: usize| {
        let places = logs.window.places_at(at);
        (places["web1"].offset / 10, places["web2"].offset / 10)
    };
    assert_eq!((places(0), places(1), places(2), places(4)), ((0, 7), (1, 7), (1, 8), (3, 8)));
}

#[test]
fn wrapped_lines_count_with_all_their_pieces() {
    let mut logs = logs(0, 3);
    logs.wrap = true;
    push(&mut logs, &"漢".repeat(30));
    assert_eq!(logs.rows_of(3, 20), 3);
    assert_eq!(logs.first(20, 4), 2);
    assert_eq!(pieces("ab漢cd", 3), ["ab", "漢c", "d"]);
}

#[test]
fn search_goes_both_ways_and_ignores_case() {
    let mut logs = logs(0, 30);
    logs.search = "LINE 2".into();
    assert_eq!(logs.find(true, 0), Some(2));
    assert_eq!(logs.find(true, 3), Some(20));
    assert_eq!(logs.find(false, 20), Some(2));
    assert_eq!(logs.find(false, 2), None);
}
