//! What is looked up more rarely: signals, ends, environment, limits, files.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use crate::api::{Detail, Event, Instance, LastExit, Limit, SignalDetail};
use crate::tui::model::Model;
use crate::tui::view::format::date;
use crate::tui::view::text::Text;

/// Columns of a variable's name; a longer one pushes its value to the right.
const NAME: usize = 24;

/// Signals whose default is to be ignored, to stop or to go on (signal(7)): the others end a process.
const MILD: [&str; 8] =
    ["SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"];

pub(super) fn signals(text: &mut Text, detail: Option<&Detail>) {
    let Some(detail) = detail else { return };
    if detail.signals.is_empty() {
        return text.paragraph(3, "nothing runs that could take one", text.theme.faint());
    }
    let is_minor =
        |it: &&SignalDetail| it.means.is_none() && it.does == "caught" && it.number >= 13;
    let is_told = |it: &&SignalDetail| !is_minor(it) || it.signal == "SIGTERM";
    for it in detail.signals.iter().filter(is_told) {
        let (said, style) = signal(text, it);
        text.styled_field(&it.signal, &said, style);
    }
    let minor: Vec<&str> =
        detail.signals.iter().filter(|it| !is_told(it)).map(|it| it.signal.as_str()).collect();
    text.styled_field("also caught", &minor.join(", "), text.theme.faint());
}

fn signal(text: &Text, it: &SignalDetail) -> (String, Style) {
    let means = it.means.as_deref();
    match it.does.as_str() {
        "caught" => (means.unwrap_or("caught").to_owned(), text.theme.plain()),
        "ignored" => (
            means.map_or("ignored".into(), |it| format!("ignored, though it should {it}")),
            text.theme.plain(),
        ),
        _ if MILD.contains(&it.signal.as_str()) => ("not caught".into(), text.theme.faint()),
        _ => {
            // Of what is not caught a profile has nothing better to say.
            let said = match means.filter(|it| !it.starts_with("die")) {
                Some(means) => format!("not caught: it would end it, though it should {means}"),
                None => "not caught: it would end it".into(),
            };
            (said, text.theme.moving())
        }
    }
}

pub(super) fn exits(model: &Model, text: &mut Text, it: &Instance, detail: Option<&Detail>) {
    text.field("restarts", &it.restarts.to_string());
    text.field("last exit", &last_exit(model, it));
    let words = it.last_exit.as_ref().and_then(|it| it.words.as_deref());
    text.field("last words", words.unwrap_or_default());
    let exits = detail.map(|it| it.exits.as_slice()).unwrap_or_default();
    let theme = model.theme;
    for event in exits.iter().rev() {
        let by = event.actor.as_ref().map(|it| format!(" ({})", it.login)).unwrap_or_default();
        let said = format!("{}{}{by}", kind(event), event.message);
        let at = date(event.at, &model.tz);
        // Under its time there is room for a whole sentence.
        if text.width < 50 {
            text.paragraph(3, &format!("{at} {said}"), theme.plain());
            continue;
        }
        let indent = at.len() + 5;
        let from = text.lines.len();
        text.paragraph(indent, &said, theme.plain());
        if let Some(line) = text.lines.get_mut(from) {
            let rest = line.to_string().trim_start().to_owned();
            *line = Line::from(vec![
                Span::styled(format!("   {at}  "), theme.faint()),
                Span::raw(rest),
            ]);
        }
    }
}

fn kind(event: &Event) -> &'static str {
    let is_told = event.message.starts_with("given up");
    if event.kind == "fatal" && !is_told { "given up: " } else { "" }
}

/// When and how it ended last, and what was lost.
pub(super) fn last_exit(model: &Model, it: &Instance) -> String {
    it.last_exit.as_ref().map(|it| exit(model, it)).unwrap_or_default()
}

fn exit(model: &Model, exit: &LastExit) -> String {
    let at = exit.at.map(|at| format!("{}: ", date(at, &model.tz))).unwrap_or_default();
    let how = match (&exit.signal, exit.code) {
        (Some(signal), _) => {
            // The cause may begin with it.
            let by = exit.cause.strip_prefix(signal.as_str()).unwrap_or(&exit.cause);
            format!("ended by {signal}, {}", by.trim_start_matches([':', ' ']))
        }
        (None, Some(code)) if exit.cause.starts_with("SIG") => {
            format!("ended with code {code} after {}", exit.cause)
        }
        // The cause has the code.
        (None, Some(_)) => format!("ended {}", exit.cause),
        (None, None) => format!("exit status unknown, {}", exit.cause),
    };
    let about = if exit.lost_exact { "" } else { "about " };
    let lost =
        if exit.lost > 0 { format!(", {about}{} requests lost", exit.lost) } else { String::new() };
    format!("{at}{how}{lost}")
}

