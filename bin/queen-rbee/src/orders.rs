//! What a verb changes in desired state, and which replicas its answer is about. Pure.

mod upkeep;

use std::collections::BTreeSet;

use rbee_api::{ApiError, Desired, ErrorCode, Phase, ReplicaId, Verb, VerbRequest, WorkerRef, WorkerStatus};
use serde::{Deserialize, Serialize};

use self::upkeep::{drain_hive, finished, has_to_finish, load_model, roll, upgrade_hive};
use crate::desired::{DesiredState, Load, Pending, REPLICAS_MAX, Then, Wish, Wishes};
use crate::fleet::View;
use crate::rolling::{Rolling, Step};

/// Something ordered, by hand or by queen's own upkeep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A verb on the workers named.
    Verb {
        /// Which.
        target: WorkerRef,
        /// What.
        verb: Verb,
        /// How.
        request: VerbRequest,
    },
    /// Another number of replicas.
    Scale {
        /// Of which worker.
        name: String,
        /// How many.
        replicas: u32,
    },
    /// No new work for a hive, or work again.
    DrainHive {
        /// Which.
        hive: String,
        /// Whether it is drained.
        drain: bool,
    },
    /// A hive becomes the binary that stands on its machine now.
    UpgradeHive {
        /// Which.
        hive: String,
    },
    /// Requests wait for a model: whoever serves it on demand is loaded.
    LoadModel {
        /// Its name.
        model: String,
    },
    /// A worker that nobody uses goes, step by step; only from the step before.
    Unload {
        /// Which worker.
        name: String,
        /// What it was.
        from: Load,
        /// What it is to be.
        to: Load,
    },
    /// A step of a rolling restart; only from the step before.
    Roll {
        /// Of which worker.
        name: String,
        /// What it was.
        from: Rolling,
        /// What comes.
        to: Step,
    },
    /// A replica has finished what it had, or has had its time: now it is stopped or restarted.
    Finished {
        /// Which replica, and what comes.
        pending: Pending,
    },
    /// A replica is at home at its new place: the old one may go.
    Moved {
        /// Which replica.
        id: ReplicaId,
        /// The hive it leaves.
        from: String,
    },
}

/// What shall come of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// Runs and is ready.
    Up,
    /// Does not run.
    Down,
    /// Is not there any more.
    Gone,
    /// Whatever it does now.
    AsItIs,
}

/// A replica that an answer waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Which.
    pub id: ReplicaId,
    /// Where it was when the order was given.
    pub hive: Option<String>,
    /// What shall come of it.
    pub goal: Goal,
    /// The run that must be over: the one that was to be restarted.
    pub not_incarnation: Option<u64>,
}

/// An order taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Whether it changed anything.
    pub changed: bool,
    /// What to wait for.
    pub targets: Vec<Target>,
    /// The counter when the order was in force: a hive that has applied this has heard of it.
    pub since: u64,
    /// The rolling restart to wait for.
    pub rolling: Option<Awaited>,
}

/// A rolling restart that an answer waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// Of which worker.
    pub name: String,
    /// Its number.
    pub number: u64,
}

/// Puts an order into `state`.
///
/// # Errors
/// No such worker, replica or hive; parameters that make no sense.
pub fn apply(order: &Order, view: &View, state: &mut DesiredState) -> Result<Ordered, ApiError> {
    let mut rolling = None;
    let (changed, targets) = match order {
        Order::Verb { target, verb: Verb::Restart, request } if request.rolling => {
            check_request(Verb::Restart, request)?;
            let (awaited, goals) = roll(target, request.clean, view, state)?;
            rolling = awaited;
            (rolling.is_some(), goals)
        }
        Order::Verb { target, verb, request } => verb_on(target, *verb, request, view, state)?,
        Order::Scale { name, replicas } => {
            state.stop_rolling(name, "it was scaled meanwhile");
            scale(name, *replicas, &view.wishes, state)?
        }
        Order::DrainHive { hive, drain } => (drain_hive(hive, *drain, view, state)?, Vec::new()),
        Order::UpgradeHive { hive } => (upgrade_hive(hive, view, state)?, Vec::new()),
        Order::LoadModel { model } => (load_model(model, view, state), Vec::new()),
        Order::Unload { name, from, to } => {
            let wish = view.wishes.get(name).filter(|wish| state.load(name, wish) == *from);
            (wish.is_some_and(|wish| state.set_load(name, wish, *to)), Vec::new())
        }
        Order::Roll { name, from, to } => {
            let as_before = state.upkeep.rolling.get(name) == Some(from);
            if as_before {
                state.roll(name, to.clone());
            }
            (as_before, Vec::new())
        }
        Order::Finished { pending } => (finished(pending, view, state), Vec::new()),
        Order::Moved { id, from } => {
            let before = state.upkeep.moves.len();
            state.upkeep.moves.retain(|leaving| leaving.id != *id || leaving.from != *from);
            (state.upkeep.moves.len() != before, Vec::new())
        }
    };
    let restarts = matches!(order, Order::Verb { verb: Verb::Restart, request, .. } if !request.rolling);
    let targets = targets.into_iter().map(|(id, goal)| {
        let hive = view.desired.placement.get(&id).cloned();
        let not_incarnation = status(&id, view).filter(|_| restarts).map(|status| status.incarnation);
        Target { id, hive, goal, not_incarnation }
    });
    Ok(Ordered { changed, targets: targets.collect(), since: state.counter, rolling })
}

