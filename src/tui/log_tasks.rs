//! The tasks that read logs for the deck: the stream of what is written, a page, a whole log into a file.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ansi;
use super::logs::{Page, Places};
use super::update::Msg;
use crate::api::{LogLine, LogPage, Problem};
use crate::client::{Client, LogQuery, PageQuery};

/// After a place, at most so many of the lines that came since.
const CATCH_UP: usize = 2000;
/// Lines in one message.
const TOGETHER: usize = 64;
/// Bytes that are written to a file at once.
const PIECE: usize = 64 << 10;

/// Streams what is written after these places into the deck; dropping the set ends it.
pub fn follow(
    client: &Client,
    session: u64,
    names: Vec<String>,
    after: Places,
    grep: Option<String>,
    msgs: &mpsc::Sender<Msg>,
) -> JoinSet<()> {
    let query = LogQuery {
        follow: true,
        lines: Some(CATCH_UP),
        after,
        grep,
        places: true,
        latest: true,
        ..LogQuery::default()
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(stream(client.clone(), session, names, query, msgs.clone()));
    tasks
}

async fn stream(
    client: Client,
    session: u64,
    names: Vec<String>,
    query: LogQuery,
    msgs: mpsc::Sender<Msg>,
) {
    let problem = match client.logs(&names.join(","), &query).await {
        Ok(lines) => {
            let mut lines = std::pin::pin!(lines.ready_chunks(TOGETHER));
            let mut ended = None;
            while let (None, Some(some)) = (&ended, lines.next().await) {
                let mut whole = vec![];
                for line in some {
                    match line {
                        Ok(line) => whole.push(line),
                        Err(problem) => ended = Some(problem),
                    }
                }
                // A full channel holds the stream back, and that the daemon's side of it.
                if msgs.send(Msg::Log { session, lines: whole }).await.is_err() {
                    return;
                }
            }
            ended
        }
        Err(problem) => Some(problem),
    };
    // The deck may have ended; then nobody wants to know.
    let _ = msgs.send(Msg::LogEnded { session, name: names.join(", "), problem }).await;
}

/// Reads a page; dropping the set ends it, also in the daemon.
pub fn page(
    client: &Client,
    id: u64,
    names: Vec<String>,
    query: PageQuery,
    msgs: &mpsc::Sender<Msg>,
) -> JoinSet<()> {
    let (client, msgs) = (client.clone(), msgs.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let page = read_page(&client, id, &names, &query, &msgs).await;
        // The deck may have ended.
        let _ = msgs.send(Msg::LogPage { id, page }).await;
    });
    tasks
}

async fn read_page(
    client: &Client,
    id: u64,
    names: &[String],
    query: &PageQuery,
    msgs: &mpsc::Sender<Msg>,
) -> Result<Page, Problem> {
    let mut records = std::pin::pin!(client.log_page(names, query).await?);
    let mut lines = vec![];
    while let Some(record) = records.next().await {
        match record? {
            LogPage::Line(line) => lines.push(line),
            LogPage::Progress { searched_bytes: searched, of_bytes: of } => {
                // It is told to nobody when the deck has ended.
                let _ = msgs.send(Msg::LogProgress { id, searched, of }).await;
            }
            LogPage::End { begins, ends, last } => return Ok(Page { lines, begins, ends, last }),
            LogPage::Unknown => (),
        }
    }
    Err(Problem {
        kind: "about:blank".into(),
        title: "the log could not be read to its end".into(),
        detail: "it changed meanwhile, or the daemon may not read it".into(),
        ..Problem::default()
    })
}

/// Writes what the filter lets through into a new file, and tells how many lines that were.
pub async fn save(
    client: Client,
    path: String,
    names: Vec<String>,
    grep: Option<String>,
    msgs: mpsc::Sender<Msg>,
) {
    let result = save_to(&client, &place(&path), &names, grep).await;
    // The deck may have ended.
    let _ = msgs.send(Msg::LogSaved { path, result }).await;
}

