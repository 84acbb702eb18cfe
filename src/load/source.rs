//! Where a server says what it has to do, and the question that finds it out.
//!
//! A [`Source`] is what stands in a configuration; a [`Question`] is the same, parsed once, so that each reading
//! only asks. One connection a reading, nothing kept, bounded in time and size. A place that does not answer is
//! told, and never a zero.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::figures::Figures;
use super::http::Field;
use super::place::{Page, Scheme};
use super::prometheus::Selector;
use super::{fastcgi, http, nginx, php_fpm, prometheus, puma, sha1, swoole};
use crate::probe::io_words;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is told of a server that took longer.
pub const NO_ANSWER: &str = "no answer within 1s";
/// A page no longer than this is taken apart at once; what takes longer holds up nobody on a thread of its own.
const SHORT: usize = 4 << 10;
/// Of a stats file.
const FILE_BYTES: u64 = 64 << 10;
/// Swoole writes its file every second (`stats_timer_interval`) unless it is told otherwise.
const OLD: Duration = Duration::from_secs(10);
/// By then a file that was empty or half is whole.
const WRITTEN: Duration = Duration::from_millis(30);

/// Where the load of an instance is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub kind: Kind,
    /// A path on the instance's port, a URL, a file, or an address: by its kind.
    pub at: String,
    /// The request that asks is one of those that are counted.
    pub counts_itself: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A route that answers `Server::stats()`.
    Swoole,
    /// `stats_file`.
    SwooleFile,
    /// `admin_server`, written as there: `127.0.0.1:9611`, `user:password@127.0.0.1:9611`.
    SwooleAdmin,
    /// `pm.status_path`, over FastCGI or HTTP.
    PhpFpm,
    /// `stub_status`.
    Nginx,
    /// `/stats` of the control app, with its token in the query.
    Puma,
    /// Metrics: a name, or a name with labels as in PromQL.
    Prometheus { requests: Option<String>, in_flight: Option<String> },
}

impl Source {
    /// It counts by `concurrency`, which is not all that is in flight.
    pub fn is_doubtful(&self) -> bool {
        matches!(self.kind, Kind::Swoole | Kind::SwooleAdmin)
    }

    /// It counts for good what a worker had that was killed (nginx: its `Writing`).
    pub fn never_forgets(&self) -> bool {
        matches!(self.kind, Kind::Nginx)
    }

    /// What it says can end a drain: how much is in flight at this moment.
    pub fn is_exact(&self) -> bool {
        match &self.kind {
            Kind::Swoole | Kind::SwooleAdmin | Kind::PhpFpm | Kind::Nginx | Kind::Puma => true,
            // Up to a second old, and more.
            Kind::SwooleFile => false,
            Kind::Prometheus { in_flight, .. } => in_flight.is_some(),
        }
    }
}

impl Kind {
    /// As it is written in a configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Swoole | Self::SwooleFile | Self::SwooleAdmin => "swoole",
            Self::PhpFpm => "php_fpm",
            Self::Nginx => "nginx",
            Self::Puma => "puma",
            Self::Prometheus { .. } => "prometheus",
        }
    }
}

/// A source that is ready to be asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    source: Source,
    place: Place,
    /// Of metrics: requests, and in flight.
    selectors: [Option<Selector>; 2],
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Page(Page, Option<Field>),
    File(PathBuf),
}

impl Question {
    /// `port` is the instance's own.
    ///
    /// # Errors
    ///
    /// What is wrong with where it is to be asked.
    pub fn new(source: &Source, port: Option<u16>) -> Result<Self, String> {
        let place = place(source, port)?;
        let selector = |it: &Option<String>| it.as_deref().map(Selector::parse).transpose();
        let selectors = match &source.kind {
            Kind::Prometheus { requests, in_flight } => [selector(requests)?, selector(in_flight)?],
            _ => [None, None],
        };
        let at = match &place {
            Place::Page(page, _) => page.to_string(),
            Place::File(path) => path.display().to_string(),
        };
        let name = format!("{} {at}", source.kind.word());
        Ok(Self { source: source.clone(), place, selectors, name })
    }

    /// What is asked and where, without anything secret: `swoole http://127.0.0.1:9502/stats`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The request that asks is one of those that are counted.
    pub fn counts_itself(&self) -> bool {
        self.source.counts_itself
    }

