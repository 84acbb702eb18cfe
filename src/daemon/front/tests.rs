use std::time::Duration;

use super::testing::{name, told};
use super::*;
use crate::config::parse;
use crate::gateway::control::{GatewayCounts, Route};

const CONFIG: &str = "[service.web]\ncommand = \"web\"\ninstance.web1 = { port = 1, weight = 3 }\ninstance.web2 = { port = 2, backup = true }\n[gateway.shop]\nservice = \"web\"\nlisten = 80\n";

fn front() -> Front {
    let mut front = Front::new(Timestamp(Duration::from_secs(1)));
    front.configure(&parse("config.toml", CONFIG).unwrap());
    front
}

fn sent(front: &mut Front) -> Routes {
    front.flush();
    front.wanted.borrow().routes.clone()
}

fn rotation(routes: &Routes) -> Vec<(&str, u64, bool)> {
    let all = routes.gateways.iter().flat_map(|it| &it.instances);
    all.map(|it| (it.name.as_str(), it.generation, it.in_rotation)).collect()
}

fn counts(revision: u64, in_flight: &[(&str, u64, u64)]) -> Counts {
    let instance = |(name, generation, n): &(&str, u64, u64)| InstanceCounts {
        name: (*name).into(),
        generation: *generation,
        in_flight: *n,
        ..InstanceCounts::default()
    };
    let instances = in_flight.iter().map(instance).collect();
    let shop = GatewayCounts { name: "shop".into(), instances, ..GatewayCounts::default() };
    Counts { revision, gateways: vec![shop] }
}

#[test]
fn the_fleet_decides_and_the_whole_is_sent() {
    let mut front = front();
    front.up(None);
    front.lives(&name("web1"), 3, Some(1), false);
    front.lives(&name("web2"), 1, Some(2), false);
    front.admit(&name("web1"), Haste::AtOnce);
    let first = sent(&mut front);
    assert_eq!(rotation(&first), [("web1", 3, true), ("web2", 1, false)]);
    assert_eq!(first.gateways[0].instances[0].address, "127.0.0.1:1");
    assert!(first.gateways[0].instances[1].backup);
    let weights = first.gateways[0].instances.iter().map(|it| it.weight);
    assert!(weights.eq([3, 1]));

    assert_eq!(front.take_out(&name("web1"), Haste::AtOnce), None);
    let second = sent(&mut front);
    assert_eq!(rotation(&second), [("web1", 3, false), ("web2", 1, false)]);
    assert!(second.revision > first.revision);
}

#[test]
fn a_first_gateway_is_told_nothing_of_the_time_before_it() {
    let mut front = Front::new(Timestamp(Duration::from_secs(1)));
    let services = CONFIG.split("[gateway").next().unwrap();
    front.configure(&parse("config.toml", services).unwrap());
    assert_eq!(sent(&mut front).gateways, []);

    front.configure(&parse("config.toml", CONFIG).unwrap());
    front.joins(&name("web1"), 3, Some(1), Some(true));
    front.joins(&name("web2"), 1, Some(2), Some(false));
    assert_eq!(sent(&mut front).revision, 0, "it would close what it listens on");
    assert!(front.wanted.borrow().listen.contains_key("shop"));
    front.up(None);
    assert_eq!(rotation(&sent(&mut front)), [("web1", 3, true), ("web2", 1, false)]);
    front.joins(&name("web1"), 9, Some(9), Some(false));
    assert_eq!(rotation(&sent(&mut front))[0], ("web1", 3, true), "it is behind it already");
}

#[test]
fn a_count_from_before_it_was_taken_out_proves_nothing() {
    let mut front = front();
    front.up(None);
    front.lives(&name("web1"), 3, Some(1), false);
    front.admit(&name("web1"), Haste::AtOnce);
    let before = sent(&mut front).revision;
    assert_eq!(told(&front.heard(7, counts(before, &[("web1", 3, 2)]))), ["web1 Exact(2)"]);
    assert_eq!(told(&front.heard(7, counts(before, &[("web1", 3, 2)]))), [""; 0], "nothing new");

    front.take_out(&name("web1"), Haste::AtOnce);
    let after = sent(&mut front).revision;
    assert_eq!(told(&front.heard(7, counts(before, &[("web1", 3, 0)]))), [""; 0]);
    assert_eq!(
        told(&front.heard(7, counts(after, &[("web1", 3, 1)]))),
        ["web1 Exact(1)", "web1 is out"]
    );
    assert_eq!(told(&front.heard(7, counts(after, &[("web1", 3, 0)]))), ["web1 Exact(0)"]);
}

#[test]
fn who_is_out_is_told_once_the_last_that_did_not_know_has_ended() {
    let mut front = front();
    front.up(None);
    front.lives(&name("web1"), 3, Some(1), false);
    front.admit(&name("web1"), Haste::AtOnce);
    let before = sent(&mut front).revision;
    front.heard(7, counts(before, &[("web1", 3, 2)]));
    front.heard(8, counts(before, &[("web1", 3, 0)]));
    front.take_out(&name("web1"), Haste::AtOnce);
    let after = sent(&mut front).revision;
    assert_eq!(told(&front.heard(8, counts(after, &[("web1", 3, 0)]))), [""; 0], "7 hangs");
    front.gone(7);
    assert_eq!(told(&front.settled()), ["web1 Exact(0)", "web1 is out"]);
    front.gone(8);
    assert_eq!(told(&front.settled()), [""; 0], "nobody counts");
}

