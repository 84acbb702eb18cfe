//! The words of the filter: which rows are shown.
//!
//! Words stand beside each other, and a row is shown if all of them hold: `state:backoff`, `cpu>50`,
//! `ready:no`, `stale`, a part of a name. `!` in front of a word turns it around. A word that is
//! without `:`, `=`, `<` or `>` that is none of these is a text. One with such a sign that is none of them, or
//! whose value makes no sense, is told and skipped: no name has these signs.
//! Pure: no clock, no model, only a service and its instances.

use super::theme::word;
use crate::api::{Goal, Instance, Rollout, Service, State};

/// What can be asked for, for the help page: an example, and what it means.
pub const WORDS: &[(&str, &str)] = &[
    ("web", "a part of the name of a service or an instance, or of a state"),
    ("state:backoff", "in this state; the beginning of its word is enough"),
    ("ready:no live:no", "what the probes say"),
    ("load>100 flight>0", "requests per second, requests in flight"),
    ("cpu>50 mem>1G", "percent of one core; bytes, with K, M, G or T"),
    ("restarts>3 p99>200ms", "also with >= < <= ="),
    ("port:9502 pid:4711", "exactly this one"),
    ("profile:swoole goal:down", "as it is configured, as it is wanted"),
    ("stale held backup", "and: out, ejected, rolling"),
    ("!stale", "not so"),
];

/// A filter as it was understood.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    terms: Vec<Term>,
    mistake: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Term {
    /// `!` stood in front of it.
    not: bool,
    test: Test,
}

#[derive(Debug, PartialEq)]
enum Test {
    /// In lower case.
    Text(String),
    /// The word of a flag, which may as well be a part of a name.
    Flag(Flag, String),
    State(String),
    Figure(Figure, Order, f64),
    Ready(bool),
    Live(bool),
    Port(u16),
    Pid(i32),
    Goal(Goal),
    Profile(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flag {
    Stale,
    Held,
    Backup,
    Out,
    Ejected,
    Rolling,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Load,
    InFlight,
    Cpu,
    Memory,
    Restarts,
    P99,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    More,
    AtLeast,
    Less,
    AtMost,
    Same,
}

const FLAGS: &[(&str, Flag)] = &[
    ("stale", Flag::Stale),
    ("held", Flag::Held),
    ("backup", Flag::Backup),
    ("out", Flag::Out),
    ("ejected", Flag::Ejected),
    ("rolling", Flag::Rolling),
];

const FIGURES: &[(&str, Figure)] = &[
    ("load", Figure::Load),
    ("req/s", Figure::Load),
    ("flight", Figure::InFlight),
    ("cpu", Figure::Cpu),
    ("mem", Figure::Memory),
    ("memory", Figure::Memory),
    ("restarts", Figure::Restarts),
    ("rst", Figure::Restarts),
    ("p99", Figure::P99),
];

/// Longer signs first: `>=` begins with `>`.
const ORDERS: &[(&str, Order)] = &[
    (">=", Order::AtLeast),
    ("<=", Order::AtMost),
    (">", Order::More),
    ("<", Order::Less),
    ("=", Order::Same),
    (":", Order::Same),
];

const STATES: [State; 10] = [
    State::Stopped,
    State::Spawning,
    State::Starting,
    State::Running,
    State::Draining,
    State::Stopping,
    State::Backoff,
    State::Exited,
    State::Fatal,
    State::Lost,
];

impl Query {
    /// Reads what was typed. What makes no sense is skipped and can be asked for.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for typed in text.split_whitespace() {
            let lower = typed.to_lowercase();
            let (not, rest) = match lower.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, lower.as_str()),
            };
            // On its way to be something.
            if rest.is_empty() {
                continue;
            }
            match test(rest) {
                Ok(test) => query.terms.push(Term { not, test }),
                Err(why) => query.mistake = query.mistake.or(Some(format!("{typed}: {why}"))),
            }
        }
        query
    }

    /// The first word that was skipped, and why.
    pub fn mistake(&self) -> Option<&str> {
        self.mistake.as_deref()
    }

    /// The same without what there is instead; no word that was typed has a blank in it.
    pub fn mistake_in_short(&self) -> Option<&str> {
        self.mistake()?.split("; ").next()
    }

    /// Nothing but the name of the service is asked for: all of it is meant, folded as it is.
    pub fn is_named(&self, service: &Service) -> bool {
        self.terms.iter().all(|it| match &it.test {
            Test::Text(text) | Test::Flag(_, text) => !it.not && has(&service.name, text),
            _ => false,
        })
    }

    pub fn instance(&self, service: &Service, it: &Instance) -> bool {
        self.terms.iter().all(|term| term.test.instance(service, it) != term.not)
    }

    /// The service as a whole, whatever each of its instances does.
    pub fn service(&self, it: &Service) -> bool {
        self.terms.iter().all(|term| term.test.service(it) != term.not)
    }
}

