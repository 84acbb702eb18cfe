//! The first line: which deck, how it is, who looks, what time it is.

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use super::format::{bytes, clock};
use super::{put, put_right};
use crate::api::Service;
use crate::quantity::{count, span};
use crate::tui::model::{Link, Model, Now};

/// Less of the deck's name says nothing.
const LEAST_NAME: u16 = 6;

/// The clock is the only cell that changes on a screen at rest.
pub(super) fn draw(model: &Model, now: Now, buf: &mut Buffer) {
    let width = buf.area.width;
    let theme = model.theme;
    let time = clock(now.wall, &model.tz);
    put_right(buf, width - 9, 0, 8, &time, theme.plain());

    let mut left = put(buf, 1, 0, width - 11, "opsdeck", theme.strong());
    let name = &model.deck.deck;
    let shown = summary(model, now);
    let room = (width - 10).saturating_sub(left + 1);
    left = put(buf, left + 1, 0, name_room(room, &shown), name, theme.name());

    let mut room = usize::from((width - 11).saturating_sub(left));
    let from = left;
    let mut x = from;
    for (text, style) in shown {
        let its = text.width() + 3;
        if its > room {
            // The first thing said is worth being cut; the others can wait for a wider screen.
            if x == from && room > 8 {
                x = put(buf, x + 2, 0, u16::try_from(room - 2).unwrap_or(0), &text, style);
            }
            break;
        }
        x = put(buf, x + 3, 0, u16::try_from(its - 3).unwrap_or(0), &text, style);
        room -= its;
    }
    right(model, x, buf);
}

/// The columns of the name: a long one makes room for the first thing that is said, if enough of it is left.
fn name_room(room: u16, said: &[(String, Style)]) -> u16 {
    let first = said.first().map_or(0, |it| it.0.width() + 4);
    let left = room.saturating_sub(u16::try_from(first).unwrap_or(u16::MAX));
    if left >= LEAST_NAME { left } else { room }
}

/// Who looks, where there is room for it.
fn right(model: &Model, after: u16, buf: &mut Buffer) {
    let host = if model.deck.host.is_empty() { &model.deck.deck } else { &model.deck.host };
    let who = format!("{}@{host}", model.user);
    let end = buf.area.width - 11;
    let its = u16::try_from(who.width()).unwrap_or(u16::MAX);
    if !host.is_empty() && end.saturating_sub(after) >= its.saturating_add(2) {
        put_right(buf, end - its, 0, its, &who, model.theme.faint());
    }
}

/// What is said in the middle, the most important first.
fn summary(model: &Model, now: Now) -> Vec<(String, Style)> {
    let theme = model.theme;
    match &model.link {
        Link::Connecting { problem: None } => return vec![("connecting".into(), theme.moving())],
        Link::Connecting { problem: Some(_) } => {
            return vec![("no daemon yet, trying again".into(), theme.bad())];
        }
        Link::Lost { since, .. } => {
            let age = span(now.mono.saturating_sub(since.mono).as_secs());
            if let Some(how) = model.shut_down() {
                return vec![(format!("{how}; `opsdeck` starts it again"), theme.bad())];
            }
            return vec![
                ("reconnecting, the services run on".into(), theme.bad()),
                (format!("picture of {age} ago"), theme.moving()),
            ];
        }
        Link::Up => (),
    }
    let services = &model.deck.services;
    let (ready, wanted) =
        services.iter().fold((0, 0), |sum, it| (sum.0 + it.ready, sum.1 + it.wanted));
    let style = if ready < wanted { theme.moving() } else { theme.good() };
    let mut all = vec![
        (format!("{ready}/{wanted} ready"), style),
        (count(services.len() as u64, "service"), theme.plain()),
    ];
    // The way it is read, where nothing is left out.
    if model.size.0 >= 60 {
        all.swap(0, 1);
    }
    if model.forbidden().is_some() {
        all.insert(0, ("read-only".into(), theme.moving()));
    }
    if let Some(cost) = &model.cost {
        let text = format!("{}/s {}", bytes(cost.per_second), bytes(cost.total()));
        all.insert(1, (text, theme.faint()));
    }
    all.extend(load(model).into_iter().map(|text| (text, theme.plain())));
    if !model.deck.at_boot {
        all.push(("not at boot".into(), theme.moving()));
    }
    all
}

fn load(model: &Model) -> Vec<String> {
    let mut all = vec![];
    let instances = || model.deck.services.iter().flat_map(|it| &it.instances);
    if model.rows.present.rate {
        // A gateway goes on with what an ended instance has had.
        let of = |it: &Service| match &it.gateway {
            Some(gateway) => gateway.requests_per_second,
            None => it.instances.iter().filter_map(|it| it.requests_per_second).sum(),
        };
        let rate: f64 = model.deck.services.iter().map(of).sum();
        all.push(format!("{rate:.0} req/s"));
    }
    if model.rows.present.in_flight {
        let sum: u32 = instances().filter_map(|it| it.in_flight).sum();
        let about = instances().any(|it| it.in_flight.is_some() && !it.in_flight_exact);
        all.push(format!("{}{sum} in flight", if about { "~" } else { "" }));
    }
    all
}