#[test]
fn what_an_old_process_still_has_is_added_and_waited_for() {
    let mut front = front();
    front.up(None);
    front.lives(&name("web1"), 3, Some(1), false);
    front.admit(&name("web1"), Haste::AtOnce);
    let revision = sent(&mut front).revision;
    front.heard(7, counts(revision, &[("web1", 3, 2)]));
    assert_eq!(told(&front.heard(8, counts(revision, &[("web1", 3, 1)]))), ["web1 Exact(3)"]);
    front.take_out(&name("web1"), Haste::AtOnce);
    let after = sent(&mut front).revision;
    assert_eq!(told(&front.heard(8, counts(after, &[]))), [""; 0], "7 may still send it one");
    assert_eq!(front.gone(7), Some(2));
    assert_eq!(told(&front.heard(8, counts(after, &[]))), ["web1 Exact(0)", "web1 is out"]);
}

#[test]
fn an_adopted_instance_keeps_the_place_and_the_address_it_had() {
    let mut front = front();
    front.lives(&name("web1"), 3, Some(9), true);
    front.lives(&name("web2"), 4, Some(2), true);
    assert_eq!(sent(&mut front), Routes::default(), "nobody has told yet");
    assert!(front.wanted.borrow().listen.contains_key("shop"), "but where to listen is known");

    let mut had = counts_routes(&[("web1", 3), ("web2", 3)]);
    had.gateways[0].instances[0].address = "127.0.0.1:1".into();
    front.up(Some(&had));
    let routes = sent(&mut front);
    assert_eq!(rotation(&routes), [("web1", 3, true), ("web2", 4, false)], "web2 is another one");
    assert_eq!(routes.gateways[0].instances[0].address, "127.0.0.1:1");
}

fn counts_routes(instances: &[(&str, u64)]) -> Routes {
    let target = |(name, generation): &(&str, u64)| Target {
        name: (*name).into(),
        generation: *generation,
        ..Target::default()
    };
    let instances = instances.iter().map(target).collect();
    let route = Route { name: "shop".into(), instances, ..Route::default() };
    Routes { revision: 5, gateways: vec![route] }
}

#[test]
fn what_does_not_run_is_out_at_once() {
    let mut front = front();
    front.up(None);
    assert_eq!(
        told(&front.take_out(&name("web1"), Haste::AtOnce).into_iter().collect::<Vec<_>>()),
        ["web1 is out"]
    );
    front.lives(&name("web1"), 1, Some(1), false);
    front.take_out(&name("web1"), Haste::AtOnce);
    front.take_out(&name("web1"), Haste::AtOnce);
    assert_eq!(told(&front.ended(&name("web1"))), ["web1 is out", "web1 is out"]);
}

#[test]
fn what_is_in_flight_is_known_while_a_gateway_is_renamed() {
    let mut front = front();
    front.up(None);
    front.lives(&name("web1"), 3, Some(1), false);
    front.admit(&name("web1"), Haste::AtOnce);
    let before = sent(&mut front).revision;
    front.configure(&parse("config.toml", &CONFIG.replace("shop", "door")).unwrap());
    let renamed = sent(&mut front);
    assert_eq!(rotation(&renamed), [("web1", 3, true)]);
    // The gateway has not heard of it yet.
    let heard = front.heard(7, counts(before, &[("web1", 3, 2)]));
    assert_eq!(told(&heard), ["web1 Exact(2)"]);
    assert_eq!(front.figures(&name("web1")).unwrap().gauges.unwrap().in_flight, 2);
}

fn recorded(is_nginx: bool) -> records::Front {
    records::Front { gateway: "shop".into(), is_nginx }
}

#[test]
fn what_is_not_configured_any_more_is_counted_by_the_gateway_that_it_was_behind() {
    let mut front = Front::new(Timestamp(Duration::from_secs(1)));
    front.configure(&parse("config.toml", "[service.web]\ncommand = \"web\"\n").unwrap());
    front.remember(&name("old"), &recorded(false));
    front.lives(&name("old"), 3, Some(9), true);
    assert_eq!(front.take_out(&name("old"), Haste::AtOnce), None);
    front.up(Some(&counts_routes(&[("old", 3)])));
    let revision = sent(&mut front).revision;
    assert_eq!(told(&front.heard(7, counts(revision - 1, &[("old", 3, 2)]))), [""; 0]);
    let inputs = front.heard(7, counts(revision, &[("old", 3, 2)]));
    assert_eq!(told(&inputs), ["old Exact(2)", "old is out"]);
    assert_eq!(told(&front.left_alone()), [""; 0], "it counts still");
    front.gone(7);
    assert_eq!(told(&front.left_alone()), ["old Exact(0)"]);
}

#[test]
fn where_nobody_counts_any_more_nobody_is_waited_for() {
    let mut front = Front::new(Timestamp(Duration::from_secs(1)));
    front.configure(&parse("config.toml", "[service.web]\ncommand = \"web\"\n").unwrap());
    front.remember(&name("old"), &recorded(true));
    front.lives(&name("old"), 3, Some(9), true);
    let at_once = front.take_out(&name("old"), Haste::AtOnce);
    assert_eq!(told(at_once.as_slice()), ["old is out"], "nobody writes the file of that nginx");

    front.remember(&name("older"), &recorded(false));
    front.lives(&name("older"), 3, Some(8), true);
    assert_eq!(front.take_out(&name("older"), Haste::AtOnce), None);
    assert_eq!(told(&front.left_alone()), ["older Exact(0)", "older is out"]);
}
