//! What a supervisor tells those who listen.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon_lifecycle::{
    Excess, Happened, HealthProbe, Heard, Phase, Probe, Resource, StopMode, Supervisor, UnitEvent, UnitEvents, UnitName,
};

use crate::scene::{Scene, kill9};
use crate::supervisor::{open, open_with, started, unit, until};

/// Everything there is to hear until the supervisor is closed.
async fn all(mut events: UnitEvents) -> Vec<UnitEvent> {
    let mut heard = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Heard::Event(event) => heard.push(event),
            Heard::Lost { count } => panic!("{count} events were lost"),
        }
    }
    heard
}

/// The events as somebody would note them down.
fn lines(events: &[UnitEvent]) -> Vec<String> {
    let line = |event: &UnitEvent| {
        let UnitEvent { unit, incarnation, what, .. } = event;
        match what {
            Happened::Changed { from, to, cause, .. } => format!("{unit}#{incarnation} {from} > {to}: {cause}"),
            Happened::Adopted => format!("{unit}#{incarnation} adopted"),
            Happened::Cascade { dependency, cause, .. } => format!("{unit}#{incarnation} with {dependency}: {cause}"),
            Happened::HealthFailed { cause, in_a_row, limit } => {
                format!("{unit}#{incarnation} ill {in_a_row}/{limit}: {cause}")
            }
            Happened::Threshold { cause, restarts } => format!("{unit}#{incarnation} over {restarts}: {cause}"),
        }
    };
    events.iter().map(line).collect()
}

/// Who only listened knows how each unit is, and nothing is told twice or out of order.
fn assert_whole(events: &[UnitEvent]) -> BTreeMap<String, Phase> {
    let mut phases = BTreeMap::new();
    for UnitEvent { unit, what, .. } in events {
        if let Happened::Changed { from, to, .. } = what {
            let before = phases.insert(unit.clone(), *to).unwrap_or(Phase::Stopped);
            assert_eq!(before, *from, "{unit}: {:#?}", lines(events));
        }
    }
    assert!(events.is_sorted_by_key(|event| event.at), "{events:#?}");
    phases
}

async fn closed(supervisor: Supervisor) {
    supervisor.shutdown(StopMode::Graceful).await.unwrap();
}

/// EVNT-10
#[tokio::test]
async fn a_life_is_told_from_its_start_to_its_end_with_its_causes() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let events = supervisor.events().await.unwrap();
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    let first = started(&supervisor, "a").await;
    kill9(first.pid.unwrap());
    until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    supervisor.settled("a").await.unwrap();
    closed(supervisor).await;
    let heard = all(events).await;
    assert_eq!(
        lines(&heard),
        [
            "a#1 stopped > starting: asked for",
            "a#1 starting > running: ready",
            "a#1 running > restarting: ended with signal 9",
            "a#2 restarting > starting: back-off over",
            "a#2 starting > running: ready",
            "a#2 running > stopping: asked for",
            "a#2 stopping > stopped: stopped with exit code 0",
        ]
    );
    assert_eq!(assert_whole(&heard)["a"], Phase::Stopped);
    let took = |event: &UnitEvent| matches!(event.what, Happened::Changed { start_time: Some(_), .. });
    assert_eq!(heard.iter().filter(|event| took(event)).count(), 2, "how long each start took: {heard:#?}");
}

/// EVNT-04, EVNT-10
#[tokio::test]
async fn a_cascade_is_told_with_the_whole_story() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let events = supervisor.events().await.unwrap();
    let mut api = unit("api", &[]);
    api.policy.depends_on = vec![UnitName::new("db")];
    supervisor.apply(vec![unit("db", &[]), api]).await.unwrap();
    started(&supervisor, "api").await;
    kill9(supervisor.snapshot()["db"].pid.unwrap());
    until(&supervisor, "api", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    closed(supervisor).await;
    let heard = all(events).await;
    let pulled = "api#1 with db: api restarted because its dependency db restarted because signal 9 ended it";
    assert!(lines(&heard).contains(&pulled.to_owned()), "{:#?}", lines(&heard));
    assert_eq!(assert_whole(&heard).values().copied().collect::<Vec<_>>(), [Phase::Stopped; 2]);
}

