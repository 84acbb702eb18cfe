//! What happens, and what follows from it.
//!
//! [`update`] takes one message and returns what to do about it. It does nothing itself and reads no
//! clock, so every rule of the deck is tested by calling it.

mod closeup;
mod daemon;
mod events;
mod guard;
mod keys;
mod log_pages;
mod log_range;
mod logs;
mod mouse;
mod orders;
mod panels;
mod processes;
mod rollout;

use std::time::Duration;

pub(in crate::tui) use panels::choices;
pub(in crate::tui) use rollout::wakeup as rollout_asks_at;

use super::key::{Key, Mouse};
use super::layout::layout;
use super::logs::{Page, Places};
use super::model::{Model, Now, Screen};
use super::rows::RowId;
use crate::api::{
    Change, Detail, Done, Event, History, LogLine, Look, Plan, Problem, Request, RolloutRecord,
};
use crate::client::{EventQuery, PageQuery};

/// Who presses a key has seen what was on the screen so long ago.
const UNSEEN: Duration = Duration::from_millis(500);

/// Something happened.
#[derive(Debug)]
pub enum Msg {
    /// What one read of the terminal brought, in order.
    Keys(Vec<Key>),
    /// Keys that came together with the mouse or a paste.
    MixedKeys(Vec<Key>),
    /// A bracketed paste.
    Paste(String),
    Mouse(Mouse),
    Resize(u16, u16),
    Change(Box<Change>),
    /// The connection to the daemon is gone, or could not be made; it is tried again.
    LinkLost(Problem),
    /// The daemon's answer to a [`Command::Send`].
    Reply {
        id: u64,
        result: Result<Done, Problem>,
    },
    /// The answer to a [`Command::History`].
    History {
        of: RowId,
        result: Result<History, Problem>,
    },
    /// The answer to a [`Command::Rollout`].
    Rollout(Box<RolloutAnswer>),
    /// The answer to a [`Command::Detail`].
    Detail {
        of: String,
        result: Result<Box<Detail>, Problem>,
    },
    /// The answer to a [`Command::Past`], oldest first.
    Past {
        id: u64,
        result: Result<Vec<Event>, Problem>,
    },
    /// From the stream of the log page.
    Log {
        session: u64,
        lines: Vec<LogLine>,
    },
    LogEnded {
        session: u64,
        name: String,
        problem: Option<Problem>,
    },
    /// The answer to a [`Command::ReadLog`].
    LogPage {
        id: u64,
        page: Result<Page, Problem>,
    },
    /// How many bytes were searched for it, and of how many.
    LogProgress {
        id: u64,
        searched: u64,
        of: u64,
    },
    /// The answer to a [`Command::SaveLog`]: how many lines, or why not.
    LogSaved {
        path: String,
        result: Result<u64, String>,
    },
    /// A frame with the model as it is now is on the screen.
    Drawn,
    /// [`Model::next_wakeup`] has come.
    Wake,
}

/// What the daemon knows of the rollouts of a service.
#[derive(Debug)]
pub struct RolloutAnswer {
    pub service: String,
    /// Of the one that runs or ran last.
    pub record: Result<RolloutRecord, Problem>,
    /// Of the next one.
    pub plan: Result<Plan, Problem>,
}

/// What the runtime should do after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    /// Give the terminal back to the shell until SIGCONT.
    Suspend,
    /// `[deck]` says that it should look so.
    Look(Look),
    /// The screen cannot be trusted: write all of it.
    Redraw,
    /// Ask the daemon; the answer comes back with the id.
    Send {
        id: u64,
        request: Request,
    },
    /// Ask what was counted in the last ten minutes.
    History {
        of: RowId,
    },
    /// Ask for the rollout of a service that runs or ran last, and for the next plan.
    Rollout {
        service: String,
    },
    /// Ask for a close look at an instance.
    Detail {
        of: String,
    },
    /// Ask for events of the journal.
    Past {
        id: u64,
        query: EventQuery,
    },
    /// Stream what is written to the logs of `names` after these places, and end what was streamed before.
    Follow {
        session: u64,
        names: Vec<String>,
        after: Places,
        grep: Option<String>,
    },
    Unfollow,
    /// Ask for a page of logs, and for no other any more.
    ReadLog {
        id: u64,
        names: Vec<String>,
        query: PageQuery,
    },
    UnreadLog,
    /// Write the lines of logs into a new file.
    SaveLog {
        path: String,
        names: Vec<String>,
        grep: Option<String>,
    },
    /// Write a sequence to the terminal that shows nothing on the screen.
    Announce(String),
    /// Put a text on the clipboard of the operator's terminal.
    Copy(String),
}

