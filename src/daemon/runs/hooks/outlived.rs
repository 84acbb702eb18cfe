//! Hooks that the last daemon had begun: followed to their end, at the moment that was theirs, or called again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{End, Hooks, KEEP, News, call};
use crate::api::{Event, HookCall};
use crate::config::settings::{Hook, Hooks as Settings};
use crate::daemon::driver::Daemon;
use crate::daemon::kept::journal;
use crate::daemon::kept::state::{self, Line};
use crate::daemon::orphans::{self, RUN};
use crate::daemon::turn::Turn;
use crate::daemon::{clock, runs, strays};
use crate::fleet::Timestamp;
use crate::process::command::Outcome;
use crate::process::group::{Group, Marks};
use crate::process::outlived::{self, Outlived};
use crate::process::strays::Left;
use crate::process::{Identity, identity};
use crate::quantity::format_duration;

/// Goes on with the calls that were not seen to end. `running`: what is left of the hooks that the last daemon
/// has begun, by the number of their event.
///
/// One whose end nobody saw is called again: better twice, with the same number, than never.
pub(in crate::daemon) fn resume(
    daemon: &mut Daemon,
    left: BTreeMap<u64, state::HookCall>,
    running: &BTreeMap<u64, Left>,
) {
    let settings = daemon.config.settings.hooks.clone();
    let told =
        journal::read_last(&daemon.journal.files(), left.len(), |it| left.contains_key(&it.seq));
    for (seq, record) in left {
        let hook = Hook::ALL.into_iter().find(|it| it.word() == record.hook);
        let wanted = settings.as_ref().zip(hook).filter(|(of, hook)| of.on.contains(hook));
        let Some((settings, hook)) = wanted else {
            // Nobody wants to be told of it any more.
            daemon.hands.state.append(&Line::Hooked { seq });
            continue;
        };
        let event = told.iter().find(|it| it.seq == seq);
        match running.get(&seq) {
            Some(left) if leads(&record, left).is_some() => {
                daemon.follow_hook(hook, &record, left, settings);
            }
            left => daemon.call_again(hook, &record, left, event),
        }
    }
    for hook in Hook::ALL {
        daemon.next_hook(hook);
    }
}

/// The process of a hook itself, if it lives; what it has left behind is none.
fn leads(record: &state::HookCall, left: &Left) -> Option<Identity> {
    if record.pid == 0 {
        // The daemon died before it had written that down.
        return Some(left.leader.map_or(left.oldest(), |it| it.identity));
    }
    let recorded = Identity { pid: record.pid, start_time: record.start_time };
    identity::is_alive(recorded).unwrap_or(false).then_some(recorded)
}

/// How long it may still take, of how much.
fn time_left(
    record: &state::HookCall,
    settings: &Settings,
    now: Timestamp,
) -> (Duration, Duration) {
    if record.began == 0 {
        // Begun by a daemon that did not write that down.
        return (settings.timeout, settings.timeout);
    }
    let whole = Duration::from_millis(record.timeout);
    (whole.saturating_sub(now.since(Timestamp(Duration::from_millis(record.began)))), whole)
}

impl Daemon {
    fn follow_hook(
        &mut self,
        hook: Hook,
        record: &state::HookCall,
        left: &Left,
        settings: &Settings,
    ) {
        let Some(leader) = leads(record, left) else { return };
        let (rest, whole) = time_left(record, settings, clock::now());
        self.hooks.lanes.entry(hook).or_default().running = true;
        self.hooks.wait_for(hook, record, leader, (rest, whole));
        let (word, words) = (hook.word(), strays::words(&left.members));
        let has = match rest {
            Duration::ZERO => "its time is over".to_owned(),
            rest => format!("it has {} left", format_duration(whole_seconds(rest))),
        };
        let message =
            format!("the hook for {word} that the last daemon has run goes on: {words}; {has}");
        self.note("hook-resumed", None, message);
    }

