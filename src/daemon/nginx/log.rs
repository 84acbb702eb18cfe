//! Reads what an nginx in front says of its load: the lines of its access log, the numbers of its
//! `stub_status` page.
//!
//! A task of its own, because the one that has nginx reload may wait for that. A log is followed by its
//! name from its end on; one that was rotated is read to its end first. Nobody else's clock is believed: a
//! line counts when it is read, once a second.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::settings::Nginx;
use crate::daemon::clock;
use crate::daemon::nginx::{Job, Jobs, News};
use crate::daemon::turn::{Turn, Turns};
use crate::gateway::control::GatewayCounts;
use crate::gateway::nginx::count::Counter;
use crate::gateway::nginx::log::Format;
use crate::load::source::{Kind, Question, Source};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Of a log, read in one look. What is further behind is left out.
const MOST_BYTES: u64 = 8 << 20;
/// Of a line. A longer one is none of ours.
const LINE_BYTES: usize = 16 << 10;

/// What the task needs.
#[derive(Debug)]
pub struct Reader {
    pub turns: Turns,
    pub jobs: watch::Receiver<Jobs>,
    pub stop: CancellationToken,
}

/// One gateway.
#[derive(Debug)]
struct Followed {
    settings: Nginx,
    log: Option<Log>,
    connections: u64,
    told: Option<GatewayCounts>,
    trouble: Option<String>,
}

/// One access log.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    format: Format,
    file: Option<File>,
    /// The first part of a line that nginx has not written to its end.
    rest: Vec<u8>,
    counter: Counter,
}

impl Reader {
    /// Works until the daemon ends.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut all: BTreeMap<String, Followed> = BTreeMap::new();
        loop {
            let jobs = self.jobs.borrow_and_update().clone();
            let says =
                |it: &Job| it.settings.access_log.is_some() || it.settings.stub_status.is_some();
            all.retain(|name, it| jobs.get(name).is_some_and(|job| job.settings == it.settings));
            for (name, job) in jobs.into_iter().filter(|it| says(&it.1)) {
                let known = all.remove(&name).unwrap_or_else(|| Followed::new(job.settings));
                let known = self.look(&name, known, job.addresses).await;
                all.insert(name, known);
            }
            let next = (!all.is_empty()).then(|| clock::now() + LOOK);
            tokio::select! {
                // What changes with an instance is read in time; only a first gateway ends the wait.
                changed = self.jobs.changed(), if all.is_empty() => if changed.is_err() { return },
                () = clock::sleep_until(next) => (),
            }
        }
    }

    async fn look(
        &self,
        gateway: &str,
        mut it: Followed,
        addresses: BTreeMap<String, String>,
    ) -> Followed {
        let page = match it.settings.stub_status.clone() {
            Some(url) => connections(&url).await.map(Some),
            None => Ok(None),
        };
        let name = gateway.to_owned();
        let at = u64::try_from(clock::now().0.as_micros()).unwrap_or(0);
        let read = move || {
            let read = it.read(at);
            let counts = it.log.as_ref().map(|log| log.counter.counts(&name, &addresses, at));
            let named = GatewayCounts { name, ..GatewayCounts::default() };
            (it, read, counts.unwrap_or(named))
        };
        // It ends only by a panic of its own.
        let Ok((mut it, read, mut counts)) = tokio::task::spawn_blocking(read).await else {
            match std::future::pending::<std::convert::Infallible>().await {}
        };
        let trouble = read.and(page.map(|it| it.unwrap_or(0)));
        it.connections = *trouble.as_ref().unwrap_or(&0);
        counts.connections = it.connections;
        if it.told.as_ref() != Some(&counts) {
            it.told = Some(counts.clone());
            self.tell(News::Counted(counts)).await;
        }
        let trouble = trouble.err();
        if it.trouble != trouble {
            it.trouble.clone_from(&trouble);
            self.tell(News::Blind { gateway: gateway.to_owned(), why: trouble }).await;
        }
        it
    }

    async fn tell(&self, news: News) {
        // The driver is gone only when the daemon ends.
        let _ = self.turns.send(Turn::Nginx(news)).await;
    }
}

impl Followed {
    fn new(settings: Nginx) -> Self {
        Self { settings, log: None, connections: 0, told: None, trouble: None }
    }

