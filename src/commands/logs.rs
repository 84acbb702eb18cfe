//! `opsdeck logs`: what services wrote, several names interleaved by time.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};

use super::{Outcome, out_more, printable, unprinted};
use crate::api::{LogLine, Problem};
use crate::cli::LogsArgs;
use crate::client::{Client, LogQuery};
use crate::exit::Exit;

/// Lines of each name when nothing else is asked for.
const DEFAULT_LINES: usize = 100;

type Lines = Pin<Box<dyn Stream<Item = Result<LogLine, Problem>> + Send>>;

pub async fn run(client: &Client, args: &LogsArgs) -> Outcome {
    let lines = args.lines.or(args.since.is_none().then_some(DEFAULT_LINES));
    let query = LogQuery {
        follow: args.follow,
        lines,
        since_ms: args.since.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        grep: args.grep.clone(),
        ..LogQuery::default()
    };
    let mut sources: Vec<Lines> = vec![];
    let deck = client.brief().await?;
    for name in &args.names {
        if super::wait::find_service(&deck, name).is_none()
            && super::wait::find(&deck, name).is_none()
        {
            return Err(super::act::unknown(&deck, name));
        }
    }
    for name in &args.names {
        sources.push(Box::pin(client.logs(name, &query).await?));
    }
    // A service's name may stand for several instances: then the column is needed as well.
    let mut named = args.names.len() > 1;
    let mut width = args.names.iter().map(String::len).max().unwrap_or(0);
    let mut all = if args.follow { stream::select_all(sources).boxed() } else { merged(sources) };
    let mut gone_on = false;
    while let Some(line) = all.next().await {
        let line = line?;
        named |= !args.names.contains(&line.instance);
        width = width.max(line.instance.len());
        let column = named && !gone_on;
        gone_on = line.partial;
        if !print(&line, column.then_some(width))? {
            break;
        }
    }
    Ok(Exit::Done)
}

/// Merges streams that have an end, oldest line first; lines without a time follow the one before.
fn merged(mut sources: Vec<Lines>) -> Lines {
    if sources.len() == 1 {
        return sources.remove(0);
    }
    let heads: Vec<(Lines, VecDeque<Result<LogLine, Problem>>)> =
        sources.into_iter().map(|it| (it, VecDeque::new())).collect();
    Box::pin(stream::unfold(heads, |mut heads| async move {
        for (source, head) in &mut heads {
            if head.is_empty()
                && let Some(line) = source.next().await
            {
                head.push_back(line);
            }
        }
        let oldest = heads
            .iter()
            .enumerate()
            .filter_map(|(n, (_, head))| Some((n, head.front()?)))
            .min_by_key(|(n, line)| (line.as_ref().ok().and_then(|it| it.at), *n))
            .map(|(n, _)| n)?;
        let line = heads[oldest].1.pop_front()?;
        Some((line, heads))
    }))
}

/// Prints a line; false if nobody reads any more.
fn print(line: &LogLine, column: Option<usize>) -> Result<bool, Problem> {
    let text = printable(&line.line);
    let end = if line.partial { "" } else { "\n" };
    let written = match column {
        Some(width) => out_more(&format!("{:width$} | {text}{end}", line.instance)),
        None => out_more(&format!("{text}{end}")),
    };
    written.map_err(|err| unprinted(&err))
}
