//! What a hive tells of its workers and of itself: as a list, as it comes, and again after its own end.

use std::time::Duration;

use rbee_api::{Event, EventFollower, EventKind, EventQuery, Phase, ReloadRequest, Since, Verb};

use crate::support::{Home, PATIENCE, Running};

const SLEEPER: &str = "[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nrestart = { backoff_min = \"10ms\" }\n";

fn from_the_start() -> EventQuery {
    EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() }
}

/// Everything that comes, up to the first event that is wanted.
async fn until(follower: &mut EventFollower, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut heard = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, follower.next()).await;
        let event = event.unwrap_or_else(|_| panic!("it never came after {heard:#?}")).unwrap();
        heard.push(event);
        if heard.last().is_some_and(&wanted) {
            return heard;
        }
    }
}

fn kinds(events: &[Event], daemon: &str) -> Vec<EventKind> {
    events.iter().filter(|event| event.is_of(daemon)).map(|event| event.kind).collect()
}

fn runs(incarnation: u64) -> impl Fn(&Event) -> bool {
    move |event| event.kind == EventKind::Running && event.incarnation == Some(incarnation)
}

async fn all(hive: &Running) -> Vec<Event> {
    hive.client.events(&from_the_start()).await.unwrap().events
}

/// EVNT-12
#[tokio::test]
async fn a_crash_a_reload_and_a_stop_are_told_as_they_come() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    let mut follower = hive.client.follow_events(from_the_start(), Duration::ZERO);
    let mut heard = until(&mut follower, runs(1)).await;
    let pid = hive.in_phase("sleeper", 0, Phase::Running).await.pid.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    heard.extend(until(&mut follower, runs(2)).await);
    assert_eq!(
        kinds(&heard, "sleeper/0"),
        [EventKind::Starting, EventKind::Running, EventKind::Restarting, EventKind::Starting, EventKind::Running,],
    );
    let crash = heard.iter().find(|event| event.kind == EventKind::Restarting).unwrap();
    assert_eq!((crash.cause.as_deref(), crash.phase), (Some("ended with signal 9"), Some(Phase::Restarting)));
    assert_eq!((crash.incarnation, &crash.hive), (Some(1), &None), "a hive that stands alone has no name to tell");

    home.configure(&format!("{SLEEPER}replicas = 2\n"));
    hive.client.reload(&ReloadRequest { wait_ms: 30_000 }).await.unwrap();
    until(&mut follower, |event| event.is_of("sleeper/1") && runs(1)(event)).await;
    let reloaded = all(&hive).await;
    let told = reloaded.iter().find(|event| event.kind == EventKind::Reloaded).unwrap();
    assert_eq!((told.daemon.as_str(), &told.detail.as_ref().unwrap()["added"][0]), ("hive", &"sleeper/1".into()));

    hive.verb("sleeper/1", Verb::Stop).await.unwrap();
    let stopped = until(&mut follower, |event| event.kind == EventKind::Stopped).await;
    assert_eq!(kinds(&stopped, "sleeper/1"), [EventKind::Stopping, EventKind::Stopped]);
    let asked = EventQuery { kinds: vec![EventKind::Stopped], daemon: Some("sleeper/1".into()), ..from_the_start() };
    assert_eq!(hive.client.events(&asked).await.unwrap().events, stopped[stopped.len() - 1..]);
    hive.stop().await;
}

/// EVNT-12, EVNT-20
#[tokio::test]
async fn the_next_hive_goes_on_with_the_journal() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    hive.in_phase("sleeper", 0, Phase::Running).await;
    hive.stop().await;
    let next = home.start().await;
    next.in_phase("sleeper", 0, Phase::Running).await;
    let told = all(&next).await;
    assert!(told.is_sorted_by(|a, b| a.id < b.id));
    let begin = [EventKind::Starting, EventKind::Running];
    assert_eq!(kinds(&told, "hive"), [&begin[..], &[EventKind::Stopping], &begin].concat());
    let life = [EventKind::Starting, EventKind::Running, EventKind::Stopping, EventKind::Stopped];
    assert_eq!(kinds(&told, "sleeper"), [&life[..], &life[..2]].concat());
    next.stop().await;
}

/// EVNT-12
#[tokio::test]
async fn what_the_hive_itself_holds_back_is_told() {
    let home = Home::new("");
    home.configure(
        "[model.m]\nsource = \"file:/nowhere/model.gguf\"\n\
         [worker.w]\ncommand = [\"sleep\", \"1000\"]\nmodel = \"m\"\nready = \"started\"\n",
    );
    let hive = home.start().await;
    let worker = hive.in_phase("w", 0, Phase::Unavailable).await;
    let told = all(&hive).await;
    let unavailable: Vec<_> = told.iter().filter(|event| event.kind == EventKind::Unavailable).collect();
    assert_eq!(unavailable.len(), 1, "{told:#?}");
    assert_eq!((unavailable[0].daemon.as_str(), &unavailable[0].cause), ("w/0", &worker.reason));
    hive.stop().await;
}

/// EVNT-26
#[tokio::test]
async fn a_stream_ends_with_the_hive() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    let mut follower = hive.client.follow_events(from_the_start(), Duration::ZERO);
    until(&mut follower, runs(1)).await;
    hive.stop().await;
    let last = async { while follower.next().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, last).await.unwrap();
}
