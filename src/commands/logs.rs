//! `opsdeck logs`: what services wrote, several names interleaved by time.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};

use super::{Outcome, notice, out_more, printable, unprinted, wait};
use crate::api::{LogLine, LogPage, LogPlace, Problem};
use crate::cli::LogsArgs;
use crate::client::{Client, LogQuery, PageQuery};
use crate::exit::Exit;

/// Lines of each name when nothing else is asked for.
const DEFAULT_LINES: usize = 100;
/// So many times a daemon that was killed is asked for, each time for a fifth of a second and longer.
const PATIENCE: u32 = 150;

type Lines = Pin<Box<dyn Stream<Item = Result<LogLine, Problem>> + Send>>;

pub async fn run(client: &Client, args: &LogsArgs) -> Outcome {
    let lines = args.lines.or(args.since.is_none().then_some(DEFAULT_LINES));
    let query = LogQuery {
        follow: args.follow,
        lines,
        since_ms: args.since.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        grep: args.grep.clone(),
        places: args.follow,
        ..LogQuery::default()
    };
    let mut sources: Vec<Lines> = vec![];
    let deck = client.brief().await?;
    for name in &args.names {
        if wait::find_service(&deck, name).is_none() && wait::find(&deck, name).is_none() {
            return Err(super::act::unknown(&deck, name));
        }
    }
    for name in &args.names {
        sources.push(if args.follow {
            Followed::begin(client, name, query.clone()).await?
        } else {
            Box::pin(client.logs(name, &query).await?)
        });
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

/// A log that is followed, over the ends of daemons.
struct Followed {
    client: Client,
    name: String,
    /// What the next daemon is asked for: what comes after the places that were reached.
    query: LogQuery,
    lines: Lines,
    /// Nobody writes it any more.
    over: bool,
}

impl Followed {
    async fn begin(client: &Client, name: &str, query: LogQuery) -> Result<Lines, Problem> {
        let (client, name) = (client.clone(), name.to_owned());
        // A log of which nothing is printed is gone on with where it ends now.
        let after = ends(&client, &name).await;
        let lines = Box::pin(client.logs(&name, &query).await?);
        let query = LogQuery { lines: None, since_ms: None, after, ..query };
        Ok(Box::pin(stream::unfold(Self { client, name, query, lines, over: false }, Self::next)))
    }

    async fn next(mut self) -> Option<(Result<LogLine, Problem>, Self)> {
        loop {
            if self.over {
                return None;
            }
            if let Some(Ok(line)) = self.lines.next().await {
                self.query.after.extend(line.ends.map(|it| (line.instance.clone(), it)));
                return Some((Ok(line), self));
            }
            match again(&self.client, &self.name, &self.query).await {
                Some(lines) => self.lines = lines,
                None => {
                    self.over = true;
                    return Some((Err(wait::ended()), self));
                }
            }
        }
    }
}

/// Another program may be the daemon in a moment. One that was killed has left its socket: another is
/// likely to come.
async fn again(client: &Client, name: &str, query: &LogQuery) -> Option<Lines> {
    for n in 0..PATIENCE {
        if let Some(lines) = wait::again(|| client.logs(name, query)).await {
            return Some(Box::pin(lines));
        }
        if !client.socket().exists() {
            return None;
        }
        if n == 0 {
            notice("opsdeck: the daemon is gone; waiting for the next one");
        }
    }
    None
}

/// Where the logs behind a name end now.
async fn ends(client: &Client, name: &str) -> BTreeMap<String, LogPlace> {
    // A daemon of an older release does not know: then only what is printed has a place.
    let Ok(page) = client.log_page(&[name.to_owned()], &PageQuery::default()).await else {
        return BTreeMap::new();
    };
    let ends = page.filter_map(async |it| match it {
        Ok(LogPage::End { ends, .. }) => Some(ends),
        _ => None,
    });
    std::pin::pin!(ends).next().await.unwrap_or_default()
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