fn verb_on(
    target: &WorkerRef,
    verb: Verb,
    request: &VerbRequest,
    view: &View,
    state: &mut DesiredState,
) -> Result<(bool, Goals), ApiError> {
    check_request(verb, request)?;
    let wish = wish(&view.wishes, &target.name)?;
    if request.clean {
        wish.spec.check_clean(&target.name)?;
    }
    let ids = matching(target, wish, view)?;
    if matches!(verb, Verb::Stop | Verb::Kill) && target.replica.is_none() {
        state.stop_rolling(&target.name, "it was stopped meanwhile");
    }
    let mut changed =
        matches!(verb, Verb::Start | Verb::Restart | Verb::Retry) && start_needed(&target.name, &view.wishes, state);
    for id in &ids {
        changed |= apply_verb(verb, request, id, wish, view, state);
    }
    let goal = match verb {
        Verb::Stop | Verb::Kill => Goal::Down,
        Verb::Start | Verb::Restart | Verb::Retry => Goal::Up,
        Verb::Drain | Verb::Undrain => Goal::AsItIs,
    };
    Ok((changed, ids.into_iter().map(|id| (id, goal)).collect()))
}

/// Whom a worker needs, and whom they need.
fn needed<'w>(name: &'w str, wishes: &'w Wishes) -> BTreeSet<&'w str> {
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let next = wishes.get(name).into_iter().flat_map(|wish| &wish.spec.depends_on);
        open.extend(next.map(String::as_str).filter(|name| needed.insert(name)));
    }
    needed
}

/// What is started starts what it needs. Returns whether anything needed was not wanted before.
fn start_needed(name: &str, wishes: &Wishes, state: &mut DesiredState) -> bool {
    let mut changed = false;
    for (name, wish) in needed(name, wishes).into_iter().filter_map(|name| Some((name, wishes.get(name)?))) {
        for replica in 0..state.replicas(name, wish) {
            changed |= state.order(&ReplicaId { name: name.to_owned(), replica }, wish, Desired::Running);
        }
    }
    changed
}

fn check_request(verb: Verb, request: &VerbRequest) -> Result<(), ApiError> {
    let misplaced = |param: &str, meant_for: &str| {
        let message = format!("`{param}` makes no sense with {verb}; it is for {meant_for}");
        Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param(param))
    };
    match verb {
        Verb::Retry => {}
        _ if request.force => return misplaced("force", "retry"),
        _ => {}
    }
    match verb {
        Verb::Stop | Verb::Kill => {}
        _ if request.now => return misplaced("now", "stop"),
        _ => {}
    }
    match verb {
        Verb::Restart => Ok(()),
        _ if request.rolling => misplaced("rolling", "restart"),
        _ if request.clean => misplaced("clean", "restart"),
        _ => Ok(()),
    }
}

fn apply_verb(
    verb: Verb,
    request: &VerbRequest,
    id: &ReplicaId,
    wish: &Wish,
    view: &View,
    state: &mut DesiredState,
) -> bool {
    // One that is not loaded for want of use is up as far as orders go: a stop keeps requests from loading it.
    let was_up = !state.is_held_down(id, wish);
    match verb {
        Verb::Stop if was_up && !request.now && has_to_finish(id, wish, view) => state.order_then(id, Then::Stop),
        Verb::Restart if was_up && has_to_finish(id, wish, view) => {
            state.order_then(id, if request.clean { Then::Clean } else { Then::Restart })
        }
        // To stop at once is to kill.
        Verb::Stop if request.now => state.forget_pending(id) | state.order(id, wish, Desired::Killed),
        // What was killed is down already; killing it again by another name changes nothing.
        Verb::Stop => was_up && state.order(id, wish, Desired::Stopped),
        Verb::Kill => (state.forget_pending(id) || was_up) && state.order(id, wish, Desired::Killed),
        Verb::Start => {
            // Whoever starts it wants it to work.
            let drained = state.order_drain(id, false) | state.forget_pending(id);
            state.order(id, wish, Desired::Running) || (was_up && start_again(id, view, state, true)) || drained
        }
        Verb::Drain => state.order_drain(id, true),
        Verb::Undrain => state.order_drain(id, false),
        Verb::Restart => {
            state.order(id, wish, Desired::Running);
            state.order_restart(id, request.clean);
            true
        }
        Verb::Retry => {
            // One that waits out its back-off need not wait longer.
            let waits = status(id, view).is_some_and(|status| status.phase == Phase::Restarting);
            if was_up && waits {
                state.order_retry(id, request.force);
                return true;
            }
            state.order(id, wish, Desired::Running) || (was_up && start_again(id, view, state, request.force))
        }
    }
}

