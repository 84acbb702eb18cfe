//! Everything the deck knows, and nothing it does.
//!
//! One [`Model`]; [`super::update`] changes it, [`super::view`] draws it. What came from the daemon
//! was made safe ([`super::ansi`]) before it got here. Time is never read: every message and every
//! frame brings its [`Now`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tui_input::Input;

use super::cost::Cost;
use super::filter::Query;
use super::key::Key;
use super::keymap::Keymap;
use super::presses::{self, Presses};
use super::rows::{RowId, Rows, Sort};
use super::theme::Theme;
use crate::api::{
    Act, Countdown, Deck, Detail, Difference, Event, History, Instance, Request, Role, Service,
    SignalDetail, Target,
};

/// How many events are kept for the feed.
pub const MOST_EVENTS: usize = 1000;

/// A question waits this long for its answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A second press counts from here on after its question was drawn.
pub const READ: Duration = Duration::from_millis(300);

const NOTICE: Duration = Duration::from_secs(10);

/// One moment, by both clocks: time since the deck started, and what the wall shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Duration,
    pub wall: Timestamp,
}

/// What the deck knows.
#[derive(Debug)]
pub struct Model {
    pub tz: TimeZone,
    pub theme: Theme,
    pub keymap: Keymap,
    /// Who looks, for the header.
    pub user: String,
    /// Started with `--read-only`.
    pub read_only: bool,
    /// Columns and lines.
    pub size: (u16, u16),

    pub deck: Deck,
    /// When the daemon last spoke about a service: its countdowns run on from there.
    pub heard: BTreeMap<String, Duration>,
    /// Oldest first.
    pub events: VecDeque<Event>,
    pub link: Link,

    pub rows: Rows,
    pub folded: BTreeSet<String>,
    pub marked: BTreeSet<RowId>,
    pub sort: Sort,
    pub filter: Filter,

    pub screen: Screen,
    /// The pages that lead back from it, the table first.
    pub behind: Vec<Screen>,
    /// What the detail screen draws.
    pub chart: Option<Chart>,
    pub closeup: Option<Closeup>,
    pub guard: Guard,
    pub notice: Option<Notice>,
    /// The last click, and on what.
    pub clicked: Option<(Duration, RowId)>,
    /// What the screen costs, where that is to be told.
    pub cost: Option<Cost>,
    /// When the terminal was last told to notify.
    pub notified: Option<Duration>,
}

/// The connection to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// No snapshot has come yet; `problem` is why, if that is known.
    Connecting {
        problem: Option<String>,
    },
    Up,
    /// It was there; the picture is from `since`.
    Lost {
        since: Now,
        problem: String,
    },
}

/// What rows must be like to be shown.
#[derive(Debug, Default)]
pub struct Filter {
    pub input: Input,
    /// The text as it was understood when the rows were made last.
    pub query: Query,
    /// Keys go into the text.
    pub editing: bool,
}

impl Filter {
    pub fn text(&self) -> &str {
        self.input.value()
    }

    pub fn is_shown(&self) -> bool {
        self.editing || !self.text().is_empty()
    }
}

/// What is in front.
#[derive(Debug)]
pub enum Screen {
    Table,
    Panel(Panel),
    Picker(Picker),
    Palette(Palette),
    Logs(Box<super::logs::Logs>),
    Rollout(Box<super::rollout::RolloutPage>),
    Events(Box<super::events::Events>),
}

/// A page of text that scrolls.
#[derive(Debug, PartialEq)]
pub struct Panel {
    pub page: Page,
    /// The first line that is shown; beyond the end, the last screenful is.
    pub top: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    Help,
    Detail(RowId),
    /// The configuration, and what applying it would do once the daemon has said so, or line by line
    /// why it cannot be applied.
    Config(Option<Result<Vec<Difference>, Vec<String>>>),
}

/// The last ten minutes of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub of: RowId,
    /// When the daemon was asked last.
    pub asked: Duration,
    /// Empty until it has answered.
    pub history: History,
}

/// The instance that is looked at closely.
#[derive(Clone, Debug, PartialEq)]
pub struct Closeup {
    /// Its name.
    pub of: String,
    /// When the daemon was asked last.
    pub asked: Duration,
    /// `None` until it has answered.
    pub detail: Option<Box<Detail>>,
    /// Percent of one core, by pid and start time, between the last two answers.
    pub cpu: BTreeMap<(i32, u64), f64>,
    /// Why there was no answer.
    pub problem: Option<String>,
    /// The process that keys which send signals mean: pid and start time.
    pub chosen: Option<(i32, u64)>,
}