pub(super) fn environment(text: &mut Text, detail: Option<&Detail>) {
    let Some(detail) = detail else { return };
    let theme = text.theme;
    // Why there is none, or not all of it.
    for it in detail.missing.iter().filter(|it| it.contains("environment")) {
        text.paragraph(3, it, theme.faint());
    }
    if detail.processes.is_empty() && detail.missing.is_empty() {
        return text.paragraph(3, "nothing runs that has one", theme.faint());
    }
    let all = detail.environment.iter().flatten();
    let width = all.clone().map(|it| it.name.width()).max().unwrap_or(0).min(NAME);
    for it in all {
        let style = if it.masked { theme.faint() } else { theme.plain() };
        text.lines.push(Line::from(vec![
            Span::styled(format!("   {:<width$}  ", it.name), theme.name()),
            Span::styled(it.value.clone(), style),
        ]));
    }
}

/// Of the kernel's sixteen limits those that services run into, and any other that is one.
pub(super) fn limits(text: &mut Text, detail: Option<&Detail>) {
    const FIRST: [&str; 3] = ["Max open files", "Max processes", "Max core file size"];
    let Some(detail) = detail else { return };
    if detail.limits.is_empty() && detail.processes.is_empty() {
        return text.paragraph(3, "nothing runs that has any", text.theme.faint());
    }
    let open = detail.files.as_ref().map_or(0, |it| it.open.values().sum::<u32>());
    let is_first = |it: &&Limit| FIRST.contains(&it.name.as_str());
    // Priorities that nobody may raise are no news.
    let is_told = |it: &&Limit| it.soft != "unlimited" && it.soft != "0";
    let others = detail.limits.iter().filter(|it| !is_first(it) && is_told(it));
    for it in detail.limits.iter().filter(is_first).chain(others) {
        let name = it.name.strip_prefix("Max ").unwrap_or(&it.name);
        let is_most = it.hard == it.soft || it.hard == "unlimited";
        let most = if is_most { String::new() } else { format!(", at most {}", it.hard) };
        let unit = if it.soft == "unlimited" { "" } else { it.unit.as_str() };
        let mut said = format!("{} {unit}", it.soft).trim_end().to_owned() + &most;
        let mut style = text.theme.plain();
        if name == "open files" {
            said = format!("{open} of {said}");
            let is_near = it.soft.parse::<u32>().is_ok_and(|most| open > most / 10 * 8);
            style = if is_near { text.theme.bad() } else { style };
        }
        text.styled_field(&format!("{name:<15}"), &said, style);
    }
}

pub(super) fn files(text: &mut Text, detail: Option<&Detail>) {
    let Some(detail) = detail else { return };
    text.field("command", &detail.command);
    let Some(files) = &detail.files else { return };
    text.field("program", files.exe.as_deref().unwrap_or_default());
    text.field("directory", files.cwd.as_deref().unwrap_or_default());
    text.field("pid file", files.pidfile.as_deref().unwrap_or_default());
    text.field("log", &files.log);
    let sockets: Vec<&str> =
        files.listening.iter().chain(&files.unix_sockets).map(String::as_str).collect();
    text.field("listens on", &sockets.join(", "));
    for it in &files.ports {
        let (waiting, limit) = (it.accept_queue, it.accept_limit);
        let is_full = waiting > 0 && waiting >= limit;
        let style = if is_full { text.theme.bad() } else { text.theme.plain() };
        let said = format!(
            "{}: {} connections, {waiting} of {limit} wait to be accepted",
            it.port, it.connections
        );
        text.styled_field("", &said, style);
    }
    let open: Vec<String> = files.open.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    text.field("open", &open.join(", "));
    for it in detail.missing.iter().filter(|it| !it.contains("environment")) {
        text.paragraph(3, it, text.theme.faint());
    }
}
