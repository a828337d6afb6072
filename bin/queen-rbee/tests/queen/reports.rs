//! Reports of the fleet: of hives that answer, of those that do not, and of requests.

use axum::Router;
use axum::routing::get;
use rbee_api::report::{DaemonReport, Period, Report};
use serde_json::{Value, json};

use crate::gateway::text_of;
use crate::harness::{FakeHive, ONE_WORKER, TOKEN, TestQueen, obedient, within};
use crate::teller::Teller;

/// A hive's side of a report.
async fn serve(body: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/reports", get(|| async { body }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// MONI-11 MONI-19
#[tokio::test]
async fn what_queen_uses_is_told_with_what_her_files_take() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", "[monitor]\ninterval = \"100ms\"\n").await;
    let usage = |fleet: &rbee_api::FleetStatus| fleet.queen.as_ref()?.usage.clone();
    let takes = |fleet: &rbee_api::FleetStatus| usage(fleet).map_or(0, |usage| usage.figures.disk_bytes);
    let fleet = queen.until("her store and her history are counted", |fleet| takes(fleet) >= 8192).await;
    let usage = usage(&fleet).unwrap();
    assert!(usage.processes == 1 && usage.figures.rss_bytes > 500_000, "{usage:?}");
    queen.stop().await;
}

fn hives_report(name: &str) -> Report {
    let daemon = |daemon: &str| -> DaemonReport {
        let steps = 60;
        serde_json::from_value(json!({
            "hive": name, "name": daemon,
            "availability": { "percent": 50.0, "up_ms": 10, "starting_ms": 0, "down_ms": 10, "off_ms": 0, "unknown_ms": 3_599_980 },
            "restarts": { "total": 1, "causes": [{ "cause": "it fell", "count": 1 }], "newest": [] },
            "cpu_percent": null, "memory_bytes": null, "slowest_starts": [], "health_failures": { "total": 0, "newest": [] },
            "series": { "up": vec![Value::Null; steps], "off": vec![false; steps],
                "cpu_percent": vec![Value::Null; steps], "memory_bytes": vec![Value::Null; steps] },
        }))
        .unwrap()
    };
    Report {
        period: Period::Hour,
        from: jiff::Timestamp::UNIX_EPOCH,
        to: jiff::Timestamp::now(),
        step_s: 60,
        sources: vec![name.to_owned()],
        missing: Vec::new(),
        notes: vec!["a note".to_owned()],
        daemons: vec![daemon("hive"), daemon("w/0")],
        models: Vec::new(),
    }
}

/// REPT-10
#[tokio::test]
async fn hives_are_merged_and_those_that_do_not_answer_are_named() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let good = serve(serde_json::to_string(&hives_report("good")).unwrap()).await;
    let strange = serve("<html>".to_owned()).await;
    // Another program's server: a 404 that is not ours.
    for (name, url) in [("good", good.as_str()), ("dead", "http://127.0.0.1:9"), ("strange", strange.as_str())] {
        FakeHive::silent(&queen, name, url).heartbeat().await.unwrap();
    }
    let report = within(queen.control.report(Period::Hour)).await.unwrap();
    let missing: Vec<_> = report.missing.iter().map(|missing| missing.hive.as_str()).collect();
    assert_eq!(missing, ["dead", "strange"]);
    assert!(report.missing[0].reason.contains("127.0.0.1:9"), "{:?}", report.missing);
    assert!(report.missing[1].reason.contains("broken"), "{:?}", report.missing);
    assert_eq!(report.sources, ["queen", "good"]);
    let of_good: Vec<_> = report
        .daemons
        .iter()
        .filter(|daemon| daemon.hive.as_deref() == Some("good"))
        .map(|daemon| (daemon.name.as_str(), daemon.restarts.total))
        .collect();
    assert_eq!(of_good, [("hive", 1), ("w/0", 1)]);
    assert!(report.notes.contains(&"good: a note".to_owned()), "{:?}", report.notes);
    queen.stop().await;
}

/// REPT-09
#[tokio::test]
async fn requests_are_told_by_model_also_by_the_next_queen() {
    let home = tempfile::tempdir().unwrap();
    let teller = Teller::start().await;
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![teller.port])).await;
    for stream in [true, false, true] {
        let body = json!({ "model": "m", "messages": [], "max_tokens": 9, "stream": stream });
        let answer = within(queen.post("/v1/chat/completions", body.to_string()).send()).await.unwrap();
        assert_eq!(answer.status(), 200);
        text_of(answer).await;
    }
    let body = r#"{"model":"nobody-knows","messages":[]}"#;
    assert_eq!(within(queen.post("/v1/chat/completions", body).send()).await.unwrap().status(), 404);
    queen.until_idle().await;
    let told = |report: Report| {
        assert_eq!(report.models.len(), 1, "a name that a client made up is no model: {:?}", report.models);
        let model = &report.models[0];
        assert_eq!((model.name.as_str(), model.requests, model.errors, model.abandoned), ("m", 3, 0, 0));
        let latency = model.latency_ms.unwrap();
        assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99, "{latency:?}");
        assert!(model.first_token_ms.is_some() && model.completion_tokens > 0);
        assert!((model.series.requests.iter().sum::<f32>() - 3.0).abs() < 0.01);
    };
    told(within(queen.control.report(Period::Hour)).await.unwrap());
    drop(hive);
    queen.stop().await;
    let next = TestQueen::start(home.path(), "", ONE_WORKER).await;
    told(within(next.control.report(Period::Hour)).await.unwrap());
    next.stop().await;
}

/// REPT-04
#[tokio::test]
async fn an_unknown_period_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let url = format!("{}/api/v1/reports", queen.url);
    let refused = queen.http.get(format!("{url}?period=month")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["param"]), (&"invalid_parameter".into(), &"period".into()));
    assert!(body["error"]["message"].as_str().unwrap().contains("hour, day or week"), "{body}");
    assert_eq!(queen.http.get(&url).send().await.unwrap().status(), 401);
    queen.stop().await;
}
