//! What acts, when it asks, and on whom.

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Link, Model, Screen};
use crate::tui::update::{Command, Msg};

fn signal(instance: &Instance, signal: &str, guard: bool) -> Request {
    let target = Target { pid: instance.pid.unwrap(), start_time: instance.start_time.unwrap() };
    let act = Act { target: Some(target), signal: Some(signal.into()), guard, ..Act::default() };
    Request::Instance { name: instance.name.clone(), verb: InstanceVerb::Signal, act }
}

fn on_web(verb: ServiceVerb, act: Act) -> Request {
    Request::Service { name: "web".into(), verb, act }
}

/// The one request that is sent, with its id.
fn sent(commands: Vec<Command>) -> (u64, Request) {
    match <[Command; 1]>::try_from(commands) {
        Ok([Command::Send { id, request }]) => (id, request),
        other => panic!("expected one request, not {other:?}"),
    }
}

fn request(commands: Vec<Command>) -> Request {
    sent(commands).1
}

fn reply(model: &mut Model, ms: u64, id: u64, result: Result<Done, Problem>) -> Vec<Command> {
    send(model, ms, Msg::Reply { id, result })
}

fn dangerous() -> Result<Done, Problem> {
    Err(problem(problem::CONFIRM, "confirm", "web1 is the last ready instance of web"))
}

fn done(message: &str) -> Result<Done, Problem> {
    Ok(Done { message: message.into(), ..Done::default() })
}

fn notice(model: &Model) -> &str {
    model.notice.as_ref().map_or("", |it| it.text.as_str())
}

fn question(model: &Model) -> &str {
    model.guard.armed.as_ref().map_or("", |it| it.question.as_str())
}

/// `t` on web1, which the daemon wants confirmed; the question is drawn at second 1.
fn asked() -> Model {
    asked_at(1000)
}

fn asked_at(drawn: u64) -> Model {
    let mut model = shop();
    press(&mut model, 0, "j");
    let (id, _) = sent(press(&mut model, 900, "t"));
    assert_eq!(reply(&mut model, 950, id, dangerous()), []);
    send(&mut model, drawn, Msg::Drawn);
    model
}

#[test]
fn one_key_acts_on_the_process_under_the_cursor() {
    let mut model = shop();
    press(&mut model, 0, "j");
    let web1 = &web().instances[0];
    assert_eq!(request(press(&mut model, 0, "t")), signal(web1, "SIGTERM", true));
    assert_eq!(request(press(&mut model, 0, "u")), signal(web1, "SIGUSR1", true));
    assert_eq!(request(press(&mut model, 0, "h")), signal(web1, "SIGHUP", true));
}

#[test]
fn what_the_daemon_finds_dangerous_needs_the_same_key_again_and_keeps_its_target() {
    let mut model = asked();
    assert_eq!(question(&model), "SIGTERM: web1 is the last ready instance of web");

    // Meanwhile web1 was replaced: the process that was meant is the old one, and the daemon refuses.
    let mut other = web();
    other.instances[0].pid = Some(4711);
    change(&mut model, 1100, other);
    let (id, request) = sent(confirm(&mut model, 1600, "t"));
    assert_eq!(request, signal(&web().instances[0], "SIGTERM", false));

    let changed = problem(problem::CHANGED, "web1 was not signalled", "it is another process now");
    reply(&mut model, 1800, id, Err(changed));
    assert_eq!(notice(&model), "web1 was not signalled: it is another process now");
    assert!(model.guard.armed.is_none());
}

#[test]
fn the_second_press_counts_when_the_question_was_read_and_no_keyboard_repeats_so() {
    let mut model = asked();
    assert_eq!(press(&mut model, 1299, "t"), []);
    assert!(
        model.guard.armed.as_ref().unwrap().too_soon,
        "it does not cancel either, and that is told"
    );
    assert!(screen(&mut model, 80, 24, 1300).contains("t came too soon: once more"));
    assert_eq!(confirm(&mut model, 1600, "t").len(), 1);
    // From 300 ms after the question on; what loses requests for certain needs the time of any keyboard.
    assert_eq!(confirm(&mut asked(), 1300, "t").len(), 1);
    let mut model = shop();
    press(&mut model, 0, "j");
    press(&mut model, 100, "X");
    send(&mut model, 110, Msg::Drawn);
    assert_eq!(press(&mut model, 700, "X"), []);
    assert_eq!(send(&mut model, 900, Msg::Wake), []);
    assert_eq!(confirm(&mut model, 1000, "X").len(), 1);
}

