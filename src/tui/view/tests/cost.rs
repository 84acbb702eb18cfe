//! What a screen costs in bytes, and that 1,000 rows cost no more than those that are shown.

use crate::tui::fixtures::*;
use crate::tui::screen::Screen;
use crate::tui::update::Msg;

/// The cells that differ between two frames, as places.
fn changed(model: &crate::tui::model::Model, from: u64, to: u64) -> Vec<(u16, u16)> {
    let mut screen = Screen::default();
    screen.frame(model, at(from));
    let before = screen.shown().clone();
    screen.frame(model, at(to));
    before.diff(screen.shown()).into_iter().map(|(x, y, _)| (x, y)).collect()
}

#[test]
fn a_screen_at_rest_writes_its_clock_and_nothing_else() {
    let model = model(vec![web()]);
    assert_eq!(changed(&model, 0, 999), []);
    assert_eq!(changed(&model, 0, 1000), [(78, 0)]);
    // 10:42:17 to 10:42:20.
    assert_eq!(changed(&model, 0, 3000), [(77, 0), (78, 0)]);

    let mut screen = Screen::default();
    screen.frame(&model, at(0));
    assert_eq!(screen.frame(&model, at(999)), b"", "not a byte");
    let tick = screen.frame(&model, at(1000));
    assert!(tick.len() < 64, "{} bytes: {}", tick.len(), tick.escape_ascii());
}

#[test]
fn a_countdown_costs_less_than_2_kib_a_second() {
    for (width, height) in [(80, 24), (250, 70)] {
        let mut model = shop();
        change(&mut model, 0, draining(web()));
        send(&mut model, 0, Msg::Resize(width, height));
        let mut screen = Screen::default();
        screen.frame(&model, at(0));
        // As the loop does it: drawn whenever the model says that something moves.
        let (mut now, mut bytes, mut frames) = (0, 0, 0);
        while now < 3000 {
            now = u64::try_from(model.next_wakeup(at(now)).as_nanos().div_ceil(1_000_000)).unwrap();
            bytes += screen.frame(&model, at(now)).len();
            frames += 1;
        }
        assert!((30..=40).contains(&frames), "{frames} frames in 3 s");
        assert!(bytes / 3 < 2048, "{} bytes a second at {width}x{height}", bytes / 3);
    }
}

#[test]
fn the_countdown_agrees_with_the_clock() {
    let mut model = shop();
    change(&mut model, 0, draining(web()));
    for (ms, shown) in [
        (0, " 6.2s of"),
        (99, " 6.2s of"),
        (100, " 6.3s of"),
        (3799, " 9.9s of"),
        (9000, "10.0s of"),
    ] {
        assert!(screen(&mut model, 80, 24, ms).contains(shown), "{ms}");
    }
    // A later word of the daemon counts from when it came.
    let mut later = draining(web());
    later.instances[0].countdown.as_mut().unwrap().elapsed_ms = 7000;
    change(&mut model, 1000, later);
    assert!(screen(&mut model, 80, 24, 1050).contains(" 7.0s of"));
}

#[test]
fn only_what_is_shown_is_built() {
    let one = |n: u16| {
        let name = format!("job{n:04}");
        service(&name, vec![running(&name, &name, 0)])
    };
    let mut model = model((0..1000).map(one).collect());
    send(&mut model, 0, Msg::Resize(80, 24));
    press(&mut model, 0, "G");
    let height = 21;
    assert_eq!(model.rows.window(&model.deck, height).count(), height);
    assert!(screen(&mut model, 80, 24, 0).contains("job0999"));
    assert!(!screen(&mut model, 80, 24, 0).contains("job0000"));
}
