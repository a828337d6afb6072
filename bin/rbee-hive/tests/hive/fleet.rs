//! A hive that takes its orders from queen: a queen of paper, with real processes below.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use rbee_api::{Assignment, Desired, ErrorCode, Heartbeat, HeartbeatReply, Phase, ShutdownRequest, Verb};
use rbee_api::{ReplicaId, WorkerAssignment};
use rbee_runtime::config::Config;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{Home, PATIENCE, Running, eventually, gone, is_alive};

/// Answers heartbeats and long polls as queen does; what she wants is the test's to say.
struct PaperQueen {
    url: String,
    wants: watch::Sender<Assignment>,
    heard: watch::Receiver<Option<Heartbeat>>,
    server: JoinHandle<()>,
}

struct Desk {
    wants: watch::Receiver<Assignment>,
    heard: watch::Sender<Option<Heartbeat>>,
}

impl PaperQueen {
    async fn new(wanted: Assignment) -> Self {
        let (wants, to_serve) = watch::channel(wanted);
        let (to_hear, heard) = watch::channel(None);
        let desk = Arc::new(Desk { wants: to_serve, heard: to_hear });
        let router = Router::new()
            .route("/api/v1/hives/{name}/heartbeat", post(heartbeat))
            .route("/api/v1/hives/{name}/assignment", get(assignment))
            .with_state(desk);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, wants, heard, server }
    }

    /// The next heartbeat that is as asked for.
    async fn hears(&mut self, wanted: impl FnMut(&Heartbeat) -> bool) -> Heartbeat {
        let mut wanted = wanted;
        let heard = self.heard.wait_for(|heard| heard.as_ref().is_some_and(&mut wanted));
        tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap().clone().unwrap()
    }
}

impl Drop for PaperQueen {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn heartbeat(
    State(desk): State<Arc<Desk>>,
    Path(name): Path<String>,
    Json(heartbeat): Json<Heartbeat>,
) -> Json<HeartbeatReply> {
    assert_eq!(name, "local");
    desk.heard.send_replace(Some(heartbeat));
    let wants = desk.wants.borrow();
    // A long lease: what is heard soon was told because of a change.
    Json(HeartbeatReply {
        fleet_id: wants.fleet_id.clone(),
        generation: wants.generation,
        lease_ttl_ms: 600_000,
        events_known: None,
    })
}

async fn assignment(State(desk): State<Arc<Desk>>, Query(query): Query<BTreeMap<String, String>>) -> Json<Assignment> {
    let known = (query["fleet"].clone(), query["generation"].parse::<u64>().unwrap());
    let mut wants = desk.wants.clone();
    // Not only newer ones: the hive itself must refuse an older one.
    let other = wants.wait_for(|wants| (wants.fleet_id.clone(), wants.generation) != known).await.unwrap();
    Json(other.clone())
}

fn sleeper(name: &str, edit: impl Fn(&mut WorkerAssignment)) -> WorkerAssignment {
    let text = format!("[worker.{name}]\ncommand = [\"sleep\", \"1000\"]\n");
    let config = Config::parse(&text, std::path::Path::new("rbee.toml")).unwrap();
    let id = ReplicaId { name: name.into(), replica: 0 };
    let mut worker = WorkerAssignment::new(id, Arc::new(config.worker[name].to_spec()), None, Desired::Running);
    edit(&mut worker);
    worker
}

fn assign(fleet: &str, generation: u64, workers: Vec<WorkerAssignment>) -> Assignment {
    Assignment { fleet_id: fleet.into(), generation, workers, upgrade_generation: 0 }
}

async fn hive_of(home: &Home, queen: &str) -> Running {
    home.configure_hive(&format!("ports = \"0\"\nqueen = \"{queen}\""), "");
    home.start().await
}

/// HIVE-06
#[tokio::test]
async fn it_runs_what_queen_wants_and_tells_her_at_once() {
    let mut queen = PaperQueen::new(assign("f", 1, vec![sleeper("a", |_| {}), sleeper("b", |_| {})])).await;
    let home = Home::new("");
    let hive = hive_of(&home, &queen.url).await;
    let all_run = |heartbeat: &Heartbeat| {
        heartbeat.generation == 1 && heartbeat.workers.iter().filter(|w| w.phase == Phase::Running).count() == 2
    };
    let first = queen.hears(all_run).await;
    assert_eq!((first.fleet_id.as_deref(), first.url.as_str()), (Some("f"), hive.client.base_url()));
    assert!(first.cores >= 1 && first.memory_bytes > 0 && first.pid == std::process::id());
    let (a, b) = (first.workers[0].pid.unwrap(), first.workers[1].pid.unwrap());

    // Generation 2 stops one and restarts none.
    queen.wants.send_replace(assign(
        "f",
        2,
        vec![sleeper("a", |_| {}), sleeper("b", |w| w.desired = Desired::Stopped)],
    ));
    let second = queen.hears(|h| h.generation == 2 && h.workers[1].phase == Phase::Stopped).await;
    assert_eq!(second.workers[0].pid, Some(a));
    assert!(!is_alive(b));

    // Generation 3 restarts the other.
    let restart = |w: &mut WorkerAssignment| w.restart_generation = 3;
    queen.wants.send_replace(assign("f", 3, vec![sleeper("a", restart)]));
    let third = queen
        .hears(|h| {
            h.generation == 3
                && h.workers.len() == 1
                && h.workers[0].phase == Phase::Running
                && h.workers[0].pid != Some(a)
        })
        .await;
    assert_eq!((third.workers[0].restart_generation, third.workers[0].incarnation), (3, 2));

    let error = hive.verb("a", Verb::Stop).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ManagedByQueen);
    assert!(error.message.contains(&queen.url));

