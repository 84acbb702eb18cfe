//! Keeps the nginx in front of services told: writes their include files, has them tested and loaded, counts
//! what the old workers still carry.
//!
//! One task for all of them, one change after another: they share one nginx, and a test that sees half of
//! two changes proves nothing. What is in force is reported only once new workers have it
//! (`apply`); what nginx refuses is reported as well, and is in force nowhere.

pub(in crate::daemon) mod apply;
pub mod log;
pub(in crate::daemon) mod news;
pub(in crate::daemon) mod switches;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::settings::Nginx;
use crate::daemon::clock;
use crate::daemon::nginx::apply::Refused;
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::Timestamp;
use crate::gateway::control::GatewayCounts;
use crate::gateway::nginx::plan::RETRY;
use crate::gateway::nginx::{Next, Plan, Wanted, file, switch};
use crate::load::sockets::Sockets;
use crate::process::reaper::Reaper;

/// Between two counts of what an instance still has, after it was taken out.
const COUNT: Duration = Duration::from_millis(50);

/// What every nginx gateway is to do, by name.
pub type Jobs = BTreeMap<String, Job>;

/// What one gateway is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub settings: Nginx,
    /// `None`: it is to tell what the file says first.
    pub wanted: Option<Wanted>,
    /// Instances that run and are out of rotation, and their ports.
    pub out: BTreeMap<String, u16>,
    /// Instances by their addresses: what is logged is of those.
    pub addresses: BTreeMap<String, String>,
}

/// What the daemon hears.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Who is in rotation by the file that is there: instances and addresses.
    Found { gateway: String, in_rotation: Vec<(String, String)> },
    /// So much is in force, and these have so many connections.
    InForce { gateway: String, revision: u64, in_flight: BTreeMap<String, u32> },
    /// nginx has loaded what it was given.
    Loaded { gateway: String },
    /// It could not be brought so far. Tried again later.
    Refused { gateway: String, revision: u64, why: String },
    /// What its access log says, and its connections of clients where it tells.
    Counted(GatewayCounts),
    /// Its log or its page cannot be read, or can again.
    Blind { gateway: String, why: Option<String> },
}

/// What the task needs.
#[derive(Debug)]
pub struct Keeper {
    pub reaper: Reaper,
    pub turns: Turns,
    pub jobs: watch::Receiver<Jobs>,
    pub stop: CancellationToken,
}

/// One gateway.
#[derive(Debug)]
struct Held {
    job: Job,
    plan: Plan,
    /// The newest revision that the switches say, where there are some.
    switched: u64,
    /// What was reported last.
    told: Option<(u64, BTreeMap<String, u32>)>,
}

impl Held {
    /// The newest revision that nginx goes by.
    fn revision(&self) -> u64 {
        match self.job.settings.switches {
            Some(_) => self.plan.revision().min(self.switched),
            None => self.plan.revision(),
        }
    }
}

