//! `opsdeck import nginx`: the `upstream` blocks of an nginx configuration as services with a gateway.
//!
//! nginx knows where servers listen and not how they are started: the services that come out are not
//! enabled, and their command is to be filled in. Included files are named, not read.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use super::directives::{Directive, read};
use crate::config::mistake::{ConfigError, Mistake, Source, Span};
use crate::config::show::{name, text as quoted};
use crate::quantity::{format_duration, parse_duration};

/// The configuration, or what cannot be read and where.
pub fn nginx(path: &Path) -> Result<String, ConfigError> {
    let text = crate::config::text_of(path).map_err(|why| {
        let title = format!("{} cannot be read: {}", path.display(), why.label);
        let source = Source { path: path.to_owned(), text: String::new() };
        let mistake = Mistake { help: why.help, ..Mistake::of_file(0, title) };
        ConfigError::new(vec![source], vec![mistake], &[])
    })?;
    of_text(path, &text)
}

fn of_text(path: &Path, text: &str) -> Result<String, ConfigError> {
    let source = Source { path: path.to_owned(), text: text.to_owned() };
    let failed = |it: Box<Mistake>| ConfigError::new(vec![source.clone()], vec![*it], &[]);
    let directives = read(text).map_err(failed)?;
    let mut all = vec![];
    directives.iter().for_each(|it| it.walk(&mut all));
    let mut mistakes = vec![];
    let mut taken = BTreeMap::new();
    let upstreams = all.iter().filter(|it| it.name() == "upstream");
    let mut upstreams: Vec<Upstream> =
        upstreams.filter_map(|it| Upstream::read(it, &mut taken, &mut mistakes)).collect();
    for (n, it) in upstreams.iter().enumerate().skip(1) {
        if upstreams[..n].iter().any(|other| other.name == it.name) {
            let span = Span { file: 0, start: it.start, end: it.start + "upstream".len() };
            let title = format!("upstream {} is there twice", it.name);
            let mistake = Mistake::new(span, title, "the second one");
            mistakes.push(mistake.help("rename one of them"));
        }
    }
    if upstreams.is_empty() && mistakes.is_empty() {
        let included: Vec<_> = includes(&all, text).into_iter().map(|it| it.0).collect();
        let help = match included.join(", ") {
            none if none.is_empty() => "name the file that has it".into(),
            some => format!("it includes {some}: import the file that has it"),
        };
        let mistake = Mistake::of_file(0, format!("{} has no upstream block", path.display()));
        mistakes.push(mistake.help(help));
    }
    if !mistakes.is_empty() {
        return Err(ConfigError::new(vec![source], mistakes, &[]));
    }
    Ok(print(path, text, &all, &mut upstreams))
}

struct Upstream {
    name: String,
    /// Where its block begins.
    start: usize,
    servers: Vec<Server>,
    directives: Vec<String>,
    /// What could not be carried over.
    notes: Vec<String>,
}

struct Server {
    port: u16,
    backup: bool,
    weight: Option<String>,
    max_fails: Option<String>,
    fail_timeout: Option<String>,
}

impl Upstream {
    fn read(
        block: &Directive,
        taken: &mut BTreeMap<u16, String>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let [name] = block.arguments() else {
            let mistake = Mistake::new(block.at.span(), "an upstream has one name", "not one");
            mistakes.push(mistake.help("write upstream NAME { … }"));
            return None;
        };
        let mut it = Self {
            name: safe(name),
            start: block.at.start,
            servers: vec![],
            directives: vec![],
            notes: vec![],
        };
        for inner in &block.block {
            if inner.name() == "server" {
                it.add(inner, taken, mistakes);
            } else {
                it.take_over(inner);
            }
        }
        Some(it)
    }

    fn take_over(&mut self, inner: &Directive) {
        let quote = |it: &String| {
            if it.contains(char::is_whitespace) { format!("'{it}'") } else { it.clone() }
        };
        let line = inner.words.iter().map(quote).collect::<Vec<_>>().join(" ");
        if inner.block.is_empty() && !line.contains([';', '{', '}', '#']) {
            self.directives.push(line);
        } else {
            self.notes.push(format!("{} is not carried over", inner.name()));
        }
    }

