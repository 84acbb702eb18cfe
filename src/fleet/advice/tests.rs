//! Each rule with evidence that speaks for it, and with evidence that does not.

use std::time::Duration;

use insta::assert_snapshot;

use super::*;
use crate::fleet::rules::Profile;
use crate::fleet::words::Signal;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn swoole() -> Profile {
    Profile {
        term_cuts: true,
        limit_name: Some("max_wait_time".into()),
        limit_known: true,
        limit_times: 2,
        limit_early: ms(1_000),
        ..Profile::plain("swoole")
    }
}

/// web1 on port 9502 with ten seconds for a stop, behind a gateway, and nothing else.
fn case(profile: Profile) -> Evidence {
    let case = Case {
        instance: "web1".into(),
        service: "web".into(),
        profile: profile.into(),
        wanted: true,
        max_wait_time: ms(10_000),
        begins_with: Some(Signal::TERM),
        fronted: true,
        port: Some(9502),
        renewed: 0,
        rolled: None,
        detached: 0,
        leaving: None,
    };
    let (stops, tree, listeners) = Default::default();
    Evidence { case, stops, tree, queue: None, listeners, churn: None, rate: None }
}

fn generic() -> Evidence {
    case(Profile::plain("generic"))
}

/// A stop that was over after so long, with so many requests lost.
fn stop(after: u64, lost: u32) -> PastStop {
    PastStop {
        signal: "SIGTERM".into(),
        after: ms(after),
        max_wait_time: ms(10_000),
        lost,
        ..PastStop::default()
    }
}

fn told(evidence: &Evidence) -> String {
    let all = advise(evidence);
    all.iter().map(|it| format!("[{}] {it}", it.kind)).collect::<Vec<_>>().join("\n")
}

fn with_stops(profile: Profile, stops: &[PastStop]) -> String {
    told(&Evidence { stops: stops.to_vec(), ..case(profile) })
}

fn leader() -> Member {
    Member { pid: 11, name: "php".into(), leads: true, state: 'S', ..Member::default() }
}

fn member(pid: i32, role: &str) -> Member {
    Member { pid, leads: false, role: Some(role.into()), ..leader() }
}

/// Told to end so long ago, with four seconds left.
fn leaving(ago: u64, tree: Vec<Member>, evidence: Evidence) -> Evidence {
    let leaving = Leaving { signal: Signal::TERM, ago: ms(ago), left: ms(4_000) };
    Evidence { case: Case { leaving: Some(leaving), ..evidence.case }, tree, ..evidence }
}

#[test]
fn nothing_is_said_without_evidence() {
    assert_eq!(told(&generic()), "");
    assert_eq!(told(&case(swoole())), "");
}

#[test]
fn requests_that_are_cut_with_time_left_speak_for_a_limit() {
    let plain = || Profile::plain("generic");
    assert_snapshot!(with_stops(plain(), &[stop(3_040, 2)]), @"[own-limit] 2 requests were cut off 3.0s after SIGTERM, although it had 10s: its own max_wait_time looks like 3s; raise the server's max_wait_time to what its longest request takes");
    assert_snapshot!(with_stops(plain(), &[stop(40, 0), stop(3_040, 2), stop(3_010, 1)]), @"[own-limit] 2 of its last 3 stops cut requests off, the last 3.0s after SIGTERM, although it had 10s: its own max_wait_time looks like 3s; raise the server's max_wait_time to what its longest request takes");
    assert_snapshot!(with_stops(swoole(), &[stop(2_800, 1)]), @"[own-limit] 1 request was cut off 2.8s after SIGTERM, although it had 10s: its own max_wait_time looks like 3s, its default; raise the server's max_wait_time to what its longest request takes, and the deck's max_wait_time to more than 2 times that");
    assert_snapshot!(with_stops(swoole(), &[stop(6_050, 1)]), @"[own-limit] 1 request was cut off 6.0s after SIGTERM, although it had 10s: its own max_wait_time looks like 3s, its default; raise the server's max_wait_time to what its longest request takes, and the deck's max_wait_time to more than 2 times that");
}

