//! Reports of a chain in which things went wrong, and of a hive that stands alone: REPT-04 to REPT-13.

use std::fs;
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::mock::{self, MockChain};
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use serde_json::Value;

use crate::alone::{Hive, home_without_queen};
use crate::{down, error_text, pid, worker};

const SOON: Duration = Duration::from_secs(60);
const OFTEN: &str = "\n[monitor]\ninterval = \"100ms\"\n";

fn report(home: &Home) -> Value {
    let (report, code) = home.json(&["report", "--period", "hour"]);
    assert_eq!(code, 0, "{report}");
    report
}

fn daemon<'r>(report: &'r Value, name: &str) -> &'r Value {
    let daemons = report["daemons"].as_array().unwrap();
    daemons.iter().find(|daemon| daemon["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The tree once both run, the process that fell being another.
fn running_again(home: &Home, fallen: u32) -> Value {
    wait::until("all run again", SOON, || {
        let status = home.status();
        let hive = &status["hives"][0];
        let worker = worker(&status);
        let runs = hive["phase"] == "running" && worker["phase"] == "running";
        let is_new = hive["pid"] != fallen && worker["pid"] != fallen;
        (runs && is_new && hive["pid"].is_u64() && worker["pid"].is_u64()).then(|| status.clone())
    })
}

/// REPT-06 REPT-09 REPT-10 REPT-11 REPT-13
#[test]
fn a_report_of_a_chain_tells_what_fell_why_and_how_requests_went() {
    let chain = MockChain::up("", OFTEN);
    let home = &chain.home;
    let client = Client::new(&home.queen_url(), mock::NAME);
    for _ in 0..5 {
        assert_eq!(client.post_json("/v1/chat/completions", &client.chat_body("hello", 3)).status, 200);
    }
    assert!(client.stream("hello", 3).unwrap().is_complete());
    assert_eq!(
        client.post_json("/v1/chat/completions", &serde_json::json!({"model": "x", "messages": []})).status,
        404
    );
    let fallen = pid(worker(&home.status()));
    processes::crash(fallen);
    let hive = pid(&running_again(home, fallen)["hives"][0]);
    processes::crash(hive);
    let after = running_again(home, hive);

    let found = wait::until("every process was sampled, and what fell is told", SOON, || {
        let found = report(home);
        let has_all = ["queen", "hive", "mock/0"].iter().all(|name| {
            let daemons = found["daemons"].as_array().unwrap();
            daemons.iter().any(|daemon| daemon["name"] == *name && daemon["memory_bytes"].is_object())
        });
        (has_all && daemon(&found, "hive")["restarts"]["total"] == 1).then_some(found)
    });
    assert_eq!((&found["missing"], &found["period"]), (&Value::Array(Vec::new()), &"hour".into()));
    let fell = daemon(&found, "mock/0");
    assert_eq!((&fell["restarts"]["total"], &fell["hive"]), (&1.into(), &"local".into()), "{fell}");
    assert!(fell["restarts"]["causes"][0]["cause"].as_str().unwrap().contains("signal 9"), "{fell}");
    assert!(daemon(&found, "hive")["restarts"]["causes"][0]["cause"].as_str().unwrap().contains("signal 9"));
    assert_eq!(daemon(&found, "queen")["restarts"]["total"], 0);
    assert!(fell["availability"]["percent"].as_f64().unwrap() > 0.0);
    let model = &found["models"][0];
    assert_eq!((&model["name"], &model["requests"], &model["errors"]), (&mock::NAME.into(), &6.into(), &0.into()));
    assert!(model["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{model}");
    assert_eq!(pid(worker(&after)), pid(worker(&home.status())), "to ask disturbs nobody");

    let text = String::from_utf8(home.keeper(&["report", "--period", "hour"]).output().unwrap().stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for told in ["The last hour", "local:mock/0", "signal 9", "2 restarts", "6 requests"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    let page = home.path().join("hour.html");
    let words = ["report", "--period", "hour", "--format", "html", "--output", page.to_str().unwrap()];
    home.keeper(&words).assert().success();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("mock&#x2f;0") && html.contains("<svg") && !html.contains("<script"));
    let (written, _) = home.json(&words);
    assert_eq!((&written["format"], &written["missing"]), (&"html".into(), &Value::Array(Vec::new())));

    let nowhere = home.path().join("no-such-folder/hour.html");
    let (refused, code) = home.json(&["report", "--output", nowhere.to_str().unwrap()]);
    assert_eq!(code, 1, "{refused}");
    assert!(refused["error"]["hint"].as_str().unwrap().contains("folder"), "{refused}");
    let (refused, code) = home.json(&["report", "--format", "html"]);
    assert_eq!((code, &refused["error"]["code"]), (64, &"usage".into()), "{refused}");
    down(home);
    let (nobody, code) = home.json(&["report"]);
    assert_eq!(code, 69, "{}", error_text(&nobody));
}

/// REPT-04
#[test]
fn a_period_that_nobody_knows_is_refused_before_anybody_is_asked() {
    let home = Home::with_config("");
    for period in ["month", "", "2d"] {
        let asked = home.keeper(&["report", "--period", period]).output().unwrap();
        assert_eq!(asked.status.code(), Some(64), "{period}");
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(said.contains("hour, day or week"), "{said}");
    }
}

/// REPT-11
#[test]
fn a_hive_that_stands_alone_has_a_report_of_its_own() {
    let (home, url) = home_without_queen();
    let config = fs::read_to_string(home.path().join("rbee.toml")).unwrap();
    fs::write(home.path().join("rbee.toml"), format!("{config}{OFTEN}")).unwrap();
    let mut hive = Hive::run(&home);
    let told = wait::until("the hive and its worker were sampled", SOON, || {
        let output = home.keeper(&["--hive", &url, "report", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        let daemons = report["daemons"].as_array()?;
        let sampled = daemons.iter().filter(|daemon| daemon["memory_bytes"].is_object()).count();
        (sampled == 2).then(|| report.clone())
    });
    assert_eq!((&told["period"], &told["models"]), (&"day".into(), &Value::Array(Vec::new())));
    assert_eq!(told["sources"].as_array().unwrap().len(), 1);
    let names: Vec<_> = told["daemons"].as_array().unwrap().iter().map(|daemon| daemon["name"].as_str()).collect();
    assert_eq!(names, [Some("hive"), Some("sleeper/0")]);
    assert!(told["daemons"][1]["availability"]["unknown_ms"].as_u64().unwrap() > 80_000_000, "it has just begun");
    processes::send(hive.0.id(), rustix::process::Signal::TERM);
    assert!(hive.0.wait().unwrap().success());
    assert_eq!(home.processes(), []);
}
