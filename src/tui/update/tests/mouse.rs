//! Clicks, the wheel, and what the configuration wants the deck to look like.

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::key::{Gesture, Mouse};
use crate::tui::model::{Model, Page, Panel, Screen};
use crate::tui::update::{Command, Msg};

fn mouse(model: &mut Model, ms: u64, gesture: Gesture, y: u16) -> Vec<Command> {
    send(model, ms, Msg::Mouse(Mouse { gesture, x: 5, y }))
}

fn selected(model: &Model) -> Option<&str> {
    model.rows.selected.as_ref()?.instance.as_deref()
}

#[test]
fn a_click_selects_what_is_under_it_also_below_a_countdown() {
    let mut model = shop();
    change(&mut model, 0, draining(web()));
    for (y, name) in [(3, Some("web1")), (4, Some("web1")), (5, Some("web2")), (6, Some("cron"))] {
        mouse(&mut model, u64::from(y) * 1000, Gesture::Press, y);
        assert_eq!(selected(&model), name, "line {y}");
    }
    for y in [0, 1, 15, 23] {
        mouse(&mut model, 60_000, Gesture::Press, y);
        assert_eq!(selected(&model), Some("cron"), "nothing is there to select");
    }
}

#[test]
fn two_clicks_at_once_open_the_detail_and_two_slow_ones_do_not() {
    let mut model = shop();
    mouse(&mut model, 0, Gesture::Press, 3);
    mouse(&mut model, 1000, Gesture::Press, 3);
    assert!(matches!(model.screen, Screen::Table));
    mouse(&mut model, 1200, Gesture::Press, 3);
    let Screen::Panel(Panel { page: Page::Detail(id), .. }) = &model.screen else {
        panic!("{:?}", model.screen)
    };
    assert_eq!(id.instance.as_deref(), Some("web1"));
}

#[test]
fn the_wheel_moves_and_never_writes_or_answers() {
    let mut model = shop();
    mouse(&mut model, 0, Gesture::WheelDown, 3);
    assert_eq!(selected(&model), Some("cron"));
    mouse(&mut model, 0, Gesture::WheelUp, 3);
    assert_eq!(selected(&model), None, "the service");
    type_keys(&mut model, &[":"]);
    mouse(&mut model, 0, Gesture::WheelDown, 3);
    let Screen::Palette(palette) = &model.screen else { panic!("{:?}", model.screen) };
    assert_eq!((palette.cursor, palette.input.value()), (3, ""));

    type_keys(&mut model, &["esc", "j", "X"]);
    send(&mut model, 0, Msg::Drawn);
    mouse(&mut model, 0, Gesture::WheelDown, 3);
    assert!(model.guard.armed.is_some(), "what scrolls is no answer");
    assert_eq!(mouse(&mut model, 1000, Gesture::Press, 3), []);
    assert!(model.guard.armed.is_none(), "a click cancels");
}

#[test]
fn a_look_is_put_on_when_it_changes_and_only_then() {
    let mut model = shop();
    let mut look = |theme: &str| {
        let look = Box::new(Look { theme: theme.into(), ..Look::default() });
        let change = Change::Change {
            revision: 3,
            now: at(0).wall,
            services: vec![],
            removed: vec![],
            events: vec![],
            config: Some(Config { look, ..Config::default() }),
            notices: None,
        };
        send(&mut model, 0, Msg::Change(Box::new(change)))
    };
    assert_eq!(look(""), []);
    let light = Look { theme: "light".into(), ..Look::default() };
    assert_eq!(look("light"), [Command::Look(light)]);
    assert_eq!(look("light"), []);
}
