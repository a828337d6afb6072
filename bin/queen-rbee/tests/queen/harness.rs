//! A queen in this process, hives that speak her protocol, and ways to wait that are no sleeps.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queen_rbee::queen::{QueenError, Setup, live};
use rbee_api::{
    Assignment, ClientError, ControlClient, Desired, ErrorCode, FleetStatus, Heartbeat, HeartbeatReply, Phase,
    WorkerAssignment, WorkerStatus,
};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One worker `w` of model `m`, one replica.
pub const ONE_WORKER: &str = "[model.m]\nsource = \"file:/m.gguf\"\n[worker.w]\nmodel = \"m\"\n";

pub struct TestQueen {
    pub url: String,
    pub control: ControlClient,
    pub http: reqwest::Client,
    pub shutdown: Shutdown,
    pub task: JoinHandle<Result<(), QueenError>>,
}

impl TestQueen {
    /// A queen below `home`; `[queen]` keys and workers as given.
    pub async fn start(home: &Path, queen_keys: &str, workers: &str) -> Self {
        Self::start_on(home, queen_keys, workers, "127.0.0.1:0").await
    }

    pub async fn start_on(home: &Path, queen_keys: &str, workers: &str, listen: &str) -> Self {
        let text = format!("[queen]\n{queen_keys}\n[hive]\nauto_start = false\n{workers}");
        let config = Config::parse(&text, Path::new("rbee.toml")).unwrap();
        let listener = TcpListener::bind(listen).await.unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let shutdown = Shutdown::new();
        let setup = Setup {
            without_hive: false,
            config,
            config_file: None,
            dirs: Dirs::under(home),
            token: Token::parse(TOKEN, "test").unwrap(),
            listener,
            shutdown: shutdown.clone(),
            relaunch: None,
            predecessor: None,
        };
        let url = format!("http://{addr}");
        Self {
            control: ControlClient::new(&url, Some(TOKEN.into())).unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            task: tokio::spawn(live(setup)),
            url,
            shutdown,
        }
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(self) {
        self.shutdown.drain();
        within(self.task).await.unwrap().unwrap();
    }

    /// Ends it as kill -9 would: nothing is written, nothing said.
    pub async fn crash(self) {
        self.task.abort();
        assert!(within(self.task).await.unwrap_err().is_cancelled());
    }

    pub fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json").body(body)
    }

