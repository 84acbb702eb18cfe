//! `opsdeck status --watch`: the table again whenever it is another one.
//!
//! On a terminal it is written over the one before it, line by line; elsewhere one table follows the
//! other, with `--json` one snapshot a line. It goes on when the daemon is away, and ends by Ctrl-C
//! or when everything is shut down.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use unicode_width::UnicodeWidthChar;

use super::status::{is_there, keep_only, printable_table};
use super::{Outcome, act, json_line, local, notice, out_more, unprinted, wait};
use crate::api::{Change, Deck, Problem};
use crate::cli::StatusArgs;
use crate::client::Client;
use crate::exit::Exit;

/// Between two tables: a terminal is not for what changes faster.
const PACE: Duration = Duration::from_millis(200);
/// Between two looks whether the daemon is back.
const AGAIN: Duration = Duration::from_secs(1);

type Changes = BoxStream<'static, Result<Change, Problem>>;

pub async fn run(client: &Client, args: &StatusArgs) -> Outcome {
    let changes = client.watch().await?.boxed();
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|err| local("Ctrl-C could not be watched", err.to_string()))?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(Exit::Done),
        outcome = follow(client, args, changes) => outcome,
    }
}

async fn follow(client: &Client, args: &StatusArgs, mut changes: Changes) -> Outcome {
    let mut deck = Deck::default();
    let mut page = Page::new(args.json);
    // What comes in one burst is one table.
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dirty = false;
    let mut shut_down_by = None;
    loop {
        tokio::select! {
            biased;
            _ = pace.tick(), if dirty => {
                dirty = false;
                if let Some(it) = args.names.iter().find(|it| page.is_new() && !is_there(&deck, it)) {
                    return Err(act::unknown(&deck, it));
                }
                if !page.show(&deck, &args.names)? {
                    return Ok(Exit::Done);
                }
            }
            change = changes.next() => match change {
                Some(Ok(change)) => {
                    shut_down_by = who_shut_down(&change).or(shut_down_by);
                    deck.follow(change);
                    dirty = true;
                }
                Some(Err(_)) | None => match (anew(client).await, shut_down_by.take()) {
                    (Some(again), _) => changes = again,
                    (None, Some(by)) => {
                        page.show(&deck, &args.names)?;
                        notice(&format!("opsdeck: shut down by {}", super::safe(&by)));
                        return Ok(Exit::Done);
                    }
                    (None, None) => changes = next_daemon(client).await,
                },
            },
        }
    }
}

/// Who has everything stopped, the daemon too: no other one is to come.
fn who_shut_down(change: &Change) -> Option<String> {
    let Change::Change { events, .. } = change else { return None };
    let told = events.iter().find(|it| it.kind == "shutdown" && it.message.starts_with("stopping"));
    Some(told?.actor.as_ref().map_or("a signal".into(), |it| it.login.clone()))
}

/// Another stream of changes, where the daemon becomes another program or another one comes at once.
async fn anew(client: &Client) -> Option<Changes> {
    wait::again(|| client.watch()).await.map(StreamExt::boxed)
}

/// Another stream of changes, once there is a daemon again.
async fn next_daemon(client: &Client) -> Changes {
    notice("opsdeck: the daemon is away, the services run on; waiting for the next one");
    loop {
        tokio::time::sleep(AGAIN).await;
        if let Ok(changes) = client.watch().await {
            return changes.boxed();
        }
    }
}

/// What was printed last.
struct Page {
    json: bool,
    terminal: bool,
    last: String,
    /// Lines on the terminal that the next table takes the place of.
    lines: usize,
}

impl Page {
    fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal() && !json;
        Self { json, terminal, last: String::new(), lines: 0 }
    }

    fn is_new(&self) -> bool {
        self.last.is_empty()
    }

    /// Prints the deck if it looks different than before; false if nobody reads any more.
    fn show(&mut self, deck: &Deck, names: &[String]) -> Result<bool, Problem> {
        let mut deck = deck.clone();
        keep_only(&mut deck, names);
        let text = if self.json {
            json_line(&deck, "the snapshot")?
        } else {
            printable_table(&deck, None)
        };
        if text == self.last {
            return Ok(true);
        }
        let printed = if self.terminal {
            let shown = fitting(&text, terminal_size());
            let over = over(self.lines, &shown);
            self.lines = shown.lines().count();
            over
        } else if self.json || self.is_new() {
            text.clone()
        } else {
            format!("\n{text}")
        };
        self.last = text;
        out_more(&printed).map_err(|err| unprinted(&err))
    }
}

fn terminal_size() -> (usize, usize) {
    let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
    (usize::from(width), usize::from(height))
}

/// As much of a table as the terminal has room for: a line that wraps would be two.
fn fitting(text: &str, (width, height): (usize, usize)) -> String {
    let room = height.saturating_sub(1).max(2);
    let all = text.lines().count();
    let shown = if all > room { room - 1 } else { all };
    let mut out = String::with_capacity(text.len());
    for line in text.lines().take(shown) {
        let mut columns = 0;
        let fits = |c: &char| {
            columns += c.width().unwrap_or(0);
            columns < width
        };
        out.extend(line.chars().take_while(fits));
        out.push('\n');
    }
    if shown < all {
        let _ = writeln!(out, "({} more)", all - shown);
    }
    out
}

/// The bytes that put `text` in the place of the last so many lines: up, then each line and what is left
/// of the old one, then whatever lines there were more (ECMA-48 §8.3.22 CUU, §8.3.41 EL, §8.3.39 ED).
fn over(lines: usize, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    if lines > 0 {
        let _ = write!(out, "\x1b[{lines}A\r");
    }
    for line in text.lines() {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before_it() {
        assert_eq!(over(0, "a\nb\n"), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over(2, "c\n"), "\x1b[2A\rc\x1b[K\n\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        assert_eq!(fitting("abcdef\ngh\n", (4, 24)), "abc\ngh\n");
        assert_eq!(fitting("a\nb\nc\nd\n", (80, 4)), "a\nb\n(2 more)\n");
        assert_eq!(fitting("a\nb\nc\n", (80, 4)), "a\nb\nc\n");
    }
}
