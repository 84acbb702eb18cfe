//! Moving, folding, filtering, sorting.

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Screen};
use crate::tui::update::{Command, Msg};

/// The rows by name, folded and filtered as they are.
fn rows(model: &Model) -> Vec<&str> {
    let name = |row: &crate::tui::rows::Row| {
        let service = row.service(&model.deck).unwrap();
        row.instance(&model.deck).map_or(service.name.as_str(), |it| it.name.as_str())
    };
    model.rows.list.iter().map(name).collect()
}

fn selected(model: &Model) -> &str {
    rows(model)[model.rows.cursor]
}

fn many(count: u16) -> Model {
    let one = |n| {
        service(
            &format!("job{n:04}"),
            vec![running(&format!("job{n:04}"), &format!("job{n:04}"), 0)],
        )
    };
    model((0..count).map(one).collect())
}

#[test]
fn a_service_with_one_instance_of_its_name_is_one_row() {
    assert_eq!(rows(&shop()), ["web", "web1", "web2", "cron"]);
}

#[test]
fn moves_stop_at_the_ends() {
    let mut model = shop();
    type_keys(&mut model, &["k"]);
    assert_eq!(selected(&model), "web");
    type_keys(&mut model, &["j", "j", "j", "j", "j"]);
    assert_eq!(selected(&model), "cron");
    type_keys(&mut model, &["pgup"]);
    assert_eq!(selected(&model), "web");
    type_keys(&mut model, &["G", "g", "pgdn", "down", "up"]);
    assert_eq!(selected(&model), "web2");
}

#[test]
fn the_selection_follows_the_instance_and_never_the_row() {
    let mut model = shop();
    type_keys(&mut model, &["j", "j"]);
    assert_eq!(selected(&model), "web2");

    // A new first service pushes everything down.
    let snapshot = deck(vec![service("api", vec![running("api", "api", 80)]), web(), cron()]);
    let change = Change::Snapshot { deck: Box::new(snapshot), events: vec![] };
    send(&mut model, 0, Msg::Change(Box::new(change)));
    assert_eq!((selected(&model), model.rows.cursor), ("web2", 3));

    // The instance goes: its service is next to it.
    let mut smaller = web();
    smaller.instances.pop();
    crate::tui::fixtures::change(&mut model, 0, smaller);
    assert_eq!(selected(&model), "web");
}

#[test]
fn folding_an_instance_leads_to_its_service_and_unfolding_brings_it_back() {
    let mut model = shop();
    type_keys(&mut model, &["j", "left"]);
    assert_eq!((rows(&model), selected(&model)), (vec!["web", "cron"], "web"));
    type_keys(&mut model, &["right"]);
    assert_eq!(rows(&model), ["web", "web1", "web2", "cron"]);
    type_keys(&mut model, &["G", "left"]);
    assert_eq!(rows(&model).len(), 4, "a single row has nothing to fold");
}

#[test]
fn a_filter_keeps_the_parents_of_what_matches_and_finds_states() {
    let mut model = shop();
    type_keys(&mut model, &["/", "w", "e", "b", "2"]);
    assert_eq!(rows(&model), ["web", "web2"]);
    type_keys(&mut model, &["backspace"]);
    assert_eq!(rows(&model), ["web", "web1", "web2"]);
    type_keys(&mut model, &["ctrl-u", "B", "a", "c", "k"]);
    assert_eq!(rows(&model), ["cron"]);
    type_keys(&mut model, &["z"]);
    assert_eq!(rows(&model), Vec::<&str>::new());
    assert_eq!(press(&mut model, 0, "t"), [], "letters are text while the filter is written");
    type_keys(&mut model, &["esc"]);
    assert_eq!(rows(&model).len(), 4);
}

#[test]
fn enter_gives_the_table_its_keys_back_and_esc_clears_the_filter() {
    let mut model = shop();
    type_keys(&mut model, &["/", "2", "enter", "j"]);
    assert_eq!((rows(&model), selected(&model)), (vec!["web", "web2"], "web2"));
    assert_eq!(press(&mut model, 0, "u").len(), 1);
    type_keys(&mut model, &["esc"]);
    assert_eq!((rows(&model).len(), selected(&model)), (4, "web2"));
}

#[test]
fn a_filter_by_state_follows_the_states() {
    let mut model = shop();
    type_keys(&mut model, &["/", "d", "r", "a", "i", "n", "enter"]);
    assert_eq!(rows(&model), Vec::<&str>::new());
    change(&mut model, 0, draining(web()));
    assert_eq!(rows(&model), ["web", "web1"]);
}

#[test]
fn a_filter_looks_into_folded_services() {
    let mut model = shop();
    type_keys(&mut model, &["left", "/", "w", "e", "b", "1"]);
    assert_eq!(rows(&model), ["web", "web1"]);
}

#[test]
fn sorting_puts_what_needs_attention_first_and_keeps_families_together() {
    let mut model = shop();
    type_keys(&mut model, &["o"]);
    assert_eq!(rows(&model), ["cron", "web", "web1", "web2"], "by name");
    type_keys(&mut model, &["o", "G"]);
    change(&mut model, 0, draining(web()));
    assert_eq!(rows(&model), ["cron", "web", "web1", "web2"], "by state");
    type_keys(&mut model, &["o", "o", "o", "o"]);
    assert_eq!(rows(&model), ["cron", "web", "web2", "web1"], "by restarts");
    type_keys(&mut model, &["o"]);
    assert_eq!(rows(&model), ["web", "web1", "web2", "cron"], "as in the file");
}