impl Test {
    fn instance(&self, service: &Service, it: &Instance) -> bool {
        match self {
            Self::Text(text) => is_called(service, it, text),
            Self::Flag(flag, text) => flag.instance(service, it) || is_called(service, it, text),
            Self::State(text) => begins(it.state, text),
            Self::Figure(figure, order, limit) => {
                figure.instance(it).is_some_and(|value| order.holds(value, *limit))
            }
            Self::Ready(wanted) => (it.ready == Some(true)) == *wanted,
            Self::Live(wanted) => (it.live == Some(true)) == *wanted,
            Self::Port(port) => it.port == Some(*port),
            Self::Pid(pid) => it.pid == Some(*pid),
            Self::Goal(goal) => it.goal == *goal,
            Self::Profile(text) => service.profile.to_lowercase().starts_with(text),
        }
    }

    fn service(&self, it: &Service) -> bool {
        let all = &it.instances;
        match self {
            Self::Text(text) => has(&it.name, text) || has(word(it.state), text),
            Self::Flag(flag, text) => flag.service(it) || has(&it.name, text),
            Self::State(text) => begins(it.state, text),
            Self::Figure(figure, order, limit) => {
                figure.service(it).is_some_and(|value| order.holds(value, *limit))
            }
            Self::Ready(wanted) => (it.ready >= it.wanted) == *wanted,
            Self::Live(wanted) => all.iter().all(|it| it.live == Some(true)) == *wanted,
            Self::Port(port) => entry(it) == Some(*port),
            Self::Pid(_) => false,
            Self::Goal(goal) => it.goal == *goal,
            Self::Profile(text) => it.profile.to_lowercase().starts_with(text),
        }
    }
}

impl Flag {
    fn instance(self, service: &Service, it: &Instance) -> bool {
        match self {
            Self::Stale => it.stale,
            Self::Held => it.held_by.is_some(),
            Self::Backup => it.backup,
            Self::Out => service.gateway.is_some() && it.pid.is_some() && !it.in_rotation,
            Self::Ejected => it.ejected,
            Self::Rolling => self.service(service),
        }
    }

    fn service(self, it: &Service) -> bool {
        match self {
            Self::Stale => it.stale,
            Self::Rolling => it.rollout.as_ref().is_some_and(Rollout::is_under_way),
            Self::Held | Self::Backup | Self::Out | Self::Ejected => false,
        }
    }
}

impl Figure {
    #[expect(clippy::cast_precision_loss, reason = "compared with what somebody typed")]
    fn instance(self, it: &Instance) -> Option<f64> {
        match self {
            Self::Load => it.requests_per_second,
            Self::InFlight => it.in_flight.map(f64::from),
            Self::Cpu => it.cpu_percent,
            Self::Memory => it.memory_bytes.map(|it| it as f64),
            Self::Restarts => Some(it.restarts as f64),
            Self::P99 => it.p99_ms.map(|it| it as f64),
        }
    }

    /// What the row of the service shows: the sum, of latencies the worst.
    fn service(self, it: &Service) -> Option<f64> {
        if let (Self::Load, Some(gateway)) = (self, &it.gateway) {
            return Some(gateway.requests_per_second);
        }
        let all = it.instances.iter().filter_map(|it| self.instance(it));
        all.reduce(|a, b| if self == Self::P99 { a.max(b) } else { a + b })
    }
}