/// Orders one more try where nothing brings a replica up by itself any more, though it shall run.
fn start_again(id: &ReplicaId, view: &View, state: &mut DesiredState, force: bool) -> bool {
    match status(id, view).map(|status| status.phase) {
        Some(Phase::Failed | Phase::Unavailable | Phase::Stale) => state.order_retry(id, force),
        // Ended by itself, with a policy that leaves it so; unless the hive has not come to it yet.
        Some(Phase::Stopped) if has_applied_all(id, view) => state.order_restart(id, false),
        _ => return false,
    }
    true
}

fn has_applied_all(id: &ReplicaId, view: &View) -> bool {
    let Some(home) = view.desired.placement.get(id) else { return false };
    let applied = view.hives.get(home).and_then(|hive| hive.heartbeat.as_ref()).map(|heartbeat| heartbeat.generation);
    applied.is_some() && applied == view.desired.hives.get(home).map(|record| record.generation)
}

fn status<'v>(id: &ReplicaId, view: &'v View) -> Option<&'v WorkerStatus> {
    view.hives.get(view.desired.placement.get(id)?)?.worker(id)
}

type Goals = Vec<(ReplicaId, Goal)>;

fn scale(name: &str, replicas: u32, wishes: &Wishes, state: &mut DesiredState) -> Result<(bool, Goals), ApiError> {
    let wish = wish(wishes, name)?;
    if replicas > REPLICAS_MAX {
        let message = format!("{replicas} replicas are too many: {REPLICAS_MAX} at most");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("replicas"));
    }
    let before = state.replicas(name, wish);
    let changed = state.scale(name, wish, replicas);
    let goals = (0..before.max(replicas)).map(|replica| {
        let id = ReplicaId { name: name.to_owned(), replica };
        let goal = match state.desired(&id, wish) {
            _ if replica >= replicas => Goal::Gone,
            Desired::Running => Goal::Up,
            Desired::Stopped | Desired::Killed => Goal::Down,
        };
        (id, goal)
    });
    let goals = goals.collect();
    Ok((changed, goals))
}

/// The worker of that name.
///
/// # Errors
/// `worker_not_found` with the nearest name.
pub fn wish<'w>(wishes: &'w Wishes, name: &str) -> Result<&'w Wish, ApiError> {
    wishes.get(name).ok_or_else(|| {
        let message = format!("there is no worker `{name}`{}", suggest(name, wishes.keys()));
        ApiError::new(ErrorCode::WorkerNotFound, message).with_param("name")
    })
}

/// The replicas a reference means.
///
/// # Errors
/// When it means none.
pub fn matching(target: &WorkerRef, wish: &Wish, view: &View) -> Result<Vec<ReplicaId>, ApiError> {
    if let Some(hive) = &target.hive
        && !view.hives.contains_key(hive)
    {
        let message = format!("there is no hive `{hive}`{}", suggest(hive, view.hives.keys()));
        return Err(ApiError::new(ErrorCode::HiveNotFound, message).with_param("hive"));
    }
    let replicas = view.desired.replicas(&target.name, wish);
    if let Some(replica) = target.replica
        && replica >= replicas
    {
        let message =
            format!("worker `{}` has {replicas} replicas, counted from 0: there is no {replica}", target.name);
        return Err(ApiError::new(ErrorCode::WorkerNotFound, message).with_param("replica"));
    }
    let ids: Vec<ReplicaId> = (0..replicas)
        .map(|replica| ReplicaId { name: target.name.clone(), replica })
        .filter(|id| {
            let home = view.desired.placement.get(id).map_or("", String::as_str);
            target.matches(home, id)
        })
        .collect();
    if ids.is_empty() && target.hive.is_some() {
        let message = format!("there is no {target}: nothing of that worker is on that hive");
        return Err(ApiError::new(ErrorCode::WorkerNotFound, message).with_param("hive"));
    }
    Ok(ids)
}

/// "; did you mean …?", or all there are.
pub fn suggest<'a>(given: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let nearest = known
        .clone()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance);
    let all: Vec<&str> = known.map(String::as_str).collect();
    match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None if all.is_empty() => "; there is none at all".to_owned(),
        None => format!("; there are: {}", all.join(", ")),
    }
}
