//! What a hive says of the time that has passed.

use jiff::Timestamp;
use rbee_api::report::{Period, Report};
use rbee_api::{EventFollower, EventKind, EventQuery, Phase, Since, Verb};
use rbee_runtime::dirs::Dirs;

use crate::support::{Home, PATIENCE, Running, TOKEN, eventually};

const WORKERS: &str = "[monitor]\ninterval = \"100ms\"\n[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\n\
    restart = { backoff_min = \"10ms\" }\n[worker.idle]\ncommand = [\"sleep\", \"1000\"]\nauto_start = false\n";

async fn report(hive: &Running) -> Report {
    hive.client.report(Period::Hour).await.unwrap()
}

/// Kills a worker and waits until it runs again.
async fn crash(hive: &Running, incarnation: u64) {
    let pid = hive.in_phase("sleeper", 0, Phase::Running).await.pid.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let query = EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() };
    let mut follower: EventFollower = hive.client.follow_events(query, std::time::Duration::ZERO);
    let again = async {
        loop {
            let event = follower.next().await.unwrap();
            if event.kind == EventKind::Running && event.incarnation == Some(incarnation) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

/// REPT-05, REPT-06
#[tokio::test]
async fn a_report_tells_falls_starts_and_usage() {
    let home = Home::new(WORKERS);
    let hive = home.start().await;
    crash(&hive, 2).await;
    let found = eventually(|| async {
        let found = report(&hive).await;
        // A sample of the moment in which a process becomes its program shows no memory.
        let has_memory = |memory: rbee_api::report::Usage| memory.peak > 0.0;
        let sampled = found.daemons.iter().filter(|daemon| daemon.memory_bytes.is_some_and(has_memory)).count();
        if sampled == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    let names: Vec<_> = found.daemons.iter().map(|daemon| daemon.name.as_str()).collect();
    assert_eq!(names, ["hive", "sleeper/0"], "of what never ran nothing is known");
    let sleeper = &found.daemons[1];
    assert_eq!(sleeper.restarts.total, 1);
    assert_eq!(sleeper.restarts.causes[0].cause, "ended with signal 9");
    assert!(sleeper.memory_bytes.unwrap().peak < 1e9);
    assert_eq!(sleeper.slowest_starts.len(), 2);
    let times = sleeper.availability;
    let all_ms = times.up_ms + times.starting_ms + times.down_ms + times.off_ms + times.unknown_ms;
    assert_eq!(all_ms, 3_600_000);
    assert!(times.unknown_ms > 3_000_000 && times.percent.is_some_and(|percent| percent > 0.0), "{times:?}");
    assert!(found.models.is_empty() && found.missing.is_empty() && found.notes.is_empty(), "{found:?}");

    hive.verb("sleeper", Verb::Stop).await.unwrap();
    let found = report(&hive).await;
    assert_eq!(found.daemons[1].restarts.total, 1, "an order to stop is no fall");
    hive.stop().await;
}

/// REPT-02
#[tokio::test]
async fn the_next_hive_reports_what_the_one_before_has_seen() {
    let home = Home::new(WORKERS);
    let hive = home.start().await;
    crash(&hive, 2).await;
    hive.stop().await;
    let next = home.start().await;
    next.in_phase("sleeper", 0, Phase::Running).await;
    let found = report(&next).await;
    let sleeper = found.daemons.iter().find(|daemon| daemon.name == "sleeper/0").unwrap();
    assert_eq!(sleeper.restarts.total, 1, "{sleeper:?}");
    assert_eq!(sleeper.availability.down_ms / 1_000, 0, "stopped by order, and nobody missed it: {sleeper:?}");
    next.stop().await;
}

/// REPT-04
#[tokio::test]
async fn an_unknown_period_is_refused_by_its_name() {
    let home = Home::new("");
    let hive = home.start().await;
    let url = format!("{}/api/v1/reports", hive.client.base_url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = http.get(format!("{url}?period=month")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["param"]), (&"invalid_parameter".into(), &"period".into()));
    assert_eq!(http.get(format!("{url}?perod=day")).bearer_auth(TOKEN).send().await.unwrap().status(), 400);
    assert_eq!(http.get(&url).send().await.unwrap().status(), 401);
    let day: Report = http.get(&url).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert_eq!(day.period, Period::Day);
    hive.stop().await;
}

/// REPT-07
#[tokio::test]
async fn a_corrupt_history_is_said_and_the_report_goes_on_without_it() {
    let home = Home::new(WORKERS);
    let file = Dirs::under(home.path()).hive_history_file();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![b'?'; 20_000]).unwrap();
    let hive = home.start().await;
    hive.in_phase("sleeper", 0, Phase::Running).await;
    let found = report(&hive).await;
    assert!(found.notes.iter().any(|note| note.contains("set aside as")), "{:?}", found.notes);
    assert!(found.to <= Timestamp::now() && found.daemons.iter().any(|daemon| daemon.name == "sleeper/0"));
    hive.stop().await;
}
