//! Pages in front of the table: help, events, detail, configuration, picker, palette.

use super::{Command, guard, keys, processes};
use crate::api::{Act, ConfigVerb, Done, Problem, Request, SignalDetail};
use crate::tui::ansi;
use crate::tui::fuzzy::{find, fit};
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Entry, Scope, TABLE};
use crate::tui::layout::body;
use crate::tui::model::{
    Aim, Armed, Batch, Link, Model, Now, Page, Palette, Panel, Picker, READ, Screen,
};
use crate::tui::rows::RowId;
use crate::tui::signals::SIGNALS;
use crate::tui::view::detail;
use crate::tui::view::panel::last_top;

/// Choices of a page of the palette.
const PAGE: usize = 10;

/// Opens the page of `action`.
pub(super) fn open(model: &mut Model, now: Now, action: Action) {
    let page = match action {
        Action::Help => Page::Help,
        Action::Detail => match model.rows.selected.clone() {
            Some(id) => Page::Detail(id),
            None => return model.warn(now, "nothing is selected"),
        },
        Action::Palette => {
            model.screen = Screen::Palette(Palette::default());
            return;
        }
        _ => return,
    };
    model.cover(Screen::Panel(Panel { page, top: 0 }));
}

/// Opens the configuration; what applying it would do is asked for.
pub(super) fn open_config(model: &mut Model) {
    model.cover(Screen::Panel(Panel { page: Page::Config(None), top: 0 }));
    forget_diff(model);
}

/// What applying the configuration would do may be something else now: what was read before is no longer what
/// a key would apply.
pub(super) fn forget_diff(model: &mut Model) {
    if let Screen::Panel(Panel { page: Page::Config(known), .. }) = &mut model.screen {
        *known = None;
        (model.guard.diff_asked, model.guard.diff_drawn) = (false, None);
    }
}

/// The question what applying the configuration would do, where that is in front and not known.
pub(super) fn wanted(model: &mut Model) -> Option<Command> {
    let is_wanted = matches!(&model.screen, Screen::Panel(Panel { page: Page::Config(None), .. }));
    if !is_wanted || model.guard.diff_asked || model.link != Link::Up {
        return None;
    }
    model.guard.last_id += 1;
    (model.guard.diff, model.guard.diff_asked) = (model.guard.last_id, true);
    let request = Request::Config { verb: ConfigVerb::Diff, act: Act::default() };
    Some(Command::Send { id: model.guard.diff, request })
}

pub(super) fn is_diff(model: &Model, id: u64) -> bool {
    id == model.guard.diff
}

pub(super) fn on_diff(model: &mut Model, now: Now, result: Result<Done, Problem>) {
    match result {
        Ok(done) => {
            let mut diff = done.diff.unwrap_or_default();
            for it in &mut diff {
                ansi::clean_difference(it);
            }
            if let Screen::Panel(Panel { page: Page::Config(known), .. }) = &mut model.screen {
                *known = Some(Ok(diff));
            }
        }
        Err(problem) => match &mut model.screen {
            Screen::Panel(Panel { page: Page::Config(known), .. }) => {
                *known = Some(Err(why(&problem)));
            }
            _ => model.warn(now, guard::tell(&problem)),
        },
    }
}

/// A problem in lines: a configuration's mistakes point at their place.
fn why(problem: &Problem) -> Vec<String> {
    let detail = problem.detail.lines();
    let all = std::iter::once(problem.title.as_str()).chain(detail).chain(problem.help.as_deref());
    all.map(|it| ansi::clean(it).into_owned()).collect()
}

pub(super) fn on_panel(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    let action = model.keymap.action(Scope::Table, key);
    let Screen::Panel(panel) = &model.screen else { return vec![] };
    let page = &panel.page;
    let config = matches!(page, Page::Config(_));
    if let Page::Detail(id) = page
        && let Some(top) = section(model, now, id, panel.top, key)
    {
        if let Screen::Panel(panel) = &mut model.screen {
            panel.top = top;
        }
        return vec![];
    }
    if let Page::Detail(id) = page {
        let id = id.clone();
        if let Some(commands) = processes::on_key(model, now, &id, key, together) {
            return commands;
        }
    }
    let Screen::Panel(panel) = &model.screen else { return vec![] };
    let page = &panel.page;
    match action {
        _ if key.code == Code::Esc => super::back(model),
        Some(Action::Config | Action::Detail) if config => {
            return apply(model, now, key, together);
        }
        Some(Action::Quit | Action::Detail) => super::back(model),
        Some(Action::Help) if *page == Page::Help => super::back(model),
        Some(Action::Help) => open(model, now, Action::Help),
        Some(Action::Logs) => {
            if let Page::Detail(id) = page {
                let names = super::logs::names_of(model, id);
                return super::logs::open_at(model, now, names, None);
            }
        }
        Some(Action::Rollout) => {
            if let Page::Detail(id) = page {
                let service = id.service.clone();
                super::rollout::open(model, service);
            }
        }
        Some(Action::Redraw) => return vec![Command::Redraw],
        Some(Action::Suspend) => return vec![Command::Suspend],
        Some(action) => scroll(model, now, action),
        None => (),
    }
    vec![]
}

