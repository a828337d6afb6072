//! What the supervisor says, in the words of the fleet.

use daemon_lifecycle::Phase as UnitPhase;
use jiff::Timestamp;

use super::*;

fn told(what: Happened) -> NewEvent {
    of_unit(UnitEvent { at: Timestamp::UNIX_EPOCH, unit: "api.1".to_owned(), incarnation: 3, what })
}

/// EVNT-12
#[test]
fn changes_become_events_of_their_phase() {
    let change = |from, to, cause: &str, start_time| {
        told(Happened::Changed { from, to, cause: cause.to_owned(), restarts: 2, start_time })
    };
    let event = change(UnitPhase::Running, UnitPhase::Restarting, "ended with exit code 1", None);
    assert_eq!((event.kind, event.phase, event.incarnation), (EventKind::Restarting, Some(Phase::Restarting), Some(3)));
    assert_eq!((event.daemon.as_str(), event.cause.as_deref()), ("api/1", Some("ended with exit code 1")));
    assert_eq!((event.at, event.detail), (Timestamp::UNIX_EPOCH, Some(json!({ "from": "running", "restarts": 2 }))));
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
