//! The part of [`Front`] that is an nginx: its routes go to a file, its counts come from the kernel.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Front, Place, taken_out};
use crate::config::settings::{Gateway, Nginx, Provider};
use crate::daemon::nginx::{Job, Jobs};
use crate::fleet::Name;
use crate::fleet::input::{Haste, Input};
use crate::gateway::control::{Counts, GatewayCounts, InstanceCounts};
use crate::gateway::nginx::{Server, Upstream, Wanted};

/// What is known of the nginx gateways.
#[derive(Debug, Default)]
pub(super) struct Nginxes {
    jobs: watch::Sender<Jobs>,
    pub dirty: bool,
    by_name: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// It has told what its file said: until then nothing is written, or an adopted instance would lose
    /// its place.
    told: bool,
    /// The newest revision that may not wait.
    urgent: u64,
    /// The newest revision that is in force.
    revision: u64,
    /// What its access log said last.
    counts: Option<GatewayCounts>,
}

impl Front {
    pub fn jobs(&self) -> watch::Receiver<Jobs> {
        self.nginx.jobs.subscribe()
    }

    /// The next revision may not wait for others.
    pub(super) fn hurry(&mut self, gateway: &Name, haste: Haste) {
        if haste == Haste::AtOnce {
            let next = self.revision + 1;
            self.nginx.by_name.entry(gateway.to_string()).or_default().urgent = next;
        }
    }

    pub(super) fn flush_nginx(&mut self) {
        if !std::mem::take(&mut self.nginx.dirty) {
            return;
        }
        let any = self.gateways().iter().any(|it| it.provider.nginx().is_some());
        if !any && self.nginx.jobs.borrow().is_empty() {
            return;
        }
        self.revision += 1;
        let mut jobs = Jobs::new();
        for gateway in self.gateways() {
            if let Provider::Nginx(settings) = &gateway.provider {
                jobs.insert(gateway.name.to_string(), self.job(gateway, settings));
            }
        }
        self.nginx.by_name.retain(|name, _| jobs.contains_key(name));
        self.nginx.jobs.send_replace(jobs);
    }

    fn job(&self, gateway: &Gateway, settings: &Nginx) -> Job {
        let is_its = |it: &Place| it.gateway == gateway.name && it.is_nginx;
        let behind = || self.places.iter().filter(|(_, it)| is_its(it));
        let upstream = Upstream {
            gateway: gateway.name.to_string(),
            name: settings.upstream.clone(),
            servers: behind().filter_map(|(name, it)| server(name, it)).collect(),
            max_fails: settings.max_fails,
            fail_timeout: settings.fail_timeout.map(|it| it.as_secs()),
            directives: settings.directives.clone(),
            switches: settings.switches.as_ref().map(|it| it.display().to_string()),
        };
        let known = self.nginx.by_name.get(gateway.name.as_str());
        let wanted = known.filter(|it| it.told).map(|it| Wanted {
            revision: self.revision,
            urgent: it.urgent,
            upstream,
        });
        let addresses = behind().filter_map(|(name, it)| Some((server(name, it)?.address, name)));
        let addresses = addresses.map(|(address, name)| (address, name.to_string())).collect();
        let out = behind().filter(|(_, it)| it.is_out());
        let out = out.filter_map(|(name, it)| Some((name.to_string(), it.listens_on()?)));
        Job { settings: settings.clone(), wanted, out: out.collect(), addresses }
    }

    /// The task has read what an earlier daemon has left.
    pub fn nginx_found(&mut self, gateway: &str, in_rotation: &[(String, String)]) {
        let is_its = |it: &Place| it.gateway.as_str() == gateway;
        for (name, place) in self.places.iter_mut().filter(|(_, it)| is_its(it)) {
            let Some(running) = place.running.as_mut().filter(|it| it.in_rotation.is_none()) else {
                continue;
            };
            let found = in_rotation.iter().find(|(instance, _)| instance == name.as_str());
            running.in_rotation = Some(found.is_some());
            if let Some((_, address)) = found {
                // It listens where it was started, whatever the configuration says by now.
                running.address.clone_from(address);
            }
        }
        self.nginx.by_name.entry(gateway.to_owned()).or_default().told = true;
        self.nginx.dirty = true;
    }

