//! Durations and sizes as people write them on a command line: `1m30s`, `100MiB`.
//!
//! Refuses what could be read in two ways: a bare number has no unit, so only
//! `0` is taken.

use std::time::Duration;

/// Reads `100ms`, `3s`, `1m30s`, `0`; units are ms, s, m, h, d.
///
/// # Errors
///
/// Says what the text is not and how durations are written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = |name: &str| match name {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    sum(text, unit)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no duration: write 100ms, 3s or 1m30s"))
}

/// Reads `512`, `100kB`, `64KiB`, `100MiB` as bytes.
///
/// # Errors
///
/// Says what the text is not and how sizes are written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let unit = |name: &str| match name {
        "" | "B" => Some(1),
        "kB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    sum(text, unit).ok_or_else(|| format!("`{text}` is no size: write 512, 64KiB or 100MiB"))
}

/// Adds up pairs of a number and a unit.
fn sum(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0u64;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (name, next) = tail.split_at(letters);
        let amount = number.parse::<u64>().ok()?.checked_mul(unit(name)?)?;
        total = total.checked_add(amount)?;
        if next.is_empty() {
            return Some(total);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let read = |text| parse_duration(text).map(|it| it.as_millis());
        assert_eq!(read("100ms"), Ok(100));
        assert_eq!(read("3s"), Ok(3_000));
        assert_eq!(read("1m30s"), Ok(90_000));
        assert_eq!(read("1d2h"), Ok(93_600_000));
        assert_eq!(read("0"), Ok(0));
    }

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("100MiB"), Ok(104_857_600));
        assert_eq!(parse_size("2kB"), Ok(2_000));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in ["", "3", "s", "-3s", "3 s", "3s4", "1.5s", "3S", "99999999999999999999s"] {
            assert_eq!(
                parse_duration(text),
                Err(format!("`{text}` is no duration: write 100ms, 3s or 1m30s"))
            );
        }
        for text in ["", "KiB", "1 KiB", "1K", "99999999999GiB"] {
            assert_eq!(
                parse_size(text),
                Err(format!("`{text}` is no size: write 512, 64KiB or 100MiB"))
            );
        }
    }
}
