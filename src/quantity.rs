//! Durations, sizes and counts as people write and read them, in the configuration and on a command line: `1m30s`, `100MiB`.
//!
//! A reader returns what is wrong and what to do, in words; where that stood is the caller's business.
//! The writers print what the readers read, so that `opsdeck config show` is a configuration file again.

use std::time::Duration;

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// For the caret: short, without the value.
    pub label: String,
    pub help: Option<String>,
}

impl Wrong {
    pub fn new(label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { label: label.into(), help: Some(help.into()) }
    }

    /// As one sentence about `text`, for a command line.
    fn of(self, text: &str) -> String {
        let help = self.help.map(|it| format!(": {it}")).unwrap_or_default();
        format!("`{text}` is {}{help}", self.label.trim_start_matches("this is "))
    }
}

/// [`read_duration`] for a command line or a query, where `0` may stand without a unit.
///
/// # Errors
///
/// One sentence: what the text is and how durations are written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => read_duration(text).map_err(|wrong| wrong.of(text)),
    }
}

/// [`read_size`] for a command line.
///
/// # Errors
///
/// One sentence: what the text is and how sizes are written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    read_size(text).map_err(|wrong| wrong.of(text))
}

/// How durations are written.
pub const DURATION_HELP: &str = "write it as \"300ms\", \"10s\", \"1m30s\" or \"2h\"";

/// How sizes are written.
pub const SIZE_HELP: &str = "write it as \"50MiB\", \"1GiB\" or \"500kB\"";

/// Milliseconds in each unit, the longest first: units must come in this order.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `300ms`, `10s`, `1.5s`, `1m30s`, `2h`, `1d`; whole milliseconds, at most ten years.
///
/// # Errors
///
/// Says what is wrong and how durations are written.
pub fn read_duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = |label: &str| Wrong::new(label, DURATION_HELP);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("this is empty"));
    }
    if rest.starts_with('-') {
        return Err(wrong("negative"));
    }
    let (mut total, mut units) = (0_u64, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(wrong(&wrong_unit(number, unit, after)));
        };
        let is_whole = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
        let amount = milliseconds(number, units[at].1).ok_or_else(|| {
            wrong(if is_whole { "longer than ten years" } else { "not a duration" })
        })?;
        total = total.checked_add(amount).ok_or_else(|| wrong("longer than ten years"))?;
        units = &units[at + 1..];
        rest = next;
    }
    if total > 3_660 * UNITS[0].1 {
        return Err(wrong("longer than ten years"));
    }
    Ok(Duration::from_millis(total))
}

/// Why no unit that may follow stands behind a number.
fn wrong_unit(number: &str, unit: &str, after: &str) -> String {
    let is_unit = UNITS.iter().any(|(name, _)| *name == unit);
    match unit {
        _ if number.is_empty() => "not a duration".into(),
        "" if after.starts_with(char::is_whitespace) => "written with a blank".into(),
        "" => "a number without a unit".into(),
        _ if is_unit => "not in order: each unit once, the longer one first".into(),
        _ => format!("a number of `{unit}`, which is no unit of time"),
    }
}

/// `1.5` of a unit in whole milliseconds.
fn milliseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let parts = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    if !parts.is_multiple_of(scale) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(parts / scale)
}

/// Prints a duration the way [`read_duration`] reads it: `10s`, `1m30s`, `1.5s`, `300ms`.
pub fn format_duration(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0s".into();
    }
    if total < 1_000 {
        return format!("{total}ms");
    }
    let (hours, minutes, rest) = (total / 3_600_000, total / 60_000 % 60, total % 60_000);
    let part = |amount: u64, unit| (amount > 0).then(|| format!("{amount}{unit}"));
    let seconds = (rest > 0).then(|| {
        let thousandths = format!("{:03}", rest % 1_000);
        let fraction = thousandths.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}s", rest / 1_000)
    });
    [part(hours, 'h'), part(minutes, 'm'), seconds].into_iter().flatten().collect()
}

/// A time as it is shown, in whole seconds: `8s`, `2m05s`, `1h02m`.
pub fn span(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A time that was measured, as it is shown: `6.2s`, cut and not rounded, then `1m03s`.
pub fn took(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        seconds => span(seconds),
    }
}

/// `1 request`, `4 requests`.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `50MiB`, `1GB`, `4096B` as bytes.
///
/// # Errors
///
/// Says what is wrong and how sizes are written.
pub fn read_size(text: &str) -> Result<u64, Wrong> {
    let help = SIZE_HELP;
    let text = text.trim();
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| Wrong::new("not a size", help))?;
    if unit.is_empty() {
        return Err(Wrong::new("a number without a unit", help));
    }
    let (_, factor) = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
        .ok_or_else(|| Wrong::new("not a size", help))?;
    number.checked_mul(*factor).ok_or_else(|| Wrong::new("larger than any disk", help))
}

/// Prints bytes the way [`read_size`] reads them, in the largest unit that fits exactly.
pub fn format_size(bytes: u64) -> String {
    let (unit, factor) = SIZES[..4]
        .iter()
        .find(|(_, it)| bytes >= *it && bytes.is_multiple_of(*it))
        .unwrap_or(&SIZES[8]);
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_shown_in_one_form() {
        let spans = [8, 60, 125, 3720, 400_000].map(span);
        assert_eq!(spans, ["8s", "1m00s", "2m05s", "1h02m", "111h06m"]);
        let times = [0, 6_299, 59_999, 63_900].map(|ms| took(Duration::from_millis(ms)));
        assert_eq!(times, ["0.0s", "6.2s", "59.9s", "1m03s"]);
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let cases = [("300ms", 300), ("10s", 10_000), ("1m30s", 90_000), ("2h", 7_200_000)];
        for (text, ms) in cases.into_iter().chain([("1.5s", 1_500), ("0s", 0), ("1d", 86_400_000)])
        {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        let wrong =
            ["", "10", "s", "10 s", "30s1m", "1s1s", "-1s", "1e3s", "0.0001s", "9999999999d"];
        for text in wrong.into_iter().chain([".", "1.s", "99999999999999999999s", "10sec"]) {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_duration_is_said() {
        let told = |text: &str| read_duration(text).unwrap_err().label;
        assert_eq!(told("10"), "a number without a unit");
        assert_eq!(told("10 s"), "written with a blank");
        assert_eq!(told("3parsecs"), "a number of `parsecs`, which is no unit of time");
        assert_eq!(told("30s1m"), "not in order: each unit once, the longer one first");
        assert_eq!(told("9999999999999h"), "longer than ten years");
        assert_eq!(told("soon"), "not a duration");
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(read_size("50MiB"), Ok(50 << 20));
        assert_eq!(read_size("1 GB"), Ok(1_000_000_000));
        for text in ["50", "", "MiB", "50M", "99999999999999GiB", "-1MiB"] {
            assert!(read_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_line_hears_it_in_one_sentence() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        let said = parse_duration("8").unwrap_err();
        assert_eq!(said, format!("`8` is a number without a unit: {DURATION_HELP}"));
        assert!(parse_duration("").unwrap_err().starts_with("`` is empty: "));
        assert!(parse_size("1K").unwrap_err().starts_with("`1K` is not a size: "));
    }

    #[test]
    fn one_of_a_thing_is_one() {
        let texts = [0, 1, 2].map(|n| count(n, "request"));
        assert_eq!(texts, ["0 requests", "1 request", "2 requests"]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(ms in 0_u64..300_000_000_000, bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(read_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(read_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            let _ = (read_duration(&text), read_size(&text));
        }
    }
}