    fn add(
        &mut self,
        line: &Directive,
        taken: &mut BTreeMap<u16, String>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let Some(address) = line.arguments().first() else {
            let mistake =
                Mistake::new(line.at.span(), "this server has no address", "nothing follows");
            mistakes.push(mistake.help("write server 127.0.0.1:9502;"));
            return;
        };
        let port = match port_of(address) {
            Ok(Where::Here(port)) => port,
            Ok(Where::Elsewhere(why)) => return self.notes.push(format!("{address}: {why}")),
            Err(why) => {
                let title = format!("`{address}` is no address of a server");
                let mistake = Mistake::new(line.at.span(), title, why);
                mistakes.push(mistake.help("write server 127.0.0.1:9502;"));
                return;
            }
        };
        if let Some(other) = taken.insert(port, self.name.clone()) {
            let note = format!("{address}: port {port} is an instance of {other} already");
            taken.insert(port, other);
            return self.notes.push(note);
        }
        let mut server =
            Server { port, backup: false, weight: None, max_fails: None, fail_timeout: None };
        for parameter in &line.arguments()[1..] {
            match parameter.split_once('=') {
                None if parameter == "backup" => server.backup = true,
                None if parameter == "down" => self
                    .notes
                    .push(format!("{address} was down: opsdeck puts it in when it is ready")),
                Some(("weight", n)) => server.weight = number(n).filter(|it| it != "0"),
                Some(("max_fails", n)) => server.max_fails = number(n),
                Some(("fail_timeout", time)) => server.fail_timeout = duration(time),
                _ => self.notes.push(format!("{address}: {parameter} is not carried over")),
            }
        }
        self.servers.push(server);
    }

    /// What all servers have: the gateway has it once.
    fn common(&mut self, key: &str, of: fn(&Server) -> &Option<String>) -> Option<String> {
        let mut values = self.servers.iter().map(of);
        let first = values.next()?.clone();
        if values.all(|it| *it == first) {
            return first;
        }
        self.notes.push(format!("{key} differs between its servers: it is not carried over"));
        None
    }
}

enum Where {
    Here(u16),
    /// Why it cannot be an instance.
    Elsewhere(&'static str),
}

fn port_of(address: &str) -> Result<Where, &'static str> {
    if address.starts_with("unix:") {
        return Ok(Where::Elsewhere("a Unix socket: instances have ports"));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, "80"),
    };
    let port = port.parse().ok().filter(|it| *it > 0).ok_or("the port is no number up to 65535")?;
    let is_here = host.starts_with("127.") || host == "localhost";
    match host {
        "" => Err("no host stands before the port"),
        _ if is_here => Ok(Where::Here(port)),
        "[::1]" => Ok(Where::Elsewhere("IPv6: opsdeck reaches instances at 127.0.0.1")),
        _ => Ok(Where::Elsewhere("another host: only what runs here can be supervised here")),
    }
}

fn number(text: &str) -> Option<String> {
    text.parse::<u32>().ok().map(|it| it.to_string())
}

/// A name that a service can have.
fn safe(name: &str) -> String {
    let fits = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    let name: String = name.chars().map(|it| if fits(it) { it } else { '-' }).take(60).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "web".into() } else { name.into() }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn includes<'a>(all: &[&'a Directive], text: &str) -> Vec<(&'a str, usize)> {
    let includes = all.iter().filter(|it| it.name() == "include");
    let place =
        |it: &&'a Directive| Some((it.arguments().first()?.as_str(), line_of(text, it.at.start)));
    includes.filter_map(place).filter(|it| !it.0.ends_with("mime.types")).collect()
}

/// Where the server blocks listen that pass to this upstream.
fn listeners(all: &[&Directive], upstream: &str) -> Vec<String> {
    let passes = |server: &&&Directive| {
        let mut inside = vec![];
        server.walk(&mut inside);
        inside.iter().filter(|it| it.name() == "proxy_pass").any(|it| {
            let target = it.arguments().first().map_or("", String::as_str);
            let target = target.split_once("://").map_or(target, |it| it.1);
            safe(target.split('/').next().unwrap_or_default()) == upstream
        })
    };
    let servers = all.iter().filter(|it| it.name() == "server" && !it.block.is_empty());
    let listens =
        servers.filter(passes).flat_map(|it| &it.block).filter(|it| it.name() == "listen");
    listens.map(|it| it.arguments().join(" ")).collect()
}

