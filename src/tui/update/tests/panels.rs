//! What opens in front of the table, and how one comes back.

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Page, Panel, Screen};
use crate::tui::update::{Command, Msg};

#[test]
fn the_picker_opens_on_sigterm_and_keeps_its_target() {
    let mut model = shop();
    type_keys(&mut model, &["j", "S"]);
    let mut other = web();
    other.instances[0].pid = Some(4711);
    change(&mut model, 0, other);
    let web1 = &web().instances[0];
    let act = |signal: &str, guard| Act {
        target: Some(Target { pid: web1.pid.unwrap(), start_time: web1.start_time.unwrap() }),
        signal: Some(signal.into()),
        guard,
        ..Act::default()
    };
    let expected = Request::Instance {
        name: "web1".into(),
        verb: InstanceVerb::Signal,
        act: act("SIGTERM", true),
    };
    assert_eq!(press(&mut model, 0, "enter"), [Command::Send { id: 1, request: expected }]);
}

#[test]
fn digits_choose_a_signal_and_sigkill_asks() {
    let mut model = shop();
    type_keys(&mut model, &["j", "F9", "1", "0"]);
    let Screen::Picker(picker) = &model.screen else { panic!("no picker") };
    assert_eq!(crate::tui::signals::SIGNALS[picker.cursor].name, "SIGUSR1");
    type_keys(&mut model, &["9"]);
    assert_eq!(press(&mut model, 0, "enter"), []);
    let question = &model.guard.armed.as_ref().unwrap().question;
    assert_eq!(question, "SIGKILL web1 at once: requests in flight are lost");
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(confirm(&mut model, 700, "enter").len(), 1, "the same key again");
}

