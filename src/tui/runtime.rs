//! The loop that joins terminal, daemon and model. It sleeps until something happens.

mod frames;
mod wakeups;

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::announce::Title;
use super::cost::Cost;
use super::flow::Flow;
use super::held::Held;
use super::key::Typed;
use super::model::{Model, Now};
use super::output::clipboard;
use super::pace::Pace;
use super::questions::Questions;
use super::screen::Screen;
use super::terminal::{Keyboard, Terminal, forget_input, stop_self};
use super::update::{Command, Msg, update};
use super::wardrobe::Wardrobe;
use super::{Farewell, Options, TuiError};
use super::{link, log_tasks};
use crate::api::{Look, Problem, Request, problem};
use crate::client::Client;
use frames::Wish;
use wakeups::{Clock, Ending, Signals, Wakeup, drain};

/// Messages from the daemon that wait; more push back on the sockets they come from.
const WAITING: usize = 256;
/// Actions that wait for their turn; nobody types more before the first is answered.
const ACTIONS: usize = 64;
/// How long answers of the terminal are waited for before the shell gets it.
const ANSWERS: Duration = Duration::from_millis(300);
/// Without a picture by then, the deck says that it is connecting.
const FIRST: Duration = Duration::from_millis(100);

/// Shows the deck until the operator leaves or the terminal goes away.
pub async fn run(options: Options) -> Result<Farewell, TuiError> {
    let keyboard = Keyboard::new().map_err(|source| TuiError::NoTerminal { source })?;
    let signals = Signals::new().map_err(|source| TuiError::Signals { source })?;
    let size = Terminal::size().map_err(|source| TuiError::NoTerminal { source })?;

    let (msgs, inbox) = mpsc::channel(WAITING);
    let (requests, queue) = mpsc::channel(ACTIONS);
    let mut tasks = JoinSet::new();
    tasks.spawn(link::send(options.client.clone(), queue, msgs.clone()));
    let mut watch = JoinSet::new();
    watch.spawn(link::watch(options.client.clone(), msgs.clone()));

    let wardrobe = Wardrobe::new(&options);
    let theme = wardrobe.first();
    let user = super::ansi::clean(&options.user).into_owned();
    let mut model = Model::new(theme, options.tz, user, options.read_only);
    model.size = size;
    model.cost = options.show_cost.then(Cost::default);
    let clock = Clock::start();
    if let Some(notice) = options.start_notice {
        model.say(clock.now(), super::ansi::clean(&notice));
    }
    let terminal = Terminal::enter().map_err(|source| TuiError::NoTerminal { source })?;
    let questions = Questions::new(options.client.clone(), msgs.clone());
    let deck = Deck {
        model,
        screen: Screen::default(),
        pace: Pace::default(),
        clock,
        client: options.client,
        requests,
        msgs,
        watch,
        logs: JoinSet::new(),
        pages: JoinSet::new(),
        saves: JoinSet::new(),
        questions,
        terminal: Some(terminal),
        keyboard,
        flow: Flow::default(),
        held: Held::default(),
        asking: None,
        aimed: None,
        hears_mouse: false,
        wardrobe,
        title: Title::default(),
        announced: String::new(),
    };
    let farewell = deck.live(signals, inbox).await;
    tasks.shutdown().await;
    farewell
}

struct Deck {
    model: Model,
    screen: Screen,
    pace: Pace,
    clock: Clock,
    client: Client,
    requests: mpsc::Sender<(u64, Request)>,
    msgs: mpsc::Sender<Msg>,
    watch: JoinSet<()>,
    logs: JoinSet<()>,
    pages: JoinSet<()>,
    saves: JoinSet<()>,
    questions: Questions,
    /// `None` while the shell has it.
    terminal: Option<Terminal>,
    keyboard: Keyboard,
    flow: Flow,
    held: Held,
    /// What is on its way to the screen and must be read there first ([`Model::unseen`]), and the number
    /// of the terminal's answer that tells when it is there.
    asking: Option<(u64, Option<u64>)>,
    /// What is to be read in the frame that is being written.
    aimed: Option<u64>,
    wardrobe: Wardrobe,
    /// The terminal was told to report the mouse.
    hears_mouse: bool,
    title: Title,
    /// What is to be written with the next frame.
    announced: String,
}