#[test]
fn where_no_process_is_left_to_kill_the_key_says_what_there_is_to_do() {
    let mut model = shop();
    press(&mut model, 0, "G");
    assert_eq!(press(&mut model, 100, "X"), []);
    assert!(model.guard.armed.is_none());
    assert_eq!(notice(&model), "cron has no process: x keeps it down, s starts it now");
    let mut down = cron();
    (down.instances[0].state, down.instances[0].goal) = (State::Stopped, Goal::Down);
    change(&mut model, 200, down);
    press(&mut model, 900, "X");
    assert_eq!(notice(&model), "cron has no process, it is down already: s starts it now");
    // What is just being started has one soon.
    let mut begins = cron();
    begins.instances[0].state = State::Spawning;
    change(&mut model, 1000, begins);
    press(&mut model, 1700, "X");
    assert!(question(&model).starts_with("stop now cron"), "{}", question(&model));
    // A service is killed as long as one of its instances runs.
    let mut web = web();
    web.instances[0].pid = None;
    change(&mut model, 1800, web.clone());
    type_keys(&mut model, &["esc", "g", "X"]);
    assert!(question(&model).starts_with("stop now web"), "{}", question(&model));
    web.instances[1].pid = None;
    change(&mut model, 2000, web);
    type_keys(&mut model, &["esc", "X"]);
    assert_eq!(notice(&model), "web has no process: x keeps it down, s starts it now");
}

#[test]
fn the_same_key_on_another_row_is_told_when_it_is_too_soon_and_a_click_says_that_it_is_not() {
    let mut model = shop();
    press(&mut model, 0, "j");
    assert_eq!(press(&mut model, 0, "t").len(), 1);
    assert_eq!(press(&mut model, 500, "t"), []);
    assert!(notice(&model).contains("too soon"), "{}", notice(&model));
    let gesture = crate::tui::key::Gesture::Press;
    send(&mut model, 600, Msg::Mouse(crate::tui::key::Mouse { gesture, x: 5, y: 4 }));
    assert_eq!(press(&mut model, 700, "t").len(), 1);
}

#[test]
fn a_key_does_not_act_on_the_row_that_took_the_place_of_the_one_that_was_meant() {
    let job = |name: &str, state| service(name, vec![Instance { state, ..running(name, name, 0) }]);
    let all = ["job1", "job2", "job3"].map(|it| job(it, State::Backoff));
    let mut model = model(all.to_vec());
    type_keys(&mut model, &["/", "b", "a", "c", "k", "o", "f", "f", "enter", "j"]);
    change(&mut model, 1000, job("job2", State::Running));
    assert_eq!(model.rows.selected.as_ref().unwrap().service, "job3");
    assert_eq!(press(&mut model, 1050, "r"), []);
    assert!(notice(&model).contains("has just gone"), "{}", notice(&model));
    type_keys(&mut model, &["k"]);
    assert_eq!(press(&mut model, 1100, "r").len(), 1, "who moves has seen where the cursor is");
}

#[test]
fn a_key_that_is_held_down_is_never_the_second_press() {
    for pause in [250, 500, 660, 1000, 2000] {
        let mut model = asked_at(910);
        for n in 0..40 {
            let ms = 900 + pause + n * 40;
            assert_eq!(press(&mut model, ms, "t"), [], "{pause} {n}");
            send(&mut model, ms + 39, Msg::Wake);
        }
        let released = 900 + pause + 40 * 40;
        if model.guard.armed.is_some() {
            assert_eq!(confirm(&mut model, released + 300, "t").len(), 1, "once it was released");
        }
    }
}

#[test]
fn a_held_key_acts_once_and_only_extending_repeats() {
    let mut model = shop();
    press(&mut model, 0, "j");
    let sent = |model: &mut Model, key| -> usize {
        (0..40).map(|n| press(model, n * 40, key).len()).sum()
    };
    assert_eq!(sent(&mut model, "t"), 1);
    assert_eq!(sent(&mut model, "+"), 40);
}

#[test]
fn nothing_counts_before_the_question_is_on_the_screen() {
    let mut model = shop();
    press(&mut model, 0, "j");
    let (id, _) = sent(press(&mut model, 0, "t"));
    reply(&mut model, 10, id, dangerous());
    assert_eq!(press(&mut model, 2000, "t"), [], "nobody has seen it yet");
    send(&mut model, 2100, Msg::Drawn);
    assert_eq!(press(&mut model, 2350, "t"), []);
    assert_eq!(send(&mut model, 2600, Msg::Wake), []);
    assert_eq!(confirm(&mut model, 2800, "t").len(), 1);
}