    /// So much is in force; returns what the fleet has to hear.
    pub fn nginx_in_force(
        &mut self,
        gateway: &str,
        revision: u64,
        in_flight: &BTreeMap<String, u32>,
    ) -> Vec<Input> {
        let known = self.nginx.by_name.entry(gateway.to_owned()).or_default();
        known.revision = known.revision.max(revision);
        let mut inputs = vec![];
        let is_its = |it: &Place| it.gateway.as_str() == gateway;
        for (name, place) in self.places.iter_mut().filter(|(_, it)| is_its(it)) {
            if place.running.as_ref().is_none_or(|it| it.since > revision) {
                continue;
            }
            if place.is_out() {
                // Counted with the next report.
                let Some(n) = in_flight.get(name.as_str()).copied() else { continue };
                inputs.extend(place.give(name, n));
            }
            inputs.extend(taken_out(name, &mut place.takeouts));
        }
        inputs
    }

    /// It could not be brought so far; returns what the fleet has to hear, and whether that is new.
    pub fn nginx_refused(&mut self, gateway: &str, revision: u64, why: &str) -> (Vec<Input>, bool) {
        let trouble = format!("does not follow: {why}");
        let is_new = self.troubles.insert(gateway.to_owned(), trouble.clone()) != Some(trouble);
        let waits = |it: &Place| {
            it.gateway.as_str() == gateway
                && it.takeouts > 0
                && it.is_out()
                && it.running.as_ref().is_some_and(|it| it.since <= revision)
        };
        let waiting = self.places.iter().filter(|(_, it)| waits(it));
        let inputs = waiting
            .map(|(name, _)| Input::NotTakenOut { instance: name.clone(), why: why.to_owned() });
        (inputs.collect(), is_new)
    }

    /// Takes what an access log says.
    pub fn nginx_counted(&mut self, counts: GatewayCounts) {
        let name = counts.name.clone();
        self.nginx.by_name.entry(name).or_default().counts = Some(counts);
        let gateways = self.nginx_counts().cloned().collect();
        // No process has this number.
        self.ledger.heard(0, &Counts { gateways, revision: 0 });
    }

    /// Of all nginx gateways whose log is read.
    pub(super) fn nginx_counts(&self) -> impl Iterator<Item = &GatewayCounts> {
        self.nginx.by_name.values().filter_map(|it| it.counts.as_ref())
    }

    /// What the log of its gateway says of an instance.
    pub(super) fn nginx_count(&self, name: &Name, place: &Place) -> Option<&InstanceCounts> {
        let known = self.nginx.by_name.get(place.gateway.as_str())?;
        known.counts.as_ref()?.instances.iter().find(|it| it.name == name.as_str())
    }

    /// Its nginx has what it was last told, or will have it without anybody's help.
    pub fn nginx_is_up(&self, gateway: &str) -> bool {
        let known = self.nginx.by_name.get(gateway);
        known.is_some_and(|it| it.revision > 0) && !self.troubles.contains_key(gateway)
    }
}