impl Keeper {
    /// Works until the daemon ends.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut all: BTreeMap<String, Held> = BTreeMap::new();
        let mut counter = Counter::default();
        loop {
            let jobs = self.jobs.borrow_and_update().clone();
            all.retain(|name, it| {
                jobs.get(name).is_some_and(|job| job.settings == it.job.settings)
            });
            for (name, job) in jobs {
                match all.get_mut(&name) {
                    Some(held) => held.job = job,
                    None => drop(all.insert(name.clone(), self.begin(name, job).await)),
                }
            }
            let mut wake = None;
            for (name, held) in &mut all {
                let next = self.advance(name, held).await;
                let busy = self.report(name, held, &mut counter).await;
                wake = [wake, next, busy].into_iter().flatten().min();
            }
            tokio::select! {
                changed = self.jobs.changed() => if changed.is_err() { return },
                () = clock::sleep_until(wake) => (),
            }
        }
    }

    async fn tell(&self, news: News) {
        // The driver is gone only when the daemon ends.
        let _ = self.turns.send(Turn::Nginx(news)).await;
    }

    /// Reads what the file says: instances that an earlier daemon has started keep their places.
    async fn begin(&self, gateway: String, job: Job) -> Held {
        let found = apply::find(&job.settings.file);
        let mut in_rotation = file::in_rotation(&found.text);
        if let Some(directory) = &job.settings.switches {
            in_rotation.retain(|(instance, _)| !switches::is_out(directory, instance));
        }
        let owned = |(instance, address): &(&str, &str)| ((*instance).into(), (*address).into());
        let in_rotation = in_rotation.iter().map(owned).collect();
        let plan = Plan::new(found.is_in_force.then_some(found.text));
        self.tell(News::Found { gateway, in_rotation }).await;
        Held { job, plan, switched: 0, told: None }
    }

    /// Does what is due; says when to look again.
    async fn advance(&self, gateway: &str, held: &mut Held) -> Option<Timestamp> {
        let wanted = held.job.wanted.clone()?;
        held.plan.want(&wanted);
        let now = clock::now().0;
        let why = match held.plan.next(now) {
            Next::Wait(at) => return Some(Timestamp(at)),
            Next::Nothing => self.switch(held, &wanted).await.err()?,
            Next::Apply(text) => match self.load(gateway, held, &wanted, text).await {
                Ok(()) => return None,
                Err(why) => why,
            },
        };
        warn!(gateway, why, "nginx does not do what it was told");
        let revision = wanted.revision;
        self.tell(News::Refused { gateway: gateway.to_owned(), revision, why }).await;
        Some(match held.plan.next(now) {
            Next::Wait(at) => Timestamp(at),
            // The switches could not be set.
            Next::Nothing => Timestamp(now + RETRY),
            Next::Apply(_) => Timestamp(now),
        })
    }

    /// Has nginx load `text`. Where there are switches, who is to be out is taken out before, and who enters
    /// does so once nginx knows where it listens.
    async fn load(
        &self,
        gateway: &str,
        held: &mut Held,
        wanted: &Wanted,
        text: String,
    ) -> Result<(), String> {
        let settings = held.job.settings.clone();
        let mut files = vec![(settings.file.clone(), text.clone())];
        if let Some(file) = settings.server_file() {
            files.extend(switch::render(&wanted.upstream).map(|it| (file, it)));
            if let Err(why) = take_out(&settings, wanted).await {
                held.plan.refused(clock::now().0);
                return Err(why);
            }
        }
        let looks = |dump: &str| {
            let file = settings.server_file()?.display().to_string();
            switch::complaint(dump, &file, &settings.upstream)
        };
        let done = apply::apply(&self.reaper, &settings, &files, looks).await;
        let now = clock::now().0;
        match done {
            Ok(()) => {
                info!(gateway, file = %settings.file.display(), "nginx has loaded");
                held.plan.applied(now, wanted.revision, text);
                self.tell(News::Loaded { gateway: gateway.to_owned() }).await;
                self.switch(held, wanted).await
            }
            Err(Refused::Unchanged(why)) => {
                held.plan.refused(now);
                Err(why)
            }
            Err(Refused::Unknown(why)) => {
                held.plan.lost(now);
                Err(why)
            }
        }
    }

    /// Sets the switches, where there are some; once it returns, nginx goes by them.
    async fn switch(&self, held: &mut Held, wanted: &Wanted) -> Result<(), String> {
        let Some(directory) = &held.job.settings.switches else { return Ok(()) };
        if held.switched < wanted.revision {
            if switches::set(directory, &wanted.upstream.servers)? {
                tokio::time::sleep(switches::GRACE).await;
            }
            held.switched = wanted.revision;
        }
        Ok(())
    }

    /// Tells what is in force, with the counts; says when to count again.
    async fn report(
        &self,
        gateway: &str,
        held: &mut Held,
        counter: &mut Counter,
    ) -> Option<Timestamp> {
        let revision = held.revision();
        if revision == 0 {
            return None;
        }
        let was_empty = held.told.as_ref().is_some_and(|(told, counts)| {
            *told == revision
                && counts.keys().eq(held.job.out.keys())
                && counts.values().all(|it| *it == 0)
        });
        if was_empty {
            return None;
        }
        let in_flight = counter.count(&held.job.out).await?;
        let is_busy = in_flight.values().any(|it| *it > 0);
        if held.told.as_ref() != Some(&(revision, in_flight.clone())) {
            held.told = Some((revision, in_flight.clone()));
            self.tell(News::InForce { gateway: gateway.to_owned(), revision, in_flight }).await;
        }
        (is_busy && !held.plan.is_refused()).then(|| clock::now() + COUNT)
    }
}

/// Takes out who is to be out; once it returns, nginx goes by that.
async fn take_out(settings: &Nginx, wanted: &Wanted) -> Result<(), String> {
    let servers = &wanted.upstream.servers;
    if servers.len() > switch::MOST {
        return Err(format!(
            "{} instances are too many for nginx.switches, which tell {} apart",
            servers.len(),
            switch::MOST
        ));
    }
    let Some(directory) = &settings.switches else { return Ok(()) };
    if switches::take_out(directory, servers)? {
        tokio::time::sleep(switches::GRACE).await;
    }
    Ok(())
}

/// Counts connections, on a thread of its own: there may be many.
#[derive(Debug, Default)]
struct Counter(Option<Sockets>);

impl Counter {
    /// Connections to each of these. `None`: the kernel does not say.
    async fn count(&mut self, out: &BTreeMap<String, u16>) -> Option<BTreeMap<String, u32>> {
        if out.is_empty() {
            return Some(BTreeMap::new());
        }
        let sockets = self.0.take();
        let dump = move || {
            let mut sockets = sockets.map_or_else(Sockets::open, Ok)?;
            let ports = sockets.dump()?;
            std::io::Result::Ok((sockets, ports))
        };
        match tokio::task::spawn_blocking(dump).await.ok()? {
            Ok((sockets, ports)) => {
                self.0 = Some(sockets);
                let count = |port: &u16| ports.get(port).map_or(0, |it| it.established);
                Some(out.iter().map(|(name, port)| (name.clone(), count(port))).collect())
            }
            Err(err) => {
                debug!(%err, "the sockets cannot be read");
                None
            }
        }
    }
}
