//! A reload that is watched until every worker that was there is gone and others run.
//!
//! What runs is told from outside ([`super::input::Input::Workers`]), first right before the signal and
//! then again and again. The watch ends when all are renewed, or when nothing has moved for as long as
//! the server may take for its next step.

use std::sync::Arc;
use std::time::Duration;

use super::fleet::Fleet;
use super::health::Health;
use super::input::{Effect, Shown};
use super::instance::{Instance, Phase};
use super::rules::{Profile, ServiceRules};
use super::sheet::ReloadSheet;
use super::time::Timestamp;
use super::turn::{Turn, elapsed};
use super::words::{By, Name, Process, Signal};
use crate::quantity::count;

/// Nothing moves any more: a worker that got SIGKILL at its limit is gone by then.
const AFTER_LIMIT: Duration = Duration::from_secs(5);
/// Who is renewed at once is gone by then.
const SOON: Duration = Duration::from_secs(1);
/// Fewer run than before, for so long: the reload has brought another number of them.
const SETTLED: Duration = Duration::from_secs(5);
/// How much later than its limit the end of a worker may be seen.
const GRAIN: Duration = Duration::from_millis(400);
/// New workers that ended so young, for as many as that: they cannot begin.
const MANY: usize = 3;
/// Workers that end so soon after a reload may be its work.
const LATELY: Duration = Duration::from_secs(120);

/// The reloads of one generation, as the next daemon has to know them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reloads {
    pub generation: u64,
    /// How many there were.
    pub number: u64,
    /// Processes that a reload leaves alone, as earlier ones have shown.
    pub spared: Vec<Process>,
    pub last: Reload,
}

/// A signal that renews workers, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reload {
    pub by: By,
    pub signal: Signal,
    pub since: Timestamp,
    /// `None` until the first look, right before the signal.
    pub before: Option<Vec<Process>>,
    /// Those of them that are gone, and how long each took.
    pub gone: Vec<(Process, Duration)>,
    /// Workers that were not there before, now and at most.
    pub fresh: usize,
    pub most_fresh: usize,
    pub moved: Timestamp,
    /// Who of them is there, and since when that is known.
    pub seen: Vec<(Process, Timestamp)>,
    /// Those of them that ended as soon as they had begun.
    pub fallen: usize,
    /// All were gone once before another one came.
    pub bare: bool,
    /// Nothing tells whom the signal renews; all are watched that any reload renews.
    pub untitled: bool,
    pub ended: Option<Ended>,
}

/// How a reload has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    pub at: Timestamp,
    pub whole: bool,
    pub told: String,
    /// Workers that did not change.
    pub stayed: Vec<Process>,
}

impl Reload {
    fn new(by: By, signal: Signal, now: Timestamp) -> Self {
        Self {
            by,
            signal,
            since: now,
            before: None,
            gone: vec![],
            fresh: 0,
            most_fresh: 0,
            moved: now,
            seen: vec![],
            fallen: 0,
            bare: false,
            untitled: false,
            ended: None,
        }
    }

    /// The profile does not say who is renewed: nobody can see how it goes.
    fn unseen(by: By, signal: Signal, now: Timestamp) -> Self {
        let told = "the profile does not say which processes a reload renews".into();
        let ended = Ended { at: now, whole: true, told, stayed: vec![] };
        Self { ended: Some(ended), ..Self::new(by, signal, now) }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.ended.is_none()
    }

    /// How many it had to renew, where it began lately.
    pub(super) fn renewed_lately(&self, now: Timestamp) -> usize {
        if now.since(self.since) <= LATELY { self.of() } else { 0 }
    }

    fn of(&self) -> usize {
        self.before.as_ref().map_or(0, Vec::len)
    }

    /// Gone, and another one runs.
    fn renewed(&self) -> usize {
        self.gone.len().min(self.fresh)
    }

    /// `reloading 3/8 workers`.
    pub(super) fn phrase(&self) -> String {
        match self.of() {
            0 => "reloading".into(),
            of => format!("reloading {}/{of} workers", self.renewed()),
        }
    }

