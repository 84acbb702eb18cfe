//! What a run of the load generator found.
//!
//! Every request that was begun is in exactly one of: good, failed, unfinished.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Done;
use super::connection::Failure;
use super::histogram::Histogram;
use crate::quantity::count;

/// The result of `opsdeck load`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    pub url: String,
    pub clients: u16,
    pub elapsed: Duration,
    /// Complete replies by their class: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub replies: [u64; 5],
    pub refused: u64,
    pub reset: u64,
    pub timed_out: u64,
    /// Closed before the whole reply had come.
    pub closed: u64,
    pub other: u64,
    /// The words of the first failure counted in `other`.
    pub first_other: Option<String>,
    /// Sent twice, by `--resend`; each is counted once among the others.
    pub resent: u64,
    /// Given up by a second Ctrl-C; neither good nor failed.
    pub unfinished: u64,
    /// Of the complete replies.
    latencies: Histogram,
}

impl LoadReport {
    pub(super) fn new(url: String, clients: u16) -> Self {
        Self { url, clients, ..Self::default() }
    }

    pub(super) fn add(&mut self, done: Done) {
        self.resent += u64::from(done.was_resent);
        match done.result {
            Ok(status) => {
                self.latencies.add(done.latency);
                let class = usize::from(status / 100).clamp(1, 5);
                self.replies[class - 1] += 1;
            }
            Err(Failure::Refused) => self.refused += 1,
            Err(Failure::Reset) => self.reset += 1,
            Err(Failure::TimedOut) => self.timed_out += 1,
            Err(Failure::Closed) => self.closed += 1,
            Err(Failure::Other(words)) => {
                self.other += 1;
                self.first_other.get_or_insert(words);
            }
        }
    }

    /// Requests that are over.
    pub fn requests(&self) -> u64 {
        self.good() + self.failed()
    }

    /// Requests with a complete 2xx or 3xx reply.
    pub fn good(&self) -> u64 {
        self.replies[1] + self.replies[2]
    }

    /// All others.
    pub fn failed(&self) -> u64 {
        let answered = self.replies[0] + self.replies[3] + self.replies[4];
        answered + self.refused + self.reset + self.timed_out + self.closed + self.other
    }

    /// 0, or 1 when a request failed.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.failed() > 0)
    }

    /// The latency that `percent` of the complete replies did not exceed.
    pub fn percentile(&self, percent: u64) -> Duration {
        self.latencies.percentile(percent)
    }

    /// The slowest complete reply.
    pub fn slowest(&self) -> Duration {
        self.latencies.max()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        match self.elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.requests() as f64 / seconds,
        }
    }

    /// The report as one JSON object; latencies in microseconds.
    pub fn to_json(&self) -> Value {
        let [informational, good, redirected, client, server] = self.replies;
        let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
        json!({
            "url": self.url,
            "clients": self.clients,
            "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            "requests": self.requests(),
            "good": self.good(),
            "failed": self.failed(),
            "resent": self.resent,
            "unfinished": self.unfinished,
            "requests_per_second": (self.rate() * 10.0).round() / 10.0,
            "replies": {
                "1xx": informational, "2xx": good, "3xx": redirected,
                "4xx": client, "5xx": server,
            },
            "failures": {
                "refused": self.refused, "reset": self.reset, "timed_out": self.timed_out,
                "closed": self.closed, "other": self.other, "first_other": self.first_other,
            },
            "latency_us": {
                "p50": micros(self.percentile(50)),
                "p90": micros(self.percentile(90)),
                "p99": micros(self.percentile(99)),
                "max": micros(self.slowest()),
            },
        })
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, good, redirected, client, server] = self.replies;
        let clients = count(self.clients.into(), "client");
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "{}   {clients}, {seconds:.1}s", self.url)?;
        writeln!(
            f,
            "requests   {}   {:.1} a second   {} good   {} failed",
            self.requests(),
            self.rate(),
            self.good(),
            self.failed(),
        )?;
        writeln!(f, "replies    2xx {good}   3xx {redirected}   4xx {client}   5xx {server}")?;
        writeln!(
            f,
            "failures   refused {}   reset {}   timed out {}   closed early {}   other {}",
            self.refused, self.reset, self.timed_out, self.closed, self.other,
        )?;
        if let Some(words) = &self.first_other {
            writeln!(f, "           first other: {words}")?;
        }
        if self.resent > 0 {
            writeln!(f, "sent twice {}   the first connection had been closed", self.resent)?;
        }
        if self.unfinished > 0 {
            writeln!(f, "unfinished {}   given up while waiting for a reply", self.unfinished)?;
        }
        if self.slowest().is_zero() {
            return write!(f, "latency    nothing was answered");
        }
        let [p50, p90, p99] = [50, 90, 99].map(|percent| Short(self.percentile(percent)));
        write!(f, "latency    p50 {p50}   p90 {p90}   p99 {p99}   max {}", Short(self.slowest()))
    }
}

