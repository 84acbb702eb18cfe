//! The include file of one gateway: one `upstream` block, written and read back. With switches
//! ([`super::switch`]) one block for each choice of instances.
//!
//! Only what is written here is read: the name of an instance stands as a comment behind its server, so
//! that the next daemon knows who is in rotation.

use std::fmt::Write as _;

use super::switch;

/// What the first line begins with. A file without it is not ours to replace.
const MARK: &str = "# Written by opsdeck";

/// The `upstream` block of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// What the file is for, as the configuration calls it.
    pub gateway: String,
    /// What `proxy_pass` names.
    pub name: String,
    /// Every instance, those that do not run too: nginx takes no block without a server.
    pub servers: Vec<Server>,
    /// nginx's own memory of failures, `max_fails` and `fail_timeout` in seconds; `None`: nginx's default.
    pub max_fails: Option<u32>,
    pub fail_timeout: Option<u64>,
    /// More lines of the block, without their semicolons: `keepalive 32`.
    pub directives: Vec<String>,
    /// The directory of the switches, where rotation needs no reload ([`super::switch`]).
    pub switches: Option<String>,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub instance: String,
    pub address: String,
    pub backup: bool,
    /// nginx's default is 1.
    pub weight: Option<u32>,
    pub in_rotation: bool,
}

impl Upstream {
    /// The whole file.
    pub fn render(&self) -> String {
        let mut text = format!(
            "{MARK} for its gateway {}. Do not edit: it is replaced whenever {}\n\
             # Its configuration is [gateway.{}].\n",
            self.gateway,
            if self.switches.is_some() {
                "an instance gets another address."
            } else {
                "an instance\n# enters or leaves the rotation."
            },
            self.gateway,
        );
        let Some(switches) = &self.switches else {
            let all: Vec<bool> = self.servers.iter().map(|it| it.in_rotation).collect();
            self.block(&mut text, &self.name, &all);
            return text;
        };
        let _ = writeln!(text, "# Who is in rotation is said by files in {switches}.");
        // First the one in which all are in: it is also what a plain `proxy_pass` finds.
        self.block(&mut text, &self.name, &vec![true; self.servers.len()]);
        for (name, of) in switch::choices(&self.name, self.servers.len()) {
            self.block(&mut text, &name, &of);
        }
        text
    }

    /// One block, in which these are in rotation.
    fn block(&self, text: &mut String, name: &str, in_rotation: &[bool]) {
        let _ = writeln!(text, "upstream {name} {{");
        for it in &self.directives {
            let _ = writeln!(text, "    {it};");
        }
        let is_alone = in_rotation.iter().filter(|it| **it).count() == 1;
        for (it, is_in) in self.servers.iter().zip(in_rotation) {
            let _ = writeln!(text, "    {}; # {}", self.line(it, *is_in, is_alone), it.instance);
        }
        *text += "}\n";
    }

    fn line(&self, server: &Server, in_rotation: bool, is_alone: bool) -> String {
        let mut line = format!("server {}", server.address);
        if let Some(weight) = server.weight {
            let _ = write!(line, " weight={weight}");
        }
        // With nobody beside it, one slow answer of an instance would be "no live upstreams" for ten
        // seconds.
        if let Some(times) = self.max_fails.or((in_rotation && is_alone).then_some(0)) {
            let _ = write!(line, " max_fails={times}");
        }
        if let Some(seconds) = self.fail_timeout {
            let _ = write!(line, " fail_timeout={seconds}s");
        }
        // A block in which everybody is a backup is one without servers to nginx.
        if server.backup && self.servers.iter().any(|it| !it.backup) {
            line += " backup";
        }
        if !in_rotation {
            line += " down";
        }
        line
    }
}

/// Whether nothing is lost if this file is replaced.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK) || text.trim().is_empty()
}

/// Who is in rotation by the first block of a file that [`Upstream::render`] has written: instance and
/// address. Where there are switches, it has everybody.
pub fn in_rotation(text: &str) -> Vec<(&str, &str)> {
    let first = text.lines().take_while(|it| *it != "}");
    if is_ours(text) { first.filter_map(not_down).collect() } else { vec![] }
}

