//! The brief snapshot as text, kept service by service until something about it changes.
//!
//! Every command begins with it and most services change seldom: with a thousand of them, saying
//! the same again must not cost the daemon milliseconds.

use std::collections::BTreeMap;

use crate::api::{BriefService, Deck};
use crate::daemon::show::facts::Facts;
use crate::daemon::show::publish;
use crate::fleet::{Fleet, Name};

#[derive(Debug, Default)]
pub struct Briefs {
    services: BTreeMap<Name, Box<str>>,
}

impl Briefs {
    /// What was kept of a service is no longer so.
    pub fn forget(&mut self, service: &Name) {
        self.services.remove(service);
    }

    /// The snapshot around the services of the fleet; those of `head` are not looked at.
    pub fn text(&mut self, head: &Deck, fleet: &Fleet, facts: &Facts) -> String {
        let head = serde_json::to_string(&Deck { services: vec![], ..head.clone() });
        let head = head.unwrap_or_default();
        // The services stand at the end, in an array that is empty here.
        let mut text = head.strip_suffix("]}").unwrap_or_default().to_owned();
        for name in fleet.service_names() {
            let kept = self.services.entry(name).or_insert_with_key(|it| brief(it, fleet, facts));
            if !kept.is_empty() && !text.ends_with('[') {
                text.push(',');
            }
            text.push_str(kept);
        }
        text.push_str("]}");
        text
    }
}

fn brief(name: &Name, fleet: &Fleet, facts: &Facts) -> Box<str> {
    let service = fleet.service_sheet(name.as_str()).map(|it| publish::service(&it, facts));
    let text = service.map(|it| serde_json::to_string(&BriefService::from(&it)));
    text.and_then(Result::ok).unwrap_or_default().into()
}
