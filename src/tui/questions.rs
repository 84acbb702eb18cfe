//! What is asked of the daemon for the page in front, each question in a task of its own.
//!
//! Of each kind the last one counts: a new one ends the one before, whose answer would come too late.

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::link;
use super::rows::RowId;
use super::update::{Msg, RolloutAnswer};
use crate::client::{Client, EventQuery};

/// The questions that are under way.
pub struct Questions {
    client: Client,
    msgs: mpsc::Sender<Msg>,
    history: Last,
    rollout: Last,
    detail: Last,
    past: Last,
}

/// Ends with its successor.
type Last = Option<AbortOnDropHandle<()>>;

impl Questions {
    pub fn new(client: Client, msgs: mpsc::Sender<Msg>) -> Self {
        let (history, rollout, detail, past) = Default::default();
        Self { client, msgs, history, rollout, detail, past }
    }

    /// What was counted of a row in the last ten minutes.
    pub fn history(&mut self, of: RowId) {
        let client = self.client.clone();
        self.history = self.ask(async move {
            let name = of.instance.as_ref().unwrap_or(&of.service);
            let result = client.history(name, of.instance.is_none()).await;
            Msg::History { of, result }
        });
    }

    /// The rollout of a service that runs or ran last, and the next plan.
    pub fn rollout(&mut self, service: String) {
        let client = self.client.clone();
        self.rollout = self.ask(async move {
            let record = client.rollout(&service).await;
            let plan = client.plan(&service).await;
            Msg::Rollout(Box::new(RolloutAnswer { service, record, plan }))
        });
    }

    /// A close look at an instance.
    pub fn detail(&mut self, of: String) {
        let client = self.client.clone();
        self.detail = self.ask(async move {
            let result = client.detail(&of).await.map(Box::new);
            Msg::Detail { of, result }
        });
    }

    /// Events of the time before.
    pub fn past(&mut self, id: u64, query: EventQuery) {
        let client = self.client.clone();
        self.past = self.ask(async move {
            let result = link::past(client, query).await;
            Msg::Past { id, result }
        });
    }

    fn ask(&self, answer: impl Future<Output = Msg> + Send + 'static) -> Last {
        let msgs = self.msgs.clone();
        let task = tokio::spawn(async move {
            // The deck may have been left.
            let _ = msgs.send(answer.await).await;
        });
        Some(AbortOnDropHandle::new(task))
    }
}
