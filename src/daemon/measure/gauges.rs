//! Asks servers what they have to do, where a configuration says how (`load`).
//!
//! Only while somebody looks, or while one is taken out and nothing in front counts what it has in flight: then it
//! is read once more before its drain goes by what it says, and often until the first signal. A server that has
//! a signal of its stop accepts nobody any more and is not asked. One that does not answer is told, asked more
//! and more rarely, and the kernel's sockets speak for it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::measure::doubt::{self, Doubt, GIVEN_UP};
use crate::daemon::show::history::Told;
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::input::{InFlight, Input};
use crate::fleet::sheet::{Condition, Sheet};
use crate::fleet::{Fleet, Name, Timestamp};
use crate::load::figures::{Figures, Meter};
use crate::load::sockets::{Pending, Sockets};
use crate::load::source::{NO_ANSWER, Question, Source};
use crate::probe::REFUSED;

/// Between two readings while somebody looks.
const WATCHED: Duration = Duration::from_secs(2);
/// The same of one that is being taken out.
const DRAINING: Duration = Duration::from_millis(100);
/// Of many, more rarely: at most so many readings a second.
const A_SECOND: u32 = 50;
/// Who has asked for all once is likely to ask again.
const LOOK: Duration = Duration::from_secs(30);
/// How many are asked at a time, beside those that are being taken out.
const FEW: usize = 16;
/// One that fails is asked after twice as long each time, so many times.
const DOUBLINGS: u32 = 4;

#[derive(Debug)]
pub struct Gauges {
    turns: Turns,
    tasks: TaskTracker,
    few: Arc<Semaphore>,
    /// Of the last reading.
    number: u64,
    /// Some instance of the configuration has one.
    is_any: bool,
    watched: bool,
    /// Somebody has asked for everything: as if he watched, until then.
    looked_until: Timestamp,
    last: Option<Timestamp>,
    /// Of those that are read.
    read: BTreeMap<Name, Gauge>,
    /// Out of rotation, before the first signal.
    leaving: BTreeSet<Name>,
    /// How often the fleet waits to hear that one was read after it was taken out.
    owed: BTreeMap<Name, u32>,
}

#[derive(Debug)]
struct Gauge {
    generation: u64,
    source: Source,
    port: Option<u16>,
    question: Arc<Question>,
    meter: Meter,
    doubt: Doubt,
    /// The reading that is under way.
    busy: Option<Busy>,
    /// Taken out after the reading that is under way began.
    is_wanted_again: bool,
    /// What it said last that was in flight, unless it failed since.
    says: Option<u32>,
    /// How many processes a reload renews there, as it said.
    renewed: Option<usize>,
    failures: u32,
    not_before: Timestamp,
    /// It was asked, and something came of it.
    is_heard: bool,
}

#[derive(Clone, Copy, Debug)]
struct Busy {
    number: u64,
    is_urgent: bool,
}

/// What came of one reading.
#[derive(Debug)]
pub struct Reading {
    instance: Name,
    generation: u64,
    number: u64,
    outcome: Result<Figures, String>,
    /// What there was on its port right after that, where a drain goes by it.
    pending: Option<Pending>,
}

/// What else is known when a reading comes back.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    is_leaving: bool,
    pending: Option<Pending>,
    /// Connections that waited for an answer when somebody looked last.
    unanswered: u32,
    reloads: bool,
}

impl Gauges {
    pub fn new(turns: Turns, tasks: TaskTracker) -> Self {
        Self {
            turns,
            tasks,
            few: Arc::new(Semaphore::new(FEW)),
            number: 0,
            is_any: false,
            watched: false,
            looked_until: Timestamp::default(),
            last: None,
            read: BTreeMap::new(),
            leaving: BTreeSet::new(),
            owed: BTreeMap::new(),
        }
    }

    /// A configuration was taken over.
    pub(in crate::daemon) fn configure(&mut self, is_any: bool) {
        self.is_any = is_any;
    }

    /// It says itself what it has in flight: nobody need estimate that.
    pub(in crate::daemon) fn speaks_for(&self, instance: &Name) -> bool {
        self.read.get(instance).is_some_and(|it| it.says.is_some())
    }

    /// How many processes a reload renews there, as it says itself.
    pub(in crate::daemon) fn renewed(&self, instance: &Name) -> Option<usize> {
        self.read.get(instance)?.renewed
    }

    /// Between two readings of one that goes on.
    fn interval(&self) -> Duration {
        let many = u32::try_from(self.read.len()).unwrap_or(u32::MAX);
        WATCHED.max(Duration::from_secs(1) * many / A_SECOND)
    }

