//! Nothing lost, nothing twice: over crashes, full and broken files, clocks that were set back.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use rbee_api::{Event, EventKind, EventQuery, Since};
use rbee_runtime::shutdown::Shutdown;
use rusqlite::Connection;

use super::{EventParams, Journal, NewEvent, answer_events};
use crate::{Bounds, History};

struct Scene {
    dir: tempfile::TempDir,
    bounds: Bounds,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), bounds: Bounds::default() }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("hive.sqlite")
    }

    async fn open(&self) -> Journal {
        let opened = History::open(&self.file(), &self.bounds);
        Journal::open(opened.history, "hive", &self.bounds).await
    }
}

fn ready(nth: u64) -> NewEvent {
    NewEvent { incarnation: Some(nth), ..NewEvent::now("api/0", EventKind::Running) }
}

async fn record(journal: &Journal, from: u64, to: u64) {
    (from..=to).for_each(|nth| journal.record(ready(nth)));
    journal.settled().await;
}

/// Which of the numbered events these are; gaps are 0.
fn numbers(events: &[Event]) -> Vec<u64> {
    assert!(events.is_sorted_by(|a, b| a.id < b.id), "ids grow: {events:#?}");
    events.iter().map(|event| event.incarnation.unwrap_or(0)).collect()
}

async fn after(journal: &Journal, id: u64) -> Vec<Event> {
    journal.list(&EventQuery { since: Some(Since::Id(id)), limit: Some(10_000), ..EventQuery::default() }).await.events
}

async fn all(journal: &Journal) -> Vec<u64> {
    numbers(&after(journal, 0).await)
}

fn rows(file: &Path) -> i64 {
    Connection::open(file).unwrap().query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap()
}

/// EVNT-20
#[tokio::test]
async fn a_follower_goes_on_after_a_crash_without_a_gap_and_without_anything_twice() {
    let scene = Scene::new();
    let first = scene.open().await;
    record(&first, 1, 600).await;
    let mut follower =
        first.follow(EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() }, None).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..400 {
        seen.push((*follower.next().await.unwrap()).clone());
    }
    // Not closed: what was published is in the file.
    let next = scene.open().await;
    record(&next, 601, 700).await;
    let last = seen.last().map(|event| event.id);
    let mut follower = next.follow(EventQuery::default(), last).await.unwrap();
    for _ in 0..300 {
        seen.push((*follower.next().await.unwrap()).clone());
    }
    assert_eq!(numbers(&seen), (1..=700).collect::<Vec<_>>());
    next.record(ready(701));
    assert_eq!(follower.next().await.unwrap().incarnation, Some(701), "and hears what comes");
}

/// EVNT-21
#[tokio::test]
async fn ids_grow_where_the_clock_was_set_back() {
    let scene = Scene::new();
    let journal = scene.open().await;
    record(&journal, 1, 1).await;
    journal.close().await;
    journal.history().close().await.unwrap();
    let ahead = u64::try_from(Timestamp::now().as_microsecond()).unwrap() + 3_600_000_000;
    let file = Connection::open(scene.file()).unwrap();
    file.execute("UPDATE event SET id = ?1", [i64::try_from(ahead).unwrap()]).unwrap();
    drop(file);
    let journal = scene.open().await;
    record(&journal, 2, 3).await;
    let events = after(&journal, ahead).await;
    assert_eq!(numbers(&events), [2, 3]);
    assert_eq!((events[0].id, events[1].id), (ahead + 1, ahead + 2));
    assert!(events[1].id < 1 << 53);
}

/// EVNT-21
#[tokio::test]
async fn an_id_of_a_journal_that_is_gone_is_answered_with_a_gap() {
    let scene = Scene::new();
    let journal = scene.open().await;
    record(&journal, 1, 2).await;
    let ahead = *journal.published().borrow() + 1_000_000_000;
    let mut follower = journal.follow(EventQuery::default(), Some(ahead)).await.unwrap();
    let gap = follower.next().await.unwrap();
    assert_eq!((gap.kind, gap.id), (EventKind::Gap, *journal.published().borrow()));
    journal.record(ready(3));
    assert_eq!(follower.next().await.unwrap().incarnation, Some(3));
}

