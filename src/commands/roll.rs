//! `opsdeck roll`: a rolling restart with its progress, and the orders to one that runs.

use std::collections::BTreeMap;
use std::fmt::Write;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::wait::{self, Interrupt};
use super::{Outcome, json_line, local, notice, out, printable, safe, unprinted};
use crate::api::{
    Act, Change, Deck, Event, Plan, PlanStep, Problem, Request, Rollout, RolloutVerb, ServiceVerb,
    problem,
};
use crate::cli::RollArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::quantity::count;

pub async fn run(client: &Client, args: &RollArgs) -> Outcome {
    let verb = match (args.abort, args.pause, args.resume, args.rollback) {
        (true, ..) => Some(RolloutVerb::Abort),
        (_, true, ..) => Some(RolloutVerb::Pause),
        (_, _, true, _) => Some(RolloutVerb::Resume),
        (_, _, _, true) => Some(RolloutVerb::Rollback),
        _ => None,
    };
    match verb {
        Some(verb) => steer(client, args, verb).await,
        None if args.dry_run => dry_run(client, args).await,
        None => roll(client, args).await,
    }
}

async fn steer(client: &Client, args: &RollArgs, verb: RolloutVerb) -> Outcome {
    if verb == RolloutVerb::Rollback
        && !args.yes
        && undoes_what_is_well(client, &args.service).await?
    {
        notice(&format!(
            "opsdeck: {0}: the last rolling restart of {0} has not halted",
            args.service
        ));
        notice("  help: to take back what it brought all the same, say it again with `--yes`");
        return Ok(Exit::Confirm);
    }
    let waits = verb == RolloutVerb::Rollback && args.wait.is_wanted();
    let interrupt = Interrupt::watch()?;
    let changes = if waits { Some(client.watch().await?.boxed()) } else { None };
    let done = client.send(&Request::Rollout { service: args.service.clone(), verb }).await?;
    let told = Told(args.json);
    told.say(&done.message)?;
    let exit = match changes {
        Some(changes) => {
            let followed = follow(client, changes, &args.service, done.revision, told);
            interrupt.unless(&goes_on("rollback", &args.service), followed).await?
        }
        None => Exit::Done,
    };
    conclude(client, args, exit).await
}

/// What to say to whoever stops waiting.
fn goes_on(what: &str, service: &str) -> String {
    format!("the {what} goes on; `opsdeck roll --abort {service}` ends it")
}

/// With `--json` the result is the record of the rollout, as `report --json` prints it.
async fn conclude(client: &Client, args: &RollArgs, exit: Exit) -> Outcome {
    if args.json && exit != Exit::Interrupted {
        let record = client.rollout(&args.service).await?;
        out(&json_line(&record, "the record")?).map_err(|err| unprinted(&err))?;
    }
    Ok(exit)
}

/// Where the progress goes: to stderr, if the result is JSON.
#[derive(Clone, Copy)]
struct Told(bool);

impl Told {
    fn say(self, message: &str) -> Result<(), Problem> {
        if self.0 {
            notice(&safe(message));
            return Ok(());
        }
        out(&format!("{}\n", printable(message))).map_err(|err| unprinted(&err))
    }
}

/// A rollback where nothing went wrong takes a release back that may be healthy. Where there is nothing that could be
/// rolled back, the daemon says so.
async fn undoes_what_is_well(client: &Client, service: &str) -> Result<bool, Problem> {
    let deck = client.deck().await?;
    let found = wait::find_service(&deck, service);
    Ok(found.is_some_and(|it| it.can_roll_back && it.rollout.is_some() && it.is_well_rolled()))
}

fn request(args: &RollArgs) -> (Act, String) {
    let set: BTreeMap<_, _> = args.set.iter().cloned().collect();
    (Act { set, dry_run: args.dry_run, guard: !args.yes, ..Act::default() }, args.service.clone())
}

async fn dry_run(client: &Client, args: &RollArgs) -> Outcome {
    let plan = plan(client, args).await?;
    let text = if args.json { json_line(&plan, "the plan")? } else { plan_text(&plan) };
    out(&text).map_err(|err| unprinted(&err))?;
    Ok(if plan.blocked.is_some() { Exit::Failed } else { Exit::Done })
}

async fn plan(client: &Client, args: &RollArgs) -> Result<Plan, Problem> {
    if args.set.is_empty() {
        // Who may only look may know this as well.
        return client.plan(&args.service).await;
    }
    let (act, name) = request(args);
    let act = Act { dry_run: true, ..act };
    let done = client.send(&Request::Service { name, verb: ServiceVerb::Roll, act }).await?;
    done.plan.ok_or_else(|| local("the daemon sent no plan", "is it an older release?"))
}

async fn roll(client: &Client, args: &RollArgs) -> Outcome {
    // Subscribed first: nothing that happens after the order can be missed.
    let changes = client.watch().await?.boxed();
    let interrupt = Interrupt::watch()?;
    let (act, name) = request(args);
    match client.send(&Request::Service { name, verb: ServiceVerb::Roll, act }).await {
        Ok(done) => {
            let told = Told(args.json);
            told.say(&done.message)?;
            if !args.wait.is_wanted() {
                return conclude(client, args, Exit::Done).await;
            }
            let followed = follow(client, changes, &args.service, done.revision, told);
            let goes_on = goes_on("rolling restart", &args.service);
            let exit = interrupt.unless(&goes_on, followed).await?;
            conclude(client, args, exit).await
        }
        Err(refusal) if refusal.kind == problem::CONFIRM => {
            notice(&format!("opsdeck: {}: {}", args.service, safe(&refusal.detail)));
            notice("  help: say it again with `--yes`");
            Ok(Exit::Confirm)
        }
        Err(problem) => Err(problem),
    }
}