/// A latency in three digits or so.
pub(super) struct Short(pub(super) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "{micros}µs"),
            1_000..10_000 => write!(f, "{:.1}ms", micros as f64 / 1e3),
            10_000..1_000_000 => write!(f, "{}ms", micros / 1_000),
            _ => write!(f, "{:.2}s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn report() -> LoadReport {
        let mut report = LoadReport::new("http://127.0.0.1:9999/".to_owned(), 5);
        let mut add = |result: Result<u16, Failure>, count: u64, millis: u64| {
            for _ in 0..count {
                let latency = Duration::from_millis(millis);
                report.add(Done { result: result.clone(), latency, was_resent: false });
            }
        };
        add(Ok(200), 95, 100);
        add(Ok(302), 3, 200);
        add(Ok(404), 1, 300);
        add(Ok(502), 1, 8_000);
        add(Err(Failure::Refused), 1, 1);
        add(Err(Failure::Reset), 2, 1);
        add(Err(Failure::TimedOut), 3, 30_000);
        add(Err(Failure::Closed), 4, 1);
        add(Err(Failure::Other("the reply is not HTTP".into())), 5, 1);
        add(Err(Failure::Other("something else".into())), 1, 1);
        report.elapsed = Duration::from_millis(23_200);
        report
    }

    #[test]
    fn a_report_tells_failures_apart() {
        assert_snapshot!(report(), @r"
        http://127.0.0.1:9999/   5 clients, 23.2s
        requests   116   5.0 a second   98 good   18 failed
        replies    2xx 95   3xx 3   4xx 1   5xx 1
        failures   refused 1   reset 2   timed out 3   closed early 4   other 6
                   first other: the reply is not HTTP
        latency    p50 100ms   p90 100ms   p99 303ms   max 8.00s
        ");
    }

    #[test]
    fn without_a_reply_there_is_no_latency() {
        let mut report = LoadReport::new("http://127.0.0.1:9999/".to_owned(), 1);
        let result = Err(Failure::Refused);
        report.add(Done { result, latency: Duration::ZERO, was_resent: false });
        report.unfinished = 1;
        assert_snapshot!(report, @r"
        http://127.0.0.1:9999/   1 client, 0.0s
        requests   1   0.0 a second   0 good   1 failed
        replies    2xx 0   3xx 0   4xx 0   5xx 0
        failures   refused 1   reset 0   timed out 0   closed early 0   other 0
        unfinished 1   given up while waiting for a reply
        latency    nothing was answered
        ");
    }

    #[test]
    fn only_complete_2xx_and_3xx_replies_are_good() {
        let exit_code = |result| {
            let mut report = LoadReport::new(String::new(), 1);
            report.add(Done { result, latency: Duration::ZERO, was_resent: false });
            assert_eq!(report.requests(), 1);
            report.exit_code()
        };
        let codes = [200, 204, 302, 404, 503].map(|status| exit_code(Ok(status)));
        assert_eq!(codes, [0, 0, 0, 1, 1]);
        assert_eq!(exit_code(Err(Failure::Closed)), 1);
    }

    #[test]
    fn the_json_has_what_the_text_has() {
        assert_snapshot!(report().to_json(), @r#"{"clients":5,"elapsed_ms":23200,"failed":18,"failures":{"closed":4,"first_other":"the reply is not HTTP","other":6,"refused":1,"reset":2,"timed_out":3},"good":98,"latency_us":{"max":8000000,"p50":100351,"p90":100351,"p99":303103},"replies":{"1xx":0,"2xx":95,"3xx":3,"4xx":1,"5xx":1},"requests":116,"requests_per_second":5.0,"resent":0,"unfinished":0,"url":"http://127.0.0.1:9999/"}"#);
    }
}
