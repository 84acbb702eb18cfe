//! What an event is about: bodies of probes, last lines, how the last process ended.

use super::{Hands, Known};
use crate::daemon::clock;
use crate::daemon::http::logs::{File, last_lines};
use crate::daemon::show::facts::Facts;
use crate::fleet::input::Record;
use crate::fleet::{Fleet, Name, Timestamp};

/// Bytes of a probe's body in evidence.
const LONGEST_BODY: usize = 1024;

impl Hands {
    /// The log files behind a name.
    pub fn log_files(&self, name: &str) -> Vec<File> {
        let of_service = |known: &Known| known.service.as_str() == name;
        self.known
            .iter()
            .filter(|(instance, known)| instance.as_str() == name || of_service(known))
            .map(|(instance, known)| File {
                instance: instance.to_string(),
                path: self.source(instance, known.log).log,
                link: self.link.clone(),
            })
            .collect()
    }

    /// Probe bodies and last lines of what an event is about.
    pub fn evidence(&self, record: &Record, fleet: &Fleet, facts: &Facts) -> Vec<String> {
        let Some(instance) = &record.instance else { return vec![] };
        let mut lines = vec![];
        let sheet = fleet.instance_sheet(instance.as_str());
        if record.kind == "reload-incomplete" {
            // What has ended in the middle of it has no reload any more.
            let since = sheet.and_then(|it| it.reload).map(|it| it.since);
            return self.said_since(instance, since);
        }
        let generation = sheet.as_ref().map_or(0, |it| it.generation);
        for (kind, result) in facts.probes(instance.as_str(), generation) {
            let error = result.error.unwrap_or_else(|| "passed".into());
            let body = on_a_line(result.body.as_deref().unwrap_or_default(), LONGEST_BODY);
            lines.push(format!("{kind} probe: {error} {body}").trim_end().into());
        }
        if let Some(exit) = sheet.and_then(|it| it.last_exit) {
            lines.push(format!("last exit: {}", exit.cause));
        }
        if let Some(known) = self.known.get(instance) {
            let log = self.source(instance, known.log).log;
            lines.extend(last_lines(&log, 10, None));
        }
        lines.extend(
            record.service.as_ref().and_then(|it| self.runs.last_lines(it)).into_iter().flatten(),
        );
        lines
    }

    /// What it wrote last, from then on.
    fn said_since(&self, instance: &Name, since: Option<Timestamp>) -> Vec<String> {
        let Some(known) = self.known.get(instance) else { return vec![] };
        let log = self.source(instance, known.log).log;
        last_lines(&log, 10, since.map(clock::wall_of))
    }
}

/// A body as one line of at most so many bytes: its lines with blanks between them.
pub(in crate::daemon) fn on_a_line(body: &str, most: usize) -> String {
    let lines = body.lines().map(str::trim).filter(|it| !it.is_empty());
    let mut line = lines.collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(most));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_many_lines_is_evidence_as_a_whole() {
        let body = "{\n  \"status\": \"DOWN\",\n  \"db\": \"gone\"\n}\n";
        assert_eq!(on_a_line(body, LONGEST_BODY), r#"{ "status": "DOWN", "db": "gone" }"#);
        let long = on_a_line(&"ä\n".repeat(2000), LONGEST_BODY);
        assert!(long.len() <= LONGEST_BODY && long.starts_with("ä ä"), "{long}");
    }
}