    /// How it ended.
    pub(super) fn told(&self) -> Option<&str> {
        self.ended.as_ref().map(|it| it.told.as_str())
    }

    pub(super) fn sheet(&self, number: u64) -> ReloadSheet {
        ReloadSheet {
            number,
            by: self.by.clone(),
            signal: self.signal,
            since: self.since,
            renewed: self.renewed(),
            of: self.of(),
            gone: self.gone.clone(),
            ended: self.ended.as_ref().map(|it| it.at),
            complete: self.ended.as_ref().is_some_and(|it| it.whole),
            told: self.told().unwrap_or_default().to_owned(),
        }
    }

    /// Compares what runs now with what ran before. `spared`: whom an earlier reload left alone.
    fn look(&mut self, now: Timestamp, workers: &[Process], spared: &[Process], of: &Looked<'_>) {
        let Some(before) = &self.before else {
            self.untitled = of.shown.untitled;
            let before: Vec<_> =
                workers.iter().filter(|it| !spared.contains(it)).copied().collect();
            // That would leave nobody: none of them is one that reloads leave alone.
            let before = if before.is_empty() { workers.to_vec() } else { before };
            if before.is_empty() {
                let profile = &of.rules.profile;
                let told = nobody(profile, self.signal);
                self.end(now, profile.on_demand, told, vec![]);
            }
            self.before = Some(before);
            return;
        };
        // Who ended while nobody looked took a time that nobody knows.
        let took = if of.unwatched { Duration::ZERO } else { now.since(self.since) };
        let is_told = |it: &Process| self.gone.iter().any(|(gone, _)| gone == it);
        let newly: Vec<_> = before
            .iter()
            .filter(|it| !workers.contains(it) && !is_told(it))
            .map(|it| (*it, took))
            .collect();
        let is_fresh = |it: &&Process| !before.contains(it) && !spared.contains(it);
        let fresh: Vec<_> = workers.iter().filter(is_fresh).copied().collect();
        self.fresh = fresh.len();
        if !newly.is_empty() || self.fresh > self.most_fresh {
            self.moved = now;
        }
        self.gone.extend(newly);
        self.most_fresh = self.most_fresh.max(self.fresh);
        self.note_young(now, fresh);
        self.bare |= self.most_fresh == 0 && self.gone.len() == self.of();
        self.judge(now, of);
    }

    /// Notes which of the new ones are there, and who of them has ended at once.
    fn note_young(&mut self, now: Timestamp, fresh: Vec<Process>) {
        let is_young = |it: &&(Process, Timestamp)| now.since(it.1) < SOON;
        let has_ended = |it: &&(Process, Timestamp)| !fresh.contains(&it.0);
        self.fallen += self.seen.iter().filter(has_ended).filter(is_young).count();
        let since = |it: Process| {
            let known = self.seen.iter().find(|(seen, _)| *seen == it);
            (it, known.map_or(now, |it| it.1))
        };
        self.seen = fresh.into_iter().map(since).collect();
    }

    /// New ones have come, and whether they go on is not seen yet.
    fn is_unproved(&self, now: Timestamp, looked: &Looked<'_>) -> bool {
        let is_young = |it: &(Process, Timestamp)| now.since(it.1) < SOON;
        let least = SOON.max(looked.rules.start_seconds);
        self.fresh > 0 && (now.since(self.moved) < least || !self.is_ready_by_probe(looked))
            || self.fallen > 0 && self.seen.iter().any(is_young)
    }

    /// Its readiness has passed since the last change, where it has a probe for that.
    fn is_ready_by_probe(&self, looked: &Looked<'_>) -> bool {
        let has_passed = || looked.health.readiness.has_passed_since(self.moved);
        looked.rules.readiness.is_none() || has_passed()
    }

    /// New ones end as soon as they begin, again and again.
    fn cannot_begin(&self, still: Duration) -> bool {
        self.fallen >= MANY.max(self.of()) && still >= SETTLED
    }

