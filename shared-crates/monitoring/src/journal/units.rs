//! What a supervisor tells of its units, as events.

use daemon_lifecycle::{Happened, Phase as UnitPhase, UnitEvent};
use rbee_api::{EventKind, Phase};
use serde_json::json;

use super::NewEvent;
use crate::words::{in_our_words, quoted_in_our_words, sentence_in_our_words};

impl NewEvent {
    /// What a supervisor tells, in the words of the fleet.
    #[must_use]
    pub fn of_unit(event: UnitEvent) -> Self {
        let UnitEvent { at, unit, incarnation, what } = event;
        let new = |kind| Self { at, incarnation: Some(incarnation), ..Self::now(in_our_words(&unit), kind) };
        match what {
            Happened::Changed { from, to, cause, restarts, start_time } => {
                let (from, to) = (phase_of(from), phase_of(to));
                let mut detail = json!({ "from": from, "restarts": restarts });
                if let Some(start_time) = start_time {
                    detail["start_ms"] = json!(start_time.as_millis() as u64);
                }
                let cause = quoted_in_our_words(&cause);
                new(EventKind::of_phase(to)).with_phase(to).with_cause(cause).with_detail(detail)
            }
            Happened::Adopted => new(EventKind::Adopted).with_cause("it goes on under the new hive"),
            Happened::Cascade { dependency, cause, chain } => new(EventKind::Cascade)
                .with_cause(sentence_in_our_words(&cause, &chain))
                .with_detail(json!({ "dependency": in_our_words(&dependency) })),
            Happened::HealthFailed { cause, in_a_row, limit } => new(EventKind::HealthFailed)
                .with_cause(cause)
                .with_detail(json!({ "in_a_row": in_a_row, "limit": limit })),
            Happened::Threshold { cause, restarts } => {
                new(EventKind::Threshold).with_cause(cause).with_detail(json!({ "restarts": restarts }))
            }
        }
    }

    /// So many events came to `daemon` faster than it took them in.
    #[must_use]
    pub fn lost(daemon: &str, count: u64) -> Self {
        Self::now(daemon, EventKind::Gap)
            .with_cause(format!("{count} events came faster than they could be taken in"))
            .with_detail(json!({ "lost": count }))
    }
}

const fn phase_of(phase: UnitPhase) -> Phase {
    match phase {
        UnitPhase::Stopped => Phase::Stopped,
        UnitPhase::Starting => Phase::Starting,
        UnitPhase::Running => Phase::Running,
        UnitPhase::Stopping => Phase::Stopping,
        UnitPhase::Restarting => Phase::Restarting,
        UnitPhase::Failed => Phase::Failed,
        UnitPhase::Unavailable => Phase::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    fn told(what: Happened) -> NewEvent {
        NewEvent::of_unit(UnitEvent { at: Timestamp::UNIX_EPOCH, unit: "api.1".to_owned(), incarnation: 3, what })
    }

    /// EVNT-12
    #[test]
    fn changes_become_events_of_their_phase() {
        let change = |from, to, cause: &str, start_time| {
            told(Happened::Changed { from, to, cause: cause.to_owned(), restarts: 2, start_time })
        };
        let event = change(UnitPhase::Running, UnitPhase::Restarting, "ended with exit code 1", None);
        assert_eq!(
            (event.kind, event.phase, event.incarnation),
            (EventKind::Restarting, Some(Phase::Restarting), Some(3))
        );
        assert_eq!((event.daemon.as_str(), event.cause.as_deref()), ("api/1", Some("ended with exit code 1")));
        assert_eq!(
            (event.at, event.detail),
            (Timestamp::UNIX_EPOCH, Some(json!({ "from": "running", "restarts": 2 })))
        );
        let ready = change(UnitPhase::Starting, UnitPhase::Running, "ready", Some(Duration::from_millis(250)));
        assert_eq!(ready.detail.unwrap()["start_ms"], 250);
        let pulled = change(UnitPhase::Running, UnitPhase::Stopping, "its dependency `db.0` is not running", None);
        assert_eq!(pulled.cause.as_deref(), Some("its dependency `db/0` is not running"));
    }

    /// EVNT-12
    #[test]
    fn happenings_become_events_of_their_kind() {
        let cascade = told(Happened::Cascade {
            dependency: "db.0".to_owned(),
            cause: "api.1 restarted because its dependency db.0 restarted because it exited with code 1".to_owned(),
            chain: vec!["api.1".to_owned(), "db.0".to_owned()],
        });
        assert_eq!(cascade.kind, EventKind::Cascade);
        assert_eq!(
            cascade.cause.as_deref(),
            Some("api/1 restarted because its dependency db/0 restarted because it exited with code 1")
        );
        assert_eq!(cascade.detail, Some(json!({ "dependency": "db/0" })));
        assert_eq!(told(Happened::Adopted).kind, EventKind::Adopted);
        let ill = told(Happened::HealthFailed { cause: "unhealthy: no".to_owned(), in_a_row: 1, limit: 3 });
        assert_eq!((ill.kind, ill.detail), (EventKind::HealthFailed, Some(json!({ "in_a_row": 1, "limit": 3 }))));
        let much = told(Happened::Threshold { cause: "used much".to_owned(), restarts: false });
        assert_eq!((much.kind, much.detail), (EventKind::Threshold, Some(json!({ "restarts": false }))));
    }
}