/// The line to which a key leads on a page with sections: Tab to the next one, a digit to its own.
fn section(model: &Model, now: Now, id: &RowId, top: usize, key: Key) -> Option<usize> {
    let Key { code, ctrl: false, alt: false } = key else { return None };
    let page = detail::page(model, now, id);
    let last = page.lines.len().saturating_sub(usize::from(body(model).height));
    let at = top.min(last);
    let starts = page.sections.iter().copied();
    match code {
        // After the last one that can be at the top it begins again.
        Code::Tab => Some(starts.map(|it| it.min(last)).find(|it| *it > at).unwrap_or(0)),
        Code::BackTab => Some(starts.map(|it| it.min(last)).rfind(|it| *it < at).unwrap_or(last)),
        Code::Char(digit @ '1'..='9') => {
            let n = digit.to_digit(10)?.checked_sub(1)?;
            Some(page.sections.get(usize::try_from(n).ok()?)?.min(&last).to_owned())
        }
        _ => None,
    }
}

/// Scrolls a page.
fn scroll(model: &mut Model, now: Now, action: Action) {
    let height = usize::from(body(model).height);
    let Screen::Panel(panel) = &model.screen else { return };
    let last = last_top(model, now, panel);
    let at = panel.top.min(last);
    let to = match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => at + 1,
        Action::PageUp => at.saturating_sub(height),
        Action::PageDown => at + height,
        Action::Top => 0,
        Action::Bottom => last,
        _ => return,
    };
    if let Screen::Panel(panel) = &mut model.screen {
        panel.top = to.min(last);
    }
}

/// Applies the configuration. What stops something is asked first.
fn apply(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    if let Some(why) = model.forbidden() {
        model.warn(now, why);
        return vec![];
    }
    let Screen::Panel(Panel { page: Page::Config(diff), .. }) = &model.screen else {
        return vec![];
    };
    let is_read = model.guard.diff_drawn.is_some_and(|at| now.mono >= at + READ);
    let stops: Vec<&str> = match diff {
        _ if together => vec![],
        // Nobody has read yet what it would do.
        None => return vec![],
        Some(_) if !is_read || model.guard.presses.is_repeat() => return vec![],
        Some(Err(_)) => {
            model.warn(now, "nothing to apply: the configuration has mistakes");
            return vec![];
        }
        Some(Ok(diff)) if diff.is_empty() => {
            model.say(now, "nothing to apply: this configuration runs already");
            return vec![];
        }
        Some(Ok(diff)) => {
            diff.iter().filter(|it| it.does == "stop").map(|it| it.name.as_str()).collect()
        }
    };
    let question = (!stops.is_empty()).then(|| format!("applying stops {}", stops.join(", ")));
    if !guard::is_typed(model, now, key, together) {
        return vec![];
    }

    model.guard.last_id += 1;
    let act = Act { yes: question.is_some(), ..Act::default() };
    let batch = Batch {
        id: model.guard.last_id,
        key,
        label: "apply".into(),
        queue: [Request::Config { verb: ConfigVerb::Apply, act }].into(),
        of: 1,
        asked_at_key: model.guard.keys,
    };
    if let Some(question) = question {
        model.guard.armed = Some(Armed {
            batch,
            question,
            by_daemon: true,
            drawn: None,
            pressed: None,
            too_soon: false,
        });
        return vec![];
    }
    guard::send(model, now, batch)
}

