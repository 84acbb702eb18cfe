//! `opsdeck events` and `opsdeck why`.

use std::pin::pin;

use futures_util::StreamExt;

use super::wait;
use super::{Outcome, json_line, local, notice, out, out_more, printable, safe, unprinted};
use crate::api::{EVENT_KINDS, Event, Problem, problem};
use crate::cli::EventsArgs;
use crate::client::{Client, EventQuery};
use crate::exit::Exit;
use crate::nearest::alike;

/// Events when nothing else is asked for.
const DEFAULT_LINES: usize = 100;

pub async fn run(client: &Client, args: &EventsArgs) -> Outcome {
    let mut query = EventQuery {
        follow: args.follow,
        lines: args.lines.or(args.since.is_none().then_some(DEFAULT_LINES)),
        since: args.since.clone(),
        until: args.until.clone(),
        after: None,
        before: None,
        service: args.service.clone(),
        actor: args.actor.clone(),
        kind: args.kind.clone(),
        text: None,
    };
    are_known(client, args).await?;
    let mut events = client.events(&query).await?.boxed();
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                query.after = Some(event.seq);
                let text = if args.json { json_line(&event, "an event")? } else { plain(&event) };
                if !out_more(&text).map_err(|err| unprinted(&err))? {
                    return Ok(Exit::Done);
                }
            }
            _ if args.follow => {
                // Another program may be the daemon in a moment; what happened meanwhile is asked for.
                query.lines = args.lines.filter(|it| *it == 0 && query.after.is_none());
                query.since.take_if(|_| query.after.is_some());
                match wait::again(|| client.events(&query)).await {
                    Some(next) => events = next.boxed(),
                    None => return Err(wait::ended()),
                }
            }
            end => return end.transpose().map(|_| Exit::Done),
        }
    }
}

/// Names that this deck has not, and that its journal does not know either: a service that was taken out
/// of the configuration is still told of.
async fn are_known(client: &Client, args: &EventsArgs) -> Result<(), Problem> {
    let mentioned = async |query: EventQuery| {
        let query = EventQuery { lines: Some(1), ..query };
        Ok::<_, Problem>(pin!(client.events(&query).await?).next().await.is_some())
    };
    if let Some(name) = &args.service {
        let deck = client.brief().await?;
        let service = Some(name.clone());
        if !super::status::is_there(&deck, name)
            && !mentioned(EventQuery { service, ..EventQuery::default() }).await?
        {
            return Err(super::act::unknown(&deck, name));
        }
    }
    if let Some(kind) = args.kind.as_ref().filter(|it| !EVENT_KINDS.iter().any(|k| k.contains(*it)))
    {
        let of_kind = EventQuery { kind: Some(kind.clone()), ..EventQuery::default() };
        if !mentioned(of_kind).await? {
            return Err(no_kind(kind));
        }
    }
    if let Some(actor) = &args.actor {
        let of_actor = EventQuery { actor: Some(actor.clone()), ..EventQuery::default() };
        if !mentioned(of_actor).await? {
            notice(&format!("opsdeck: the journal knows of nothing that `{}` did", safe(actor)));
        }
    }
    Ok(())
}

/// The problem of a kind that there is not, with those that are written much like it.
fn no_kind(kind: &str) -> Problem {
    let near = alike(kind, EVENT_KINDS.iter().copied()).into_iter().take(3);
    let near: Vec<_> = near.map(|it| format!("`{it}`")).collect();
    let help = match near.is_empty() {
        true => "among others there are exited, rollout, signal and config".into(),
        false => format!("did you mean {}?", near.join(" or ")),
    };
    Problem {
        kind: problem::NOT_FOUND.into(),
        help: Some(help),
        ..local(format!("there is no kind of event `{kind}`"), "")
    }
}

/// `opsdeck why NAME`: sentences, for a service those of each instance.
pub async fn why(client: &Client, name: &str) -> Outcome {
    let deck = client.brief().await?;
    let names: Vec<String> = match super::wait::find_service(&deck, name) {
        Some(service) => service.instances.iter().map(|it| it.name.clone()).collect(),
        None if super::wait::find(&deck, name).is_some() => vec![name.to_owned()],
        None => return Err(super::act::unknown(&deck, name)),
    };
    for name in names {
        let why: Vec<String> = client.get_json(&format!("/v1/instances/{name}/why")).await?;
        let sentences = why.iter().map(|it| format!("  {}\n", printable(it))).collect::<String>();
        out(&format!("{name}\n{sentences}")).map_err(|err| unprinted(&err))?;
    }
    Ok(Exit::Done)
}

/// `2026-11-21 10:42:11  alice  web  rolling restart of web`, in local time.
fn plain(event: &Event) -> String {
    let at = event.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T").to_string();
    let actor = event.actor.as_ref().map_or("-".into(), |it| printable(&it.login));
    let whom = event.instance.as_deref().or(event.service.as_deref()).unwrap_or("opsdeck");
    let mut text = format!("{at}  {actor:8}  {whom:10}  {}\n", printable(&event.message));
    for line in event.evidence.iter().flatten() {
        text.push_str("    ");
        text.push_str(&printable(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_there_is_not_comes_with_those_that_are_near() {
        let help = |kind| no_kind(kind).help.unwrap();
        assert_eq!(help("exitted"), "did you mean `exited`?");
        assert_eq!(help("rollout-stated"), "did you mean `rollout-started`?");
        assert!(help("bogusbogus").contains("exited, rollout, signal"));
    }
}
