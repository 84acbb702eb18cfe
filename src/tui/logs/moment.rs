//! A moment as an operator types it.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// `10m` or `1h 30m` ago, `09:30` the last time it was, a day, a day with a time, a time of RFC 3339.
///
/// # Errors
/// What can be typed instead.
pub fn moment(text: &str, now: Timestamp, tz: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    let here = now.to_zoned(tz.clone());
    let local = |it: DateTime| it.to_zoned(tz.clone()).ok().map(|it| it.timestamp());
    let found = if !text.contains('-')
        && let Ok(time) = text.parse::<Time>()
    {
        let today = local(here.date().to_datetime(time));
        let yesterday = || local(here.date().yesterday().ok()?.to_datetime(time));
        today.filter(|it| *it <= now).or_else(yesterday)
    } else if let Ok(at) = text.parse::<Timestamp>() {
        Some(at)
    } else if let Ok(day) = text.parse::<DateTime>() {
        local(day)
    } else if let Ok(day) = text.parse::<Date>() {
        local(day.to_datetime(Time::midnight()))
    } else {
        let ago: Option<Span> = text.parse().ok();
        ago.and_then(|it| here.checked_sub(it.abs()).ok()).map(|it| it.timestamp())
    };
    let found = found.filter(|it| *it <= now.checked_add(1.hour()).unwrap_or(now));
    found.ok_or_else(|| {
        format!("{text:?} is no moment of the past: 10m (ago), 09:30, 2026-01-31, 2026-01-31 09:30")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_while_ago_a_time_of_the_day_a_day_or_both() {
        let now: Timestamp = "2026-11-21T10:42:17Z".parse().unwrap();
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let of = |text: &str| moment(text, now, &berlin).map(|it| it.to_string());
        let cases = [
            ("10m", "2026-11-21T10:32:17Z"),
            ("1h30m", "2026-11-21T09:12:17Z"),
            ("2d", "2026-11-19T10:42:17Z"),
            ("90s", "2026-11-21T10:40:47Z"),
            (" 09:30 ", "2026-11-21T08:30:00Z"),
            ("09:30:15", "2026-11-21T08:30:15Z"),
            // Later today means yesterday.
            ("23:00", "2026-11-20T22:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 09:30", "2026-11-20T08:30:00Z"),
            ("2026-11-20T09:30:00Z", "2026-11-20T09:30:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "soon", "2027-01-01", "25:00"] {
            assert!(of(text).unwrap_err().contains("no moment"), "{text}");
        }
    }
}
