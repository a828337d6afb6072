//! `rbee-hive run` without a queen: a supervisor by itself, as people use supervisord or s6. HIVE-05, HIVE-06, HIVE-09.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rbee_tests::home::{Home, binary};
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up};

const SOON: Duration = Duration::from_secs(30);

/// A hive in the foreground of its own.
pub(crate) struct Hive(pub(crate) Child);

impl Hive {
    #[expect(clippy::disallowed_methods, reason = "a hive that no queen starts")]
    pub(crate) fn run(home: &Home) -> Self {
        let mut hive = Command::new(binary("rbee-hive"));
        hive.args(["run", "--config"]).arg(home.path().join("rbee.toml"));
        hive.env("RBEE_HOME", home.path()).env_remove("RBEE_TOKEN").stdin(Stdio::null());
        hive.stdout(Stdio::null()).stderr(fs::File::create(home.path().join("hive.err")).unwrap());
        Self(hive.spawn().unwrap())
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        // It may have ended already; then both have nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn home_without_queen() -> (Home, String) {
    let home = Home::empty();
    let port = home.hive_port;
    let config = format!("[hive]\nlisten = \"127.0.0.1:{port}\"\nports = \"0\"\n\n{SLEEPER}");
    fs::write(home.path().join("rbee.toml"), config).unwrap();
    (home, format!("http://127.0.0.1:{port}"))
}

fn running_worker(home: &Home, url: &str) -> Option<Value> {
    let output = home.keeper(&["--hive", url, "worker", "list", "--json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).ok()?;
    let worker = list["workers"][0].clone();
    (worker["phase"] == "running").then_some(worker)
}

#[test]
fn a_hive_alone_supervises_survives_its_death_and_stops_in_order() {
    let (home, url) = home_without_queen();
    let mut hive = Hive::run(&home);
    let worker = wait::until("the worker", SOON, || running_worker(&home, &url));
    home.keeper(&["--hive", &url, "status"]).assert().code(0);

    processes::crash(hive.0.id());
    hive.0.wait().unwrap();
    assert!(processes::is_alive(pid(&worker)));
    let mut second = Hive::run(&home);
    let adopted = wait::until("the worker adopted", SOON, || running_worker(&home, &url));
    assert_eq!((pid(&adopted), &adopted["incarnation"]), (pid(&worker), &worker["incarnation"]));

    // A second hive on the same home is refused, and told who is there.
    let third = home.program("rbee-hive").args(["run", "--listen", "127.0.0.1:0"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&third.stderr);
    assert_eq!(third.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains(&second.0.id().to_string()), "{stderr}");

    home.keeper(&["--hive", &url, "worker", "restart", "sleeper"]).assert().success();
    assert_ne!(pid(&running_worker(&home, &url).unwrap()), pid(&worker));

    assert!(processes::send(second.0.id(), Signal::TERM));
    assert_eq!(
        second.0.wait().unwrap().code(),
        Some(0),
        "{}",
        fs::read_to_string(home.path().join("hive.err")).unwrap()
    );
    assert_eq!(home.processes(), []);
    assert_eq!(home.run_files(), Vec::<String>::new());
}

#[test]
fn a_hive_that_has_a_queen_takes_no_orders_from_others() {
    let home = Home::with_config(SLEEPER);
    up(&home);
    let hive = Client::new(&format!("http://127.0.0.1:{}", home.hive_port), "m").with_token(&home.token());
    let answer = hive.post_json("/api/v1/workers/sleeper/stop", &json!({}));
    assert_eq!((answer.status, &answer.body["error"]["code"]), (409, &"managed_by_queen".into()), "{answer:?}");
    assert_eq!(hive.get("/api/v1/status").status, 200);
    down(&home);
}
