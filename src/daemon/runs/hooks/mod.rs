//! `[hooks]`: a command that is run so that somebody is paged.
//!
//! It runs as the daemon's own user in `/`, with `PATH` and its mark in its environment and without a
//! shell; what happened is JSON on its standard input ([`HookCall`]). For each kind one at a time, at most `burst`
//! in `interval`; what was too much is counted and told with the next. What becomes of a hook is an event
//! and never runs another one. The calls that wait or are being made are in the state file, by the number of their
//! event: the next daemon makes them, and `outlived.rs` follows those that it finds running.

pub(in crate::daemon) mod outlived;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use crate::api::{Event, HookCall};
use crate::config::settings::{HOOK_PATH, Hook, Hooks as Settings};
use crate::config::trust::Trust;
use crate::daemon::clock::{self, millis};
use crate::daemon::driver::Daemon;
use crate::daemon::kept::state::{self, Line};
use crate::daemon::orphans::{self, RUN};
use crate::daemon::runs;
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::Timestamp;
use crate::process::reaper::Reaper;
use crate::process::{Identity, command};
use crate::quantity::format_duration;

/// Calls that wait for the one before them, per kind.
const WAITING: usize = 16;
/// Bytes of a hook's output that are kept.
const KEEP: usize = 4096;

/// What is heard of a hook.
#[derive(Debug)]
pub enum News {
    /// Its process is known.
    Began(state::HookCall),
    Ended {
        hook: Hook,
        /// Of the event that it was told.
        seq: u64,
        end: End,
        /// Until its end is written down the daemon does not leave.
        busy: TaskTrackerToken,
    },
}

/// How a hook has ended.
#[derive(Debug)]
pub enum End {
    Well,
    /// Why not well, to be read after its name.
    Badly(String),
    /// The last daemon had begun it, and its parent alone was told.
    Untold,
}

impl From<Result<(), String>> for End {
    fn from(it: Result<(), String>) -> Self {
        it.map_or_else(Self::Badly, |()| Self::Well)
    }
}

/// The hooks that run and wait.
#[derive(Debug)]
pub struct Hooks {
    reaper: Reaper,
    turns: Turns,
    tasks: TaskTracker,
    state_dir: PathBuf,
    lanes: BTreeMap<Hook, Lane>,
    /// Every hook that runs has one of these.
    busy: TaskTracker,
    /// Hooks run on, and nobody here waits for their end.
    left: CancellationToken,
}

/// The calls of one kind.
#[derive(Debug, Default)]
struct Lane {
    running: bool,
    waiting: VecDeque<HookCall>,
    /// When the last ones were taken, oldest first.
    taken: VecDeque<Timestamp>,
    /// Since the last one that was taken.
    suppressed: u64,
}

impl Lane {
    /// Takes a call, or counts it where there were too many. Returns true for the first of these.
    fn offer(&mut self, mut call: HookCall, now: Timestamp, settings: &Settings) -> bool {
        let old = |it: &Timestamp| now.since(*it) >= settings.interval;
        while self.taken.front().is_some_and(old) {
            self.taken.pop_front();
        }
        if self.taken.len() >= settings.burst || self.waiting.len() >= WAITING {
            self.suppressed += 1;
            return self.suppressed == 1;
        }
        self.taken.push_back(now);
        call.suppressed = std::mem::take(&mut self.suppressed);
        self.waiting.push_back(call);
        false
    }

    /// What is to run now.
    fn next(&mut self) -> Option<HookCall> {
        if self.running {
            return None;
        }
        let call = self.waiting.pop_front()?;
        self.running = true;
        Some(call)
    }
}

impl Hooks {
    pub fn new(reaper: Reaper, turns: Turns, tasks: TaskTracker, state_dir: PathBuf) -> Self {
        let (lanes, busy, left) = (BTreeMap::new(), TaskTracker::new(), CancellationToken::new());
        Self { reaper, turns, tasks, state_dir, lanes, busy, left }
    }

    /// Leaves those that run to the next daemon, which finds them by their mark.
    pub fn let_go(&self) {
        self.left.cancel();
    }

