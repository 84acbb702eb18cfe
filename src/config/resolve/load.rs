//! `load`: where the load of a service is read.

use super::service::Member;
use super::{Names, Others, Resolver};
use crate::config::mistake::{Mistake, Span};
use crate::config::settings::{Load, Service};
use crate::config::value::{Data, Entry, Layers, Table};
use crate::load::source::{Kind, Question, Source};

impl Resolver<'_> {
    /// As it is written, nothing expanded.
    pub(super) fn load(&mut self, table: &Layers<'_>, members: &[Member<'_>]) -> Load {
        // The nearest only: half of one source and half of another is none.
        let Some(entry) = table.find("load") else { return Load::Unsaid };
        let load = match &entry.value.data {
            Data::Text(word) if word == "gateway" => Load::Gateway,
            Data::Text(_) => Load::Sockets,
            Data::Table(own) => self.source(entry, own).map_or(Load::Unsaid, Load::Asked),
            _ => Load::Unsaid,
        };
        let has_port = members.iter().any(|it| it.port.is_some() || it.auto_port);
        match &load {
            // A default for all is meant for those that have a port.
            Load::Asked(it) if it.at.starts_with('/') && is_page(&it.kind) && !has_port => {
                if table.has_own("load") { load } else { Load::Unsaid }
            }
            Load::Asked(_) | Load::Unsaid | Load::Gateway | Load::Sockets => load,
        }
    }

    fn source(&mut self, entry: &Entry, own: &Table) -> Option<Source> {
        let kind = self.only_one(entry, own, "`load` asks nobody", "a second server")?;
        let here = Layers::new([own]);
        let short = || here.text(&kind.name).map(|it| it.0.to_owned());
        let source = |kind, at| Source { kind, at, counts_itself: true };
        match (kind.name.as_str(), &kind.value.data) {
            ("swoole", Data::Table(table)) => self.swoole(kind, table),
            ("swoole", _) => Some(source(Kind::Swoole, short()?)),
            ("php_fpm", Data::Table(table)) => {
                let table = Layers::new([table]);
                let apart = table.boolean("status_listen").unwrap_or(false);
                let at = self.wanted(kind, &table, "status")?;
                Some(Source { kind: Kind::PhpFpm, at, counts_itself: !apart })
            }
            ("php_fpm", _) => Some(source(Kind::PhpFpm, short()?)),
            ("nginx", _) => Some(source(Kind::Nginx, short()?)),
            ("puma", _) => Some(Source { kind: Kind::Puma, at: short()?, counts_itself: false }),
            (_, Data::Table(table)) => self.prometheus(kind, table),
            _ => None,
        }
    }

    /// The only key of a table of which each says all.
    fn only_one<'a>(
        &mut self,
        entry: &Entry,
        table: &'a Table,
        none: &str,
        second: &str,
    ) -> Option<&'a Entry> {
        match &table.entries[..] {
            [] => {
                let mistake = Mistake::new(entry.at, none, "nothing is named here").absent();
                self.report(mistake.help("write load = { swoole = \"/stats\" }"));
                None
            }
            [only] => Some(only),
            [first, other, ..] => {
                let title = format!("`{}` and `{}` exclude each other", first.name, other.name);
                let mistake = Mistake::new(other.at, title, second).also(first.at, "the first");
                self.report(mistake.help("keep one"));
                None
            }
        }
    }

    fn swoole(&mut self, entry: &Entry, table: &Table) -> Option<Source> {
        let way = self.only_one(entry, table, "`swoole` is asked nowhere", "a second way")?;
        let at = Layers::new([table]).text(&way.name)?.0.to_owned();
        let kind = match way.name.as_str() {
            "file" => Kind::SwooleFile,
            "admin" => Kind::SwooleAdmin,
            _ => Kind::Swoole,
        };
        let counts_itself = kind == Kind::Swoole;
        Some(Source { kind, at, counts_itself })
    }

    fn prometheus(&mut self, entry: &Entry, table: &Table) -> Option<Source> {
        let table = Layers::new([table]);
        let text = |key: &str| table.text(key).map(|it| it.0.to_owned());
        let (requests, in_flight) = (text("requests"), text("in_flight"));
        if table.find("requests").is_none() && table.find("in_flight").is_none() {
            let title = "`prometheus` names no metric";
            let mistake = Mistake::new(entry.at, title, "nothing would be read").absent();
            self.report(mistake.help("add requests = \"http_requests_total\", or in_flight"));
        }
        let counts_itself = table.boolean("counts_itself").unwrap_or(false);
        let at = self.wanted(entry, &table, "url")?;
        Some(Source { kind: Kind::Prometheus { requests, in_flight }, at, counts_itself })
    }

    fn wanted(&mut self, entry: &Entry, table: &Layers<'_>, key: &str) -> Option<String> {
        if table.find(key).is_none() {
            let title = format!("`{}` has no `{key}`", entry.name);
            let mistake = Mistake::new(entry.at, title, "nothing says where it is").absent();
            self.report(mistake.help(format!("add {key} = \"http://127.0.0.1:8080/…\"")));
        }
        table.text(key).map(|it| it.0.to_owned())
    }

    /// What one instance is asked.
    pub(super) fn filled_load(
        &mut self,
        table: &Layers<'_>,
        names: Names<'_>,
        written: &Load,
    ) -> Option<Source> {
        let (Load::Asked(source), Some(entry)) = (written, table.find("load")) else { return None };
        let span = entry.value.span;
        let before = self.mistakes.len();
        let at = self.fill(&source.at, span, names, Others::Refuse);
        let source = Source { at, ..source.clone() };
        // One that is picked is put in later.
        let tried = Source { at: source.at.replace("{port}", "1"), ..source.clone() };
        let port = if names.auto_port { Some(1) } else { names.port };
        if self.mistakes.len() == before
            && let Err(why) = Question::new(&tried, port)
        {
            self.report_useless(span, names.instance, &why);
        }
        Some(source)
    }

    /// Once, however many instances there are.
    fn report_useless(&mut self, span: Span, instance: &str, why: &str) {
        let title = format!("the load of `{instance}` cannot be asked for: {why}");
        let is_told = |it: &Mistake| it.span == span && it.title.ends_with(why);
        if !self.mistakes.iter().any(is_told) {
            let help = "write a path on the instance's port, as \"/stats\", or a URL, as \"http://127.0.0.1:8080/stub_status\"";
            self.report(Mistake::new(span, title, "asked with every look").help(help));
        }
    }

    /// A service that says that its gateway counts has one.
    pub(super) fn want_gateways(&mut self, roots: &[Table], services: &mut [Service]) {
        let counts = |it: &&mut Service| it.written.load == Load::Gateway && !it.rules.fronted;
        for service in services.iter_mut().filter(counts) {
            let name = service.rules.name.to_string();
            let all = roots.iter().flat_map(|it| super::whole::table_in(it, "service"));
            let mut own = all.filter(|it| it.name == name).filter_map(super::whole::as_table);
            let Some(entry) = own.find_map(|it| it.find("load")) else {
                // A default for all is meant for those that have one.
                service.written.load = Load::Unsaid;
                continue;
            };
            let title = format!("nothing stands in front of `{name}` that could count");
            let mistake = Mistake::new(entry.at, title, "there is no gateway of this service");
            let help = format!("add [gateway.{name}] with service = \"{name}\", or remove this");
            self.report(mistake.help(help));
        }
    }
}

fn is_page(kind: &Kind) -> bool {
    !matches!(kind, Kind::SwooleFile | Kind::SwooleAdmin)
}
