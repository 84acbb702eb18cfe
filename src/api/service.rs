//! Services, and the states of what they run.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Gateway, Instance, Rollout};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    #[default]
    Up,
    Down,
}

/// Where an instance is in its life. A service shows the state of its worst instance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Stopped,
    Spawning,
    Starting,
    Running,
    Draining,
    Stopping,
    Backoff,
    Exited,
    Fatal,
    #[serde(other)]
    Lost,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub name: String,
    /// `local`, `pidfile`.
    pub engine: String,
    pub profile: String,
    pub goal: Goal,
    pub state: State,
    /// Instances that are ready, of those wanted.
    pub ready: u32,
    pub wanted: u32,
    /// Some instance runs what an older configuration said.
    pub stale: bool,
    pub rollout: Option<Rollout>,
    /// What a rolling restart of this service would be able to do now.
    pub can_roll_back: bool,
    /// What stands in front of it.
    pub gateway: Option<Gateway>,
    #[serde(deserialize_with = "exactly")]
    pub instances: Vec<Instance>,
}

/// Most services have one instance, and reading JSON leaves room for four: in a large fleet, megabytes.
fn exactly<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Instance>, D::Error> {
    let mut instances = Vec::deserialize(from)?;
    instances.shrink_to_fit();
    Ok(instances)
}

impl Service {
    /// A rollback would take back what is well: its last rollout has not halted.
    pub fn is_well_rolled(&self) -> bool {
        self.rollout.as_ref().is_none_or(|it| it.ended.is_some() && it.halted.is_none())
    }
}