    fn judge(&mut self, now: Timestamp, looked: &Looked<'_>) {
        let rules = looked.rules;
        let (of, gone, still) = (self.of(), self.gone.len(), now.since(self.moved));
        // Until the last one came, not until it was sure to stay.
        let took = elapsed(self.moved.since(self.since));
        let workers = count(of as u64, "worker");
        if self.is_unproved(now, looked) {
            self.judge_unproved(now, rules);
        } else if gone == of && self.fresh >= of {
            let profile = &rules.profile;
            let leaves = profile.leaves.as_ref().filter(|_| profile.reload == Some(self.signal));
            let leaves = leaves.map_or(String::new(), |it| format!("; not read again is {it}"));
            let slowest = self.slowest(profile);
            let bare = if self.bare { "; for a moment there was none to serve" } else { "" };
            let told = format!("renewed {of} of {workers} in {took}{slowest}{bare}{leaves}");
            self.end(now, true, told, vec![]);
        } else if let Some(all) = looked.shown.renewed.filter(|all| gone >= *all)
            && self.fresh >= gone
        {
            let (stayed, n) = (self.unchanged(), self.renewed());
            let pids = pids(&stayed);
            let told = format!(
                "renewed {n} of {workers} in {took}; pid {pids} did not change: the server counts {all} that a reload renews"
            );
            self.end(now, true, told, stayed);
        } else if self.untitled && still >= SETTLED && self.fresh >= gone {
            self.end(now, gone > 0, self.told_untitled(), vec![]);
        } else if gone == of && still >= SETTLED && (self.fresh > 0 || rules.profile.on_demand) {
            let told = match self.fresh {
                0 => format!("{workers} gone; the next ones come when there is work"),
                now_there => format!("{workers} gone, {now_there} in their place after {took}"),
            };
            self.end(now, true, told, vec![]);
        } else if self.has_spared(looked, still) {
            let stayed = self.unchanged();
            let (n, pids) = (self.renewed(), pids(&stayed));
            let idle =
                if looked.shown.is_idle { ", and nobody waits there for an answer" } else { "" };
            let told = format!(
                "renewed {n} of {workers} in {took}; pid {pids} did not change{idle}: a reload seems to leave it alone"
            );
            self.end(now, true, told, stayed);
        } else if still >= self.patience(rules) {
            let stayed = self.unchanged();
            if !stayed.is_empty() && self.fresh >= of {
                let (pids, each) = (pids(&stayed), if stayed.len() == 1 { "es" } else { "" });
                let told = format!(
                    "new ones run in place of {workers}; pid {pids} still finish{each} what was begun"
                );
                return self.end(now, true, told, vec![]);
            }
            let told = match stayed.len() {
                0 => {
                    let took = elapsed(now.since(self.since));
                    format!("{workers} gone, and none came in their place within {took}")
                }
                _ => self.told_of(&stayed, still),
            };
            self.end(now, false, told, stayed);
        }
    }

    /// It is given up where what has come does not get through.
    fn judge_unproved(&mut self, now: Timestamp, rules: &ServiceRules) {
        let (of, gone, still) = (self.of(), self.gone.len(), now.since(self.moved));
        let workers = count(of as u64, "worker");
        if gone == of && self.fresh >= of && still >= rules.rollout.ready_timeout {
            let (took, n) = (elapsed(self.moved.since(self.since)), elapsed(still));
            let told = format!(
                "renewed {of} of {workers} in {took}, but its readiness has not passed in the {n} since"
            );
            self.end(now, false, told, vec![]);
        } else if self.cannot_begin(still) {
            let (n, soon) = (self.fallen, elapsed(SOON));
            let told = format!(
                "{gone} of {workers} gone, and {n} that came in their place ended within {soon} of their start: they \
                 cannot begin"
            );
            self.end(now, false, told, vec![]);
        }
    }