    /// It waits, or has ended while nobody looked, or has left something and is gone.
    fn call_again(
        &mut self,
        hook: Hook,
        record: &state::HookCall,
        left: Option<&Left>,
        event: Option<&Event>,
    ) {
        let (word, seq) = (hook.word(), record.seq);
        if let Some(left) = left {
            self.hooks.kill(seq, left.oldest());
        }
        let Some(event) = event else {
            self.hands.state.append(&Line::Hooked { seq });
            let message =
                format!("the hook for {word} was not run: the journal has no event {seq} any more");
            return self.note("hook-failed", None, message);
        };
        if record.began > 0 {
            let message = format!(
                "the hook for {word} ended while no daemon was there, and nobody knows how: it is called again"
            );
            self.note("hook-repeated", None, message);
        }
        let frame = self.publisher.frame();
        let told = call(hook, event, &frame.deck, &frame.host);
        let call = HookCall { suppressed: record.suppressed, ..told };
        self.hooks.lanes.entry(hook).or_default().waiting.push_back(call);
    }
}

/// Upwards: a moment that is left is told.
fn whole_seconds(it: Duration) -> Duration {
    Duration::from_secs(it.as_secs() + u64::from(it.subsec_nanos() > 0))
}

impl Hooks {
    /// Waits for one that the last daemon has begun: it runs on in any case, should this one end.
    fn wait_for(
        &self,
        hook: Hook,
        record: &state::HookCall,
        leader: Identity,
        (rest, whole): (Duration, Duration),
    ) {
        let (seq, pipe) = (record.seq, record.pipe);
        let mut group = self.group(seq, leader);
        // Not busy: it runs on whether this daemon waits or not.
        let (turns, busy) = (self.turns.clone(), TaskTracker::new().token());
        let left = self.left.clone();
        self.tasks.spawn(left.run_until_cancelled_owned(async move {
            let end = tokio::time::timeout(rest, end_of(leader, pipe)).await;
            kill(&mut group);
            let end =
                end.map_or_else(|_| End::Badly(runs::too_long(whole)), |it| verdict(it, whole));
            let _ = turns.send(Turn::Hook(News::Ended { hook, seq, end, busy })).await;
        }));
    }

    fn group(&self, seq: u64, leader: Identity) -> Group {
        let mark = orphans::hook_mark(seq, &self.state_dir);
        Group::new(leader, None, Marks::new(None, Some((RUN, &mark))))
    }

    fn kill(&self, seq: u64, oldest: Identity) {
        kill(&mut self.group(seq, oldest));
    }
}

fn kill(group: &mut Group) {
    if let Err(err) = group.kill() {
        warn!(%err, "what a hook left could not be killed");
    }
}

fn verdict(end: Option<outlived::End>, timeout: Duration) -> End {
    let Some(outlived::End { status: Some(status), output }) = end else { return End::Untold };
    let ran = Outcome { status, output, dropped: 0, timed_out: false };
    runs::verdict(&ran, timeout).into()
}

/// Waits until a process that is not our child has ended; `None`: it had before it was looked at.
async fn end_of(leader: Identity, pipe: u64) -> Option<outlived::End> {
    loop {
        match Outlived::find(leader, pipe, KEEP) {
            // It fails only with the runtime.
            Ok(Some(it)) => return it.end().await.ok(),
            Ok(None) => return None,
            // No descriptor is free, say.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_daemon_gives_a_hook_the_rest_of_its_time_and_no_more() {
        let seconds = Duration::from_secs;
        let settings = Settings {
            command: vec!["page".into()],
            on: [Hook::Lost].into(),
            timeout: seconds(10),
            interval: seconds(60),
            burst: 2,
        };
        let record = state::HookCall { began: 5000, timeout: 20_000, ..state::HookCall::default() };
        let at = |now| time_left(&record, &settings, Timestamp(seconds(now)));
        assert_eq!(at(8), (seconds(17), seconds(20)));
        assert_eq!(at(25), (Duration::ZERO, seconds(20)));
        assert_eq!(at(99), (Duration::ZERO, seconds(20)));
        let unknown = time_left(&state::HookCall::default(), &settings, Timestamp(seconds(99)));
        assert_eq!(unknown, (seconds(10), seconds(10)));
    }

    #[test]
    fn an_end_that_only_the_parent_was_told_is_neither_good_nor_bad() {
        use crate::process::reaper::Status;
        let end = |status| {
            verdict(Some(outlived::End { status, output: b"no pager\n".into() }), Duration::ZERO)
        };
        assert!(matches!(end(Some(Status::Exited(0))), End::Well));
        assert!(
            matches!(end(Some(Status::Exited(7))), End::Badly(it) if it == "exited with 7: no pager")
        );
        assert!(matches!(end(None), End::Untold));
        assert!(matches!(verdict(None, Duration::ZERO), End::Untold));
    }
}
