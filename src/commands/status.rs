//! `opsdeck status`: what is running, as a table or as the API's snapshot.

use super::act::unknown;
use super::{Outcome, json_line, notice, out, printer, unprinted};
use crate::api::{Deck, Goal, Instance, Service, State};
use crate::cli::StatusArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::tui::theme::word;

pub async fn run(client: &Client, args: &StatusArgs) -> Outcome {
    let mut deck = match args.json {
        true => client.deck_with_trees(&args.names).await?,
        false => client.brief().await?,
    };
    if let Some(name) = args.names.iter().find(|it| !is_there(&deck, it)) {
        return Err(unknown(&deck, name));
    }
    keep_only(&mut deck, &args.names);
    let text = if args.json { json_line(&deck, "the snapshot")? } else { printable_table(&deck) };
    out(&text).map_err(|err| unprinted(&err))?;
    // Whoever reads JSON has them there.
    for it in deck.notices.iter().filter(|_| !args.json) {
        notice(&format!("opsdeck: {}", printer()(it)));
    }
    Ok(if deck.services.iter().all(is_as_wanted) { Exit::Done } else { Exit::NotAsWanted })
}

pub(super) fn is_there(deck: &Deck, name: &str) -> bool {
    deck.services.iter().any(|it| it.name == name || it.instances.iter().any(|it| it.name == name))
}

pub(super) fn keep_only(deck: &mut Deck, names: &[String]) {
    if names.is_empty() {
        return;
    }
    for service in &mut deck.services {
        if !names.contains(&service.name) {
            service.instances.retain(|it| names.contains(&it.name));
        }
    }
    deck.services.retain(|it| !it.instances.is_empty());
}

fn is_as_wanted(service: &Service) -> bool {
    let halted = service.rollout.as_ref().is_some_and(|it| it.halted.is_some());
    !halted
        && service.instances.iter().all(|it| match it.goal {
            Goal::Up => match it.state {
                State::Running => it.ready == Some(true),
                State::Exited => it.last_exit.as_ref().is_some_and(|it| it.code == Some(0)),
                _ => false,
            },
            Goal::Down => it.state == State::Stopped,
        })
}

pub(super) fn printable_table(deck: &Deck) -> String {
    let print = printer();
    let rows = deck.services.iter().flat_map(|it| &it.instances).map(|it| row(it, print));
    let header = ["NAME", "STATE", "PID", "READY", "RESTARTS", "WHY"].map(str::to_owned);
    let all: Vec<_> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(unicode_width::UnicodeWidthStr::width(cell.as_str()));
        }
    }
    let mut text = String::with_capacity(all.len() * 64);
    for row in &all {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            let pad = width.saturating_sub(unicode_width::UnicodeWidthStr::width(cell.as_str()));
            text.extend(std::iter::repeat_n(' ', pad + 2));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn row(it: &Instance, print: fn(&str) -> String) -> [String; 6] {
    let ready = match it.ready {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let mut why = it.why.clone();
    if it.stale {
        why.push_str(" (stale: runs an older configuration)");
    }
    [
        it.name.clone(),
        word(it.state).into(),
        it.pid.map_or("-".into(), |it| it.to_string()),
        ready.into(),
        it.restarts.to_string(),
        print(&why),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, state: State) -> Instance {
        Instance {
            name: name.into(),
            state,
            ready: Some(state == State::Running),
            why: "since 10:42".into(),
            ..Instance::default()
        }
    }

    fn deck(instances: Vec<Instance>) -> Deck {
        let service = Service { name: "web".into(), instances, ..Service::default() };
        Deck { services: vec![service], ..Deck::default() }
    }

    #[test]
    fn the_table_is_aligned_and_ends_without_blanks() {
        let deck = deck(vec![instance("web1", State::Running), instance("w", State::Backoff)]);
        insta::assert_snapshot!(printable_table(&deck), @r"
        NAME  STATE    PID  READY  RESTARTS  WHY
        web1  RUNNING  -    yes    0         since 10:42
        w     BACKOFF  -    no     0         since 10:42
        ");
    }

    #[test]
    fn what_should_run_and_does_not_is_not_as_wanted() {
        let good = deck(vec![instance("web1", State::Running)]);
        let bad = deck(vec![instance("web1", State::Running), instance("web2", State::Fatal)]);
        assert!(good.services.iter().all(is_as_wanted));
        assert!(!bad.services.iter().all(is_as_wanted));
    }
}
