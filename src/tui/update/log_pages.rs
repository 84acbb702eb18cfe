//! The log page and the daemon: which pages are asked for, and what becomes of them.
//!
//! One page at a time is on its way. Opening anything takes two: the lines before a place and those after
//! it, so that both are on the screen.

use jiff::Timestamp;

use super::logs::{nothing, tell_turned};
use super::{Command, guard};
use crate::api::{LogLine, Problem, problem};
use crate::client::PageQuery;
use crate::tui::logs::{Asked, Logs, Page, Places, Way, What};
use crate::tui::model::{Model, Now, Screen};
use crate::tui::view::logs::room;

/// Lines of a page.
const PAGE: usize = 500;

/// The end, and then what is written from now on.
pub(super) fn open_end(model: &mut Model) -> Vec<Command> {
    let lines = page_lines(model);
    ask(model, What::End, PageQuery { lines, ..PageQuery::default() })
}

pub(super) fn open_start(model: &mut Model) -> Vec<Command> {
    let lines = page_lines(model);
    ask(model, What::Start, PageQuery { forward: true, lines, ..PageQuery::default() })
}

/// What is around a moment.
pub(super) fn open_moment(model: &mut Model, at: Timestamp) -> Vec<Command> {
    open_places(model, Some(at), Places::new(), false)
}

fn open_places(
    model: &mut Model,
    at: Option<Timestamp>,
    places: Places,
    found: bool,
) -> Vec<Command> {
    let lines = page_lines(model);
    ask(model, What::Before { found }, PageQuery { at, places, lines, ..PageQuery::default() })
}

/// With a filter a page may be far to look for; then a screenful is enough for a start.
fn page_lines(model: &Model) -> usize {
    let Screen::Logs(logs) = &model.screen else { return PAGE };
    if logs.filter.is_some() { room(model).1 } else { PAGE }
}

/// The same lines with another filter.
pub(super) fn reopen(model: &mut Model) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    match logs.window.top {
        None => open_end(model),
        Some(_) => {
            let places = logs.window.places_at(logs.first(width, height));
            open_places(model, None, places, false)
        }
    }
}

/// Asks for a page; what was asked before does not matter any more.
pub(super) fn ask(model: &mut Model, what: What, mut query: PageQuery) -> Vec<Command> {
    model.guard.last_id += 1;
    let id = model.guard.last_id;
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    query.grep.clone_from(&logs.filter);
    logs.asked = Some(Asked { id, what, query: query.clone(), searched: None });
    let names = logs.window.names().to_vec();
    let read = Command::ReadLog { id, names, query };
    // Another place: what is streamed does not follow on it.
    if what.moves() && std::mem::take(&mut logs.streams) {
        return vec![Command::Unfollow, read];
    }
    vec![read]
}

/// Fetches what is above or below before one gets there.
pub(super) fn near(model: &mut Model, below: bool) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let window = &logs.window;
    let Some(top) = window.top.filter(|_| logs.asked.is_none()) else { return vec![] };
    let top = top.min(logs.first(width, height));
    if below && !window.is_last && top + 3 * height > window.lines.len() {
        let places = window.ends().clone();
        return ask(
            model,
            What::Newer,
            PageQuery { forward: true, places, lines: PAGE, ..PageQuery::default() },
        );
    }
    if !below && !window.is_first && top < 2 * height {
        let places = window.begins().clone();
        let lines = if logs.filter.is_some() { height } else { PAGE };
        return ask(model, What::Older, PageQuery { places, lines, ..PageQuery::default() });
    }
    vec![]
}

/// Has the daemon look for the text beyond the window.
pub(super) fn find_far(model: &mut Model, way: Way) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let window = &logs.window;
    let forward = !way.is_up();
    let places = if forward { window.ends() } else { window.begins() }.clone();
    let find = Some(format!("(?i){}", regex::escape(&logs.search)));
    let query = PageQuery { forward, places, lines: 1, find, ..PageQuery::default() };
    ask(model, What::Find { way }, query)
}

/// Esc while the daemon searches. A filter whose lines are not known yet goes with it.
pub(super) fn cancel(model: &mut Model, now: Now) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let asked = logs.asked.take();
    let opens = asked.is_some_and(|it| it.what.moves());
    let mut commands = vec![Command::UnreadLog];
    if opens {
        logs.filter = None;
        commands.extend(reopen(model));
    }
    model.say(now, if opens { "all lines: the search was ended" } else { "the search was ended" });
    commands
}