#[test]
fn any_other_key_cancels_and_does_nothing_else() {
    for key in ["j", "x", "esc", "enter", "T", "l"] {
        let mut model = asked();
        assert_eq!(press(&mut model, 1500, key), [], "{key}");
        assert!(model.guard.armed.is_none());
        assert_eq!(notice(&model), "SIGTERM was not sent");
        assert_eq!(model.rows.cursor, 1, "{key} moved the cursor");
    }
}

#[test]
fn a_question_is_over_after_five_seconds() {
    let mut model = asked_at(1250);
    assert_eq!(model.next_wakeup(at(6100)).as_millis(), 6250, "and the deck wakes for it");
    send(&mut model, 6249, Msg::Wake);
    assert!(model.guard.armed.is_some());
    send(&mut model, 6250, Msg::Wake);
    assert!(model.guard.armed.is_none());
    assert_eq!(notice(&model), "nothing was sent: the second key did not come within 5 s");
    // From here on the key is a first press again.
    assert_eq!(request(press(&mut model, 6300, "t")), signal(&web().instances[0], "SIGTERM", true));
}

#[test]
fn a_question_that_comes_after_another_key_is_only_told() {
    let mut model = shop();
    press(&mut model, 0, "j");
    let (id, _) = sent(press(&mut model, 0, "t"));
    press(&mut model, 1, "j");
    reply(&mut model, 2, id, dangerous());
    assert!(model.guard.armed.is_none());
    assert_eq!(notice(&model), "SIGTERM: web1 is the last ready instance of web; it was not sent");
}

#[test]
fn keys_that_come_together_move_but_do_not_act() {
    let mut model = shop();
    let keys = vec![key("j"), key("t"), key("j")];
    assert_eq!(send(&mut model, 0, Msg::Keys(keys)), []);
    assert_eq!(model.rows.cursor, 2);
    assert!(notice(&model).starts_with("t was ignored: it arrived together"), "{}", notice(&model));

    let mut model = asked();
    assert_eq!(send(&mut model, 2000, Msg::Keys(vec![key("t"), key("t")])), []);
    assert!(model.guard.armed.is_none(), "nor do they answer a question");
}

#[test]
fn a_paste_is_never_a_command() {
    let mut model = shop();
    assert_eq!(send(&mut model, 0, Msg::Paste("X".into())), []);
    assert_eq!(notice(&model), "a paste was ignored: keys that act must be typed");
    let mut model = asked();
    assert_eq!(send(&mut model, 2000, Msg::Paste("t".into())), []);
    assert_eq!(notice(&model), "nothing was sent: a paste is no answer");
}

#[test]
fn what_always_loses_something_asks_here_and_at_once() {
    let mut model = shop();
    press(&mut model, 0, "j");
    assert_eq!(press(&mut model, 0, "X"), []);
    assert_eq!(
        question(&model),
        "stop now web1 by SIGKILL and keep it down: requests in flight are lost"
    );
    send(&mut model, 0, Msg::Drawn);
    let web1 = &web().instances[0];
    let target = Some(Target { pid: web1.pid.unwrap(), start_time: web1.start_time.unwrap() });
    let act = Act { target, now: true, ..Act::default() };
    let stop = |act| Request::Instance { name: "web1".into(), verb: InstanceVerb::Stop, act };
    assert_eq!(request(confirm(&mut model, 700, "X")), stop(act));

    assert_eq!(press(&mut model, 1000, "!"), []);
    assert!(model.guard.armed.is_none());
    assert_eq!(notice(&model), "web1 is not being stopped, no countdown runs; X stops it at once");
    change(&mut model, 1000, draining(web()));
    assert_eq!(press(&mut model, 3000, "!"), []);
    assert_eq!(
        question(&model),
        "SIGKILL web1 at once: requests in flight are lost",
        "{}",
        notice(&model)
    );
    send(&mut model, 3000, Msg::Drawn);
    let act = Act { target, ..Act::default() };
    let kill = Request::Instance { name: "web1".into(), verb: InstanceVerb::Kill, act };
    assert_eq!(request(confirm(&mut model, 3700, "!")), kill);
}