    hive.stop().await;
    assert!(queen.hears(|h| h.stopping).await.stopping);
    gone(third.workers[0].pid.unwrap()).await;
}

/// HIVE-02
#[tokio::test]
async fn an_older_generation_is_ignored_and_another_fleet_is_taken() {
    let mut queen = PaperQueen::new(assign("f", 5, vec![sleeper("a", |_| {})])).await;
    let home = Home::new("");
    let hive = hive_of(&home, &queen.url).await;
    let a = queen.hears(|h| h.workers.iter().any(|w| w.phase == Phase::Running)).await.workers[0].pid;
    // An older one without workers, and then a newer one with one more: the first must leave no trace.
    queen.wants.send_replace(assign("f", 4, Vec::new()));
    queen.wants.send_replace(assign("f", 6, vec![sleeper("a", |_| {}), sleeper("b", |_| {})]));
    let next = queen.hears(|h| h.generation == 6 && h.workers.iter().all(|w| w.phase == Phase::Running)).await;
    assert_eq!((next.workers[0].pid, next.workers.len()), (a, 2));

    queen.wants.send_replace(assign("f", 3, Vec::new()));
    queen.wants.send_replace(assign("g", 1, vec![sleeper("a", |_| {})]));
    let other = queen.hears(|h| h.fleet_id.as_deref() == Some("g") && h.workers.len() == 1).await;
    assert_eq!((other.generation, other.workers[0].pid), (1, a), "another fleet wants the same: nothing is touched");
    hive.stop().await;
}

/// HIVE-03
#[tokio::test]
async fn without_queen_it_goes_on_also_after_its_own_restart() {
    let mut queen = PaperQueen::new(assign("f", 1, vec![sleeper("a", |w| w.restart_generation = 7)])).await;
    let home = Home::new("");
    let hive = hive_of(&home, &queen.url).await;
    let a = queen.hears(|h| h.workers.iter().any(|w| w.phase == Phase::Running)).await.workers[0].pid.unwrap();
    let url = queen.url.clone();
    drop(queen);
    hive.client.shutdown(&ShutdownRequest { keep_children: true, now: false }).await.unwrap();
    hive.ended().await;
    assert!(is_alive(a));

    let hive = hive_of(&home, &url).await;
    let adopted = hive.in_phase("a", 0, Phase::Running).await;
    assert_eq!((adopted.pid, adopted.incarnation, adopted.restart_generation), (Some(a), 1, 7));
    assert_eq!(hive.client.status().await.unwrap().hives[0].generation, 1);
    // It is still supervised: a crash is followed by a new run.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(a.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(|| async {
        let worker = hive.worker("a", 0).await.unwrap();
        if worker.phase == Phase::Running && worker.pid != Some(a) { Ok(()) } else { Err(worker) }
    })
    .await;
    hive.stop().await;
}