#[test]
fn a_mark_on_what_is_gone_is_gone() {
    let mut model = shop();
    type_keys(&mut model, &["j", "space"]);
    let mut smaller = web();
    smaller.instances.remove(0);
    change(&mut model, 0, smaller);
    change(&mut model, 0, web());
    assert!(model.marked.is_empty());
}

#[test]
fn the_cursor_is_always_on_the_screen() {
    let mut model = many(1000);
    send(&mut model, 0, Msg::Resize(80, 24));
    for (keys, cursor) in [("G", 999), ("pgup", 979), ("k", 978), ("g", 0), ("pgdn", 20)] {
        press(&mut model, 0, keys);
        assert_eq!(model.rows.cursor, cursor, "{keys}");
        assert!((model.rows.top..model.rows.top + 21).contains(&cursor), "{keys}");
    }
    press(&mut model, 0, "G");
    send(&mut model, 0, Msg::Resize(80, 200));
    assert_eq!(model.rows.top, 1000 - 197, "a higher screen wastes no room");
}

#[test]
fn leaving_is_one_key_and_stops_nothing() {
    assert_eq!(press(&mut shop(), 0, "q"), [Command::Quit]);
    let mut model = shop();
    type_keys(&mut model, &["/", "q"]);
    assert_eq!(press(&mut model, 0, "ctrl-c"), [Command::Quit], "Ctrl-C leaves from anywhere");
}

#[test]
fn configured_keys_hold_as_soon_as_the_daemon_says_so() {
    let mut model = shop();
    let keys = [("help".to_owned(), vec!["F5".to_owned()])].into();
    let change = Change::Change {
        revision: 3,
        now: at(0).wall,
        services: vec![],
        removed: vec![],
        events: vec![],
        config: Some(Config { keys, ..Config::default() }),
        notices: None,
    };
    send(&mut model, 0, Msg::Change(Box::new(change)));
    type_keys(&mut model, &["?"]);
    assert!(matches!(model.screen, Screen::Table));
    type_keys(&mut model, &["F5"]);
    assert!(matches!(model.screen, Screen::Panel(_)));

    // The daemon comes back without them.
    let snapshot = Change::Snapshot { deck: Box::new(deck(vec![web()])), events: vec![] };
    send(&mut model, 0, Msg::Change(Box::new(snapshot)));
    type_keys(&mut model, &["esc", "?"]);
    assert!(matches!(model.screen, Screen::Panel(_)));
}

#[test]
fn without_a_countdown_the_deck_wakes_for_its_clock_only() {
    let model = shop();
    assert_eq!(model.next_wakeup(at(250)).as_millis(), 1000);
    let mut model = shop();
    change(&mut model, 0, draining(web()));
    assert_eq!(model.next_wakeup(at(250)).as_millis(), 300, "a tenth of the countdown");
    type_keys(&mut model, &["left"]);
    assert_eq!(model.next_wakeup(at(250)).as_millis(), 1000, "folded away, it costs nothing");
}

#[test]
fn the_order_of_a_large_fleet_follows_its_figures_ten_times_a_second() {
    let mut model = many(200);
    type_keys(&mut model, &["o", "o", "o"]);
    let busy = |name: &str, cpu: f64| {
        service(name, vec![Instance { cpu_percent: Some(cpu), ..running(name, name, 0) }])
    };
    change(&mut model, 1000, busy("job0007", 50.0));
    assert_eq!(rows(&model)[0], "job0007");
    change(&mut model, 1010, busy("job0009", 90.0));
    assert_eq!(rows(&model)[0], "job0007", "rows that jump all the time cannot be read");
    assert_eq!(model.next_wakeup(at(1010)).as_millis(), 1100);
    send(&mut model, 1100, Msg::Wake);
    assert_eq!(rows(&model)[..2], ["job0009", "job0007"]);
    assert_eq!(model.next_wakeup(at(1100)).as_millis(), 2000);
}

#[test]
fn rows_that_come_and_go_above_the_screen_do_not_move_what_is_on_it() {
    let name = |n: u16| format!("s{n:02}");
    let idle = |n| {
        service(
            &name(n),
            vec![Instance { cpu_percent: Some(0.0), ..running(&name(n), &name(n), 0) }],
        )
    };
    let hot = |n| service(&name(n), vec![running(&name(n), &name(n), 0)]);
    let mut model = model((0..60).map(|n| if n % 2 == 0 { hot(n) } else { idle(n) }).collect());
    type_keys(&mut model, &["/", "c", "p", "u", ">", "1", "enter", "G"]);
    let before = screen(&mut model, 80, 12, 0);
    assert!(before.contains("s58") && !before.contains("s10"), "{before}");
    change(&mut model, 10, hot(1));
    change(&mut model, 10, hot(3));
    change(&mut model, 10, idle(4));
    assert_eq!(screen(&mut model, 80, 12, 0), before);
    // With the first row on the screen, what comes before it is shown.
    type_keys(&mut model, &["g"]);
    change(&mut model, 20, idle(0));
    change(&mut model, 20, hot(0));
    assert!(screen(&mut model, 80, 12, 0).contains("s00"));
}