#[test]
fn the_picker_asks_what_signals_mean_and_what_its_only_target_catches() {
    let mut model = shop();
    let asked = type_keys(&mut model, &["j", "S"]);
    assert_eq!(asked, [Command::Detail { of: "web1".into() }]);
    let told = |signal: &str, does: &str, means: Option<&str>| SignalDetail {
        signal: signal.into(),
        does: does.into(),
        means: means.map(Into::into),
        ..SignalDetail::default()
    };
    let all = vec![
        told("SIGTERM", "caught", Some("end")),
        told("SIGUSR2", "default", Some("reload task workers")),
        told("SIGKILL", "default", None),
    ];
    let detail = Box::new(Detail { signals: all, ..Detail::default() });
    send(&mut model, 0, Msg::Detail { of: "web2".into(), result: Ok(detail.clone()) });
    assert!(!screen(&mut model, 80, 24, 0).contains("not caught"), "it is of another");
    send(&mut model, 0, Msg::Detail { of: "web1".into(), result: Ok(detail.clone()) });
    let shown = screen(&mut model, 80, 24, 0);
    for line in [
        "  15  SIGTERM    caught     swoole: end\n",
        "  12  SIGUSR2    not caught swoole: reload task workers\n",
        "   9  SIGKILL               end at once, cannot be caught",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
    // What it means goes for several of one profile; what they catch is not known.
    type_keys(&mut model, &["esc", "g", "j", "space", "space"]);
    assert_eq!(press(&mut model, 0, "S"), [Command::Detail { of: "web1".into() }]);
    send(&mut model, 0, Msg::Detail { of: "web1".into(), result: Ok(detail) });
    let shown = screen(&mut model, 80, 24, 0);
    assert!(shown.contains("  12  SIGUSR2    swoole: reload task workers\n"), "{shown}");
}

#[test]
fn the_palette_does_what_the_key_would_do() {
    let mut model = shop();
    type_keys(&mut model, &["j", ":", "s", "i", "g", "u", "s", "r"]);
    let commands = press(&mut model, 0, "enter");
    let [Command::Send { request: Request::Instance { act, .. }, .. }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(act.signal.as_deref(), Some("SIGUSR1"));
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn the_configuration_shows_its_diff_and_asks_before_it_stops_something() {
    let mut model = shop();
    let config = |verb, act| Request::Config { verb, act };
    let diff = config(ConfigVerb::Diff, Act::default());
    assert_eq!(press(&mut model, 0, "c"), [Command::Send { id: 1, request: diff }]);
    assert_eq!(press(&mut model, 0, "c"), [], "nothing is known yet");

    let answer = |does: &str| {
        let it = Difference {
            name: "queue".into(),
            does: does.into(),
            message: "removed".into(),
            ..Difference::default()
        };
        Ok(Done { diff: Some(vec![it]), ..Done::default() })
    };
    send(&mut model, 0, Msg::Reply { id: 1, result: answer("stop") });
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(press(&mut model, 1000, "c"), []);
    assert_eq!(model.guard.armed.as_ref().unwrap().question, "applying stops queue");
    send(&mut model, 1000, Msg::Drawn);
    let apply = config(ConfigVerb::Apply, Act { yes: true, ..Act::default() });
    assert_eq!(confirm(&mut model, 1700, "c"), [Command::Send { id: 2, request: apply }]);

    let mut model = shop();
    type_keys(&mut model, &["c"]);
    send(&mut model, 0, Msg::Reply { id: 1, result: answer("start") });
    let apply = config(ConfigVerb::Apply, Act::default());
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(press(&mut model, 300, "enter"), [Command::Send { id: 2, request: apply }]);
    send(&mut model, 0, Msg::Reply { id: 2, result: Ok(Done::default()) });
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn a_configuration_that_comes_to_the_front_again_is_asked_about_anew() {
    let mut model = shop();
    press(&mut model, 0, "c");
    press(&mut model, 0, "?");
    let diff = || Ok(Done { diff: Some(vec![]), ..Done::default() });
    send(&mut model, 0, Msg::Reply { id: 1, result: diff() });
    let [Command::Send { id, .. }] = press(&mut model, 0, "esc")[..] else { panic!("not asked") };
    send(&mut model, 0, Msg::Reply { id, result: diff() });
    send(&mut model, 0, Msg::Drawn);
    type_keys(&mut model, &["?", "esc"]);
    assert!(model.guard.diff_drawn.is_none(), "what was read is not what is there now");
}

#[test]
fn a_diff_that_nobody_has_read_is_not_applied() {
    let start = Difference { does: "start".into(), ..Difference::default() };
    let diff = |id| Msg::Reply {
        id,
        result: Ok(Done { diff: Some(vec![start.clone()]), ..Done::default() }),
    };
    let mut model = shop();
    press(&mut model, 0, "c");
    send(&mut model, 10, diff(1));
    assert_eq!(model.unseen(), Some(1));
    assert_eq!(press(&mut model, 1000, "c"), [], "it is not on the screen yet");
    send(&mut model, 1100, Msg::Drawn);
    assert_eq!(model.unseen(), None);
    assert_eq!(press(&mut model, 1399, "enter"), [], "nor for long");
    assert_eq!(press(&mut model, 1400, "c").len(), 1);

    // Held down since it opened the page.
    let mut model = shop();
    press(&mut model, 0, "c");
    send(&mut model, 10, diff(1));
    send(&mut model, 20, Msg::Drawn);
    assert!((660..5000).step_by(40).all(|ms| press(&mut model, ms, "c").is_empty()));
}

#[test]
fn pages_scroll_no_further_than_their_end() {
    let mut model = shop();
    send(&mut model, 0, Msg::Resize(80, 12));
    type_keys(&mut model, &["?", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn"]);
    let Screen::Panel(Panel { page: Page::Help, top }) = model.screen else { panic!("no help") };
    type_keys(&mut model, &["k"]);
    assert_eq!(model.screen_top(), top - 1, "the next key moves at once");
}

impl Model {
    fn screen_top(&self) -> usize {
        if let Screen::Panel(it) = &self.screen { it.top } else { 0 }
    }
}

#[test]
fn help_leads_back_to_the_page_behind_it_and_that_to_the_table() {
    let mut model = shop();
    type_keys(&mut model, &["j", "enter", "v", "?"]);
    assert!(matches!(&model.screen, Screen::Panel(it) if it.page == Page::Help));
    press(&mut model, 0, "esc");
    assert!(matches!(&model.screen, Screen::Rollout(it) if it.service == "web"));
    type_keys(&mut model, &["e", "/", "w", "e", "b", "enter", "?", "esc"]);
    assert!(matches!(&model.screen, Screen::Events(it) if it.input.value() == "web"));
    // The words go first, then the page.
    type_keys(&mut model, &["esc", "esc"]);
    assert!(matches!(model.screen, Screen::Rollout(_)));
    press(&mut model, 0, "esc");
    assert!(matches!(&model.screen, Screen::Panel(it) if it.page != Page::Help));
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Table) && model.behind.is_empty());
}