    /// Some were renewed, no others are on their way, and those that stayed may be no workers: they are as many as
    /// stayed in an earlier generation, or have stayed for so long that a worker would have ended.
    fn has_spared(&self, looked: &Looked<'_>, still: Duration) -> bool {
        let gone = self.gone.len();
        let stayed = self.of() - gone;
        let usual = SOON.max(looked.rules.profile.limit + GRAIN);
        // Where somebody waits for an answer, only the time tells that those that stayed are not at it.
        let wait = match (stayed <= looked.spares, looked.shown.is_idle) {
            (true, true) => SOON,
            (true, false) => usual,
            (false, true) => usual + AFTER_LIMIT,
            (false, false) => self.patience(looked.rules),
        };
        gone > 0 && stayed > 0 && self.fresh == gone && looked.shown.may_spare && still >= wait
    }

    /// How long nothing may move: the time a worker has for what it does, or a new one to be there.
    fn patience(&self, rules: &ServiceRules) -> Duration {
        if self.fresh < self.gone.len() {
            return rules.rollout.ready_timeout;
        }
        // A server may give its workers twice its limit (Swoole).
        rules.max_wait_time.max(rules.profile.limit * 2) + AFTER_LIMIT
    }

    fn unchanged(&self) -> Vec<Process> {
        let is_gone = |it: &Process| self.gone.iter().any(|(gone, _)| gone == it);
        self.before.iter().flatten().filter(|it| !is_gone(it)).copied().collect()
    }

    fn told_of(&self, stayed: &[Process], still: Duration) -> String {
        let (n, workers) = (self.renewed(), count(self.of() as u64, "worker"));
        let (pids, still) = (pids(stayed), elapsed(still));
        let hint = if n > 0 { "; one that a reload leaves alone looks the same" } else { "" };
        format!(
            "renewed {n} of {workers}; pid {pids} did not change, and nothing moved for {still}{hint}"
        )
    }

    fn told_untitled(&self) -> String {
        let workers = count(self.of() as u64, "worker");
        match self.gone.len() {
            0 => format!(
                "none of {workers} changed: there is none that {} renews, or it is still at something",
                self.signal
            ),
            n => {
                format!("{n} of {workers} were renewed; no title tells whom {} renews", self.signal)
            }
        }
    }

    /// The time of the slowest, and whom their server's limit has probably ended.
    fn slowest(&self, profile: &Profile) -> String {
        let timed = self.gone.iter().filter(|it| !it.1.is_zero());
        let Some((_, took)) = timed.max_by_key(|it| it.1) else {
            return String::new();
        };
        let (limit, early) = (profile.limit, profile.limit_early);
        let is_at = |took: Duration, limit: Duration| took >= limit && took <= limit + GRAIN;
        let is_sure = |took: Duration| is_at(took, limit) || is_at(took, limit * 2);
        let is_early = |took: Duration| took + early > limit && took < limit;
        // Where one is told to end when another has (task workers of an older Swoole), the times add up.
        let is_next = |took: Duration| {
            self.gone.iter().any(|(_, before)| *before >= limit / 2 && *before + GRAIN < took)
        };
        let is_ended =
            |it: &&(Process, Duration)| (is_sure(it.1) || is_early(it.1)) && !is_next(it.1);
        let is_known = profile.limit_known && !limit.is_zero();
        let ended = self.gone.iter().filter(|_| is_known).filter(is_ended);
        let ended: Vec<_> = ended.collect();
        let is_sure = ended.iter().all(|it| is_sure(it.1));
        let name = profile.limit_name.as_deref().unwrap_or("limit");
        let limit = match is_sure {
            true => elapsed(limit),
            false => format!("{}, up to {} early", elapsed(limit), elapsed(early)),
        };
        match ended.as_slice() {
            [] => format!("; the slowest took {}", elapsed(*took)),
            [(process, took)] => {
                let (pid, took) = (process.pid, elapsed(*took));
                let was = if is_sure { "was probably" } else { "may have been" };
                format!("; pid {pid} took {took} and {was} ended by its {name} ({limit})")
            }
            several => {
                let all: Vec<Process> = several.iter().map(|it| it.0).collect();
                let were = if is_sure { "were probably" } else { "may have been" };
                format!("; pid {} {were} ended by their {name} ({limit})", pids(&all))
            }
        }
    }