fn not_down(line: &str) -> Option<(&str, &str)> {
    let (server, instance) = line.trim().strip_prefix("server ")?.split_once("; # ")?;
    let mut words = server.split(' ');
    let address = words.next()?;
    words.all(|it| it != "down").then_some((instance, address))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn server(instance: &str, port: u16, backup: bool, in_rotation: bool) -> Server {
        let address = format!("127.0.0.1:{port}");
        Server { instance: instance.into(), address, backup, weight: None, in_rotation }
    }

    fn upstream(servers: Vec<Server>) -> Upstream {
        Upstream { gateway: "shop".into(), name: "web".into(), servers, ..Upstream::default() }
    }

    #[test]
    fn the_file_says_who_owns_it_and_who_gets_requests() {
        let mut it = upstream(vec![
            server("web1", 9502, false, true),
            server("web2", 9503, true, true),
            server("web3", 9504, false, false),
        ]);
        it.servers[2].weight = Some(3);
        it.directives = vec!["zone web 64k".into(), "keepalive 32".into()];
        assert_snapshot!(it.render(), @r"
        # Written by opsdeck for its gateway shop. Do not edit: it is replaced whenever an instance
        # enters or leaves the rotation.
        # Its configuration is [gateway.shop].
        upstream web {
            zone web 64k;
            keepalive 32;
            server 127.0.0.1:9502; # web1
            server 127.0.0.1:9503 backup; # web2
            server 127.0.0.1:9504 weight=3 down; # web3
        }
        ");
    }

    fn lines(it: &Upstream) -> Vec<String> {
        let text = it.render();
        let lines = text.lines().filter_map(|it| it.strip_prefix("    server 127.0.0.1:"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn the_only_one_in_rotation_is_never_put_out_for_a_failure() {
        let mut it = upstream(vec![server("web1", 1, false, false), server("web2", 2, true, true)]);
        assert_eq!(lines(&it), ["1 down; # web1", "2 max_fails=0 backup; # web2"]);
        it.max_fails = Some(3);
        it.fail_timeout = Some(5);
        assert_eq!(
            lines(&it),
            [
                "1 max_fails=3 fail_timeout=5s down; # web1",
                "2 max_fails=3 fail_timeout=5s backup; # web2"
            ]
        );
    }

    #[test]
    fn nobody_in_rotation_leaves_every_line_there_and_down() {
        let it = upstream(vec![server("web1", 1, false, false), server("web2", 2, true, false)]);
        assert_eq!(lines(&it), ["1 down; # web1", "2 backup down; # web2"]);
        let only_backups = upstream(vec![server("web2", 2, true, false)]);
        assert_eq!(lines(&only_backups), ["2 down; # web2"]);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let it = upstream(vec![
            server("web1", 1, false, true),
            server("down", 2, false, false),
            server("web3", 3, true, true),
        ]);
        let text = it.render();
        assert!(is_ours(&text));
        assert_eq!(in_rotation(&text), [("web1", "127.0.0.1:1"), ("web3", "127.0.0.1:3")]);
    }

    #[test]
    fn with_switches_every_choice_has_its_block_and_the_file_says_nothing_of_rotation() {
        let mut it = upstream(vec![server("web1", 1, false, true), server("web2", 2, true, false)]);
        it.switches = Some("/run/shop".into());
        let text = it.render();
        assert_snapshot!(text, @r"
        # Written by opsdeck for its gateway shop. Do not edit: it is replaced whenever an instance gets another address.
        # Its configuration is [gateway.shop].
        # Who is in rotation is said by files in /run/shop.
        upstream web {
            server 127.0.0.1:1; # web1
            server 127.0.0.1:2 backup; # web2
        }
        upstream web_00 {
            server 127.0.0.1:1 down; # web1
            server 127.0.0.1:2 backup down; # web2
        }
        upstream web_10 {
            server 127.0.0.1:1 max_fails=0; # web1
            server 127.0.0.1:2 backup down; # web2
        }
        upstream web_01 {
            server 127.0.0.1:1 down; # web1
            server 127.0.0.1:2 max_fails=0 backup; # web2
        }
        upstream web_11 {
            server 127.0.0.1:1; # web1
            server 127.0.0.1:2 backup; # web2
        }
        ");
        it.servers[1].in_rotation = true;
        assert_eq!(it.render(), text);
        assert_eq!(in_rotation(&text), [("web1", "127.0.0.1:1"), ("web2", "127.0.0.1:2")]);
    }

    #[test]
    fn a_file_of_somebody_else_is_not_ours_and_says_nothing() {
        let text = "upstream web {\n    server 127.0.0.1:1; # web1\n}\n";
        assert!(!is_ours(text));
        assert_eq!(in_rotation(text), []);
        assert!(is_ours("\n"));
    }
}
