//! What the daemon makes of what its gateway says: counts for the fleet, numbers for the screen, events.

use crate::api;
use crate::config::settings::{Gateway, Provider};
use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::front::Front;
use crate::daemon::gateway::{Down, News};
use crate::daemon::show::history::Told;
use crate::daemon::show::publish;
use crate::fleet::Name;
use crate::fleet::input::{self, Extra, Input, Record};
use crate::gateway::control::{Counts, FromGateway, Routes};
use crate::gateway::shared::InFlight;

impl Daemon {
    pub(in crate::daemon) fn on_gateway(&mut self, news: News) {
        match news {
            News::Up { pid, started, routes } => self.on_gateway_up(pid, started, routes.as_ref()),
            News::Down(down) => self.on_gateway_down(&down),
            News::Nobody => self.on_nobody(),
            News::Silent { pid, retires, words } => self.on_silent_gateway(pid, retires, &words),
            News::Answers { pid } => self.on_answer_of_gateway(pid),
            News::Said { pid, message } => self.on_gateway_said(pid, message),
            News::Listening { gateway, trouble } => self.on_listening(&gateway, trouble),
        }
        self.show_gateways();
    }

    fn on_gateway_up(&mut self, pid: u32, started: bool, routes: Option<&Routes>) {
        self.hands.front.up(routes);
        self.config.gateway_trouble = None;
        let message = match started {
            true => format!("the gateway was started, pid {pid}"),
            false => format!("the gateway was taken over, pid {pid}"),
        };
        self.note("gateway", None, message);
    }

    fn on_gateway_down(&mut self, down: &Down) {
        let counted = down.pid.and_then(|it| self.hands.front.gone(it));
        if let Some(pid) = down.pid {
            self.config.retiring_troubles.remove(&pid);
        }
        self.on_nobody();
        // It counts no more: what the others count may be all that is waited for.
        for input in self.hands.front.settled() {
            self.turn(input);
        }
        let message = match (down.pid, down.retired) {
            (Some(pid), true) if counted.is_none_or(|it| it == 0) && !down.was_killed => {
                format!("the old gateway (pid {pid}) has finished what it had")
            }
            (Some(pid), true) => {
                let cut = in_flight(None, counted);
                format!("the old gateway (pid {pid}) ended with {cut}: {}", down.why)
            }
            (Some(pid), false) => {
                let cut = in_flight(down.in_flight.as_deref(), counted);
                format!("the gateway (pid {pid}) ended with {cut}: {}; starting it again", down.why)
            }
            (None, _) => {
                let trouble = format!("the gateway cannot be started ({}): clients wait", down.why);
                if self.config.gateway_trouble.replace(trouble.clone()).as_ref() == Some(&trouble) {
                    return;
                }
                trouble
            }
        };
        self.note("gateway", None, message);
    }

    /// No gateway process may be left: then nobody waits for its word.
    fn on_nobody(&mut self) {
        for input in self.hands.front.left_alone() {
            self.turn(input);
        }
    }

    fn on_silent_gateway(&mut self, pid: u32, retires: bool, words: &str) {
        let trouble = match retires {
            true => {
                format!("the old gateway (pid {pid}) {words}: who is still connected to it waits")
            }
            false => format!("the gateway (pid {pid}) {words}: clients wait"),
        };
        match retires {
            true => drop(self.config.retiring_troubles.insert(pid, trouble.clone())),
            false => self.config.gateway_trouble = Some(trouble.clone()),
        }
        self.note("gateway", None, trouble);
    }

    fn on_answer_of_gateway(&mut self, pid: u32) {
        let old = match self.config.retiring_troubles.remove(&pid) {
            Some(_) => "old ",
            None => {
                self.config.gateway_trouble = None;
                ""
            }
        };
        self.note("gateway", None, format!("the {old}gateway (pid {pid}) answers again"));
    }

    fn on_gateway_said(&mut self, pid: u32, message: FromGateway) {
        match message {
            FromGateway::Counts(counts) => self.on_counts(pid, counts),
            FromGateway::ConnectFailed { instance, times, why, .. } => {
                let times = if times == 1 { String::new() } else { format!(" {times} times") };
                self.told_by_gateway(&instance, format!("could not be reached{times}: {why}"));
            }
            FromGateway::Ejected { instance, for_ms, .. } => {
                let message = format!("gets no requests for {for_ms} ms: it could not be reached");
                self.told_by_gateway(&instance, message);
            }
            FromGateway::Readmitted { instance, .. } => {
                self.told_by_gateway(&instance, "can be reached again".into());
            }
            FromGateway::Cut { instance, generation, requests, tunnels, why, .. } => {
                let lost = u32::try_from(requests).unwrap_or(u32::MAX);
                if lost > 0 {
                    let instance = Name::from(instance.as_str());
                    self.turn(Input::Cut { instance, generation, requests: lost });
                }
                let lost = Extra::Lost(input::InFlight::Exact(lost));
                self.record_of_gateway(&instance, cut(requests, tunnels, &why), lost);
            }
            FromGateway::Notice { message } => self.note("gateway", None, message),
            FromGateway::Welcome { .. } | FromGateway::Pong | FromGateway::Unknown => (),
        }
    }