    fn due(&self) -> Option<Timestamp> {
        let wanted = self.is_any && (self.watched || !self.leaving.is_empty());
        let round = if self.leaving.is_empty() { self.interval() } else { DRAINING };
        wanted.then(|| self.last.map_or_else(Timestamp::default, |last| last + round))
    }

    /// Begins a reading. One that is under way is waited for, and another one follows it; what a drain goes by
    /// waits for none that was begun for the screen.
    fn begin(&mut self, instance: &Name) {
        let is_urgent = self.leaving.contains(instance) || self.owed.contains_key(instance);
        let Some(gauge) = self.read.get_mut(instance) else { return };
        if gauge.busy.is_some_and(|it| it.is_urgent || !is_urgent) {
            gauge.is_wanted_again = is_urgent;
            return;
        }
        self.number += 1;
        let number = self.number;
        gauge.busy = Some(Busy { number, is_urgent });
        let (turns, few, question) = (self.turns.clone(), self.few.clone(), gauge.question.clone());
        let (instance, generation) = (instance.clone(), gauge.generation);
        let port = gauge.port.filter(|_| is_urgent);
        let is_doubtful = gauge.source.is_doubtful() || gauge.source.never_forgets();
        self.tasks.spawn(async move {
            // It is never closed.
            let _one_of_few = if is_urgent { None } else { few.acquire().await.ok() };
            // Whatever a page does to its reader, the gauge goes on.
            let asked = tokio::spawn(async move { question.ask(clock::wall().into()).await });
            let outcome = asked.await.unwrap_or_else(|_| Err("its answer broke the reader".into()));
            let pending = match port.filter(|_| is_doubtful || outcome.is_err()) {
                Some(port) => pending(port).await,
                None => None,
            };
            // The driver is gone only when the daemon ends.
            let reading = Reading { instance, generation, number, outcome, pending };
            let _ = turns.send(Turn::Gauged(reading)).await;
        });
    }

    /// What the fleet has to hear of a reading; `None` for the screen: it says nothing new.
    fn heard(
        &mut self,
        reading: Reading,
        around: Around,
        now: Timestamp,
    ) -> (Option<api::Load>, Vec<Input>) {
        let Reading { instance, generation, number, outcome, pending } = reading;
        let gauge = self.read.get_mut(&instance).filter(|it| it.generation == generation);
        let Some(gauge) = gauge else { return (None, self.pay(&instance)) };
        if gauge.busy.is_none_or(|it| it.number != number) {
            // Another one has overtaken it.
            return (None, vec![]);
        }
        gauge.busy = None;
        let is_leaving = self.leaving.contains(&instance);
        let around = Around { is_leaving, pending, ..around };
        let (load, in_flight) = gauge.take(outcome, &around, now);
        let is_wanted_again = std::mem::take(&mut gauge.is_wanted_again);
        let told = in_flight.map(|in_flight| Input::Load { instance: instance.clone(), in_flight });
        if is_wanted_again {
            self.begin(&instance);
            return (Some(load), told.into_iter().collect());
        }
        let paid = self.pay(&instance);
        (Some(load), told.into_iter().chain(paid).collect())
    }

    /// It was read since it was taken out, or cannot be.
    fn pay(&mut self, instance: &Name) -> Vec<Input> {
        let mut times = self.owed.remove(instance).unwrap_or(0);
        crate::daemon::front::taken_out(instance, &mut times)
    }

    /// Stops reading it. What it said is an estimate from now on.
    fn leave(&mut self, instance: &Name) -> Option<Input> {
        let gauge = self.read.remove(instance)?;
        gauge
            .says
            .map(|n| Input::Load { instance: instance.clone(), in_flight: InFlight::Estimated(n) })
    }
}

impl Gauge {
    fn new(source: Source, port: Option<u16>, generation: u64) -> Option<Self> {
        let question = Arc::new(Question::new(&source, port).ok()?);
        Some(Self {
            generation,
            source,
            port,
            question,
            meter: Meter::default(),
            doubt: Doubt::default(),
            busy: None,
            is_wanted_again: false,
            says: None,
            renewed: None,
            failures: 0,
            not_before: Timestamp::default(),
            is_heard: false,
        })
    }