impl Order {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::More => value > limit,
            Self::AtLeast => value >= limit,
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            // A figure is shown rounded.
            Self::Same => (value - limit).abs() < 0.5,
        }
    }
}

/// Reads one word, in lower case.
fn test(text: &str) -> Result<Test, String> {
    if let Some((_, flag)) = FLAGS.iter().find(|it| it.0 == text) {
        return Ok(Test::Flag(*flag, text.to_owned()));
    }
    let Some(at) = text.find(['>', '<', '=', ':']) else { return Ok(Test::Text(text.to_owned())) };
    let (key, rest) = text.split_at(at);
    let found = ORDERS.iter().find_map(|(sign, order)| Some((*order, rest.strip_prefix(sign)?)));
    let Some((order, value)) = found else { return Ok(Test::Text(text.to_owned())) };
    if let Some((_, figure)) = FIGURES.iter().find(|it| it.0 == key) {
        return number(*figure, value).map(|limit| Test::Figure(*figure, order, limit));
    }
    let is_value = order == Order::Same;
    match key {
        "state" | "ready" | "live" | "port" | "pid" | "goal" | "profile" if !is_value => {
            Err(format!("it is {key}:VALUE"))
        }
        "state" if STATES.iter().any(|it| begins(*it, value)) => Ok(Test::State(value.to_owned())),
        "state" => Err("no such state; backoff, fatal, running, …".into()),
        "ready" => yes_or_no(value).map(Test::Ready),
        "live" => yes_or_no(value).map(Test::Live),
        "port" => value.parse().map(Test::Port).map_err(|_| "a port is a number".into()),
        "pid" => value.parse().map(Test::Pid).map_err(|_| "a pid is a number".into()),
        "goal" => match value {
            "up" => Ok(Test::Goal(Goal::Up)),
            "down" => Ok(Test::Goal(Goal::Down)),
            _ => Err("it is up or down".into()),
        },
        "profile" => Ok(Test::Profile(value.to_owned())),
        _ => Err(unknown(key, is_value)),
    }
}

/// Which words there are; those that go with a sign like this one first, for a narrow screen.
fn unknown(key: &str, is_value: bool) -> String {
    const VALUES: &str = "state ready live port pid goal profile";
    const COMPARED: &str = "load flight cpu mem restarts p99";
    let (first, then) = if is_value { (VALUES, COMPARED) } else { (COMPARED, VALUES) };
    let what = if key.is_empty() { "a word is missing" } else { "no such word" };
    format!("{what}; there are {first} {then}")
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "y" | "true" => Ok(true),
        "no" | "n" | "false" => Ok(false),
        _ => Err("it is yes or no".into()),
    }
}

/// A number with the unit that its figure is shown with.
fn number(figure: Figure, text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let unit = &text[digits.len()..];
    let factor = match (figure, unit) {
        (_, "") | (Figure::Cpu, "%") | (Figure::P99, "ms") => Some(1.0),
        (Figure::P99, "s") => Some(1000.0),
        (Figure::Memory, unit) => match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => Some(1.0),
            "k" => Some(1024.0),
            "m" => Some(1_048_576.0),
            "g" => Some(1_073_741_824.0),
            "t" => Some(1_099_511_627_776.0),
            _ => None,
        },
        (_, "k") => Some(1000.0),
        _ => None,
    };
    let number: Option<f64> = digits.parse().ok().filter(|it: &f64| it.is_finite());
    match (number, factor) {
        (Some(number), Some(factor)) => Ok(number * factor),
        _ if text.is_empty() => Err("compared with what number?".into()),
        (Some(_), None) => Err(format!("{unit:?} is no unit of it")),
        (None, _) => Err(format!("{text:?} is no number")),
    }
}

fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(part)
}

fn begins(state: State, text: &str) -> bool {
    !text.is_empty() && word(state).to_lowercase().starts_with(text)
}

fn is_called(service: &Service, it: &Instance, text: &str) -> bool {
    has(&it.name, text) || has(&service.name, text) || has(word(it.state), text)
}

