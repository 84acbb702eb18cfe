//! Waiting for what was begun: follow the watch until the fleet is as asked, or cannot become so.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Outcome, local, notice};
use crate::api::{Change, Deck, Goal, Instance, Problem, Service, State, problem};
use crate::client::Client;
use crate::exit::Exit;
use crate::process::identity::{self, Identity};

/// A connection that is cut while the program changes, or another daemon begins, is made anew: for three seconds.
const TRIES: u32 = 75;
const BETWEEN_TRIES: Duration = Duration::from_millis(40);
/// Between two looks whether the daemon is gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long a daemon may take to end after its last answer.
const LONGEST_END: Duration = Duration::from_secs(10);

/// What an instance has to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Up,
    Down,
    /// Up, and of another generation than before.
    Renewed,
}

/// Where one instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    There,
    OnTheWay,
    /// It will not get there by itself.
    Failed(String),
}

/// Instances and the generation they had before.
pub type Before = BTreeMap<String, u64>;

/// Waits until every instance of `before` is there, and says what went wrong with those that are not.
pub async fn until(client: &Client, before: &Before, goal: Until) -> Outcome {
    let mut changes = client.watch().await?.boxed();
    let mut deck = Deck::default();
    loop {
        match changes.next().await {
            Some(Ok(change)) => {
                tell_kills(&change, before);
                deck.follow(change);
            }
            Some(Err(_)) | None => {
                changes = again(|| client.watch()).await.ok_or_else(lost_sight)?.boxed();
                continue;
            }
        }
        let standings: Vec<_> = before
            .iter()
            .map(|(name, generation)| (name, standing(find(&deck, name), *generation, goal)))
            .collect();
        if standings.iter().any(|(_, it)| *it == Standing::OnTheWay) {
            continue;
        }
        let mut exit = Exit::Done;
        for (name, standing) in standings {
            if let Standing::Failed(why) = standing {
                notice(&format!("opsdeck: {name}: {}", super::safe(&why)));
                exit = Exit::Failed;
            }
        }
        return Ok(exit);
    }
}

/// Says who did not end in its time, where SIGKILL had to end it.
fn tell_kills(change: &Change, before: &Before) {
    let Change::Change { events, .. } = change else { return };
    for event in events.iter().filter(|it| it.stop.as_ref().is_some_and(|it| it.killed)) {
        if let Some(name) = event.instance.as_ref().filter(|it| before.contains_key(*it)) {
            notice(&format!("opsdeck: {name}: {}", super::safe(&event.message)));
        }
    }
}

/// Ctrl-C, from before an order on: what was ordered goes on without who waits for it.
pub struct Interrupt(Signal);

impl Interrupt {
    pub fn watch() -> Result<Self, Problem> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(|err| local("Ctrl-C could not be watched", err.to_string()))
    }

    /// Waits until it is done; Ctrl-C ends the waiting, and `told` says what goes on.
    pub async fn unless(mut self, told: &str, waiting: impl Future<Output = Outcome>) -> Outcome {
        tokio::select! {
            biased;
            _ = self.0.recv() => {
                notice(&format!("opsdeck: {told}"));
                Ok(Exit::Interrupted)
            }
            outcome = waiting => outcome,
        }
    }
}

/// Asks once more after a connection has ended: where the daemon becomes another program its socket stays
/// open; one that died may have another one after it in a moment. `None`: the daemon is gone.
pub async fn again<T, F: Future<Output = Result<T, Problem>>>(ask: impl Fn() -> F) -> Option<T> {
    for _ in 0..TRIES {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    }
    None
}

/// The daemon ended while somebody waited.
pub fn lost_sight() -> Problem {
    local(
        "the daemon ended before this was done",
        "the services run on; `opsdeck status` shows them once it is back",
    )
}

/// Nobody writes any more what is followed.
pub fn ended() -> Problem {
    Problem {
        kind: problem::UNREACHABLE.into(),
        help: Some("ask again once the next one runs: `opsdeck` starts it".into()),
        ..local("the daemon has ended", "there is nothing more to follow")
    }
}

