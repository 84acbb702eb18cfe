//! What `opsdeck load` can be told.

use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;

use crate::quantity::{parse_duration, parse_size};

/// Sends requests at a polite pace and counts every one that fails.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// Where to send requests: HOST:PORT/PATH, with or without http:// before it
    #[arg(value_parser = parse_target)]
    pub url: Target,
    /// How many clients ask at the same time
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
    /// Time from one request of a client to its next; 0: as soon as the reply is there
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// What the requests are; mixed: in turns
    #[arg(long, value_enum, default_value_t = MethodChoice::Get)]
    pub method: MethodChoice,
    /// Size of the body of a POST
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    pub body: u64,
    #[command(flatten)]
    pub connections: Connections,
    /// Stop after this many requests
    #[arg(short = 'n', long, value_name = "N")]
    pub requests: Option<u64>,
    /// Stop after this time; without -n and this, at Ctrl-C or SIGTERM
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Send a GET once more if its kept connection ends before the first byte of the reply, as browsers do
    #[arg(long)]
    pub resend: bool,
    /// How long one reply is waited for
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How clients use connections.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub struct Connections {
    /// Each client keeps its connection (the default)
    #[arg(long)]
    pub keep_alive: bool,
    /// A connection for each request
    #[arg(long)]
    pub one_shot: bool,
    /// Every other client keeps its connection
    #[arg(long)]
    pub mixed_connections: bool,
}

impl Connections {
    /// Whether the client with this number keeps its connection.
    pub(super) fn kept_by(&self, client: u16) -> bool {
        !self.one_shot && (!self.mixed_connections || client.is_multiple_of(2))
    }
}

/// Which methods the requests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MethodChoice {
    Get,
    Post,
    Mixed,
}

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) host_header: HeaderValue,
    /// Path and query.
    pub(super) path: Uri,
    text: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_target(text: &str) -> Result<Target, String> {
    let help = "write http://HOST:PORT/PATH";
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = text.parse().map_err(|error| format!("`{text}` is no URL: {error}; {help}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("`{text}` is not plain HTTP; {help}"));
    }
    let authority = uri.authority().filter(|it| !it.host().is_empty());
    let authority = authority.ok_or_else(|| format!("`{text}` names no host; {help}"))?;
    let port = authority.port_u16();
    let named = authority.host();
    let header = port.map_or(named.to_owned(), |port| format!("{named}:{port}"));
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    Ok(Target {
        host: named.trim_matches(['[', ']']).to_owned(),
        port: port.unwrap_or(80),
        host_header: header.parse().map_err(|error| format!("`{header}` is no host: {error}"))?,
        path: path.parse().map_err(|error| format!("`{path}` is no path: {error}"))?,
        text,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use insta::assert_snapshot;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: LoadArgs,
    }

    /// Reads a command line as the shell would split it.
    pub(in crate::loadgen) fn args(line: &str) -> LoadArgs {
        Line::try_parse_from(["load"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn five_clients_ask_once_a_second_unless_told_otherwise() {
        let args = args("localhost:9999");
        assert_eq!((args.clients, args.interval), (5, Duration::from_secs(1)));
        assert_eq!((args.method, args.timeout), (MethodChoice::Get, Duration::from_secs(30)));
        assert_eq!((args.requests, args.duration), (None, None));
    }

    #[test]
    fn a_target_is_host_port_and_path() {
        let parts = |text| {
            let it = parse_target(text).unwrap();
            format!("{} {} {:?} {}", it.host, it.port, it.host_header, it.path)
        };
        assert_snapshot!(parts("http://127.0.0.1:9502/?work=8s"), @r#"127.0.0.1 9502 "127.0.0.1:9502" /?work=8s"#);
        assert_snapshot!(parts("http://shop.example"), @r#"shop.example 80 "shop.example" /"#);
        assert_snapshot!(parts("localhost:9999/a"), @r#"localhost 9999 "localhost:9999" /a"#);
        assert_snapshot!(parts("http://[::1]:80/"), @r#"::1 80 "[::1]:80" /"#);
    }

    #[test]
    fn what_is_no_target_is_said() {
        let said = |text| parse_target(text).unwrap_err();
        assert_snapshot!(said("https://shop.example/"), @"`https://shop.example/` is not plain HTTP; write http://HOST:PORT/PATH");
        assert_snapshot!(said("http:// /"), @"`http:// /` is no URL: invalid uri character; write http://HOST:PORT/PATH");
        assert_snapshot!(said("http://:80/"), @"`http://:80/` names no host; write http://HOST:PORT/PATH");
    }

    #[test]
    fn mixed_connections_are_kept_by_every_other_client() {
        let kept = |line| (0..4).map(|n| args(line).connections.kept_by(n)).collect::<Vec<_>>();
        assert_eq!(kept("h"), [true; 4]);
        assert_eq!(kept("h --keep-alive"), [true; 4]);
        assert_eq!(kept("h --one-shot"), [false; 4]);
        assert_eq!(kept("h --mixed-connections"), [true, false, true, false]);
    }
}