/// The port clients come in at.
pub(super) fn entry(it: &Service) -> Option<u16> {
    it.gateway.as_ref()?.listen.as_ref()?.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixtures::*;

    /// The instances of `web` and `cron` that a filter lets through.
    fn shown(text: &str) -> String {
        let query = Query::parse(text);
        assert_eq!(query.mistake(), None, "{text}");
        let mut web = fronted(draining(web()));
        web.instances[0].stale = true;
        web.instances[1].memory_bytes = Some(3 << 30);
        let all = [web, cron()];
        let names = all.iter().flat_map(|service| {
            let its = service.instances.iter().filter(|it| query.instance(service, it));
            its.map(|it| it.name.as_str())
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_find_what_they_say_and_together_all_must_hold() {
        for (text, expected) in [
            ("", "web1 web2 cron"),
            ("web", "web1 web2"),
            ("WEB2", "web2"),
            ("state:backoff", "cron"),
            ("state:ba", "cron"),
            ("state=draining", "web1"),
            ("!state:running", "web1 cron"),
            ("load>100", "web2"),
            ("load<100", "web1"),
            ("flight>=7 flight<=7", "web1"),
            ("cpu>2", "web1 web2"),
            ("cpu>2.05%", "web1 web2"),
            ("cpu>50", ""),
            ("mem>1G", "web2"),
            ("mem<1GiB", "web1"),
            ("memory:90MiB", "web1"),
            ("restarts>3", "cron"),
            ("p99>40ms", "web1 web2"),
            ("p99>1s", ""),
            ("ready:no", "web1 cron"),
            ("ready:yes", "web2"),
            ("live:no", "cron"),
            ("port:9502", "web1"),
            ("port:950", ""),
            ("stale", "web1"),
            ("!stale", "web2 cron"),
            ("backup", "web2"),
            ("out", "web1"),
            ("web !backup", "web1"),
            ("profile:swoole", "web1 web2"),
            ("goal:down", ""),
            ("!", "web1 web2 cron"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_flag_is_also_a_part_of_a_name() {
        let query = Query::parse("backup");
        let job = service("backup-db", vec![running("backup-db", "backup-db", 0)]);
        assert!(query.instance(&job, &job.instances[0]) && query.is_named(&job));
    }

    #[test]
    fn a_service_is_measured_as_its_row_shows_it() {
        let web = fronted(web());
        for (text, expected) in
            [("load>812", true), ("cpu>4", true), ("flight>37", false), ("port:9999", true)]
        {
            assert_eq!(Query::parse(text).service(&web), expected, "{text}");
        }
    }

    #[test]
    fn a_value_without_sense_is_told_and_the_rest_holds() {
        for (text, expected) in [
            ("cpu>", "cpu>: compared with what number?"),
            ("cpu>many", "cpu>many: \"many\" is no number"),
            ("mem>1X", "mem>1X: \"x\" is no unit of it"),
            ("state:asleep", "state:asleep: no such state; backoff, fatal, running, …"),
            ("state>3", "state>3: it is state:VALUE"),
            ("ready:maybe", "ready:maybe: it is yes or no"),
            ("port:http web", "port:http: a port is a number"),
            (
                "foo>3 web",
                "foo>3: no such word; there are load flight cpu mem restarts p99 state ready live port pid goal profile",
            ),
            (
                "bogus:1",
                "bogus:1: no such word; there are state ready live port pid goal profile load flight cpu mem restarts p99",
            ),
            (
                "!http://x",
                "!http://x: no such word; there are state ready live port pid goal profile load flight cpu mem restarts p99",
            ),
            (
                ">3",
                ">3: a word is missing; there are load flight cpu mem restarts p99 state ready live port pid goal profile",
            ),
        ] {
            let query = Query::parse(text);
            assert_eq!(query.mistake(), Some(expected));
            assert_eq!(query.terms.is_empty(), !text.contains("web"));
        }
    }

    #[test]
    fn every_word_of_the_help_is_understood() {
        for (text, _) in WORDS {
            assert_eq!(Query::parse(text).mistake(), None, "{text}");
        }
    }
}
