//! What can be done to what is selected: which key means what, and the words for it.

use std::fmt;

use rbee_api::{FleetStatus, Phase, Verb, WorkerRef};

use super::state::{Acting, Place};
use crate::commands::worker::verb_done;

/// A change that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// A verb on one worker, or on all replicas of it.
    Worker { target: WorkerRef, verb: Verb, rolling: bool, force: bool },
    /// As many replicas.
    Scale { name: String, replicas: u32 },
    /// No new work for a hive, or work again.
    Hive { name: String, drain: bool },
}

impl Action {
    /// Whether a slip of the finger costs more than it should.
    pub(super) fn asks_first(&self) -> bool {
        match self {
            Self::Worker { verb, .. } => *verb == Verb::Kill,
            Self::Scale { replicas, .. } => *replicas == 0,
            Self::Hive { drain, .. } => *drain,
        }
    }

    /// What was done, once it is.
    pub(super) fn done(&self, changed: bool) -> String {
        let what = match self {
            Self::Worker { verb, rolling: true, .. } if *verb == Verb::Restart => "restarted, one after the other",
            Self::Worker { verb, .. } => verb_done(*verb, changed),
            Self::Scale { replicas, .. } => return format!("{} has {replicas} replicas", self.target()),
            Self::Hive { drain: true, .. } => verb_done(Verb::Drain, changed),
            Self::Hive { drain: false, .. } => verb_done(Verb::Undrain, changed),
        };
        format!("{} {what}", self.target())
    }

    fn target(&self) -> String {
        match self {
            Self::Worker { target, .. } => target.to_string(),
            Self::Scale { name, .. } => name.clone(),
            Self::Hive { name, .. } => format!("hive {name}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target();
        match self {
            Self::Worker { rolling: true, .. } => write!(f, "rolling restart of {target}"),
            Self::Worker { verb, force: true, .. } => write!(f, "{verb} {target} afresh"),
            Self::Worker { verb, .. } => write!(f, "{verb} {target}"),
            Self::Scale { replicas, .. } => write!(f, "scale {target} to {replicas}"),
            Self::Hive { drain: true, .. } => write!(f, "drain {target}"),
            Self::Hive { drain: false, .. } => write!(f, "undrain {target}"),
        }
    }
}

/// What a key asks for at that place.
///
/// # Errors
/// Why it can not be done there, in words.
pub(super) fn asked(
    key: char,
    place: &Place,
    fleet: &FleetStatus,
    acting: &[Acting],
) -> Option<Result<Action, &'static str>> {
    if !"sxrRtTKd+=-".contains(key) {
        return None;
    }
    Some(match place {
        Place::Worker { hive, name, replica } => {
            let one = WorkerRef { hive: Some(hive.clone()), name: name.clone(), replica: Some(*replica) };
            let worker = |verb| Action::Worker { target: one.clone(), verb, rolling: false, force: false };
            Ok(match key {
                's' => worker(Verb::Start),
                'x' => worker(Verb::Stop),
                'r' => worker(Verb::Restart),
                'R' => {
                    let target = WorkerRef { hive: None, name: name.clone(), replica: None };
                    Action::Worker { target, verb: Verb::Restart, rolling: true, force: false }
                }
                't' => worker(Verb::Retry),
                'T' => Action::Worker { target: one.clone(), verb: Verb::Retry, rolling: false, force: true },
                'K' => worker(Verb::Kill),
                'd' if phase(fleet, place) == Some(Phase::Draining) => worker(Verb::Undrain),
                'd' => worker(Verb::Drain),
                '-' => Action::Scale { name: name.clone(), replicas: replicas(fleet, acting, name).saturating_sub(1) },
                _ => Action::Scale { name: name.clone(), replicas: replicas(fleet, acting, name).saturating_add(1) },
            })
        }
        Place::Hive(name) if key == 'd' && fleet.queen.is_some() => {
            let drain = phase(fleet, place) != Some(Phase::Draining);
            Ok(Action::Hive { name: name.clone(), drain })
        }
        Place::Hive(_) if key == 'd' => Err("a hive that stands alone gives out no work: there is nothing to drain"),
        Place::Hive(_) => Err("that is for workers; a hive can be drained (d)"),
        Place::Queen => Err("that is for workers; `rbee-keeper queen --help` has queen's verbs"),
    })
}

/// How many replicas there shall be: as was asked for last, else as many as there are.
fn replicas(fleet: &FleetStatus, acting: &[Acting], name: &str) -> u32 {
    let asked = acting.iter().rev().find_map(|acting| match &acting.action {
        Action::Scale { name: of, replicas } if of == name => Some(*replicas),
        _ => None,
    });
    let count = || fleet.workers().filter(|(_, worker)| worker.name == name).count();
    asked.unwrap_or_else(|| u32::try_from(count()).unwrap_or(u32::MAX))
}

/// The phase of what is there.
pub(super) fn phase(fleet: &FleetStatus, place: &Place) -> Option<Phase> {
    match place {
        Place::Queen => fleet.queen.as_ref().map(|queen| queen.phase),
        Place::Hive(name) => fleet.hives.iter().find(|hive| &hive.name == name).map(|hive| hive.phase),
        Place::Worker { hive, name, replica } => fleet
            .workers()
            .find(|(on, worker)| on == hive && &worker.name == name && worker.replica == *replica)
            .map(|(_, worker)| worker.phase),
    }
}
