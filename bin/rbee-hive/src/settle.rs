//! Waiting until what was asked for is so, or has failed: success is never reported before it is seen.

use std::time::Duration;

use rbee_api::{ApiError, Desired, ErrorCode, Phase, ReplicaId, WorkerAssignment};
use tokio::sync::watch;

use crate::view::{View, WorkerView};

/// Log lines quoted in an error.
const LOG_LINES_MAX: usize = 10;

/// What is waited for.
#[derive(Debug, Clone, Default)]
pub struct Goal {
    /// The assignment's generation.
    pub generation: u64,
    /// Replicas that shall be as wanted.
    pub workers: Vec<WorkerAssignment>,
    /// Replicas that shall be no more.
    pub gone: Vec<ReplicaId>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Pending(String),
    Failed(String),
}

/// Waits until the goal is reached. At most `patience`; with none, it is looked at once.
///
/// # Errors
/// [`ErrorCode::WorkerFailed`] with reason and last log lines, [`ErrorCode::Timeout`], or
/// [`ErrorCode::ShuttingDown`].
pub async fn settled(mut views: watch::Receiver<View>, goal: &Goal, patience: Duration) -> Result<(), ApiError> {
    let reached = async {
        loop {
            let verdict = judge(&views.borrow_and_update(), goal);
            match verdict {
                Verdict::Done => return Ok(()),
                Verdict::Failed(message) => return Err(ApiError::new(ErrorCode::WorkerFailed, message)),
                Verdict::Pending(_) => {}
            }
            if views.borrow().stopping || views.changed().await.is_err() {
                return Err(ApiError::new(ErrorCode::ShuttingDown, "this hive is stopping"));
            }
        }
    };
    if let Ok(result) = tokio::time::timeout(patience, reached).await {
        return result;
    }
    match judge(&views.borrow(), goal) {
        Verdict::Done => Ok(()),
        Verdict::Failed(message) => Err(ApiError::new(ErrorCode::WorkerFailed, message)),
        Verdict::Pending(state) => {
            let message =
                format!("not settled within {} s: {state}; what was asked for goes on", patience.as_secs_f64());
            Err(ApiError::new(ErrorCode::Timeout, message))
        }
    }
}

fn judge(view: &View, goal: &Goal) -> Verdict {
    if view.generation < goal.generation {
        return Verdict::Pending("the order is not carried out yet".to_owned());
    }
    let workers = goal.workers.iter().map(|wanted| judge_worker(view.get(&wanted.id), wanted));
    let gone = goal.gone.iter().filter_map(|id| view.get(id)).map(|left| Verdict::Pending(describe(left)));
    let mut verdict = Verdict::Done;
    for next in workers.chain(gone) {
        match next {
            Verdict::Failed(message) => return Verdict::Failed(message),
            Verdict::Pending(state) => verdict = Verdict::Pending(state),
            Verdict::Done => {}
        }
    }
    verdict
}

fn judge_worker(seen: Option<&WorkerView>, wanted: &WorkerAssignment) -> Verdict {
    let Some(seen) = seen else { return Verdict::Pending(format!("{} is not known yet", wanted.id)) };
    if wanted.desired != Desired::Running {
        return if seen.status.phase == Phase::Stopped { Verdict::Done } else { Verdict::Pending(describe(seen)) };
    }
    let is_told = seen.status.restart_generation >= wanted.restart_generation;
    match seen.status.phase {
        _ if seen.blocked => Verdict::Failed(describe(seen)),
        Phase::Running if is_told && !seen.status.behind => Verdict::Done,
        // It ended by itself, and its policy leaves it so.
        Phase::Failed | Phase::Unavailable | Phase::Stopped if is_told => Verdict::Failed(describe(seen)),
        _ => Verdict::Pending(describe(seen)),
    }
}

