//! Orders without sockets: what a control connection would have done to the routes and the counts.

use super::control::{Counts, MESSAGE_LIMIT, ToGateway, decode};
use super::room::Room;
use super::shared::Shared;
use super::table::Table;

/// Carries out these lines, as far as they are orders, and returns the counts after each change of the routes.
///
/// For the fuzz target and its corpus: nothing that a peer may say ends the process, and the counts are those of
/// the routes in force.
pub fn replay(lines: &[u8]) -> Vec<Counts> {
    let table = Table::new(Shared::none(), Room::with(1024));
    let mut all = vec![];
    for line in lines.split(|it| *it == b'\n').filter(|it| it.len() <= MESSAGE_LIMIT) {
        if let Ok(ToGateway::Routes(routes)) = decode(line) {
            let revision = routes.revision;
            table.apply(routes);
            let counts = table.counts();
            assert_eq!(counts.revision, revision, "counts of other routes");
            all.push(counts);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzz_target_does_no_harm() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/gateway_control");
        let mut carried_out = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            carried_out += replay(&std::fs::read(entry.unwrap().path()).unwrap()).len();
        }
        assert!(carried_out > 5, "{carried_out} orders are no corpus");
    }

    #[test]
    fn an_instance_is_counted_from_the_routes_that_name_it_to_those_that_do_not() {
        let line = |revision: u64, instances: &str| {
            format!(
                r#"{{"type":"routes","revision":{revision},"gateways":[{{"name":"shop","instances":[{instances}]}}]}}"#
            )
        };
        let web1 = r#"{"name":"web1","generation":3,"address":"127.0.0.1:9502"}"#;
        let counts = replay(format!("{}\n{}\n", line(1, web1), line(2, "")).as_bytes());
        let names: Vec<Vec<_>> = counts
            .iter()
            .map(|it| {
                it.gateways[0].instances.iter().map(|it| (it.name.as_str(), it.in_flight)).collect()
            })
            .collect();
        assert_eq!(names, [vec![("web1", 0)], vec![("web1", 0)]], "once more when it has left");
    }
}
