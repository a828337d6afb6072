//! Why a worker is as it is, asked of queen: the chain of causes down to the root. HIVE-12, HIVE-15, QUEEN-12.

use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use serde_json::Value;

use crate::{down, pid, up};

const CONFIG: &str = "[worker.cache]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\nrestart = { backoff_min = \"50ms\" }\n\
    [worker.api]\ncommand = [\"sleep\", \"1001\"]\nready = \"started\"\ndepends_on = [\"cache\"]\n";

fn of<'s>(status: &'s Value, name: &str) -> &'s Value {
    let workers = status["hives"][0]["workers"].as_array().unwrap();
    workers.iter().find(|worker| worker["name"] == name).unwrap()
}

#[test]
fn a_cascade_is_told_down_to_its_root() {
    let home = Home::with_config(CONFIG);
    let before = up(&home);
    processes::crash(pid(of(&before, "cache")));
    let after = wait::until("both to run again", Duration::from_secs(60), || {
        let status = home.status();
        let again = |name: &str| {
            let worker = of(&status, name);
            worker["phase"] == "running" && worker["pid"] != of(&before, name)["pid"]
        };
        (again("cache") && again("api")).then_some(status.clone())
    });
    assert_ne!(pid(of(&after, "api")), pid(of(&before, "api")));
    let (why, code) = home.json(&["worker", "why", "api"]);
    assert_eq!(code, 0, "{why}");
    let fall = &why["workers"][0]["falls"][0];
    assert_eq!(fall["chain"].to_string(), "[\"api/0\",\"cache/0\"]", "{why}");
    let summary = fall["summary"].as_str().unwrap();
    assert!(summary.starts_with("api/0 restarted because its dependency cache/0 restarted because"), "{summary}");
    assert!(summary.contains("signal 9"), "{summary}");
    assert_eq!((&why["workers"][0]["hive"], &fall["outcome"]), (&"local".into(), &"running".into()), "{why}");
    let (unknown, code) = home.json(&["worker", "why", "apy"]);
    assert_eq!((code, &unknown["error"]["code"]), (1, &"worker_not_found".into()), "{unknown}");

    // What is stopped stops what stands on it first; started again, it brings what it needs.
    home.keeper(&["worker", "stop", "cache"]).assert().success();
    let stopped = home.status();
    assert_eq!(of(&stopped, "cache")["phase"], "stopped");
    assert_ne!(of(&stopped, "api")["phase"], "running");
    home.keeper(&["worker", "start", "api"]).assert().success();
    let started = home.status();
    for name in ["cache", "api"] {
        assert_eq!(of(&started, name)["phase"], "running", "{started}");
    }
    down(&home);
}
