//! `reload`: sends the profile's signal, and waits until every worker is a new one.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::act;
use super::wait::{self, find};
use super::{Outcome, notice, out, unprinted};
use crate::api::{Act, Change, Deck, Event, Instance, Problem};
use crate::cli::ReloadArgs;
use crate::client::Client;
use crate::exit::Exit;

/// Of what a server wrote last, so many lines.
const WORDS: usize = 3;

type Changes = BoxStream<'static, Result<Change, Problem>>;

/// What was there before the order.
struct Before {
    generation: u64,
    /// The number of its last reload.
    reload: u64,
}

/// How it stands with one instance.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    OnTheWay,
    Renewed(String),
    Failed(String),
}

/// Sends the orders; with `wait` returns when all are renewed, or some will not be.
///
/// # Errors
///
/// As the daemon refuses one; a danger that nobody has confirmed is an exit code.
pub async fn run(client: &Client, args: &ReloadArgs) -> Outcome {
    let act = || Act { guard: !args.yes, ..Act::default() };
    let mut changes: Changes = client.watch().await?.boxed();
    let (mut deck, mut events) = (Deck::default(), vec![]);
    let mut seen = 0;
    if let Some(Ok(change)) = changes.next().await {
        take(&mut deck, &mut events, change);
        seen = events.iter().map(|it| it.seq).max().unwrap_or(0);
    }
    let interrupt = wait::Interrupt::watch()?;
    let mut before = BTreeMap::new();
    for name in &args.names {
        let meant = act::meaning(&deck, name)?;
        let running = act::instances(&deck, &meant).into_keys().filter_map(|it| find(&deck, &it));
        before.extend(running.filter(|it| it.pid.is_some()).map(|it| {
            let reload = it.reload.as_ref().map_or(0, |it| it.number);
            (it.name.clone(), Before { generation: it.generation, reload })
        }));
        if !act::confirmed(client, name, &act::RELOAD.request(meant, act())).await? {
            return Ok(Exit::Confirm);
        }
    }
    if !args.wait.is_wanted() {
        return Ok(Exit::Done);
    }
    let told = act::RELOAD.goes_on(&args.names);
    interrupt.unless(&told, follow(client, changes, (deck, events, seen), &before)).await
}

/// Follows the changes until every one of `before` is renewed, or will not be.
async fn follow(
    client: &Client,
    mut changes: Changes,
    (mut deck, mut events, seen): (Deck, Vec<Event>, u64),
    before: &BTreeMap<String, Before>,
) -> Outcome {
    loop {
        events.retain(|it| it.seq > seen);
        let standings: BTreeMap<&String, Standing> =
            before.iter().map(|(name, it)| (name, standing(&deck, name, it, &events))).collect();
        if !standings.values().any(|it| *it == Standing::OnTheWay) {
            return tell_all(&standings);
        }
        match changes.next().await {
            Some(Ok(change)) => take(&mut deck, &mut events, change),
            Some(Err(_)) | None => {
                let again = wait::again(|| client.watch()).await;
                changes = again.ok_or_else(wait::lost_sight)?.boxed();
            }
        }
    }
}

fn take(deck: &mut Deck, events: &mut Vec<Event>, change: Change) {
    match &change {
        Change::Snapshot { events: told, .. } | Change::Change { events: told, .. } => {
            events.extend(told.iter().cloned());
        }
        Change::Unknown => {}
    }
    deck.follow(change);
}

fn tell_all(standings: &BTreeMap<&String, Standing>) -> Outcome {
    let mut exit = Exit::Done;
    for (name, standing) in standings {
        match standing {
            Standing::Failed(why) => {
                let mut lines = why.lines().map(super::safe);
                notice(&format!("opsdeck: {name}: {}", lines.next().unwrap_or_default()));
                lines.for_each(|it| notice(&format!("  {it}")));
                exit = Exit::Failed;
            }
            Standing::Renewed(told) => {
                let line = format!("{name}: {}\n", super::printable(told));
                out(&line).map_err(|err| unprinted(&err))?;
            }
            Standing::OnTheWay => {}
        }
    }
    Ok(exit)
}

fn standing(deck: &Deck, name: &str, before: &Before, events: &[Event]) -> Standing {
    let Some(it) = find(deck, name) else {
        return Standing::Failed("it is no longer configured".into());
    };
    let with_words = |why: String| Standing::Failed(why + &last_words(name, events));
    if it.generation > before.generation {
        let ended = failure(name, events).map(|it| it.message.clone());
        return with_words(ended.unwrap_or_else(|| "it was started anew meanwhile".into()));
    }
    if it.pid.is_none() {
        return with_words(format!("it ended meanwhile: {}", it.why));
    }
    let reload = it.reload.as_ref().filter(|it| it.number > before.reload);
    match reload {
        Some(reload) if reload.ended.is_some() && reload.complete => {
            Standing::Renewed(reload.told.clone())
        }
        Some(reload) if reload.ended.is_some() => with_words(reload.told.clone()),
        Some(_) => Standing::OnTheWay,
        None => not_begun(it, events),
    }
}

/// How its reload failed.
fn failure<'e>(name: &str, events: &'e [Event]) -> Option<&'e Event> {
    let is_its =
        |it: &&Event| it.kind == "reload-incomplete" && it.instance.as_deref() == Some(name);
    events.iter().rev().find(is_its)
}

/// What the server wrote last, where that is known.
fn last_words(name: &str, events: &[Event]) -> String {
    let lines = failure(name, events).and_then(|it| it.evidence.as_deref()).unwrap_or_default();
    let last = lines.iter().skip(lines.len().saturating_sub(WORDS));
    last.map(|it| format!("\n{}", it.trim_end())).collect()
}

/// It waits for its turn, unless the wave of signals has come to its end without it.
fn not_begun(it: &Instance, events: &[Event]) -> Standing {
    let ended = |event: &&Event| {
        let kinds = ["signal-halted", "signal-finished"];
        let about = event.service.as_deref() == Some(&it.service) && event.instance.is_none();
        let skipped = event.kind == "signal-skipped" && event.instance.as_deref() == Some(&it.name);
        about && kinds.contains(&event.kind.as_str()) || skipped
    };
    match events.iter().find(ended) {
        Some(event) => Standing::Failed(format!("it was not reloaded: {}", event.message)),
        None => Standing::OnTheWay,
    }
}