    fn end(&mut self, at: Timestamp, whole: bool, told: String, stayed: Vec<Process>) {
        self.ended = Some(Ended { at, whole, told, stayed });
    }
}

/// What a look goes by.
struct Looked<'a> {
    rules: &'a ServiceRules,
    health: &'a Health,
    /// It is the first one of this daemon at what an earlier one has begun.
    unwatched: bool,
    shown: Shown,
    /// How many of such a tree a reload leaves alone, as earlier ones have shown.
    spares: usize,
}

/// Why there is nobody to watch.
fn nobody(profile: &Profile, signal: Signal) -> String {
    match profile.renewal(signal) {
        Some([first, ..]) => {
            format!("no {first} is seen there: there is none, or no title tells it from the others")
        }
        Some([]) | None if profile.on_demand => {
            "no worker is there now: the next ones come when there is work".into()
        }
        Some([]) | None => {
            let alone =
                profile.alone.as_ref().map_or(String::new(), |it| format!(", and {signal} {it}"));
            let name = &profile.name;
            format!("there is no worker to renew: to {name} it is a single process{alone}")
        }
    }
}

/// `4711, 4712, 3 more`
fn pids(all: &[Process]) -> String {
    const SHOWN: usize = 5;
    let mut pids: Vec<String> = all.iter().take(SHOWN).map(|it| it.pid.to_string()).collect();
    if all.len() > SHOWN {
        pids.push(format!("{} more", all.len() - SHOWN));
    }
    pids.join(", ")
}

impl Instance {
    /// A reload of it is watched.
    pub(super) fn is_under_reload(&self) -> bool {
        self.up().and_then(|it| it.reload.as_ref()).is_some_and(Reload::is_under_way)
    }

    /// Begins to watch what a signal does, if that is a reload there. To be called before it is sent.
    pub(super) fn watch_reload(&mut self, turn: &mut Turn, signal: Signal, by: &By) {
        let (profile, instance) = (self.rules.profile.clone(), self.own.name.clone());
        let Some(roles) = profile.renewal(signal).map(<[String]>::to_vec) else { return };
        let Phase::Up(body) = &mut self.phase else { return };
        let last = body.reload.take();
        // A server that is at it may not hear the signal again (Swoole): whom it has renewed by now may stay.
        let is_at_it = |it: &&Reload| it.is_under_way() && it.signal == signal && !profile.again;
        let left = last.as_ref().filter(is_at_it);
        let left = left.and_then(|it| it.before.as_ref().map(|_| it.unchanged()));
        if let Some(stayed) = last.and_then(|it| it.ended).map(|it| it.stayed) {
            body.spared.extend(stayed);
        }
        body.reloads += 1;
        if !profile.renews {
            body.reload = Some(Reload::unseen(by.clone(), signal, turn.now));
            return;
        }
        let known = left.filter(|it| !it.is_empty());
        let before = known.clone();
        body.reload = Some(Reload { before, ..Reload::new(by.clone(), signal, turn.now) });
        turn.push(Effect::Survey { instance, process: body.process, known, roles });
    }

    pub(super) fn reloads(&self) -> Option<Reloads> {
        let body = self.up()?;
        let last = body.reload.clone()?;
        let spared = body.spared.clone();
        Some(Reloads { generation: self.generation, number: body.reloads, spared, last })
    }

    /// Takes over what the last daemon knew of the reloads of this generation.
    pub(super) fn recall_reloads(&mut self, it: Reloads) {
        let generation = self.generation;
        if let Phase::Up(body) = &mut self.phase
            && it.generation == generation
        {
            (body.reloads, body.spared, body.reload) = (it.number, it.spared, Some(it.last));
        }
    }

