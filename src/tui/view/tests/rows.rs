//! What somebody reads off a row who has never seen the deck.

use crate::api::*;
use crate::tui::fixtures::*;

#[test]
fn where_nobody_asks_whether_it_lives_nothing_says_that_it_does_not() {
    let mut model = shop();
    let mut unasked = web();
    unasked.instances.iter_mut().for_each(|it| it.live = None);
    change(&mut model, 0, unasked.clone());
    assert!(!screen(&mut model, 80, 24, 0).contains("0/2"));
    unasked.instances[0].live = Some(false);
    change(&mut model, 0, unasked);
    assert!(screen(&mut model, 80, 24, 0).contains("0/2"));
}

#[test]
fn where_rows_do_not_fit_the_header_says_which_are_shown() {
    let one = |n: u16| {
        let name = format!("a-job-that-runs{n:02}");
        service(&name, vec![running(&name, &name, 0)])
    };
    let mut model = self::model((1..=30).map(one).collect());
    assert!(screen(&mut model, 80, 24, 0).contains("NAME  1-21 of 30"));
    press(&mut model, 0, "G");
    assert!(screen(&mut model, 80, 24, 0).contains("NAME  10-30 of 30"));
    assert!(!screen(&mut model, 80, 40, 0).contains("of 30"));
}

#[test]
fn a_tag_without_room_for_its_first_word_is_left_out() {
    let mut stale = web();
    stale.stale = true;
    stale.instances[0].stale = true;
    let mut model = model(vec![stale]);
    let narrow = screen(&mut model, 40, 10, 0);
    assert!(!narrow.contains("s…") && !narrow.contains("st"), "{narrow}");
    assert!(screen(&mut model, 80, 24, 0).contains("stale"));
}

#[test]
fn how_a_process_ended_is_a_sentence() {
    let mut model = shop();
    for (code, signal, cause, words) in [
        (Some(0), None, "SIGTERM by alice", "ended with code 0 after SIGTERM by alice"),
        (None, Some("SIGTERM"), "SIGTERM by alice", "ended by SIGTERM, by alice"),
        (
            None,
            Some("SIGKILL"),
            "SIGKILL: max_wait_time was over",
            "SIGKILL, max_wait_time was over",
        ),
        (Some(7), None, "by itself with code 7", "ended by itself with code 7"),
    ] {
        let mut web = web();
        let signal = signal.map(str::to_owned);
        let exit = LastExit { code, signal, cause: cause.into(), ..LastExit::default() };
        web.instances[0].last_exit = Some(exit);
        change(&mut model, 0, web);
        type_keys(&mut model, &["esc", "g", "j", "enter", "G"]);
        let shown = screen(&mut model, 120, 60, 0);
        assert!(shown.contains(words), "{words:?} in {shown}");
    }
}

#[test]
fn a_reason_that_does_not_fit_has_what_its_row_leaves_of_the_column_of_names() {
    let long = "a-service-with-a-long-name";
    let mut model = model(vec![
        service(long, vec![running(long, long, 9502)]),
        cron(),
        service("job", vec![Instance { why: "ready".into(), ..running("job", "job", 0) }]),
    ]);
    let text = screen(&mut model, 80, 24, 0);
    let row = |name: &str| text.lines().find(|it| it.contains(name)).unwrap_or_default();
    let state = row(long).find("RUNNING");
    let reason = row("cron");
    assert!(reason.ends_with("again in 8s; exited 255 five times: \"no such table\""), "{text}");
    assert!(reason.find("BACKOFF") < state && row("job").find("RUNNING") == state, "{text}");
    // Where it fits, the columns are straight.
    let text = screen(&mut model, 120, 24, 0);
    let at = |name: &str, word: &str| text.lines().find(|it| it.contains(name))?.find(word);
    assert!(
        at(long, "RUNNING").is_some() && at(long, "RUNNING") == at("cron", "BACKOFF"),
        "{text}"
    );
}

#[test]
fn only_a_name_with_a_port_needs_room_for_one() {
    let long = "a-service-with-a-name";
    let at = |port: u16| {
        let mut model = model(vec![
            service(long, vec![running(long, long, port)]),
            service("b", vec![running("b", "b", 9502)]),
        ]);
        let text = screen(&mut model, 80, 24, 0);
        text.lines().nth(1).and_then(|it| it.find("STATE"))
    };
    assert_eq!((at(0), at(9502)), (Some(25), Some(32)));
}
