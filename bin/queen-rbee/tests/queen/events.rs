//! What queen tells of the fleet, and what hives tell her: taken once, acknowledged, kept over her death.

use std::time::Duration;

use rbee_api::{Event, EventKind, EventQuery, Heartbeat, Phase, ReloadRequest, Since};

use crate::harness::{ONE_WORKER, TOKEN, TestQueen, within};

fn told_by_hive(id: u64) -> Event {
    Event {
        id,
        at: jiff::Timestamp::now(),
        hive: Some("whatever it says".into()),
        daemon: "w/0".into(),
        kind: EventKind::Running,
        incarnation: Some(id),
        phase: Some(Phase::Running),
        cause: Some("ready".into()),
        detail: None,
    }
}

fn heartbeat(machine_id: &str, events: Vec<Event>) -> Heartbeat {
    Heartbeat {
        machine_id: machine_id.into(),
        url: "http://127.0.0.1:1".into(),
        pid: 1,
        version: "0.1.0".into(),
        uptime_s: 1.0,
        labels: Default::default(),
        cores: 1,
        memory_bytes: 1,
        fleet_id: None,
        generation: 0,
        stopping: false,
        usage: None,
        history_trouble: None,
        workers: Vec::new(),
        upgrade: None,
        events,
    }
}

async fn all(queen: &TestQueen) -> Vec<Event> {
    let query = EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() };
    queen.control.events(&query).await.unwrap().events
}

/// Numbers of the events that hives have told, with the hive's name.
fn of_workers(events: &[Event]) -> Vec<(String, u64)> {
    let of_workers = events.iter().filter(|event| event.daemon == "w/0");
    of_workers.map(|event| (event.hive.clone().unwrap(), event.incarnation.unwrap())).collect()
}

/// EVNT-30
#[tokio::test]
async fn a_hives_events_are_taken_once_and_acknowledged_also_by_the_next_queen() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let beat = async |queen: &TestQueen, ids: &[u64]| {
        let events = ids.iter().copied().map(told_by_hive).collect();
        within(queen.control.heartbeat("h", &heartbeat("m", events))).await.unwrap().events_known
    };
    assert_eq!(beat(&queen, &[]).await, Some(0), "she knows nothing of it");
    assert_eq!(beat(&queen, &[1, 2]).await, Some(2));
    assert_eq!(beat(&queen, &[1, 2, 3]).await, Some(3), "the answer before was lost");
    queen.crash().await;
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    assert_eq!(beat(&queen, &[]).await, Some(3), "what was acknowledged is there after a crash");
    assert_eq!(beat(&queen, &[2, 3, 4]).await, Some(4));
    let told = all(&queen).await;
    assert_eq!(of_workers(&told), [1, 2, 3, 4].map(|id| ("h".to_owned(), id)));
    assert!(told.is_sorted_by(|a, b| a.id < b.id), "under ids of her own");
    queen.stop().await;
}

/// EVNT-30
#[tokio::test]
async fn who_is_not_who_it_says_tells_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    within(queen.control.heartbeat("h", &heartbeat("m", vec![told_by_hive(5)]))).await.unwrap();
    let other = within(queen.control.heartbeat("h", &heartbeat("other", vec![told_by_hive(9)]))).await;
    assert!(other.is_err());
    assert_eq!(of_workers(&all(&queen).await), [("h".to_owned(), 5)]);
    queen.stop().await;
}

/// EVNT-13
#[tokio::test]
async fn queen_tells_of_herself_and_of_leases() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "lease_ttl = \"200ms\"", ONE_WORKER).await;
    let query = EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() };
    let mut follower = queen.control.follow_events(query, Duration::ZERO);
    within(queen.control.heartbeat("h", &heartbeat("m", Vec::new()))).await.unwrap();
    let mut heard = Vec::new();
    while heard.iter().filter(|line: &&String| line.contains("lost")).count() == 0 {
        let event = within(follower.next()).await.unwrap();
        let lease = event.detail.as_ref().and_then(|detail| detail["lease"].as_str().map(str::to_owned));
        heard.push(format!("{} {} {}", event.daemon, event.kind, lease.unwrap_or_default()).trim().to_owned());
    }
    let begin = ["queen starting", "queen running", "hive lease joined"];
    assert_eq!(heard[..3], begin);
    // A machine that is busy enough sees it late, and at once as lost.
    let (late, lost) = (["hive lease suspect", "hive unavailable"], "hive lease lost");
    let ends = [vec![late[0], late[1], lost], vec![lost, late[1]]];
    assert!(ends.iter().any(|end| heard[3..].iter().eq(end) || heard[3..] == end[..1]), "{heard:#?}");
    queen.stop().await;
}

/// EVNT-13
#[tokio::test]
async fn a_reload_is_told_and_events_need_the_token() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("rbee.toml"), ONE_WORKER).unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    queen.control.reload(&ReloadRequest { wait_ms: 0 }).await.unwrap();
    let told = all(&queen).await;
    assert!(told.iter().any(|event| event.kind == EventKind::Reloaded && event.daemon == "queen"), "{told:#?}");
    let url = format!("{}/api/v1/events", queen.url);
    assert_eq!(queen.http.get(&url).send().await.unwrap().status(), 401);
    let nonsense = queen.http.get(format!("{url}?kind=x")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(nonsense.status(), 400);
    queen.stop().await;
}
