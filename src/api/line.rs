//! Reads a line of the watch straight into its types.
//!
//! What serde derives for a tagged enum keeps a copy of everything until it has seen the tag: for the
//! snapshot of a thousand instances megabytes, which the deck would not get rid of again. So a field
//! has one type in every kind of line.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Change, Config, Deck, Event, Service};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    #[serde(rename = "type")]
    kind: String,
    deck: Option<Box<Deck>>,
    revision: Option<u64>,
    now: Option<Timestamp>,
    services: Vec<Service>,
    removed: Vec<String>,
    events: Vec<Event>,
    config: Option<Config>,
    notices: Option<Vec<String>>,
}

impl TryFrom<Line> for Change {
    type Error = &'static str;

    fn try_from(it: Line) -> Result<Self, Self::Error> {
        match it.kind.as_str() {
            "snapshot" => {
                let deck = it.deck.ok_or("a snapshot without a deck")?;
                Ok(Self::Snapshot { deck, events: it.events })
            }
            "change" => Ok(Self::Change {
                revision: it.revision.ok_or("a change without a revision")?,
                now: it.now.ok_or("a change without a time")?,
                services: it.services,
                removed: it.removed,
                events: it.events,
                config: it.config,
                notices: it.notices,
            }),
            "" => Err("a line without a type"),
            _ => Ok(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let service = Service { name: "web".into(), ..Service::default() };
        let deck = Deck { revision: 7, services: vec![service.clone()], ..Deck::default() };
        let snapshot = Change::Snapshot { deck: Box::new(deck), events: vec![] };
        let change = Change::Change {
            revision: 8,
            now: Timestamp::UNIX_EPOCH,
            services: vec![service],
            removed: vec!["queue".into()],
            events: vec![],
            config: Some(Config::default()),
            notices: Some(vec!["the logger is down".into()]),
        };
        for it in [snapshot, change] {
            let text = serde_json::to_string(&it).unwrap();
            assert!(text.starts_with("{\"type\":\""), "{text}");
            assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), it);
        }
    }

    #[test]
    fn a_later_kind_is_unknown_and_half_a_line_is_a_mistake() {
        let read = |text: &str| serde_json::from_str::<Change>(text).map_err(|it| it.to_string());
        assert_eq!(read(r#"{"type":"of a later release","more":1}"#), Ok(Change::Unknown));
        assert_eq!(read(r#"{"type":"snapshot"}"#), Err("a snapshot without a deck".into()));
        assert_eq!(read(r#"{"deck":null}"#), Err("a line without a type".into()));
    }
}