    /// Some hook runs.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// `record`: as it is kept.
    fn run(&self, hook: Hook, call: HookCall, settings: Settings, record: state::HookCall) {
        let (reaper, turns, busy) = (self.reaper.clone(), self.turns.clone(), self.busy.token());
        let mark = orphans::hook_mark(call.seq, &self.state_dir);
        let left = self.left.clone();
        self.tasks.spawn(left.run_until_cancelled_owned(async move {
            let seq = call.seq;
            let outcome = carry_out(&reaper, &turns, (&call, record), &settings, mark).await;
            let ended = News::Ended { hook, seq, end: outcome.into(), busy };
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Hook(ended)).await;
        }));
    }
}

impl Daemon {
    /// Runs the hook of an event, if it has one.
    pub(in crate::daemon) fn run_hooks(&mut self, event: &Event) {
        let Some(settings) = &self.config.settings.hooks else { return };
        let Some(hook) = hook_of(event).filter(|it| settings.on.contains(it)) else { return };
        let settings = settings.clone();
        let frame = self.publisher.frame();
        let call = call(hook, event, &frame.deck, &frame.host);
        let lane = self.hooks.lanes.entry(hook).or_default();
        let before = lane.waiting.len();
        let is_first_too_many = lane.offer(call, clock::now(), &settings);
        if let Some(call) = lane.waiting.get(before) {
            self.hands.state.append(&Line::Hook(record(hook, call)));
        }
        if is_first_too_many {
            let message = format!(
                "the hook for {} is not run: {} in {} are enough; what follows is counted",
                hook.word(),
                settings.burst,
                format_duration(settings.interval)
            );
            self.note("hook-suppressed", None, message);
        }
        self.next_hook(hook);
    }

    fn next_hook(&mut self, hook: Hook) {
        let Some(settings) = self.config.settings.hooks.clone() else {
            // They are not configured any more: what waits for them waits in vain.
            for call in
                std::mem::take(&mut self.hooks.lanes).into_values().flat_map(|it| it.waiting)
            {
                self.hands.state.append(&Line::Hooked { seq: call.seq });
            }
            return;
        };
        if let Some(call) = self.hooks.lanes.get_mut(&hook).and_then(Lane::next) {
            let (began, timeout) = (millis(clock::now().0), millis(settings.timeout));
            let record = state::HookCall { began, timeout, ..record(hook, &call) };
            self.hands.state.append(&Line::Hook(record.clone()));
            // Before it begins: the next daemon knows how long it has, should this one end.
            self.hands.state.write();
            self.hooks.run(hook, call, settings, record);
        }
    }

    pub(in crate::daemon) fn on_hook(&mut self, news: News) {
        match news {
            News::Began(record) => self.hands.state.append(&Line::Hook(record)),
            News::Ended { hook, seq, end, busy } => {
                self.on_hooked(hook, seq, end);
                drop(busy);
            }
        }
    }

    /// A hook has ended.
    fn on_hooked(&mut self, hook: Hook, seq: u64, end: End) {
        self.hands.state.append(&Line::Hooked { seq });
        if let Some(lane) = self.hooks.lanes.get_mut(&hook) {
            lane.running = false;
        }
        let word = hook.word();
        match end {
            End::Well => (),
            End::Badly(why) => {
                let message = format!("the hook for {word} {why}");
                warn!(hook = word, "{message}");
                self.note("hook-failed", None, message);
            }
            End::Untold => {
                let message = format!(
                    "the hook for {word} that the last daemon has run ended; this kernel does not tell how"
                );
                self.note("hook-ended", None, message);
            }
        }
        self.next_hook(hook);
    }
}

/// What an event is to those who want to be paged.
fn hook_of(event: &Event) -> Option<Hook> {
    match event.kind.as_str() {
        "fatal" => Some(Hook::Fatal),
        "rollout-halted" => Some(Hook::RolloutHalted),
        _ => event.lost.filter(|it| *it > 0).map(|_| Hook::Lost),
    }
}

fn call(hook: Hook, event: &Event, deck: &str, host: &str) -> HookCall {
    HookCall {
        event: hook.word().into(),
        deck: deck.into(),
        host: host.into(),
        at: Some(event.at),
        seq: event.seq,
        service: event.service.clone(),
        instance: event.instance.clone(),
        message: event.message.clone(),
        evidence: event.evidence.clone().unwrap_or_default(),
        lost: event.lost.unwrap_or(0),
        suppressed: 0,
    }
}

