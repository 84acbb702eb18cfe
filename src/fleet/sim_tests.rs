//! Whole fleets on a simulated host, with faults, and operators who change their minds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::fixture::{self, SECOND, by, swoole_profile};
use super::input::{Disposition, Order, Verb};
use super::rollout_state::Rollout;
use super::rules::{Restart, Rung, ServiceRules, Thresholds};
use super::sim::Sim;
use super::sim_host::Temper;
use super::words::{Name, Signal};

fn any_temper() -> impl Strategy<Value = Temper> {
    let percent = |most: u64| prop_oneof![2 => Just(0), 3 => 0..most];
    let processes = (percent(30), percent(60), percent(60), percent(50), percent(30));
    let probes = (percent(25), percent(40), percent(40), percent(30), percent(100));
    let oddities = (percent(15), percent(10), percent(30));
    (processes, probes, oddities).prop_map(|(a, b, c)| Temper {
        stillborn: c.0,
        stuck: c.1,
        lost: c.2,
        spawn_fails: a.0,
        dies: a.1,
        ignores_term: a.2,
        survivors: a.3,
        slow_kill: a.4,
        never_ready: b.0,
        flaps: b.1,
        sickens: b.2,
        build_fails: b.3,
        counts: b.4,
    })
}

fn any_thresholds() -> impl Strategy<Value = Option<Thresholds>> {
    let thresholds =
        (1_u32..3, 1_u32..4).prop_map(|(success, failure)| Thresholds { success, failure });
    prop::option::weighted(0.7, thresholds)
}

fn any_ladder() -> impl Strategy<Value = Vec<Rung>> {
    prop_oneof![
        Just(vec![Rung { signal: Signal::TERM, wait: None }]),
        Just(vec![
            Rung { signal: Signal::QUIT, wait: Some(2 * SECOND) },
            Rung { signal: Signal::TERM, wait: Some(3 * SECOND) },
        ]),
    ]
}

fn spare_of(index: usize) -> Name {
    Name::from(format!("s{index}-surge").as_str())
}

