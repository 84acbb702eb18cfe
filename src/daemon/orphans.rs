//! Ends the commands that the last daemon was running when it died: those of rollouts, and exec probes. Hooks
//! run on, and so do commands that stop what somebody else runs; who looks after them is told.
//!
//! Nobody waits for their outcome any more, and a rollout that is begun again would run the same command
//! beside them. A variable in their environment says which command of which deck each is, and the record
//! of the last one of a rollout says whether it had ended: what such a command left in the background on
//! purpose is none of ours. A probe leaves nothing.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use super::driver::Daemon;
use super::hands::Hands;
use super::kept::state::{Kept, Line, Run};
use super::strays::words;
use crate::fleet::input::{Extra, Record};
use crate::fleet::{Name, Signal};
use crate::process::group::{Group, Marks, Member};
use crate::process::strays::{Left, Signs};
use crate::process::table::Table;
use crate::process::{Identity, identity, pidfd, signal};

/// Names the command in the environment of everything it starts: `SERVICE/NUMBER@STATE_DIR`, of an exec
/// probe `INSTANCE@STATE_DIR`, of a hook `:hook/NUMBER@STATE_DIR`, of a stop command `:stop/INSTANCE@STATE_DIR`.
pub(super) const RUN: &str = "OPSDECK_RUN";
/// No name begins with a colon.
const HOOK: &str = ":hook/";
const STOP: &str = ":stop/";
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// What marks this command of a rollout.
pub(super) fn mark(service: &str, run: u64, state_dir: &Path) -> String {
    format!("{service}/{run}@{}", state_dir.display())
}

/// What marks the hook that tells the event of this number.
pub(super) fn hook_mark(seq: u64, state_dir: &Path) -> String {
    format!("{HOOK}{seq}@{}", state_dir.display())
}

/// What marks the command that stops what somebody else runs.
pub(super) fn stop_mark(instance: &Name, state_dir: &Path) -> String {
    format!("{STOP}{instance}@{}", state_dir.display())
}

/// Looks for them; `runs` are those of rollouts that were not seen to end, `kept` says which stops were under
/// way. Returns the hooks that run still, by
/// the number of the event that each tells.
pub(super) fn end(
    daemon: &mut Daemon,
    runs: &BTreeMap<String, Run>,
    kept: &BTreeMap<String, Kept>,
) -> BTreeMap<u64, Left> {
    let deck = format!("@{}", daemon.hands.places.state_dir.display());
    if std::env::var(RUN).is_ok_and(|it| it.ends_with(&deck)) {
        // One of them has started this daemon: whatever is marked may be its own.
        return BTreeMap::new();
    }
    let mut signs = Signs::new(RUN, &deck);
    for (name, uid) in daemon.hands.uids() {
        signs.user(name.as_str(), uid);
        signs.user(&format!("{STOP}{name}"), uid);
        let its = runs.values().filter(|it| it.instance == name.as_str());
        its.for_each(|it| signs.user(&format!("{}/{}", it.service, it.run), uid));
    }
    let mut found = signs.find(|_| false).unwrap_or_else(|err| {
        warn!(%err, "no command of the last daemon was looked for");
        BTreeMap::new()
    });
    for run in runs.values() {
        let marked = found.remove(&format!("{}/{}", run.service, run.run));
        let ran = Line::Ran { service: run.service.clone(), run: run.run };
        if let Some(members) = daemon.hands.end_run(run, marked.as_ref()) {
            let of = format!("a command of the rolling restart of {}", run.service);
            tell(daemon, Some(&run.service), &run.instance, &of, &members, "stopped");
        }
        // Looked for once: later its numbers are somebody else's.
        daemon.hands.state.append(&ran);
    }
    let mut hooks = BTreeMap::new();
    for (name, left) in found {
        if let Some(seq) = name.strip_prefix(HOOK) {
            hooks.extend(seq.parse().map(|seq: u64| (seq, left)));
        } else if let Some(instance) = name.strip_prefix(STOP) {
            // One that had ended may have left something in the background on purpose.
            if kept.get(instance).is_some_and(Kept::is_stopped_by_command) {
                let of = format!("the stop command of {instance}");
                tell(daemon, None, instance, &of, &left.members, "waited for");
                daemon.hands.foreign.outlived.insert(Name::from(instance), left);
            }
        } else if !name.contains('/') {
            daemon.hands.kill_marked(&name, &left);
            let of = format!("an exec probe of {name}");
            tell(daemon, None, &name, &of, &left.members, "killed");
        }
        // A command of a rollout that no record names was left in the background.
    }
    hooks
}

fn tell(
    daemon: &mut Daemon,
    service: Option<&str>,
    instance: &str,
    of: &str,
    members: &[Member],
    fate: &str,
) {
    let name = Name::from(instance);
    let known = daemon.hands.known.get(&name).map(|it| it.service.clone());
    daemon.record(Record {
        kind: "stray",
        service: service.map(Name::from).or(known),
        instance: Some(name),
        by: None,
        message: format!(
            "found running, {}, of {of} that the last daemon ran: it is {fate}",
            words(members)
        ),
        with_evidence: false,
        extra: Extra::Nothing,
    });
}

impl Hands {
    /// Ends stop commands of the last daemon that nobody waits for.
    pub(super) fn end_stops(&mut self) {
        for (name, left) in std::mem::take(&mut self.foreign.outlived) {
            self.kill_marked(&format!("{STOP}{name}"), &left);
        }
    }

    /// Ends a command of a rollout: SIGTERM, then SIGKILL to what is left. Returns who lived.
    fn end_run(&self, run: &Run, marked: Option<&Left>) -> Option<Vec<Member>> {
        let recorded = Identity { pid: run.pid, start_time: run.start_time };
        // Of one that is dead only the mark speaks: its number may lead the session of a stranger by now.
        let lives = run.pid > 0 && identity::is_alive(recorded).unwrap_or(false);
        let leader = if lives { recorded } else { marked?.oldest() };
        let mark = mark(&run.service, run.run, &self.places.state_dir);
        let group = Group::new(leader, None, Marks::new(None, Some((RUN, &mark))));
        let table = Table::sweep().inspect_err(|err| warn!(%err, "could not look for a command"));
        let members = group.members(&table.ok()?).ok()?;
        if members.is_empty() {
            return None;
        }
        self.tasks.spawn(terminate(group, members.clone()));
        Some(members)
    }

    /// Of an exec probe, or of a stop command.
    fn kill_marked(&self, name: &str, left: &Left) {
        let mark = self.mark(&Name::from(name));
        let mut group = Group::new(left.oldest(), None, Marks::new(None, Some((RUN, &mark))));
        if let Err(err) = group.kill() {
            warn!(name, %err, "a command of the last daemon could not be killed");
        }
    }
}

async fn terminate(mut group: Group, members: Vec<Member>) {
    let mut ends = vec![];
    for member in members {
        // One that has ended meanwhile needs no signal.
        if let Ok(Some(pidfd)) = identity::open(member.identity) {
            if let Err(err) = signal::send(pidfd.as_fd(), Signal::TERM.0) {
                warn!(%member, %err, "could not be told to end");
            }
            ends.push(pidfd::ended(pidfd));
        }
    }
    // Either all have ended or their time is over: what is left goes.
    let _ = tokio::time::timeout(PATIENCE, join_all(ends)).await;
    if let Err(err) = group.kill() {
        warn!(%err, "what a command of the last daemon left could not be killed");
    }
}
