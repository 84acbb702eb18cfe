//! What the commands do: ask the daemon, print, and end with an honest exit code.
//!
//! Results go to stdout, notices to stderr. Text that comes from services, journals or other daemons has
//! its control characters taken out before it is printed to a terminal.

pub mod act;
pub mod config;
pub mod daemon;
pub mod deck;
pub mod demo;
pub mod dispatch;
pub mod events;
pub mod logs;
pub mod manual;
pub mod place;
pub mod reload;
pub mod replace;
pub mod report;
pub mod roll;
pub mod status;
pub mod status_watch;
pub mod themes;
pub mod wait;

pub use dispatch::run;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crate::api::{Problem, problem};
use crate::exit::Exit;
use crate::tui::output::Tty;

/// Characters that are cleaned at a time: `ansi` keeps no more of one line.
const PIECE: usize = 1000;

/// What every command comes to.
pub type Outcome = Result<Exit, Problem>;

/// Prints a result.
///
/// A reader that went away (`opsdeck status | head`) is no mistake.
pub fn out(text: &str) -> io::Result<()> {
    out_more(text).map(|_| ())
}

/// Prints a result that goes on; false if nobody reads any more.
pub fn out_more(text: &str) -> io::Result<bool> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(err),
    }
}

/// Prints a notice.
pub fn notice(text: &str) {
    // If stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a notice on the terminal that the deck has just left. One that takes nothing is not waited for.
pub fn farewell(text: &str) {
    match Tty::open() {
        Ok(tty) if io::stderr().is_terminal() => drop(tty.finish(format!("{text}\n").as_bytes())),
        _ => notice(text),
    }
}

/// Text from elsewhere, as it may be printed: raw into a pipe, without control characters on a terminal.
pub fn printable(text: &str) -> String {
    printer()(text)
}

/// [`printable`] for many texts: the terminal is asked once.
pub fn printer() -> fn(&str) -> String {
    if io::stdout().is_terminal() { safe } else { str::to_owned }
}

/// A value as a line of JSON that may be printed; `what` it is, where that fails.
pub(super) fn json_line(value: &impl serde::Serialize, what: &str) -> Result<String, Problem> {
    let json = serde_json::to_string(value)
        .map_err(|err| local(format!("could not write {what} as JSON"), err.to_string()))?;
    Ok(printable_json(&json) + "\n")
}

/// JSON as it may be printed: on a terminal, what such text would do there is written as escapes.
pub fn printable_json(text: &str) -> String {
    if !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let mut buffer = [0; 4];
        if c == '\n' || !crate::tui::ansi::clean(c.encode_utf8(&mut buffer)).is_empty() {
            line.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line
}

/// One line without control characters, however long it is. Notices are always so: they go to the terminal
/// also where the result goes elsewhere.
pub fn safe(text: &str) -> String {
    let mut rest = text;
    let mut line = String::with_capacity(text.len());
    while !rest.is_empty() {
        let cut = rest.char_indices().nth(PIECE).map_or(rest.len(), |(at, _)| at);
        line.push_str(&crate::tui::ansi::clean(&rest[..cut]));
        rest = &rest[cut..];
    }
    line
}

/// Prints a problem the way all problems are printed and says with what to exit.
pub fn report(problem: &Problem) -> Exit {
    let mut text = format!("opsdeck: {}", safe(&problem.title));
    for (n, line) in problem.detail.lines().enumerate() {
        text.push_str(match n {
            0 if line.is_empty() => ":",
            0 => ": ",
            _ => "\n",
        });
        text.push_str(&safe(line));
    }
    if let Some(help) = &problem.help {
        text.push_str("\n  help: ");
        text.push_str(&safe(help));
    }
    notice(&text);
    match problem.kind.as_str() {
        problem::UNREACHABLE => Exit::NoDaemon,
        problem::FORBIDDEN => Exit::Forbidden,
        problem::CONFIRM => Exit::Confirm,
        problem::CONFIG => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// A problem that arises here, not in the daemon.
pub fn local(title: impl Into<String>, detail: impl Into<String>) -> Problem {
    Problem {
        kind: "about:blank".into(),
        title: title.into(),
        detail: detail.into(),
        ..Problem::default()
    }
}

/// Writing to stdout failed.
pub fn unprinted(err: &io::Error) -> Problem {
    local("could not print the result", err.to_string())
}
