//! The pictures and the cast of README.md: made by the real program, and checked to be there.
//!
//! `OPSDECK_PICTURES=1 cargo test --test pictures` makes them anew; without it what is there is checked.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

#[path = "support/picture.rs"]
mod picture;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use picture::{DARK, LIGHT, Paper, Secrets, cast, svg};
use support::console::Console;
use support::{Deck, OPSDECK, free_port};

const README: &str = include_str!("../README.md");
const SIZE: (u16, u16) = (100, 28);
const CAST: &str = "assets/roll.cast";

/// Every picture and what it shows.
const PICTURES: &[(&str, &str)] = &[
    ("table", "The table of services while all is well"),
    ("roll", "A rolling restart: the countdown to SIGKILL, and requests in flight"),
    ("detail", "Why an instance is in its state, its probes and its load"),
    ("rollout", "The last rolling restart step by step, and the plan of the next"),
    ("logs", "The output of all instances of a service"),
    ("events", "What happened, and who did it"),
    ("config", "What applying the configuration would do"),
    ("palette", "Every action by a few letters of its name"),
    ("picker", "The signals, and what they mean"),
    ("help", "The keys"),
    ("filter", "A filter of words"),
    ("high-contrast", "The theme high-contrast"),
    ("light", "The theme light"),
];

fn file(name: &str) -> PathBuf {
    Path::new("assets/screenshots").join(format!("{name}.svg"))
}

#[test]
fn every_picture_is_well_formed_and_shown_in_readme() {
    for (name, title) in PICTURES {
        let text = std::fs::read_to_string(file(name)).unwrap();
        assert!(text.starts_with("<svg xmlns=") && text.ends_with("</svg>\n"), "{name}");
        assert!(text.contains(&format!("<title>{title}</title>")), "{name}");
        let tags = |it: &str| text.matches(it).count();
        assert_eq!(tags("<text "), tags("</text>"), "{name}");
        assert!(tags("<text ") > 10, "{name} shows nothing");
        let stray = text
            .split('&')
            .skip(1)
            .find(|it| !["amp;", "lt;", "gt;"].iter().any(|entity| it.starts_with(entity)));
        assert_eq!(stray, None, "{name}");
        assert!(!text.contains("/tmp") && !text.contains("/home"), "{name}");
        assert!(README.contains(&format!("assets/screenshots/{name}.svg")), "{name}");
    }
    let shown = README.matches("assets/screenshots/").count();
    assert_eq!(shown, PICTURES.len(), "README.md shows a picture that nobody makes");
}

#[test]
fn the_cast_is_a_recording_of_a_roll() {
    let text = std::fs::read_to_string(CAST).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&header["version"], &header["width"]), (&2.into(), &SIZE.0.into()));
    let mut screen = vt100::Parser::new(SIZE.1.try_into().unwrap(), SIZE.0.try_into().unwrap(), 0);
    let (mut last, mut saw_drain) = (0.0, false);
    for line in lines {
        let (at, kind, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(kind == "o" && at >= last, "{at} after {last}");
        last = at;
        screen.process(text.as_bytes());
        saw_drain |= screen.screen().contents().contains("DRAINING");
    }
    assert!(saw_drain && last > 5.0, "{last} s");
    assert!(screen.screen().contents().contains("web1 ✓"), "{}", screen.screen().contents());
    assert!(!text.contains("/tmp") && README.contains(CAST));
}

/// The clients of the demo.
struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn services(ports: [u16; 3], queue: &str) -> String {
    let example = include_str!("../config.example.toml");
    let services = &example[example.find("[defaults]").unwrap()..];
    let [web1, web2, entry] = ports.map(|it| it.to_string());
    services
        .replace("9502", &web1)
        .replace("9503", &web2)
        .replace("9999", &entry)
        .replace("--print-every 2s", queue)
}

