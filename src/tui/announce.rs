//! What the deck says beside its own screen: the title of the terminal's window, and its notifications.
//!
//! Both only where `[deck] title` and `notify` ask for them. Text from elsewhere is safe by then ([`ansi`]).

use super::ansi;
use super::model::{Link, Model};
use crate::api::{Event, Notify, State};

/// Longer ones are cut: window managers show less.
const LONGEST_TITLE: usize = 80;
const LONGEST_NOTE: usize = 200;

/// Keeps the title that was there (XTWINOPS 22, xterm); a terminal that cannot ignores it.
const KEEP_TITLE: &str = "\x1b[22;2t";
/// Empties the title, then brings back the one that was kept, where one was.
pub const GIVE_BACK_TITLE: &[u8] = b"\x1b]2;\x07\x1b[23;2t";

/// The title that was written last.
#[derive(Debug, Default)]
pub struct Title {
    shown: Option<String>,
}

impl Title {
    /// The bytes that make the window say how the fleet is; none if it says so.
    pub fn change(&mut self, model: &Model) -> Vec<u8> {
        let wanted = title(model);
        if wanted == self.shown {
            return vec![];
        }
        let bytes = match (&self.shown, &wanted) {
            (None, Some(text)) => format!("{KEEP_TITLE}\x1b]2;{text}\x07").into_bytes(),
            (Some(_), Some(text)) => format!("\x1b]2;{text}\x07").into_bytes(),
            (_, None) => GIVE_BACK_TITLE.to_vec(),
        };
        self.shown = wanted;
        bytes
    }

    /// Something of it is on the terminal.
    pub fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Another program has had the terminal.
    pub fn forget(&mut self) {
        self.shown = None;
    }
}

/// How the fleet is, the worst first; `None` where no title is wanted.
fn title(model: &Model) -> Option<String> {
    if !model.deck.config.title {
        return None;
    }
    let services = &model.deck.services;
    let halted =
        services.iter().find(|it| it.rollout.as_ref().is_some_and(|it| it.halted.is_some()));
    let fatal = || services.iter().flat_map(|it| &it.instances).find(|it| it.state == State::Fatal);
    let (ready, wanted) =
        services.iter().fold((0, 0), |sum, it| (sum.0 + it.ready, sum.1 + it.wanted));
    let how = match (&model.link, halted, fatal()) {
        (Link::Connecting { .. } | Link::Lost { .. }, ..) => "no daemon".to_owned(),
        (Link::Up, Some(it), _) => format!("HALTED {}", it.name),
        (Link::Up, None, Some(it)) => format!("FATAL {}", it.name),
        (Link::Up, None, None) => format!("{ready}/{wanted} ready"),
    };
    Some(cut(&format!("{} {how} - opsdeck", model.deck.deck), LONGEST_TITLE))
}

/// The sequence that makes the terminal notify its user of these events; `None` where nobody wants that,
/// or none of them is worth it.
pub fn notification(notify: Notify, deck: &str, events: &[Event]) -> Option<String> {
    let is_worth_it = |it: &&Event| matches!(it.kind.as_str(), "rollout-halted" | "fatal");
    let mut worth = events.iter().filter(is_worth_it);
    let first = worth.next()?;
    let more = worth.count();
    let who = first.instance.as_deref().filter(|_| first.kind == "fatal");
    let who = who.map_or(String::new(), |it| format!("{it}: "));
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let text = cut(&format!("{who}{}", first.message), LONGEST_NOTE) + &more;
    match notify {
        Notify::Off => None,
        Notify::Osc9 => Some(format!("\x1b]9;{}: {text}\x07", cut(deck, LONGEST_TITLE))),
        Notify::Osc777 => {
            // The parts are told apart by semicolons.
            let part = |it: &str| it.replace(';', ",");
            let deck = cut(deck, LONGEST_TITLE);
            Some(format!("\x1b]777;notify;opsdeck {};{}\x07", part(&deck), part(&text)))
        }
    }
}

/// One safe line of at most so many characters.
fn cut(text: &str, most: usize) -> String {
    ansi::clean(text).chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixtures::*;

    fn bad(kind: &str, instance: Option<&str>, message: &str) -> Event {
        Event { kind: kind.into(), ..event("10:42:17", None, instance, message) }
    }

    #[test]
    fn the_title_says_how_the_fleet_is_and_is_written_when_that_changes() {
        let mut model = shop();
        let mut title = Title::default();
        assert!(title.change(&model).is_empty(), "nobody asked for it");
        model.deck.config.title = true;
        let first = String::from_utf8(title.change(&model)).unwrap();
        assert_eq!(first, "\x1b[22;2t\x1b]2;shop 2/3 ready - opsdeck\x07");
        assert!(title.change(&model).is_empty());
        model.deck.deck = "shop\u{1b}]0;evil\u{7}".into();
        model.deck.services[1].instances[0].state = State::Fatal;
        let next = String::from_utf8(title.change(&model)).unwrap();
        assert_eq!(next, "\x1b]2;shop FATAL cron - opsdeck\x07");
        model.deck.config.title = false;
        assert_eq!(title.change(&model), GIVE_BACK_TITLE);
        assert!(!title.is_shown());
    }

    #[test]
    fn a_halt_and_what_was_given_up_are_notified_of_where_that_is_wanted() {
        let events = [
            bad("exited", Some("web1"), "exited with code 1"),
            bad("rollout-halted", Some("web2"), "halted; web2 \u{1b}[2Jsays: 500"),
            bad("fatal", Some("cron"), "given up"),
        ];
        assert_eq!(notification(Notify::Off, "shop", &events), None);
        assert_eq!(notification(Notify::Osc9, "shop", &events[..1]), None);
        let osc9 = "\x1b]9;shop: halted; web2 says: 500 (and 1 more)\x07";
        assert_eq!(notification(Notify::Osc9, "shop", &events).as_deref(), Some(osc9));
        let osc777 = "\x1b]777;notify;opsdeck shop;cron: given up\x07";
        assert_eq!(notification(Notify::Osc777, "shop", &events[2..]).as_deref(), Some(osc777));
    }
}