/// `w/0 is failed: reason`, and what it wrote last.
fn describe(worker: &WorkerView) -> String {
    let status = &worker.status;
    let mut text = format!("{} is {}", worker.id(), status.phase);
    if let Some(reason) = &status.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    let lines = &status.last_log_lines;
    if !lines.is_empty() {
        text.push_str("; its last log lines:\n");
        text.push_str(&lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reconcile::tests::worker;
    use crate::view::tests::status;

    fn view(phase: Phase, edit: impl Fn(&mut WorkerView)) -> View {
        let mut seen = WorkerView {
            status: status(None),
            started_at: None,
            blocked: false,
            desired: None,
            payload: None,
            thresholds: None,
        };
        seen.status.phase = phase;
        edit(&mut seen);
        View { generation: 2, workers: Arc::new(vec![seen]), ..View::default() }
    }

    fn goal(desired: Desired) -> Goal {
        Goal { generation: 2, workers: vec![worker("w", 0, desired)], gone: Vec::new() }
    }

    #[test]
    fn only_what_is_seen_counts() {
        let word = |view: &View, goal: &Goal| match judge(view, goal) {
            Verdict::Done => "done",
            Verdict::Pending(_) => "pending",
            Verdict::Failed(_) => "failed",
        };
        for (phase, running, stopped) in [
            (Phase::Running, "done", "pending"),
            (Phase::Starting, "pending", "pending"),
            (Phase::Restarting, "pending", "pending"),
            (Phase::Stopping, "pending", "pending"),
            (Phase::Failed, "failed", "pending"),
            (Phase::Unavailable, "failed", "pending"),
            (Phase::Stopped, "failed", "done"),
        ] {
            let view = view(phase, |_| {});
            let words = (word(&view, &goal(Desired::Running)), word(&view, &goal(Desired::Stopped)));
            assert_eq!(words, (running, stopped), "{phase}");
        }
        let mut later = goal(Desired::Running);
        later.generation = 3;
        assert_eq!(word(&view(Phase::Running, |_| {}), &later), "pending", "an older generation proves nothing");
        let mut restart = goal(Desired::Running);
        restart.workers[0].restart_generation = 1;
        assert_eq!(word(&view(Phase::Running, |_| {}), &restart), "pending", "that is the run before");
        assert_eq!(word(&view(Phase::Running, |seen| seen.blocked = true), &goal(Desired::Running)), "failed");
        let gone = Goal { gone: vec![worker("w", 0, Desired::Running).id], ..Goal::default() };
        assert_eq!(word(&view(Phase::Stopping, |_| {}), &gone), "pending");
        assert_eq!(word(&View::default(), &gone), "done");
    }

    #[tokio::test]
    async fn a_failure_tells_reason_and_last_lines_and_time_runs_out() {
        let failed = view(Phase::Failed, |seen| {
            seen.status.reason = Some("ended with exit code 3".into());
            seen.status.last_log_lines = (0..40).map(|line| format!("line {line}")).collect();
        });
        let (_keep, views) = watch::channel(failed);
        let error = settled(views, &goal(Desired::Running), Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkerFailed);
        assert!(error.message.starts_with("w/0 is failed: ended with exit code 3"), "{error}");
        assert!(error.message.ends_with("line 38\nline 39") && !error.message.contains("line 29"), "{error}");

        let (_keep, views) = watch::channel(view(Phase::Starting, |_| {}));
        let error = settled(views, &goal(Desired::Running), Duration::ZERO).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Timeout);
        assert!(error.message.contains("w/0 is starting"), "{error}");
    }

    #[tokio::test]
    async fn it_waits_for_the_change() {
        let (sender, views) = watch::channel(view(Phase::Starting, |_| {}));
        let waiting =
            tokio::spawn(async move { settled(views, &goal(Desired::Running), Duration::from_secs(60)).await });
        sender.send_replace(view(Phase::Running, |_| {}));
        waiting.await.unwrap().unwrap();
    }
}
