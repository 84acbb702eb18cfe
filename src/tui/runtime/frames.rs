//! When a frame is drawn, and how it gets to the terminal.

use std::io;
use std::time::Duration;

use super::wakeups::{Ending, Wakeup};
use super::{Deck, FIRST};
use crate::tui::model::{Link, Now};
use crate::tui::terminal::{MOUSE_OFF, MOUSE_ON};
use crate::tui::update::{Msg, update};

/// Whether the screen is older than the model. With a daemon that answers, the first frame is the picture and
/// not an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    dirty: bool,
    /// Somebody waits for it.
    urgent: bool,
}

impl Wish {
    pub(super) fn note(&mut self, wakeup: &Wakeup) {
        let Self { dirty, urgent } = self;
        *urgent |= match wakeup {
            Wakeup::Typed(typed) => !typed.is_nothing(),
            Wakeup::Msg(msg) => matches!(msg, Msg::Reply { .. } | Msg::LogPage { .. }),
            Wakeup::Size | Wakeup::Stop => true,
            Wakeup::Written | Wakeup::End(_) => false,
        };
        *dirty |= match wakeup {
            Wakeup::Typed(typed) => !typed.is_nothing(),
            Wakeup::Written => false,
            // What only waited for its turn changes nothing.
            Wakeup::Msg(Msg::Wake) => !*dirty,
            Wakeup::Msg(_) | Wakeup::Size | Wakeup::Stop | Wakeup::End(_) => true,
        };
    }
}

impl Deck {
    /// Draws what is wished for or half written, where it is time for that.
    pub(super) async fn frame(&mut self, wish: &mut Wish) -> Option<Ending> {
        let now = self.clock.now();
        let is_behind = self.screen.is_behind();
        let is_time = |at: Duration| at <= now.mono;
        if (wish.dirty || is_behind) && self.draws_at(wish.urgent).is_some_and(is_time) {
            // What is half written is ended first, unless somebody waits for something else.
            if wish.urgent || !is_behind {
                if !is_behind && let Some(ending) = self.let_in(now).await {
                    return Some(ending);
                }
                self.aim(now);
                *wish = Wish { dirty: !self.held.is_empty(), urgent: false };
            }
            if self.draw(now).is_err() {
                return Some(Ending::NoTerminal);
            }
        }
        self.shown(now);
        None
    }

    /// When the next frame may be drawn; not before all of the last one is written.
    pub(super) fn draws_at(&mut self, urgent: bool) -> Option<Duration> {
        let is_idle = self.terminal.as_mut().is_some_and(|it| it.output().is_idle());
        let goes_on = urgent || self.screen.is_behind();
        is_idle.then(|| self.pace.ready_at(urgent).max(self.flow.ready_at(goes_on)))
    }

    /// When to go on without anything happening: for a frame's turn, or for what moves by itself.
    pub(super) fn due(&mut self, now: Now, wish: Wish) -> Duration {
        let moves = match self.model.link {
            Link::Connecting { problem: None } if now.mono < FIRST => FIRST,
            _ => self.model.next_wakeup(now),
        };
        let drawn = self.draws_at(wish.urgent).filter(|_| wish.dirty || self.screen.is_behind());
        let late = self.flow.late_at().filter(|_| self.asking.is_some());
        [drawn, late].into_iter().flatten().fold(moves, Duration::min)
    }

    fn aim(&mut self, now: Now) {
        if let Some(cost) = &mut self.model.cost {
            cost.tell(now.mono);
        }
        self.screen.aim(&self.model, now);
        self.aimed = self.model.unseen();
    }

    /// Writes the next piece of the frame that was aimed at.
    fn draw(&mut self, now: Now) -> io::Result<()> {
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        let mut bytes = self.screen.piece(self.flow.room());
        if self.hears_mouse != self.wardrobe.mouse {
            self.hears_mouse = self.wardrobe.mouse;
            bytes.extend_from_slice(if self.hears_mouse { MOUSE_ON } else { MOUSE_OFF });
        }
        bytes.extend(self.title.change(&self.model));
        bytes.extend(std::mem::take(&mut self.announced).into_bytes());
        terminal.set_titled(self.title.is_shown());
        let question = self.aimed.filter(|_| !self.screen.is_behind());
        let mut answer = None;
        if !bytes.is_empty() {
            answer = self.flow.frame(now.mono, &mut bytes, question.is_some());
            terminal.output().send(&bytes)?;
            self.pace.drew(now.mono);
            if let Some(cost) = &mut self.model.cost {
                cost.add(bytes.len());
            }
        }
        if let Some(id) = question
            && self.asking.is_none_or(|(it, _)| it != id)
        {
            self.asking = Some((id, answer));
        }
        Ok(())
    }

    /// Tells the model once the operator can see what it asks.
    fn shown(&mut self, now: Now) {
        let Some((id, answer)) = self.asking else { return };
        let is_written = self.terminal.as_mut().is_some_and(|it| it.output().is_idle());
        let is_late = self.flow.late_at().is_some_and(|at| at <= now.mono);
        if !is_written || answer.is_some_and(|it| !self.flow.is_settled(it) && !is_late) {
            return;
        }
        self.asking = None;
        if self.model.unseen() == Some(id) {
            update(&mut self.model, now, Msg::Drawn);
        }
    }
}