#[test]
fn with_confirm_always_every_acting_key_asks_and_with_never_only_the_deadly_ones_do() {
    let with = |confirm| {
        let mut deck = deck(vec![draining(web())]);
        deck.config.confirm = confirm;
        model_of(deck)
    };
    let mut model = with(Confirm::Always);
    press(&mut model, 0, "G");
    assert_eq!(press(&mut model, 0, "t"), []);
    assert_eq!(question(&model), "SIGTERM web2; web2 is the last ready instance of web");
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(
        request(confirm(&mut model, 700, "t")),
        signal(&web().instances[1], "SIGTERM", false)
    );

    // This deck does not know whether web1 catches it: the daemon is still asked to ask.
    let mut model = with(Confirm::Always);
    press(&mut model, 0, "j");
    press(&mut model, 0, "h");
    assert_eq!(question(&model), "SIGHUP web1");
    send(&mut model, 0, Msg::Drawn);
    let (id, sighup) = sent(confirm(&mut model, 700, "h"));
    assert_eq!(sighup, signal(&web().instances[0], "SIGHUP", true));
    let uncaught = problem(problem::CONFIRM, "confirm", "SIGHUP is not caught: it will kill web1");
    reply(&mut model, 900, id, Err(uncaught));
    send(&mut model, 920, Msg::Drawn);
    assert_eq!(
        request(confirm(&mut model, 1400, "h")),
        signal(&web().instances[0], "SIGHUP", false)
    );

    let mut model = with(Confirm::Never);
    press(&mut model, 0, "G");
    assert_eq!(request(press(&mut model, 0, "t")), signal(&web().instances[1], "SIGTERM", false));
    assert_eq!(press(&mut model, 0, "X"), []);
    assert!(model.guard.armed.is_some());
}

#[test]
fn marked_rows_are_acted_on_one_after_another_under_the_same_guard() {
    let mut model = shop();
    type_keys(&mut model, &["j", "space", "space"]);
    assert_eq!(model.marked.len(), 2);
    let web = web();
    let (id, first) = sent(press(&mut model, 0, "u"));
    assert_eq!(first, signal(&web.instances[0], "SIGUSR1", true));

    let (id, second) = sent(reply(&mut model, 10, id, done("web1 reloads")));
    assert_eq!(second, signal(&web.instances[1], "SIGUSR1", true));
    reply(&mut model, 20, id, dangerous());
    send(&mut model, 30, Msg::Drawn);
    let (id, again) = sent(confirm(&mut model, 700, "u"));
    assert_eq!(again, signal(&web.instances[1], "SIGUSR1", false));

    assert_eq!(reply(&mut model, 900, id, done("web2 reloads")), []);
    assert_eq!(notice(&model), "SIGUSR1: 2 of 2 done; web2 reloads");
    assert!(model.marked.is_empty());
}

#[test]
fn a_refusal_ends_what_was_asked_for_the_marked_rows() {
    let mut model = shop();
    type_keys(&mut model, &["j", "space", "space"]);
    let (id, _) = sent(press(&mut model, 0, "d"));
    let (id, _) = sent(reply(&mut model, 0, id, done("web1 is held")));
    let refused = problem(problem::REFUSED, "web2 was not drained", "no proxy in front");
    assert_eq!(reply(&mut model, 0, id, Err(refused)), []);
    assert_eq!(notice(&model), "web2 was not drained: no proxy in front (1 of 2 done)");
}

#[test]
fn on_a_service_signals_are_refused_and_reloads_go_one_by_one() {
    let mut model = shop();
    for key in ["t", "S", "d", "D", "+", "!"] {
        assert_eq!(press(&mut model, 0, key), [], "{key}");
        assert!(notice(&model).ends_with("goes to one instance: choose one below web"), "{key}");
    }
    let reload = |signal: &str| {
        let act = Act { signal: Some(signal.into()), guard: true, ..Act::default() };
        on_web(ServiceVerb::Reload, act)
    };
    let guarded = Act { guard: true, ..Act::default() };
    assert_eq!(request(press(&mut model, 0, "u")), reload("SIGUSR1"));
    assert_eq!(request(press(&mut model, 0, "h")), reload("SIGHUP"));
    assert_eq!(request(press(&mut model, 0, "x")), on_web(ServiceVerb::Stop, guarded.clone()));
    assert_eq!(request(press(&mut model, 0, "s")), on_web(ServiceVerb::Start, guarded.clone()));
    assert_eq!(request(press(&mut model, 0, "R")), on_web(ServiceVerb::Restart, guarded.clone()));
    assert_eq!(request(press(&mut model, 0, "r")), on_web(ServiceVerb::Roll, guarded.clone()));

    press(&mut model, 0, "j");
    assert_eq!(
        request(press(&mut model, 0, "r")),
        on_web(ServiceVerb::Roll, guarded),
        "web1's service"
    );
}

