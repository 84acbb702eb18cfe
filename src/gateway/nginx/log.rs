//! Lines of nginx's access log, read for what they say of the instances.
//!
//! The format is nginx's own `log_format` (ngx_http_log_module), whatever else stands in it. A variable
//! ends where the text behind it begins. Those about upstreams are lists, one element for each instance
//! that was tried, parted by `, ` and ` : ` (ngx_http_upstream_module): the last one has answered.

/// A `log_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// What a line begins with.
    head: String,
    /// A variable and what follows it.
    pieces: Vec<(Field, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Address,
    UpstreamStatus,
    Status,
    UpstreamTime,
    Time,
    /// Something else, list or not.
    Other,
}

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'l> {
    /// Addresses that did not answer and were tried before.
    pub passed_over: Vec<&'l str>,
    /// The one that the answer is from. nginx has the name of the block here if it found nobody.
    pub address: &'l str,
    pub status: u16,
    /// How long it took, if that is said.
    pub micros: Option<u64>,
}

impl Format {
    /// Reads a `log_format`. The error says what is missing.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('$');
        let head = parts.next().unwrap_or_default().to_owned();
        let pieces: Vec<_> = parts.map(piece).collect();
        let has = |field: Field| pieces.iter().any(|it| it.0 == field);
        if !has(Field::Address) {
            return Err("it has no $upstream_addr");
        }
        if !has(Field::UpstreamStatus) && !has(Field::Status) {
            return Err("it has neither $upstream_status nor $status");
        }
        let apart = pieces.iter().rev().skip(1).all(|it| !it.1.is_empty());
        apart.then_some(Self { head, pieces }).ok_or("two variables have nothing between them")
    }

    /// Reads a line without its end; `None` for one of another format, or that reached no instance.
    pub fn read<'l>(&self, line: &'l str) -> Option<Entry<'l>> {
        let mut rest = line.strip_prefix(&self.head)?;
        let (mut addresses, mut statuses, mut times) = ("", "", "");
        let (mut status, mut time) = ("", "");
        for (field, behind) in &self.pieces {
            let length = length(rest, behind)?;
            let (value, after) = rest.split_at(length);
            rest = &after[behind.len()..];
            match field {
                Field::Address => addresses = value,
                Field::UpstreamStatus => statuses = value,
                Field::Status => status = value,
                Field::UpstreamTime => times = value,
                Field::Time => time = value,
                Field::Other => (),
            }
        }
        let mut passed_over: Vec<_> = elements(addresses).collect();
        let address = passed_over.pop().filter(|it| *it != "-")?;
        let status = elements(statuses).last().and_then(number).or_else(|| number(status))?;
        let micros = elements(times).last().and_then(micros).or_else(|| micros(time));
        Some(Entry { passed_over, address, status, micros })
    }
}

fn piece(text: &str) -> (Field, String) {
    let (name, behind) = match text.strip_prefix('{').and_then(|it| it.split_once('}')) {
        Some(braced) => braced,
        None => {
            let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
            text.split_at(text.find(|it| !is_name(it)).unwrap_or(text.len()))
        }
    };
    let field = match name {
        "upstream_addr" => Field::Address,
        "upstream_status" => Field::UpstreamStatus,
        "status" => Field::Status,
        "upstream_response_time" => Field::UpstreamTime,
        "request_time" => Field::Time,
        _ => Field::Other,
    };
    (field, behind.to_owned())
}

/// Bytes of the value at the beginning of `text` that `behind` ends; blanks between elements do not.
fn length(text: &str, behind: &str) -> Option<usize> {
    if behind.is_empty() {
        return Some(text.len());
    }
    let goes_on = |at: usize| {
        text[..at].ends_with(',') || text[..at].ends_with(" :") || text[at..].starts_with(" : ")
    };
    text.match_indices(behind).map(|it| it.0).find(|at| !goes_on(*at))
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(", ").flat_map(|it| it.split(" : ")).filter(|it| !it.is_empty())
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok()
}

/// Seconds with milliseconds, as nginx writes them.
fn micros(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(millis * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "$upstream_addr $upstream_status $upstream_response_time";

    fn entry<'l>(address: &'l str, status: u16, micros: u64) -> Entry<'l> {
        Entry { passed_over: vec![], address, status, micros: Some(micros) }
    }

    #[test]
    fn what_is_wanted_is_found_among_what_is_not() {
        let combined = "$remote_addr - $remote_user [$time_local] \"$request\" ${status} \
            \"$http_user_agent\" up=$upstream_addr rt=$upstream_response_time;$request_time";
        let line = "10.0.0.1 - - [29/Nov/2026:10:42:17 +0000] \"GET / HTTP/1.1\" 200 \"curl, 8 : x\" \
            up=127.0.0.1:9502 rt=0.104;0.105";
        let format = Format::parse(combined).unwrap();
        assert_eq!(format.read(line), Some(entry("127.0.0.1:9502", 200, 104_000)));
    }

    #[test]
    fn who_was_tried_before_is_told_apart_from_who_answered() {
        let format = Format::parse(FORMAT).unwrap();
        let line = "127.0.0.1:1, 127.0.0.1:2 : unix:/run/x.sock 502, 504 : 201 0.000, 1.000 : 0.02";
        assert_eq!(
            format.read(line),
            Some(Entry {
                passed_over: vec!["127.0.0.1:1", "127.0.0.1:2"],
                ..entry("unix:/run/x.sock", 201, 20_000)
            })
        );
    }

    #[test]
    fn what_reached_nobody_or_is_something_else_is_left_out() {
        let format = Format::parse(FORMAT).unwrap();
        for line in ["- - -", "", "nonsense", "127.0.0.1:1 - 0.1", "127.0.0.1:1", "\u{fffd} é é"]
        {
            assert_eq!(format.read(line), None, "{line}");
        }
        assert_eq!(format.read("shop 502 -").unwrap().micros, None);
    }

    #[test]
    fn a_format_that_says_too_little_is_refused() {
        assert!(Format::parse("$status").is_err());
        assert!(Format::parse("$upstream_addr $request_time").is_err());
        assert!(Format::parse("$upstream_addr$status").is_err());
        assert!(Format::parse(FORMAT).is_ok());
    }
}
