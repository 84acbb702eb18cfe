//! `opsdeck report`: a rollout as a post-mortem in Markdown.
//!
//! [`text`] is a pure function of the record. What services and operators wrote is quoted so that it
//! stays text: in fences longer than any of its own, or with its punctuation escaped.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Outcome, json_line, local, out, safe, unprinted};
use crate::api::{Actor, Problem, RolloutRecord, RolloutStep, took_ms};
use crate::cli::ReportArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::quantity::took;

/// The parts of a step, in order.
const PHASES: [&str; 6] = ["build", "draining", "stopping", "starting", "readiness", "settle"];

pub async fn run(client: &Client, args: &ReportArgs) -> Outcome {
    let record = client.rollout(&args.service).await?;
    let text = if args.json {
        json_line(&record, "the record")?
    } else {
        let deck = client.brief().await?;
        let now = deck.now.ok_or_else(older_release)?;
        text(&record, &deck.deck, now, &TimeZone::system())
    };
    out(&text).map_err(|err| unprinted(&err))?;
    Ok(Exit::Done)
}

fn older_release() -> Problem {
    local("the report was not written", "the daemon does not say what time it is")
}

/// The whole report. `now` is the end of what still runs.
pub fn text(record: &RolloutRecord, deck: &str, now: Timestamp, zone: &TimeZone) -> String {
    let what = if record.rollback { "Rollback" } else { "Rolling restart" };
    let outcome = escaped(&record.outcome);
    let mut text =
        format!("# {what} of {} on {}: {outcome}\n\n", escaped(&record.service), escaped(deck));
    summary(&mut text, record, now, zone);
    steps(&mut text, record, now, zone);
    requests(&mut text, record);
    evidence(&mut text, record);
    untouched(&mut text, record);
    next(&mut text, record);
    text
}

fn summary(text: &mut String, record: &RolloutRecord, now: Timestamp, zone: &TimeZone) {
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "- **{name}**: {value}");
    };
    line("Started by", person(&record.by));
    line("Began", moment(record.began, zone));
    let took = took_ms(record.began, record.ended, now).map_or("?".into(), length);
    line(
        "Ended",
        match record.ended {
            Some(_) => format!("{}, after {took}", moment(record.ended, zone)),
            None => format!("not yet, after {took}"),
        },
    );
    if let Some(by) = record.aborted_by.as_ref().filter(|_| record.outcome == "aborted") {
        line("Aborted by", person(by));
    }
    let renewed = of_outcome(record, "renewed").count();
    let planned = record.plan.iter().filter(|it| record.spare.as_ref() != Some(it)).count();
    let of = planned.max(renewed);
    line("Renewed", format!("{renewed} of {of}"));
    if let Some(why) = &record.halted {
        line("Halted", escaped(why));
    }
    for (name, value) in &record.set {
        line("Value", format!("{} = {}", escaped(name), escaped(value)));
    }
    for note in &record.notes {
        line(&moment(note.at, zone), escaped(&note.message));
    }
}

/// Instances that took this end, without the spare.
fn of_outcome<'r>(
    record: &'r RolloutRecord,
    outcome: &'r str,
) -> impl Iterator<Item = &'r RolloutStep> {
    let is_spare = |it: &RolloutStep| record.spare.as_ref() == Some(&it.instance);
    record.steps.iter().filter(move |it| it.outcome == outcome && !is_spare(it))
}

