//! Lines of a log that wait for a frame.
//!
//! They go to the screen with a frame that nobody waits for: on a slow line a key's frame holds what the
//! key did, and not the flood as well. Of more than fit the oldest go, and what comes after them says so.

use std::collections::VecDeque;

use super::update::Msg;

/// Messages that wait.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub struct Held(VecDeque<Msg>);

impl Held {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a message for later.
    pub fn push(&mut self, msg: Msg) {
        self.0.push_back(msg);
        if self.0.len() <= MOST {
            return;
        }
        let left_out = self.0.pop_front().and_then(session);
        if let Some(Msg::Log { session, lines }) = self.0.front_mut()
            && left_out == Some(*session)
            && let Some(line) = lines.first_mut()
        {
            line.gap = true;
        }
    }

    /// All that waits, oldest first.
    pub fn take(&mut self) -> VecDeque<Msg> {
        std::mem::take(&mut self.0)
    }
}

fn session(msg: Msg) -> Option<u64> {
    if let Msg::Log { session, .. } = msg { Some(session) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LogLine;

    #[test]
    fn of_a_flood_the_newest_lines_wait_and_tell_that_others_were_left_out() {
        let mut held = Held::default();
        for n in 0..MOST + 3 {
            let line = LogLine { line: n.to_string(), ..LogLine::default() };
            held.push(Msg::Log { session: 1, lines: vec![line] });
        }
        let lines: Vec<_> = held
            .take()
            .into_iter()
            .flat_map(|it| if let Msg::Log { lines, .. } = it { lines } else { vec![] })
            .map(|it| (it.line, it.gap))
            .collect();
        assert_eq!(lines.len(), MOST);
        assert_eq!(lines[..2], [("3".to_owned(), true), ("4".to_owned(), false)]);
        assert!(held.is_empty());
    }
}