    /// Goes on with a reload that was watched when the last daemon ended, or says why it does not.
    pub(super) fn resume_reload(&mut self, turn: &mut Turn) {
        let (profile, instance) = (self.rules.profile.clone(), self.own.name.clone());
        let Phase::Up(body) = &mut self.phase else { return };
        let process = body.process;
        let Some(reload) = body.reload.as_mut().filter(|it| it.is_under_way()) else { return };
        let by = reload.by.clone();
        if reload.before.is_some() {
            let known = Some(reload.unchanged());
            // Nobody looked meanwhile: that nothing moved is not known.
            reload.moved = turn.now;
            body.unwatched = true;
            let message = format!("its reload is watched on by this daemon: {}", reload.phrase());
            let roles = profile.renewal(reload.signal).unwrap_or_default().to_vec();
            turn.push(Effect::Survey { instance, process, known, roles });
            self.say(turn, "reload-resumed", Some(&by), message);
        } else {
            let told = "the daemon ended before it had seen which workers there were".to_owned();
            reload.end(turn.now, false, told.clone(), vec![]);
            self.say(turn, "reload-incomplete", Some(&by), told);
        }
    }

    /// Returns whether anything looks different.
    fn on_workers(
        &mut self,
        turn: &mut Turn,
        process: Process,
        workers: &[Process],
        (shown, spares): (Shown, usize),
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let Phase::Up(body) = &mut self.phase else { return false };
        if body.process != process {
            return false;
        }
        let Some(reload) = body.reload.as_mut().filter(|it| it.is_under_way()) else {
            return false;
        };
        let before = reload.sheet(0);
        let renewed = rules.profile.renewal(reload.signal);
        if reload.before.is_none() && renewed.is_some_and(<[String]>::is_empty) {
            // All workers are told: who is not among them lives no more.
            body.spared.retain(|it| workers.contains(it));
        }
        // Those are not among whom it has to renew.
        let spares = spares.saturating_sub(body.spared.len());
        let unwatched = std::mem::take(&mut body.unwatched);
        // What the server counts is what its reload renews, not what another signal does.
        let is_of_all = renewed.is_some_and(<[String]>::is_empty);
        let shown = Shown { renewed: shown.renewed.filter(|_| is_of_all), ..shown };
        let health = &body.health;
        let of = Looked { rules: &rules, health, unwatched, shown, spares };
        reload.look(turn.now, workers, &body.spared, &of);
        let after = reload.sheet(0);
        let by = reload.by.clone();
        let stayed = reload.ended.as_ref().filter(|it| it.whole).map_or(0, |it| it.stayed.len());
        if after.ended.is_some() {
            self.spares = self.spares.max(stayed);
            let kind = if after.complete { "reloaded" } else { "reload-incomplete" };
            self.say_with_evidence(turn, kind, Some(&by), after.told.clone(), !after.complete);
        }
        before != after
    }
}

impl Fleet {
    /// Somebody has to tell what runs there.
    pub fn watches_reload(&self, instance: &str) -> bool {
        self.instances.get(instance).is_some_and(Instance::is_under_reload)
    }

    pub(super) fn on_workers(
        &mut self,
        instance: &Name,
        process: Process,
        (workers, shown): (&[Process], Shown),
        turn: &mut Turn,
    ) {
        let service = self.instances.get(instance).map(|it| &it.rules.name);
        let members = service.and_then(|it| self.services.get(it)).map(|it| &it.members);
        let spares = members.into_iter().flatten().filter_map(|it| self.instances.get(it));
        let spares = spares.map(|it| it.spares).max().unwrap_or(0);
        let changed = self.touch(instance, turn, |it, turn| {
            it.on_workers(turn, process, workers, (shown, spares))
        });
        if changed == Some(true)
            && let Some(service) = self.instances.get(instance).map(|it| it.rules.name.clone())
        {
            self.mark_changed(&service);
            self.look_at_service(&service);
        }
    }
}