/// Applies one message to the model and returns what to do about it.
pub fn update(model: &mut Model, now: Now, msg: Msg) -> Vec<Command> {
    let mut commands = expire(model, now);
    commands.extend(match msg {
        Msg::Keys(keys) => {
            let together = keys.len() > 1;
            keys::on_keys(model, now, keys, together)
        }
        Msg::MixedKeys(keys) => keys::on_keys(model, now, keys, true),
        Msg::Paste(text) => keys::on_paste(model, now, &text),
        Msg::Mouse(it) => mouse::on_mouse(model, now, it),
        Msg::Resize(width, height) => {
            model.size = (width, height);
            vec![]
        }
        Msg::Change(change) => daemon::on_change(model, now, *change),
        Msg::LinkLost(problem) => daemon::on_lost(model, now, &problem),
        Msg::Reply { id, result } => daemon::on_reply(model, now, id, result),
        Msg::History { of, result } => {
            closeup::on_history(model, of, result.ok());
            vec![]
        }
        Msg::Past { id, result } => {
            events::on_past(model, id, result);
            vec![]
        }
        Msg::Detail { of, result } => {
            closeup::on_detail(model, &of, result);
            vec![]
        }
        Msg::Rollout(answer) => {
            rollout::on_answer(model, *answer);
            vec![]
        }
        Msg::Log { session, lines } => log_pages::on_lines(model, session, &lines),
        Msg::LogEnded { session, name, problem } => {
            log_pages::on_end(model, session, &name, problem.as_ref())
        }
        Msg::LogPage { id, page } => log_pages::on_page(model, now, id, page),
        Msg::LogProgress { id, searched, of } => {
            log_pages::on_progress(model, id, searched, of);
            vec![]
        }
        Msg::LogSaved { path, result } => {
            logs::on_saved(model, now, &path, result);
            vec![]
        }
        Msg::Drawn => {
            match &mut model.guard.armed {
                Some(armed) => _ = armed.drawn.get_or_insert(now.mono),
                None => _ = model.guard.diff_drawn.get_or_insert(now.mono),
            }
            return commands;
        }
        Msg::Wake => vec![],
    });
    settle(model, now);
    commands.extend(rollout::wanted(model, now));
    commands.extend(closeup::wanted(model, now));
    commands.extend(events::wanted(model));
    commands.extend(panels::wanted(model));
    commands
}

/// Takes away what had its time, and does what was waited with.
fn expire(model: &mut Model, now: Now) -> Vec<Command> {
    if model.rows.due.is_some_and(|it| it <= now.mono) {
        keys::rebuild_soon(model, now);
    }
    model.notice.take_if(|it| it.until <= now.mono);
    let armed = model.guard.armed.as_ref();
    let has_come = |at: Option<Duration>| at.is_some_and(|it| it <= now.mono);
    if armed.is_some_and(|it| has_come(it.acts_at())) {
        return guard::confirmed(model, now);
    }
    if armed.is_some_and(|it| has_come(it.late_at())) {
        model.guard.armed = None;
        model.say(now, "nothing was sent: the second key did not come within 5 s");
    }
    vec![]
}

/// Shows the page behind the one in front again; what happened meanwhile went past it.
fn back(model: &mut Model) {
    model.screen = model.behind.pop().unwrap_or(Screen::Table);
    events::again(model);
    rollout::again(model);
    panels::forget_diff(model);
}

/// Keeps the cursor on the screen.
fn settle(model: &mut Model, now: Now) {
    if std::mem::take(&mut model.rows.lost) {
        model.guard.unseen_until = now.mono + UNSEEN;
    }
    let height = usize::from(layout(model, now).table.height);
    model.rows.scroll(&model.deck, height);
    let height = super::view::events::height(model);
    if let Screen::Events(events) = &mut model.screen {
        events.settle(height);
    }
}

#[cfg(test)]
mod tests;
