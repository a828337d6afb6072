//! Whole trees end with their daemon, however they were forked: with a cgroup, and without one by the marks they carry.

use std::fs;
use std::path::Path;

use daemon_lifecycle::{Launch, Phase, Readiness, StopMode, Supervisor, SupervisorConfig, UnitSpec};

use crate::scene::{Scene, kill9, runs};
use crate::supervisor::{unit, until};
use crate::survival::{Driver, declared, gone};

/// Every way to leave a daemon's process group and session, and to be found all the same.
const ESCAPES: [&[&str]; 5] = [
    &["--fork-child"],
    &["--setsid-child"],
    &["--double-fork-child"],
    &["--double-fork-child", "--clear-env"],
    &["--setsid-child", "--clear-env"],
];

async fn open(scene: &Scene, cgroups: bool) -> Supervisor {
    let config = SupervisorConfig { cgroups, ..SupervisorConfig::new(scene.path("run"), scene.path("logs")) };
    Supervisor::open(config).await.unwrap()
}

fn state(scene: &Scene) -> serde_json::Value {
    serde_json::from_str(&scene.text("run/it.state")).unwrap()
}

/// Processes that carry this run's id in their environment.
fn marked(run_id: &str) -> Vec<u32> {
    let mark = format!("RBEE_RUN_ID={run_id}");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let env = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        env.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
    .collect()
}

/// Dead children of this process that nobody has reaped.
fn zombies() -> Vec<u32> {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| {
            let mut fields = rest.split(' ');
            fields.next() == Some("Z") && fields.next() == Some(own.as_str())
        })
    })
    .collect()
}