/// The list of signals. Its targets are frozen when it opens.
#[derive(Debug)]
pub struct Picker {
    pub cursor: usize,
    pub aims: Vec<Aim>,
    /// Digits typed so far.
    pub digits: String,
    /// What the first target does with signals, once the daemon has said so.
    pub told: Vec<SignalDetail>,
}

/// The list of actions.
#[derive(Debug, Default)]
pub struct Palette {
    pub input: Input,
    pub cursor: usize,
}

/// What an action is meant for, as it was when the key was pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    pub service: String,
    /// `None`: the service as a whole.
    pub instance: Option<String>,
    pub target: Option<Target>,
    /// One process of its tree that is not the first, in words: `worker, pid 4711`.
    pub member: Option<String>,
}

impl Aim {
    /// For a question: the instance, the service, or the one process that is meant.
    pub fn words(&self) -> String {
        match &self.member {
            Some(member) => format!("{member}, of {}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// The instance or the service.
    pub fn name(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.service)
    }

    /// The body of a request that is meant for exactly this process.
    pub fn act(&self) -> Act {
        Act { target: self.target, ..Act::default() }
    }
}

/// Actions that are under way, and the question that waits for a second key.
#[derive(Debug, Default)]
pub struct Guard {
    /// Their first request is with the daemon.
    pub sent: Vec<Batch>,
    pub armed: Option<Armed>,
    pub last_id: u64,
    /// The id of the last question for a configuration diff.
    pub diff: u64,
    /// It is out, or answered.
    pub diff_asked: bool,
    /// When its answer was on the screen.
    pub diff_drawn: Option<Duration>,
    /// How many keys were pressed so far; tells whether one came after another.
    pub keys: u64,
    pub presses: Presses,
    /// Until then nobody can have seen which row the cursor is on.
    pub unseen_until: Duration,
}

/// Requests that are sent one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub id: u64,
    /// The key that asked for it, and that confirms it.
    pub key: Key,
    /// What it does, for the question: `SIGTERM`.
    pub label: String,
    /// Not done yet; the first is the next or the one that is with the daemon.
    pub queue: VecDeque<Request>,
    pub of: usize,
    /// [`Guard::keys`] when it was asked for or confirmed.
    pub asked_at_key: u64,
}

/// A dangerous action that waits for the same key again.
#[derive(Debug)]
pub struct Armed {
    pub batch: Batch,
    /// Who, and why it is dangerous.
    pub question: String,
    /// The daemon asked. Otherwise it may still ask, about what this deck does not know.
    pub by_daemon: bool,
    /// When the question was on the screen.
    pub drawn: Option<Duration>,
    /// When the second press came; it counts once no other one follows.
    pub pressed: Option<Duration>,
    /// It came too soon to count.
    pub too_soon: bool,
}

impl Armed {
    /// When its second press counts.
    pub fn acts_at(&self) -> Option<Duration> {
        self.pressed.map(|at| at + presses::ALONE)
    }

    /// When nobody waits for its second press any more.
    pub fn late_at(&self) -> Option<Duration> {
        self.drawn.filter(|_| self.pressed.is_none()).map(|at| at + PATIENCE)
    }
}

/// A line for the operator that goes away by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub text: String,
    pub bad: bool,
    pub until: Duration,
}

impl Model {
    pub fn new(theme: Theme, tz: TimeZone, user: String, read_only: bool) -> Self {
        Self {
            tz,
            theme,
            keymap: Keymap::default(),
            user,
            read_only,
            size: (80, 24),
            deck: Deck::default(),
            heard: BTreeMap::new(),
            events: VecDeque::new(),
            link: Link::Connecting { problem: None },
            rows: Rows::default(),
            folded: BTreeSet::new(),
            marked: BTreeSet::new(),
            sort: Sort::default(),
            filter: Filter::default(),
            screen: Screen::Table,
            behind: vec![],
            chart: None,
            closeup: None,
            guard: Guard::default(),
            notice: None,
            clicked: None,
            cost: None,
            notified: None,
        }
    }

    /// Puts a page in front of what is shown; Esc leads back.
    pub fn cover(&mut self, screen: Screen) {
        if matches!(self.screen, Screen::Table) {
            self.behind.clear();
        }
        self.behind.push(std::mem::replace(&mut self.screen, screen));
    }