    fn on_counts(&mut self, pid: u32, counts: Counts) {
        self.publisher.mark(self.fleet.take_changed());
        for input in self.hands.front.heard(pid, counts) {
            let front = &self.hands.front;
            let busy = matches!(&input, Input::Load { instance, .. } if !front.is_out(instance));
            self.turn(input);
            let changed = self.fleet.take_changed();
            // A countdown is followed number by number; what comes and goes under load is not.
            if busy {
                self.publisher.mark_counted(changed);
            } else {
                self.publisher.mark(changed);
            }
        }
    }

    fn told_by_gateway(&mut self, instance: &str, message: String) {
        self.record_of_gateway(instance, message, Extra::Nothing);
    }

    fn record_of_gateway(&mut self, instance: &str, message: String, extra: Extra) {
        let service = self.fleet.service_of(instance).cloned();
        self.record(Record {
            kind: "gateway",
            service,
            instance: Some(Name::from(instance)),
            by: None,
            message,
            with_evidence: false,
            extra,
        });
    }

    fn on_listening(&mut self, gateway: &str, trouble: Option<String>) {
        let message = match &trouble {
            Some(trouble) => format!("gateway {gateway} {trouble}"),
            None => format!("gateway {gateway} listens now"),
        };
        match trouble {
            Some(trouble) => drop(self.hands.front.troubles.insert(gateway.to_owned(), trouble)),
            None => drop(self.hands.front.troubles.remove(gateway)),
        }
        self.note("gateway", None, message);
    }

    /// Keeps the numbers for the screen, and says whose have changed.
    pub(in crate::daemon) fn show_gateways(&mut self) {
        let front = &self.hands.front;
        let (mut changed, mut counted) = (vec![], vec![]);
        let now = clock::now();
        for (service, view) in
            front.gateways().iter().map(|it| (it.service.clone(), view(front, it)))
        {
            let old = self.facts.gateway(service.as_str());
            let mut is_news = old.is_none_or(|it| looks_different(it, &view));
            let told = Told { in_flight: view.in_flight, per_second: view.requests_per_second };
            self.history.service(service.as_str(), now, told);
            let mut differs = self.facts.fronted(service.as_str(), view);
            for instance in front.behind(&service) {
                let figures = front.figures(instance);
                let gauges = figures.and_then(|it| it.gauges).unwrap_or_default();
                let told = Told { in_flight: gauges.in_flight, per_second: gauges.per_second };
                self.history.instance(instance.as_str(), now, told);
                let other = self.facts.counted(instance.as_str(), figures);
                is_news |= other && front.is_out(instance);
                differs |= other;
            }
            if is_news {
                changed.push(service);
            } else {
                counted.extend(differs.then_some(service));
            }
        }
        self.publisher.mark(changed);
        self.publisher.mark_counted(counted);
    }
}

/// `nothing in flight`, `3 requests in flight (2 at web1, 1 at web2)`. `counted`: its last word, where
/// its memory is not ours.
fn in_flight(shared: Option<&[InFlight]>, counted: Option<u64>) -> String {
    let busy: Vec<_> = shared.unwrap_or_default().iter().filter(|it| it.in_flight > 0).collect();
    let (n, about) = match shared {
        Some(_) => (busy.iter().map(|it| it.in_flight).sum(), ""),
        None => (counted.unwrap_or(0), "about "),
    };
    let at: Vec<_> = busy.iter().map(|it| format!("{} at {}", it.in_flight, it.instance)).collect();
    let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(", ")) };
    match n {
        0 => "nothing in flight".into(),
        1 => format!("{about}1 request in flight{at}"),
        n => format!("{about}{n} requests in flight{at}"),
    }
}

fn cut(requests: u64, tunnels: u64, why: &str) -> String {
    let of = |n: u64, noun: &str| match n {
        0 => None,
        1 => Some(format!("1 {noun} was")),
        n => Some(format!("{n} {noun}s were")),
    };
    let what = [of(requests, "request"), of(tunnels, "upgraded connection")];
    let what: Vec<String> = what.into_iter().flatten().collect();
    format!("{} cut: {why}", what.join(" and "))
}

/// More than numbers that grow has changed.
fn looks_different(old: &api::Gateway, new: &api::Gateway) -> bool {
    let state = |it: &api::Gateway| (it.up, it.held > 0, it.listen.clone(), it.trouble.clone());
    state(old) != state(new) || old.name != new.name
}

fn view(front: &Front, gateway: &Gateway) -> api::Gateway {
    let name = gateway.name.as_str();
    let (provider, listen, up) = match &gateway.provider {
        Provider::Embedded(it) => ("embedded", Some(it.listen.to_string()), front.is_up()),
        Provider::Nginx(_) => ("nginx", None, front.nginx_is_up(name)),
    };
    let totals = front.totals(name);
    api::Gateway {
        name: gateway.name.to_string(),
        provider: provider.into(),
        listen,
        up,
        trouble: front.troubles.get(name).cloned(),
        connections: totals.connections,
        held: totals.held,
        held_total: totals.held_total,
        made_502: totals.made_502,
        made_503: totals.made_503,
        made_504: totals.made_504,
        refused: totals.refused,
        in_flight: totals.gauges.in_flight,
        oldest_ms: totals.gauges.oldest_ms,
        requests_per_second: totals.gauges.per_second,
        traffic: publish::traffic(&totals.tally, totals.gauges),
    }
}