    /// Asks once. `now` is for the age of a file.
    ///
    /// # Errors
    ///
    /// Why nothing was learned, without where.
    pub async fn ask(&self, now: SystemTime) -> Result<Figures, String> {
        let document = async {
            match &self.place {
                Place::Page(page, field) if page.scheme == Scheme::Http => {
                    let most = match &self.source.kind {
                        Kind::Prometheus { .. } => http::MOST_METRICS,
                        _ => http::MOST_BYTES,
                    };
                    http::get(page, field.as_ref(), most).await
                }
                Place::Page(page, _) => fastcgi::get(page).await,
                Place::File(path) => {
                    let text = read_aside(path, now).await?;
                    if self.read(&text).is_ok() {
                        return Ok(text);
                    }
                    // It is being written: Swoole empties it first.
                    tokio::time::sleep(WRITTEN).await;
                    read_aside(path, now).await
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, document).await;
        let asked = asked.map_err(|_| NO_ANSWER.to_owned())?;
        let document = asked.map_err(|why| self.in_its_words(why))?;
        if document.len() <= SHORT {
            return self.read(&document);
        }
        let question = self.clone();
        let read = tokio::task::spawn_blocking(move || question.read(&document));
        read.await.map_err(|_| "its answer broke the reader".to_owned())?
    }

    /// A refusal, as it is meant there.
    fn in_its_words(&self, why: String) -> String {
        match self.source.kind {
            Kind::SwooleAdmin if why.starts_with("answered 403") => {
                "answered 403: is user:password@ right?".into()
            }
            _ => why,
        }
    }

    fn read(&self, document: &[u8]) -> Result<Figures, String> {
        let counts_itself = self.source.counts_itself;
        let figures = match &self.source.kind {
            Kind::Swoole | Kind::SwooleFile | Kind::SwooleAdmin => {
                swoole::read(document, counts_itself)?
            }
            Kind::PhpFpm => php_fpm::read(document, counts_itself)?,
            Kind::Nginx => nginx::read(document)?,
            Kind::Puma => puma::read(document)?,
            Kind::Prometheus { .. } => self.metrics(document)?,
        };
        Ok(Figures { is_exact: figures.is_exact && self.source.is_exact(), ..figures })
    }

    fn metrics(&self, document: &[u8]) -> Result<Figures, String> {
        let number =
            |it: &Option<Selector>| it.as_ref().map(|it| prometheus::sum(document, it)).transpose();
        let [requests, in_flight] = &self.selectors;
        let own = u64::from(self.source.counts_itself);
        let in_flight = number(in_flight)?.map(|it| whole(it).saturating_sub(own));
        let requests = number(requests)?.map(whole);
        Ok(Figures { requests, in_flight, is_exact: true, ..Figures::default() })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at both ends"
)]
fn whole(it: f64) -> u64 {
    it.round() as u64
}

fn place(source: &Source, port: Option<u16>) -> Result<Place, String> {
    let at = source.at.as_str();
    let page = |native| Page::parse(at, native, port);
    Ok(match source.kind {
        Kind::Swoole | Kind::Nginx | Kind::Puma | Kind::Prometheus { .. } => {
            Place::Page(page(Scheme::Http)?, None)
        }
        Kind::PhpFpm => {
            let mut page = page(Scheme::FastCgi)?;
            if !page.query.split('&').any(|it| it == "json") {
                let and = if page.query.is_empty() { "" } else { "&" };
                page.query.extend([and, "json"]);
            }
            Place::Page(page, None)
        }
        Kind::SwooleFile => Place::File(at.into()),
        Kind::SwooleAdmin => {
            let (who, address) =
                at.rsplit_once('@').map_or((None, at), |(who, it)| (Some(who), it));
            let url = format!("http://{address}/api/server_stats");
            let field = |who: &str| {
                // sha1(user . password), as Swoole\Server\Admin compares it.
                let token = sha1::hex(who.replacen(':', "", 1).as_bytes());
                ("x-admin-server-access-token", token)
            };
            Place::Page(Page::parse(&url, Scheme::Http, None)?, who.map(field))
        }
    })
}

async fn read_aside(path: &Path, now: SystemTime) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_file(&path, now));
    read.await.map_err(|err| err.to_string())?
}