/// Prints the service's events until its rollout has ended, and says how it ended.
async fn follow(
    client: &Client,
    mut changes: BoxStream<'static, Result<Change, Problem>>,
    service: &str,
    mut begun_at: u64,
    told: Told,
) -> Outcome {
    let mut deck = Deck::default();
    let (mut begun, mut anew) = (0, false);
    loop {
        let Some(Ok(change)) = changes.next().await else {
            // However the connection broke: another program goes on with the rollout, or the daemon is gone.
            let next = wait::again(|| client.watch()).await;
            changes = next.ok_or_else(|| ended_with_the_daemon(service))?.boxed();
            // It counts its revisions from the beginning, and what it shows comes after the order.
            (begun_at, anew) = (0, true);
            continue;
        };
        if let Change::Change { events, revision, .. } = &change {
            let of_later = events.iter().filter(|_| *revision > begun_at);
            begun += of_later.filter(|it| begins(it, service)).count();
            for event in events {
                let of_it = event.service.as_deref() == Some(service)
                    || event.instance.as_deref().is_some_and(|it| belongs(&deck, service, it));
                if of_it {
                    let who = event.instance.as_deref().unwrap_or(service);
                    told.say(&format!("{who:10} {}", event.message))?;
                    for line in event.evidence.iter().flatten() {
                        told.say(&format!("{:10}   {line}", ""))?;
                    }
                }
            }
        }
        deck.follow(change);
        if deck.revision <= begun_at {
            continue;
        }
        let Some(it) = wait::find_service(&deck, service) else {
            return Err(local(format!("{service} was taken out of the configuration"), ""));
        };
        let Some(rollout) = &it.rollout else {
            // It has ended in between, and nobody remembers how.
            if anew {
                return Err(ended_with_the_daemon(service));
            }
            continue;
        };
        if begun > 1 {
            notice(&format!("opsdeck: {service}: {} began another one in its place", rollout.by));
            return Ok(Exit::Failed);
        }
        if let Some(exit) = ended(rollout) {
            // What was said meanwhile was not heard.
            if let Some(why) = rollout.halted.as_ref().filter(|_| anew) {
                notice(&format!("opsdeck: the rolling restart of {service} halted: {}", safe(why)));
            }
            return Ok(exit);
        }
    }
}

fn ended_with_the_daemon(service: &str) -> Problem {
    local(
        format!("the daemon ended before the rolling restart of {service} did"),
        "the services run on, renewed as far as it came; roll again once the daemon is back",
    )
}

fn begins(event: &Event, service: &str) -> bool {
    event.kind == "rollout-started" && event.service.as_deref() == Some(service)
}

fn belongs(deck: &Deck, service: &str, instance: &str) -> bool {
    wait::find_service(deck, service)
        .is_some_and(|it| it.instances.iter().any(|it| it.name == instance))
}

fn ended(rollout: &Rollout) -> Option<Exit> {
    rollout.ended?;
    Some(match rollout.step.as_str() {
        "done" => Exit::Done,
        _ => Exit::Failed,
    })
}

/// Why it has its turn, and whether it is ready where that does not say so.
fn reason(step: &PlanStep) -> String {
    match step.because.as_str() {
        because @ ("spare" | "not ready") => because.into(),
        because if step.ready => format!("{because}, ready"),
        because => format!("{because}, not ready"),
    }
}

/// The plan, step by step.
fn plan_text(plan: &Plan) -> String {
    let instances = plan.steps.iter().filter(|it| it.because != "spare").count();
    let mut text = format!(
        "rolling restart of {}: {}, at least {} stay ready\n",
        plan.service,
        count(instances as u64, "instance"),
        plan.min_ready
    );
    for (n, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{:3}. {}  ({})", n + 1, step.instance, reason(step));
        for command in &step.build {
            let _ = writeln!(text, "       build: {}", printable(command));
        }
        let wait = seconds(step.max_wait_time_ms);
        let ready = seconds(step.ready_timeout_ms);
        let _ = match step.because.as_str() {
            "spare" => writeln!(
                text,
                "       started first, ready within {ready}; drained and stopped in the end, within {wait}"
            ),
            _ => writeln!(text, "       drain and stop within {wait}, ready within {ready}"),
        };
        for verdict in &step.verdicts {
            let _ = writeln!(text, "       {}", printable(verdict));
        }
        if let Some(expected) = step.expected_ms {
            let _ = writeln!(text, "       expected: {}", seconds(expected));
        }
    }
    if let Some(expected) = plan.expected_ms {
        let _ = writeln!(text, "expected in all: {}", seconds(expected));
    }
    for (word, what) in [("downtime", &plan.downtime), ("blocked", &plan.blocked)] {
        if let Some(what) = what {
            let _ = writeln!(text, "{word}: {}", printable(what));
        }
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_once_that_one_is_not_ready() {
        let step = |instance: &str, because: &str, ready| PlanStep {
            instance: instance.into(),
            because: because.into(),
            ready,
            ..PlanStep::default()
        };
        let steps = vec![
            step("web-surge", "spare", false),
            step("web3", "not ready", false),
            step("web2", "out of rotation", true),
            step("web1", "primary", true),
        ];
        let plan = Plan { service: "web".into(), steps, ..Plan::default() };
        let text = plan_text(&plan);
        let heads: Vec<&str> = text.lines().filter(|it| it.contains(". ")).collect();
        assert_eq!(
            heads,
            [
                "  1. web-surge  (spare)",
                "  2. web3  (not ready)",
                "  3. web2  (out of rotation, ready)",
                "  4. web1  (primary, ready)",
            ]
        );
    }
}