impl Deck {
    async fn live(
        mut self,
        mut signals: Signals,
        mut inbox: mpsc::Receiver<Msg>,
    ) -> Result<Farewell, TuiError> {
        if self.greet().is_err() {
            return Ok(Farewell { terminal_gone: true, shut_down: None });
        }
        let mut wish = Wish::default();
        let ending = loop {
            if let Some(ending) = self.frame(&mut wish).await {
                break ending;
            }
            let wakeup = self.next_wakeup(&mut signals, &mut inbox, wish).await;
            wish.note(&wakeup);
            if let Some(ending) = self.woken(wakeup).await {
                break ending;
            }
        };
        self.logs.shutdown().await;
        self.watch.shutdown().await;
        let told = self.give_back().await;
        let terminal_gone = !told || matches!(ending, Ending::NoTerminal);
        let shut_down = self.model.shut_down().map(str::to_owned);
        Ok(Farewell { terminal_gone, shut_down })
    }

    async fn typed(&mut self, typed: Typed) -> Option<Ending> {
        self.answered(typed.answers);
        if typed.is_nothing() {
            return None;
        }
        if self.flow.room() < usize::MAX {
            self.screen.note(&self.model, self.clock.now());
        }
        let mixed = !typed.mouse.is_empty() || !typed.pastes.is_empty();
        let brought = if mixed { Msg::MixedKeys } else { Msg::Keys };
        let pastes = typed.pastes.into_iter().map(Msg::Paste);
        let keys = (!typed.keys.is_empty()).then(|| brought(typed.keys));
        for msg in pastes.chain(typed.mouse.into_iter().map(Msg::Mouse)).chain(keys) {
            if let Some(ending) = self.turn(msg).await {
                return Some(ending);
            }
        }
        None
    }

    /// What happens next; nothing at all until something moves by itself.
    async fn next_wakeup(
        &mut self,
        signals: &mut Signals,
        inbox: &mut mpsc::Receiver<Msg>,
        wish: Wish,
    ) -> Wakeup {
        let due = self.due(self.clock.now(), wish);
        tokio::select! {
            biased;
            wakeup = signals.next() => wakeup,
            typed = self.keyboard.next() => match typed {
                Ok(typed) => Wakeup::Typed(typed),
                Err(_) => Wakeup::End(Ending::NoTerminal),
            },
            written = drain(&mut self.terminal) => match written {
                Ok(()) => Wakeup::Written,
                Err(_) => Wakeup::End(Ending::NoTerminal),
            },
            Some(msg) = inbox.recv() => Wakeup::Msg(msg),
            () = self.clock.sleep_until(due) => Wakeup::Msg(Msg::Wake),
        }
    }

    /// Applies the lines that waited for this frame, unless somebody waits for it.
    async fn let_in(&mut self, now: Now) -> Option<Ending> {
        if self.draws_at(false).is_none_or(|at| at > now.mono) {
            return None;
        }
        for msg in self.held.take() {
            if let Some(ending) = self.turn(msg).await {
                return Some(ending);
            }
        }
        None
    }

    async fn woken(&mut self, wakeup: Wakeup) -> Option<Ending> {
        match wakeup {
            Wakeup::Msg(msg @ Msg::Log { .. }) => {
                self.held.push(msg);
                None
            }
            Wakeup::Msg(msg) => self.turn(msg).await,
            Wakeup::Typed(typed) => self.typed(typed).await,
            Wakeup::Size => self.resized().await,
            Wakeup::Stop => self.suspend().await,
            Wakeup::Written => None,
            Wakeup::End(ending) => Some(ending),
        }
    }

    async fn resized(&mut self) -> Option<Ending> {
        match Terminal::size() {
            Ok((width, height)) => self.turn(Msg::Resize(width, height)).await,
            Err(_) => Some(Ending::NoTerminal),
        }
    }

    /// One message, and what follows from it.
    async fn turn(&mut self, msg: Msg) -> Option<Ending> {
        let commands = update(&mut self.model, self.clock.now(), msg);
        for command in commands {
            if let Some(ending) = self.perform(command).await {
                return Some(ending);
            }
        }
        None
    }

