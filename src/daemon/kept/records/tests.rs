//! What is kept comes back as it was.

use std::collections::BTreeSet;

use super::*;
use crate::fleet::Process;
use crate::fleet::input::Input;

fn alice() -> By {
    By { uid: 7, login: "alice".into(), pid: 4711, ssh: Some("192.0.2.1 1 2 3".into()) }
}

fn stop() -> memory::Stop {
    memory::Stop {
        errand: memory::Errand::Rollout(alice()),
        began: moment(1000),
        deadline: moment(11_000),
        stage: memory::StopStage::Rung { index: 1, next: Some(moment(7000)) },
        first_signal: Some(moment(2000)),
        killed_by: None,
        sent: vec![Signal::QUIT],
        passed: vec![Signal::USR1],
        unbegun: true,
        rungs: vec![
            Rung { signal: Signal::QUIT, wait: Some(Duration::from_secs(5)) },
            Rung { signal: Signal::TERM, wait: None },
        ],
        drain_delay: Duration::ZERO,
        reserve: Duration::from_secs(3),
    }
}

fn memory_of(rest: memory::Rest, at: Option<Last>) -> Memory {
    Memory {
        instance: "web1".into(),
        goal_by: Some(alice()),
        benched: true,
        dismissed: false,
        crashes: 2,
        mishaps: 3,
        restarts: 4,
        spares: 1,
        rest,
        since: Some(memory::Since::Down(moment(77))),
        farewell: at.map(|at| Farewell { generation: 9, at }),
        reloads: None,
    }
}

fn reloads(ended: Option<memory::ReloadEnded>) -> memory::Reloads {
    let worker = |pid| Process { pid, start_time: 5 };
    let last = memory::Reload {
        by: alice(),
        signal: Signal::USR1,
        since: moment(1000),
        before: Some(vec![worker(1), worker(2)]),
        gone: vec![(worker(1), Duration::from_millis(300))],
        fresh: 1,
        most_fresh: 2,
        moved: moment(1300),
        seen: vec![],
        fallen: 0,
        bare: true,
        untitled: true,
        ended,
    };
    memory::Reloads { generation: 3, number: 2, spared: vec![worker(7)], last }
}

fn reread<T: Serialize + for<'de> Deserialize<'de>>(it: &T) -> T {
    serde_json::from_str(&serde_json::to_string(it).unwrap()).unwrap()
}

#[test]
fn what_is_kept_of_an_instance_is_what_it_was() {
    let ended = |ending, errand| Some(Last::Sweeping { ending, errand });
    let all = [
        memory_of(memory::Rest::Stopped, Some(Last::Stopping(Box::new(stop())))),
        memory_of(memory::Rest::Backoff { retry_at: moment(5000) }, None),
        memory_of(memory::Rest::Fatal, None),
        memory_of(memory::Rest::Stopped, Some(Last::Starting)),
        memory_of(
            memory::Rest::Stopped,
            ended(memory::Ending::Expected, Some(memory::Errand::Surplus)),
        ),
        memory_of(
            memory::Rest::Stopped,
            ended(memory::Ending::ByItself { clean: true, ran: Duration::from_secs(1) }, None),
        ),
        Memory { reloads: Some(reloads(None)), ..memory_of(memory::Rest::Stopped, None) },
        Memory {
            reloads: Some(reloads(Some(memory::ReloadEnded {
                at: moment(9000),
                whole: false,
                told: "renewed 1 of 2 workers".into(),
                stayed: vec![Process { pid: 2, start_time: 5 }],
            }))),
            ..memory_of(memory::Rest::Stopped, None)
        },
    ];
    for memory in all {
        assert_eq!(Memory::from(reread(&Kept::from(&memory))), memory);
    }
}

#[test]
fn what_is_kept_of_a_rollout_is_what_it_was() {
    let rollout = |stage| memory::Rollout {
        by: alice(),
        began: moment(1),
        rollback: true,
        targets: Some(BTreeSet::from(["web1".into()])),
        paused: true,
        aborted_by: Some(alice()),
        renewed: vec!["web2".into()],
        mishaps: BTreeMap::from([("web2".into(), 5)]),
        stage,
        step_began: moment(2),
        of: 3,
        serving: 2,
    };
    let outcome = memory::Outcome::Halted("web1 went wrong".into());
    let stages = [
        memory::Stage::Choosing { built: Some("web1".into()), waiting: None },
        memory::Stage::Building { instance: "web1".into(), index: 1 },
        memory::Stage::Renewing { instance: "web1".into(), floor: 4, mishaps: 2, give_up: None },
        memory::Stage::Settling { instance: "web1".into(), mishaps: 2, until: moment(9) },
        memory::Stage::Dismissing { spare: "web-surge".into() },
        memory::Stage::Over { at: moment(9), outcome, touched: Some("web1".into()) },
    ];
    for it in stages.map(rollout) {
        let kept = reread(&Rollout::of("web".into(), &it, Some(4711)));
        assert_eq!(kept.log_begins, Some(4711));
        assert_eq!((kept.service.as_str(), memory::Rollout::from(kept.clone())), ("web", it));
    }
}

#[test]
fn what_is_kept_of_a_signal_on_its_way_is_what_it_was() {
    let round = memory::Round {
        by: alice(),
        signal: Signal::USR1,
        forced: true,
        left: vec![("web2".into(), crate::fleet::Process { pid: 4712, start_time: 7 })],
        last: Some("web1".into()),
    };
    let kept = Round::of("web".into(), &round);
    assert_eq!(memory::Round::from(reread(&kept)), round);
}

#[test]
fn how_a_process_is_stopped_is_kept_whole_and_read_as_earlier_releases_wrote_it() {
    let text = "[service.web]\ncommand = \"web\"\nlog = { max_size = \"1MiB\", keep = 9 }\n\
                max_wait_time = \"20s\"\ninstance.web1 = { port = 1 }\n\
                [gateway.shop]\nservice = \"web\"\nlisten = 80\n";
    let settings = crate::config::parse("config.toml", text).unwrap();
    let ladder = reread(&Ladder::of(&settings.services[0], &settings));
    let kept: crate::config::settings::Log = ladder.log.unwrap().into();
    assert_eq!((kept.max_size, kept.keep), (1 << 20, 9));
    let front = Some(Front { gateway: "shop".into(), is_nginx: false });
    assert_eq!((ladder.service.as_deref(), &ladder.front), (Some("web"), &front));
    let Input::Ladder { ladder, .. } = ladder.input("web1".into()) else { panic!("another input") };
    let rules = &settings.services[0].rules;
    let as_configured = memory::Ladder {
        service: Some("web".into()),
        stop: rules.stop.clone(),
        max_wait_time: Duration::from_secs(20),
        reserve: Some(rules.reserve),
        drain_delay: Duration::ZERO,
        fronted: true,
    };
    assert_eq!(*ladder, as_configured);

    let before = r#"{"max_wait_ms":3000,"stop":[[3,1000],[15,null]]}"#;
    let before: Ladder = serde_json::from_str(before).unwrap();
    let Input::Ladder { ladder, .. } = before.input("web1".into()) else { panic!("another input") };
    assert_eq!((ladder.service, ladder.reserve, ladder.fronted), (None, None, false));
    assert_eq!((before.front, before.log, ladder.stop.len()), (None, None, 2));
}
