//! A real nginx that is not reloaded: it looks at switches with every request.

#[path = "support/nginx.rs"]
mod rig;
mod support;

use nix::sys::signal::Signal;
use rig::{Nginx, READINESS};
use support::{find, kill};

#[test]
fn rolls_lose_nothing_on_connections_that_are_kept_and_reload_nothing() {
    let Some(nginx) = Nginx::with_switches() else { return };
    // The worst manners there are: at SIGTERM it cuts.
    let mut deck = nginx.deck("--work 200ms --cut-at-term", READINESS);
    let reloads = nginx.reloads();
    let [once, kept] = ["--one-shot", "--keep-alive"].map(|it| nginx.load(&deck, it));
    for _ in 0..3 {
        deck.ok(&["roll", "web"]);
    }
    let (once, kept) = (once.end(), kept.end());
    let story = format!("{once:#}\n{kept:#}\n{}\n{}", deck.story(), nginx.errors());
    assert_eq!((&once["failed"], &kept["failed"]), (&0.into(), &0.into()), "{story}");
    assert_eq!(nginx.reloads(), reloads, "{story}");
    deck.catch_up();
    let generations = ["web1", "web2"].map(|it| deck.instance(it).generation);
    assert_eq!(generations, [4, 4], "{}", deck.story());
    assert!(!deck.events.iter().any(|it| it.message.contains("SIGKILL")), "{}", deck.story());
}

#[test]
fn the_next_daemon_reads_the_switches() {
    let Some(nginx) = Nginx::with_switches() else { return };
    let mut deck = nginx.deck("", READINESS);
    deck.ok(&["drain", "web1"]);
    nginx.wait("told that web1 is out", |it| it.is_down("web1"));
    let reloads = nginx.reloads();

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));

    deck.wait("web2 in rotation", |deck, _| {
        find(deck, "web2").is_some_and(|it| it.in_rotation && it.ready == Some(true))
            && find(deck, "web1").is_some_and(|it| it.ready == Some(true) && !it.in_rotation)
            && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
    });
    assert!(nginx.is_down("web1") && !nginx.is_down("web2"), "{}", deck.story());
    assert_eq!((nginx.status(), nginx.reloads()), (200, reloads), "{}", deck.story());
    deck.ok(&["undrain", "web1"]);
    nginx.wait("told that web1 is back", |it| !it.is_down("web1"));
}

#[test]
fn an_nginx_that_does_not_look_is_not_believed() {
    let Some(nginx) = Nginx::with_switches() else { return };
    let main = std::fs::read_to_string(nginx.path("nginx.conf")).unwrap();
    std::fs::write(nginx.path("nginx.conf"), main.replace("http://$opsdeck_shop", "http://shop"))
        .unwrap();
    let services = format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\ninstance.web1 = {{ port = {} }}\n{}",
        support::free_port(),
        nginx.gateway()
    );
    let mut deck = support::Deck::start(&services);
    let event = deck.wait_event("no proxy_pass of nginx names $opsdeck_shop");
    assert!(event.message.contains("say `proxy_pass http://$opsdeck_shop;`"), "{}", event.message);
    nginx.configure("");
    deck.wait_event("follows again");
    assert_eq!(nginx.status(), 200);
}