/// The daemon behind a socket, to wait for its end.
#[derive(Clone, Copy, Debug)]
pub struct Daemon(Option<Identity>);

impl Daemon {
    /// By the kernel's word; `None` inside where it cannot be seen from here.
    pub async fn of(client: &Client) -> Self {
        let pid =
            async { UnixStream::connect(client.socket()).await.ok()?.peer_cred().ok()?.pid() };
        Self(pid.await.and_then(|it| identity::identity_of(it).ok()))
    }

    /// Its answers end before its logger has: until both are gone they may write.
    pub async fn gone(self) {
        let Some(daemon) = self.0 else { return };
        let gone = async {
            while identity::is_alive(daemon).unwrap_or(false) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // It gives its own parts no longer than this.
        let _ = tokio::time::timeout(LONGEST_END, gone).await;
    }
}

fn standing(instance: Option<&Instance>, before: u64, goal: Until) -> Standing {
    let Some(it) = instance else {
        return match goal {
            Until::Down => Standing::There,
            Until::Up | Until::Renewed => Standing::Failed("it is no longer configured".into()),
        };
    };
    match goal {
        Until::Down => down(it),
        Until::Up => up(it),
        // The old generation may be ready still.
        Until::Renewed if it.generation <= before && it.goal == Goal::Up => match it.state {
            State::Fatal | State::Lost => Standing::Failed(it.why.clone()),
            _ => Standing::OnTheWay,
        },
        Until::Renewed => up(it),
    }
}

fn up(it: &Instance) -> Standing {
    match it.state {
        State::Running if it.ready == Some(true) => Standing::There,
        State::Fatal | State::Lost | State::Backoff | State::Exited => {
            Standing::Failed(it.why.clone())
        }
        _ if it.goal == Goal::Down => Standing::Failed("somebody stopped it meanwhile".into()),
        _ => Standing::OnTheWay,
    }
}

fn down(it: &Instance) -> Standing {
    match it.state {
        State::Stopped | State::Exited | State::Fatal => Standing::There,
        _ if it.goal == Goal::Up => Standing::Failed("somebody started it meanwhile".into()),
        _ => Standing::OnTheWay,
    }
}

pub fn find<'a>(deck: &'a Deck, name: &str) -> Option<&'a Instance> {
    deck.services.iter().flat_map(|it| &it.instances).find(|it| it.name == name)
}

pub fn find_service<'a>(deck: &'a Deck, name: &str) -> Option<&'a Service> {
    deck.services.iter().find(|it| it.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web1(state: State, goal: Goal, generation: u64) -> Instance {
        Instance {
            name: "web1".into(),
            state,
            goal,
            generation,
            ready: Some(state == State::Running),
            why: "exited with 255".into(),
            ..Instance::default()
        }
    }

    #[test]
    fn a_restart_is_done_when_the_next_generation_is_ready() {
        let old = web1(State::Running, Goal::Up, 3);
        let new = web1(State::Running, Goal::Up, 4);
        let crashing = web1(State::Backoff, Goal::Up, 4);

        assert_eq!(standing(Some(&old), 3, Until::Renewed), Standing::OnTheWay);
        assert_eq!(standing(Some(&new), 3, Until::Renewed), Standing::There);
        assert_eq!(
            standing(Some(&crashing), 3, Until::Renewed),
            Standing::Failed("exited with 255".into())
        );
    }

    #[test]
    fn a_stop_that_somebody_undoes_has_failed() {
        let stopping = web1(State::Stopping, Goal::Down, 3);
        let undone = web1(State::Stopping, Goal::Up, 3);

        assert_eq!(standing(Some(&stopping), 3, Until::Down), Standing::OnTheWay);
        assert_ne!(standing(Some(&undone), 3, Until::Down), Standing::OnTheWay);
        assert_eq!(standing(None, 3, Until::Down), Standing::There);
    }
}
