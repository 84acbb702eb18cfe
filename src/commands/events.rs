//! `opsdeck events` and `opsdeck why`.

use futures_util::StreamExt;

use super::wait;
use super::{Outcome, json_line, out, out_more, printable, unprinted};
use crate::api::Event;
use crate::cli::EventsArgs;
use crate::client::{Client, EventQuery};
use crate::exit::Exit;

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
            end if args.follow => {
                // Another program may be the daemon in a moment; what happened meanwhile is asked for.
                query.lines = args.lines.filter(|it| *it == 0 && query.after.is_none());
                query.since.take_if(|_| query.after.is_some());
                match wait::again(|| client.events(&query)).await {
                    Some(next) => events = next.boxed(),
                    None => return end.transpose().map(|_| Exit::Done),
                }
            }
            end => return end.transpose().map(|_| Exit::Done),
        }
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
