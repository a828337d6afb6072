//! Orders that take their time: rolling restarts, drains, loading on demand, stops after what is in flight.

use rbee_api::assignment::Engine;
use rbee_api::{ApiError, Desired, ErrorCode, Phase, ReplicaId, WorkerRef};

use super::{Awaited, Goal, Goals, matching, needed, status, suggest, wish};
use crate::desired::{DesiredState, Load, Pending, REPLICAS_MAX, Then, Wish, Wishes};
use crate::fleet::View;
use crate::lease::LeaseState;
use crate::rolling::{Rolling, Step};

/// Begins a rolling restart. Nothing of it where the worker is not loaded: its next start is a new one anyway.
pub(super) fn roll(
    target: &WorkerRef,
    clean: bool,
    view: &View,
    state: &mut DesiredState,
) -> Result<(Option<Awaited>, Goals), ApiError> {
    let name = &target.name;
    let wish = wish(&view.wishes, name)?;
    if clean {
        wish.spec.check_clean(name)?;
    }
    matching(target, wish, view)?;
    let refused = |message: String, param: &str| Err(ApiError::new(ErrorCode::Conflict, message).with_param(param));
    if target.replica.is_some() || target.hive.is_some() {
        let message = format!("a rolling restart is one of all replicas: write `{name}`");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("rolling"));
    }
    if wish.spec.listen.as_deref().is_some_and(|listen| !listen.contains("{port}") && !listen.ends_with(":0")) {
        let message =
            format!("worker `{name}` has a fixed socket: no second one can run beside it; restart it plainly");
        return refused(message, "rolling");
    }
    if wish.spec.pid_file.as_deref().is_some_and(|file| !file.contains("{replica}")) {
        let message = format!("two replicas of worker `{name}` cannot share its PID file: put `{{replica}}` into it");
        return refused(message, "rolling");
    }
    if let Some((other, _)) = view.wishes.iter().find(|(_, other)| other.spec.depends_on.contains(name)) {
        let message =
            format!("`{other}` depends on `{name}` and goes down with each of its replicas; restart it plainly");
        return refused(message, "rolling");
    }
    let replicas = state.replicas(name, wish);
    if replicas >= REPLICAS_MAX {
        return refused(format!("worker `{name}` has no place for one replica more"), "rolling");
    }
    if state.load(name, wish) == Load::Unloaded {
        return Ok((None, Vec::new()));
    }
    let ids = (0..replicas).map(|replica| ReplicaId { name: name.clone(), replica });
    let running: Vec<ReplicaId> = ids.filter(|id| state.desired(id, wish) == Desired::Running).collect();
    if running.is_empty() {
        return refused(format!("worker `{name}` is stopped; `rbee-keeper worker start {name}` starts it"), "rolling");
    }
    if let Some(rolling) = state.rolling(name) {
        let stuck =
            matches!(rolling.step, Step::Restart(replica) if is_down(&ReplicaId { name: name.clone(), replica }, view));
        if !stuck {
            return refused(format!("a rolling restart goes on already: {}", rolling.waits_for(name)), "rolling");
        }
    }
    state.counter += 1;
    let number = state.counter;
    state.upkeep.rolling.insert(name.clone(), Rolling::new(number, replicas, clean));
    let mut goals: Goals = running.into_iter().map(|id| (id, Goal::Up)).collect();
    goals.push((ReplicaId { name: name.clone(), replica: replicas }, Goal::Gone));
    Ok((Some(Awaited { name: name.clone(), number }), goals))
}

fn is_down(id: &ReplicaId, view: &View) -> bool {
    status(id, view).is_some_and(|status| matches!(status.phase, Phase::Failed | Phase::Unavailable))
}

pub(super) fn drain_hive(hive: &str, drain: bool, view: &View, state: &mut DesiredState) -> Result<bool, ApiError> {
    if !view.hives.contains_key(hive) {
        let message = format!("there is no hive `{hive}`{}", suggest(hive, view.hives.keys()));
        return Err(ApiError::new(ErrorCode::HiveNotFound, message).with_param("name"));
    }
    let drained = &mut state.upkeep.drained_hives;
    Ok(if drain { drained.insert(hive.to_owned()) } else { drained.remove(hive) })
}

pub(super) fn upgrade_hive(hive: &str, view: &View, state: &mut DesiredState) -> Result<bool, ApiError> {
    let Some(record) = view.hives.get(hive).and(state.hives.get_mut(hive)) else {
        let message = format!("there is no hive `{hive}`{}", suggest(hive, view.hives.keys()));
        return Err(ApiError::new(ErrorCode::HiveNotFound, message).with_param("name"));
    };
    state.counter += 1;
    record.generation = state.counter;
    state.upkeep.hive_upgrades.insert(hive.to_owned(), state.counter);
    Ok(true)
}

pub(super) fn load_model(model: &str, view: &View, state: &mut DesiredState) -> bool {
    let mut changed = false;
    for (name, wish) in view.wishes.iter() {
        if wish.model.as_ref().is_some_and(|serves| serves.name == model) {
            changed |= state.set_load(name, wish, Load::Loaded);
            // What it needs may be loaded on demand, too.
            changed |= state.load(name, wish) == Load::Loaded && load_needed(name, &view.wishes, state);
        }
    }
    changed
}

fn load_needed(name: &str, wishes: &Wishes, state: &mut DesiredState) -> bool {
    let needed = needed(name, wishes);
    needed
        .into_iter()
        .filter_map(|name| Some((name, wishes.get(name)?)))
        .fold(false, |changed, (name, wish)| state.set_load(name, wish, Load::Loaded) || changed)
}

pub(super) fn finished(pending: &Pending, view: &View, state: &mut DesiredState) -> bool {
    let Pending { id, then } = pending;
    let Some(wish) = view.wishes.get(&id.name).filter(|_| state.pending(id) == Some(*then)) else { return false };
    state.forget_pending(id);
    match then {
        Then::Stop => drop(state.order(id, wish, Desired::Stopped)),
        Then::Restart | Then::Clean => state.order_restart(id, *then == Then::Clean),
    }
    true
}

/// Whether a replica serves requests and would lose them if it were told to end: our own engine finishes them, others may
/// not.
pub(super) fn has_to_finish(id: &ReplicaId, wish: &Wish, view: &View) -> bool {
    let foreign = !matches!(wish.spec.engine, Engine::Llm { .. }) && wish.model.is_some();
    let home = view.desired.placement.get(id).and_then(|home| view.hives.get(home));
    // Nobody carries out an order at a silent hive: then it cuts nothing either.
    let heard = home.is_some_and(|hive| hive.lease == LeaseState::Alive);
    foreign && heard && status(id, view).is_some_and(|status| status.phase == Phase::Running)
}
