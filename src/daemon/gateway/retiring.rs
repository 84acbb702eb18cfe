//! Gateways that retire: they finish what they have, and are told the routes and counted until they end.
//!
//! One that hangs meanwhile would keep its connections for good, and what it has in flight would never be known to
//! have ended. So it is asked, told of and killed like one that serves; whoever drains for hours answers all the time.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Down, News, ROLE, listeners, talk, talk::Talk};
use crate::daemon::front::Wanted;
use crate::daemon::mute;
use crate::daemon::silence::{self, Verdict, Watch};
use crate::daemon::turn::{Turn, Turns};
use crate::gateway::control::{ANSWERS_SINCE, FromGateway, ToGateway};
use crate::process::{Identity, identity, pidfd};

/// What one that retires is told.
pub(super) const RETIRE: ToGateway = ToGateway::Retire { linger_ms: LINGER_MS };
/// What a client that was promised a kept-alive connection has to send its next request in.
const LINGER_MS: u64 = 5_000;
/// How often one that lives and is not connected may leave a greeting without an answer.
const GREETINGS: u32 = 3;
/// Between the end of a connection and that of its process.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Sees one off.
#[derive(Debug)]
pub(super) struct Farewell {
    pub pid: u32,
    /// Where it can be connected to again; one whose socket was removed is nowhere.
    pub path: PathBuf,
    pub wanted: watch::Receiver<Wanted>,
    pub turns: Turns,
    pub stop: CancellationToken,
    pub greeting: Duration,
}

/// Why nobody talks to it any more.
enum End {
    /// The daemon ends.
    Stop,
    Lost,
    Killed(String),
}

impl Farewell {
    /// Attends it until it has ended. `talk`: it is connected already.
    pub(super) async fn run(mut self, mut talk: Option<Talk>) {
        let who = mute::identity_in(ROLE, self.pid);
        let mut unanswered = 0;
        let killed = loop {
            if let Some(talk) = talk.take() {
                match self.attend(talk, who).await {
                    End::Stop => return,
                    End::Killed(why) => break Some(why),
                    End::Lost => (),
                }
                if self.ends_within(who, LAST_BREATH).await {
                    break None;
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
            match talk::connect(&self.path, self.greeting).await {
                Ok((mut it, _)) => {
                    // Whoever gave it this socket may have died before it was told.
                    let _ = it.send(&RETIRE).await;
                    (talk, unanswered) = (Some(it), 0);
                }
                Err(_) if who.is_some_and(mute::is_held) => {}
                // It cannot be asked; but it has heard that it retires.
                Err(err) if is_nowhere(&err) && !who.is_some_and(listens) => unanswered = 0,
                Err(_) => unanswered += 1,
            }
            if unanswered >= GREETINGS {
                break Some(self.kill(who).await);
            }
            if talk.is_none() && self.ends_within(who, LAST_BREATH).await {
                break None;
            }
        };
        let _ = std::fs::remove_file(&self.path);
        let was_killed = killed.is_some();
        let why = killed.unwrap_or_else(|| "it ended by itself".into());
        let down = Down { pid: Some(self.pid), retired: true, was_killed, why, in_flight: None };
        self.tell(News::Down(down)).await;
    }

    /// Talks to it for as long as it is connected.
    async fn attend(&mut self, mut talk: Talk, who: Option<Identity>) -> End {
        let mut watch = Watch::new();
        watch.is_of(who);
        let answers = talk.version >= ANSWERS_SINCE;
        loop {
            let said = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stop,
                // What it has said counts before it is looked whether it says anything.
                message = talk.next() => match message {
                    Ok(message) => {
                        self.heard(message, &mut watch).await;
                        Ok(())
                    }
                    Err(_) => return End::Lost,
                },
                changed = self.wanted.changed(), if !talk.is_behind() => match changed {
                    Ok(()) => self.pass_on(&mut talk),
                    Err(_) => return End::Stop,
                },
                verdict = watch.look(), if answers => match verdict {
                    Verdict::Nothing => Ok(()),
                    Verdict::Ask => talk.say(&ToGateway::Ping),
                    Verdict::Tell { held } => {
                        self.told_silent(held).await;
                        Ok(())
                    }
                    Verdict::End => return End::Killed(self.kill(who).await),
                },
            };
            if said.is_err() {
                return End::Lost;
            }
        }
    }

    async fn heard(&self, message: FromGateway, watch: &mut Watch) {
        let pid = self.pid;
        if watch.heard() {
            self.tell(News::Answers { pid }).await;
        }
        if message != FromGateway::Pong {
            self.tell(News::Said { pid, message }).await;
        }
    }

    fn pass_on(&mut self, talk: &mut Talk) -> io::Result<()> {
        let routes = self.wanted.borrow_and_update().routes.clone();
        if routes.revision == 0 { Ok(()) } else { talk.say(&ToGateway::Routes(routes)) }
    }

    async fn told_silent(&self, held: bool) {
        let pid = self.pid;
        warn!(pid, held, "a gateway that retires does not answer");
        self.tell(News::Silent { pid, retires: true, words: silence::words(held) }).await;
    }

    /// Returns how that is told.
    async fn kill(&self, who: Option<Identity>) -> String {
        let killed = match who {
            Some(who) => mute::kill(who).await,
            None => Ok(()),
        };
        match killed {
            Ok(()) => silence::last_words(),
            Err(err) => format!("it does not answer and cannot be killed: {err}"),
        }
    }

    /// Whether it has ended; it is given so long for that.
    async fn ends_within(&self, who: Option<Identity>, patience: Duration) -> bool {
        let Some(pidfd) = who.and_then(|it| identity::open(it).ok().flatten()) else { return true };
        tokio::select! {
            _ = pidfd::ended(pidfd) => true,
            () = tokio::time::sleep(patience) => false,
            () = self.stop.cancelled() => false,
        }
    }

    async fn tell(&self, news: News) {
        // The driver is gone only when the daemon ends.
        let _ = self.turns.send(Turn::Gateway(news)).await;
    }
}

fn is_nowhere(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound
}

fn listens(who: Identity) -> bool {
    !listeners::of_process(who).is_empty()
}
