//! `since` of a query: from when on.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error};

use crate::quantity::parse_duration;

/// `10m` ago, so many milliseconds ago (a bare number), or a time as RFC 3339 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    /// The moment that is meant; `None` if it is before all time.
    pub(in crate::daemon) fn moment(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).ok(),
            Self::At(at) => Some(at),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(milliseconds) = text.parse() {
            return Ok(Self::Ago(Duration::from_millis(milliseconds)));
        }
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        parse_duration(text)
            .map(Self::Ago)
            .map_err(|why| format!("{why}, or a time as \"2026-01-31T10:42:17Z\""))
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_milliseconds_and_times_are_understood() {
        let now: Timestamp = "2026-01-31T10:42:17Z".parse().unwrap();
        let of = |text: &str| Since::parse(text).map(|it| it.moment(now).unwrap().to_string());
        assert_eq!(of("10m").as_deref(), Ok("2026-01-31T10:32:17Z"));
        assert_eq!(of("17000").as_deref(), Ok("2026-01-31T10:42:00Z"));
        assert_eq!(of("0").as_deref(), Ok("2026-01-31T10:42:17Z"));
        assert_eq!(of("2026-01-31T11:00:00+01:00").as_deref(), Ok("2026-01-31T10:00:00Z"));
        let why = of("yesterday").unwrap_err();
        assert!(why.contains("`yesterday`") && why.contains("2026-01-31"), "{why}");
        assert_eq!(Since::Ago(Duration::from_secs(1 << 50)).moment(now), None);
    }
}