fn print(path: &Path, text: &str, all: &[&Directive], upstreams: &mut [Upstream]) -> String {
    let mut out = format!(
        "# Made from {} by `opsdeck import nginx`.\n# Fill in the commands, then remove `enabled = false`: nothing is started before.\n",
        comment(&path.display().to_string())
    );
    for (pattern, line) in includes(all, text) {
        let _ = writeln!(out, "# Line {line} includes {}: not read.", comment(pattern));
    }
    let names: Vec<String> = upstreams.iter().map(|it| it.name.clone()).collect();
    for it in upstreams {
        // `web1` may be an upstream of its own: services and instances share their names.
        let ends_in_digits = |other: &String| {
            other.strip_prefix(&it.name).is_some_and(|it| it.parse::<u32>().is_ok())
        };
        let separator = if names.iter().any(ends_in_digits) { "-" } else { "" };
        // A String takes everything.
        out += &service(it, separator, text, all).unwrap_or_default();
    }
    out
}

fn service(
    upstream: &mut Upstream,
    separator: &str,
    text: &str,
    all: &[&Directive],
) -> Result<String, fmt::Error> {
    let max_fails = upstream.common("max_fails", |it| &it.max_fails);
    let fail_timeout = upstream.common("fail_timeout", |it| &it.fail_timeout);
    let line = line_of(text, upstream.start);
    let mut out = format!("\n# upstream {}, line {line}\n", upstream.name);
    for it in &upstream.notes {
        writeln!(out, "# {}", comment(it))?;
    }
    if upstream.servers.is_empty() {
        writeln!(out, "# Nothing of it runs here.")?;
        return Ok(out);
    }
    let key = name(&upstream.name);
    writeln!(out, "[service.{key}]\nenabled = false")?;
    let command = format!("/path/to/{} --port {{port}}", upstream.name);
    writeln!(out, "command = {} # fill in", quoted(&command))?;
    for (n, it) in upstream.servers.iter().enumerate() {
        let instance = name(&format!("{}{separator}{}", upstream.name, n + 1));
        let backup = if it.backup { ", backup = true" } else { "" };
        let weight = it.weight.as_ref().map_or(String::new(), |it| format!(", weight = {it}"));
        writeln!(out, "instance.{instance} = {{ port = {}{backup}{weight} }}", it.port)?;
    }
    writeln!(out, "probe.readiness = {{ tcp = {{}} }} # better: {{ http.path = \"/…\" }}")?;
    writeln!(out, "\n[gateway.{key}]\nservice = {}", quoted(&upstream.name))?;
    writeln!(out, "provider = \"nginx\"")?;
    let file = format!("/etc/nginx/conf.d/opsdeck-{}.conf", upstream.name);
    writeln!(out, "# The block of line {line} has to go: this file takes its place.")?;
    writeln!(out, "nginx.file = {}", quoted(&file))?;
    if let Some(it) = max_fails {
        writeln!(out, "nginx.max_fails = {it}")?;
    }
    if let Some(it) = fail_timeout {
        writeln!(out, "nginx.fail_timeout = {}", quoted(&it))?;
    }
    if !upstream.directives.is_empty() {
        let lines: Vec<_> = upstream.directives.iter().map(|it| quoted(it)).collect();
        writeln!(out, "nginx.directives = [{}]", lines.join(", "))?;
    }
    for it in listeners(all, &upstream.name) {
        writeln!(out, "# Clients come in at: listen {}", comment(&it))?;
    }
    Ok(out)
}

/// `10`, `10s` or `1m` of nginx as one of our durations, from a second on.
fn duration(time: &str) -> Option<String> {
    let time = if time.parse::<u64>().is_ok() { format!("{time}s") } else { time.to_owned() };
    let fits = |it: &Duration| *it >= Duration::from_secs(1);
    parse_duration(&time).ok().filter(fits).map(format_duration)
}

