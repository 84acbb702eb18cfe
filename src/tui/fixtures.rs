//! Fleets, moments and keys for the tests.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::key::{Code, Key};
use super::model::{Model, Now};
use super::theme::Theme;
use super::update::{Command, Msg, update};
use super::view;
use crate::api::*;

/// 2026-11-21 10:42:17 UTC, and so many milliseconds after the deck began.
pub(super) fn at(ms: u64) -> Now {
    let wall = "2026-11-21T10:42:17Z".parse::<Timestamp>().unwrap() + Duration::from_millis(ms);
    Now { mono: Duration::from_millis(ms), wall }
}

/// A terminal of this size that understood what was written to it.
pub(super) fn terminal(width: u16, height: u16) -> vt100::Parser {
    vt100::Parser::new(height.try_into().unwrap(), width.try_into().unwrap(), 0)
}

fn time(text: &str) -> Option<Timestamp> {
    format!("2026-11-21T{text}Z").parse().ok()
}

pub(super) fn running(service: &str, name: &str, port: u16) -> Instance {
    Instance {
        name: name.into(),
        service: service.into(),
        state: State::Running,
        pid: Some(15_000 + i32::from(port % 1000)),
        start_time: Some(u64::from(port)),
        generation: 3,
        port: (port > 0).then_some(port),
        live: Some(true),
        ready: Some(true),
        in_rotation: true,
        in_flight: (port > 0).then_some(7),
        cpu_percent: Some(2.1),
        memory_bytes: Some(94_371_840),
        started: time("08:40:00"),
        since: time("08:40:01"),
        why: "all probes pass".into(),
        ..Instance::default()
    }
}

pub(super) fn service(name: &str, instances: Vec<Instance>) -> Service {
    let ready = instances.iter().filter(|it| it.ready == Some(true)).count();
    Service {
        name: name.into(),
        engine: "local".into(),
        profile: "generic".into(),
        state: instances.iter().map(|it| it.state).max().unwrap_or_default(),
        ready: u32::try_from(ready).unwrap(),
        wanted: u32::try_from(instances.len()).unwrap(),
        instances,
        ..Service::default()
    }
}

/// `web` with two instances, the second a backup.
pub(super) fn web() -> Service {
    let backup = Instance { backup: true, restarts: 1, ..running("web", "web2", 9503) };
    let mut web = service("web", vec![running("web", "web1", 9502), backup]);
    web.profile = "swoole".into();
    web
}

/// `cron`, one row, which fails.
pub(super) fn cron() -> Service {
    let it = Instance {
        name: "cron".into(),
        service: "cron".into(),
        state: State::Backoff,
        retry_at: time("10:42:25"),
        restarts: 5,
        why: "exited 255 five times: \"no such table\"".into(),
        last_exit: Some(LastExit {
            at: time("10:42:01"),
            code: Some(255),
            cause: "by itself".into(),
            ..LastExit::default()
        }),
        ..Instance::default()
    };
    service("cron", vec![it])
}

/// `web1` six seconds into its stop.
pub(super) fn draining(mut web: Service) -> Service {
    let it = &mut web.instances[0];
    it.state = State::Draining;
    it.ready = Some(false);
    it.oldest_ms = Some(5900);
    it.countdown = Some(Countdown {
        elapsed_ms: 6200,
        max_wait_time_ms: 10_000,
        kill_at: time("10:42:20.800"),
        rung: None,
    });
    (web.ready, web.state) = (1, State::Draining);
    web
}

/// `web` behind a gateway that counts.
pub(super) fn fronted(mut web: Service) -> Service {
    let counted = [(7, 0.0, 45), (30, 812.4, 45)];
    for (it, (in_flight, rate, p99)) in web.instances.iter_mut().zip(counted) {
        it.in_flight = Some(in_flight);
        it.in_flight_exact = true;
        it.requests_per_second = Some(rate);
        it.p99_ms = Some(p99);
        it.in_rotation = it.ready == Some(true);
        it.traffic = Some(Traffic { requests: 900, success: 890, ..Traffic::default() });
    }
    web.gateway = Some(Gateway {
        name: "shop".into(),
        provider: "embedded".into(),
        listen: Some("0.0.0.0:9999".into()),
        up: true,
        connections: 100,
        in_flight: 37,
        oldest_ms: Some(5900),
        requests_per_second: 812.4,
        traffic: Traffic {
            requests: 1800,
            success: 1780,
            server_error: 2,
            retried: 1,
            bytes_in: 2 << 20,
            bytes_out: 5 << 30,
            p50_ms: 12.25,
            p95_ms: 31.5,
            p99_ms: 44.2,
            ..Traffic::default()
        },
        ..Gateway::default()
    });
    web
}

