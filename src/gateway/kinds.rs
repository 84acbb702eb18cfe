//! Which headers of a message mean something to us: one walk over their names instead of a search for each of them.
//!
//! A message has few headers and we ask for a dozen that are mostly absent; each search hashes a name.

use http::header::{HeaderMap, HeaderName};

/// A set of headers that mean something to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub(super) const HOST: Self = Self(1);
    pub(super) const CONNECTION: Self = Self(1 << 1);
    pub(super) const LENGTH: Self = Self(1 << 2);
    pub(super) const CODING: Self = Self(1 << 3);
    pub(super) const UPGRADE: Self = Self(1 << 4);
    pub(super) const EXPECT: Self = Self(1 << 5);
    pub(super) const TE: Self = Self(1 << 6);
    pub(super) const KEEP_ALIVE: Self = Self(1 << 7);
    pub(super) const PROXY_CONNECTION: Self = Self(1 << 8);
    pub(super) const HTTP2_SETTINGS: Self = Self(1 << 9);
    pub(super) const X_FORWARDED_FOR: Self = Self(1 << 10);
    pub(super) const X_FORWARDED_PROTO: Self = Self(1 << 11);
    pub(super) const X_FORWARDED_HOST: Self = Self(1 << 12);
    pub(super) const FORWARDED: Self = Self(1 << 13);
    pub(super) const VIA: Self = Self(1 << 14);

    /// What concerns this connection only, or is written anew for the next.
    pub(super) const OF_A_HOP: Self = Self(
        Self::HOST.0
            | Self::CONNECTION.0
            | Self::CODING.0
            | Self::UPGRADE.0
            | Self::EXPECT.0
            | Self::TE.0
            | Self::KEEP_ALIVE.0
            | Self::PROXY_CONNECTION.0
            | Self::HTTP2_SETTINGS.0,
    );

    /// The kind of one header; empty if it means nothing to us.
    pub(super) fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "host" => Self::HOST,
            "connection" => Self::CONNECTION,
            "content-length" => Self::LENGTH,
            "transfer-encoding" => Self::CODING,
            "upgrade" => Self::UPGRADE,
            "expect" => Self::EXPECT,
            "te" => Self::TE,
            "keep-alive" => Self::KEEP_ALIVE,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "http2-settings" => Self::HTTP2_SETTINGS,
            "x-forwarded-for" => Self::X_FORWARDED_FOR,
            "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
            "x-forwarded-host" => Self::X_FORWARDED_HOST,
            "forwarded" => Self::FORWARDED,
            "via" => Self::VIA,
            _ => Self::default(),
        }
    }

    /// All that are there.
    pub(super) fn among(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |all, name| all.and(Self::of(name)))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if any of `other` is there.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_what_a_search_would() {
        let names = [
            ("host", Kinds::HOST),
            ("connection", Kinds::CONNECTION),
            ("content-length", Kinds::LENGTH),
            ("transfer-encoding", Kinds::CODING),
            ("upgrade", Kinds::UPGRADE),
            ("expect", Kinds::EXPECT),
            ("te", Kinds::TE),
            ("keep-alive", Kinds::KEEP_ALIVE),
            ("proxy-connection", Kinds::PROXY_CONNECTION),
            ("http2-settings", Kinds::HTTP2_SETTINGS),
            ("x-forwarded-for", Kinds::X_FORWARDED_FOR),
            ("x-forwarded-proto", Kinds::X_FORWARDED_PROTO),
            ("x-forwarded-host", Kinds::X_FORWARDED_HOST),
            ("forwarded", Kinds::FORWARDED),
            ("via", Kinds::VIA),
        ];
        let mut headers = HeaderMap::new();
        headers.insert("accept", "*/*".parse().unwrap());
        let mut expected = Kinds::default();
        assert_eq!(Kinds::among(&headers), expected);
        for (name, kind) in names {
            assert!(!Kinds::among(&headers).has(kind), "{name}");
            let name = HeaderName::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            headers.append(name, "1".parse().unwrap());
            expected = expected.and(kind);
            assert_eq!(Kinds::among(&headers), expected);
        }
    }
}
