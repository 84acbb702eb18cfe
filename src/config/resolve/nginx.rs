//! `[gateway.NAME] nginx`: how an nginx is told who is in rotation.

use std::path::PathBuf;

use super::Resolver;
use crate::config::mistake::{Mistake, Span};
use crate::config::settings::{Gateway, MOST_SWITCHES, Nginx, Provider};
use crate::config::value::{Entry, Layers};

/// What an nginx in front has in its own configuration.
const ITS_OWN: [&str; 7] =
    ["listen", "hold", "hold_max", "upgrade_wait", "connect_timeout", "answer_timeout", "limits"];

/// What is read of a line of the access log if nothing says otherwise.
pub(crate) const LOG_FORMAT: &str = "$upstream_addr $upstream_status $upstream_response_time";

impl Resolver<'_> {
    /// The table, where it belongs and is whole.
    pub(super) fn nginx(
        &mut self,
        entry: &Entry,
        table: &Layers<'_>,
        is_nginx: bool,
    ) -> Option<Nginx> {
        if !is_nginx {
            if let Some(it) = table.find("nginx") {
                let title = format!("the gateway `{}` is no nginx", entry.name);
                let mistake = Mistake::new(it.at, title, "nobody would read this");
                self.report(mistake.help("add provider = \"nginx\", or remove this"));
            }
            return None;
        }
        for it in ITS_OWN.iter().filter_map(|key| table.find(key)) {
            let title = format!("`{}` is nginx's own business", it.name);
            let mistake = Mistake::new(it.at, title, "requests do not pass through opsdeck here");
            self.report(mistake.help("remove it: the configuration of nginx says this"));
        }
        let nginx = table.inner("nginx");
        if nginx.find("file").is_none() {
            let title = format!("the gateway `{}` has no file to write", entry.name);
            let mistake = Mistake::new(entry.at, title, "nothing says how nginx is told");
            let help = format!(
                "add nginx.file = \"/etc/nginx/conf.d/opsdeck-{}.conf\", which nginx includes",
                entry.name
            );
            self.report(mistake.absent().help(help));
        }
        let upstream = self.upstream(entry, &nginx);
        let directives = self.directives(&nginx);
        let command = |key: &str| nginx.command(key).map(|it| it.0.to_vec());
        Some(Nginx {
            file: PathBuf::from(nginx.text("file")?.0),
            upstream,
            pid_file: nginx.text("pid_file").map_or("/run/nginx.pid", |it| it.0).into(),
            test: command("test").unwrap_or_else(|| vec!["nginx".into(), "-t".into()]),
            reload: command("reload"),
            max_fails: nginx.integer("max_fails").map(|it| it.0),
            fail_timeout: nginx.duration("fail_timeout").map(|it| it.0),
            directives,
            switches: self.switches(&nginx),
            access_log: nginx.text("access_log").map(|it| it.0.into()),
            log_format: self.log_format(&nginx),
            stub_status: self.stub_status(&nginx),
        })
    }

    fn log_format(&mut self, nginx: &Layers<'_>) -> String {
        let Some((format, span)) = nginx.text("log_format") else { return LOG_FORMAT.to_owned() };
        let plain = format.replace(['{', '}'], "");
        let has = |name: &str| plain.contains(name);
        if !has("$upstream_addr") || !(has("$upstream_status") || has("$status")) {
            let title = "`log_format` does not say which instance has answered, and how";
            let mistake = Mistake::new(span, title, "nothing could be counted");
            self.report(
                mistake.help("log $upstream_addr and $status, and say it here as in nginx"),
            );
        }
        if nginx.find("access_log").is_none() {
            let title = "`log_format` is of no use without `access_log`";
            let mistake = Mistake::new(span, title, "nothing is read");
            self.report(mistake.help("add nginx.access_log, or remove this"));
        }
        format.to_owned()
    }

    fn stub_status(&mut self, nginx: &Layers<'_>) -> Option<String> {
        let (url, span) = nginx.text("stub_status")?;
        if !url.strip_prefix("http://").is_some_and(|it| it.contains('/')) {
            let mistake = Mistake::new(span, "`stub_status` must be a URL", "not one of http");
            self.report(mistake.help("write \"http://127.0.0.1:8080/stub_status\""));
        }
        Some(url.to_owned())
    }

    /// The directory, where nothing speaks against it.
    fn switches(&mut self, nginx: &Layers<'_>) -> Option<PathBuf> {
        let (directory, _) = nginx.text("switches")?;
        let lines = nginx.texts("directives");
        if let Some((_, span)) = lines.iter().find(|it| it.0.trim().starts_with("keepalive")) {
            let title = "`keepalive` and `switches` do not go together";
            let label = "without a reload, its idle connections never leave an instance";
            let mistake = Mistake::new(*span, title, label);
            self.report(mistake.help("remove one of the two: connections on one host are cheap"));
        }
        let is_dump = |it: &(&[String], Span)| it.0.iter().any(|it| it == "-t");
        if let Some((_, span)) = nginx.command("test").filter(|it| !is_dump(it)) {
            let title = "`test` has no word `-t`";
            let label = "with switches, nginx is asked by -T in its place for all that it reads";
            let mistake = Mistake::new(span, title, label);
            self.report(mistake.help("say \"sudo -n nginx -t\", or remove nginx.switches"));
        }
        Some(directory.into())
    }

    /// There is an upstream block for every choice of instances.
    pub(super) fn refuse_many_switches(&mut self, entry: &Entry, nginx: &Nginx, instances: usize) {
        if nginx.switches.is_some() && instances > MOST_SWITCHES {
            let title = format!("{instances} instances are too many for nginx.switches");
            let mistake = Mistake::new(
                entry.at,
                title,
                format!("they tell {MOST_SWITCHES} apart, the spare of `surge` among them"),
            );
            self.report(mistake.help("remove nginx.switches: nginx is reloaded instead"));
        }
    }

    fn upstream(&mut self, entry: &Entry, nginx: &Layers<'_>) -> String {
        let Some((name, span)) = nginx.text("upstream") else { return entry.name.clone() };
        let fits = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
        if !name.chars().all(fits) {
            let mistake = Mistake::new(span, "`upstream` must be a name", "not a name to nginx");
            self.report(mistake.help("use the name that proxy_pass has: letters, digits, . _ -"));
        }
        name.to_owned()
    }

    fn directives(&mut self, nginx: &Layers<'_>) -> Vec<String> {
        let lines = nginx.texts("directives");
        for (line, span) in &lines {
            if line.contains([';', '{', '}', '#']) || line.contains(char::is_control) {
                self.report_directive(*span, "one directive of nginx, without its semicolon");
            } else if line.starts_with("server") {
                self.report_directive(*span, "the servers are the instances of the service");
            }
        }
        lines.iter().map(|it| it.0.trim().to_owned()).collect()
    }

    fn report_directive(&mut self, span: Span, label: &str) {
        let title = "this cannot be a line of `directives`";
        let help = "write them as [\"zone shop 64k\", \"keepalive 32\"]";
        self.report(Mistake::new(span, title, label).help(help));
    }

    /// Two gateways would take each other's file away.
    pub(super) fn refuse_shared_file(
        &mut self,
        entry: &Entry,
        gateway: &Gateway,
        others: &[Gateway],
    ) {
        let Provider::Nginx(it) = &gateway.provider else { return };
        let same =
            |other: &&Gateway| other.provider.nginx().is_some_and(|other| other.file == it.file);
        if let Some(other) = others.iter().find(same) {
            let title = format!("`{}` and `{}` have one file", other.name, gateway.name);
            let mistake = Mistake::new(entry.at, title, "each would replace what the other wrote");
            self.report(mistake.help("give each its own nginx.file"));
        }
    }
}
