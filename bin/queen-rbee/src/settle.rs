//! Whether what was ordered has come about. Pure: success is only what a live hive has reported after it heard
//! of the order.

use rbee_api::{ApiError, Desired, ErrorCode, Phase, ReplicaId, WorkerStatus};

use crate::desired::Then;
use crate::fleet::{HiveView, View};
use crate::lease::LeaseState;
use crate::orders::{Awaited, Goal, Ordered, Target};
use crate::rolling::Step;

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Everything is as ordered.
    Done,
    /// Not yet.
    Waiting {
        /// For what, for people.
        why: String,
    },
    /// It will not come about.
    Failed(ApiError),
}

/// How far an order is, by what is known now.
#[must_use]
pub fn progress(ordered: &Ordered, view: &View) -> Progress {
    let mut waiting = match ordered.rolling.as_ref().map(|awaited| of_rolling(awaited, view)) {
        None | Some(Progress::Done) => None,
        Some(Progress::Waiting { why }) => Some(why),
        Some(failed @ Progress::Failed(_)) => return failed,
    };
    for target in &ordered.targets {
        match of_target(target, ordered.since, view) {
            Progress::Done => {}
            Progress::Waiting { why } => drop(waiting.get_or_insert(why)),
            failed @ Progress::Failed(_) => return failed,
        }
    }
    waiting.map_or(Progress::Done, |why| Progress::Waiting { why })
}

fn of_rolling(awaited: &Awaited, view: &View) -> Progress {
    let name = &awaited.name;
    let rolling = view.desired.upkeep.rolling.get(name).filter(|rolling| rolling.number == awaited.number);
    let Some(rolling) = rolling else {
        let message = format!("the rolling restart of {name} was overtaken by a later order");
        return Progress::Failed(ApiError::new(ErrorCode::Conflict, message));
    };
    let status = |replica| {
        let id = ReplicaId { name: name.clone(), replica };
        view.hives.get(view.desired.placement.get(&id)?)?.worker(&id)
    };
    match &rolling.step {
        Step::Ended { why: None } => Progress::Done,
        Step::Ended { why: Some(why) } => {
            let message = format!("the rolling restart of {name} was called off: {why}");
            Progress::Failed(ApiError::new(ErrorCode::WorkerFailed, message))
        }
        Step::Restart(replica) => match status(*replica) {
            Some(status) if matches!(status.phase, Phase::Failed | Phase::Unavailable) => {
                let reason = status.reason.as_deref().unwrap_or("it gave no reason");
                let message = format!(
                    "worker {name}/{replica} is {}: {reason}; {name}/{} goes on in its place, the others are as they were, \
                     and the restart goes on when it is up{}",
                    status.phase,
                    rolling.replicas,
                    log_lines(status)
                );
                Progress::Failed(ApiError::new(ErrorCode::WorkerFailed, message))
            }
            _ => waiting(rolling.waits_for(name)),
        },
        _ => waiting(rolling.waits_for(name)),
    }
}

fn of_target(target: &Target, since: u64, view: &View) -> Progress {
    if target.goal == Goal::AsItIs {
        return Progress::Done;
    }
    if let Some(superseded) = superseded(target, view) {
        return Progress::Failed(superseded);
    }
    // Where it is now; what is gone is looked for where it was.
    let reports = || view.hives.iter().find(|(_, hive)| hive.worker(&target.id).is_some()).map(|(name, _)| name);
    let home = view.desired.placement.get(&target.id).or(target.hive.as_ref()).or_else(reports);
    let Some(home) = home else {
        return match target.goal {
            Goal::Up => waiting(format!("no hive is there to run {}", target.id)),
            Goal::Down | Goal::Gone | Goal::AsItIs => Progress::Done,
        };
    };
    let Some(hive) = view.hives.get(home).filter(|hive| hive.lease == LeaseState::Alive) else {
        return waiting(format!("hive {home} of {} has not been heard of", target.id));
    };
    if !has_heard(home, hive, since, view) {
        return waiting(format!("hive {home} has not taken up the order for {}", target.id));
    }
    let status = hive.worker(&target.id);
    match (target.goal, status) {
        (Goal::Up, Some(status)) => up(target, status, view),
        (Goal::Up, None) => waiting(format!("hive {home} has not begun with {}", target.id)),
        (Goal::Down | Goal::Gone | Goal::AsItIs, None) | (Goal::AsItIs, Some(_)) => Progress::Done,
        (Goal::Down, Some(status)) if is_down(status.phase) => Progress::Done,
        (Goal::Down | Goal::Gone, Some(status)) => waiting(format!("{} is {}", target.id, status.phase)),
    }
}

/// Whether the hive's newest word comes after the order.
fn has_heard(name: &str, hive: &HiveView, since: u64, view: &View) -> bool {
    let Some(heartbeat) = &hive.heartbeat else { return false };
    // Where the order changed nothing for this hive, its generation did not rise: then the newest there is will do.
    let newest = view.desired.hives.get(name).map_or(0, |record| record.generation);
    heartbeat.fleet_id.as_deref() == Some(&view.desired.fleet_id) && heartbeat.generation >= since.min(newest)
}

fn up(target: &Target, status: &WorkerStatus, view: &View) -> Progress {
    let ordered = view.desired.orders.get(&target.id).map_or(0, |orders| orders.restart_generation);
    match status.phase {
        _ if view.desired.pending(&target.id).is_some() => {
            waiting(format!("{} finishes what it has in flight", target.id))
        }
        _ if status.restart_generation < ordered => waiting(format!("{} is about to be restarted", target.id)),
        Phase::Running if target.not_incarnation == Some(status.incarnation) => {
            waiting(format!("{} is about to be restarted", target.id))
        }
        Phase::Running if status.behind => {
            let reason = status.reason.as_deref().unwrap_or("its model is checked");
            waiting(format!("{} runs as it was told before: {reason}", target.id))
        }
        Phase::Running => Progress::Done,
        Phase::Failed | Phase::Unavailable => Progress::Failed(failure(target, status)),
        phase => {
            let why = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            waiting(format!("{} is {phase}{why}{}", target.id, log_lines(status)))
        }
    }
}

const fn is_down(phase: Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Failed | Phase::Unavailable | Phase::Stale)
}

/// Somebody else has ordered otherwise since.
fn superseded(target: &Target, view: &View) -> Option<ApiError> {
    let wish = view.wishes.get(&target.id.name)?;
    let exists = target.id.replica < view.desired.replicas(&target.id.name, wish);
    let runs = exists
        && view.desired.desired(&target.id, wish) == Desired::Running
        && view.desired.pending(&target.id) != Some(Then::Stop);
    let as_ordered = match target.goal {
        Goal::Up => runs,
        Goal::Down => !runs,
        // A rolling restart has its replica more for as long as it goes on.
        Goal::Gone => !exists,
        Goal::AsItIs => true,
    };
    let message = format!("a later order about {} says otherwise", target.id);
    (!as_ordered).then(|| ApiError::new(ErrorCode::Conflict, message))
}

fn failure(target: &Target, status: &WorkerStatus) -> ApiError {
    let reason = status.reason.as_deref().unwrap_or("it gave no reason");
    let message = format!("worker {} is {}: {reason}{}", target.id, status.phase, log_lines(status));
    ApiError::new(ErrorCode::WorkerFailed, message)
}

fn log_lines(status: &WorkerStatus) -> String {
    if status.last_log_lines.is_empty() {
        return String::new();
    }
    format!("\nits last log lines:\n  {}", status.last_log_lines.join("\n  "))
}

fn waiting(why: String) -> Progress {
    Progress::Waiting { why }
}