/// EVNT-22
#[tokio::test]
async fn the_oldest_go_above_the_bound_and_who_asks_for_them_hears_of_a_gap() {
    let mut scene = Scene::new();
    scene.bounds.events_max = 300;
    let journal = scene.open().await;
    record(&journal, 1, 10).await;
    let early = after(&journal, 0).await;
    for from in (11..2_000).step_by(100) {
        record(&journal, from, from + 99).await;
    }
    assert!((200..=300).contains(&rows(&scene.file())), "{}", rows(&scene.file()));
    let kept = after(&journal, early[4].id).await;
    assert_eq!(kept[0].kind, EventKind::Gap);
    assert_eq!(kept[0].detail.as_ref().unwrap()["after"], early[4].id);
    let seen = numbers(&kept[1..]);
    assert_eq!(seen, (seen[0]..=2_010).collect::<Vec<_>>());
    let again = after(&journal, kept[0].id).await;
    assert_eq!(numbers(&again), seen, "who goes on from the gap misses no more");
    assert_eq!(all(&journal).await, seen, "who asks for all there is gets that");
}

/// EVNT-22
#[tokio::test]
async fn a_small_file_gives_up_old_events_before_it_grows() {
    let mut scene = Scene::new();
    scene.bounds.bytes_max = 2 << 20;
    scene.bounds.events_max = 1_000_000;
    let journal = scene.open().await;
    let before = *journal.published().borrow();
    for _ in 0..40 {
        for nth in 1..=100 {
            journal.record(ready(nth).with_cause("x".repeat(900)));
        }
        journal.settled().await;
    }
    assert_eq!(journal.history().trouble(), None);
    assert!(std::fs::metadata(scene.file()).unwrap().len() <= 2 << 20);
    assert!(before == 0 && all(&journal).await.len() < 4_000);
    assert_eq!(journal.list(&EventQuery { limit: Some(3), ..EventQuery::default() }).await.events.len(), 3);
}

/// EVNT-23
#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_what_it_had_is_said_to_be_missing() {
    let scene = Scene::new();
    let journal = scene.open().await;
    record(&journal, 1, 5).await;
    let second = after(&journal, 0).await[1].id;
    journal.close().await;
    journal.history().close().await.unwrap();
    std::fs::write(scene.file(), "this is no database, but a long enough text to look at".repeat(100)).unwrap();
    let opened = History::open(&scene.file(), &scene.bounds);
    assert!(opened.set_aside.unwrap().exists());
    let journal = Journal::open(opened.history, "hive", &scene.bounds).await;
    record(&journal, 6, 7).await;
    let events = after(&journal, second).await;
    assert_eq!((events[0].kind, numbers(&events[1..])), (EventKind::Gap, vec![6, 7]));
    assert_eq!(all(&journal).await, [6, 7]);
    assert_eq!(journal.history().trouble(), None);
}