    pub fn chat(&self, stream: bool) -> reqwest::RequestBuilder {
        self.post("/v1/chat/completions", format!(r#"{{"model":"m","stream":{stream},"messages":[]}}"#))
    }

    /// Waits until so many requests wait for a worker.
    pub async fn until_queued(&self, count: u64) {
        let wait = async {
            loop {
                let health = self.http.get(format!("{}/health", self.url)).send().await.unwrap();
                if health.json::<rbee_api::Health>().await.unwrap().queue_depth == count {
                    return;
                }
            }
        };
        within(wait).await;
    }

    /// Waits until no request is in flight.
    pub async fn until_idle(&self) {
        let wait = async {
            loop {
                let metrics = self.http.get(format!("{}/metrics", self.url)).send().await.unwrap();
                if metrics.text().await.unwrap().contains("\nrbee_queen_requests_in_flight 0\n") {
                    return;
                }
            }
        };
        within(wait).await;
    }

    /// Waits until the status is so.
    pub async fn until(&self, what: &str, condition: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        let wait = async {
            loop {
                let status = self.control.status().await.unwrap();
                if condition(&status) {
                    return status;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"))
    }
}

/// The result, in bearable time.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// The code of an error answer.
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    match result.unwrap_err() {
        ClientError::Api { detail, .. } => detail.code,
        other => panic!("{other}"),
    }
}

pub fn message<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    result.unwrap_err().to_string()
}

/// What a hive makes of an assigned worker; `None`: it does not speak of it.
pub type Behaviour = dyn Fn(&WorkerAssignment, Option<&WorkerStatus>) -> Option<WorkerStatus> + Send + Sync;

/// A hive that does at once what it is told.
pub struct FakeHive {
    pub name: String,
    machine_id: String,
    url: String,
    control: ControlClient,
    state: Arc<Mutex<HiveState>>,
    applied: watch::Receiver<u64>,
    obeying: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct HiveState {
    assignment: Option<Assignment>,
    workers: Vec<WorkerStatus>,
    stopping: bool,
}

impl FakeHive {
    /// Says its first word and does from then on what queen says, in the way of `behaviour`.
    pub async fn start(queen: &TestQueen, name: &str, behaviour: Box<Behaviour>) -> Self {
        Self::start_at(queen, name, "http://127.0.0.1:9", behaviour).await
    }

    pub async fn start_at(queen: &TestQueen, name: &str, url: &str, behaviour: Box<Behaviour>) -> Self {
        let mut hive = Self::silent(queen, name, url);
        hive.heartbeat().await.unwrap();
        let (applied, watch) = watch::channel(0);
        hive.applied = watch;
        let obeying = hive.obey(behaviour, applied);
        hive.obeying = Some(tokio::spawn(obeying));
        // The first assignment is there once it has spoken.
        hive.until_applied(1).await;
        hive
    }

    /// One that does nothing by itself.
    pub fn silent(queen: &TestQueen, name: &str, url: &str) -> Self {
        Self {
            name: name.into(),
            machine_id: format!("machine of {name}"),
            url: url.into(),
            control: queen.control.clone(),
            state: Arc::default(),
            applied: watch::channel(0).1,
            obeying: None,
        }
    }

    pub fn on_machine(mut self, machine_id: &str) -> Self {
        self.machine_id = machine_id.into();
        self
    }

    fn obey(&self, behaviour: Box<Behaviour>, applied: watch::Sender<u64>) -> impl Future<Output = ()> + use<> {
        let (name, machine_id, url) = (self.name.clone(), self.machine_id.clone(), self.url.clone());
        let (control, state) = (self.control.clone(), Arc::clone(&self.state));
        async move {
            loop {
                let current = state.lock().unwrap().assignment.as_ref().map(|a| (a.fleet_id.clone(), a.generation));
                let current = current.as_ref().map(|(fleet, generation)| (fleet.as_str(), *generation));
                let Ok(answer) = control.assignment(&name, current, 5_000).await else { return };
                let Some(assignment) = answer else { continue };
                let generation = assignment.generation;
                let heartbeat = {
                    let mut state = state.lock().unwrap();
                    let before = std::mem::take(&mut state.workers);
                    state.workers = assignment
                        .workers
                        .iter()
                        .filter_map(|worker| {
                            let status =
                                before.iter().find(|s| s.name == worker.id.name && s.replica == worker.id.replica);
                            behaviour(worker, status)
                        })
                        .collect();
                    state.assignment = Some(assignment);
                    heartbeat(&state, &machine_id, &url)
                };
                if control.heartbeat(&name, &heartbeat).await.is_err() {
                    return;
                }
                applied.send_replace(generation);
            }
        }
    }

    pub async fn heartbeat(&self) -> Result<HeartbeatReply, ClientError> {
        let heartbeat = heartbeat(&self.state.lock().unwrap(), &self.machine_id, &self.url);
        self.control.heartbeat(&self.name, &heartbeat).await
    }

    /// Changes what it says and says it.
    pub async fn say(&self, change: impl FnOnce(&mut Vec<WorkerStatus>)) {
        change(&mut self.state.lock().unwrap().workers);
        self.heartbeat().await.unwrap();
    }

    pub async fn say_stopping(&self) {
        self.state.lock().unwrap().stopping = true;
        self.heartbeat().await.unwrap();
    }

    pub async fn until_applied(&self, generation: u64) {
        let mut applied = self.applied.clone();
        within(applied.wait_for(|applied| *applied >= generation)).await.unwrap();
    }

    pub fn assignment(&self) -> Assignment {
        self.state.lock().unwrap().assignment.clone().unwrap()
    }

    /// It is not heard of any more.
    pub async fn die(&mut self) {
        if let Some(obeying) = self.obeying.take() {
            obeying.abort();
            let _ = obeying.await;
        }
    }
}

impl Drop for FakeHive {
    fn drop(&mut self) {
        if let Some(obeying) = &self.obeying {
            obeying.abort();
        }
    }
}

fn heartbeat(state: &HiveState, machine_id: &str, url: &str) -> Heartbeat {
    Heartbeat {
        machine_id: machine_id.into(),
        url: url.into(),
        pid: 4711,
        version: "0.1.0".into(),
        uptime_s: 1.0,
        labels: Default::default(),
        cores: 2,
        memory_bytes: 1 << 30,
        fleet_id: state.assignment.as_ref().map(|assignment| assignment.fleet_id.clone()),
        generation: state.assignment.as_ref().map_or(0, |assignment| assignment.generation),
        stopping: state.stopping,
        usage: None,
        history_trouble: None,
        workers: state.workers.clone(),
        upgrade: None,
        events: Vec::new(),
    }
}

/// A worker as its hive would report it.
pub fn worker(assigned: &WorkerAssignment, phase: Phase, port: u16) -> WorkerStatus {
    let running = phase == Phase::Running;
    WorkerStatus {
        usage: None,
        name: assigned.id.name.clone(),
        replica: assigned.id.replica,
        phase,
        pid: running.then_some(100 + assigned.id.replica),
        port: running.then_some(port),
        model: assigned.model.as_ref().map(|model| model.name.clone()),
        incarnation: 1,
        restarts: 0,
        uptime_s: 0.0,
        rss_bytes: 0,
        cpu_percent: 0.0,
        health: None,
        reason: None,
        last_log_lines: Vec::new(),
        restart_generation: assigned.restart_generation,
        own_engine: true,
        waits_for: None,
        limits: Vec::new(),
        start_timeout_ms: 0,
        unloaded: false,
        behind: false,
    }
}

/// Everything is up at once, replica N at `ports[N]` (the last one for all further ones).
pub fn obedient(ports: Vec<u16>) -> Box<Behaviour> {
    Box::new(move |assigned, before| {
        let port = *ports.get(assigned.id.replica as usize).or(ports.last())?;
        let phase = if assigned.desired == Desired::Running { Phase::Running } else { Phase::Stopped };
        let mut status = worker(assigned, phase, port);
        let restarted = before.is_some_and(|before| before.restart_generation < assigned.restart_generation);
        status.incarnation = before.map_or(1, |before| before.incarnation + u64::from(restarted));
        Some(status)
    })
}