fn any_service(index: usize) -> impl Strategy<Value = ServiceRules> {
    let shape = (1_usize..5, prop::collection::vec(any::<bool>(), 4), any::<bool>(), any_ladder());
    let probes = (any_thresholds(), any_thresholds(), any_thresholds());
    let rollout =
        (0_usize..3, 0_usize..2, 0_u64..5, 1_u32..4, prop::option::weighted(0.4, 0_u32..4));
    let patience = (0_u64..3, 0_u64..12, prop::option::weighted(0.3, 0_u32..4), 0_u8..6);
    (shape, probes, rollout, patience, any::<[bool; 2]>()).prop_map(
        move |(shape, probes, rollout, patience, [depends, surge])| {
            let names: Vec<String> = (0..shape.0).map(|i| format!("s{index}i{i}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut rules = fixture::rules(&format!("s{index}"), &names);
            for (it, backup) in rules.instances.iter_mut().zip(shape.1) {
                it.backup = backup;
            }
            rules.fronted = shape.2;
            rules.stop = shape.3;
            (rules.startup, rules.liveness, rules.readiness) = probes;
            rules.rollout.build = rollout.0;
            rules.rollout.rollback = rollout.1;
            rules.rollout.settle = Duration::from_secs(rollout.2);
            rules.rollout.successes = rollout.3;
            rules.rollout.min_ready = rollout.4;
            rules.rollout.spare = surge.then(|| spare_of(index));
            rules.drain_delay = Duration::from_secs(patience.0);
            rules.reserve = Duration::from_secs(patience.1);
            rules.retries = patience.2;
            rules.restart = match patience.3 {
                0 => Restart::Never,
                1 => Restart::OnFailure,
                _ => Restart::Always,
            };
            rules.profile = swoole_profile().into();
            rules.reload_drain = patience.3 % 2 == 0;
            if depends && index > 0 {
                rules.depends_on = vec![Name::from(format!("s{}", index - 1).as_str())];
            }
            rules
        },
    )
}

fn any_fleet() -> impl Strategy<Value = Vec<ServiceRules>> {
    (any_service(0), any_service(1), any_service(2), 1_usize..4)
        .prop_map(|(a, b, c, n)| vec![a, b, c].into_iter().take(n).collect())
}

/// Something a person does, after a pause; the number decides what and to whom.
#[derive(Clone, Debug)]
struct Whim {
    pause: Duration,
    kind: u8,
    /// At what a rollout is just doing, if there is one.
    aimed: bool,
    target: usize,
    variant: u8,
}

fn any_whims(kinds: std::ops::Range<u8>, n: usize) -> impl Strategy<Value = Vec<Whim>> {
    let whim = (0_u64..40_000, kinds, any::<bool>(), any::<usize>(), any::<u8>()).prop_map(
        |(pause, kind, aimed, target, variant)| Whim {
            pause: Duration::from_millis(pause),
            kind,
            aimed,
            target,
            variant,
        },
    );
    prop::collection::vec(whim, 0..n)
}

const ROLLS: u8 = 6;
const VERBS: u8 = 26;
const EVERYTHING: u8 = 30;

/// The first kinds are about rollouts, then come all other orders, then changes from outside.
fn act(sim: &mut Sim, whim: &Whim) {
    let services = sim.fleet.service_names();
    let instances = sim.fleet.instances.names();
    if services.is_empty() || instances.is_empty() {
        sim.reconfigure(sim.rules.clone());
        return;
    }
    let mut service = services[whim.target % services.len()].clone();
    let mut instance = instances[whim.target % instances.len()].clone();
    if whim.aimed
        && let Some(present) = sim.present_step()
    {
        (service, instance) = present;
    }
    if whim.kind < VERBS {
        sim.see_at_a_step("order", &instance);
    }
    let verb = match whim.kind {
        0 | 1 => Verb::Roll { service, set: BTreeMap::new() },
        2 => Verb::Abort(service),
        3 => Verb::Pause(service),
        4 => Verb::Resume(service),
        5 => Verb::RollBack(service),
        6 => Verb::Start(instance),
        7 => Verb::Stop { instance, now: whim.variant.is_multiple_of(4) },
        8 => Verb::Restart(instance),
        9 => Verb::Drain(instance),
        10 => Verb::Undrain(instance),
        11 => Verb::Extend(instance),
        12 => Verb::Kill(instance),
        13 => Verb::StartService(service),
        14 => Verb::StopService { service, now: false },
        15 => Verb::RestartService(service),
        16 => Verb::SignalService { service, signal: None, dispositions: BTreeMap::new() },
        17..VERBS => {
            let signals = [Signal::TERM, Signal::USR1, Signal::QUIT, Signal::KILL, Signal::TERM];
            let signal = signals[usize::from(whim.variant) % signals.len()];
            let disposition = Disposition::Caught;
            Verb::Signal { instance, signal: Some(signal), process: None, disposition }
        }
        26 | 27 => return sim.make_busy(),
        28 => return change_configuration(sim, &service, whim),
        _ => return sim.replace_daemon(),
    };
    let guard = whim.variant.is_multiple_of(8);
    let answer = sim.order(Order { by: by("alice"), verb, guard });
    let words = match answer {
        Ok(words) => words,
        Err(refusal) => format!("{}{}", refusal.what, refusal.why),
    };
    assert!(!words.is_empty());
}

fn change_configuration(sim: &mut Sim, service: &Name, whim: &Whim) {
    if let Some((_, instance)) = sim.present_step() {
        sim.see_at_a_step("configuration", &instance);
    }
    let mut rules = sim.rules.clone();
    let index = rules.iter().position(|it| it.name == *service).unwrap_or(0);
    if rules.is_empty() {
        rules = vec![fixture::rules("s0", &["s0i0", "s0i1"])];
    } else if whim.variant.is_multiple_of(7) && rules.len() > 1 {
        rules.remove(index);
    } else {
        let it = &mut rules[index];
        match whim.variant % 7 {
            1 => it.enabled = !it.enabled,
            2 if it.instances.len() > 1 => drop(it.instances.remove(0)),
            3 => {
                // One that was forgotten begins again with its first generation.
                let name = format!("s{index}x{}", sim.highest.len() + it.instances.len());
                it.instances.push(fixture::instance(&name));
            }
            4 => it.instances[0].fingerprint += 1,
            5 => {
                let other = Thresholds { success: 1, failure: 2 };
                it.readiness = if it.readiness.is_some() { None } else { Some(other) };
                it.liveness = Some(other);
                it.startup = None;
            }
            6 => {
                let spare = Name::from(format!("{}-surge", it.name).as_str());
                it.rollout.spare = it.rollout.spare.take().xor(Some(spare));
            }
            _ => it.rollout.min_ready = None,
        }
    }
    sim.reconfigure(rules);
}

/// Nobody does anything any more: rollouts end, then everything is stopped, and comes to rest.
fn wind_down(sim: &mut Sim) {
    for service in sim.fleet.service_names() {
        drop(sim.order(Order { by: by("bob"), verb: Verb::Resume(service), guard: false }));
    }
    let patience = sim.now + Duration::from_secs(3600);
    let busy = |sim: &Sim| {
        let mut services = sim.fleet.services.values();
        services
            .any(|it| it.wave.is_some() || it.rollout.as_ref().is_some_and(Rollout::is_under_way))
    };
    while busy(sim) {
        assert!(sim.step(patience), "a rollout does not end");
    }
    sim.free_the_stuck();
    sim.order(Order { by: by("bob"), verb: Verb::StopAll, guard: false }).unwrap();
    let patience = sim.now + Duration::from_secs(600);
    while !sim.fleet.is_at_rest() {
        assert!(sim.step(patience), "does not come to rest: {:?}", sim.busy());
    }
    sim.run_for(Duration::from_secs(120));
    sim.check_rest();
}

proptest! {
    /// Never two generations at once, never below `min_ready` by the deck's own doing, every stop ends,
    /// every rollout ends or halts: whatever people do and whatever goes wrong.
    #[test]
    fn promises_hold_whatever_people_do(
        rules in any_fleet(),
        temper in any_temper(),
        seed in any::<u64>(),
        whims in any_whims(0..EVERYTHING, 25),
    ) {
        let mut sim = Sim::new(rules, temper, seed);
        for whim in &whims {
            sim.run_for(whim.pause);
            act(&mut sim, whim);
        }
        wind_down(&mut sim);
    }

    /// The same where everything is ready first and people do nothing but roll.
    #[test]
    fn promises_hold_while_services_are_rolled(
        rules in any_fleet(),
        temper in any_temper(),
        seed in any::<u64>(),
        whims in any_whims(0..ROLLS, 8),
    ) {
        let mut sim = Sim::new(rules, temper, seed);
        sim.run_for(Duration::from_secs(60));
        for whim in &whims {
            act(&mut sim, whim);
            sim.run_for(whim.pause);
        }
        wind_down(&mut sim);
    }

    /// The same where somebody interferes with every rollout.
    #[test]
    fn promises_hold_while_rollouts_are_interfered_with(
        rules in any_fleet(),
        temper in any_temper(),
        seed in any::<u64>(),
        whims in any_whims(0..EVERYTHING, 12),
    ) {
        let mut sim = Sim::new(rules, temper, seed);
        roll_and_interfere(&mut sim, &whims);
        wind_down(&mut sim);
    }
}

/// Rolls, and does something to what that is doing, again and again.
fn roll_and_interfere(sim: &mut Sim, whims: &[Whim]) {
    sim.run_for(Duration::from_secs(60));
    for whim in whims {
        act(sim, &Whim { kind: 0, aimed: false, ..whim.clone() });
        sim.run_for(whim.pause / 4);
        act(sim, &Whim { aimed: true, ..whim.clone() });
    }
}

/// A promise that was never put to the test is worth nothing: whatever may go wrong has gone wrong in
/// the middle of a step.
#[test]
fn everything_that_may_go_wrong_goes_wrong_in_the_middle_of_a_step() {
    let mut runner = TestRunner::deterministic();
    let all = (any_fleet(), any_temper(), any::<u64>(), any_whims(0..EVERYTHING, 12));
    let mut seen = BTreeSet::new();
    for _ in 0..150 {
        let (rules, temper, seed, whims) = all.new_tree(&mut runner).unwrap().current();
        let mut sim = Sim::new(rules, temper, seed);
        roll_and_interfere(&mut sim, &whims);
        seen.extend(sim.seen);
    }
    let faults = [
        "configuration",
        "daemon",
        "exit before the start",
        "exit by itself",
        "failing command",
        "failing liveness",
        "late result",
        "lost result",
        "order",
        "spawn failure",
        "stuck process",
        "survivor",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), faults);
}

const CALM: Temper = Temper {
    spawn_fails: 0,
    dies: 0,
    stillborn: 0,
    stuck: 0,
    lost: 0,
    ignores_term: 0,
    survivors: 0,
    slow_kill: 0,
    never_ready: 0,
    flaps: 0,
    sickens: 0,
    build_fails: 0,
    counts: 100,
};

/// Without faults, a rollout renews every instance, one after the other.
#[test]
fn on_a_calm_day_a_rollout_renews_everything() {
    let mut service = fixture::web(&["web1", "web2", "web3"]);
    service.rollout.build = 1;
    for seed in 0..50 {
        let mut sim = Sim::new(vec![service.clone()], CALM, seed);
        sim.run_for(Duration::from_secs(60));
        let roll = Verb::Roll { service: "web".into(), set: BTreeMap::new() };
        sim.order(Order { by: by("alice"), verb: roll, guard: true }).unwrap();
        sim.make_busy();
        sim.run_for(Duration::from_secs(200));
        let rollout = sim.fleet.service_sheet("web").unwrap().rollout.unwrap();
        assert_eq!((rollout.step, rollout.renewed.len()), ("done", 3), "seed {seed}");
    }
}

/// With a spare nobody is missed: not fewer serve at any time than before the rollout.
#[test]
fn on_a_calm_day_a_spare_serves_for_the_one_that_is_renewed() {
    for (seed, names) in (0..40).zip([&["web1"][..], &["web1", "web2"]].into_iter().cycle()) {
        let mut service = fixture::web(names);
        service.rollout.spare = Some("web-surge".into());
        let mut sim = Sim::new(vec![service], CALM, seed);
        sim.run_for(Duration::from_secs(60));
        let roll = Verb::Roll { service: "web".into(), set: BTreeMap::new() };
        sim.order(Order { by: by("alice"), verb: roll, guard: true }).unwrap();
        let until = sim.now + Duration::from_secs(200);
        let mut most = 0;
        while sim.step(until) {
            let serving = sim.admitted.len();
            assert!(serving >= names.len(), "{serving} serve, seed {seed}");
            most = most.max(serving);
        }
        let sheet = sim.fleet.service_sheet("web").unwrap();
        assert_eq!(sheet.rollout.unwrap().step, "done", "seed {seed}");
        assert_eq!((most, sheet.instances.len()), (names.len() + 1, names.len()), "seed {seed}");
        assert_eq!(sheet.instances[0].generation, 2);
    }
}
