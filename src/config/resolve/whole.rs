//! What only all files together can tell: names, ports, dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Resolver;
use crate::config::mistake::{Mistake, Span};
use crate::config::read::suggestion;
use crate::config::settings::Service;
use crate::config::value::{Data, Entry, Layers, Table};

/// Services of a circle that are named; the others are counted.
const DRAWN: usize = 8;

impl Resolver<'_> {
    pub(super) fn whole(&mut self, roots: &[Table], services: &[Service]) {
        let entries: Vec<&Entry> = roots.iter().flat_map(|it| table_in(it, "service")).collect();
        self.names_are_unique(&entries);
        self.ports_are_unique(&entries, services);
        self.pidfiles_are_of_one_service(&entries, services);
        self.dependencies_exist(roots, &entries, services);
        self.dependencies_have_an_order(&entries, services);
    }

    fn names_are_unique(&mut self, entries: &[&Entry]) {
        let mut taken: BTreeMap<&str, (Span, String)> = BTreeMap::new();
        for entry in entries {
            let instances = instances_of(entry);
            self.take(&mut taken, &entry.name, entry.at, "a service".into());
            for instance in &instances {
                // The only instance of a service may bear its name: that is what it would get.
                if instances.len() > 1 || instance.name != entry.name {
                    let what = format!("an instance of `{}`", entry.name);
                    self.take(&mut taken, &instance.name, instance.at, what);
                }
            }
        }
    }

    fn take<'a>(
        &mut self,
        taken: &mut BTreeMap<&'a str, (Span, String)>,
        name: &'a str,
        at: Span,
        what: String,
    ) {
        if let Some((first, other)) = taken.get(name) {
            let title =
                format!("`{name}` is a name twice: services and instances share their names");
            let mistake = Mistake::new(at, title, format!("here it is {what}"));
            self.mistakes.push(
                mistake.also(*first, format!("here it is {other}")).help("rename one of them"),
            );
            return;
        }
        taken.insert(name, (at, what));
    }

    fn ports_are_unique(&mut self, entries: &[&Entry], services: &[Service]) {
        let rules = services.iter().map(|it| &it.rules).filter(|it| !it.enabled);
        let disabled: BTreeSet<&str> = rules.map(|it| it.name.as_str()).collect();
        let mut taken: BTreeMap<u32, (Span, &str)> = BTreeMap::new();
        self.sockets_are_unique(entries, services, &disabled, &mut taken);
        for entry in entries.iter().filter(|it| !disabled.contains(it.name.as_str())) {
            for instance in instances_of(entry) {
                let Data::Table(table) = &instance.value.data else { continue };
                let Some((port, span)) = Layers::new([table]).integer("port") else { continue };
                let alone = instances_of(entry).len() == 1;
                if let Some((first, other)) =
                    taken.get(&port).filter(|it| !(alone && it.1 == entry.name))
                {
                    let title =
                        format!("`{}` and `{other}` have the same port {port}", instance.name);
                    let mistake = Mistake::new(span, title, "only one of them could listen");
                    self.mistakes.push(
                        mistake
                            .also(*first, format!("the port of `{other}`"))
                            .help("give each instance its own port"),
                    );
                    continue;
                }
                taken.insert(port, (span, &instance.name));
            }
        }
    }

    /// The ports of the sockets that are held for services, under the names of these.
    fn sockets_are_unique<'a>(
        &mut self,
        entries: &[&'a Entry],
        services: &[Service],
        disabled: &BTreeSet<&str>,
        taken: &mut BTreeMap<u32, (Span, &'a str)>,
    ) {
        for entry in entries.iter().filter(|it| !disabled.contains(it.name.as_str())) {
            let service = services.iter().find(|it| it.rules.name.as_str() == entry.name);
            let Some(socket) = service.and_then(Service::socket) else { continue };
            let own = as_table(entry).map(|it| Layers::new([it]).inner("socket"));
            let span = own.and_then(|it| it.listen("listen")).map_or(entry.at, |it| it.1);
            let port = u32::from(socket.listen.port());
            if let Some((first, other)) = taken.insert(port, (span, &entry.name)) {
                let title = format!("`{}` and `{other}` have the same port {port}", entry.name);
                let mistake = Mistake::new(span, title, "only one of them could listen");
                let mistake = mistake.also(first, format!("the port of `{other}`"));
                self.report(mistake.help("give each socket its own port"));
            }
        }
    }

    /// One pid file names one process: each of two services would stop what the other one restarts.
    fn pidfiles_are_of_one_service(&mut self, entries: &[&Entry], services: &[Service]) {
        let mut taken: BTreeMap<&Path, (Span, &str, &str)> = BTreeMap::new();
        for service in services.iter().filter(|it| it.rules.enabled) {
            let name = service.rules.name.as_str();
            let Some(entry) = entries.iter().find(|it| it.name == name) else { continue };
            let own = as_table(entry).and_then(|it| Layers::new([it]).text("pidfile"));
            let span = own.map_or(entry.at, |it| it.1);
            for it in &service.instances {
                let Some(path) = it.pidfile.as_deref() else { continue };
                let (first, of, other) = *taken.entry(path).or_insert((span, name, &it.name));
                // Within one service that is told already.
                if of != name {
                    let title = format!("`{}` and `{other}` have the same pidfile", it.name);
                    let mistake = Mistake::new(span, title, "it names one process");
                    let mistake = mistake.also(first, format!("the pidfile of `{other}`"));
                    self.report(mistake.help("remove one of the services"));
                }
            }
        }
    }

    fn dependencies_exist(&mut self, roots: &[Table], entries: &[&Entry], services: &[Service]) {
        let names: BTreeSet<&str> = entries.iter().map(|it| it.name.as_str()).collect();
        let lists = roots.iter().filter_map(|it| match &it.find("defaults")?.value.data {
            Data::Table(table) => Some(table),
            _ => None,
        });
        for table in lists.chain(entries.iter().filter_map(|it| as_table(it))) {
            for (name, span) in Layers::new([table])
                .texts("depends_on")
                .into_iter()
                .filter(|it| !names.contains(it.0))
            {
                let title = format!("there is no service `{name}` to depend on");
                let owner =
                    services.iter().find(|it| it.instances.iter().any(|it| it.name == name));
                let known: Vec<&str> = names.iter().copied().collect();
                let help = match owner {
                    Some(owner) => format!(
                        "`{name}` is an instance: depend on its service `{}`",
                        owner.rules.name
                    ),
                    None => suggestion(name, &known, "the services are"),
                };
                self.report(Mistake::new(span, title, "not a service").help(help));
            }
        }
    }

    /// Walks the dependencies depth first; each circle is reported once, at the service it begins with.
    fn dependencies_have_an_order(&mut self, entries: &[&Entry], services: &[Service]) {
        let graph: BTreeMap<&str, Vec<&str>> = services
            .iter()
            .map(|it| {
                (it.rules.name.as_str(), it.rules.depends_on.iter().map(|it| it.as_str()).collect())
            })
            .collect();
        let mut done: BTreeMap<&str, bool> = BTreeMap::new();
        for start in services.iter().map(|it| it.rules.name.as_str()) {
            let mut path: Vec<(&str, usize)> = vec![];
            if !done.contains_key(start) {
                path.push((start, 0));
                done.insert(start, false);
            }
            while let Some((name, next)) = path.last_mut() {
                let Some(to) = graph.get(name).and_then(|it| it.get(*next)).copied() else {
                    done.insert(name, true);
                    path.pop();
                    continue;
                };
                *next += 1;
                match done.get(to) {
                    Some(true) => {}
                    Some(false) => {
                        let from = path.iter().position(|it| it.0 == to).unwrap_or_default();
                        let circle: Vec<&str> = path[from..].iter().map(|it| it.0).collect();
                        self.report_circle(entries, &circle);
                    }
                    None => {
                        done.insert(to, false);
                        path.push((to, 0));
                    }
                }
            }
        }
    }

    fn report_circle(&mut self, entries: &[&Entry], circle: &[&str]) {
        let Some(entry) = entries.iter().find(|it| circle.first() == Some(&it.name.as_str()))
        else {
            return;
        };
        let next = circle.get(1).unwrap_or(&circle[0]);
        let span = as_table(entry)
            .and_then(|it| {
                Layers::new([it]).texts("depends_on").into_iter().find(|it| it.0 == *next)
            })
            .map_or(entry.at, |it| it.1);
        if let [alone] = circle {
            return self.report(
                Mistake::new(
                    span,
                    format!("`{alone}` depends on itself"),
                    "it would wait for ever",
                )
                .help("remove it from the list"),
            );
        }
        let (shown, more) = circle.split_at(circle.len().min(DRAWN));
        let rest = |before| match more.len() {
            0 => String::new(),
            n => format!("{before}{n} more"),
        };
        let title =
            format!("{}{} depend on each other in a circle", shown.join(", "), rest(" and "));
        let label = format!("{}{} → {}", shown.join(" → "), rest(" → … "), circle[0]);
        self.report(
            Mistake::new(span, title, label)
                .help("none of them could start first: remove one of these dependencies"),
        );
    }
}

pub(super) fn as_table(entry: &Entry) -> Option<&Table> {
    match &entry.value.data {
        Data::Table(table) => Some(table),
        _ => None,
    }
}

pub(super) fn table_in<'a>(table: &'a Table, name: &str) -> &'a [Entry] {
    table.find(name).and_then(as_table).map_or(&[], |it| &it.entries)
}

fn instances_of(entry: &Entry) -> Vec<&Entry> {
    as_table(entry).map_or(&[][..], |it| table_in(it, "instance")).iter().collect()
}