/// One line without control characters.
fn comment(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::config::parse;

    const CONF: &str = "user www-data;
include modules-enabled/*.conf;
http {
    include mime.types; # no business of ours
    upstream shop {
        zone shop 64k; keepalive 32;
        server 127.0.0.1:9502 weight=3 max_fails=2 fail_timeout=10s;
        server localhost:9503 backup max_fails=2 fail_timeout=10;
        server 10.0.0.7:9502 max_conns=5;
    }
    upstream api { server 127.0.0.1:9502; server unix:/run/api.sock; }
    server {
        listen 443 ssl;
        location / { proxy_pass http://shop; }
    }
    include sites-enabled/*;
}
";

    fn import(text: &str) -> String {
        match of_text(Path::new("nginx.conf"), text) {
            Ok(out) => out,
            Err(err) => err.render(false),
        }
    }

    #[test]
    fn upstreams_become_services_that_are_filled_in_by_hand() {
        assert_snapshot!(import(CONF), @r#"
        # Made from nginx.conf by `opsdeck import nginx`.
        # Fill in the commands, then remove `enabled = false`: nothing is started before.
        # Line 2 includes modules-enabled/*.conf: not read.
        # Line 16 includes sites-enabled/*: not read.

        # upstream shop, line 5
        # 10.0.0.7:9502: another host: only what runs here can be supervised here
        [service.shop]
        enabled = false
        command = "/path/to/shop --port {port}" # fill in
        instance.shop1 = { port = 9502, weight = 3 }
        instance.shop2 = { port = 9503, backup = true }
        probe.readiness = { tcp = {} } # better: { http.path = "/…" }

        [gateway.shop]
        service = "shop"
        provider = "nginx"
        # The block of line 5 has to go: this file takes its place.
        nginx.file = "/etc/nginx/conf.d/opsdeck-shop.conf"
        nginx.max_fails = 2
        nginx.fail_timeout = "10s"
        nginx.directives = ["zone shop 64k", "keepalive 32"]
        # Clients come in at: listen 443 ssl

        # upstream api, line 11
        # 127.0.0.1:9502: port 9502 is an instance of shop already
        # unix:/run/api.sock: a Unix socket: instances have ports
        # Nothing of it runs here.
        "#);
    }

    #[test]
    fn what_is_printed_has_no_mistakes_and_starts_nothing() {
        let text = "upstream a.b { server 127.0.0.1; }\nupstream web { server 127.0.0.1:1; }\nupstream web1 { server 127.0.0.1:2; server 127.0.0.1:3; }\nupstream far { server 10.0.0.1; }\n";
        for text in [CONF, text] {
            let settings = parse("config.toml", &import(text))
                .unwrap_or_else(|err| panic!("{}\n{}", import(text), err.render(false)));
            assert!(!settings.gateways.is_empty());
            assert!(settings.services.iter().all(|it| !it.rules.enabled));
        }
    }

    #[test]
    fn what_cannot_be_read_has_its_line_and_a_reason() {
        let text = "upstream a b { }\nupstream c {\n  server;\n  server 127.0.0.1:x;\n}\nupstream c { server 127.0.0.1:1; }";
        assert_snapshot!(import(text), @r"
        error: an upstream has one name
         --> nginx.conf:1:1
          |
        1 | upstream a b { }
          | ^^^^^^^^^^^^ not one
          |
          = help: write upstream NAME { … }

        error: this server has no address
         --> nginx.conf:3:3
          |
        3 |   server;
          |   ^^^^^^ nothing follows
          |
          = help: write server 127.0.0.1:9502;

        error: `127.0.0.1:x` is no address of a server
         --> nginx.conf:4:3
          |
        4 |   server 127.0.0.1:x;
          |   ^^^^^^^^^^^^^^^^^^ the port is no number up to 65535
          |
          = help: write server 127.0.0.1:9502;

        error: upstream c is there twice
         --> nginx.conf:6:1
          |
        6 | upstream c { server 127.0.0.1:1; }
          | ^^^^^^^^ the second one
          |
          = help: rename one of them
        ");
        let unfinished = import("http {\n  upstream a {\n    server 127.0.0.1:1\n  }\n}");
        assert_snapshot!(unfinished, @r"
        error: `server` is not ended
         --> nginx.conf:3:5
          |
        3 |     server 127.0.0.1:1
          |     ^^^^^^^^^^^^^^^^^^ here
          |
          = help: add a `;`
        ");
        let elsewhere = import("http { include sites-enabled/*; }");
        assert!(elsewhere.contains("nginx.conf has no upstream block"), "{elsewhere}");
        assert!(elsewhere.contains("it includes sites-enabled/*: import the file"), "{elsewhere}");
    }
}
