//! What services wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `GET /v1/instances/{name}/logs`, NDJSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub instance: String,
    /// When the logger took it, to the grain of the time index.
    pub at: Option<Timestamp>,
    /// Without its newline; bytes that are not UTF-8 became U+FFFD; control characters are still in.
    pub line: String,
    /// The line goes on in the next record (lines are cut at 64 KiB).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// With `latest=true`: what came before it was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// Where it begins, with `places=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<LogPlace>,
    /// Where the next line begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<LogPlace>,
}

/// A record of `GET /v1/instances/{name}/logs/page`, NDJSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LogPage {
    /// How far the search is.
    Progress {
        searched_bytes: u64,
        of_bytes: u64,
    },
    Line(LogLine),
    /// The page is whole.
    End {
        /// Where the range of each log begins that was read.
        begins: BTreeMap<String, LogPlace>,
        ends: BTreeMap<String, LogPlace>,
        /// There is nothing more in this direction.
        last: bool,
    },
    /// Of a later release.
    #[serde(other)]
    Unknown,
}

/// Which file of a log, and how far into it. It holds when the file is renamed by a rotation, and no other file is
/// ever taken for a removed one. For clients a text without a meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    pub file: u64,
    /// Bytes from the start of the file.
    pub offset: u64,
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.file, self.offset)
    }
}

impl FromStr for LogPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text| u64::from_str_radix(text, 16).ok();
        let both = text.split_once('.');
        let place = both.and_then(|(file, offset)| Some((number(file)?, number(offset)?)));
        let (file, offset) = place.ok_or_else(|| format!("`{text}` is no place in a log"))?;
        Ok(Self { file, offset })
    }
}

impl Serialize for LogPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_word_and_comes_back_from_it() {
        let place = LogPlace { file: u64::MAX, offset: 4096 };
        assert_eq!(place.to_string(), "ffffffffffffffff.1000");
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!("12".parse::<LogPlace>().is_err() && "x.1".parse::<LogPlace>().is_err());
    }
}