fn steps(text: &mut String, record: &RolloutRecord, now: Timestamp, zone: &TimeZone) {
    text.push_str("\n## Steps\n\n");
    if record.steps.is_empty() {
        text.push_str("None was begun.\n");
        return;
    }
    let head = ["instance", "outcome", "began", "took"].into_iter().chain(PHASES);
    let head: Vec<_> = head.chain(["lost"]).collect();
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    for step in &record.steps {
        let spare = record.spare.as_ref() == Some(&step.instance);
        let mut cells = vec![
            escaped(&step.instance) + if spare { " (spare)" } else { "" },
            escaped(&step.outcome),
            clock(step.began, zone),
            step.took_ms(now).map_or("?".into(), length),
        ];
        cells.extend(PHASES.iter().map(|name| {
            let of_it = step.phases.iter().filter(|it| it.name == *name);
            let took: Option<u64> = of_it.map(|it| it.took_ms(now)).sum();
            took.filter(|it| *it > 0).map_or("-".into(), length)
        }));
        cells.push(step.lost.to_string());
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

fn requests(text: &mut String, record: &RolloutRecord) {
    text.push_str("\n## Requests\n\n");
    match record.counted {
        Some(it) => {
            let _ = writeln!(
                text,
                "The gateway passed on {} requests meanwhile: {} were cut, {} retried on another \
                 instance, {} held until one was ready, {} answered by the gateway itself (502, 503, 504).",
                it.requests, it.cut, it.retried, it.held, it.made
            );
        }
        None if record.is_under_way() => text.push_str("They are summed up when it has ended.\n"),
        None => text.push_str("No gateway counted them from the beginning to the end.\n"),
    }
    if record.steps.iter().any(|it| it.exit.is_some()) {
        text.push('\n');
    }
    for (step, exit) in record.steps.iter().filter_map(|it| Some((it, it.exit.as_ref()?))) {
        let _ = writeln!(text, "- {}: {}", escaped(&step.instance), escaped(exit));
    }
}

fn evidence(text: &mut String, record: &RolloutRecord) {
    if record.evidence.is_empty() {
        return;
    }
    let lines: Vec<String> = record.evidence.iter().map(|it| safe(it)).collect();
    let fence = "`".repeat(longest_run(&lines).max(2) + 1);
    let _ = writeln!(text, "\n## Evidence\n\n{fence}text\n{}\n{fence}", lines.join("\n"));
}

/// The longest run of backticks: a fence has to be longer (CommonMark 0.31 §4.5).
fn longest_run(lines: &[String]) -> usize {
    let runs = lines.iter().flat_map(|it| it.split(|c| c != '`')).map(str::len);
    runs.max().unwrap_or(0)
}

fn untouched(text: &mut String, record: &RolloutRecord) {
    let spare = |it: &&str| record.spare.as_deref() == Some(*it);
    let names: Vec<_> = record.untouched().filter(|it| !spare(it)).map(escaped).collect();
    if !names.is_empty() && !record.is_under_way() {
        let _ = writeln!(
            text,
            "\n## Not touched\n\n{}: what ran before this rollout runs on.",
            names.join(", ")
        );
    }
}

fn next(text: &mut String, record: &RolloutRecord) {
    let name = escaped(&record.service);
    text.push_str("\n## What to do next\n\n");
    let failed = record.steps.iter().find(|it| it.outcome == "failed");
    match record.outcome.as_str() {
        "done" => text.push_str("Nothing: every instance is renewed.\n"),
        "halted" => {
            if let Some(step) = failed {
                let failed = escaped(&step.instance);
                let _ = writeln!(
                    text,
                    "- `opsdeck why {failed}` says what it is at now, `opsdeck logs {failed}` what it wrote."
                );
            }
            let _ = writeln!(
                text,
                "- Once the cause is mended: `opsdeck roll {name}`; instances that are not ready come first."
            );
            let _ = writeln!(
                text,
                "- To go back: `opsdeck roll --rollback {name}`, where `rollback` commands are configured."
            );
        }
        "aborted" => {
            let _ = writeln!(
                text,
                "- `opsdeck roll {name}` renews every instance, also those that are new already."
            );
        }
        _ => {
            let _ =
                writeln!(text, "It is not over: `opsdeck events -f --service {name}` follows it.");
        }
    }
}

fn person(it: &Actor) -> String {
    let from = it.ssh.as_deref().and_then(|it| it.split(' ').next());
    let from = from.map_or(String::new(), |it| format!(", from {}", escaped(it)));
    format!("{} (uid {}{from})", escaped(&it.login), it.uid)
}

fn moment(at: Option<Timestamp>, zone: &TimeZone) -> String {
    let zoned = at.map(|it| it.to_zoned(zone.clone()));
    zoned.map_or("?".into(), |it| it.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}

fn clock(at: Option<Timestamp>, zone: &TimeZone) -> String {
    let zoned = at.map(|it| it.to_zoned(zone.clone()));
    zoned.map_or("?".into(), |it| it.strftime("%H:%M:%S").to_string())
}

fn length(ms: u64) -> String {
    took(Duration::from_millis(ms))
}

/// Text that is nothing but text in Markdown: a backslash before all punctuation that could mean
/// something (CommonMark 0.31 §2.4), no control characters, one line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in safe(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Counted, RolloutPhase};

    fn at(seconds: i64) -> Option<Timestamp> {
        Timestamp::from_second(1_796_000_000 + seconds).ok()
    }

    fn step(instance: &str, outcome: &str, from: i64, to: i64) -> RolloutStep {
        let phase = |name: &str, began: i64, ended: i64| RolloutPhase {
            name: name.into(),
            began: at(began),
            ended: at(ended),
        };
        RolloutStep {
            instance: instance.into(),
            outcome: outcome.into(),
            began: at(from),
            ended: at(to),
            phases: vec![phase("draining", from, from + 2), phase("readiness", from + 2, to)],
            exit: Some("exited with code 0 after SIGTERM".into()),
            lost: 0,
        }
    }

    fn halted() -> RolloutRecord {
        RolloutRecord {
            service: "web".into(),
            by: Actor {
                uid: 1000,
                login: "alice".into(),
                pid: 7,
                ssh: Some("10.0.0.9 51022 10.0.0.1 22".into()),
            },
            began: at(0),
            ended: at(75),
            outcome: "halted".into(),
            halted: Some("web2 was not ready within 60s: status 500 | *no* `such` table".into()),
            set: [("version".to_owned(), "43".to_owned())].into(),
            plan: vec!["web1".into(), "web2".into(), "web3".into()],
            steps: vec![step("web1", "renewed", 0, 12), step("web2", "failed", 12, 75)],
            evidence: vec![
                "readiness probe: 500 \u{1b}[31m````".into(),
                "last exit: SIGTERM".into(),
            ],
            counted: Some(Counted { requests: 812, retried: 2, ..Counted::default() }),
            ..RolloutRecord::default()
        }
    }

    #[test]
    fn a_halt_is_told_from_its_beginning_to_what_to_do_next() {
        let text = text(&halted(), "shop", at(100).unwrap(), &TimeZone::UTC);
        insta::assert_snapshot!(text, @r"
        # Rolling restart of web on shop: halted

        - **Started by**: alice (uid 1000, from 10.0.0.9)
        - **Began**: 2026-11-30 00:53:20 UTC
        - **Ended**: 2026-11-30 00:54:35 UTC, after 1m15s
        - **Renewed**: 1 of 3
        - **Halted**: web2 was not ready within 60s: status 500 \| \*no\* \`such\` table
        - **Value**: version = 43

        ## Steps

        | instance | outcome | began | took | build | draining | stopping | starting | readiness | settle | lost |
        |---|---|---|---|---|---|---|---|---|---|---|
        | web1 | renewed | 00:53:20 | 12.0s | - | 2.0s | - | - | 10.0s | - | 0 |
        | web2 | failed | 00:53:32 | 1m03s | - | 2.0s | - | - | 1m01s | - | 0 |

        ## Requests

        The gateway passed on 812 requests meanwhile: 0 were cut, 2 retried on another instance, 0 held until one was ready, 0 answered by the gateway itself (502, 503, 504).

        - web1: exited with code 0 after SIGTERM
        - web2: exited with code 0 after SIGTERM

        ## Evidence

        `````text
        readiness probe: 500 ````
        last exit: SIGTERM
        `````

        ## Not touched

        web3: what ran before this rollout runs on.

        ## What to do next

        - `opsdeck why web2` says what it is at now, `opsdeck logs web2` what it wrote.
        - Once the cause is mended: `opsdeck roll web`; instances that are not ready come first.
        - To go back: `opsdeck roll --rollback web`, where `rollback` commands are configured.
        ");
    }

    #[test]
    fn one_that_runs_says_so_and_one_that_is_done_wants_nothing() {
        let done = RolloutRecord { outcome: "done".into(), halted: None, ..halted() };
        let told = text(&done, "shop", at(100).unwrap(), &TimeZone::UTC);
        assert!(told.contains("Nothing: every instance is renewed"), "{told}");
        let runs =
            RolloutRecord { ended: None, outcome: "running".into(), halted: None, ..halted() };
        let told = text(&runs, "shop", at(100).unwrap(), &TimeZone::UTC);
        assert!(told.contains("not yet, after 1m40s") && told.contains("It is not over"), "{told}");
        assert!(!told.contains("Not touched"), "{told}");
    }
}