    async fn perform(&mut self, command: Command) -> Option<Ending> {
        match command {
            Command::Quit => return Some(Ending::Asked),
            Command::Suspend => return Box::pin(self.suspend()).await,
            Command::Redraw => self.screen.forget(),
            Command::Look(look) => self.dress(&look),
            Command::Send { id, request } => {
                if self.requests.try_send((id, request)).is_err() {
                    // Full: the daemon has not answered for long.
                    let msg = Msg::Reply { id, result: Err(stuck()) };
                    return Box::pin(self.turn(msg)).await;
                }
                // It is on the socket before the frame that this key causes is drawn.
                tokio::task::yield_now().await;
            }
            Command::History { of } => self.questions.history(of),
            Command::Rollout { service } => self.questions.rollout(service),
            Command::Detail { of } => self.questions.detail(of),
            Command::Past { id, query } => self.questions.past(id, query),
            Command::Follow { session, names, after, grep } => {
                self.logs =
                    log_tasks::follow(&self.client, session, names, after, grep, &self.msgs);
            }
            Command::Unfollow => self.logs.abort_all(),
            Command::ReadLog { id, names, query } => {
                self.pages = log_tasks::page(&self.client, id, names, query, &self.msgs);
            }
            Command::UnreadLog => self.pages.abort_all(),
            Command::SaveLog { path, names, grep } => {
                let (client, msgs) = (self.client.clone(), self.msgs.clone());
                while self.saves.try_join_next().is_some() {}
                self.saves.spawn(log_tasks::save(client, path, names, grep, msgs));
            }
            Command::Announce(sequence) => self.announced.push_str(&sequence),
            Command::Copy(text) => return self.copy(&text),
        }
        None
    }

    /// Asks the terminal whether it answers, with nothing before the question: how long the way is.
    fn greet(&mut self) -> io::Result<()> {
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        let mut bytes = vec![];
        self.flow.frame(self.clock.now().mono, &mut bytes, true);
        terminal.output().send(&bytes)
    }

    fn answered(&mut self, answers: usize) {
        let now = self.clock.now().mono;
        (0..answers).for_each(|_| self.flow.answered(now));
    }

    /// Looks as the configuration says, where the command line does not.
    fn dress(&mut self, look: &Look) {
        let config = self.model.deck.config.path.as_ref().map(std::path::PathBuf::from);
        match self.wardrobe.dress(look, config.as_deref()) {
            Ok(theme) => self.model.theme = theme,
            Err(why) => self.model.warn(self.clock.now(), super::ansi::clean(&why)),
        }
        let shows_cost = look.show_cost || self.wardrobe.show_cost;
        self.model.cost = shows_cost.then(|| self.model.cost.unwrap_or_default());
    }

    /// Gives the terminal to the shell; false if it does not take what is written to it.
    async fn give_back(&mut self) -> bool {
        let Some(mut terminal) = self.terminal.take() else { return true };
        // Leaving takes it away.
        self.hears_mouse = false;
        let told = terminal.leave();
        self.title.forget();
        // The shell would take the answers for something that was typed.
        if self.flow.is_owed(self.clock.now().mono) {
            let answers = async {
                while self.flow.is_owed(self.clock.now().mono) {
                    let Ok(typed) = self.keyboard.next().await else { break };
                    self.answered(typed.answers);
                }
            };
            if tokio::time::timeout(ANSWERS, answers).await.is_err() {
                forget_input();
            }
        }
        self.flow.forget();
        told
    }

    /// OSC 52: the terminal, wherever it is, puts it on its clipboard.
    fn copy(&mut self, text: &str) -> Option<Ending> {
        let output = self.terminal.as_mut()?.output();
        if !output.is_idle() {
            self.model
                .warn(self.clock.now(), "not copied: the terminal is still busy with the screen");
            return None;
        }
        output.send(&clipboard(text)).is_err().then_some(Ending::NoTerminal)
    }

    /// Gives the terminal to the shell and stops; goes on here when continued.
    async fn suspend(&mut self) -> Option<Ending> {
        self.give_back().await;
        let stopped = stop_self();
        match Terminal::enter() {
            Ok(terminal) => self.terminal = Some(terminal),
            Err(_) => return Some(Ending::NoTerminal),
        }
        self.screen.forget();
        if self.greet().is_err() {
            return Some(Ending::NoTerminal);
        }
        // What waits in the socket is old by now, and its countdowns would be taken for new.
        self.watch.shutdown().await;
        self.watch.spawn(link::watch(self.client.clone(), self.msgs.clone()));
        if !stopped {
            let text = "no shell to go back to: this session runs only the deck";
            self.model.warn(self.clock.now(), text);
        }
        // The window may have another size by now.
        Box::pin(self.resized()).await
    }
}

fn stuck() -> Problem {
    Problem {
        kind: problem::UNREACHABLE.into(),
        title: "not sent: the daemon has not answered what was asked before".into(),
        ..Problem::default()
    }
}
