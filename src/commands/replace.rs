//! `opsdeck daemon --replace`: asks the daemon that runs to become this program, and says what came of it.

use std::time::Duration;

use super::{Outcome, local, notice, out, printable, safe, unprinted};
use crate::api::{Act, Event, Problem, Request};
use crate::client::{Client, EventQuery};
use crate::exit::Exit;

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_millis(50);
/// The trial of the next program, and a return to the one before. A command of a rollout is waited for longer.
const PATIENCE: Duration = Duration::from_secs(90);
/// Events that are looked at.
const LATEST: usize = 200;

pub async fn run(client: &Client) -> Outcome {
    let program = super::place::own_program()?.display().to_string();
    let before = latest(client).await?.last().map_or(0, |it| it.seq);
    let act = Act { program: Some(program), ..Act::default() };
    let done = client.send(&Request::Replace { act }).await?;
    out(&format!("{}\n", printable(&done.message))).map_err(|err| unprinted(&err))?;
    let outcome = tokio::time::timeout(PATIENCE, outcome(client, before)).await.map_err(|_| {
        let detail = format!("nothing was heard of it for {PATIENCE:?}");
        Problem {
            help: Some("`opsdeck events` tells once it has happened".into()),
            ..local("it is not known what came of it", detail)
        }
    })?;
    if outcome.kind == "replaced" {
        out(&format!("{}\n", printable(&outcome.message))).map_err(|err| unprinted(&err))?;
        return Ok(Exit::Done);
    }
    notice(&format!("opsdeck: the daemon was not replaced: {}", safe(&outcome.message)));
    Ok(Exit::Failed)
}

/// The event that says how it ended.
async fn outcome(client: &Client, before: u64) -> Event {
    loop {
        // Between two programs nobody answers.
        let events = latest(client).await.unwrap_or_default();
        let is_it = |it: &Event| it.seq > before && is_outcome(&it.kind);
        if let Some(event) = events.into_iter().find(is_it) {
            return event;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_outcome(kind: &str) -> bool {
    matches!(kind, "replaced" | "replace-failed")
}

async fn latest(client: &Client) -> Result<Vec<Event>, Problem> {
    use futures_util::TryStreamExt;
    let query = EventQuery { lines: Some(LATEST), ..EventQuery::default() };
    client.events(&query).await?.try_collect().await
}
