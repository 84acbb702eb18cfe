//! Numbers of a page in the text format of Prometheus (exposition formats, 0.0.4) or OpenMetrics 1.0.
//!
//! A selector names a metric and, if it likes, labels with their values, as in PromQL: `http_requests_total`,
//! `jobs{queue="mail"}`. Every series that has these labels counts.

use std::iter::Peekable;
use std::str::Chars;

/// Which series are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut chars = text.trim().chars().peekable();
        let whole = series(&mut chars).filter(|_| chars.next().is_none());
        let (name, labels) = whole.ok_or_else(|| {
            format!("`{text}` names no metric: write name or name{{label=\"value\"}}")
        })?;
        Ok(Self { name, labels })
    }
}

/// The values of all series that fit, together.
pub(super) fn sum(document: &[u8], selector: &Selector) -> Result<f64, String> {
    let text = String::from_utf8_lossy(document);
    let mut found = None;
    for line in text.lines() {
        // Most lines are about something else.
        if line.trim_start().starts_with(&selector.name)
            && let Some(value) = value_of(line, selector)
        {
            *found.get_or_insert(0.0) += value;
        }
    }
    let name = &selector.name;
    let sum: f64 = found.ok_or_else(|| format!("there is no `{name}` with these labels on it"))?;
    if sum.is_finite() { Ok(sum) } else { Err(format!("`{name}` is {sum}")) }
}

/// The value on this line, if its series is meant.
fn value_of(line: &str, selector: &Selector) -> Option<f64> {
    let mut chars = line.trim().chars().peekable();
    let (name, labels) = series(&mut chars)?;
    if name != selector.name || !selector.labels.iter().all(|it| labels.contains(it)) {
        return None;
    }
    let rest: String = chars.collect();
    // A timestamp may follow.
    rest.split_whitespace().next()?.parse().ok()
}

type Series = (String, Vec<(String, String)>);

/// `name` or `name{label="value",…}`.
fn series(chars: &mut Peekable<Chars<'_>>) -> Option<Series> {
    let name = word(chars)?;
    let mut labels = vec![];
    if chars.next_if_eq(&'{').is_some() {
        loop {
            blanks(chars);
            if chars.next_if_eq(&'}').is_some() {
                break;
            }
            let label = word(chars)?;
            blanks(chars);
            chars.next_if_eq(&'=')?;
            blanks(chars);
            labels.push((label, quoted(chars)?));
            blanks(chars);
            if chars.next_if_eq(&',').is_none() && chars.peek() != Some(&'}') {
                return None;
            }
        }
    }
    Some((name, labels))
}

fn blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|it| matches!(it, ' ' | '\t')).is_some() {}
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let fits = |it: &char| it.is_ascii_alphanumeric() || matches!(it, '_' | ':');
    let mut word = String::new();
    while let Some(it) = chars.next_if(fits) {
        word.push(it);
    }
    (!word.is_empty() && !word.starts_with(|it: char| it.is_ascii_digit())).then_some(word)
}

/// With `\\`, `\"` and `\n` in it.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    chars.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                it => text.push(it),
            },
            it => text.push(it),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000
http_requests_total_created{method="post",code="200"} 1.6e9
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
in_flight{ worker = "0" , } 2
in_flight{worker="1"} 3 # {trace_id="a"} 1
something_weird{problem="division by zero"} +Inf -3982045
# EOF
"#;

    fn sum_of(selector: &str) -> Result<f64, String> {
        sum(PAGE.as_bytes(), &Selector::parse(selector)?)
    }

    #[test]
    fn series_are_added_up_by_their_labels() {
        assert_eq!(sum_of("http_requests_total"), Ok(1030.0));
        assert_eq!(sum_of("http_requests_total{code=\"400\"}"), Ok(3.0));
        assert_eq!(sum_of("metric_without_timestamp_and_labels"), Ok(12.47));
        assert_eq!(sum_of("in_flight"), Ok(5.0));
        assert_eq!(
            sum_of(r#"msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT"}"#),
            Ok(1.458255915e9)
        );
        assert_eq!(
            sum_of("http_requests_total{code=\"500\"}").unwrap_err(),
            "there is no `http_requests_total` with these labels on it"
        );
        assert_eq!(sum_of("something_weird").unwrap_err(), "`something_weird` is inf");
        assert!(sum_of("http_requests").is_err(), "no metric is meant by half its name");
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in
            ["", "1x", "x{", "x{a}", "x{a=b}", "x{a=\"b\"", "x y", "x{a=\"b\"} 3", "rate(x[1m])"]
        {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_read(text in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Selector::parse(&text);
            let page = format!("requests_total{text}\n");
            let selector = Selector::parse("requests_total").unwrap();
            let _ = sum(page.as_bytes(), &selector);
            crate::load::read_all(&bytes);
            crate::load::read_all(text.as_bytes());
        }
    }
}