#[test]
fn what_came_after_the_signal_speaks_for_a_gateway_and_for_no_limit() {
    let late = |lost, late| PastStop { late, ..stop(1_200, lost) };
    let open = |stops: &[PastStop]| {
        let it = case(Profile::plain("generic"));
        told(&Evidence { stops: stops.to_vec(), case: Case { fronted: false, ..it.case }, ..it })
    };
    assert_snapshot!(open(&[late(3, 3)]), @r#"[late-requests] 3 requests came when its last such stop (SIGTERM) had begun, and were cut off by its end: its listener stays open until then, and they would have been answered elsewhere; put a gateway in front, which takes it out before the signal: [gateway.NAME] with service = "web""#);
    assert_eq!(
        with_stops(Profile::plain("generic"), &[late(3, 3)]),
        "",
        "what is in front has them"
    );
    let both = open(&[PastStop { late: 2, ..stop(3_040, 3) }]);
    assert!(both.contains("[own-limit] 1 request was cut off 3.0s after SIGTERM"), "{both}");
    assert!(both.contains("[late-requests] 2 requests came "), "{both}");
}

#[test]
fn who_was_halted_is_named_with_what_lets_it_go_on() {
    let of = |tree: Vec<Member>| told(&Evidence { tree, ..generic() });
    let halted = |it: Member| Member { state: 'T', ..it };
    assert_eq!(of(vec![leader(), member(12, "worker")]), "");
    assert_snapshot!(of(vec![halted(leader()), halted(member(12, "worker"))]), @"[stands-still] php (pid 11) stands still, and so does 1 other: stopped by SIGSTOP or its like (state T): it does nothing, and until it goes on it obeys no signal but SIGKILL; `opsdeck signal SIGCONT web1` lets it go on");
    assert_snapshot!(of(vec![leader(), halted(member(12, "worker"))]), @"[stands-still] worker php (pid 12) stands still: stopped by SIGSTOP or its like (state T): it does nothing, and until it goes on it obeys no signal but SIGKILL; `opsdeck signal SIGCONT web1 --pid 12` lets it go on");
    let traced = Member { state: 't', ..leader() };
    assert_snapshot!(of(vec![traced.clone()]), @"[stands-still] php (pid 11) stands still: held by a debugger (state t): it does nothing, and until it goes on it obeys no signal but SIGKILL; end the debugger: TracerPid in /proc/11/status names it");
    assert!(!told(&leaving(1_000, vec![traced], generic())).contains("stands-still"));
}

#[test]
fn a_limit_that_was_set_is_not_called_the_default() {
    for (after, limit) in [(2_020, "2s"), (5_050, "5s"), (4_000, "4s")] {
        let said = with_stops(swoole(), &[stop(after, 1)]);
        assert!(said.contains(&format!("looks like {limit}, or ")), "{said}");
    }
}

#[test]
fn a_clock_of_whole_seconds_ends_it_up_to_one_early() {
    assert_snapshot!(with_stops(swoole(), &[stop(2_300, 1)]), @"[own-limit] 1 request was cut off 2.3s after SIGTERM, although it had 10s: its own max_wait_time looks like 3s, its default; raise the server's max_wait_time to what its longest request takes, and the deck's max_wait_time to more than 2 times that");
    let cut = with_stops(swoole(), &[stop(4_400, 1)]);
    assert!(cut.contains("looks like 5s, or 2.5s if"), "{cut}");
    assert_snapshot!(with_stops(swoole(), &[stop(2_250, 0), stop(2_900, 0), stop(2_600, 0)]), @"[own-limit] its last 3 stops all took 2.2s to 2.9s from SIGTERM on, of 10s: its own max_wait_time looks like 3s, its default; nothing was lost, but something kept it until then: an idle connection, a timer, a job; `opsdeck why web1` tells what while it stops");
    let others = [
        vec![stop(2_600, 0)],
        vec![stop(1_400, 0), stop(2_600, 0)],
        vec![stop(4_300, 0), stop(4_700, 0)],
    ];
    for stops in others {
        assert_eq!(with_stops(swoole(), &stops), "", "{stops:?}");
    }
}

#[test]
fn a_server_that_may_take_its_limit_twice_has_one_of_two() {
    let said = with_stops(swoole(), &[stop(8_040, 1)]);
    assert!(said.contains("its own max_wait_time looks like 8s, or 4s if it took 2 times that; "));
}

#[test]
fn a_limit_needs_time_that_was_left_and_more_than_one_like_it() {
    let none = [
        vec![stop(9_800, 3)],
        vec![PastStop { killed: true, ..stop(3_000, 0) }],
        vec![stop(3_000, 0)],
        vec![stop(3_000, 0), stop(2_000, 0)],
        vec![stop(3_400, 0), stop(3_410, 0)],
        vec![stop(20, 0), stop(30, 0)],
    ];
    for stops in none {
        let said = with_stops(Profile::plain("generic"), &stops);
        assert!(!said.contains("own-limit"), "{stops:?}: {said}");
    }
    let alike = [stop(3_080, 0), stop(3_010, 0)];
    assert_snapshot!(with_stops(Profile::plain("generic"), &alike), @"[own-limit] its last 2 stops all took 3.0s from SIGTERM on, of 10s: its own max_wait_time looks like 3s; nothing was lost, but something kept it until then: an idle connection, a timer, a job; `opsdeck why web1` tells what while it stops");
}

#[test]
fn a_signal_that_cuts_wants_something_in_front() {
    let mut evidence = Evidence { stops: vec![stop(30, 4)], ..generic() };
    assert_eq!(told(&evidence), "", "the gateway sends it nothing new before the signal");
    evidence.case.fronted = false;
    assert_snapshot!(told(&evidence), @r#"[cuts-at-signal] its stop cut 4 requests off 0.0s after SIGTERM: it ends without finishing what is in flight, and nothing stands in front that would send it nothing new before; add [gateway.NAME] with listen = "…" and service = "web": it is drained before the signal"#);

    let mut master = case(swoole());
    master.case.fronted = false;
    master.tree = vec![Member { role: Some("master".into()), cuts: true, ..leader() }];
    assert_snapshot!(told(&master), @r#"[cuts-at-signal] master php (pid 11) takes connections on port 9502, and nothing stands in front: a swoole of this kind may cut every connection at SIGTERM; add [gateway.NAME] with listen = "…" and service = "web": it is drained before the signal, or run it in base mode (SWOOLE_BASE), which finishes what it has"#);
    master.tree[0].cuts = false;
    assert_eq!(told(&master), "", "base mode finishes what it has");
    master.tree[0].cuts = true;
    master.case.begins_with = Some(Signal::QUIT);
    assert_eq!(told(&master), "", "this signal does not cut");
}

#[test]
fn what_is_cut_at_the_signal_speaks_for_no_limit_however_long_the_end_takes() {
    let mut evidence = case(swoole());
    evidence.case.fronted = false;
    evidence.stops = vec![PastStop { cut_after: Some(ms(40)), ..stop(1_420, 1) }];
    assert_snapshot!(told(&evidence), @r#"[cuts-at-signal] its stop cut 1 request off 0.0s after SIGTERM: it ends without finishing what is in flight, and nothing stands in front that would send it nothing new before; add [gateway.NAME] with listen = "…" and service = "web": it is drained before the signal, or run it in base mode (SWOOLE_BASE), which finishes what it has"#);
    let at_its_limit = PastStop { cut_after: Some(ms(3_020)), ..stop(3_600, 1) };
    let said = with_stops(swoole(), &[at_its_limit]);
    assert!(
        said.contains("cut off 3.0s after SIGTERM") && said.contains("looks like 3s"),
        "{said}"
    );

    // Nobody knows when it was lost.
    evidence.tree = vec![Member { cuts: true, ..leader() }];
    for (after, speaks) in [(1_420, false), (2_000, false), (3_060, true), (3_400, false)] {
        evidence.stops = vec![stop(after, 1)];
        assert_eq!(told(&evidence).contains("own-limit"), speaks, "{after}");
    }
}

#[test]
fn a_budget_must_hold_the_servers_limit_as_often_as_it_may_take_it() {
    let mut evidence = case(swoole());
    evidence.case.max_wait_time = ms(6_000);
    assert_eq!(told(&evidence), "");
    evidence.case.max_wait_time = ms(5_000);
    assert_snapshot!(told(&evidence), @r#"[short-budget] max_wait_time is 5s, and the server's own max_wait_time is 3s where nobody has set it: a swoole may take 2 times its max_wait_time to stop, 6s: SIGKILL comes before that; set max_wait_time = "7s" or more"#);
    let seen = with_stops(swoole(), &[stop(8_000, 1)]);
    assert!(
        seen.contains("max_wait_time is 10s, and the server's own max_wait_time looks like 8s: a"),
        "{seen}"
    );
    assert!(seen.contains("set max_wait_time = \"17s\" or more"), "{seen}");
    let mut other = generic();
    other.case.max_wait_time = ms(1_000);
    assert_eq!(told(&other), "", "nothing is known of its limit");
    let unlimited = Profile { limit_known: false, ..swoole() };
    let mut evidence = case(unlimited);
    evidence.case.max_wait_time = ms(1_000);
    assert_eq!(told(&evidence), "", "by default it has none");
}

#[test]
fn who_does_not_end_is_named_with_what_it_waits_for() {
    let call = Some("waits for events (epoll_wait)".to_owned());
    let master = Member { role: Some("master".into()), call, children: 2, ..leader() };
    let worker = Member { connections: 1, timers: 2, ..member(12, "worker") };
    let tree = vec![master, worker.clone()];
    assert_eq!(told(&leaving(5_900, tree.clone(), case(swoole()))), "");
    assert_snapshot!(told(&leaving(6_100, tree, case(swoole()))), @"[never-ends] 6.1s after the first signal of its stop, longer than its max_wait_time (3s where nobody has set it), 2 of its processes still live: master php (pid 11) waits for events (epoll_wait), 2 children; worker php (pid 12), 1 connection, 2 timers: it has taken the signal and goes on; 1 connection is open, which it may wait for; SIGKILL ends it in 4.0s; `!` on the deck at once, `+` later");

    let alone = |it: Member| told(&leaving(5_000, vec![it], generic()));
    assert_eq!(told(&leaving(4_900, vec![leader()], generic())), "", "no limit is known");
    let stopped = alone(Member { state: 'T', ..leader() });
    assert!(
        stopped.contains("1 of its processes still lives: php (pid 11) stands still"),
        "{stopped}"
    );
    assert!(
        stopped.contains("`kill -CONT 11` lets it go on; SIGKILL ends it in 4.0s"),
        "{stopped}"
    );
    let asleep = alone(Member { state: 'D', ..leader() });
    assert!(asleep.contains("pid 11 waits in the kernel"), "{asleep}");
    let deaf = alone(Member { taken: Taken::Ignored, ..leader() });
    assert!(
        deaf.contains("its first process ignores SIGTERM; begin `stop` with a signal"),
        "{deaf}"
    );
    let blocked = alone(Member { taken: Taken::Pending, ..leader() });
    assert!(blocked.contains("SIGTERM waits: its first process blocks it"), "{blocked}");
    let left = told(&leaving(9_000, vec![worker; 6], generic()));
    assert!(left.contains("its first process has ended and left these behind"), "{left}");
    assert!(left.contains("2 timers; 2 others: "), "{left}");
}

#[test]
fn stops_that_lost_nothing_and_were_soon_over_speak_for_no_limit() {
    let gunicorn = Profile { limit: ms(30_000), limit_times: 1, ..swoole() };
    let alike = |after: u64| [stop(after, 0), stop(after, 0)];
    let below = with_stops(gunicorn, &alike(4_010));
    assert!(!below.contains("own-limit"), "below its default: {below}");
    assert!(below.contains("may take its max_wait_time to stop: SIGKILL comes before"), "{below}");
    assert_eq!(with_stops(Profile::plain("generic"), &alike(1_010)), "");
    assert!(with_stops(Profile::plain("generic"), &alike(2_010)).contains("looks like 2s"));
}

#[test]
fn one_that_ignores_the_signal_is_told_so_afterwards() {
    let lived = vec!["sh (pid 11) waits for a child, ignores SIGTERM".to_owned()];
    let killed = PastStop { killed: true, lived, ..stop(10_000, 0) };
    assert_snapshot!(with_stops(Profile::plain("generic"), &[killed]), @"[needed-kill] its last stop needed SIGKILL 10.0s after SIGTERM, when max_wait_time (10s) was over; then lived sh (pid 11) waits for a child, ignores SIGTERM: it ignores SIGTERM, and no time is enough; begin `stop` with a signal that it obeys");
}

#[test]
fn what_lived_until_sigkill_is_told_afterwards() {
    let lived = vec!["php (pid 11) waits for another thread (futex)".to_owned()];
    let killed = PastStop { killed: true, lived, ..stop(10_000, 0) };
    assert_snapshot!(with_stops(Profile::plain("generic"), std::slice::from_ref(&killed)), @"[needed-kill] its last stop needed SIGKILL 10.0s after SIGTERM, when max_wait_time (10s) was over; then lived php (pid 11) waits for another thread (futex): it does not end by itself in that time; raise max_wait_time if it only needs longer; if not, what held it is named here");
    let since = [killed, stop(100, 0)];
    assert_eq!(with_stops(Profile::plain("generic"), &since), "", "the last one was well");
}

#[test]
fn a_full_queue_names_who_should_accept() {
    let queue = Queue { waiting: 129, limit: 128, most: Some(4096), listeners: 1 };
    let call = Some("waits for another thread (futex)".to_owned());
    let worker = Member { listens: true, call, ..member(12, "worker") };
    let mut evidence = Evidence { queue: Some(queue), tree: vec![leader(), worker], ..generic() };
    assert_snapshot!(told(&evidence), @"[accept-queue-full] the accept queue of port 9502 is full, 129 of 128; who should accept: worker php (pid 12) waits for another thread (futex): connections come faster than it accepts: new clients get no answer from the kernel, try again after a second, and time out; find out what it waits for, or give it more workers; its backlog is 128, and net.core.somaxconn allows 4096");
    evidence.tree[1].state = 'T';
    assert!(told(&evidence).contains(": nobody accepts: "), "{}", told(&evidence));
    evidence.queue = Some(Queue { most: Some(128), ..queue });
    assert!(told(&evidence).ends_with("net.core.somaxconn (128) limits its backlog"));
    evidence.queue = Some(Queue { listeners: 4, ..queue });
    let said = told(&evidence);
    assert!(said.contains("of one of the 4 listeners on port 9502 is full, 129 of 128"), "{said}");
    assert!(said.contains("goes on giving it its share"), "{said}");
    for (waiting, limit) in [(127, 128), (0, 0)] {
        evidence.queue = Some(Queue { waiting, limit, most: None, listeners: 1 });
        assert!(!told(&evidence).contains("accept-queue-full"), "{waiting} of {limit}");
    }
}

fn php(pid: i32) -> Stranger {
    Stranger { pid, name: "php".into(), age: ms(7_200_900), ..Stranger::default() }
}

fn listener(address: &str, own: bool, strangers: &[Stranger]) -> Listener {
    Listener { address: address.into(), own, strangers: strangers.to_vec() }
}

#[test]
fn who_has_the_port_instead_is_named() {
    let on = |strangers: &[Stranger]| Evidence {
        listeners: vec![listener("0.0.0.0:9502", false, strangers)],
        ..generic()
    };
    assert_snapshot!(told(&on(&[php(4711)])), @"[port-taken] php (pid 4711, for 2h00m) listens on port 9502, not web1: requests to this port are not served by web1; ps -fp 4711 tells what that is: stop what runs it, or give web1 another port");
    let orphan = |pid| Stranger { orphan: true, ..php(pid) };
    assert_snapshot!(told(&on(&[orphan(12), orphan(13)])), @"[port-taken] php (pid 12, for 2h00m, its parent is gone), php (pid 13, for 2h00m, its parent is gone) listen on port 9502, not web1: who led them has ended: workers that outlive their server go on serving the code it had, and nobody reloads or replaces them; if that is what they are, end them: kill 12 13");
    let marked = Stranger { of: Some("web1".into()), ..orphan(12) };
    assert!(told(&on(&[marked])).contains("left behind by an earlier generation of it"));
    let other = Stranger { of: Some("web2".into()), runs: true, ..php(12) };
    let said = told(&on(&[other]));
    assert!(said.contains("web2 serves there, which runs") && !said.contains("kill"), "{said}");
    let mut unwanted = on(&[php(4711)]);
    unwanted.case.wanted = false;
    assert_eq!(told(&unwanted), "", "somebody may run it by hand");
    assert_eq!(told(&on(&[])), "", "who cannot be seen cannot be named");
}

#[test]
fn twins_on_one_port_are_told_from_two_addresses() {
    let two = |other: &str| Evidence {
        listeners: vec![listener("0.0.0.0:9502", true, &[]), listener(other, false, &[php(4711)])],
        ..generic()
    };
    assert_snapshot!(told(&two("0.0.0.0:9502")), @"[port-shared] php (pid 4711, for 2h00m) listens on 0.0.0.0:9502 as well, beside web1 on 0.0.0.0:9502: the kernel deals new connections out to both (SO_REUSEPORT on port 9502); if it should not serve here, stop what runs it (ps -fp 4711)");
    assert!(told(&two("127.0.0.1:9502")).contains("to the more exact address of the two"));
    let mut own = two("0.0.0.0:9502");
    own.listeners[1] = listener("0.0.0.0:9502", true, &[]);
    assert_eq!(told(&own), "", "each worker of it may have its own");
}

#[test]
fn workers_without_a_manager_are_named_while_they_serve() {
    let orphan = Member { orphan: true, listens: true, ..member(12, "worker") };
    let mut evidence = Evidence { tree: vec![leader(), orphan], ..generic() };
    assert_snapshot!(told(&evidence), @"[orphan-workers] worker php (pid 12) lost its parent and still listens on port 9502: who managed them has died: nobody reloads or replaces them, and they serve the code they began with; renew all of it: opsdeck restart web1 (or opsdeck roll web)");
    evidence.tree[1].listens = false;
    assert_eq!(told(&evidence), "", "whatever it does in the background is its business");
}

#[test]
fn a_listener_that_stays_open_while_nothing_stands_in_front_is_told() {
    let tree = vec![Member { listens: true, ..leader() }];
    let listeners = vec![listener("0.0.0.0:9502", true, &[])];
    let queue = Some(Queue { waiting: 3, limit: 128, most: None, listeners: 1 });
    let mut evidence = leaving(1_500, tree, Evidence { listeners, queue, ..generic() });
    assert_eq!(told(&evidence), "", "the gateway sends new requests elsewhere");
    evidence.case.fronted = false;
    assert_snapshot!(told(&evidence), @r#"[listens-while-stopping] port 9502 is still listened on 1.5s after the first signal of its stop, and 3 connections wait there to be accepted: the kernel lets new clients in that nobody serves: they are cut off when it ends; add [gateway.NAME] with service = "web": it sends new requests elsewhere before the signal"#);
    evidence.case.leaving = Some(Leaving { signal: Signal::TERM, ago: ms(500), left: ms(9_500) });
    assert_eq!(told(&evidence), "", "it may be about to close it");
}

#[test]
fn workers_that_end_young_again_and_again_are_a_loop() {
    let churn = Churn { ended: 4, within: ms(1_300), oldest: ms(400), leader_age: ms(65_000) };
    let of = |churn: Churn| Evidence { churn: Some(churn), ..generic() };
    assert_snapshot!(told(&of(churn)), @"[worker-restarts] 4 of its workers ended within 1.3s, none of them older than 0.4s, while its first process has run for 1m05s: they may have reached a limit of requests (max_requests, pm.max_requests), which is well; if none is set or few requests come, they cannot go on: probes may pass in between, and requests get lost; opsdeck logs web1 has what they said last; nothing was rolled out or reloaded lately: look for what they need as they begin, a file, a database, memory");
    let help = |rolled, renewed| {
        let case = Case { rolled, renewed, ..generic().case };
        let more = Churn { ended: 9, ..churn };
        let said = told(&Evidence { case, ..of(more) });
        said.rsplit_once("said last; ").unwrap().1.to_owned()
    };
    assert_eq!(
        help(Some(Rolled::Reversible), 0),
        "if the last rolling restart began it, roll it back: opsdeck roll --rollback web"
    );
    assert_eq!(
        help(Some(Rolled::Final), 0),
        "if the last rolling restart began it, put back what it brought, and roll again: opsdeck roll web"
    );
    assert_eq!(
        help(Some(Rolled::Final), 2),
        "if the last reload began it, put back what that has read, and reload again: opsdeck reload web1"
    );
    let none = [
        Churn { ended: 2, ..churn },
        Churn { oldest: ms(30_000), ..churn },
        Churn { leader_age: ms(500), ..churn },
    ];
    for it in none {
        assert_eq!(told(&of(it)), "", "{it:?}");
    }
    // 1.3 s at 100 a second, by four workers: each had 32 of them.
    assert_eq!(told(&Evidence { rate: Some(100.0), ..of(churn) }), "", "a limit of requests");
    assert_ne!(told(&Evidence { rate: Some(50.0), ..of(churn) }), "");
    let mut reloading = of(churn);
    reloading.case.renewed = 2;
    assert_eq!(told(&reloading), "", "somebody asked for two of them");
    reloading.case.renewed = 1;
    assert_ne!(told(&reloading), "", "the new one does not stay either");
}

#[test]
fn a_server_that_goes_into_the_background_is_named() {
    let mut evidence = generic();
    evidence.case.detached = 1;
    assert_eq!(told(&evidence), "", "that may be an accident");
    evidence.case.detached = 3;
    assert_snapshot!(told(&evidence), @r#"[goes-into-background] its first process ended with code 0 right after its start 3 times in a row, and what it left behind was killed: it goes into the background, where nobody can supervise it; run it in the foreground (php-fpm: daemonize = no, nginx: daemon off;, Swoole: daemonize => false), or use engine = "pidfile""#);
}

#[test]
fn php_fpm_is_told_its_own_remedy() {
    let mut evidence = case(Profile::plain("php-fpm"));
    evidence.case.fronted = false;
    evidence.stops = vec![stop(30, 4)];
    let said = told(&evidence);
    assert!(said.contains("set process_control_timeout in php-fpm.conf"), "{said}");
    assert!(!said.contains("[gateway."), "{said}");
}