    fn read(&mut self, at: u64) -> Result<(), String> {
        let Some(path) = self.settings.access_log.clone() else { return Ok(()) };
        if self.log.is_none() {
            let format = Format::parse(&self.settings.log_format);
            let format = format.map_err(|it| format!("its `log_format` is of no use: {it}"))?;
            self.log = Some(Log::new(path.clone(), format));
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        log.read(at).map_err(|err| format!("{} cannot be read: {err}", path.display()))
    }
}

impl Log {
    fn new(path: PathBuf, format: Format) -> Self {
        // What was logged before is over.
        let mut file = File::open(&path).ok();
        let end = file.as_mut().map(|it| it.seek(SeekFrom::End(0)));
        file = file.filter(|_| end.is_some_and(|it| it.is_ok()));
        Self { path, format, file, rest: vec![], counter: Counter::default() }
    }

    fn read(&mut self, at: u64) -> io::Result<()> {
        if let Some(mut file) = self.file.take() {
            let position = self.read_from(&mut file, at)?;
            let now = std::fs::metadata(&self.path)?;
            let same = file.metadata()?;
            if (now.dev(), now.ino()) == (same.dev(), same.ino()) && now.len() >= position {
                self.file = Some(file);
                return Ok(());
            }
            // It was rotated or emptied.
            self.rest.clear();
        }
        let mut file = File::open(&self.path)?;
        self.read_from(&mut file, at)?;
        self.file = Some(file);
        Ok(())
    }

    fn read_from(&mut self, file: &mut File, at: u64) -> io::Result<u64> {
        let position = file.stream_position()?;
        let length = file.metadata()?.len();
        if length.saturating_sub(position) > MOST_BYTES {
            file.seek(SeekFrom::Start(length - MOST_BYTES))?;
            // Now in the middle of a line.
            self.rest = vec![0; LINE_BYTES];
        }
        file.take(MOST_BYTES).read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        for line in self.rest[..whole].split(|it| *it == b'\n').filter(|it| it.len() < LINE_BYTES) {
            let text = String::from_utf8_lossy(line);
            if let Some(entry) = self.format.read(&text) {
                self.counter.take(&entry, at);
            }
        }
        self.rest.drain(..whole);
        self.rest.truncate(LINE_BYTES);
        file.stream_position()
    }
}

/// Connections of clients by the page of ngx_http_stub_status_module.
async fn connections(url: &str) -> Result<u64, String> {
    let source = Source { kind: Kind::Nginx, at: url.to_owned(), counts_itself: true };
    let question = Question::new(&source, None).map_err(|why| format!("{url}: {why}"))?;
    let figures = question.ask(clock::wall().into()).await;
    let figures = figures.map_err(|why| format!("{url} cannot be read: {why}"))?;
    Ok(figures.connections.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    const ONE: &[u8] = b"127.0.0.1:1 200 0.010\n";

    fn append(path: &std::path::Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn log(path: PathBuf) -> Log {
        let format = "$upstream_addr $upstream_status $upstream_response_time";
        Log::new(path, Format::parse(format).unwrap())
    }

    fn requests(log: &mut Log) -> u64 {
        log.read(1_000_000).unwrap();
        let names = [("127.0.0.1:1".to_owned(), "web1".to_owned())].into();
        let counts = log.counter.counts("shop", &names, 1_000_000);
        counts.instances.first().map_or(0, |it| it.requests)
    }

    #[test]
    fn a_log_is_followed_from_its_end_through_half_lines_and_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        append(&path, ONE);
        let mut log = log(path.clone());
        assert_eq!(requests(&mut log), 0, "that was before");
        append(&path, &ONE[..5]);
        assert_eq!(requests(&mut log), 0);
        append(&path, &ONE[5..]);
        append(&path, b"\xff nonsense\n");
        assert_eq!(requests(&mut log), 1);

        append(&path, ONE);
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        append(&path, ONE);
        assert_eq!(requests(&mut log), 3, "both ends are read");
        append(&path, ONE);
        assert_eq!(requests(&mut log), 4);
        std::fs::write(&path, ONE).unwrap();
        assert_eq!(requests(&mut log), 5, "emptied");
    }

    #[test]
    fn a_log_that_is_not_there_is_an_error_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut log = log(path.clone());
        assert!(log.read(0).is_err());
        append(&path, ONE);
        assert_eq!(requests(&mut log), 1);
    }
}
