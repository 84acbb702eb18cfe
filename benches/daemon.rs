//! What the daemon costs over a thousand trees of eight processes that do nothing, while nobody looks and while
//! one deck does.
//!
//! The whole daemon over real processes, with everything that it does at its default intervals: two minutes of it.
//! Prints figures and never fails: what is fast enough is for the reader to say, on the reader's machine.
//! `cargo bench --bench daemon`; `OPSDECK_TREES=250` for a smaller machine.

#![expect(clippy::disallowed_methods, reason = "it waits and measures on a thread of its own")]
#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::{Write as _, copy, sink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use opsdeck::api::Deck;
use opsdeck::process::stat::{read_stat, time_of};

const TREES: usize = 1000;
const INSTANCES: usize = 4;
/// A leader and those below it.
const SCRIPT: &str = "for i in 1 2 3 4 5 6 7; do sleep 100000 & done; wait";
/// Who has asked once counts as looking for half a minute.
const QUIET: Duration = Duration::from_secs(35);
const MEASURED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let trees = std::env::var("OPSDECK_TREES").ok().and_then(|it| it.parse().ok());
    let trees: usize = trees.unwrap_or(TREES);
    let place = tempfile::tempdir()?;
    let config = place.path().join("config.toml");
    std::fs::write(&config, services(place.path(), trees)?)?;
    let mut daemon = Daemon(opsdeck(&config, &["daemon"]).spawn()?);
    let measured = daemon.wait_ready(&config, trees).and_then(|()| {
        sleep(QUIET);
        daemon.measure("nobody looks")?;
        let mut deck = UnixStream::connect(place.path().join("state/opsdeck.sock"))?;
        deck.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: opsdeck\r\n\r\n")?;
        let _reader = spawn(move || copy(&mut deck, &mut sink()));
        sleep(QUIET / 3);
        daemon.measure("one deck looks")
    });
    opsdeck(&config, &["shutdown"]).status()?;
    daemon.0.wait()?;
    measured
}

fn services(place: &Path, trees: usize) -> Outcome<String> {
    let mut text = format!("[deck]\nstate_dir = \"{}/state\"\nwatch = false\n", place.display());
    for n in 0..trees.div_ceil(INSTANCES) {
        writeln!(text, "[service.s{n:04}]\ncommand = [\"sh\", \"-c\", \"{SCRIPT}\"]")?;
        for at in 0..INSTANCES.min(trees - n * INSTANCES) {
            writeln!(text, "instance.s{n:04}-{at} = {{}}")?;
        }
    }
    Ok(text)
}

fn opsdeck(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsdeck"));
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

struct Daemon(Child);

impl Daemon {
    fn wait_ready(&self, config: &Path, trees: usize) -> Outcome<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let told = opsdeck(config, &["status", "--json"]).stdout(Stdio::piped()).output()?;
            let deck: Deck = serde_json::from_slice(&told.stdout).unwrap_or_default();
            let ready: u32 = deck.services.iter().map(|it| it.ready).sum();
            if usize::try_from(ready)? == trees {
                println!("{trees} trees, up within {:.1?}", began.elapsed());
                return Ok(());
            }
            sleep(Duration::from_millis(200));
        }
        Err("they are not ready".into())
    }

    fn measure(&self, what: &str) -> Outcome<()> {
        let (before, began) = (self.spent()?, Instant::now());
        sleep(MEASURED);
        let (spent, took) = (self.spent()? - before, began.elapsed());
        let share = spent.as_secs_f64() / took.as_secs_f64() * 100.0;
        println!("{what:>14}: {share:.2} % of a core");
        Ok(())
    }

    /// On a processor.
    fn spent(&self) -> Outcome<Duration> {
        Ok(time_of(read_stat(self.0.id().cast_signed())?.cpu_ticks))
    }
}