#[test]
fn a_rollout_is_aborted_paused_resumed_and_rolled_back_by_its_state() {
    let mut model = shop();
    press(&mut model, 0, "a");
    assert_eq!(notice(&model), "no rolling restart of web is under way");
    press(&mut model, 0, "b");
    assert_eq!(notice(&model), "web cannot be rolled back: its `rollout.rollback` has no commands");

    let mut rolling = web();
    rolling.can_roll_back = true;
    rolling.rollout = Some(Rollout { step: "draining".into(), ..Rollout::default() });
    change(&mut model, 0, rolling.clone());
    let verb = |verb| Request::Rollout { service: "web".into(), verb };
    assert_eq!(request(press(&mut model, 0, "a")), verb(RolloutVerb::Abort));
    assert_eq!(request(press(&mut model, 0, "p")), verb(RolloutVerb::Pause));
    assert_eq!(request(press(&mut model, 0, "b")), verb(RolloutVerb::Rollback));
    rolling.rollout = Some(Rollout { paused: true, ..Rollout::default() });
    change(&mut model, 0, rolling.clone());
    assert_eq!(request(press(&mut model, 0, "p")), verb(RolloutVerb::Resume));
    // A release that went well is not taken back by one key.
    rolling.rollout = None;
    change(&mut model, 0, rolling);
    assert_eq!(press(&mut model, 0, "b"), []);
    assert!(model.guard.armed.as_ref().unwrap().question.contains("has not halted"));
}

#[test]
fn nothing_is_signalled_where_nothing_runs() {
    let mut model = shop();
    press(&mut model, 0, "G");
    assert_eq!(press(&mut model, 0, "t"), []);
    assert_eq!(notice(&model), "cron has no process: there is nothing to send SIGTERM to");
    let start = Act { guard: true, ..Act::default() };
    let start = Request::Instance { name: "cron".into(), verb: InstanceVerb::Start, act: start };
    assert_eq!(request(press(&mut model, 0, "s")), start);
}

#[test]
fn a_read_only_deck_and_a_viewer_act_on_nothing() {
    let mut model = shop();
    model.read_only = true;
    let viewer = Deck { role: Role::Viewer, ..deck(vec![web()]) };
    for mut model in [model, model_of(viewer)] {
        press(&mut model, 0, "j");
        for key in ["t", "u", "h", "s", "x", "X", "d", "D", "S", "+", "!", "r", "R", "a", "p", "b"]
        {
            assert_eq!(press(&mut model, 0, key), [], "{key}");
            assert!(notice(&model).starts_with("read-only: "), "{key}");
            assert!(model.guard.armed.is_none());
        }
    }
}

#[test]
fn while_the_daemon_is_away_nothing_is_sent_and_no_question_stays() {
    let mut model = asked();
    let away = problem(problem::UNREACHABLE, "the daemon cannot be reached", "connection refused");
    send(&mut model, 2000, Msg::LinkLost(away));
    assert!(model.guard.armed.is_none());
    assert!(matches!(model.link, Link::Lost { .. }));
    assert_eq!(press(&mut model, 2500, "t"), []);
    assert_eq!(notice(&model), "SIGTERM was not sent: the daemon is away");
}

#[test]
fn problems_and_messages_are_made_safe() {
    let mut model = shop();
    press(&mut model, 0, "j");
    let (id, _) = sent(press(&mut model, 0, "t"));
    reply(&mut model, 0, id, Err(problem(problem::CONFIRM, "", "\u{1b}[2J\u{202e}boo")));
    assert_eq!(question(&model), "SIGTERM: boo");
    press(&mut model, 0, "esc");
    let (id, _) = sent(press(&mut model, 0, "u"));
    reply(&mut model, 0, id, done("\u{1b}]0;x\u{7}done"));
    assert_eq!(notice(&model), "done");
}

#[test]
fn on_a_screen_too_small_to_see_anything_nothing_acts() {
    let mut model = shop();
    type_keys(&mut model, &["j"]);
    press(&mut model, 0, "X");
    assert!(model.guard.armed.is_some());
    send(&mut model, 0, Msg::Drawn);
    send(&mut model, 0, Msg::Resize(29, 8));
    assert_eq!(press(&mut model, 1000, "X"), []);
    assert!(model.guard.armed.is_none(), "what was asked is forgotten");
    for key in ["u", "s", "l", "?", "enter"] {
        assert_eq!(press(&mut model, 1000, key), [], "{key}");
    }
    assert!(matches!(model.screen, Screen::Table));
    assert_eq!(press(&mut model, 1000, "q"), [Command::Quit]);
}