/// PROC-17, PROC-21
async fn stop_leaves_nothing(cgroups: bool) {
    for options in ESCAPES {
        let scene = Scene::new();
        let supervisor = open(&scene, cgroups).await;
        supervisor.apply(vec![unit("it", options)]).await.unwrap();
        supervisor.start("it").await.unwrap();
        supervisor.settled("it").await.unwrap();
        let child = scene.child_logged("logs/it.log");
        assert!(runs(child), "{options:?}");
        let cgroup = state(&scene)["cgroup"].as_str().map(str::to_owned);
        assert!(cgroups || cgroup.is_none());
        supervisor.stop("it", StopMode::Graceful).await.unwrap();
        supervisor.settled("it").await.unwrap();
        assert!(!runs(child), "{options:?}");
        assert!(cgroup.is_none_or(|path| !Path::new(&path).exists()), "its cgroup is gone too");
        while !zombies().is_empty() {
            std::thread::yield_now();
        }
        gone(&supervisor, &scene).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_nothing_with_cgroups() {
    stop_leaves_nothing(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_nothing_without_cgroups() {
    stop_leaves_nothing(false).await;
}

/// PROC-18
async fn a_moving_target_is_caught(cgroups: bool) {
    let scene = Scene::new();
    let supervisor = open(&scene, cgroups).await;
    supervisor.apply(vec![unit("it", &["--run-away"])]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let status = supervisor.settled("it").await.unwrap();
    let run_id = state(&scene)["run_id"].as_str().unwrap().to_owned();
    let main = status.pid.unwrap();
    while !marked(&run_id).iter().any(|pid| *pid != main) {
        std::thread::yield_now();
    }
    supervisor.stop("it", StopMode::Now).await.unwrap();
    supervisor.settled("it").await.unwrap();
    assert_eq!(marked(&run_id), [0; 0]);
    gone(&supervisor, &scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_fork_on_and_on_are_caught_with_cgroups() {
    a_moving_target_is_caught(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_fork_on_and_on_are_caught_without_cgroups() {
    a_moving_target_is_caught(false).await;
}

/// PROC-19
async fn the_next_supervisor_finds_them(verb: &str, cgroups: bool) {
    for options in ESCAPES {
        let scene = Scene::new();
        let options: Vec<&str> = ["--notify"].iter().chain(options).copied().collect();
        let mut driver = Driver::begin(&scene, verb, &options);
        assert_eq!(driver.hears(), "accepted");
        let main = driver.hears().strip_prefix("running ").unwrap().parse().unwrap();
        let child = scene.child_logged("logs/it.log");
        driver.kill();
        assert!(runs(main) && runs(child));
        kill9(main);
        while runs(main) {
            std::thread::yield_now();
        }
        assert!(runs(child), "{options:?}");
        let supervisor = open(&scene, cgroups).await;
        assert!(!runs(child), "{options:?}");
        supervisor.apply(vec![declared(&options)]).await.unwrap();
        gone(&supervisor, &scene).await;
    }
}

#[tokio::test]
async fn what_a_dead_daemon_left_is_found_by_the_next_supervisor_with_cgroups() {
    the_next_supervisor_finds_them("supervise", true).await;
}

#[tokio::test]
async fn what_a_dead_daemon_left_is_found_by_the_next_supervisor_without_cgroups() {
    the_next_supervisor_finds_them("supervise-marked", false).await;
}

/// PROC-21
#[tokio::test]
async fn an_adopted_runs_cgroup_goes_with_it() {
    let scene = Scene::new();
    let mut driver = Driver::begin(&scene, "supervise", &["--notify", "--double-fork-child"]);
    assert_eq!(driver.hears(), "accepted");
    assert!(driver.hears().starts_with("running "));
    let child = scene.child_logged("logs/it.log");
    let cgroup = state(&scene)["cgroup"].as_str().map(str::to_owned);
    driver.kill();
    let supervisor = open(&scene, true).await;
    supervisor.apply(vec![declared(&["--notify", "--double-fork-child"])]).await.unwrap();
    assert!(cgroup.as_ref().is_none_or(|path| Path::new(path).exists()));
    gone(&supervisor, &scene).await;
    assert!(!runs(child) && cgroup.is_none_or(|path| !Path::new(&path).exists()));
}

/// PROC-17
#[tokio::test]
async fn a_held_port_is_free_after_a_crash() {
    let scene = Scene::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let supervisor = open(&scene, false).await;
    supervisor.apply(vec![unit("it", &["--hold-port", &port.to_string()])]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let first = supervisor.settled("it").await.unwrap();
    let child = scene.child_logged("logs/it.log");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    kill9(first.pid.unwrap());
    until(&supervisor, "it", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert!(!runs(child), "its successor's child has the port now");
    gone(&supervisor, &scene).await;
}

/// PROC-17: nothing of another unit, and nothing of ours, goes with a tree.
#[tokio::test]
async fn others_are_left_alone() {
    for cgroups in [true, false] {
        let scene = Scene::new();
        let supervisor = open(&scene, cgroups).await;
        let others = unit("other", &["--double-fork-child"]);
        supervisor.apply(vec![unit("it", &["--setsid-child"]), others]).await.unwrap();
        supervisor.start("it").await.unwrap();
        supervisor.start("other").await.unwrap();
        let other = supervisor.settled("other").await.unwrap().pid.unwrap();
        supervisor.settled("it").await.unwrap();
        let (child, others_child) = (scene.child_logged("logs/it.log"), scene.child_logged("logs/other.log"));
        supervisor.kill("it").await.unwrap();
        supervisor.settled("it").await.unwrap();
        assert!(!runs(child) && runs(other) && runs(others_child));
        gone(&supervisor, &scene).await;
        assert!(!runs(others_child));
    }
}

/// PROC-20
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_that_end_by_themselves_are_reaped_and_foreign_children_are_not() {
    let scene = Scene::new();
    let supervisor = open(&scene, false).await;
    #[expect(clippy::disallowed_methods, reason = "a child of this program that is nobody's unit")]
    let mut own = std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
    supervisor.apply(vec![unit("it", &["--double-fork-child"])]).await.unwrap();
    supervisor.start("it").await.unwrap();
    supervisor.settled("it").await.unwrap();
    let orphan = scene.child_logged("logs/it.log");
    kill9(orphan);
    while Path::new(&format!("/proc/{orphan}")).exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(zombies(), [own.id()], "only our own is left, for us to wait for");
    assert_eq!(own.wait().unwrap().code(), Some(3));
    gone(&supervisor, &scene).await;
}

/// PROC-22: a supervisor that is supervised itself may crash; what it supervised goes on, and its next life adopts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crash_of_a_supervised_supervisor_ends_none_of_its_units() {
    for (verb, cgroups) in [("supervise", true), ("supervise-marked", false)] {
        let (above, below) = (Scene::new(), Scene::new());
        let supervisor = open(&above, cgroups).await;
        let dir = below.path("").display().to_string();
        let args = [verb, &dir, "--", "--notify", "--double-fork-child"];
        let mut spec = UnitSpec::new("hive", Launch::new(env!("CARGO_BIN_EXE_driver"), args));
        spec.readiness = Readiness::Started;
        spec.policy.restart.backoff_min_ms = 1;
        supervisor.apply(vec![spec]).await.unwrap();
        supervisor.start("hive").await.unwrap();
        let says_running = |times: usize| {
            while above.text("logs/hive.log").matches("running ").count() < times {
                std::thread::yield_now();
            }
        };
        says_running(1);
        let worker = below.text("run/it.pid");
        let hive = supervisor.snapshot()["hive"].pid.unwrap();
        kill9(hive);
        says_running(2);
        assert_eq!(below.text("run/it.pid"), worker, "adopted, not started anew");
        assert!(runs(worker.trim().parse().unwrap()));
        supervisor.stop("hive", StopMode::Graceful).await.unwrap();
        supervisor.settled("hive").await.unwrap();
        assert!(!runs(worker.trim().parse().unwrap()), "a deliberate stop cascades");
        gone(&supervisor, &above).await;
    }
}