    /// For the screen, and for the fleet.
    fn take(
        &mut self,
        outcome: Result<Figures, String>,
        around: &Around,
        now: Timestamp,
    ) -> (api::Load, Option<InFlight>) {
        let source = self.question.name().to_owned();
        let before = self.says.take();
        self.is_heard = true;
        let it = match outcome {
            Ok(it) => it,
            Err(error) => {
                self.meter = Meter::default();
                let rarely = now + WATCHED * 2_u32.pow(self.failures.min(DOUBLINGS));
                self.not_before = self.not_before.max(rarely);
                self.failures += 1;
                self.says = match error.as_str() {
                    REFUSED => None,
                    _ if !around.is_leaving => None,
                    NO_ANSWER => doubt::while_silent(before, around.pending, self.failures),
                    _ => before.filter(|n| *n > 0 && self.failures < GIVEN_UP),
                };
                let load = api::Load { source, error: Some(error), ..api::Load::default() };
                let is_over = before.map(InFlight::Estimated);
                return (load, self.says.map(InFlight::Exact).or(is_over));
            }
        };
        self.failures = 0;
        self.renewed = it.renewed().or(self.renewed);
        let says = it.in_flight.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let is_believed = says.map(|n| self.believe(n, it.is_exact, around, now));
        self.says = is_believed.map(InFlight::count);
        let in_flight = is_believed.or(before.map(InFlight::Estimated));
        let per_second = self.meter.read(now.0, &it, self.question.counts_itself());
        let it = Figures {
            in_flight: self.says.map(u64::from),
            is_exact: matches!(is_believed, Some(InFlight::Exact(_))),
            ..it
        };
        (view(source, &it, per_second), in_flight)
    }

    /// What it says is in flight, and what it does not.
    fn believe(&mut self, says: u32, is_exact: bool, around: &Around, now: Timestamp) -> InFlight {
        match around.pending.filter(|_| around.is_leaving) {
            _ if !is_exact => InFlight::Estimated(says),
            Some(it) if self.source.never_forgets() => {
                // It counts all that is there; connections of HTTP/2 look busy to the kernel.
                self.doubt.in_drain(says, Pending { unanswered: 0, ..it }, now)
            }
            _ if !self.source.is_doubtful() => InFlight::Exact(says),
            Some(pending) => self.doubt.in_drain(says, pending, now),
            None => self.doubt.on_screen(says, around.unanswered, around.reloads, now),
        }
    }
}

/// What goes on on a port, if the kernel tells.
async fn pending(port: u16) -> Option<Pending> {
    let look = move || Sockets::open()?.pending(port);
    tokio::task::spawn_blocking(look).await.ok()?.ok()
}

fn view(source: String, it: &Figures, requests_per_second: Option<f64>) -> api::Load {
    api::Load {
        source,
        error: None,
        requests: it.requests,
        requests_per_second,
        in_flight: it.in_flight,
        in_flight_exact: it.is_exact && it.in_flight.is_some(),
        connections: it.connections,
        workers: it.workers,
        busy: it.busy,
        idle: it.idle,
        queued: it.queued,
        coroutines: it.coroutines,
        backlog: it.backlog,
        backlog_limit: it.backlog_limit,
    }
}

/// It serves, or finishes what it has, and has no signal of a stop yet.
fn can_be_asked(sheet: &Sheet) -> bool {
    matches!(sheet.condition, Condition::Running | Condition::Draining)
}

impl Hands {
    pub fn next_reading(&self) -> Option<Timestamp> {
        if self.living.is_empty() { None } else { self.gauges.due() }
    }

    /// Somebody asks for everything. Returns false while those that can be asked have not said anything yet, or
    /// nobody has looked at the ports.
    pub(in crate::daemon) fn look(&mut self, now: Timestamp) -> bool {
        let is_measured = self.sampler.looked || self.living.is_empty();
        let gauges = &mut self.gauges;
        gauges.looked_until = now + LOOK;
        let has_begun = gauges.watched && gauges.last.is_some();
        let is_heard = has_begun && gauges.read.values().all(|it| it.is_heard);
        is_measured && (!gauges.is_any || is_heard)
    }

    /// Begins the readings that are due.
    pub fn read_gauges(&mut self, now: Timestamp, fleet: &Fleet) {
        self.gauges.last = Some(now);
        let interval = self.gauges.interval();
        let names: Vec<Name> = match self.gauges.watched {
            true => self.living.keys().cloned().collect(),
            false => self.gauges.leaving.iter().cloned().collect(),
        };
        for name in names {
            let sheet = fleet.instance_sheet(name.as_str());
            if !sheet.as_ref().is_some_and(can_be_asked) || !self.has_gauge(&name) {
                self.outcomes.extend(self.gauges.leave(&name));
                continue;
            }
            let is_leaving = self.gauges.leaving.contains(&name);
            let Some(gauge) = self.gauges.read.get_mut(&name) else { continue };
            if gauge.busy.is_none() && (is_leaving || gauge.not_before <= now) {
                gauge.not_before = now + interval;
                self.gauges.begin(&name);
            }
        }
    }

