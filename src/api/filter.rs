//! Which events are meant: the same words for the daemon that reads the journal and for the deck that filters
//! what it has.

use super::Event;

/// What an event must have; nothing given means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The service or the instance.
    pub service: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// A part of the kind: `exit`, `rollout`.
    pub kind: Option<String>,
    /// A text in the message, the kind or one of the names, whatever its case.
    pub text: Option<String>,
}

impl EventFilter {
    pub fn wants(&self, event: &Event) -> bool {
        let of = |name: &String| {
            event.service.as_ref() == Some(name) || event.instance.as_ref() == Some(name)
        };
        let by = |name: &String| event.actor.as_ref().is_some_and(|it| it.login == *name);
        self.service.as_ref().is_none_or(of)
            && self.actor.as_ref().is_none_or(by)
            && self.kind.as_ref().is_none_or(|it| event.kind.contains(it.as_str()))
            && self.text.as_ref().is_none_or(|it| has(event, it))
    }

    /// It leaves anything out.
    pub fn is_narrow(&self) -> bool {
        *self != Self::default()
    }
}

fn has(event: &Event, text: &str) -> bool {
    let needle = text.to_lowercase();
    let actor = event.actor.as_ref().map(|it| it.login.as_str());
    let names = [event.service.as_deref(), event.instance.as_deref(), actor];
    let all = names.into_iter().flatten().chain([event.kind.as_str(), event.message.as_str()]);
    all.into_iter().any(|it| it.to_lowercase().contains(&needle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Actor;

    #[test]
    fn every_word_must_fit() {
        let event = Event {
            seq: 7,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: "rollout-halted".into(),
            service: Some("web".into()),
            instance: Some("web1".into()),
            actor: Some(Actor { login: "alice".into(), ..Actor::default() }),
            message: "Not ready".into(),
            evidence: None,
            rollout: None,
            stop: None,
            lost: None,
        };
        let some = |it: &str| Some(it.to_owned());
        let wants = |filter: EventFilter| filter.wants(&event);
        assert!(wants(EventFilter::default()) && !EventFilter::default().is_narrow());
        assert!(wants(EventFilter {
            service: some("web1"),
            actor: some("alice"),
            kind: some("halted"),
            text: some("READY"),
        }));
        assert!(wants(EventFilter { service: some("web"), ..EventFilter::default() }));
        assert!(wants(EventFilter { text: some("rollout"), ..EventFilter::default() }));
        assert!(!wants(EventFilter { service: some("we"), ..EventFilter::default() }));
        assert!(!wants(EventFilter { actor: some("bob"), ..EventFilter::default() }));
        assert!(!wants(EventFilter { kind: some("exited"), ..EventFilter::default() }));
        assert!(!wants(EventFilter { text: some("redis"), ..EventFilter::default() }));
    }
}