fn server(name: &Name, place: &Place) -> Option<Server> {
    let port = place.port;
    let configured = || port.map(|it| format!("127.0.0.1:{it}"));
    let address = place.running.as_ref().map(|it| it.address.clone()).filter(|it| !it.is_empty());
    Some(Server {
        instance: name.to_string(),
        address: address.or_else(configured)?,
        backup: place.backup,
        weight: place.weight,
        in_rotation: place.running.as_ref().is_some_and(|it| it.in_rotation == Some(true)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::told;
    use super::*;
    use crate::config::parse;
    use crate::fleet::Timestamp;
    use crate::gateway::nginx::file;

    const CONFIG: &str = "[service.web]\ncommand = \"web\"\ninstance.web1 = { port = 1, weight = 2 }\ninstance.web2 = { port = 2, backup = true }\n[gateway.shop]\nservice = \"web\"\nprovider = \"nginx\"\nnginx.file = \"/x\"\n";

    /// Both run and are in rotation; nothing is reported yet.
    fn front() -> Front {
        let mut front = Front::new(Timestamp(Duration::from_secs(1)));
        front.configure(&parse("config.toml", CONFIG).unwrap());
        front.nginx_found("shop", &[]);
        for (name, port) in [("web1", 1), ("web2", 2)] {
            front.lives(&name.into(), 1, Some(port), false);
            front.admit(&name.into(), Haste::AtOnce);
        }
        front
    }

    fn job(front: &mut Front) -> Job {
        front.flush();
        front.jobs().borrow()["shop"].clone()
    }

    fn wanted(front: &mut Front) -> Wanted {
        job(front).wanted.unwrap()
    }

    fn counted(n: u32) -> BTreeMap<String, u32> {
        [("web1".to_owned(), n)].into()
    }

    #[test]
    fn every_instance_has_its_line_and_those_that_are_out_are_counted() {
        let mut front = front();
        front.take_out(&"web1".into(), Haste::AtOnce);
        let job = job(&mut front);
        assert_eq!(job.out, [("web1".to_owned(), 1)].into());
        let text = job.wanted.unwrap().upstream.render();
        assert!(text.contains("server 127.0.0.1:1 weight=2 down; # web1"), "{text}");
        assert_eq!(file::in_rotation(&text), [("web2", "127.0.0.1:2")]);
    }

    #[test]
    fn an_instance_is_out_once_that_is_in_force_and_its_count_comes_first() {
        let mut front = front();
        let before = wanted(&mut front).revision;
        front.take_out(&"web1".into(), Haste::AtOnce);
        let revision = wanted(&mut front).revision;
        assert_eq!(told(&front.nginx_in_force("shop", before, &counted(3))), [""; 0]);
        assert_eq!(
            told(&front.nginx_in_force("shop", revision, &counted(3))),
            ["web1 Exact(3)", "web1 is out"]
        );
        assert_eq!(told(&front.nginx_in_force("shop", revision, &counted(0))), ["web1 Exact(0)"]);
        assert!(front.nginx_is_up("shop"));
    }

    #[test]
    fn what_nginx_refuses_is_not_out() {
        let mut front = front();
        front.take_out(&"web1".into(), Haste::AtOnce);
        let revision = wanted(&mut front).revision;
        let (inputs, is_new) = front.nginx_refused("shop", revision, "no");
        assert_eq!((told(&inputs), is_new), (vec!["web1 is not out: no".into()], true));
        assert!(!front.nginx_is_up("shop"));
        assert!(!front.nginx_refused("shop", revision, "no").1, "it was said");
    }

    #[test]
    fn what_a_log_says_is_shown_and_adds_up() {
        let mut front = front();
        let counts = |requests, per_second| {
            let web1 = InstanceCounts {
                name: "web1".into(),
                requests,
                answered: [0, requests, 0, 0, 0],
                per_second,
                ..InstanceCounts::default()
            };
            let instances = vec![web1];
            GatewayCounts {
                name: "shop".into(),
                connections: 7,
                per_second,
                instances,
                ..Default::default()
            }
        };
        front.nginx_counted(counts(5, 2.0));
        front.nginx_counted(counts(8, 3.0));
        let figures = front.figures(&"web1".into()).unwrap();
        assert_eq!((figures.tally.requests, figures.gauges.unwrap().per_second), (8, 3.0));
        let totals = front.totals("shop");
        assert_eq!((totals.tally.answered[1], totals.connections), (8, 7));
        assert!(!front.is_up(), "that is about another process");
        assert_eq!(front.figures(&"web2".into()).unwrap().gauges, None);
    }

    #[test]
    fn only_readiness_may_wait() {
        let mut front = front();
        let first = wanted(&mut front);
        assert_eq!(first.urgent, first.revision, "they were started");
        front.take_out(&"web1".into(), Haste::MayWait);
        assert_eq!(wanted(&mut front).urgent, first.urgent);
        front.ended(&"web1".into());
        let crashed = wanted(&mut front);
        assert_eq!(crashed.urgent, crashed.revision);
    }

    #[test]
    fn what_was_taken_over_has_the_place_that_the_file_says() {
        let mut front = Front::new(Timestamp(Duration::from_secs(1)));
        front.configure(&parse("config.toml", CONFIG).unwrap());
        front.lives(&"web1".into(), 7, Some(1), true);
        front.lives(&"web2".into(), 7, Some(2), true);
        assert_eq!(job(&mut front).wanted, None, "nothing is written before the file is read");
        front.nginx_found("shop", &[("web1".into(), "127.0.0.1:9".into())]);
        let text = wanted(&mut front).upstream.render();
        assert_eq!(file::in_rotation(&text), [("web1", "127.0.0.1:9")]);
    }
}
