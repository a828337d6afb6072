//! Where requests for a model can go. Pure.
//!
//! A lease that runs out cuts no route: a hive that was killed leaves its workers running, and they answer. What
//! cuts a route is the hive's own word that a worker does not run, an order that it shall not, or a connection
//! that fails (that is for the gateway to find out).
//!
//! What is drained by order gets nothing. What is drained because another one stands in for it, or comes in its place,
//! gets something only where nobody else is there: then it is better than to wait.

use std::collections::BTreeMap;
use std::time::Duration;

use rbee_api::{Desired, Phase, ReplicaId};

use crate::desired::{DesiredState, Draining, Load, Wishes};
use crate::fleet::HiveView;
use crate::lease::LeaseState;

/// One incarnation of a replica, where it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its hive.
    pub hive: String,
    /// Which replica.
    pub id: ReplicaId,
    /// Which run of it.
    pub incarnation: u64,
    /// `HOST:PORT`.
    pub address: String,
    /// Whether it is our engine and gets the fleet's token.
    pub own_engine: bool,
}

/// The routes of all models that the config's workers serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// By the model's name.
    pub models: BTreeMap<String, Route>,
}

/// The routes of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where requests can go now, in a stable order.
    pub endpoints: Vec<Endpoint>,
    /// What to expect where they cannot.
    pub outlook: Outlook,
    /// How long the slowest start of those that are on their way may take, their models' sizes considered; 0 where none is.
    pub start_timeout: Duration,
}

/// What to expect of a model without an endpoint that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// A replica shall run and nothing says that it cannot.
    Coming,
    /// Nobody uses it, so it is not loaded: [`crate::registry::Registry::want_loaded`] loads it.
    Unloaded,
    /// Nothing will change by itself.
    Down {
        /// Why, for people.
        reason: String,
    },
}

impl Routes {
    /// The routes of a fleet.
    #[must_use]
    pub fn build(wishes: &Wishes, desired: &DesiredState, hives: &BTreeMap<String, HiveView>) -> Self {
        let mut models: BTreeMap<String, Vec<&String>> = BTreeMap::new();
        for (name, wish) in wishes {
            if let Some(model) = &wish.model {
                models.entry(model.name.clone()).or_default().push(name);
            }
        }
        let wanted = desired.wanted(wishes);
        let models = models.into_iter().map(|(model, workers)| {
            let replicas: Vec<Replica<'_>> = wanted
                .iter()
                .filter(|id| workers.contains(&&id.name))
                .map(|id| Replica::new(id, wishes, desired, hives))
                .collect();
            let (mut free, mut relieved) = (Vec::new(), Vec::new());
            for endpoint in replicas.iter().flat_map(|replica| replica.endpoints(desired, hives)) {
                match desired.draining(&endpoint.hive, &endpoint.id) {
                    None => free.push(endpoint.clone()),
                    Some(Draining::Relieved) => relieved.push(endpoint.clone()),
                    Some(Draining::Ordered) => {}
                }
            }
            let endpoints = if free.is_empty() { relieved } else { free };
            let coming = replicas.iter().filter(|replica| replica.is_coming());
            let start_timeout = coming.map(|replica| replica.start_timeout).max().unwrap_or_default();
            (model, Route { endpoints, outlook: outlook(&workers, &replicas), start_timeout })
        });
        Self { models: models.collect() }
    }
}

/// All that bears on one replica's routes.
struct Replica<'a> {
    id: &'a ReplicaId,
    desired: Desired,
    home: Option<&'a str>,
    phase: Option<Phase>,
    reason: Option<&'a str>,
    restarting_by_order: bool,
    /// It is about to be stopped by order.
    held_down: bool,
    /// It is down because nobody uses it.
    unloaded: bool,
    start_timeout: Duration,
}