pub(super) fn on_picker(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    let action = model.keymap.action(Scope::Table, key);
    let Screen::Picker(picker) = &mut model.screen else { return vec![] };
    let last = SIGNALS.len() - 1;
    match (key.code, action) {
        (Code::Char(c @ '0'..='9'), _) => return digit(picker, c),
        (Code::Esc, _) | (_, Some(Action::Quit | Action::Pick)) => super::back(model),
        (Code::Enter, _) if together => {
            super::back(model);
            model.warn(now, "nothing was sent: the keys arrived together, so they were not typed");
        }
        (Code::Enter, _) => {
            let (aims, name) = (std::mem::take(&mut picker.aims), SIGNALS[picker.cursor].name);
            super::back(model);
            return guard::signal(model, now, key, name, &aims);
        }
        (_, Some(Action::Up)) => picker.cursor = picker.cursor.saturating_sub(1),
        (_, Some(Action::Down)) => picker.cursor = (picker.cursor + 1).min(last),
        (_, Some(Action::Top | Action::PageUp)) => picker.cursor = 0,
        (_, Some(Action::Bottom | Action::PageDown)) => picker.cursor = last,
        _ => (),
    }
    vec![]
}

/// What the first target of the picker does with signals, and what they mean to all of them.
pub(super) fn on_signals(model: &mut Model, of: &str, all: &[SignalDetail]) {
    let Screen::Picker(picker) = &mut model.screen else { return };
    let is_asked = |it: &Aim| it.name() == of && it.member.is_none();
    if picker.aims.first().is_some_and(is_asked) {
        picker.told = all.to_vec();
    }
}

/// A number goes to its signal: `1` to SIGHUP, then `5` to SIGTERM.
fn digit(picker: &mut Picker, digit: char) -> Vec<Command> {
    let find = |text: &str| SIGNALS.iter().position(|it| it.number.to_string() == text);
    picker.digits.push(digit);
    let mut found = find(&picker.digits);
    if found.is_none() {
        picker.digits = digit.to_string();
        found = find(&picker.digits);
    }
    picker.cursor = found.unwrap_or(picker.cursor);
    vec![]
}

/// An action of the palette, with the characters of its name and its help that were typed.
#[derive(Debug)]
pub(in crate::tui) struct Choice {
    pub(in crate::tui) entry: &'static Entry,
    pub(in crate::tui) name: Vec<usize>,
    pub(in crate::tui) help: Vec<usize>,
}

/// The actions that the palette's text may mean, the likeliest first. A deck that may not act offers
/// none that acts.
pub(in crate::tui) fn choices(model: &Model, palette: &Palette) -> Vec<Choice> {
    let text = palette.input.value().trim().to_lowercase();
    let letters: String = text.split_whitespace().collect();
    let looks_only = model.forbidden().is_some();
    let is_offered = |it: &&Entry| match it.scope {
        Scope::Logs | Scope::Events | Scope::Detail => false,
        Scope::Table | Scope::Everywhere => !(looks_only && it.acts),
    };
    let here = TABLE.iter().filter(is_offered);
    let mut all: Vec<_> = here.filter_map(|it| choice(it, &letters, &text)).collect();
    // Among equals the order of the footer.
    all.sort_by_key(|it| std::cmp::Reverse(it.0));
    all.into_iter().map(|it| it.1).collect()
}

/// Who types a name means it, more than a word of some explanation.
fn choice(entry: &'static Entry, letters: &str, text: &str) -> Option<(i32, Choice)> {
    let name = fit(letters, entry.name);
    let help = find(text, entry.help).unwrap_or_default();
    // A word of the explanation is meant more than letters that happen to be in a name.
    let explained = if !help.is_empty() || find(text, entry.label).is_some() { 12 } else { 0 };
    let score = match &name {
        Some(fit) => fit.score.max(explained),
        None if explained > 0 => explained,
        None => return None,
    };
    let name = name.map(|it| it.hits).unwrap_or_default();
    Some((score, Choice { entry, name, help }))
}

pub(super) fn on_palette(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    let Screen::Palette(palette) = &model.screen else { return vec![] };
    let choices = choices(model, palette);
    let last = choices.len().saturating_sub(1);
    let Screen::Palette(palette) = &mut model.screen else { return vec![] };
    match key.code {
        Code::Esc => model.screen = Screen::Table,
        Code::Up => palette.cursor = palette.cursor.saturating_sub(1),
        Code::Down => palette.cursor = (palette.cursor + 1).min(last),
        Code::PageUp => palette.cursor = palette.cursor.saturating_sub(PAGE),
        Code::PageDown => palette.cursor = (palette.cursor + PAGE).min(last),
        Code::Enter => {
            let chosen = choices.get(palette.cursor).map(|it| it.entry.action);
            model.screen = Screen::Table;
            if let Some(action) = chosen {
                return keys::run(model, now, action, key, together);
            }
        }
        _ => {
            keys::edit(&mut palette.input, key);
            palette.cursor = 0;
        }
    }
    vec![]
}