/// EVNT-01, EVNT-10
#[tokio::test]
async fn the_next_supervisor_tells_what_it_took_over() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let events = supervisor.events().await.unwrap();
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    started(&supervisor, "a").await;
    supervisor.detach().await.unwrap();
    assert_eq!(assert_whole(&all(events).await)["a"], Phase::Running, "nothing is told that did not happen");
    let next = open(&scene).await;
    let events = next.events().await.unwrap();
    next.apply(vec![unit("a", &[])]).await.unwrap();
    closed(next).await;
    let heard = all(events).await;
    assert_eq!(lines(&heard)[..2], ["a#1 adopted", "a#1 stopped > running: taken over from an earlier supervisor"]);
    assert_whole(&heard);
}

/// EVNT-02, EVNT-10
#[tokio::test]
async fn each_failed_probe_is_told() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut sick = unit("a", &[]);
    let probe = Probe::Exec { command: vec!["false".to_owned()] };
    let times = (Duration::from_millis(10), Duration::from_secs(30));
    sick.health = Some(HealthProbe { probe, interval: times.0, timeout: times.1 });
    sick.policy.health_failures_max = 2;
    let events = supervisor.events().await.unwrap();
    supervisor.apply(vec![sick]).await.unwrap();
    started(&supervisor, "a").await;
    until(&supervisor, "a", |unit| unit.incarnation >= 2).await;
    closed(supervisor).await;
    let heard = all(events).await;
    assert_whole(&heard);
    let lines = lines(&heard);
    let at = |word: &str| lines.iter().position(|line| line.starts_with(word)).unwrap_or_else(|| panic!("{lines:#?}"));
    let order = [at("a#1 ill 1/2: unhealthy"), at("a#1 ill 2/2: unhealthy"), at("a#1 running > stopping: unhealthy")];
    assert!(order.is_sorted(), "{lines:#?}");
}

/// EVNT-03, EVNT-10
#[tokio::test]
async fn a_threshold_is_told_and_restarts_where_it_shall() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let events = supervisor.events().await.unwrap();
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    started(&supervisor, "a").await;
    let excess = Excess { resource: Resource::OpenFiles, used: 70, limit: 64, for_ms: 0 };
    supervisor.over_threshold("a", 1, excess, false).await.unwrap();
    supervisor.over_threshold("a", 1, excess, true).await.unwrap();
    until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    supervisor.over_threshold("a", 1, excess, true).await.unwrap();
    closed(supervisor).await;
    let heard = lines(&all(events).await);
    let over: Vec<_> = heard.iter().filter(|line| line.contains("70 files")).collect();
    assert_eq!(
        over,
        [
            "a#1 over false: had 70 files open, more than 64",
            "a#1 over true: had 70 files open, more than 64",
            "a#1 running > stopping: had 70 files open, more than 64",
            "a#1 stopping > restarting: had 70 files open, more than 64",
        ]
    );
}

/// EVNT-11
#[tokio::test]
async fn who_listens_too_slowly_hears_how_much_was_lost_and_where() {
    let scene = Scene::new();
    let supervisor = open_with(&scene, |config| config.bounds.events_max = 4).await;
    let mut slow = supervisor.events().await.unwrap();
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    started(&supervisor, "a").await;
    for _ in 0..2 {
        supervisor.restart("a").await.unwrap();
        supervisor.settled("a").await.unwrap();
    }
    // Two changes of the start, three of each restart.
    let mut told = Vec::new();
    for _ in 0..4 {
        match slow.next().await.unwrap() {
            Heard::Event(event) => told.push(event),
            lost => panic!("{lost:?} after {told:?}"),
        }
    }
    assert_eq!(slow.next().await, Some(Heard::Lost { count: 4 }));
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    supervisor.settled("a").await.unwrap();
    closed(supervisor).await;
    let rest = all(slow).await;
    assert_eq!(
        lines(&rest),
        ["a#3 running > stopping: asked for", "a#3 stopping > stopped: stopped with exit code 0"],
        "and then it goes on"
    );
}

/// EVNT-11
#[tokio::test]
async fn listeners_are_counted_and_the_gone_forgotten() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut listeners = Vec::new();
    while let Ok(events) = supervisor.events().await {
        listeners.push(events);
    }
    assert_eq!(listeners.len(), 16);
    listeners.pop();
    assert!(supervisor.events().await.is_ok());
    closed(supervisor).await;
}
