//! What an answer must be: the status ranges and the body pattern of `expect`.
//!
//! The configuration reader calls the same functions to reject a mistake with
//! its line, so a probe that runs has an expectation that can be met.

use std::fmt;
use std::ops::RangeInclusive;

use regex::bytes::Regex;

/// The HTTP statuses that pass, as one or more ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(Vec<RangeInclusive<u16>>);

impl StatusRange {
    /// What passes when nothing is demanded: 200–399, as for Kubernetes.
    pub fn success() -> Self {
        Self(vec![200..=399])
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            let (first, last) = (range.start(), range.end());
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Reads `200`, `2xx`, `200-204`, or several of them with commas between.
///
/// # Errors
///
/// Says which part is no status and what one looks like.
pub fn parse_status(text: &str) -> Result<StatusRange, String> {
    text.split(',').map(|part| parse_range(part.trim())).collect::<Result<_, _>>().map(StatusRange)
}

fn parse_range(part: &str) -> Result<RangeInclusive<u16>, String> {
    if let Some(class) = part.strip_suffix("xx").or_else(|| part.strip_suffix("XX")) {
        return match class {
            "1" | "2" | "3" | "4" | "5" => {
                let first = parse_code(&format!("{class}00"))?;
                Ok(first..=first + 99)
            }
            _ => Err(format!("`{part}` is no class of statuses: write 1xx to 5xx")),
        };
    }
    let Some((first, last)) = part.split_once('-') else {
        let code = parse_code(part)?;
        return Ok(code..=code);
    };
    let (first, last) = (parse_code(first.trim())?, parse_code(last.trim())?);
    if first > last {
        return Err(format!("`{part}` begins after its end: write {last}-{first}"));
    }
    Ok(first..=last)
}

fn parse_code(text: &str) -> Result<u16, String> {
    // `u16::from_str` would take "+200".
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(code @ 100..=599) if digits => Ok(code),
        _ => Err(format!("`{text}` is no HTTP status: write 200, 2xx, 200-204 or 200,301")),
    }
}

/// Compiles the pattern that must match within the first 64 KiB of a body.
///
/// # Errors
///
/// The regex parser's own words, which point at the place in the pattern.
pub fn parse_body(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn statuses_are_single_classes_ranges_and_lists() {
        assert_eq!(parse_status("200"), Ok(StatusRange(vec![200..=200])));
        assert_eq!(parse_status("2xx"), Ok(StatusRange(vec![200..=299])));
        assert_eq!(parse_status("200-204"), Ok(StatusRange(vec![200..=204])));
        assert_eq!(
            parse_status("200, 3xx,401 - 404"),
            Ok(StatusRange(vec![200..=200, 300..=399, 401..=404]))
        );
    }

    #[test]
    fn a_list_contains_what_any_part_contains() {
        let range = parse_status("200-204,301").unwrap();
        let inside: Vec<u16> = (100..600).filter(|code| range.contains(*code)).collect();
        assert_eq!(inside, [200, 201, 202, 203, 204, 301]);
    }

    #[test]
    fn what_is_no_status_is_said() {
        let said = |text| parse_status(text).unwrap_err();
        assert_snapshot!(said("ok"), @"`ok` is no HTTP status: write 200, 2xx, 200-204 or 200,301");
        assert_snapshot!(said("+20"), @"`+20` is no HTTP status: write 200, 2xx, 200-204 or 200,301");
        assert_snapshot!(said("200,"), @"`` is no HTTP status: write 200, 2xx, 200-204 or 200,301");
        assert_snapshot!(said("999"), @"`999` is no HTTP status: write 200, 2xx, 200-204 or 200,301");
        assert_snapshot!(said("9xx"), @"`9xx` is no class of statuses: write 1xx to 5xx");
        assert_snapshot!(said("204-200"), @"`204-200` begins after its end: write 200-204");
    }

    #[test]
    fn ranges_are_written_as_they_are_read() {
        let range = parse_status("200, 3xx").unwrap();
        assert_eq!(range.to_string(), "200, 300-399");
        assert_eq!(parse_status(&range.to_string()), Ok(range));
    }

    #[test]
    fn a_broken_pattern_is_refused_with_the_place() {
        assert!(parse_body("version (42").unwrap_err().contains("unclosed group"));
    }
}