    pub fn say(&mut self, now: Now, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), bad: false, until: now.mono + NOTICE });
    }

    pub fn warn(&mut self, now: Now, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), bad: true, until: now.mono + NOTICE });
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.deck.services.iter().find(|it| it.name == name)
    }

    pub fn instance(&self, service: &str, name: &str) -> Option<&Instance> {
        self.service(service)?.instances.iter().find(|it| it.name == name)
    }

    /// What must have been on the screen before a key may answer it: the number of the question, or of the
    /// differences of the configuration.
    pub fn unseen(&self) -> Option<u64> {
        if let Some(armed) = &self.guard.armed {
            return armed.drawn.is_none().then_some(armed.batch.id);
        }
        let is_told =
            matches!(&self.screen, Screen::Panel(Panel { page: Page::Config(Some(_)), .. }));
        (is_told && self.guard.diff_drawn.is_none()).then_some(self.guard.diff)
    }

    /// By whom everything was stopped, where the last picture says so and the daemon is gone: `shut down by alice`.
    pub fn shut_down(&self) -> Option<&str> {
        let all = || self.deck.services.iter().flat_map(|it| &it.instances);
        let is_over = matches!(self.link, Link::Lost { .. }) && all().all(|it| it.pid.is_none());
        let told = all().map(|it| it.why.as_str()).find(|it| it.starts_with("shut down by "));
        told.filter(|_| is_over)
    }

    /// Why nothing may be changed from here, if so.
    pub fn forbidden(&self) -> Option<&'static str> {
        if self.read_only {
            return Some("read-only: this deck was started with --read-only");
        }
        let known = !matches!(self.link, Link::Connecting { .. });
        let viewer = known && self.deck.role == Role::Viewer;
        viewer.then_some(
            "read-only: you may look, not act; `operators` in the configuration names who may",
        )
    }

    /// The moment the picture is from: while the daemon is away, it stands still.
    pub fn picture(&self, now: Now) -> Now {
        match &self.link {
            Link::Lost { since, .. } => *since,
            Link::Connecting { .. } | Link::Up => now,
        }
    }

    /// How long an instance of `service` has been stopping.
    pub fn elapsed(&self, service: &str, elapsed_ms: u64, now: Now) -> Duration {
        let heard = self.heard.get(service).copied().unwrap_or(now.mono);
        Duration::from_millis(elapsed_ms) + self.picture(now).mono.saturating_sub(heard)
    }

    /// When something on the screen moves by itself. There is no tick: until then, and until
    /// something happens, nothing is drawn.
    pub fn next_wakeup(&self, now: Now) -> Duration {
        let past = now.wall.subsec_nanosecond().rem_euclid(1_000_000_000).unsigned_abs();
        let clock = now.mono + Duration::from_nanos(1_000_000_000 - u64::from(past));
        let notice = self.notice.as_ref().map(|it| it.until);
        let armed = self.guard.armed.as_ref().and_then(|it| it.acts_at().or_else(|| it.late_at()));
        let moving = self.next_tenth(now);
        let asks = super::update::rollout_asks_at(self);
        [notice, armed, moving, asks, self.rows.due]
            .into_iter()
            .flatten()
            .fold(clock, Duration::min)
    }

    /// When the first countdown on the screen shows its next tenth of a second.
    fn next_tenth(&self, now: Now) -> Option<Duration> {
        const TENTH: u64 = 100_000_000;
        if self.link != Link::Up {
            return None;
        }
        let (service, countdown) = match &self.screen {
            Screen::Table => self.countdown_on_table(now)?,
            Screen::Rollout(page) => {
                let service = self.service(&page.service)?;
                (service, service.instances.iter().find_map(|it| it.countdown.as_ref())?)
            }
            Screen::Panel(_)
            | Screen::Picker(_)
            | Screen::Palette(_)
            | Screen::Logs(_)
            | Screen::Events(_) => return None,
        };
        let elapsed = self.elapsed(&service.name, countdown.elapsed_ms, now).as_nanos();
        let past = u64::try_from(elapsed % u128::from(TENTH)).unwrap_or(0);
        Some(now.mono + Duration::from_nanos(TENTH - past))
    }

    /// The first one, and whose it is.
    fn countdown_on_table(&self, now: Now) -> Option<(&Service, &Countdown)> {
        let layout = super::layout::layout(self, now);
        let mut rows = self.rows.window(&self.deck, usize::from(layout.table.height));
        rows.find_map(|it| {
            let countdown = it.instance(&self.deck)?.countdown.as_ref()?;
            Some((it.service(&self.deck)?, countdown))
        })
    }
}