pub(super) fn on_progress(model: &mut Model, id: u64, searched: u64, of: u64) {
    if let Screen::Logs(logs) = &mut model.screen
        && let Some(asked) = logs.asked.as_mut().filter(|it| it.id == id)
    {
        asked.searched = Some((searched, of));
    }
}

pub(super) fn on_page(
    model: &mut Model,
    now: Now,
    id: u64,
    page: Result<Page, Problem>,
) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let Some(asked) = logs.asked.take_if(|it| it.id == id) else { return vec![] };
    let page = match page {
        Ok(page) => page,
        Err(problem) => {
            logs.ended = Some(guard::tell(&problem));
            // Asked again once the daemon is back.
            logs.asked = (problem.kind == problem::UNREACHABLE).then_some(asked);
            return vec![];
        }
    };
    logs.ended = None;
    match asked.what {
        What::End => {
            logs.window.begin(&page);
            (logs.window.is_first, logs.window.is_last) = (page.last, true);
        }
        What::Start => {
            logs.window.begin(&page);
            (logs.window.is_first, logs.window.is_last) = (true, page.last);
            logs.window.top = Some(0);
        }
        What::Before { found } => {
            let places = page.ends.clone();
            logs.half = page;
            let query = PageQuery { forward: true, places, lines: PAGE, ..PageQuery::default() };
            return ask(model, What::After { found }, query);
        }
        What::After { found } => arrive(logs, &page, found, width, height),
        // What is streamed has pushed lines out meanwhile: these do not join on.
        What::Older if asked.query.places != *logs.window.begins() => (),
        What::Older => logs.window.older(&page),
        What::Newer => logs.window.newer(&page),
        What::Find { way } => return on_found(model, now, &page, way),
    }
    follow_on(model)
}

/// Both halves are there: the place between them goes to the top of the screen, a match to its middle.
fn arrive(logs: &mut Logs, page: &Page, found: bool, width: usize, height: usize) {
    let half = std::mem::take(&mut logs.half);
    logs.window.begin(&half);
    logs.window.is_first = half.last;
    logs.window.newer(page);
    // Long lines may have pushed some of the first half out.
    let at = logs.window.lines.len().saturating_sub(page.lines.len());
    let above = if found { height / 2 } else { 0 };
    if at < logs.window.lines.len() {
        logs.window.found = found.then_some(at);
        logs.show(at, above, width, height);
    } else {
        logs.window.top = None;
    }
}

fn on_found(model: &mut Model, now: Now, page: &Page, way: Way) -> Vec<Command> {
    let Some(line) = page.lines.first() else { return nothing(model, now, way) };
    tell_turned(model, now, way);
    let place = line.begins.map(|it| (line.instance.clone(), it));
    open_places(model, line.at, place.into_iter().collect(), true)
}

/// Streams what is written once the window reaches the end, and no longer when it does not.
pub(super) fn follow_on(model: &mut Model) -> Vec<Command> {
    model.guard.last_id += 1;
    let session = model.guard.last_id;
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    match (logs.window.is_last, logs.streams) {
        (true, false) => {
            (logs.streams, logs.session, logs.ended) = (true, session, None);
            let (names, after) = (logs.window.names().to_vec(), logs.window.ends().clone());
            vec![Command::Follow { session, names, after, grep: logs.filter.clone() }]
        }
        (false, true) => {
            logs.streams = false;
            vec![Command::Unfollow]
        }
        _ => vec![],
    }
}

/// The daemon is back: what broke with it goes on where it was.
pub(super) fn again(model: &mut Model) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    logs.streams = false;
    if let Some(asked) = logs.asked.take() {
        return ask(model, asked.what, asked.query);
    }
    if logs.window.lines.is_empty() {
        return open_end(model);
    }
    follow_on(model)
}

pub(super) fn on_lines(model: &mut Model, session: u64, lines: &[LogLine]) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    if logs.session != session {
        return vec![];
    }
    for line in lines {
        if !logs.streams || !logs.window.is_last {
            break;
        }
        logs.window.push(line);
    }
    if logs.streams && !logs.window.is_last { follow_on(model) } else { vec![] }
}

pub(super) fn on_end(
    model: &mut Model,
    session: u64,
    name: &str,
    problem: Option<&Problem>,
) -> Vec<Command> {
    if let Screen::Logs(logs) = &mut model.screen
        && logs.session == session
    {
        let why = problem.map_or_else(|| "the daemon ended the stream".to_owned(), guard::tell);
        logs.streams = false;
        logs.ended = Some(format!("{name}: {why}"));
    }
    vec![]
}