    /// Whether what runs there can be asked; makes ready for it.
    fn has_gauge(&mut self, name: &Name) -> bool {
        let Some(living) = self.living.get(name) else { return false };
        let (generation, port) = (living.generation, living.port);
        let source = self.settings_of_living(name).and_then(|it| it.load.clone());
        let Some(source) = source else { return false };
        let is_same =
            |it: &Gauge| it.generation == generation && it.source == source && it.port == port;
        if !self.gauges.read.get(name).is_some_and(is_same) {
            let Some(gauge) = Gauge::new(source, port, generation) else { return false };
            self.gauges.read.insert(name.clone(), gauge);
        }
        true
    }

    /// One is out of rotation where nothing stands in front. Returns true if [`Input::TakenOut`] follows what it
    /// then says is in flight.
    pub(in crate::daemon) fn read_at_the_end(&mut self, name: &Name) -> bool {
        let source = self.known.get(name).and_then(|it| it.settings.load.as_ref());
        let is_exact = source.is_some_and(Source::is_exact);
        if !is_exact || self.front.places.contains_key(name) || !self.has_gauge(name) {
            return false;
        }
        self.gauges.leaving.insert(name.clone());
        *self.gauges.owed.entry(name.clone()).or_default() += 1;
        self.gauges.begin(name);
        true
    }

    /// Tells whether somebody looks, and forgets those that have their signal, or came back. Returns whose
    /// figures hold no longer.
    pub(in crate::daemon) fn watch_gauges(&mut self, watched: bool, fleet: &Fleet) -> Vec<Name> {
        let drains = |name: &Name| {
            let sheet = fleet.instance_sheet(name.as_str());
            sheet.is_some_and(|it| it.countdown.is_some() && can_be_asked(&it))
        };
        let stopped: Vec<Name> =
            self.gauges.leaving.iter().filter(|it| !drains(it)).cloned().collect();
        for name in &stopped {
            self.gauges.leaving.remove(name);
        }
        let was_watched = std::mem::replace(&mut self.gauges.watched, watched);
        if watched && !was_watched {
            self.gauges.last = None;
        }
        let gauges = &self.gauges;
        let over: Vec<Name> = match was_watched && !watched {
            true => {
                gauges.read.keys().filter(|it| !gauges.leaving.contains(*it)).cloned().collect()
            }
            false => stopped,
        };
        for name in &over {
            self.outcomes.extend(self.gauges.leave(name));
        }
        over
    }
}

impl Daemon {
    /// Measures and asks more often while somebody looks, and forgets what holds no longer.
    pub(in crate::daemon) fn watch_load(&mut self) {
        let is_watched = self.publisher.is_watched();
        let is_looked_at = is_watched || clock::now() < self.hands.gauges.looked_until;
        self.hands.watched(is_looked_at, &self.fleet);
        let over = self.hands.watch_gauges(is_looked_at, &self.fleet);
        if !is_looked_at {
            self.facts.disconnect();
        }
        for name in over {
            self.facts.unload(name.as_str());
            if !self.hands.front.counts(&name) {
                self.history.forget(name.as_str());
            }
        }
    }