pub(super) fn event(at: &str, who: Option<&str>, instance: Option<&str>, message: &str) -> Event {
    Event {
        seq: 1,
        at: time(at).unwrap(),
        kind: "note".into(),
        service: None,
        instance: instance.map(Into::into),
        actor: who.map(|it| Actor { login: it.into(), ..Actor::default() }),
        message: message.into(),
        evidence: None,
        lost: None,
        rollout: None,
        stop: None,
    }
}

pub(super) fn deck(services: Vec<Service>) -> Deck {
    Deck {
        deck: "shop".into(),
        host: "web-7".into(),
        at_boot: true,
        role: Role::Operator,
        services,
        ..Deck::default()
    }
}

/// A deck that has just got its first picture.
pub(super) fn model_of(deck: Deck) -> Model {
    let mut model = Model::new(Theme::new(false, false), TimeZone::UTC, "root".into(), false);
    let deck = Box::new(deck);
    send(&mut model, 0, Msg::Change(Box::new(Change::Snapshot { deck, events: vec![] })));
    model
}

pub(super) fn model(services: Vec<Service>) -> Model {
    model_of(deck(services))
}

/// `web` and `cron`.
pub(super) fn shop() -> Model {
    model(vec![web(), cron()])
}

pub(super) fn send(model: &mut Model, ms: u64, msg: Msg) -> Vec<Command> {
    update(model, at(ms), msg)
}

/// One service anew.
pub(super) fn change(model: &mut Model, ms: u64, service: Service) {
    let change = Change::Change {
        revision: 2,
        now: at(ms).wall,
        services: vec![service],
        removed: vec![],
        events: vec![],
        config: None,
        notices: None,
    };
    send(model, ms, Msg::Change(Box::new(change)));
}

pub(super) fn events(model: &mut Model, events: Vec<Event>) {
    let change = Change::Change {
        revision: 2,
        now: at(0).wall,
        services: vec![],
        removed: vec![],
        events,
        config: None,
        notices: None,
    };
    send(model, 0, Msg::Change(Box::new(change)));
}

pub(super) fn key(text: &str) -> Key {
    match text {
        "esc" => Key::plain(Code::Esc),
        _ => Key::parse(text).unwrap(),
    }
}

pub(super) fn press(model: &mut Model, ms: u64, text: &str) -> Vec<Command> {
    send(model, ms, Msg::Keys(vec![key(text)]))
}

/// The second press of a key that asked first, and the moment without another one that makes it count.
pub(super) fn confirm(model: &mut Model, ms: u64, text: &str) -> Vec<Command> {
    assert_eq!(press(model, ms, text), []);
    assert_eq!(send(model, ms + 149, Msg::Wake), [], "it may still be a key that is held down");
    send(model, ms + 150, Msg::Wake)
}

/// `web` while its first instance drains, `cron` failing, and what was done.
pub(super) fn busy() -> Model {
    let mut model = shop();
    change(&mut model, 0, draining(web()));
    let happened = vec![
        event("10:42:11", Some("alice"), None, "rolling restart of web"),
        event("10:42:17", None, Some("web1"), "out of rotation, 23 in flight"),
    ];
    events(&mut model, happened);
    model
}

/// `web` in a rolling restart of alice that is at this step, its first instance draining.
pub(super) fn rolling(step: &str, halted: Option<&str>) -> Service {
    let mut web = draining(web());
    web.can_roll_back = true;
    web.rollout = Some(Rollout {
        by: "alice".into(),
        step: step.into(),
        instance: Some("web1".into()),
        done: 1,
        of: 2,
        renewed: vec!["web2".into()],
        halted: halted.map(Into::into),
        ..Rollout::default()
    });
    web
}

/// Presses keys one after another, far apart; returns what the last one caused.
pub(super) fn type_keys(model: &mut Model, texts: &[&str]) -> Vec<Command> {
    texts.iter().map(|text| press(model, 0, text)).last().unwrap_or_default()
}

pub(super) fn problem(kind: &str, title: &str, detail: &str) -> Problem {
    Problem {
        kind: kind.into(),
        status: 409,
        title: title.into(),
        detail: detail.into(),
        help: None,
    }
}

/// The screen at this size and moment, without the blanks at the ends of lines.
pub(super) fn screen(model: &mut Model, width: u16, height: u16, ms: u64) -> String {
    send(model, ms, Msg::Resize(width, height));
    let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(model, at(ms), &mut buf);
    text(&buf)
}

/// The text of a buffer; a wide character counts once.
pub(super) fn text(buf: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buf.area.height {
        let mut x = 0;
        let mut line = String::new();
        while x < buf.area.width {
            let symbol = buf[(x, y)].symbol();
            line.push_str(symbol);
            let width = unicode_width::UnicodeWidthStr::width(symbol).max(1);
            x += u16::try_from(width).unwrap();
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