impl<'a> Replica<'a> {
    fn new(
        id: &'a ReplicaId,
        wishes: &Wishes,
        desired: &'a DesiredState,
        hives: &'a BTreeMap<String, HiveView>,
    ) -> Self {
        let home = desired.placement.get(id).map(String::as_str);
        let hive = home.and_then(|name| hives.get(name));
        let status = hive.and_then(|hive| hive.worker(id));
        let ordered = desired.orders.get(id).map_or(0, |orders| orders.restart_generation);
        // An order that nobody carries out cuts nothing.
        let heard = hive.is_some_and(|hive| hive.lease == LeaseState::Alive);
        Self {
            id,
            desired: wishes.get(&id.name).map_or(Desired::Stopped, |wish| desired.desired(id, wish)),
            home,
            phase: status.map(|status| status.phase),
            reason: status.and_then(|status| status.reason.as_deref()),
            held_down: wishes.get(&id.name).is_some_and(|wish| desired.is_held_down(id, wish)),
            unloaded: wishes
                .get(&id.name)
                .is_some_and(|wish| desired.load(&id.name, wish) != Load::Loaded && !desired.is_held_down(id, wish)),
            start_timeout: Duration::from_millis(status.map_or(0, |status| status.start_timeout_ms)),
            restarting_by_order: heard && status.is_some_and(|status| status.restart_generation < ordered),
        }
    }

    /// Its endpoint at home, and where it was before as long as that hive cannot have stopped it.
    fn endpoints<'h>(&self, desired: &DesiredState, hives: &'h BTreeMap<String, HiveView>) -> Vec<&'h Endpoint> {
        if self.desired != Desired::Running || self.restarting_by_order {
            return Vec::new();
        }
        hives
            .iter()
            .filter(|(name, hive)| {
                self.home == Some(name.as_str()) || hive.lease != LeaseState::Alive || self.leaves(name, desired)
            })
            .filter_map(|(_, hive)| hive.endpoints.get(self.id))
            .collect()
    }

    /// Whether it is kept on that hive until its new place is ready.
    fn leaves(&self, hive: &str, desired: &DesiredState) -> bool {
        desired.upkeep.moves.iter().any(|leaving| leaving.id == *self.id && leaving.from == hive)
    }

    fn is_coming(&self) -> bool {
        self.desired == Desired::Running
            && !self.unloaded
            && !self.held_down
            && !matches!(self.phase, Some(Phase::Failed | Phase::Unavailable))
    }
}

fn outlook(workers: &[&String], replicas: &[Replica<'_>]) -> Outlook {
    if replicas.iter().any(Replica::is_coming) {
        return Outlook::Coming;
    }
    if replicas.iter().any(|replica| replica.unloaded) {
        return Outlook::Unloaded;
    }
    let failed = replicas.iter().find(|replica| replica.desired == Desired::Running);
    let reason = match failed {
        Some(replica) => {
            let why = replica.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let phase = replica.phase.map_or("not running", Phase::as_str);
            format!("worker {} is {phase}{why}; see `rbee-keeper worker logs {}`", replica.id, replica.id.name)
        }
        None => {
            let name = workers.first().map_or("", |name| name.as_str());
            format!("its workers are stopped; `rbee-keeper worker start {name}` starts them")
        }
    };
    Outlook::Down { reason }
}

/// `HOST:PORT` of a worker on the machine of that hive.
#[must_use]
pub fn authority(hive_url: &str, port: u16) -> Option<String> {
    let url = reqwest::Url::parse(hive_url).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(())?;
    Some(format!("{}:{port}", url.host_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_address_is_its_hives_host_and_its_own_port() {
        for (url, expected) in [
            ("http://127.0.0.1:7835", Some("127.0.0.1:7855")),
            ("http://[::1]:7835/", Some("[::1]:7855")),
            ("http://box.example", Some("box.example:7855")),
            ("unix:/x", None),
            ("", None),
        ] {
            assert_eq!(authority(url, 7855).as_deref(), expected, "{url}");
        }
    }
}
