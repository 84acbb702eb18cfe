//! Where a document is: a URL of http or FastCGI, over TCP or a Unix socket, or a file.
//!
//! `http://127.0.0.1:9502/stats`, `fcgi://127.0.0.1:9000/status`, `fcgi://unix:/run/php/fpm.sock:/status` (as
//! nginx writes it), or a path alone, which is on the instance's own port.

use std::fmt;
use std::path::PathBuf;

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    FastCgi,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

/// A page of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    /// Begins with a slash; without the query.
    pub(super) path: String,
    pub(super) query: String,
}

impl Page {
    /// `native` is what a path alone speaks; its port is the instance's own.
    pub(super) fn parse(text: &str, native: Scheme, port: Option<u16>) -> Result<Self, String> {
        if text.contains(|it: char| it.is_whitespace() || it.is_control()) {
            return Err("there is a blank in it".into());
        }
        // It may hold a token: nothing that is shown is made of it.
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, address, path) = match text.split_once("://") {
            _ if text.starts_with('/') => {
                let port = port.ok_or("a path alone is on the instance's port, and it has none")?;
                (native, Address::Tcp(format!("127.0.0.1:{port}")), text)
            }
            Some(("http", rest)) => split(Scheme::Http, rest)?,
            Some(("fcgi", rest)) if native == Scheme::FastCgi => split(Scheme::FastCgi, rest)?,
            Some((scheme, _)) => return Err(format!("`{scheme}` is not spoken")),
            None => return Err("it is neither a path nor a URL".into()),
        };
        // What a request cannot hold.
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let is_path = path.starts_with('/') && target.parse::<http::uri::PathAndQuery>().is_ok();
        if !is_path {
            return Err(format!("`{path}` is not the path of a page"));
        }
        Ok(Self { scheme, address, path: path.to_owned(), query: query.to_owned() })
    }

    /// What a request names.
    pub(super) fn target(&self) -> String {
        match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }
}

fn split(scheme: Scheme, rest: &str) -> Result<(Scheme, Address, &str), String> {
    if let Some(rest) = rest.strip_prefix("unix:") {
        let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
        if !socket.starts_with('/') {
            return Err("the path of a Unix socket begins with a slash".into());
        }
        return Ok((scheme, Address::Unix(socket.into()), path));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    if authority.contains('@') {
        return Err("names and passwords are not sent".into());
    }
    Ok((scheme, Address::Tcp(authority_of(scheme, authority)?), path))
}

/// `host:port`, with the usual port if it has none.
fn authority_of(scheme: Scheme, text: &str) -> Result<String, String> {
    let authority: http::uri::Authority =
        text.parse().map_err(|_| format!("`{text}` is not a host and its port"))?;
    let port = &text[authority.host().len()..];
    match (port.strip_prefix(':').map(str::parse::<u16>), scheme) {
        (Some(Ok(1..)), _) => Ok(text.to_owned()),
        (None, Scheme::Http) => Ok(format!("{text}:80")),
        (None, Scheme::FastCgi) => Err(format!("`{text}` has no port")),
        (Some(_), _) => Err(format!("`{text}` has no port that there could be")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Without the query, which may hold a token.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::FastCgi => "fcgi",
        };
        let colon = if matches!(self.address, Address::Unix(_)) { ":" } else { "" };
        write!(f, "{scheme}://{}{colon}{}", self.address, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, native: Scheme) -> String {
        match Page::parse(text, native, Some(9502)) {
            Ok(page) => format!("{page} ? {}", page.query),
            Err(why) => why,
        }
    }

    #[test]
    fn places_are_paths_or_urls() {
        let http = |text| shown(text, Scheme::Http);
        assert_eq!(http("/stats?token=geheim"), "http://127.0.0.1:9502/stats ? token=geheim");
        assert_eq!(http("http://localhost"), "http://localhost:80/ ? ");
        assert_eq!(http("http://[::1]:8080/x"), "http://[::1]:8080/x ? ");
        assert_eq!(http("http://unix:/tmp/a.sock:/x?y"), "http://unix:/tmp/a.sock:/x ? y");
        assert_eq!(http("http://127.0.0.1:9293?token=x"), "http://127.0.0.1:9293/ ? token=x");
        assert_eq!(http("http://unix:/run/a.sock?token=x"), "http://unix:/run/a.sock:/ ? token=x");
        let fpm = |text| shown(text, Scheme::FastCgi);
        assert_eq!(fpm("/status"), "fcgi://127.0.0.1:9502/status ? ");
        assert_eq!(
            fpm("fcgi://unix:/run/fpm.sock:/status"),
            "fcgi://unix:/run/fpm.sock:/status ? "
        );
        assert_eq!(fpm("http://127.0.0.1/status"), "http://127.0.0.1:80/status ? ");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "stats",
            "https://host/",
            "fcgi://host:1/x",
            "http://",
            "http://a b/",
            "http://host:0/",
            "http://host:99999/",
            "http://user:geheim@host/",
            "http://unix:sock:/x",
            "http://unix:/sock:x",
            "http://host:/x",
            "http://{host}/",
            "/x\u{1}",
            "http://host:x?token=geheim",
        ] {
            let why = Page::parse(text, Scheme::Http, Some(1)).expect_err(text);
            assert!(!why.contains("token"), "{why}");
        }
        assert!(Page::parse("/stats", Scheme::Http, None).is_err());
        assert!(Page::parse("fcgi://host/x", Scheme::FastCgi, None).is_err(), "no usual port");
    }
}
