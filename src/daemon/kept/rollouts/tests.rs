use super::*;
use crate::api::Actor;

fn at(seconds: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "small")]
    let ms = (seconds * 1000.0) as i64;
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap_or_default()
}

/// An event of web, by alice; an instance's own where `instance` is not empty.
fn event(seconds: f64, kind: &str, instance: &str, message: &str) -> Event {
    Event {
        seq: 0,
        at: at(seconds),
        kind: kind.into(),
        service: Some("web".into()),
        instance: Some(instance.to_owned()).filter(|it| !it.is_empty()),
        actor: Some(Actor { login: "alice".into(), ..Actor::default() }),
        message: message.into(),
        evidence: None,
        lost: None,
        rollout: None,
        stop: None,
    }
}

fn counted(requests: u64) -> Counted {
    Counted { requests, ..Counted::default() }
}

fn began(seconds: f64) -> Event {
    let mark = RolloutMark {
        plan: vec!["web2".into(), "web1".into()],
        counted: Some(counted(100)),
        ..RolloutMark::default()
    };
    let event = event(seconds, "rollout-started", "", "rolling restart of web");
    Event { rollout: Some(Box::new(mark)), ..event }
}

fn step(seconds: f64, instance: &str, step: &str) -> Event {
    let mark = RolloutMark {
        step: Some(step.into()),
        instance: Some(instance.into()),
        ..RolloutMark::default()
    };
    Event { rollout: Some(Box::new(mark)), ..event(seconds, "rollout-step", "", step) }
}

/// One instance, from its build until it is renewed, in eleven seconds.
fn renewal(from: f64, name: &str) -> Vec<Event> {
    let exited = event(from + 6.0, "exited", name, "exited with code 0, 3 requests lost");
    vec![
        step(from, name, "build"),
        step(from + 4.0, name, "draining"),
        event(from + 4.0, "draining", name, "out of rotation"),
        event(from + 5.0, "signal-sent", name, "SIGTERM"),
        event(from + 5.0, "exited", "web9", "another one"),
        Event { lost: Some(3), ..exited },
        event(from + 6.1, "started", name, "started, pid 7"),
        step(from + 8.0, name, "settle"),
        step(from + 11.0, name, "renewed"),
    ]
}

fn told(events: impl IntoIterator<Item = Event>) -> Rollouts {
    let mut all = Rollouts::default();
    events.into_iter().for_each(|it| all.note(&it));
    all
}

fn line(step: &RolloutStep) -> String {
    let phases = step
        .phases
        .iter()
        .map(|it| format!("{} {}", it.name, it.took_ms(at(1000.0)).unwrap_or_default()));
    let phases: Vec<_> = phases.collect();
    format!("{} {}: {}", step.instance, step.outcome, phases.join(", "))
}

#[test]
fn every_step_has_its_parts_and_their_times() {
    let end = RolloutMark { counted: Some(counted(150)), ..RolloutMark::default() };
    let finished = event(40.0, "rollout-finished", "", "finished after 40s");
    let finished = Event { rollout: Some(Box::new(end)), ..finished };
    let events = [began(0.0)].into_iter().chain(renewal(0.0, "web2")).chain(renewal(12.0, "web1"));
    let all = told(events.chain([finished]));
    let record = all.of("web", None).unwrap();
    let lines: Vec<_> = record.steps.iter().map(line).collect();
    let parts =
        "build 4000, draining 1000, stopping 1000, starting 100, readiness 1900, settle 3000";
    assert_eq!(lines, [format!("web2 renewed: {parts}"), format!("web1 renewed: {parts}")]);
    assert_eq!((record.outcome.as_str(), record.ended), ("done", Some(at(40.0))));
    assert_eq!(record.counted, Some(counted(50)));
    assert_eq!(record.steps[0].lost, 3);
    assert_eq!(record.steps[0].exit.as_deref(), Some("exited with code 0, 3 requests lost"));
    assert_eq!(record.untouched().count(), 0);
}

#[test]
fn a_halt_keeps_the_evidence_and_names_what_was_not_touched() {
    let halted = event(
        9.0,
        "rollout-halted",
        "web2",
        "rolling restart of web halted, 0 of 2 renewed: web2 was not ready: 500",
    );
    let evidence = Some(vec!["readiness probe: status 500".to_owned()]);
    let mut events = vec![began(0.0)];
    events.extend(renewal(0.0, "web2").into_iter().take(7));
    events.push(Event { evidence: evidence.clone(), ..halted });
    events.push(event(10.0, "exited", "web2", "what happens later is another story"));
    let record = told(events).of("web", None).unwrap();
    assert_eq!(record.outcome, "halted");
    assert_eq!(record.halted.as_deref(), Some("web2 was not ready: 500"));
    assert_eq!(Some(record.evidence.clone()), evidence);
    assert_eq!(record.untouched().collect::<Vec<_>>(), ["web1"]);
    assert_eq!(record.steps[0].outcome, "failed");
    assert_eq!(record.steps[0].phases.last().unwrap().ended, Some(at(9.0)));
}

#[test]
fn one_that_ended_while_nobody_looked_does_not_run_for_ever() {
    let all = told([began(0.0), step(1.0, "web2", "build")]);
    let record = all.of("web", None).unwrap();
    assert_eq!((record.outcome.as_str(), record.ended), ("halted", Some(at(1.0))));
    assert!(all.of("queue", None).is_none());
}

#[test]
fn a_plan_is_expected_to_take_what_it_took_before() {
    let step = |instance: &str| crate::api::PlanStep {
        instance: instance.into(),
        ..crate::api::PlanStep::default()
    };
    let mut plan =
        Plan { service: "web".into(), steps: vec![step("web2"), step("web3")], ..Plan::default() };
    Rollouts::default().expect(&mut plan);
    assert_eq!(plan.expected_ms, None);
    told([began(0.0)].into_iter().chain(renewal(0.0, "web2"))).expect(&mut plan);
    let each: Vec<_> = plan.steps.iter().map(|it| it.expected_ms).collect();
    assert_eq!((each, plan.expected_ms), (vec![Some(11_000); 2], Some(22_000)));
}

#[test]
fn services_that_are_gone_leave_no_rollout() {
    let mut rollouts = Rollouts::default();
    for n in 0..10_000 {
        rollouts.note(&Event { service: Some(format!("web{n}")), ..began(0.0) });
        rollouts.retain(|it| it == "web7", |_| true);
    }
    assert_eq!(rollouts.services.into_keys().collect::<Vec<_>>(), ["web7"]);
}

#[test]
fn instances_that_are_gone_leave_no_times() {
    let mut rollouts = Rollouts::default();
    for n in 0..10_000 {
        let kept = rollouts.services.entry("web".into()).or_default();
        kept.past.insert(format!("web{n}"), [5].into());
        rollouts.retain(|_| true, |it| it == "web7");
    }
    let past = &rollouts.services["web"].past;
    assert_eq!(past.keys().collect::<Vec<_>>(), ["web7"]);
}