/// EVNT-24
#[tokio::test]
async fn a_locked_file_stops_nothing_and_gets_its_events_later() {
    let scene = Scene::new();
    let journal = scene.open().await;
    record(&journal, 1, 2).await;
    let other = Connection::open(scene.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut follower = journal.follow(EventQuery::default(), None).await.unwrap();
    record(&journal, 3, 4).await;
    assert_eq!(follower.next().await.unwrap().incarnation, Some(3), "seen all the same");
    assert_eq!(follower.next().await.unwrap().incarnation, Some(4));
    assert!(journal.history().trouble().is_some_and(|trouble| trouble.contains("locked")));
    assert_eq!(rows(&scene.file()), 2);
    other.execute_batch("COMMIT").unwrap();
    record(&journal, 5, 5).await;
    assert_eq!((journal.history().trouble(), rows(&scene.file())), (None, 5));
    assert_eq!(all(&scene.open().await).await, [1, 2, 3, 4, 5]);
}

/// EVNT-24
#[tokio::test]
async fn what_waits_too_long_in_memory_becomes_a_gap_that_says_how_much() {
    let mut scene = Scene::new();
    scene.bounds.writes_waiting_max = 4;
    let journal = scene.open().await;
    record(&journal, 1, 1).await;
    let other = Connection::open(scene.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    record(&journal, 2, 10).await;
    other.execute_batch("COMMIT").unwrap();
    record(&journal, 11, 11).await;
    let events = after(&journal, 0).await;
    let gap = events.iter().find(|event| event.kind == EventKind::Gap).unwrap();
    let lost = gap.detail.as_ref().unwrap()["lost"].as_u64().unwrap();
    let told = numbers(&events);
    assert_eq!(told[..2], [1, 0], "{events:#?}");
    assert_eq!(told[2..], (2 + lost..=11).collect::<Vec<_>>(), "nothing else is missing");
}

/// EVNT-30
#[tokio::test]
async fn what_a_hive_sends_again_is_taken_once_also_by_the_next_queen() {
    let (hive, queen) = (Scene::new(), Scene::new());
    let source = hive.open().await;
    record(&source, 1, 5).await;
    let first = queen.open().await;
    let batch = source.copy_after(first.known_of("a"), 3).await;
    assert_eq!(numbers(&batch), [1, 2, 3]);
    first.take_in("a", batch.clone());
    first.take_in("a", batch.clone());
    first.settled().await;
    assert_eq!(first.known_of("a"), batch[2].id);
    let next = queen.open().await;
    assert_eq!(next.known_of("a"), batch[2].id, "it survives a crash");
    next.take_in("a", batch);
    next.take_in("a", source.copy_after(next.known_of("a"), 100).await);
    next.take_in("b", source.copy_after(0, 1).await);
    next.settled().await;
    let events = after(&next, 0).await;
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5, 1]);
    assert_eq!(events.iter().filter_map(|event| event.hive.as_deref()).collect::<String>(), "aaaaab");
}

/// EVNT-32
#[tokio::test]
async fn a_journal_left_to_another_goes_on_from_what_that_wrote() {
    let scene = Scene::new();
    let first = scene.open().await;
    record(&first, 1, 2).await;
    let mut follower = first.follow(EventQuery::default(), None).await.unwrap();
    first.reopen().await;
    record(&first, 3, 3).await;
    first.close().await;
    assert_eq!(follower.next().await.unwrap().incarnation, Some(3));
    assert!(follower.next().await.is_none(), "it has heard all, and asks the other");
    first.record(ready(99));
    let other = scene.open().await;
    record(&other, 4, 5).await;
    other.close().await;
    first.reopen().await;
    record(&first, 6, 6).await;
    assert_eq!(all(&first).await, [1, 2, 3, 4, 5, 6]);
}

/// EVNT-33
#[tokio::test]
async fn a_journal_that_is_gone_gives_no_id_again_that_its_reader_knows() {
    let (hive, queen) = (Scene::new(), Scene::new());
    let (source, copy) = (hive.open().await, queen.open().await);
    let ahead = u64::try_from(Timestamp::now().as_microsecond()).unwrap() + 3_600_000_000;
    let known = Event { id: ahead, ..source.copy_after(0, 1).await.pop().unwrap_or_else(|| ready(1).with_id(ahead)) };
    copy.take_in("a", vec![known]);
    copy.settled().await;
    // The hive's file went, and its clock was set back by an hour.
    for _ in 0..2 {
        source.begin_after(copy.known_of("a"));
    }
    record(&source, 2, 3).await;
    copy.take_in("a", source.copy_after(copy.known_of("a"), 100).await);
    copy.settled().await;
    let kinds: Vec<_> = after(&copy, 0).await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Running, EventKind::Gap, EventKind::Running, EventKind::Running]);
}

/// EVNT-40
#[tokio::test]
async fn who_listens_hears_each_of_our_own_once_and_none_of_others() {
    let (scene, hive) = (Scene::new(), Scene::new());
    let source = hive.open().await;
    record(&source, 90, 99).await;
    let journal = scene.open().await;
    record(&journal, 1, 1).await;
    let (heard, hears) = mpsc::channel();
    journal.listen(Box::new(move |event| heard.send(event.incarnation).unwrap()));
    journal.take_in("a", source.copy_after(0, 100).await);
    record(&journal, 2, 4).await;
    journal.take_in("a", source.copy_after(0, 100).await);
    record(&journal, 5, 5).await;
    assert_eq!(hears.try_iter().flatten().collect::<Vec<_>>(), [2, 3, 4, 5]);
}