/// `~` is the operator's own directory.
fn place(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

async fn save_to(
    client: &Client,
    path: &Path,
    names: &[String],
    grep: Option<String>,
) -> Result<u64, String> {
    let query = LogQuery { grep, ..LogQuery::default() };
    let lines = client.logs(&names.join(","), &query).await.map_err(|it| it.to_string())?;
    let mut lines = std::pin::pin!(lines);
    // Others may have put something there, a link for one: only what is new is written.
    let mut file = OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(path).await;
    let mut file = file.map_err(|err| match err.kind() {
        io::ErrorKind::AlreadyExists => "there is something already".to_owned(),
        _ => err.to_string(),
    })?;
    let width = if names.len() > 1 { names.iter().map(String::len).max() } else { None };
    let (mut text, mut count, mut goes_on) = (String::new(), 0, false);
    let broke = |why: &dyn fmt::Display, count| format!("{why}; {count} lines are there");
    while let Some(line) = lines.next().await {
        let line = line.map_err(|it| broke(&it, count))?;
        add_line(&mut text, &line, width.filter(|_| !goes_on));
        goes_on = line.partial;
        count += u64::from(!line.partial);
        if text.len() > PIECE {
            file.write_all(text.as_bytes()).await.map_err(|it| broke(&it, count))?;
            text.clear();
        }
    }
    file.write_all(text.as_bytes()).await.map_err(|it| broke(&it, count))?;
    file.flush().await.map_err(|it| broke(&it, count))?;
    Ok(count)
}

/// Whoever looks at the file does it on a terminal: no control characters.
fn add_line(text: &mut String, line: &LogLine, name: Option<usize>) {
    if let Some(width) = name {
        // A String takes everything.
        let _ = write!(text, "{:width$} | ", line.instance);
    }
    text.push_str(&ansi::clean_whole(&line.line));
    if !line.partial {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tempfile::TempDir;
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// Longer than anything here takes; only a broken test waits for it.
    const BOUND: Duration = Duration::from_secs(20);

    /// A daemon that answers every question for logs with this.
    fn daemon(dir: &TempDir, answer: &'static str) -> (Client, JoinHandle<()>) {
        let socket = dir.path().join("opsdeck.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new()
            .route("/v1/instances/{name}/logs", get(move || async move { answer }))
            .route("/v1/instances/{name}/logs/page", get(move || async move { answer }));
        let serve = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (Client::new(&socket).unwrap(), serve)
    }

    async fn next(inbox: &mut mpsc::Receiver<Msg>) -> Msg {
        timeout(BOUND, inbox.recv()).await.expect("a message in time").expect("a message")
    }

    fn names() -> Vec<String> {
        vec!["web1".into(), "web2".into()]
    }

    const TWO: &str = "{\"instance\":\"web1\",\"at\":null,\"line\":\"\\u001b[31mhello\"}\n\
                       {\"instance\":\"web2\",\"at\":null,\"line\":\"there\"}\n";

    #[tokio::test]
    async fn a_stream_says_that_it_ended() {
        let dir = TempDir::new().unwrap();
        let (client, daemon) = daemon(&dir, TWO);
        let (msgs, mut inbox) = mpsc::channel(16);
        let streams = follow(&client, 7, names(), Places::new(), None, &msgs);
        let mut seen = vec![];
        let ended = loop {
            match next(&mut inbox).await {
                Msg::Log { session: 7, lines } => seen.extend(lines.into_iter().map(|it| it.line)),
                other => break other,
            }
        };
        assert_eq!(seen, ["\u{1b}[31mhello", "there"]);
        let Msg::LogEnded { session: 7, name, problem: None } = ended else { panic!("{ended:?}") };
        assert_eq!(name, "web1, web2");
        timeout(BOUND, streams.join_all()).await.expect("the stream ends");
        daemon.abort();
    }

    #[tokio::test]
    async fn a_page_comes_whole_or_not_at_all() {
        let whole = "{\"type\":\"progress\",\"searched_bytes\":5,\"of_bytes\":9}\n\
                     {\"type\":\"of a later release\"}\n\
                     {\"type\":\"line\",\"instance\":\"web1\",\"at\":null,\"line\":\"x\",\"begins\":\"1.0\",\"ends\":\"1.2\"}\n\
                     {\"type\":\"end\",\"begins\":{\"web1\":\"1.0\"},\"ends\":{},\"last\":true}\n";
        let dir = TempDir::new().unwrap();
        let (client, serve) = daemon(&dir, whole);
        let (msgs, mut inbox) = mpsc::channel(16);
        let _task = page(&client, 3, names(), PageQuery::default(), &msgs);
        let progress = next(&mut inbox).await;
        assert!(matches!(progress, Msg::LogProgress { id: 3, searched: 5, of: 9 }));
        let Msg::LogPage { id: 3, page: Ok(page) } = next(&mut inbox).await else { panic!() };
        assert_eq!((page.lines.len(), page.last, page.begins.len()), (1, true, 1));
        serve.abort();

        let dir = TempDir::new().unwrap();
        let (client, serve) =
            daemon(&dir, "{\"type\":\"line\",\"instance\":\"web1\",\"at\":null,\"line\":\"x\"}\n");
        let _task = super::page(&client, 4, names(), PageQuery::default(), &msgs);
        let Msg::LogPage { id: 4, page: Err(why) } = next(&mut inbox).await else { panic!() };
        assert_eq!(why.title, "the log could not be read to its end");
        serve.abort();
    }

    #[tokio::test]
    async fn a_log_is_saved_without_control_characters_into_a_new_private_file_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new().unwrap();
        let (client, serve) = daemon(&dir, TWO);
        let (msgs, mut inbox) = mpsc::channel(16);
        let path = dir.path().join("saved.log");
        let save = || {
            let path = path.to_string_lossy().into_owned();
            save(client.clone(), path, names(), None, msgs.clone())
        };
        save().await;
        let Msg::LogSaved { result, .. } = next(&mut inbox).await else { panic!() };
        assert_eq!(result, Ok(2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "web1 | hello\nweb2 | there\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        save().await;
        let Msg::LogSaved { result, .. } = next(&mut inbox).await else { panic!() };
        assert_eq!(result, Err("there is something already".into()));
        serve.abort();
    }
}