fn read_file(path: &Path, now: SystemTime) -> Result<Vec<u8>, String> {
    // A pipe would be waited for, and its thread with it.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|err| io_words(&err))?;
    let meta = file.metadata().map_err(|err| io_words(&err))?;
    if !meta.is_file() {
        return Err("this is no file".into());
    }
    let age = meta.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
    if age > OLD {
        let seconds = age.as_secs();
        return Err(format!("it was written {seconds} s ago: worker 0 is stuck or gone"));
    }
    let mut text = vec![];
    file.take(FILE_BYTES).read_to_end(&mut text).map_err(|err| io_words(&err))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn source(kind: Kind, at: &str) -> Source {
        Source { kind, at: at.into(), counts_itself: true }
    }

    /// Answers one connection with these bytes; returns the port and what was asked.
    async fn serve(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut asked, mut buffer) = (vec![], [0; 1024]);
            while !asked.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut buffer).await.unwrap();
                asked.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (port, served)
    }

    async fn ask(source: &Source, port: u16) -> Result<Figures, String> {
        Question::new(source, Some(port)).unwrap().ask(SystemTime::UNIX_EPOCH).await
    }

    #[tokio::test]
    async fn a_route_is_asked_on_a_connection_of_its_own() {
        let page = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            2c\r\n{\"request_count\":9,\"concurrency\":3,\"x\":1.5 }\r\n0\r\n\r\n";
        let (port, served) = serve(page).await;
        let figures = ask(&source(Kind::Swoole, "/stats"), port).await.unwrap();
        assert_eq!((figures.requests, figures.in_flight), (Some(9), Some(2)));
        let asked = served.await.unwrap();
        assert!(asked.starts_with("GET /stats HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");
        assert!(asked.contains("connection: close\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_long_page_is_read_as_a_short_one_is() {
        let text =
            format!("{{\"request_count\":9,\"concurrency\":3,\"x\":[{}0]}}", "0,".repeat(SHORT));
        let page = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        let (port, _served) = serve(page.leak().as_bytes()).await;
        let figures = ask(&source(Kind::Swoole, "/stats"), port).await.unwrap();
        assert_eq!(figures.in_flight, Some(2));
    }

    #[tokio::test]
    async fn the_admin_server_gets_its_token_and_nobody_is_shown_it() {
        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 43\r\n\r\n\
            {\"code\":0,\"data\":{\"request_count\":9000001}}";
        let (port, served) = serve(page).await;
        let it = source(Kind::SwooleAdmin, &format!("admin:geheim@127.0.0.1:{port}"));
        let question = Question::new(&it, None).unwrap();
        assert_eq!(question.name(), format!("swoole http://127.0.0.1:{port}/api/server_stats"));
        drop(question.ask(SystemTime::UNIX_EPOCH).await);
        let asked = served.await.unwrap();
        let token = sha1::hex(b"admingeheim");
        assert!(asked.contains(&format!("x-admin-server-access-token: {token}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn an_admin_server_that_refuses_wants_its_password() {
        let page = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        let (port, _served) = serve(page).await;
        let it = source(Kind::SwooleAdmin, &format!("admin:wrong@127.0.0.1:{port}"));
        assert_eq!(ask(&it, port).await, Err("answered 403: is user:password@ right?".into()));
    }

    #[tokio::test]
    async fn why_nothing_was_learned_is_told() {
        let said = |answer: &'static [u8]| async move {
            let (port, _served) = serve(answer).await;
            ask(&source(Kind::Nginx, "/stub_status"), port).await.unwrap_err()
        };
        let wrong = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(said(wrong).await, "answered 404, expected 200");
        assert_eq!(
            said(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await,
            "this is not the page of stub_status"
        );
        assert_eq!(said(b"SSH-2.0-x\r\n").await, "the answer is not HTTP");
        assert_eq!(
            said(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await,
            "closed before the whole answer"
        );
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let refused = ask(&source(Kind::PhpFpm, "/status"), nobody).await;
        assert_eq!(refused, Err("connection refused".into()));
        let (port, _listener) = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (listener.local_addr().unwrap().port(), listener)
        };
        let silent = ask(&source(Kind::Puma, "/stats?token=geheim"), port).await;
        assert_eq!(silent, Err("no answer within 1s".into()));
    }

    /// The clock goes on when nothing else is under way.
    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_read_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        let question =
            Question::new(&source(Kind::SwooleFile, &path.display().to_string()), None).unwrap();
        let whole = r#"{"request_count":7,"connection_num":1}"#;
        std::fs::write(&path, &whole[..9]).unwrap();
        let now = std::fs::metadata(&path).unwrap().modified().unwrap();
        let asked = question.ask(now);
        let written = async {
            // The first read comes before, the second one after it.
            tokio::time::sleep(WRITTEN / 2).await;
            std::fs::write(&path, whole).unwrap();
        };
        let (told, ()) = tokio::join!(asked, written);
        assert_eq!(told.unwrap().requests, Some(7));
        std::fs::write(&path, "").unwrap();
        assert!(question.ask(now).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_not_written_any_more_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats");
        std::fs::write(&path, "request_count: 5\nconcurrency: 2\n").unwrap();
        let mut it = source(Kind::SwooleFile, &path.display().to_string());
        it.counts_itself = false;
        let question = Question::new(&it, None).unwrap();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let figures = question.ask(written + Duration::from_secs(2)).await.unwrap();
        assert_eq!((figures.in_flight, figures.is_exact), (Some(2), false), "up to a second old");
        let old = question.ask(written + Duration::from_secs(40)).await;
        assert_eq!(old, Err("it was written 40 s ago: worker 0 is stuck or gone".into()));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(question.ask(written).await, Err("this is no file".into()));
        std::fs::remove_file(&path).unwrap();
        assert!(question.ask(written).await.unwrap_err().contains("no such file"));
    }

    #[test]
    fn a_source_says_whether_a_drain_can_wait_for_it() {
        let exact = |kind, at: &str| source(kind, at).is_exact();
        assert!(exact(Kind::Swoole, "/stats") && exact(Kind::SwooleAdmin, "127.0.0.1:9611"));
        assert!(!exact(Kind::SwooleFile, "/tmp/stats"));
        let metrics = |in_flight: Option<&str>| Kind::Prometheus {
            requests: None,
            in_flight: in_flight.map(str::to_owned),
        };
        assert!(exact(metrics(Some("x")), "/metrics") && !exact(metrics(None), "/metrics"));
    }
}