    pub(in crate::daemon) fn on_gauged(&mut self, reading: Reading) {
        let now = clock::now();
        let (instance, generation) = (reading.instance.clone(), reading.generation);
        let around = Around {
            unanswered: self.facts.port(instance.as_str()).map_or(0, |it| it.unanswered),
            reloads: self.fleet.watches_reload(instance.as_str()),
            ..Around::default()
        };
        let (load, inputs) = self.hands.gauges.heard(reading, around, now);
        let is_counted = self.hands.front.counts(&instance);
        if let Some(load) = load {
            if !is_counted {
                let told = Told {
                    in_flight: load.in_flight.unwrap_or(0),
                    per_second: load.requests_per_second.unwrap_or(0.0),
                };
                self.history.instance(instance.as_str(), now, told);
            }
            if self.facts.loaded(instance.as_str(), generation, load) {
                self.publisher.mark_counted(self.fleet.service_of(instance.as_str()).cloned());
            }
        }
        // What stands in front knows better what is in flight.
        let told = |it: &Input| !is_counted || !matches!(it, Input::Load { .. });
        for input in inputs.into_iter().filter(told) {
            self.turn(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::source::Kind;

    #[tokio::test]
    async fn what_a_drain_goes_by_overtakes_a_reading_for_the_screen() {
        let (turns, _queue) = tokio::sync::mpsc::channel(8);
        let mut gauges = Gauges::new(turns, TaskTracker::new());
        let source = Source { kind: Kind::Swoole, at: "/stats".into(), counts_itself: true };
        let web1 = Name::from("web1");
        gauges.read.insert(web1.clone(), Gauge::new(source, Some(1), 1).unwrap());
        let number = |it: &Gauges| it.read[&web1].busy.map(|it| it.number);
        let says = |number, in_flight| {
            let figures =
                Figures { in_flight: Some(in_flight), is_exact: true, ..Figures::default() };
            let outcome = Ok(figures);
            Reading { instance: web1.clone(), generation: 1, number, outcome, pending: None }
        };
        let (now, around) = (Timestamp::default(), Around::default());

        gauges.begin(&web1);
        assert_eq!(number(&gauges), Some(1));
        gauges.owed.insert(web1.clone(), 1);
        gauges.begin(&web1);
        assert_eq!(number(&gauges), Some(2), "it waits for none");
        assert_eq!(gauges.heard(says(1, 9), around, now), (None, vec![]), "that is from before");
        gauges.begin(&web1);
        assert_eq!(number(&gauges), Some(2), "one follows, and no more are under way");
        let (load, inputs) = gauges.heard(says(2, 3), around, now);
        assert_eq!((load.unwrap().in_flight, inputs.len(), number(&gauges)), (Some(3), 1, Some(3)));
        let (_, inputs) = gauges.heard(says(3, 2), around, now);
        assert!(matches!(inputs[..], [Input::Load { .. }, Input::TakenOut { .. }]), "{inputs:?}");
    }

    #[test]
    fn what_a_killed_worker_of_nginx_had_is_not_waited_for() {
        let source = Source { kind: Kind::Nginx, at: "/status".into(), counts_itself: true };
        let mut gauge = Gauge::new(source, Some(1), 1).unwrap();
        let busy = Figures { in_flight: Some(3), is_exact: true, ..Figures::default() };
        let around = |connections| {
            let pending = Some(Pending { unanswered: 9, connections });
            Around { is_leaving: true, pending, ..Around::default() }
        };
        let at = |seconds| Timestamp(Duration::from_secs(seconds));
        assert_eq!(gauge.take(Ok(busy), &around(2), at(0)).1, Some(InFlight::Exact(3)));
        assert_eq!(gauge.take(Ok(busy), &around(2), at(60)).1, Some(InFlight::Exact(3)));
        assert_eq!(gauge.take(Ok(busy), &around(0), at(61)).1, Some(InFlight::Exact(0)));
    }

    #[test]
    fn a_drain_outlasts_some_readings_that_fail() {
        let source = Source { kind: Kind::Swoole, at: "/stats".into(), counts_itself: true };
        let gauge = || Gauge::new(source.clone(), Some(1), 1).unwrap();
        let busy = Figures { in_flight: Some(3), is_exact: true, ..Figures::default() };
        let failed = |why: &str| Err(why.to_owned());
        let at = Timestamp::default();
        let leaving = Around { is_leaving: true, ..Around::default() };

        let mut slow = gauge();
        assert_eq!(slow.take(Ok(busy), &leaving, at).1, Some(InFlight::Exact(3)));
        let idle = Some(Pending { unanswered: 0, connections: 1 });
        let idle = Around { pending: idle, ..leaving };
        for _ in 1..GIVEN_UP {
            assert_eq!(slow.take(failed(NO_ANSWER), &idle, at).1, Some(InFlight::Exact(3)));
        }
        let last = slow.take(failed(NO_ANSWER), &idle, at).1;
        assert_eq!(last, Some(InFlight::Estimated(3)));

        let mut full = gauge();
        for _ in 0..2 * GIVEN_UP {
            let first = full.take(failed(NO_ANSWER), &leaving, at).1;
            assert_eq!(first, Some(InFlight::Exact(1)), "it was never read: its workers are busy");
        }
        let mut broken = gauge();
        broken.take(Ok(busy), &leaving, at);
        assert_eq!(broken.take(failed("500"), &leaving, at).1, Some(InFlight::Exact(3)));

        let mut gone = gauge();
        gone.take(Ok(busy), &leaving, at);
        assert_eq!(gone.take(failed(REFUSED), &leaving, at).1, Some(InFlight::Estimated(3)));
        let mut stays = gauge();
        stays.take(Ok(busy), &Around::default(), at);
        let first = stays.take(failed(NO_ANSWER), &Around::default(), at).1;
        assert_eq!(first, Some(InFlight::Estimated(3)), "nobody waits for it");
    }
}