#[test]
fn pictures_are_made_where_that_is_asked_for() {
    if std::env::var_os("OPSDECK_PICTURES").is_none() {
        return;
    }
    let ports = [free_port(), free_port(), free_port()];
    let mut deck = Deck::start(&services(ports, "--print-every 2s"));
    deck.wait_ready(&["web1", "web2", "queue"]);
    let clients = Command::new(OPSDECK)
        .args(["load", &format!("http://127.0.0.1:{}/", ports[2]), "-c", "12"])
        .args(["--interval", "1s", "--duration", "1h", "--mixed-connections"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let clients = Clients(clients);
    let mut studio = Studio::open(&deck);
    studio.console.wait("load", |it| it.contains("req/s") && it.contains("in flight"));
    studio.settle(6);
    studio.take("table", DARK);
    studio.film();
    studio.pages();
    deck.write_config(&services(ports, "--print-every 1s"));
    studio.keys(&["c"], "applying it: ");
    studio.take("config", DARK);
    drop(studio);
    for (theme, paper) in [("high-contrast", DARK), ("light", LIGHT)] {
        let mut studio = Studio::with(&deck, &["--theme", theme]);
        studio.console.wait_for("web1");
        studio.keys(&["r"], "DRAINING");
        studio.settle(2);
        studio.take(theme, paper);
        studio.console.wait_for("web1 ✓");
    }
    drop(clients);
}

/// How far the first countdown on the screen is.
fn seconds_of_drain(text: &str) -> f64 {
    let before = text.split("s of 10.0s").next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0.0)
}

/// A deck whose screen is taken.
struct Studio {
    console: Console,
    secrets: Secrets,
}

impl Studio {
    fn open(deck: &Deck) -> Self {
        Self::with(deck, &[])
    }

    fn with(deck: &Deck, args: &[&str]) -> Self {
        let mut command = deck.command(args);
        command.env("COLORTERM", "truecolor").env_remove("NO_COLOR");
        let host = nix::unistd::gethostname().unwrap();
        let secrets = Secrets::new(&deck.path().display().to_string(), &host.to_string_lossy());
        Self { console: Console::start(&command, SIZE.0, SIZE.1), secrets }
    }

    /// Lets so many seconds of it happen.
    fn settle(&mut self, seconds: u64) {
        self.console.bytes_written_within(Duration::from_secs(seconds));
    }

    fn keys(&mut self, keys: &[&str], then: &str) {
        for key in keys {
            self.console.press(key);
            self.settle(1);
        }
        self.console.wait_for(then);
    }

    fn take(&self, name: &str, paper: Paper) {
        let title = PICTURES.iter().find(|it| it.0 == name).unwrap().1;
        let picture = svg(self.console.screen.screen(), paper, title, &self.secrets);
        std::fs::create_dir_all("assets/screenshots").unwrap();
        std::fs::write(file(name), picture).unwrap();
    }

    /// Rolls web, films it, and takes a picture while web1 drains.
    fn film(&mut self) {
        // From a screen that was drawn whole.
        self.console.press("\x0c");
        let (began, mut seen, mut parts) = (Instant::now(), self.console.raw.len(), vec![]);
        let mut is_taken = false;
        let (mut pressed, mut done) = (false, None);
        while done.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(2)) {
            self.console.bytes_written_within(Duration::from_millis(50));
            if self.console.raw.len() > seen {
                // Frames are whole within a read, and so is every character.
                let text = String::from_utf8_lossy(&self.console.raw[seen..]).into_owned();
                parts.push((began.elapsed().as_secs_f64(), self.secrets.hide(&text)));
                seen = self.console.raw.len();
            }
            let text = self.console.text();
            if !pressed && began.elapsed() > Duration::from_secs(2) {
                self.console.press("r");
                pressed = true;
            }
            if !is_taken && text.contains("web1 draining") && seconds_of_drain(&text) > 1.5 {
                self.take("roll", DARK);
                is_taken = true;
            }
            if done.is_none() && text.contains("web1 ✓") {
                done = Some(Instant::now());
            }
            assert!(began.elapsed() < Duration::from_secs(90), "{text}");
        }
        std::fs::write(CAST, cast(SIZE, "opsdeck: a rolling restart", &parts)).unwrap();
    }

    fn pages(&mut self) {
        self.keys(&["l"], "logs of web");
        self.settle(3);
        self.take("logs", DARK);
        self.keys(&["\x1b", "v"], "✓ renewed");
        self.take("rollout", DARK);
        self.keys(&["\x1b", "e"], "rolling restart of web");
        self.take("events", DARK);
        self.keys(&["\x1b", "j", "\r"], "readiness");
        self.settle(2);
        self.take("detail", DARK);
        self.keys(&["\x1b", "S"], "SIGTERM");
        self.take("picker", DARK);
        self.keys(&["\x1b", ":", "r", "e", "s"], "restart");
        self.take("palette", DARK);
        self.keys(&["\x1b", "?"], "Actions");
        self.take("help", DARK);
        self.keys(&["\x1b", "/", "r", "e", "a", "d", "y", ":", "y", "e", "s", "\r"], "Esc clears");
        self.take("filter", DARK);
        self.keys(&["\x1b"], "? help");
    }
}
