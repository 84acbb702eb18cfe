//! The rollout page of one service: what ran last or runs, and what the next one would do.

use std::time::Duration;

use jiff::Timestamp;

use super::ansi;
use crate::api::{Plan, PlanStep, RolloutRecord, RolloutStep};

/// The page. What it shows is the daemon's; it is asked again whenever something happened to the service.
#[derive(Debug)]
pub struct RolloutPage {
    pub service: String,
    /// `None` until the daemon has answered; `Some(None)`: there was no rollout.
    pub record: Option<Option<RolloutRecord>>,
    pub plan: Option<Plan>,
    /// Why there is no plan to show.
    pub problem: Option<String>,
    /// The row under the cursor; `None` follows the rollout.
    pub selected: Option<RowKey>,
    /// The first line that is shown; `None` keeps the cursor on the screen.
    pub top: Option<usize>,
    /// When the daemon was asked last.
    pub asked: Option<Duration>,
    /// What is shown may be old.
    pub stale: bool,
}

/// Tells one row from the others, also when rows come and go around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// Of the rollout that ran or runs; otherwise of the next one.
    pub ran: bool,
    pub instance: String,
    /// How many rows of this instance stand above it.
    pub nth: usize,
}

/// One instance, in the rollout that ran or in the next one.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub key: RowKey,
    /// `None`: not begun.
    pub step: Option<&'a RolloutStep>,
    pub plan: Option<&'a PlanStep>,
}

impl RolloutPage {
    pub fn new(service: String) -> Self {
        Self {
            service,
            record: None,
            plan: None,
            problem: None,
            selected: None,
            top: None,
            asked: None,
            stale: true,
        }
    }

    pub fn known(&self) -> Option<&RolloutRecord> {
        self.record.as_ref()?.as_ref()
    }

    pub fn is_under_way(&self) -> bool {
        self.known().is_some_and(RolloutRecord::is_under_way)
    }

    /// The rows in the order in which they are drawn: those of the last rollout, then those of the next.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = vec![];
        let plan = self.plan.as_ref().map_or(&[][..], |it| &it.steps);
        let planned = |name: &str| plan.iter().find(|it| it.instance == name);
        if let Some(record) = self.known() {
            for step in &record.steps {
                push(&mut rows, true, &step.instance, Some(step), planned(&step.instance));
            }
            for name in record.untouched() {
                push(&mut rows, true, name, None, planned(name));
            }
        }
        if !self.is_under_way() {
            for step in plan {
                push(&mut rows, false, &step.instance, None, Some(step));
            }
        }
        rows
    }

    /// The row under the cursor: the chosen one, or else the one that runs, or that failed.
    pub fn cursor(&self, rows: &[Row<'_>]) -> usize {
        let chosen =
            self.selected.as_ref().and_then(|it| rows.iter().position(|row| row.key == *it));
        let of = |outcome: &str| {
            rows.iter().rposition(|it| it.step.is_some_and(|step| step.outcome == outcome))
        };
        chosen.or_else(|| of("running")).or_else(|| of("failed")).unwrap_or(0)
    }

    /// What the log of the row under the cursor is opened at: its name, and when its step began.
    pub fn log_place(&self) -> Option<(String, Option<Timestamp>)> {
        let rows = self.rows();
        let row = rows.get(self.cursor(&rows))?;
        Some((row.key.instance.clone(), row.step.and_then(|it| it.began)))
    }
}

fn push<'a>(
    rows: &mut Vec<Row<'a>>,
    ran: bool,
    instance: &str,
    step: Option<&'a RolloutStep>,
    plan: Option<&'a PlanStep>,
) {
    let same = |it: &&Row<'_>| it.key.ran == ran && it.key.instance == instance;
    let nth = rows.iter().filter(same).count();
    let key = RowKey { ran, instance: instance.to_owned(), nth };
    rows.push(Row { key, step, plan });
}

/// Whatever of it was written by others is safe to draw afterwards.
pub fn clean_record(record: &mut RolloutRecord) {
    let safe = |text: &mut String| *text = ansi::clean(text).into_owned();
    [&mut record.service, &mut record.outcome, &mut record.by.login].into_iter().for_each(safe);
    record.halted.iter_mut().chain(&mut record.spare).for_each(safe);
    record.evidence.iter_mut().chain(&mut record.plan).for_each(safe);
    record.aborted_by.iter_mut().for_each(|it| safe(&mut it.login));
    record.notes.iter_mut().for_each(|it| safe(&mut it.message));
    record.set = std::mem::take(&mut record.set)
        .into_iter()
        .map(|(name, value)| (ansi::clean(&name).into_owned(), ansi::clean(&value).into_owned()))
        .collect();
    for step in &mut record.steps {
        [&mut step.instance, &mut step.outcome].into_iter().for_each(safe);
        step.exit.iter_mut().for_each(safe);
        step.phases.iter_mut().for_each(|it| safe(&mut it.name));
    }
}

/// The same of a plan.
pub fn clean_plan(plan: &mut Plan) {
    let safe = |text: &mut String| *text = ansi::clean(text).into_owned();
    plan.downtime.iter_mut().chain(&mut plan.blocked).for_each(safe);
    for step in &mut plan.steps {
        [&mut step.instance, &mut step.because].into_iter().for_each(safe);
        step.build.iter_mut().chain(&mut step.verdicts).for_each(safe);
    }
}
