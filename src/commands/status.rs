//! `opsdeck status`: what is running, as a table or as the API's snapshot.

use std::fmt::Write;

use jiff::Timestamp;

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
    // The others of a service count, whoever is named.
    let concerned = |it: &&Service| is_named(it, &args.names);
    let served = !deck.services.iter().filter(concerned).any(is_unserved);
    let remarks = remarks(&deck, &args.names);
    keep_only(&mut deck, &args.names);
    let text = match args.json {
        true => json_line(&deck, "the snapshot")?,
        false => printable_table(&deck, deck.now),
    };
    out(&text).map_err(|err| unprinted(&err))?;
    // Whoever reads JSON has them there.
    for it in remarks.iter().filter(|_| !args.json) {
        notice(&format!("opsdeck: {}", printer()(it)));
    }
    let is_well = served && deck.services.iter().all(is_as_wanted);
    Ok(if is_well { Exit::Done } else { Exit::NotAsWanted })
}

fn is_named(service: &Service, names: &[String]) -> bool {
    let mut own = std::iter::once(&service.name).chain(service.instances.iter().map(|it| &it.name));
    names.is_empty() || own.any(|it| names.contains(it))
}

/// What the table does not show: of the deck, and of rollouts.
fn remarks(deck: &Deck, names: &[String]) -> Vec<String> {
    let config = &deck.config;
    let error = config.error.iter().map(|it| format!("the configuration was not applied: {it}"));
    let pending = (!config.pending.is_empty()).then(|| {
        let waits = config.pending.join(", ");
        format!("an edit of the configuration waits: {waits}; `opsdeck config apply` applies it")
    });
    let concerned = deck.services.iter().filter(|it| is_named(it, names));
    let services = concerned.flat_map(|it| rollout_remark(it).into_iter().chain(unserved(it)));
    deck.notices.iter().cloned().chain(error).chain(pending).chain(services).collect()
}

fn rollout_remark(service: &Service) -> Option<String> {
    let (name, rollout) = (&service.name, service.rollout.as_ref()?);
    match &rollout.halted {
        Some(why) => Some(format!("the rolling restart of {name} has halted: {why}")),
        None if rollout.paused && rollout.ended.is_none() => Some(format!(
            "the rolling restart of {name} is paused; `opsdeck roll --resume {name}` goes on with it"
        )),
        None => None,
    }
}

fn unserved(service: &Service) -> Option<String> {
    let name = &service.name;
    is_unserved(service).then(|| {
        format!(
            "nobody of {name} is in rotation: all are held; `opsdeck undrain {name}` puts them back"
        )
    })
}

/// All that is wanted up is held out of rotation.
fn is_unserved(service: &Service) -> bool {
    let mut wanted = service.instances.iter().filter(|it| it.goal == Goal::Up).peekable();
    wanted.peek().is_some() && wanted.all(|it| it.held_by.is_some())
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

/// `now`: where the table is looked at once, so that it may tell what is to come.
pub(super) fn printable_table(deck: &Deck, now: Option<Timestamp>) -> String {
    let print = printer();
    let rows = deck.services.iter().flat_map(|it| &it.instances).map(|it| row(it, now, print));
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

fn row(it: &Instance, now: Option<Timestamp>, print: fn(&str) -> String) -> [String; 6] {
    let ready = match it.ready {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let mut why = it.why.clone();
    if let Some((at, now)) = it.retry_at.zip(now) {
        let _ = write!(why, "; again in {}s", at.duration_since(now).as_secs().max(0));
    }
    if let Some(by) = &it.held_by {
        let _ = write!(why, " (held by {by})");
    }
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
        insta::assert_snapshot!(printable_table(&deck, None), @r"
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

    #[test]
    fn whom_nobody_reaches_is_not_as_wanted() {
        let held = |name: &str| Instance {
            held_by: Some("root".into()),
            ..instance(name, State::Running)
        };
        let free = instance("web2", State::Running);
        let one = deck(vec![held("web1"), free]);
        let all = deck(vec![held("web1"), held("web2")]);
        assert!(!is_unserved(&one.services[0]) && is_unserved(&all.services[0]));
        assert!(!is_unserved(&deck(vec![]).services[0]));
        assert!(printable_table(&one, None).contains("since 10:42 (held by root)\n"));
        assert_eq!(remarks(&one, &[]), Vec::<String>::new());
        assert!(remarks(&all, &["web1".into()])[0].starts_with("nobody of web is in rotation"));
        assert_eq!(remarks(&all, &["other".into()]), Vec::<String>::new());
    }

    #[test]
    fn what_the_table_does_not_show_is_said_below() {
        let mut deck = deck(vec![instance("web1", State::Backoff)]);
        deck.config.error = Some("line 3: unknown key".into());
        deck.config.pending = vec!["stops queue".into(), "stops a".into()];
        let rollout = crate::api::Rollout { paused: true, ..Default::default() };
        deck.services[0].rollout = Some(rollout.clone());
        insta::assert_snapshot!(remarks(&deck, &[]).join("\n"), @r"
        the configuration was not applied: line 3: unknown key
        an edit of the configuration waits: stops queue, stops a; `opsdeck config apply` applies it
        the rolling restart of web is paused; `opsdeck roll --resume web` goes on with it
        ");
        let halted = Some("web1 was not ready".into());
        deck.services[0].rollout = Some(crate::api::Rollout { halted, ..rollout });
        let told = remarks(&deck, &["web1".into()]);
        assert_eq!(told[2], "the rolling restart of web has halted: web1 was not ready");

        let now = Timestamp::UNIX_EPOCH;
        deck.services[0].instances[0].retry_at = Some(now + jiff::SignedDuration::from_secs(8));
        assert!(printable_table(&deck, Some(now)).contains("since 10:42; again in 8s"));
        assert!(!printable_table(&deck, None).contains("again"), "it would soon be wrong");
    }
}