/// EVNT-25
#[tokio::test]
async fn events_are_found_by_kind_daemon_and_time_in_memory_and_file_alike() {
    let scene = Scene::new();
    let journal = scene.open().await;
    for nth in 1..=400 {
        let kind = if nth % 100 == 0 { EventKind::Failed } else { EventKind::Running };
        let daemon = if nth % 2 == 0 { "api/0" } else { "db/1" };
        let at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(nth);
        journal.record(NewEvent { at, incarnation: Some(nth.unsigned_abs()), ..NewEvent::now(daemon, kind) });
    }
    journal.settled().await;
    let ask = async |query: EventQuery| numbers(&journal.list(&query).await.events);
    let query = EventQuery::default;
    assert_eq!(ask(EventQuery { kinds: vec![EventKind::Failed], ..query() }).await, [100, 200, 300, 400]);
    assert_eq!(ask(EventQuery { kinds: vec![EventKind::Failed], limit: Some(2), ..query() }).await, [300, 400]);
    assert_eq!(ask(EventQuery { daemon: Some("db".into()), limit: Some(2), ..query() }).await, [397, 399]);
    let since = Some(Since::Time(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(399)));
    assert_eq!(ask(EventQuery { since, ..query() }).await, [399, 400]);
    let since = Some(Since::Time(Timestamp::UNIX_EPOCH));
    let first = journal.list(&EventQuery { since, limit: Some(2), ..query() }).await;
    assert_eq!(numbers(&first.events), [1, 2]);
    let next = journal.list(&EventQuery { since: Some(Since::Id(first.next)), limit: Some(1), ..query() }).await;
    assert_eq!(numbers(&next.events), [3], "page by page");
    let end = journal.list(&EventQuery { limit: Some(0), ..query() }).await;
    assert_eq!((end.events.len(), end.next), (0, *journal.published().borrow()));
}

fn params(query: &str) -> EventParams {
    let uri: http::Uri = format!("http://x/?{query}").parse().unwrap();
    axum::extract::Query::try_from_uri(&uri).unwrap().0
}

/// EVNT-26
#[tokio::test]
async fn a_stream_has_ids_and_kinds_and_ends_with_its_server() {
    let scene = Scene::new();
    let journal = scene.open().await;
    record(&journal, 1, 3).await;
    let events = after(&journal, 0).await;
    let shutdown = Shutdown::new();
    let headers = [("last-event-id", events[0].id.to_string()), ("accept", "text/event-stream".to_owned())];
    let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let answer = answer_events(&journal, &headers, params("kind=running"), shutdown.clone()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut pieces = answer.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text.push_str(std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap());
    }
    shutdown.drain();
    assert!(pieces.next().await.is_none(), "it ends, and does not break off");
    let expected: String = events[1..]
        .iter()
        .map(|event| format!("id: {}\nevent: running\ndata: {}\n\n", event.id, serde_json::to_string(event).unwrap()))
        .collect();
    assert_eq!(text, expected);
}

/// EVNT-26
#[tokio::test]
async fn what_cannot_be_understood_is_refused_by_name() {
    let journal = Scene::new().open().await;
    let none = http::HeaderMap::new();
    for (query, words) in [("kind=runing", "`runing` is no kind"), ("since=yesterday", "`yesterday` is neither")] {
        let refused = answer_events(&journal, &none, params(query), Shutdown::new()).await.unwrap_err();
        assert!(refused.0.message.contains(words), "{}", refused.0.message);
    }
    let bad = [("last-event-id".parse().unwrap(), "x".parse().unwrap())].into_iter().collect();
    let refused = answer_events(&journal, &bad, params("follow=true"), Shutdown::new()).await.unwrap_err();
    assert!(refused.0.message.contains("Last-Event-ID"));
}

/// EVNT-26
#[tokio::test]
async fn not_more_than_so_many_follow() {
    let journal = Scene::new().open().await;
    let mut followers = Vec::new();
    while let Some(follower) = journal.follow(EventQuery::default(), None).await {
        followers.push(follower);
    }
    assert_eq!(followers.len(), 64);
    let refused = answer_events(&journal, &http::HeaderMap::new(), params("follow=true"), Shutdown::new()).await;
    assert_eq!(refused.unwrap_err().0.code.status(), 503, "who resumes comes again");
    followers.pop();
    assert!(journal.follow(EventQuery::default(), None).await.is_some());
}
