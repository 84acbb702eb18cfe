//! The reloads of a generation, as they stand in the state file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{by, moment};
use crate::api::Actor;
use crate::daemon::clock::millis;
use crate::daemon::show::publish::actor;
use crate::fleet::memory;
use crate::fleet::{Process, Signal};

/// Of the generation that runs; a later one has none of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reloads {
    generation: u64,
    number: u64,
    /// Processes are pids and start times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spared: Vec<(i32, u64)>,
    last: Reload,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Reload {
    by: Actor,
    signal: i32,
    since: u64,
    before: Option<Vec<(i32, u64)>>,
    /// With the time that each took, in milliseconds.
    gone: Vec<(i32, u64, u64)>,
    fresh: usize,
    most_fresh: usize,
    moved: u64,
    bare: bool,
    untitled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Ended {
    at: u64,
    whole: bool,
    told: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stayed: Vec<(i32, u64)>,
}

fn kept(all: &[Process]) -> Vec<(i32, u64)> {
    all.iter().map(|it| (it.pid, it.start_time)).collect()
}

fn processes(all: Vec<(i32, u64)>) -> Vec<Process> {
    all.into_iter().map(|(pid, start_time)| Process { pid, start_time }).collect()
}

impl From<&memory::Reloads> for Reloads {
    fn from(it: &memory::Reloads) -> Self {
        let last = &it.last;
        let gone = last.gone.iter().map(|(it, took)| (it.pid, it.start_time, millis(*took)));
        let ended = last.ended.as_ref().map(|it| Ended {
            at: millis(it.at.0),
            whole: it.whole,
            told: it.told.clone(),
            stayed: kept(&it.stayed),
        });
        Self {
            generation: it.generation,
            number: it.number,
            spared: kept(&it.spared),
            last: Reload {
                by: actor(&last.by),
                signal: last.signal.0,
                since: millis(last.since.0),
                before: last.before.as_deref().map(kept),
                gone: gone.collect(),
                fresh: last.fresh,
                most_fresh: last.most_fresh,
                moved: millis(last.moved.0),
                bare: last.bare,
                untitled: last.untitled,
                ended,
            },
        }
    }
}

impl From<Reloads> for memory::Reloads {
    fn from(it: Reloads) -> Self {
        let last = it.last;
        let gone = |(pid, start_time, took): (i32, u64, u64)| {
            (Process { pid, start_time }, Duration::from_millis(took))
        };
        let ended = |it: Ended| memory::ReloadEnded {
            at: moment(it.at),
            whole: it.whole,
            told: it.told,
            stayed: processes(it.stayed),
        };
        Self {
            generation: it.generation,
            number: it.number,
            spared: processes(it.spared),
            last: memory::Reload {
                by: by(last.by),
                signal: Signal(last.signal),
                since: moment(last.since),
                before: last.before.map(processes),
                gone: last.gone.into_iter().map(gone).collect(),
                fresh: last.fresh,
                most_fresh: last.most_fresh,
                moved: moment(last.moved),
                // Nobody saw meanwhile who came and went.
                seen: vec![],
                fallen: 0,
                bare: last.bare,
                untitled: last.untitled,
                ended: last.ended.map(ended),
            },
        }
    }
}