/// A call as it is kept while it waits.
fn record(hook: Hook, call: &HookCall) -> state::HookCall {
    let (seq, hook, suppressed) = (call.seq, hook.word().into(), call.suppressed);
    state::HookCall { seq, hook, suppressed, ..state::HookCall::default() }
}

async fn carry_out(
    reaper: &Reaper,
    turns: &Turns,
    (call, record): (&HookCall, state::HookCall),
    settings: &Settings,
    mark: String,
) -> Result<(), String> {
    let program = settings.command.first().map_or("", String::as_str);
    if let Some(trust) = Trust::of_root() {
        trust.command(program, HOOK_PATH).map_err(|it| format!("was not run: {}", it.in_full()))?;
    }
    let input = input(call).map_err(|err| format!("was not run: {err}"))?;
    let environment = [("PATH".to_owned(), HOOK_PATH.to_owned()), (RUN.to_owned(), mark)];
    let command = command::Command {
        argv: &settings.command,
        directory: Some("/".as_ref()),
        environment: &environment,
        switch: None,
        timeout: settings.timeout,
        keep: KEEP,
        leaves_nothing: true,
        outlives: true,
    };
    let unable = |err| format!("could not be run: {err}");
    let begun = command::begin_with_input(reaper, command, &input.path).map_err(unable)?;
    let Identity { pid, start_time } = begun.identity();
    let pipe = begun.pipe().unwrap_or(0);
    let began = News::Began(state::HookCall { pid, start_time, pipe, ..record });
    // The driver is gone only when the daemon ends.
    let _ = turns.send(Turn::Hook(began)).await;
    let ran = begun.end().await.map_err(unable)?;
    runs::verdict(&ran, settings.timeout)
}

/// What a hook reads: in memory, because a full disk may be what it is to tell.
struct Input {
    /// For the hook to open; as long as this lives.
    path: PathBuf,
    _file: std::fs::File,
}

fn input(call: &HookCall) -> std::io::Result<Input> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("opsdeck-hook", flags)?);
    let mut text = serde_json::to_vec(call)?;
    text.push(b'\n');
    file.write_all(&text)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into();
    Ok(Input { path, _file: file })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            command: vec!["page".into()],
            on: [Hook::Lost].into(),
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(60),
            burst: 2,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn numbered(seq: u64) -> HookCall {
        HookCall { seq, ..HookCall::default() }
    }

    #[test]
    fn one_runs_at_a_time_and_what_is_too_much_is_counted() {
        let mut lane = Lane::default();
        let told: Vec<bool> =
            (1..=5).map(|n| lane.offer(numbered(n), at(0), &settings())).collect();
        assert_eq!(told, [false, false, true, false, false]);
        let first = lane.next().unwrap();
        assert_eq!((first.seq, lane.next()), (1, None));
        lane.running = false;
        assert_eq!(lane.next().map(|it| it.seq), Some(2));
        lane.running = false;
        assert_eq!(lane.next(), None);

        assert!(!lane.offer(numbered(6), at(59), &settings()));
        assert!(!lane.offer(numbered(7), at(60), &settings()));
        let next = lane.next().unwrap();
        assert_eq!((next.seq, next.suppressed), (7, 4));
    }

    #[test]
    fn what_a_hook_does_runs_no_hook() {
        let event = |kind: &str, lost| Event {
            seq: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: kind.into(),
            service: None,
            instance: None,
            actor: None,
            message: "it".into(),
            evidence: None,
            lost,
            rollout: None,
            stop: None,
        };
        let hooks = [
            ("fatal", None),
            ("rollout-halted", None),
            ("exited", Some(3)),
            ("exited", None),
            ("hook-failed", None),
            ("hook-suppressed", None),
        ]
        .map(|(kind, lost)| hook_of(&event(kind, lost)));
        let expected =
            [Some(Hook::Fatal), Some(Hook::RolloutHalted), Some(Hook::Lost), None, None, None];
        assert_eq!(hooks, expected);
    }
}
