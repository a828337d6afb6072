//! A home of its own for each test, hives in it, and eyes for processes.

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rbee_api::client::ClientError;
use rbee_api::error::ErrorDetail;
use rbee_api::{ControlClient, Phase, Verb, VerbReply, VerbRequest, WorkerStatus};
use rbee_hive::run::{Hive, Settings};
use rbee_hive::source::Source;
use rbee_runtime::config::{Overrides, Settings as ConfigSettings};
use rbee_runtime::dirs::Dirs;
use rbee_runtime::env::Env;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "token-of-the-tests-0123456789";
/// Longer than anything takes on a busy machine; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration. Dropping it kills what a failed test left behind.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// A hive within the test's process.
pub(crate) struct Running {
    pub client: ControlClient,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Home {
    /// A home whose hive has any port and gives any port, with these workers.
    pub(crate) fn new(workers: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.configure(workers);
        home
    }

    pub(crate) fn configure(&self, workers: &str) {
        self.configure_hive("ports = \"0\"", workers);
    }

    pub(crate) fn configure_hive(&self, hive: &str, workers: &str) {
        let text = format!("[hive]\nlisten = \"127.0.0.1:0\"\n{hive}\n{workers}");
        std::fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("rbee.toml")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        Dirs::under(self.path()).workers_run_dir()
    }

    /// Starts a hive; its errors are for the caller.
    pub(crate) async fn try_start(&self) -> anyhow::Result<Running> {
        let dirs = Dirs::under(self.path());
        dirs.create()?;
        let flags = Overrides { config: Some(self.config_file()), ..Overrides::default() };
        let settings = ConfigSettings::resolve(&flags, &Env::default(), self.config_file());
        let source = Source { settings, profile: None, listen: None, name: None, queen: None };
        let config = source.read()?;
        let token = Token::parse(TOKEN, "test")?;
        let path = Some("/usr/bin:/bin".into());
        let hive = Hive::start(Settings {
            config,
            source,
            dirs,
            token,
            path,
            relaunch: None,
            handover: None,
            docker_host: None,
        })
        .await?;
        let client = client(hive.url());
        let shutdown = Shutdown::new();
        let of_task = shutdown.clone();
        let task = tokio::spawn(async move { hive.keep(&of_task).await.map(drop) });
        Ok(Running { client, shutdown, task })
    }

    pub(crate) async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    /// Everything in the run folder.
    pub(crate) fn run_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.run_dir()).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    /// What `{run_dir}` stands for.
    pub(crate) fn files_of_workers(&self) -> PathBuf {
        Dirs::under(self.path()).run_dir().join("worker-files")
    }

    fn recorded_pids(&self) -> Vec<u32> {
        let Ok(files) = std::fs::read_dir(self.run_dir()) else { return Vec::new() };
        let pid_files =
            files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "pid"));
        pid_files.filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok()).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.recorded_pids() {
            // Fails where nothing was left, as it should be.
            let _ = killpg(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
        }
    }
}

impl Running {
    pub(crate) async fn verb(&self, worker: &str, verb: Verb) -> Result<VerbReply, ErrorDetail> {
        let request = VerbRequest { wait_ms: 30_000, ..VerbRequest::default() };
        self.client.worker_verb(&worker.parse().unwrap(), verb, &request).await.map_err(api_error)
    }

    pub(crate) async fn worker(&self, name: &str, replica: u32) -> Option<WorkerStatus> {
        worker(&self.client, name, replica).await
    }

    /// The worker as soon as it is in that phase.
    pub(crate) async fn in_phase(&self, name: &str, replica: u32, phase: Phase) -> WorkerStatus {
        in_phase(&self.client, name, replica, phase).await
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(self) {
        self.shutdown.drain();
        self.ended().await;
    }

    pub(crate) async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn client(url: &str) -> ControlClient {
    ControlClient::new(url, Some(TOKEN.to_owned())).unwrap()
}

pub(crate) fn api_error(error: ClientError) -> ErrorDetail {
    match error {
        ClientError::Api { detail, .. } => *detail,
        other => panic!("no error of the API: {other:?}"),
    }
}

pub(crate) async fn worker(client: &ControlClient, name: &str, replica: u32) -> Option<WorkerStatus> {
    let status = client.status().await.unwrap();
    let found = status.workers().find(|(_, worker)| worker.name == name && worker.replica == replica);
    found.map(|(_, worker)| worker.clone())
}

pub(crate) async fn in_phase(client: &ControlClient, name: &str, replica: u32, phase: Phase) -> WorkerStatus {
    eventually(|| async {
        let worker = worker(client, name, replica).await.ok_or("not there".to_owned())?;
        if worker.phase == phase { Ok(worker) } else { Err(format!("{worker:?}")) }
    })
    .await
}

/// Asks until the answer is `Ok`; the last `Err` is shown when patience is over.
pub(crate) async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(mut ask: impl FnMut() -> F) -> T {
    let started = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) => assert!(started.elapsed() < PATIENCE, "still: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the process runs; a zombie does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) async fn gone(pid: u32) {
    eventually(|| async { if is_alive(pid) { Err(format!("{pid} lives")) } else { Ok(()) } }).await;
}
